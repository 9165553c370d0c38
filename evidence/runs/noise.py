"""Kinds of noise that the paper may have added to its features, and how sensitive plain networks are to each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from lai.factor import check_choice
from lai.metrics import sensitivity
from lai.schedule import check_count

from .arms import MSE, Cell, check_seeds, train_cells
from .protocols import PROTOCOLS

if TYPE_CHECKING:
    from evidence.data import Housing


def _size(x: Tensor) -> Tensor:
    return x.double().square().mean(0).sqrt()


NOISES: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "share of each value": None,
    "share of the feature's size": _size,
    "share of its standard deviation": lambda x: x.double().std(0),
    "share of its range": lambda x: x.double().amax(0) - x.double().amin(0),
    "the same number for all": lambda x: torch.ones(x.shape[1], dtype=torch.float64),
}
"""Kinds of Gaussian noise. The first is multiplicative, x (1 + c ε); the others are additive, x + c u ε, and the value is
what gives u, one number a feature, from the rows x (N, d): their root mean square, standard deviation, range, or 1."""

SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""The c that are tried for every kind."""


def noise_study(
    data: Housing,
    *,
    protocols: Sequence[str] = ("published", "sound"),
    scales: Sequence[float] = SCALES,
    seeds: Iterable[int] = range(2),
    epochs: int = 200,
) -> pd.DataFrame:
    """Train MSE networks and measure their sensitivity to every kind of noise at every scale.

    The networks are those of the MSE arm of :func:`evidence.runs.experiments.run_experiment` with as many epochs in all.
    On the CPU.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    protocols : names from ``PROTOCOLS``
    scales : floats > 0
        The c of ``NOISES``.
    seeds : ints
    epochs : int

    Returns
    -------
    DataFrame
        A row for each protocol, seed, kind and scale, with ``s_1`` … ``s_d`` as :func:`lai.sensitivity` measures them on
        the test rows, with exact statistics. In the target's units.

    Source: ours; version 2 of the paper, section 6.2, does not say which noise it added.
    """
    chosen = check_seeds(seeds)
    check_count("epochs", epochs)
    if not len(scales) or not all(c > 0 and math.isfinite(c) for c in scales):
        raise ValueError(f"scales = {scales!r}: one at least, and each positive and finite")
    for protocol in protocols:
        check_choice("protocol", protocol, tuple(PROTOCOLS))
    rows = []
    for protocol in protocols:
        cells = [Cell(protocol, MSE, seed, 0, epochs) for seed in chosen]
        for cell, model, *_ in train_cells(data, cells):
            for kind, unit in NOISES.items():
                for c in scales:
                    noise = {"relative_noise": c} if unit is None else {"noise": c * unit(data.test.x)}
                    values = sensitivity(model, data.test.x, **noise).tolist()
                    row = {"protocol": protocol, "seed": cell.seed, "kind": kind, "scale": c}
                    rows.append(row | {f"s_{j}": value for j, value in enumerate(values, 1)})
    return pd.DataFrame(rows)
