"""λ from a budget: how much error it may cost, or how small the slopes shall be, settled by a sweep over λ."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from .factor import check_kind, check_lam, check_number, check_positive, wide
from .gradient import feature_indices, value_and_input_gradient
from .metrics import rmse
from .schedule import LaiSchedule
from .sweep import Sweep
from .training import check_data

Data = tuple[Tensor, Tensor]

GRID = tuple(10.0 ** (-i / 2) for i in range(9))
"""λ from 1 down to 1e-4, two a decade."""

DEAR = 0.2
"""A rise of the error above which a λ that keeps a budget of slopes alone is doubtful."""


@dataclass(frozen=True)
class LamChoice:
    """What :func:`choose_lam` found.

    Attributes
    ----------
    lam : float, or list of float in the shape of the features if ``features`` were given
    met : bool, whether it keeps the budget; if not, it is the λ that comes nearest to it
    row : int, its row in ``table``
    table : dict of lists, as ``pandas.DataFrame`` takes it
        A row for MSE (λ None) and for every λ: ``lam`` of the chosen features, ``lam_rest`` of the others, ``val_rmse`` and,
        relative to MSE's, ``error`` (0.01 is +1 %), ``slope`` of the chosen features and ``slope_0``, ``slope_1``, … of each.
    max_error, max_slope : float or None, the budget
    """

    lam: float | list[float]
    met: bool
    row: int
    table: dict[str, list[Any]]
    max_error: float | None
    max_slope: float | None

    def plot(self, ax: Any = None) -> Any:
        """Error against slope, the budget as lines and the choice ringed; returns ``ax``, or the axes of a new figure."""
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError("ax = None: a new figure needs matplotlib; install it") from error
            ax = plt.subplots()[1]
        slope, change = self.table["slope"], [100 * e for e in self.table["error"]]
        ax.plot(slope, change, "o")
        ax.plot(slope[self.row], change[self.row], "o", markersize=14, fillstyle="none", label="chosen")
        for lam, at in zip(self.table["lam"], zip(slope, change, strict=True), strict=True):
            name = "MSE" if lam is None else f"λ = {lam:.3g}"
            ax.annotate(name, at, xytext=(4, 4), textcoords="offset points")
        if self.max_error is not None:
            ax.axhline(100 * self.max_error, linestyle="--", label="budget")
        if self.max_slope is not None:
            ax.axvline(self.max_slope, linestyle="--", label="budget")
        ax.set(xlabel="slope relative to MSE's", ylabel="validation RMSE, change from MSE's (%)")
        return ax


def choose_lam(
    models: nn.Module | Sequence[nn.Module],
    train: Data,
    val: Data,
    *,
    max_error: float | None = None,
    max_slope: float | None = None,
    features: Sequence[int] | None = None,
    lams: Sequence[float] = GRID,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    schedule: LaiSchedule | None = None,
    device: str | torch.device = "auto",
    **options: Any,
) -> LamChoice:
    r"""The λ that keeps a budget, from networks trained with MSE and every λ side by side (:class:`lai.Sweep`).

    Of those that keep the budget it is the λ with the least error, or with ``max_error`` alone that with the smallest
    slopes. ``features`` follows the paper: a first sweep has one λ for all features, and a second one changes the one with
    the least error for the chosen features only.

    Parameters
    ----------
    models : Module, or several of one architecture, from (N, \*features) to (N,) or (N, 1)
        Untrained; they stay as they are. Of several, which differ in their initial weights, the mean is measured: a
        difference of 1 % is often less than that between two seeds.
    train, val : (x, y), Tensors (N, \*features) and the shape of the model's output, in whose units λ is meant
    max_error : float, optional, the largest change of the validation RMSE, relative to MSE's: 0.01 is "at most +1 %"
    max_slope : float, optional, the largest slope, relative to MSE's: 0.5 is "at most half"
        A slope is the mean of \|k_j\| over ``val``; those of several features are weighed by their spread there and added.
    features : sequence of int, whose slopes are meant, and whose λ is changed; default: all, which share one λ
    lams : sequence of float, what to try
    epochs, batch_size, lr, seed, schedule, device, options
        As in :meth:`lai.Sweep.fit`, errors too; with ``base="mae"`` MAE takes the place of MSE.

    Returns
    -------
    LamChoice
        Where no λ keeps the budget there is a warning, ``met`` is False, and ``lam`` is the λ of the smallest excess, the
        larger of ``error - max_error`` and ``slope / max_slope - 1``. A λ that keeps ``max_slope`` at more than 20 % of
        error is warned of. Where MSE's slopes are zero it is a ``ValueError``.

    Source: paper, version 2, section 6.2 (the tuning strategy); the budget and the search are ours.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    >>> y = (3 * x[:, 0]).sin()
    >>> choice = lai.choose_lam(lai.MLP(1, (16,), seed=0), (x[:150], y[:150]), (x[150:], y[150:]), max_slope=0.7,
    ...                         lams=[1.0, 0.1, 0.01], epochs=30, batch_size=50, lr=0.01, seed=0, device="cpu")
    >>> choice.met, choice.table["lam"]
    (True, [None, 1.0, 0.1, 0.01])
    """
    models = [models] if isinstance(models, nn.Module) else list(models)
    check_kind("lams", lams, Iterable, "a sequence of numbers to try, such as [1.0, 0.1, 0.01]")
    shape = check_data("train", train)[0].shape[1:]
    d = shape.numel()
    x = wide(check_data("val", val)[0]).reshape(len(val[0]), -1)
    if max_error is None and max_slope is None:
        raise ValueError("max_error and max_slope are None: give at least one, such as max_error=0.01 (+1 %)")
    if max_error is not None:
        check_number("max_error", max_error, "must be finite and greater than -1; 0.01 is +1 %", -1)
    if max_slope is not None:
        check_positive("max_slope", max_slope)
    weight = torch.zeros(d, dtype=torch.float64)
    weight[slice(None) if features is None else feature_indices(features, d)] = 1.0
    grid = []
    for i, given in enumerate(lams):
        one = check_lam(given, name=f"lams[{i}]")
        if isinstance(one, Tensor) and one.numel() > 1:
            raise ValueError(f"lams[{i}] = {given!r}: must be one number, which the chosen features share")
        grid.append(float(one))
    if not grid:
        raise ValueError("lams is empty: give at least one λ to try")
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "schedule": schedule, **options}

    def measured(arms: Sequence[Any]) -> list[tuple[float, Tensor]]:
        """Of every λ the validation RMSE and the mean |k_j| (d,), each a mean over the networks that have it."""
        sweep = Sweep([model for _ in arms for model in models], lr=lr, device=device)
        sweep.fit(train, lams=[lam for lam in arms for _ in models], **settings)
        errors, slopes = zip(*(_error_and_slopes(model, val, sweep.device) for model in sweep.models()), strict=True)
        means = torch.tensor(errors, dtype=torch.float64).reshape(-1, len(models)).mean(1)
        return list(zip(means.tolist(), torch.stack(slopes).unflatten(0, (-1, len(models))).mean(1), strict=True))

    def by_feature(lam: float, other: float) -> Any:
        """``lam`` for the chosen features, in their shape."""
        chosen = weight.reshape(shape) > 0
        return torch.where(chosen, torch.tensor(lam, dtype=torch.float64), other).tolist()

    tried: list[Any] = [None, *grid]
    rest = list(tried)
    results = measured(tried)
    if features is not None:
        best = min(zip(results[1:], grid, strict=True), key=lambda row: row[0][0])[1]
        moved = [lam for lam in grid if lam != best]
        if moved:
            results += measured([by_feature(lam, best) for lam in moved])
        tried, rest = tried + moved, rest + [best] * len(moved)
    table = _table(tried, rest, results, weight * x.std(0, correction=0))
    row, met = _pick(table, max_error, max_slope)
    lam = tried[row] if features is None else by_feature(tried[row], rest[row])
    return LamChoice(lam, met, row, table, max_error, max_slope)


def _error_and_slopes(model: nn.Module, val: Data, where: torch.device) -> tuple[float, Tensor]:
    x, y = (t.to(where) for t in val)
    k = value_and_input_gradient(model.eval(), x, create_graph=False)[1]
    return rmse(model, x, y), wide(k.abs()).reshape(len(k), -1).mean(0)


def _table(
    lams: list[Any], rest: list[Any], results: list[tuple[float, Tensor]], weight: Tensor
) -> dict[str, list[Any]]:
    errors, slopes = [e for e, _ in results], torch.stack([k for _, k in results])
    total = slopes @ weight
    if not total[0] > 0 or not errors[0] > 0:
        raise ValueError("val: slopes or error are zero there by the plain loss, so that nothing is relative to them")
    table = {"lam": lams, "lam_rest": rest, "val_rmse": errors, "error": [e / errors[0] - 1 for e in errors]}
    table["slope"] = (total / total[0]).tolist()
    return table | {f"slope_{j}": k.tolist() for j, k in enumerate((slopes / slopes[0]).T)}


def _pick(table: dict[str, list[Any]], max_error: float | None, max_slope: float | None) -> tuple[int, bool]:
    """The row of the λ to take, and whether it keeps the budget; a warning if none does."""
    excess = [
        max(-inf if max_error is None else e - max_error, -inf if max_slope is None else s / max_slope - 1)
        for e, s in zip(table["error"], table["slope"], strict=True)
    ]
    rows = range(1, len(excess))
    kept = [row for row in rows if excess[row] <= 0]
    best = table["slope" if max_slope is None else "val_rmse"] if kept else excess
    row = min(kept or rows, key=best.__getitem__)
    lam, error, slope = (table[name][row] for name in ("lam", "error", "slope"))
    advice = "λ and slopes are in the units of the data, so standardise inputs and target"
    if not kept:
        warnings.warn(
            f"no λ keeps the budget, max_error = {max_error}, max_slope = {max_slope}: the nearest is λ = {lam:.3g}, with "
            f"{100 * error:+.2f} % error and {slope:.3g} times MSE's slopes; {advice}, or try other lams, or a wider budget",
            stacklevel=3,
        )
    elif max_error is None and error > DEAR:
        warnings.warn(
            f"λ = {lam:.3g} keeps the budget, with {100 * error:+.0f} % error: {advice}, or give max_error as well",
            stacklevel=3,
        )
    return row, bool(kept)
