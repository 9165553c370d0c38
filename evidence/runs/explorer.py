"""The sweep behind the explorer: error, variance, slopes and a fitted curve for every λ, α and protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from lai.factor import check_choice
from lai.schedule import check_count

from .arms import MSE, Arm, Cell, check_seeds, plain_twin, train_cells
from .parallel import run_parallel
from .protocols import PROTOCOLS
from .readout import evaluation
from .store import CellStore, digest_of, kept_or_made
from .trained import outputs_along

if TYPE_CHECKING:
    from evidence.data import Housing

LAMS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
ALPHAS = (0.01, 0.1, 1.0)
KEYS = ["protocol", "lam", "alpha"]
MEASURED = ["rmse", "variance", "rms_k", *(f"k_{j}" for j in range(1, 9))]
SHARE = 0.02, 0.98
"""Quantiles of the feature between which the curve is drawn."""


def explorer_sweep(
    data: Callable[[int], Housing],
    *,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    lams: Sequence[float] = LAMS,
    alphas: Sequence[float] = ALPHAS,
    seeds: Iterable[int] = (0,),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    feature: str = "MedInc",
    points: int = 21,
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train every pair of λ and α in every protocol as version 2's smoothness table is trained, and draw what was fitted.

    Parameters
    ----------
    data : callable from a seed to Housing
        From :func:`evidence.data.load_housing`; every seed can have a split of its own.
    protocols : names from ``PROTOCOLS``
    lams, alphas : sequences of float
        Every pair of them is trained, and MSE beside them.
    seeds : ints
    pretrain_epochs, epochs : int
        Of MSE, and of the arms after it.
    feature : str
        The one that the curve is drawn over, all others left as they are.
    points : int
        Places of the curve, between the 2nd and the 98th percentile of the test rows.
    n_jobs : int
        Processes; the results do not depend on it.
    store : CellStore, optional
        Keeps what a protocol and seed come to, so that what was stopped goes on where it was.
    progress
        Show a bar with the time left.

    Returns
    -------
    table : DataFrame
        A row for each protocol, λ, α and seed (MSE: λ NaN, α 0), with ``rmse``, ``variance``, ``rms_k`` and ``k_1`` to
        ``k_8`` of :func:`evidence.runs.readout.evaluation`, and ``cpu_seconds``.
    curves : DataFrame
        For each of these rows ``x``, in the feature's unit, and ``output``: the mean over every twelfth test row
        (:func:`evidence.runs.trained.outputs_along`), in the target's unit, after the last step.

    Raises
    ------
    ValueError
        For an unknown protocol or feature, a bad λ, α, seed or count, before anything is trained.

    Source: paper, version 2, section 6.1, for the form; the grid is ours.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> table, curves = explorer_sweep(lambda seed: load_housing("surrogate"), protocols=["sound"], lams=[0.1], alphas=[1.0],
    ...                                seeds=[0], pretrain_epochs=0, epochs=0, points=3)
    >>> table[["lam", "alpha"]].values.tolist(), len(curves)
    ([[nan, 0.0], [0.1, 1.0]], 6)
    """
    for protocol in protocols:
        check_choice("protocol", protocol, tuple(PROTOCOLS))
    for name, value, least in (("pretrain_epochs", pretrain_epochs, 0), ("epochs", epochs, 0), ("points", points, 2)):
        check_count(name, value, least=least)
    arms = [MSE, *(Arm(lam, alpha) for alpha in alphas for lam in lams)]
    chosen = check_seeds(seeds)
    calls = []
    for seed in chosen:
        own = data(seed)
        check_choice("feature", feature, tuple(own.feature_names))
        # Protocols that differ in the slope alone share their MSE.
        twins: dict[str, list[str]] = {}
        for protocol in protocols:
            twins.setdefault(plain_twin(protocol), []).append(protocol)
        calls += [
            (own, seed, names, arms, (pretrain_epochs, epochs), feature, points, store) for names in twins.values()
        ]
    results = run_parallel(_one, calls, n_jobs=n_jobs, progress=progress)
    place = {name: i for i, name in enumerate(protocols)}

    def together(part: str) -> pd.DataFrame:
        rows = pd.DataFrame([row for result in results for row in result[part]])
        return rows.sort_values("protocol", key=lambda names: names.map(place), kind="stable", ignore_index=True)

    return together("rows"), together("curves")


def _one(
    data: Housing,
    seed: int,
    protocols: Sequence[str],
    arms: Sequence[Arm],
    lengths: tuple[int, int],
    feature: str,
    points: int,
    store: CellStore | None,
) -> dict[str, Any]:
    """The rows and curves of protocols that share their MSE, of one seed."""
    cells = [
        Cell(name, arm, seed, *lengths) for name in protocols for arm in arms if arm != MSE or name == protocols[0]
    ]
    settings = {"explorer": [cell.settings(data, "cpu") for cell in cells], "feature": feature, "points": points}
    settings["sources"] = digest_of(Path(__file__).with_name(name) for name in ("explorer.py", "trained.py"))
    found: dict[str, Any] = kept_or_made(
        store, settings, lambda: _trained(data, seed, protocols, cells, feature, points)
    )
    return found


def _trained(
    data: Housing, seed: int, protocols: Sequence[str], cells: Sequence[Cell], feature: str, points: int
) -> dict[str, Any]:
    column = data.feature_names.index(feature)
    x = data.test.x[:, column]
    low, high = x.quantile(x.new_tensor(SHARE)).tolist()
    grid = torch.linspace(low, high, points)
    result: dict[str, Any] = {"rows": [], "curves": []}
    for cell, model, taken, _, seconds in train_cells(data, cells):
        outputs = outputs_along(model, data.test.x[::12], column, grid).tolist()
        measured = evaluation(taken)
        # MSE is the same network in all of them, so every protocol has a row of it.
        for name in protocols if cell.arm == MSE else [cell.protocol]:
            key = {"protocol": name, "lam": cell.arm.base, "alpha": cell.arm.alpha, "seed": seed}
            result["rows"].append({**key, **{m: measured[m] for m in MEASURED}, "cpu_seconds": seconds})
            result["curves"] += [
                {**key, "x": place, "output": value} for place, value in zip(grid.tolist(), outputs, strict=True)
            ]
    return result
