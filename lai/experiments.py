"""The paper's experiments, as functions that return tidy tables: one row for each run and read-out."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from .cells import CellStore
from .factor import check_choice, check_lam
from .gradient import value_and_input_gradient
from .metrics import output_variance, rmse
from .models import MLP
from .schedule import LaiSchedule, check_count
from .stack import Lane, Stack, adam, branch, fit_stack
from .training import resolve_device

if TYPE_CHECKING:
    from .data import Housing


@dataclass(frozen=True)
class Protocol:
    """One way to fill in what the paper leaves open.

    Attributes
    ----------
    name, about : str
    activation, norm : str
        Of :class:`lai.MLP` (64 and 32 hidden units).
    standardize : bool
        Whether a first layer standardises the features. The slopes stay in raw units either way.
    lr : float
        Adam's step size.
    batch_size : int
        The last, short batch of an epoch is dropped.
    """

    name: str
    about: str
    activation: str
    norm: str | None
    standardize: bool
    lr: float
    batch_size: int = 512

    @property
    def coupled(self) -> bool:
        """Whether samples mix in training mode, which makes the summed gradient wrong."""
        return self.norm == "batch"

    def model(self, x: Tensor, seed: int) -> MLP:
        """A network for data like ``x`` (N, d), with initial weights from ``seed``."""
        return MLP(
            x.shape[1],
            activation=self.activation,
            norm=self.norm,  # type: ignore[arg-type]
            standardize=x if self.standardize else None,
            seed=seed,
        )


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            name="published",
            about="raw features, BatchNorm and ReLU, k through BatchNorm: nearest to the paper's numbers",
            activation="relu",
            norm="batch",
            standardize=False,
            lr=1e-4,
        ),
        Protocol(
            name="sound",
            about="features standardised inside the model, SiLU, no coupling of samples: k is the true slope",
            activation="silu",
            norm=None,
            standardize=True,
            lr=1e-3,
        ),
    )
}


class Runs(NamedTuple):
    """What an experiment returns.

    ``table``: columns protocol, arm, lam, alpha, seed, rmse, variance (statistics recomputed over the training
    set), rmse_running, variance_running (BatchNorm's running statistics; the same where there is no BatchNorm),
    rms_k (root mean square over validation points of the norm of the true slope, in target per raw feature).

    ``curves``: columns protocol, arm, lam, seed, epoch, val_rmse (running statistics).
    """

    table: pd.DataFrame
    curves: pd.DataFrame


def arm_name(lam: float | None) -> str:
    """How an arm is called in every table: "MSE", or its λ as in "λ = 0.1".

    >>> arm_name(None), arm_name(1e-3)
    ('MSE', 'λ = 0.001')
    """
    return "MSE" if lam is None else f"λ = {lam:g}"


def smoothness(
    data: Housing,
    *,
    protocols: Sequence[str] = ("published", "sound"),
    lams: dict[str, Sequence[float]] | Sequence[float] = (1e-1, 1e-2, 1e-3),
    alpha: float = 0.01,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    device: str = "auto",
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> Runs:
    """Version 2's experiment on smoothness: MSE first, then an MSE arm and a Lai arm for each λ.

    For each protocol and seed one network is pre-trained with MSE; every arm continues from its copy, with the
    optimiser's state and on identical batches, so the arms differ in the loss alone.

    Parameters
    ----------
    data : Housing
        From :func:`lai.data.load_housing`.
    protocols : names from ``PROTOCOLS``
    lams : list, or dict from protocol to list
        The λ of the Lai arms, one number each.
    alpha : float
        Share of Lai batches after pre-training.
    seeds : ints
        Each sets initial weights, batch order and schedule.
    pretrain_epochs, epochs : int
        Before and after the arms part.
    device
        As in :func:`lai.fit`.
    n_jobs : int
        Processes, through joblib, one (protocol, seed) each; results do not depend on it.
    store : CellStore, optional
        Keeps every finished (protocol, seed), so that a run that was stopped goes on where it was.
    progress
        Show a progress bar over the (protocol, seed) pairs.

    Raises
    ------
    ValueError
        For an unknown protocol, a bad λ or a seed given twice, before anything is trained.

    Source: paper, version 2, section 6.1; what it leaves open is filled in by the protocols.

    Examples
    --------
    >>> from lai.data import load_housing
    >>> data = load_housing("surrogate")
    >>> runs = smoothness(data, protocols=["sound"], lams=[0.1], seeds=[0], pretrain_epochs=0, epochs=0)  # untrained
    >>> runs.table["arm"].tolist()
    ['MSE', 'λ = 0.1']
    """
    by_protocol = {p: list(lams[p] if isinstance(lams, dict) else lams) for p in protocols}
    for protocol, values in by_protocol.items():
        check_choice("protocol", protocol, tuple(PROTOCOLS))
        for value in values:
            if not isinstance(check_lam(value), float):
                raise ValueError(f"lams = {values!r}: each arm takes one number, not a list")
        if not values or len({arm_name(v) for v in values}) != len(values):
            raise ValueError(f"lams = {values!r}: give at least one λ, and none twice (to 6 digits)")
    chosen = [check_count("seed", s) for s in seeds]
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"seeds = {chosen}: give at least one, and none twice")
    LaiSchedule(alpha, pretrain_epochs=pretrain_epochs)  # says what is wrong with them
    check_count("epochs", epochs)
    where = str(resolve_device(device))
    cells = [(p, s) for p in by_protocol for s in chosen]
    done = run_parallel(
        smoothness_cell,
        [(data, p, tuple(by_protocol[p]), alpha, s, pretrain_epochs, epochs, where, store) for p, s in cells],
        n_jobs=n_jobs,
        progress=progress,
    )
    return Runs(*(pd.concat(parts, ignore_index=True) for parts in zip(*done, strict=True)))


def smoothness_cell(
    data: Housing,
    protocol: str,
    lams: Sequence[float],
    alpha: float,
    seed: int,
    pretrain_epochs: int,
    epochs: int,
    device: str,
    store: CellStore | None = None,
) -> Runs:
    """:func:`smoothness` for one protocol and one seed, from the store if it is there."""
    recipe = PROTOCOLS[protocol]
    settings = {
        "experiment": "smoothness",
        "data": data.sha256,
        "split": _digest(data.val.x),
        "protocol": asdict(recipe),
        "lams": list(lams),
        "alpha": alpha,
        "seed": seed,
        "epochs": [pretrain_epochs, epochs],
        "device": torch.device(device).type,
    }
    kept = store.get(settings) if store is not None else None
    if kept is not None:
        return Runs(*(pd.DataFrame(part) for part in kept))
    runs = _smoothness_cell(data, recipe, lams, alpha, seed, pretrain_epochs, epochs, device)
    if store is not None:
        store.put(settings, [part.to_dict("list") for part in runs])
    return runs


def _smoothness_cell(
    data: Housing,
    recipe: Protocol,
    lams: Sequence[float],
    alpha: float,
    seed: int,
    pretrain_epochs: int,
    epochs: int,
    device: str,
) -> Runs:
    where = torch.device(device)
    train, val = ((part.x.to(where), part.y.to(where)) for part in (data.train, data.val))
    x_test = data.test.x.to(where)
    trunk = Stack([recipe.model(train[0], seed)]).to(where)
    state = adam(trunk, recipe.lr)
    size = min(recipe.batch_size, len(train[0]))
    common: dict[str, Any] = {"val": val, "batch_size": size, "pretrain_epochs": pretrain_epochs}
    first = fit_stack(trunk, state, train, [Lane(seed)], epochs=pretrain_epochs, **common)
    # All arms in one stack: they have the same batch at every step, and the same steps take the Lai loss.
    lanes = [Lane(seed, lam, alpha) for lam in (None, *lams)]
    arms, state = branch(trunk, state, [0] * len(lanes))
    history = fit_stack(arms, state, train, lanes, epochs=epochs, first_epoch=pretrain_epochs, **common)
    rows, curves = [], []
    for i, (lam, model) in enumerate(zip((None, *lams), arms.models(), strict=True)):
        running = {"rmse_running": rmse(model, *val), "variance_running": output_variance(model, x_test)}
        set_precise_statistics(model, train[0], recipe.batch_size)
        model.eval()
        _, k = value_and_input_gradient(model, val[0], create_graph=False)
        arm: dict[str, Any] = {"protocol": recipe.name, "arm": arm_name(lam), "lam": math.nan if lam is None else lam}
        rows.append(
            {
                **arm,
                "alpha": alpha,
                "seed": seed,
                "rmse": rmse(model, *val),
                "variance": output_variance(model, x_test),
                **running,
                "rms_k": k.double().square().sum(1).mean().sqrt().item(),
            }
        )
        parts = [part for part in (first, history[history["lane"] == i]) if len(part)]
        curve = (pd.concat(parts) if parts else history)[["epoch", "val_rmse"]]
        curves.append(curve.assign(**arm, seed=seed))
    return Runs(pd.DataFrame(rows), pd.concat(curves, ignore_index=True))


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()[:16]


def set_precise_statistics(model: nn.Module, x: Tensor, batch_size: int) -> None:
    """Replace BatchNorm's running statistics by averages over one pass through ``x``.

    Running statistics are an exponential average over the last few batches, and jitter with them; this is the
    read-out without that noise. A short last batch counts like a full one. Does nothing to a model without BatchNorm.
    """
    batches = [batch for batch in x.split(batch_size) if len(batch) > 1]  # BatchNorm cannot take one row alone
    torch.optim.swa_utils.update_bn(batches, model)


def run_parallel(function: Callable, calls: Sequence[tuple], *, n_jobs: int = 1, progress: bool = False) -> list:
    """``[function(*c) for c in calls]`` over processes, one torch thread each so that results are the same."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    results = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(_one_thread)(function, c) for c in calls)
    return list(tqdm(results, total=len(calls), disable=not progress, unit="cell"))


def _one_thread(function: Callable, arguments: tuple) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(before)


def contamination(model: nn.Module, x: Tensor) -> pd.DataFrame:
    """How far the summed gradient is from the true one, feature by feature, in training mode.

    Parameters
    ----------
    model : Module from (N, d) to (N,) or (N, 1)
    x : Tensor (N, d)
        One training batch.

    Returns
    -------
    DataFrame
        A row a feature: ``summed``, the root mean square over the batch of d(Σ output)/dx_ij as training takes
        it; ``true``, that of each sample's own slope d output_i/dx_ij with the batch's statistics held fixed;
        and their ``ratio``. In target per unit of the feature.

    Source: ours; see the protocol "published".

    Examples
    --------
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(contamination(MLP(2, (8,), norm="batch", seed=0), x)["ratio"].max() < 0.9)
    True
    >>> contamination(MLP(2, (8,), norm="layer", seed=0), x)["ratio"].tolist()  # no coupling: the same
    [1.0, 1.0]
    """
    probe = copy.deepcopy(model).train()
    _, summed = value_and_input_gradient(probe, x, create_graph=False)
    frozen = copy.deepcopy(model).train()
    for module in frozen.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the next pass sets the running statistics to this batch's own
    with torch.no_grad():
        frozen(x)
    frozen.eval()
    _, true = value_and_input_gradient(frozen, x, create_graph=False)
    columns = {n: g.double().square().mean(0).sqrt().cpu() for n, g in (("summed", summed), ("true", true))}
    return pd.DataFrame(columns).assign(ratio=lambda t: t["summed"] / t["true"])
