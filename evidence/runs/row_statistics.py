"""One and the same network with BatchNorm's statistics of all training rows, and of all but the crowded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pandas as pd

from lai.batchnorm import set_exact_statistics
from lai.metrics import output_variance, rmse
from lai.schedule import check_count

from .arms import MSE, Cell, check_seeds, train_cells
from .parallel import run_parallel

if TYPE_CHECKING:
    from evidence.data import Housing

CROWDED = 100.0
"""People a household; one row of the paper's data has more."""


def row_statistics(
    data: Callable[[int], Housing], *, seeds: Iterable[int] = range(10), epochs: int = 200, n_jobs: int | None = None
) -> pd.DataFrame:
    """Train the MSE networks of the protocol "published" on all rows, and read each with two sets of exact statistics.

    Parameters
    ----------
    data : callable from a seed to a Housing
        From :func:`evidence.data.load_housing`.
    seeds : ints
    epochs : int
    n_jobs : int, optional
        As in :func:`evidence.runs.parallel.run_parallel`, a seed each.

    Returns
    -------
    DataFrame
        For each seed a row with ``statistics`` "all rows" and one with "all but the crowded" (more than ``CROWDED`` people a
        household): ``rmse`` on the validation rows and ``variance`` of the outputs for the test rows, after the last step.

    Source: ours, to tell what a row does by being trained on from what it does by being in the statistics.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> row_statistics(lambda seed: load_housing("surrogate"), seeds=[0], epochs=0)["statistics"].tolist()
    ['all rows', 'all but the crowded']
    """
    check_count("epochs", epochs)
    calls = [(data(seed), seed, epochs) for seed in check_seeds(seeds)]
    return pd.concat(run_parallel(_one_seed, calls, n_jobs=n_jobs), ignore_index=True)


def _one_seed(data: Housing, seed: int, epochs: int) -> pd.DataFrame:
    ((_, model, *_),) = train_cells(data, [Cell("published", MSE, seed, 0, epochs)])
    x, rows = data.train.x, []
    for name, taken in (
        ("all rows", x),
        ("all but the crowded", x[x[:, data.feature_names.index("AveOccup")] <= CROWDED]),
    ):
        set_exact_statistics(model, taken, batch_size=len(taken))
        found = {"rmse": rmse(model, *data.val), "variance": output_variance(model, data.test.x)}
        rows.append({"seed": seed, "statistics": name, **found})
    return pd.DataFrame(rows)
