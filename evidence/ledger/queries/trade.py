"""What less variance costs: against MSE, against outputs shrunk towards their mean, and what it says of slopes."""

from __future__ import annotations

import numpy as np

from evidence.relatives.compare import MSE, differences

from ..stats import judge_steps
from ..tables import ADHERES, shrunken_rmse
from ..verdicts import all_of, any_of, below, interval_text, some_of
from ..views import (
    TRADES,
    Judgement,
    Part,
    Results,
    Version,
    View,
    at_bounds,
    over_versions,
    over_views,
    query,
    together,
)

STABLE = 0.05
"""How much error an arm may add to be called stable, as a share of MSE's: a little more than the paper's own +3.6 %. Like
``ADHERES`` it was chosen with the paper's outcomes in view."""


ACTS = 0.1
"""How much lower the slopes are where the loss is said to act, as a share of MSE's: at λ = 0.1 for a claim about that λ, at the
smallest for one about all. Our choice."""


@query
def trade(results: Results) -> Judgement:
    """At one of the paper's λ at least the model becomes smoother by a larger share than the error rises, and the error rises by
    less than ``STABLE``.

    "holds" if so by the variance of the outputs, the paper's measure, and by the slopes; "holds under conditions" if by one of them.
    """

    def judge(bound: float) -> Judgement:
        def part(view: View, version: Version, places: int) -> tuple[str, str]:
            lams = view.lams(version.printed, version.alpha)
            shares = [
                [view.share(metric, (lam, None, version.alpha)) for metric in ("rmse", "variance", "rms_k")]
                for lam in lams
            ]
            words = []
            for i in (1, 2):
                asked = [((one[i], 0.0), (one[0] + one[i], 0.0), (one[0], bound)) for one in shares]
                words.append(
                    any_of([all_of(below(sample, limit, 2 * places) for sample, limit in three) for three in asked])
                )
            numbers = [
                f"λ = {lam:g}: RMSE {error.mean():+.1%}, variance {variance.mean():+.1%}, slope {slope.mean():+.1%}"
                for lam, (error, variance, slope) in zip(lams, shares, strict=True)
            ]
            return some_of(words), f"by the variance {words[0]}, by the slopes {words[1]}; {'; '.join(numbers)}"

        return over_versions(results, part)

    return at_bounds(judge, (STABLE, "RMSE"))


def _shrunk(view: View, c: np.ndarray) -> np.ndarray:
    """The RMSE of the view's MSE networks with outputs shrunk to ``c``, seed by seed."""
    rmse, variance, covariance = (view.values(name, None).to_numpy() for name in ("rmse", "variance_val", "covariance"))
    return np.asarray(shrunken_rmse(rmse, variance, c, covariance))


def _against_shrinking(view: View, version: Version, metric: str, power: float, sign: int) -> tuple[str, str]:
    """Whether arms with less of a metric than MSE have more error (sign 1) or less (-1) than MSE's outputs shrunk to as
    much of it; the metric falls as c to ``1 / power``."""
    words, numbers = [], []
    for lam in view.lams(view.runs["lam"].dropna().unique(), version.alpha):
        arm = (lam, None, version.alpha)
        if below(view.change(metric, arm), 0) != "holds":
            continue
        c = (view.values(metric, *arm).to_numpy() / view.values(metric, None).to_numpy()) ** power
        excess = view.values("rmse", *arm).to_numpy() - _shrunk(view, c)
        words.append(below(-sign * excess, 0))
        numbers.append(f"λ = {lam:g}: RMSE {interval_text(excess, '+.4f')} against it")
    return some_of(words) if words else "not tested", "; ".join(numbers)


@query
def shrinking(results: Results) -> Judgement:
    """Each arm whose variance is below MSE's has more error than the MSE model shrunk to the same variance.

    Likewise the paper's own columns, one run, by more than the rounding of what is printed, if outputs and residuals of its
    MSE model were uncorrelated.
    """

    def part(view: View, version: Version, places: int) -> tuple[str, str]:
        word, numbers = _against_shrinking(view, version, "variance", 0.5, 1)
        return word, numbers or "no λ has a lower variance"

    parts = []
    for version in TRADES:
        (rmse, variance), *_ = version.printed.values()
        words, numbers = [], []
        for lam, (error, wanted) in version.printed.items():
            if lam is None or wanted >= variance:
                continue
            excess = error - float(shrunken_rmse(rmse, variance, (wanted / variance) ** 0.5))
            words.append("holds" if excess > 1e-4 else "fails" if excess < -1e-4 else "not shown")
            numbers.append(f"λ = {lam:g}: RMSE {excess:+.4f} against it")
        parts.append(Part(f"the paper's figures, {version.name}", some_of(words), "; ".join(numbers)))
    return over_versions(results, part, parts)


@query
def shrinking_slopes(results: Results) -> Judgement:
    """Each arm whose slopes are below MSE's has less error than the MSE model shrunk until its slopes are as small."""

    def part(view: View, version: Version, places: int) -> tuple[str, str]:
        word, numbers = _against_shrinking(view, version, "rms_k", 1.0, -1)
        return word, numbers or "no λ has smaller slopes"

    return over_versions(results, part)


@query
def max_accuracy(results: Results) -> Judgement:
    """At every λ of the paper the error is less than ``ADHERES`` above MSE's, where the loss acts (``ACTS``)."""

    def judge(bound: float, acts: float) -> Judgement:
        return over_versions(results, lambda view, version, places: _at_every_lam(view, version, bound, acts))

    return at_bounds(judge, (ADHERES, "RMSE"), (ACTS, "fall of the slopes"))


def _at_every_lam(view: View, version: Version, bound: float, least: float) -> tuple[str, str]:
    """Whether the error is less than ``bound`` above MSE's at every λ of the paper, and where it is largest; not tested where the
    smallest λ does not lower the slopes by ``least``."""
    arms = {lam: (lam, None, version.alpha) for lam in view.lams(version.printed, version.alpha)}
    gaps = {lam: view.share("rmse", arm) for lam, arm in arms.items()}
    worst = max(gaps, key=lambda lam: float(gaps[lam].mean()))
    slopes = view.share("rms_k", arms[min(arms)])
    numbers = f"λ = {worst:g}: {interval_text(gaps[worst])}; slopes at λ = {min(arms):g} {interval_text(slopes)}"
    acts = below(slopes, -least) == "holds"
    return all_of([below(gap, bound) for gap in gaps.values()]) if acts else "not tested", numbers


@query
def stable(results: Results) -> Judgement:
    """At every λ of version 2 the error is less than ``STABLE`` above MSE's, where the loss acts (``ACTS``)."""

    def judge(bound: float, acts: float) -> Judgement:
        return over_views(results.table("smoothness"), lambda view: _at_every_lam(view, TRADES[1], bound, acts))

    return at_bounds(judge, (STABLE, "RMSE"), (ACTS, "fall of the slopes"))


def _lower_somewhere(results: Results, metric: str) -> Judgement:
    """Whether a metric is below MSE's at one of the paper's λ at least, and where it is lowest."""

    def part(view: View, version: Version, places: int) -> tuple[str, str]:
        lams = view.lams(version.printed, version.alpha)
        gaps = {lam: view.change(metric, (lam, None, version.alpha)) for lam in lams}
        best = min(gaps, key=lambda lam: float(gaps[lam].mean()))
        word = any_of([below(gap, 0, places) for gap in gaps.values()])
        return word, f"λ = {best:g}: {interval_text(gaps[best], '+.4f')}"

    return over_versions(results, part)


@query
def generalise(results: Results) -> Judgement:
    """At one of the paper's λ at least the error is below MSE's."""
    return _lower_somewhere(results, "rmse")


@query
def generalise_tasks(results: Results) -> Judgement:
    """With λ chosen on validation rows the Lai loss has less error than MSE, on each task of the comparison with other methods."""
    table = results.table("relatives")
    found = differences(table, "rmse", ("Lai", "standardised"), MSE, comparisons=table["task"].nunique())
    words = {"better": "holds", "worse": "fails", "not reached": "not tested"}
    parts = [
        Part(
            str(task),
            words.get(str(row["word"]), str(row["word"])),
            f"RMSE {row['mean']:+.1%}, {row['low']:+.1%} to {row['high']:+.1%}",
        )
        for task, row in found.iterrows()
    ]
    return together(parts, int(found["seeds"].min()))


@query
def noise_error(results: Results) -> Judgement:
    """At one of the paper's λ at least the error under noise on all inputs is below MSE's."""
    return _lower_somewhere(results, "rmse_noisy")


@query
def variance_measures(results: Results) -> Judgement:
    """Wherever a smaller λ lowers the slopes, MSE taken as the largest, the variance falls as well."""

    def part(view: View, version: Version, places: int) -> tuple[str, str]:
        lams = view.lams(version.printed, version.alpha)
        arms: list[tuple[float | None, ...]] = [(None,), *((lam, None, version.alpha) for lam in lams)]
        pairs = list(zip(arms[1:], arms, strict=False))
        flatter = [pair for pair in pairs if judge_steps([view.change("rms_k", *pair)], -1) == "holds"]
        words = [judge_steps([view.change("variance", *pair)], -1) for pair in flatter]
        return all_of(words), f"at {words.count('holds')} of {len(words)} steps at which the slopes fall"

    return over_versions(results, part)
