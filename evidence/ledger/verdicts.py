"""From a sample to a word, and from several words to one verdict.

Intervals are 95 % bootstrap intervals (:mod:`evidence.ledger.stats`). Where one of several questions would be enough, they are Student's
intervals, widened for the number of those that were asked (Bonferroni), because a bootstrap of ten values cannot reach so far out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from .stats import Interval, bootstrap_mean, student_mean

VERDICTS = ("holds", "holds under conditions", "fails as stated", "fails", "not shown", "not tested")
"""The ledger's verdicts, in the order in which they are shown. A claim that "fails as stated" is false in its words, and another
that is near it holds; "not shown" is one that the seeds leave open in every view; "not tested" one that has nothing to measure, or
needs results that have not been made."""


def combine(words: Iterable[str]) -> str:
    """One verdict of the words of several protocols, evaluations or cells.

    "holds" if all hold. "holds under conditions" if some do, or one does under conditions. Where none does, "fails" if one fails,
    else "fails as stated" if one does so, else "not shown". What was not tested has no say beside what was.

    Examples
    --------
    >>> combine(["holds", "holds"]), combine(["holds", "not shown"]), combine(["not shown", "fails"])
    ('holds', 'holds under conditions', 'fails')
    >>> combine(["not shown"]), combine(["not tested", "holds"]), combine(["not tested"]), combine([])
    ('not shown', 'holds', 'not tested', 'not tested')
    """
    tested = set(words) - {"not tested"}
    if tested and tested != {"holds"} and tested & {"holds", "holds under conditions"}:
        return "holds under conditions"
    return next((word for word in ("holds", "fails", "fails as stated", "not shown") if word in tested), "not tested")


def within(sample: Sequence[float] | np.ndarray, room: float, tests: int = 1) -> str:
    """Whether a mean lies within ± ``room``, by its interval; 95 % for ``tests`` such questions together.

    >>> within([0.1, 0.11], 0.5), within([0.1, 0.9], 0.5), within([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    return _between(sample, -room, room, tests)


def below(sample: Sequence[float] | np.ndarray, bound: float, tests: int = 1) -> str:
    """Whether a mean lies below ``bound``, by its interval; 95 % for ``tests`` such questions together.

    >>> below([0.1, 0.11], 0.5), below([0.1, 0.9], 0.5), below([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    return _between(sample, -math.inf, bound, tests)


def _between(sample: Sequence[float] | np.ndarray, low: float, high: float, tests: int) -> str:
    """ "holds" if the interval lies between the bounds, "fails" if it lies beyond one of them, else "not shown"."""
    values = np.asarray(sample, dtype=float)
    if len(values) < 2:
        return "not shown"

    interval = _bootstrap(values.tobytes()) if tests == 1 else student_mean(values, level=1 - 0.05 / tests)
    if low < interval.low and interval.high < high:
        return "holds"
    return "fails" if interval.low > high or interval.high < low else "not shown"


@lru_cache(maxsize=4096)
def _bootstrap(values: bytes) -> Interval:
    return bootstrap_mean(np.frombuffer(values))


def all_of(words: Iterable[str]) -> str:
    """ "holds" if all hold, "fails" if one fails, else "not shown". Asks no further once one fails."""
    seen = set()
    for word in words:
        if word == "fails":
            return word
        seen.add(word)
    return "holds" if seen == {"holds"} else "not shown"


def some_of(words: Sequence[str]) -> str:
    """ "holds" if all hold, "holds under conditions" if some do, "fails" if none does and one fails, else "not shown"."""
    if "holds" in words:
        return "holds" if set(words) == {"holds"} else "holds under conditions"
    return "fails" if "fails" in words else "not shown"


def any_of(words: Sequence[str]) -> str:
    """ "holds" if one holds, "fails" if all fail, else "not shown"."""
    if "holds" in words:
        return "holds"
    return "fails" if words and set(words) == {"fails"} else "not shown"


def interval_text(sample: np.ndarray, form: str = "+.1%") -> str:
    """A mean and its 95 % bootstrap interval in words; the mean alone for one seed.

    >>> interval_text(np.array([0.1, 0.1]))
    '+10.0%, +10.0% to +10.0%'
    """
    if len(sample) < 2:
        return f"{sample.mean():{form}}"
    mean = _bootstrap(np.asarray(sample, dtype=float).tobytes())
    return f"{mean.mean:{form}}, {mean.low:{form}} to {mean.high:{form}}"
