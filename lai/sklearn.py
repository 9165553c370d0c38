"""The Lai loss behind scikit-learn's interface; needs scikit-learn (in a checkout, ``pip install ".[sklearn]"``)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .choose import choose_lam
from .factor import check_choice, check_flag, check_kind, check_lam, check_number, wide
from .gradient import value_and_input_gradient
from .loss import LaiLoss
from .models import MLP, Standardize
from .schedule import LaiSchedule, check_count
from .training import fit, resolve_device

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("lai.sklearn needs scikit-learn: pip install scikit-learn tqdm") from error

LOSS = ("base", "factor", "norm", "l1_ratio", "order", "normalize")
BUDGET = ("max_error", "max_slope", "features", "lams")
"""What the dicts may hold."""

REPEATS = 3
"""Networks of different initial weights that each λ is judged by where ``lam="auto"``."""


class LaiRegressor(RegressorMixin, BaseEstimator):
    r"""A multilayer perceptron trained with the Lai loss, as a scikit-learn estimator.

    It standardises inputs and target itself, and trains in float32 if the inputs are float32, otherwise in float64. A
    whole-number weight has the effect of so many copies of the row, on average over batches; "auto" repeats rows about as
    often as their weights say.

    Parameters
    ----------
    hidden, activation : as in :class:`lai.MLP`
    lam : float, list, dict, "auto" or None
        One λ > 0 for all features, a list with one λ for each, or a dict by the features' names, or their numbers where X
        has no names, with "others" for those that it does not name. "auto" chooses a λ, see ``budget``. None trains on the
        plain error that ``loss`` names, or on MSE.
    lam_units : "raw" or "standardised"
        The units of the slopes with which λ is compared: those of the data, or standard deviations of the target per
        standard deviation of the feature, which "auto" always takes unless it is given ``lams``.
    loss : dict, optional: ``base``, ``norm``, ``l1_ratio`` and ``normalize`` of :func:`lai.lai_loss`
    budget : dict, optional, for "auto"; default: ``{"max_error": 0.01}``
        ``max_error``, ``max_slope``, ``features`` (numbers or names) and ``lams`` of :func:`lai.choose_lam`, which measures
        on a share ``validation_fraction`` of the rows. The network is then trained on all rows.
    alpha, pretrain_epochs, epochs, batch_size, lr, device : as in :class:`lai.LaiSchedule` and :func:`lai.fit`
    early_stopping : bool
        Whether to hold out a share ``validation_fraction`` of the rows and to stop when, after ``pretrain_epochs``, their
        RMSE has not fallen by more than ``tol`` standard deviations of the target for ``n_iter_no_change`` epochs. The best
        weights are kept.
    random_state : int, RandomState or None; decides the initial weights, the rows held out and the batches
    verbose : bool, show a progress bar (needs tqdm)

    Attributes
    ----------
    module_ : Module, the trained network, on the CPU
        From inputs, scaled so that its slopes are in the units that ``lam_units`` names, to the standardised target.
    lam_ : float, Tensor (d,) or None, the λ that was used
    choice_ : LamChoice, what :func:`lai.choose_lam` returned; only with ``lam="auto"``
    n_iter_, loss_curve_, validation_curve_
        The number of epochs, the mean loss of each, and with early stopping the RMSE of the rows held out, both of the
        standardised target.
    n_features_in_, feature_names_in_

    Source: paper, section 5 for the training; the estimator is ours.

    Examples
    --------
    >>> import numpy as np
    >>> from lai.sklearn import LaiRegressor
    >>> X = np.random.default_rng(0).random((200, 2))
    >>> model = LaiRegressor(lam={0: 0.01, "others": 1.0}, random_state=0).fit(X, 3 * X[:, 0] + X[:, 1])
    >>> model.slopes(X).shape
    (200, 2)
    """

    def __init__(
        self,
        hidden: Sequence[int] = (64, 32),
        *,
        activation: str = "silu",
        lam: Any = 1.0,
        lam_units: str = "raw",
        loss: dict[str, Any] | None = None,
        alpha: float = 1.0,
        pretrain_epochs: int = 0,
        budget: dict[str, Any] | None = None,
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 0.005,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: bool = False,
        device: str | torch.device = "auto",
    ) -> None:
        self.hidden, self.activation = hidden, activation
        self.lam, self.lam_units, self.loss, self.budget = lam, lam_units, loss, budget
        self.alpha, self.pretrain_epochs = alpha, pretrain_epochs
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.tol = n_iter_no_change, tol
        self.random_state, self.verbose, self.device = random_state, verbose, device

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LaiRegressor:
        """Train on X (N, d) and y (N,), each row's loss times its weight (N,), of which only the ratios count.

        After an error the estimator is as it was.
        """
        before = self.__dict__.copy()
        self.__dict__.pop("choice_", None)
        try:
            self._fit(X, y, sample_weight)
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        kept = weight > 0
        X, y, weight = X[kept], y[kept].astype(np.float64), weight[kept].astype(np.float64)
        for name in ("epochs", "n_iter_no_change"):
            check_count(name, getattr(self, name), least=1)
        check_choice("lam_units", self.lam_units, ("raw", "standardised"))
        for name in ("early_stopping", "verbose"):
            check_flag(name, getattr(self, name))
        for name, low, high in (("validation_fraction", 0, 1), ("tol", -inf, inf)):
            check_number(name, getattr(self, name), f"must be a number between {low} and {high}", low, high)
        for name, allowed in (("loss", LOSS), ("budget", BUDGET)):
            check_kind(name, getattr(self, name), dict | None, f"a dict with keys among {', '.join(allowed)}, or None")
            for key in getattr(self, name) or ():
                check_choice(f"a key of {name}", key, allowed)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        schedule = LaiSchedule(self.alpha, pretrain_epochs=self.pretrain_epochs, seed=seed)
        self._x_scaler = StandardScaler().fit(X, sample_weight=weight)
        self._y_scaler = StandardScaler().fit(y[:, None], sample_weight=weight)
        # The target is standardised either way, so the unit of x alone decides in which units a slope comes out.
        raw = self._x_scaler.scale_ / self._y_scaler.scale_
        by_itself = isinstance(self.lam, str) and "lams" not in (self.budget or {})
        one = by_itself or self.lam_units == "standardised"
        self._unit = (np.ones_like(raw) if one else raw).astype(X.dtype)
        target = self._y_scaler.transform(y[:, None])[:, 0].astype(X.dtype)
        where = resolve_device(self.device)
        data = [torch.from_numpy(a).to(where) for a in (self._inputs(X), target, weight.astype(X.dtype))]
        self.lam_ = self._choose(data, schedule, seed) if isinstance(self.lam, str) else self._by_feature(self.lam)
        train, val = self._split(data, seed) if self.early_stopping else (data, None)
        self._train(train, val, schedule, seed)

    def predict(self, X: Any) -> Any:
        """The target's estimate (N,) for X (N, d)."""
        x = self._checked(X)
        with torch.no_grad():
            output = self.module_(x).double().numpy()
        return self._y_scaler.inverse_transform(output[:, None])[:, 0]

    def slopes(self, X: Any) -> Any:
        """k (N, d), in units of the target per unit of the feature, whatever ``lam_units`` is."""
        x = self._checked(X)
        k = value_and_input_gradient(self.module_, x, create_graph=False)[1].double().numpy()
        return k * (self._unit * self._y_scaler.scale_ / self._x_scaler.scale_)

    def _checked(self, X: Any) -> Tensor:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return torch.from_numpy(self._inputs(X).astype(self._unit.dtype))

    def _inputs(self, X: Any) -> Any:
        return self._x_scaler.transform(X) * self._unit

    def _columns(self) -> list[Any]:
        return list(getattr(self, "feature_names_in_", range(self.n_features_in_)))

    def _by_feature(self, lam: Any) -> Any:
        """λ as a number or a tensor (d,); a dict is looked up by name."""
        if lam is None:
            return None
        if isinstance(lam, dict):
            columns = self._columns()
            unknown = [name for name in lam if name not in columns and name != "others"]
            missing = [name for name in columns if name not in lam and "others" not in lam]
            if unknown or missing:
                raise ValueError(f"lam = {lam!r}: must name each of {columns}, or have 'others', and nothing else")
            lam = [lam.get(name, lam.get("others")) for name in columns]
        return check_lam(lam, n_features=self.n_features_in_)

    def _settings(self, seed: int) -> dict[str, Any]:
        return {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "seed": seed}

    def _network(self, seed: int) -> nn.Module:
        unit = torch.from_numpy(self._unit)
        mlp = MLP(self.n_features_in_, self.hidden, activation=self.activation, seed=seed)
        return nn.Sequential(Standardize(torch.zeros_like(unit), unit), mlp).to(unit.dtype)

    def _split(self, data: list[Tensor], seed: int) -> tuple[list[Tensor], list[Tensor]]:
        parts = train_test_split(np.arange(len(data[0])), test_size=self.validation_fraction, random_state=seed)
        train, val = ([t[torch.from_numpy(rows).to(t.device)] for t in data] for rows in parts)
        return train, val

    def _choose(self, data: list[Tensor], schedule: LaiSchedule, seed: int) -> Any:
        check_choice("lam", self.lam, ("auto",))
        budget, columns = dict(self.budget or {"max_error": 0.01}), self._columns()
        if budget.get("features") is not None:
            unknown = [name for name in budget["features"] if name not in columns]
            if unknown:
                raise ValueError(f"budget: features holds {unknown[0]!r}, which is not among {columns}")
            budget["features"] = [columns.index(name) for name in budget["features"]]
        train, val = (_repeated(*part) for part in self._split(data, seed))
        self.choice_ = choose_lam(
            [self._network(seed + i) for i in range(REPEATS)],
            train,
            val,
            schedule=schedule,
            device=self.device,
            **self._settings(seed),
            **budget,
            **(self.loss or {}),
        )
        return check_lam(self.choice_.lam)

    def _train(self, train: list[Tensor], val: list[Tensor] | None, schedule: LaiSchedule, seed: int) -> None:
        x, y, weight = train
        model = self._network(seed).to(x.device)
        self.validation_curve_: list[float] = []
        best, since, kept = inf, 0, None

        def stop(row: dict[str, float]) -> bool:
            """Whether the error on the rows held out has long been no lower."""
            nonlocal best, since, kept
            assert val is not None
            with torch.no_grad():
                error = float(((model(val[0]) - val[1]).square() * val[2]).sum() / val[2].sum()) ** 0.5
            self.validation_curve_.append(error)
            if row["epoch"] < self.pretrain_epochs:
                return False
            since = 0 if error < best - self.tol else since + 1
            if error < best:
                best, kept = error, copy.deepcopy(model.state_dict())
            return since >= self.n_iter_no_change

        # Without λ no batch takes the Lai loss, and all minimise the error that it would weigh.
        plain = self.lam_ is None
        history = fit(
            model,
            (x, y),
            criterion=LaiLoss(1.0 if plain else self.lam_, **(self.loss or {})),
            schedule=LaiSchedule(0.0) if plain else schedule,
            device=x.device,
            weight=weight,
            progress=self.verbose,
            each_epoch=None if val is None else stop,
            **self._settings(seed),
        )
        self.loss_curve_, self.n_iter_ = history["loss"], len(history["loss"])
        if kept is not None:
            model.load_state_dict(kept)
        self.module_ = model.cpu().eval()


def _repeated(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """As many rows, each repeated about as often as its weight says; the same rows where the weights are equal."""
    share = wide(weight).cumsum(0) / wide(weight).sum()
    rows = torch.searchsorted(share, (torch.arange(len(x), dtype=torch.float64) + 0.5) / len(x)).to(x.device)
    return x[rows], y[rows]
