"""Summaries of runs over seeds: mean and spread, and differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lai.schedule import check_count

if TYPE_CHECKING:
    import pandas as pd


class Interval(NamedTuple):
    """A mean and its interval, of 95 % and by the bootstrap where nothing else is said."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, *, level: float = 0.95, n: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of a sample with its bootstrap interval, of the percentile kind and expanded for small samples.

    A plain percentile interval is too narrow: of ten values it holds the mean nine times in ten and not nineteen in twenty,
    because it takes the sample's spread for the population's and normal quantiles for Student's. The expanded one takes
    percentiles further out, by just that. For large samples the two are the same.

    Parameters
    ----------
    values : sequence of float
        One per seed. The interval never leaves the sample's range, so that fewer than five are too few: from three it
        excludes zero whenever the signs agree, which without any effect happens one time in four.
    level : float in (0, 1)
    n : int
        Resamples.
    seed : int

    Raises
    ------
    ValueError
        If ``values`` is empty or not finite, or ``level`` is out of range.

    Source: T. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69 (2015), section 4.

    Examples
    --------
    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) == 0 or not np.isfinite(sample).all():
        raise ValueError(f"values = {values!r}: a non-empty, finite, one-dimensional sample is needed")
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: must lie between 0 and 1")
    picks = _picks(check_count("seed", seed), check_count("n", n, least=1), len(sample))
    tail = _expanded((1 - level) / 2, len(sample))
    low, high = np.quantile(sample[picks].mean(1), [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high))


@lru_cache(maxsize=8)  # the ledger has thousands of intervals, nearly all of five or ten values
def _picks(seed: int, n: int, size: int) -> np.ndarray:
    """The resamples (n, size), as indices of the sample."""
    return np.random.default_rng(seed).integers(size, size=(n, size))


@lru_cache
def _expanded(tail: float, n: int) -> float:
    """Which share of the resampled means to cut off at each end so that ``tail`` of all intervals miss the mean there."""
    from scipy.stats import norm

    return float(norm.cdf(math.sqrt(n / (n - 1)) * _quantile(tail, n - 1))) if n > 1 else tail


def student_mean(values: Sequence[float] | np.ndarray, *, level: float = 0.95) -> Interval:
    """The mean of a sample with Student's interval, for levels that a bootstrap of so few values cannot reach.

    Far out, percentiles of resampled means crowd at the sample's ends, and the interval of ten values of one sign excludes zero at
    any level. Student's has no such end; it takes the values for normal.

    Parameters
    ----------
    values : sequence of float
        Two at least, one per seed.
    level : float in (0, 1)

    Raises
    ------
    ValueError
        If there are fewer than two values, or one that is not finite, or ``level`` is out of range.

    Examples
    --------
    >>> mean, low, high = student_mean([1.0, 2.0, 3.0])
    >>> round(low, 3), mean, round(high, 3)
    (-0.484, 2.0, 4.484)
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise ValueError(f"values = {values!r}: two finite numbers or more are needed")
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: must lie between 0 and 1")
    mean = float(sample.mean())
    reach = float(_quantile((1 + level) / 2, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - reach, mean + reach)


@lru_cache(maxsize=256)
def _quantile(share: float, freedom: int) -> float:
    """Student's, which scipy takes a third of a millisecond for."""
    from scipy.stats import t

    return float(t.ppf(share, freedom))


def paired(results: pd.DataFrame, metric: str, arm: str, control: str) -> np.ndarray:
    """``metric`` of one arm less that of another, seed by seed.

    Pairing takes out what the two arms share, here the initial weights and the batches. While the arms stay close that
    is most of the spread over seeds; once they have gone their own ways it helps little.

    Parameters
    ----------
    results : DataFrame
        Columns ``arm``, ``seed`` and ``metric``; one row for each (arm, seed).
    metric, arm, control : str

    Returns
    -------
    ndarray (n_seeds,)
        In the metric's units, in the order of the seeds.

    Raises
    ------
    ValueError
        If an arm is missing, has a seed twice, or the two do not have the same seeds.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame({"arm": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1], "rmse": [0.5, 0.75, 0.25, 0.5]})
    >>> paired(runs, "rmse", "a", "b").tolist()
    [0.25, 0.25]
    """
    sides = []
    for name in (arm, control):
        rows = results[results["arm"] == name].set_index("seed")[metric].sort_index()
        if rows.empty or rows.index.has_duplicates:
            problem = "is missing" if rows.empty else "has a seed more than once"
            raise ValueError(f"arm {name!r} {problem}; the arms are {sorted(set(results['arm']))}")
        sides.append(rows)
    if not sides[0].index.equals(sides[1].index):
        raise ValueError(
            f"arms {arm!r} and {control!r} cannot be paired: seeds {sides[0].index.tolist()} "
            f"and {sides[1].index.tolist()}"
        )
    return sides[0].to_numpy() - sides[1].to_numpy()


def judge_steps(steps: Sequence[Sequence[float] | np.ndarray], sign: int, *, tests: int = 1) -> str:
    """Whether a quantity moves one way at every step, judged from paired differences.

    Parameters
    ----------
    steps : sequence of samples
        For each step, one paired difference per seed.
    sign : +1 or -1
        The claimed direction.
    tests : int
        How many such quantities were looked at where one would be enough: intervals are then Student's, 95 % for all of them.

    Returns
    -------
    str
        "holds" if every step's 95 % interval lies on the claimed side of zero, "fails" if any lies wholly on
        the other side, else "not shown": the seeds do not settle it, as one seed never does.

    Examples
    --------
    >>> judge_steps([[0.1, 0.2, 0.15], [0.3, 0.2, 0.4]], +1)
    'holds'
    >>> judge_steps([[0.1, 0.2, 0.15], [-0.3, 0.2, 0.4]], +1)
    'not shown'
    >>> judge_steps([[0.1, 0.2, 0.15], [-0.3, -0.2, -0.4]], +1)
    'fails'
    """
    if sign not in (1, -1):
        raise ValueError(f"sign = {sign!r}: must be 1 or -1")
    if any(len(step) < 2 for step in steps):
        return "not shown"
    samples = [sign * np.asarray(step) for step in steps]
    intervals = [bootstrap_mean(s) if tests == 1 else student_mean(s, level=1 - 0.05 / tests) for s in samples]
    if any(i.high < 0 for i in intervals):
        return "fails"
    return "holds" if all(i.low > 0 for i in intervals) else "not shown"
