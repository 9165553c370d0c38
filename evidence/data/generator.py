"""The generator behind the surrogate: numbers that are distributed as Kaggle's rows are, from fitted parameters.

``evidence/data/fit_surrogate.py`` makes the parameters; :func:`evidence.data.surrogate` says what is drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("surrogate.npz")

N_TRAIN = 37_137
"""Rows of a whole table, as many as Kaggle's train.csv has."""

_DECIMALS = (4, 0, 5, 5, 0, 5, 2, 2)  # of the eight features; the ratios have no natural grain
_CAP = 5.00001  # the census writes every value above 500,000 US$ as 500,001

Array = NDArray[np.float64]


@functools.cache
def parameters() -> dict[str, Array]:
    """What ``evidence/data/fit_surrogate.py`` fitted, by name."""
    with np.load(FILE, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def generate(n_rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows x (n_rows, 8) and y (n_rows,), float32, cut from as many whole tables as it takes."""
    fitted = parameters()
    tables = [_generate_table(fitted, np.random.default_rng([seed, b])) for b in range(-(-n_rows // N_TRAIN))]
    x, y = (np.concatenate(parts)[:n_rows] for parts in zip(*tables, strict=True))
    return x.astype(np.float32), y.astype(np.float32)


def _generate_table(p: Mapping[str, Array], rng: np.random.Generator) -> tuple[Array, Array]:
    """One table of N_TRAIN rows from the parameters of ``evidence/data/fit_surrogate.py``: x (N, 8) and y (N,).

    Values go through their rank in the table, so each table has the fitted marginals: as many houses at the cap and
    as many far outliers as Kaggle's. They are rounded far above rounding error, so that machines whose sums differ
    in the last bit agree.
    """
    uniform = rng.random((3, N_TRAIN))
    normal = rng.standard_normal((N_TRAIN, len(_DECIMALS)))

    # Dependence: scores from the mixture. "cumulative" (C,), "means" (C, 8), "factors" (C, 8, 8) lower triangular.
    component = np.minimum(np.searchsorted(p["cumulative"], uniform[0]), len(p["means"]) - 1)
    scores = p["means"][component] + np.einsum("nij,nj->ni", p["factors"][component], normal)

    # Marginals: quantiles "values" (9, Q) at "levels" (Q,); the last is the target's.
    x = np.empty_like(scores)
    for j, decimals in enumerate(_DECIMALS):
        x[:, j] = np.round(np.interp(_ranks(scores[:, j]), p["levels"], p["values"][j]), decimals)

    # The house value: quantiles "y_quantiles" (P, U) at predictions "y_predictions" (P,) and levels "y_levels" (U,).
    column, right = _interval(p["y_predictions"], _teach(p, x))
    row, up = _interval(p["y_levels"], uniform[1])
    table = p["y_quantiles"]
    lower = (1 - right) * table[column, row] + right * table[column + 1, row]
    upper = (1 - right) * table[column, row + 1] + right * table[column + 1, row + 1]
    y = np.interp(_ranks((1 - up) * lower + up * upper, uniform[2]), p["levels"], p["values"][-1])
    y = np.round(y, 3)
    y[y >= 5] = _CAP
    return x, y


def _ranks(values: Array, ties: Array | None = None) -> Array:
    """The rank of each value as a level in (0, 1); ``ties`` orders those that agree to nine decimals."""
    order = np.argsort(values) if ties is None else np.lexsort((ties, np.round(values, 9)))
    ranks = np.empty(len(values))
    ranks[order] = (np.arange(len(values)) + 0.5) / len(values)
    return ranks


def _teach(p: Mapping[str, Array], x: Array) -> Array:
    """The teacher's prediction (N,) for raw features (N, 8): limits, standardisation, 64-32 SiLU network."""
    h = (np.clip(x, p["low"], p["high"]) - p["mean"]) / p["std"]
    for layer in ("0", "1"):
        h = h @ p["weight" + layer] + p["bias" + layer]
        h = h / (1 + np.exp(-h))
    return (h @ p["weight2"] + p["bias2"])[:, 0]


def _interval(knots: Array, values: Array) -> tuple[NDArray[np.intp], Array]:
    """For each value the index of its interval between the increasing knots, and its place (0 to 1) in it."""
    values = np.clip(values, knots[0], knots[-1])
    index = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    return index, (values - knots[index]) / (knots[index + 1] - knots[index])
