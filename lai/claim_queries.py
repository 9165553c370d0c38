"""The queries of the ledger of claims: each reads tables of results and says in a word what they show.

The tables are those of :mod:`lai.experiments`. A table has one row for each run: ``protocol`` (published, corrected,
sound), ``lam`` (empty for MSE), ``lam_8`` (λ of the last feature), ``alpha``, ``seed`` and the read-outs, those with
BatchNorm's running statistics ending in ``_running``. A query judges every protocol and read-out that the table has by itself;
:func:`combine` makes one verdict of them, so that a claim which stands in some of them only "holds under conditions", and the
text says in which. Intervals are 95 % bootstrap intervals of differences paired by seed (:mod:`lai.stats`). Where one λ or one
list in one protocol would do, they are widened for the number of those that were looked at (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from .factor import lai_factor
from .paper import V1_SAMPLING, V1_SMOOTHNESS, V2_SENSITIVITY, V2_SMOOTHNESS
from .reports import ADHERES
from .schedule import LaiSchedule
from .stats import bootstrap_mean, judge_steps

if TYPE_CHECKING:
    import pandas as pd

STABLE = 0.05
"""How much error an arm may add to be called stable, as a share of MSE's: a little more than the paper's own +3.6 %."""

SIMILAR = (0.05, 0.10)
"""How near in error and in variance two arms must be to be called similar: the paper's pair is 3.4 % and 3.6 % apart."""


class Judgement(NamedTuple):
    """What evidence comes to: a verdict, what it rests on in words, and the number of seeds if a table says it."""

    verdict: str
    numbers: str
    seeds: int | None = None


class Part(NamedTuple):
    """One protocol and read-out: its name, a word, and its numbers."""

    name: str
    word: str
    numbers: str = ""


def combine(words: Iterable[str]) -> str:
    """One verdict of the words of several protocols, read-outs or cells.

    "holds" if all hold. "holds under conditions" if some do, or one does under conditions. "fails" if none does, be it that
    they fail or that nothing is shown. What could not be tested has no say beside what could.

    Examples
    --------
    >>> combine(["holds", "holds"]), combine(["holds", "not shown"]), combine(["not shown", "fails"])
    ('holds', 'holds under conditions', 'fails')
    >>> combine(["not testable", "holds"]), combine(["not testable"]), combine([])
    ('holds', 'not testable', 'not testable')
    """
    tested = {word for word in words if word != "not testable"}
    if not tested:
        return "not testable"
    if tested == {"holds"}:
        return "holds"
    return "holds under conditions" if tested & {"holds", "holds under conditions"} else "fails"


class MissingResults(Exception):
    """A table or an arm that a query needs is not there."""


@dataclass(frozen=True)
class Results:
    """The tables of one folder."""

    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        """One of them, such as "smoothness"; MissingResults if it is not there."""
        import pandas as pd

        path = self.folder / f"{name}.csv"
        if not path.exists():
            raise MissingResults(f"{name}.csv is not among the results")
        return pd.read_csv(path)


Query = Callable[[Results], Judgement]
QUERIES: dict[str, Query] = {}
"""All queries by name."""


def query(function: Query) -> Query:
    """Enter a function into ``QUERIES``; without its table it says "not testable" and which table is missing."""

    @wraps(function)
    def answer(results: Results) -> Judgement:
        try:
            return function(results)
        except MissingResults as missing:
            return Judgement("not testable", f"{missing}.")

    QUERIES[function.__name__] = answer
    return answer


# --- reading a table -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """One protocol's runs with one read-out; arms are asked for by λ, so that their names do not matter."""

    name: str
    runs: pd.DataFrame
    running: bool
    protocols: int  # how many the table has

    def values(
        self, metric: str, lam: float | None, lam_8: float | None = None, alpha: float | None = None
    ) -> pd.Series:
        """A metric of one arm by seed; MSE for λ None. Raises MissingResults if the arm is not there."""
        runs = self.runs
        keep = runs["lam"].isna() if lam is None else np.isclose(runs["lam"], lam, rtol=1e-6)
        if lam is not None:
            keep &= runs["lam_8"].isna() if lam_8 is None else np.isclose(runs["lam_8"], lam_8, rtol=1e-6)
            if alpha is not None:
                keep &= np.isclose(runs["alpha"], alpha, rtol=1e-6)
        arm = f"λ = {lam}, λ₈ = {lam_8}, α = {alpha}"
        if not keep.any():
            raise MissingResults(f"the arm {arm} is not in the table")
        column = f"{metric.replace('s_', 's_running_')}" if metric.startswith("s_") else f"{metric}_running"
        column = column if self.running and column in runs else metric
        if column not in runs:
            raise MissingResults(f"the column {column} is not in the table")
        found = runs[keep].drop_duplicates(subset=["seed", column] if lam is None else None).set_index("seed")[column]
        if found.index.has_duplicates:
            raise ValueError(f"{self.name}: {arm} has a seed more than once")
        return found.sort_index()

    def change(self, metric: str, arm: Sequence[float | None], control: Sequence[float | None] = (None,)) -> np.ndarray:
        """One arm less another, seed by seed."""
        one, two = self.values(metric, *arm), self.values(metric, *control)
        if not one.index.equals(two.index):
            raise ValueError(f"{self.name}: {arm} and {control} do not have the same seeds")
        return one.to_numpy() - two.to_numpy()

    def share(self, metric: str, arm: Sequence[float | None], control: Sequence[float | None] = (None,)) -> np.ndarray:
        """The same as a share of the control's mean; of the control's own for sensitivities, which differ widely by seed."""
        base = self.values(metric, *control)
        return self.change(metric, arm, control) / (base.to_numpy() if metric.startswith("s_") else base.mean())

    def lams(self, wanted: Iterable[float | None], alpha: float) -> list[float]:
        """The λ of the paper that this protocol has at this α without a list, from large to small."""
        runs = self.runs[self.runs["lam_8"].isna() & np.isclose(self.runs["alpha"], alpha, rtol=1e-6)]
        have = runs["lam"].dropna().unique()
        found = sorted((v for v in wanted if v is not None and np.isclose(have, v, rtol=1e-6).any()), reverse=True)
        if len(found) < 2:
            raise MissingResults("the table has no two of the paper's λ")
        return found

    def lists(self) -> list[tuple[float, float, float]]:
        """λ, λ₈ and α of the arms whose last feature has a λ of its own."""
        rows = self.runs.dropna(subset=["lam", "lam_8"])[["lam", "lam_8", "alpha"]].drop_duplicates()
        return [(float(a), float(b), float(c)) for a, b, c in rows.itertuples(index=False)]


def views(table: pd.DataFrame, protocols: Sequence[str] = ()) -> Iterator[View]:
    """Each protocol of a table, and twice if its networks have running statistics that differ."""
    import pandas as pd

    last = table["lam_8"] if "lam_8" in table else pd.Series(np.nan, table.index)
    table = table.assign(lam_8=last.mask(np.isclose(last, table["lam"], rtol=1e-6)))  # only where it differs
    n = table["protocol"].nunique()
    for protocol, runs in table.groupby("protocol", sort=False):
        if protocols and protocol not in protocols:
            continue
        two = "rmse_running" in runs and not np.allclose(runs["rmse_running"], runs["rmse"])
        yield View(f"{protocol}, recomputed" if two else str(protocol), runs, False, n)
        if two:
            yield View(f"{protocol}, running", runs, True, n)


def over_views(
    table: pd.DataFrame, part: Callable[[View], tuple[str, str]], protocols: Sequence[str] = ()
) -> Judgement:
    """Judge each view; those without the arms that are needed have no say."""
    parts, missing = [], "the table has none of these protocols"
    for view in views(table, protocols):
        try:
            parts.append(Part(view.name, *part(view)))
        except MissingResults as error:
            missing = str(error)
    if not parts:
        raise MissingResults(missing)
    return Judgement(combine(one.word for one in parts), in_words(parts), int(table["seed"].nunique()))


def in_words(parts: Sequence[Part]) -> str:
    """The parts one after the other.

    >>> in_words([Part("published", "fails", "RMSE 0.70, 0.71"), Part("sound", "holds")])
    'Published: fails (RMSE 0.70, 0.71). Sound: holds.'
    """
    return " ".join(
        f"{one.name[:1].upper()}{one.name[1:]}: {one.word}{f' ({one.numbers})' if one.numbers else ''}."
        for one in parts
    )


def within(sample: Sequence[float] | np.ndarray, room: float, tests: int = 1) -> str:
    """Whether a mean lies within ± ``room``, by its interval; 95 % for ``tests`` such questions together.

    >>> within([0.1, 0.11], 0.5), within([0.1, 0.9], 0.5), within([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    return all_of([below(sample, room, tests), below(-np.asarray(sample, dtype=float), room, tests)])


def below(sample: Sequence[float] | np.ndarray, bound: float, tests: int = 1) -> str:
    """Whether a mean lies below ``bound``, by its interval; 95 % for ``tests`` such questions together.

    >>> below([0.1, 0.11], 0.5), below([0.1, 0.9], 0.5), below([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    if len(sample) < 2:
        return "not shown"
    mean = bootstrap_mean(np.asarray(sample, dtype=float), level=1 - 0.05 / tests)
    return "holds" if mean.high < bound else "fails" if mean.low > bound else "not shown"


def all_of(words: Sequence[str]) -> str:
    """ "holds" if all hold, "fails" if one fails, else "not shown"."""
    if "fails" in words:
        return "fails"
    return "holds" if words and set(words) == {"holds"} else "not shown"


def any_of(words: Sequence[str]) -> str:
    """ "holds" if one holds, "fails" if all fail, else "not shown"."""
    if "holds" in words:
        return "holds"
    return "fails" if words and set(words) == {"fails"} else "not shown"


def _interval(sample: np.ndarray, form: str = "+.1%") -> str:
    if len(sample) < 2:
        return f"{sample.mean():{form}}"
    mean = bootstrap_mean(sample)
    return f"{mean.mean:{form}}, {mean.low:{form}} to {mean.high:{form}}"


def _metric(metric: str) -> str:
    return {"rmse": "RMSE", "variance": "variance", "rms_k": "slope"}[metric]


# --- error and variance over λ ---------------------------------------------------------------------------------


def _steps(table: pd.DataFrame, metric: str, sign: int, wanted: Iterable[float | None], alpha: float) -> Judgement:
    def part(view: View) -> tuple[str, str]:
        lams = view.lams(wanted, alpha)
        pairs = list(zip(lams[1:], lams, strict=False))
        steps = [view.change(metric, (low, None, alpha), (high, None, alpha)) for low, high in pairs]
        means = [f"{view.values(metric, lam, None, alpha).mean():.3f}" for lam in lams]
        at = ", ".join(f"{lam:g}" for lam in lams)
        return judge_steps(steps, sign), f"{_metric(metric)} at λ = {at}: {', '.join(means)}"

    return over_views(table, part)


def _adheres(table: pd.DataFrame, alpha: float) -> Judgement:
    def part(view: View) -> tuple[str, str]:
        gap = view.share("rmse", (0.1, None, alpha))
        return within(gap, ADHERES), f"RMSE {_interval(gap, '+.2%')} of MSE's"

    return over_views(table, part)


def _beats(table: pd.DataFrame, alpha: float) -> Judgement:
    def part(view: View) -> tuple[str, str]:
        gap = view.change("rmse", (0.1, None, alpha))
        return below(gap, 0, view.protocols), f"RMSE {_interval(gap, '+.4f')} against MSE"

    return over_views(table, part)


def _figures(table: pd.DataFrame, paper: Mapping[float | None, tuple[float, float]], alpha: float) -> Judgement:
    def part(view: View) -> tuple[str, str]:
        near = []
        for lam, figures in paper.items():
            for metric, figure in zip(("rmse", "variance"), figures, strict=True):
                runs = view.values(metric, lam, None, alpha)
                near.append(abs(figure - runs.mean()) <= 2 * runs.std(ddof=1))
        some = "holds under conditions" if any(near) else "fails"
        return "holds" if all(near) else some, f"{sum(near)} of {len(near)} printed figures"

    return over_views(table, part, ("published",))


@query
def v1_loss_rises(results: Results) -> Judgement:
    """From each λ of version 1 to the next smaller one the error rises, α = 1."""
    return _steps(results.table("strength"), "rmse", +1, V1_SMOOTHNESS, 1.0)


@query
def v1_var_falls(results: Results) -> Judgement:
    """From each λ of version 1 to the next smaller one the variance falls, α = 1."""
    return _steps(results.table("strength"), "variance", -1, V1_SMOOTHNESS, 1.0)


@query
def v1_adheres(results: Results) -> Judgement:
    """At λ = 0.1 and α = 1 the error is within ``ADHERES`` of MSE's."""
    return _adheres(results.table("strength"), 1.0)


@query
def v1_beats(results: Results) -> Judgement:
    """At λ = 0.1 and α = 1 the error is below MSE's."""
    return _beats(results.table("strength"), 1.0)


@query
def v1_figures(results: Results) -> Judgement:
    """Version 1's printed errors and variances lie within two standard deviations of the published protocol's runs."""
    return _figures(results.table("strength"), V1_SMOOTHNESS, 1.0)


@query
def v1_converged(results: Results) -> Judgement:
    """Over the last 50 epochs every arm's mean validation error is within ``ADHERES`` of that of the 50 before."""
    curves = results.table("strength_curves")
    parts = []
    for protocol, runs in curves.groupby("protocol", sort=False):
        last = int(runs["epoch"].max())
        late = runs[runs["epoch"] > last - 50].groupby("arm")["mean"].mean()
        before = runs[(runs["epoch"] <= last - 50) & (runs["epoch"] > last - 100)].groupby("arm")["mean"].mean()
        moved = (late / before - 1).abs()
        word = "holds" if (moved < ADHERES).all() else "fails"
        parts.append(Part(str(protocol), word, f"moved by at most {moved.max():.2%} in the last 50 epochs"))
    return Judgement(combine(part.word for part in parts), in_words(parts))


@query
def equivalence(results: Results) -> Judgement:
    """α = 0.01 with λ = 1e-4 is within ``SIMILAR`` of α = 1 with λ = 1e-3, in error and in variance."""
    (few, many) = ((lam, None, alpha) for alpha, lam in sorted(V1_SAMPLING))

    def part(view: View) -> tuple[str, str]:
        gaps = [view.share(metric, few, many) for metric in ("rmse", "variance")]
        words = [within(gap, room) for gap, room in zip(gaps, SIMILAR, strict=True)]
        return all_of(words), f"RMSE {_interval(gaps[0])}; variance {_interval(gaps[1])}"

    return over_views(results.table("sampling"), part)


@query
def v2_loss_rises(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the error rises, α = 0.01."""
    return _steps(results.table("smoothness"), "rmse", +1, V2_SMOOTHNESS, 0.01)


@query
def v2_var_falls(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the variance falls, α = 0.01."""
    return _steps(results.table("smoothness"), "variance", -1, V2_SMOOTHNESS, 0.01)


@query
def slopes_fall(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the root mean square slope falls, α = 0.01."""
    return _steps(results.table("smoothness"), "rms_k", -1, V2_SMOOTHNESS, 0.01)


@query
def v2_adheres(results: Results) -> Judgement:
    """At λ = 0.1 and α = 0.01 the error is within ``ADHERES`` of MSE's."""
    return _adheres(results.table("smoothness"), 0.01)


@query
def v2_beats(results: Results) -> Judgement:
    """At λ = 0.1 and α = 0.01 the error is below MSE's."""
    return _beats(results.table("smoothness"), 0.01)


@query
def v2_figures(results: Results) -> Judgement:
    """Version 2's printed errors and variances lie within two standard deviations of the published protocol's runs."""
    return _figures(results.table("smoothness"), V2_SMOOTHNESS, 0.01)


@query
def trade(results: Results) -> Judgement:
    """At one of the paper's λ at least the variance falls, by a larger share than the error rises, and that by less than
    ``STABLE``."""

    def part(view: View) -> tuple[str, str]:
        words, numbers = [], []
        lams = view.lams(V2_SMOOTHNESS, 0.01)
        for lam in lams:
            error, variance = (view.share(metric, (lam, None, 0.01)) for metric in ("rmse", "variance"))
            bounds = ((variance, 0), (error + variance, 0), (error, STABLE))
            words.append(all_of([below(sample, bound, len(lams) * view.protocols) for sample, bound in bounds]))
            numbers.append(f"λ = {lam:g}: RMSE {error.mean():+.1%}, variance {variance.mean():+.1%}")
        return any_of(words), "; ".join(numbers)

    return over_views(results.table("smoothness"), part)


@query
def max_accuracy(results: Results) -> Judgement:
    """At none of the paper's λ does the error lie above MSE's."""

    def part(view: View) -> tuple[str, str]:
        gaps = {lam: view.share("rmse", (lam, None, 0.01)) for lam in view.lams(V2_SMOOTHNESS, 0.01)}
        tests = len(gaps) * view.protocols
        dear = [f"λ = {lam:g}: {_interval(gap)}" for lam, gap in gaps.items() if below(gap, 0, tests) == "fails"]
        word = "fails" if dear else all_of([below(gap, ADHERES, len(gaps)) for gap in gaps.values()])
        return word, "; ".join(dear)

    return over_views(results.table("smoothness"), part)


@query
def stable(results: Results) -> Judgement:
    """At every λ of the paper the error is less than ``STABLE`` above MSE's."""

    def part(view: View) -> tuple[str, str]:
        gaps = {lam: view.share("rmse", (lam, None, 0.01)) for lam in view.lams(V2_SMOOTHNESS, 0.01)}
        worst = max(gaps, key=lambda lam: float(gaps[lam].mean()))
        return all_of([below(gap, STABLE) for gap in gaps.values()]), f"λ = {worst:g}: {_interval(gaps[worst])}"

    return over_views(results.table("smoothness"), part)


@query
def generalise(results: Results) -> Judgement:
    """At one of the paper's λ at least the error is below MSE's."""

    def part(view: View) -> tuple[str, str]:
        gaps = {lam: view.change("rmse", (lam, None, 0.01)) for lam in view.lams(V2_SMOOTHNESS, 0.01)}
        best = min(gaps, key=lambda lam: float(gaps[lam].mean()))
        word = any_of([below(gap, 0, len(gaps) * view.protocols) for gap in gaps.values()])
        return word, f"λ = {best:g}: {_interval(gaps[best], '+.4f')}"

    return over_views(results.table("smoothness"), part)


@query
def variance_measures(results: Results) -> Judgement:
    """Wherever a smaller λ lowers the slopes, MSE taken as the largest, the variance falls as well."""

    def part(view: View) -> tuple[str, str]:
        lams = view.lams(V2_SMOOTHNESS, 0.01)
        arms: list[tuple[float | None, ...]] = [(None,), *((lam, None, 0.01) for lam in lams)]
        pairs = list(zip(arms[1:], arms, strict=False))
        flatter = [pair for pair in pairs if judge_steps([view.change("rms_k", *pair)], -1) == "holds"]
        words = [judge_steps([view.change("variance", *pair)], -1) for pair in flatter]
        return all_of(words), f"at {words.count('holds')} of {len(words)} steps at which the slopes fall"

    return over_views(results.table("smoothness"), part)


@query
def one_seed(results: Results) -> Judgement:
    """The difference between λ = 0.1 and MSE has one sign in all seeds."""

    def part(view: View) -> tuple[str, str]:
        gap = view.change("rmse", (0.1, None, 0.01))
        fewer = int(min((gap < 0).sum(), (gap > 0).sum()))
        word = "holds" if fewer == 0 else "holds under conditions"
        return word, f"RMSE lower than MSE's in {int((gap < 0).sum())} of {len(gap)} seeds"

    return over_views(results.table("smoothness"), part)


# --- sensitivity -----------------------------------------------------------------------------------------------

_FEATURES = range(1, 9)


@query
def noise_most(results: Results) -> Judgement:
    """At λ = 0.1 the sensitivity falls on five features or more."""

    def part(view: View) -> tuple[str, str]:
        changes = [view.share(f"s_{j}", (0.1, None, 0.01)) for j in _FEATURES]
        sure = sum(below(change, 0) == "holds" for change in changes)
        mean = sum(float(change.mean()) < 0 for change in changes)
        word = "holds" if sure >= 5 else "fails" if mean < 5 else "not shown"
        return word, f"lower on {mean} of 8 features on average, on {sure} beyond chance"

    return over_views(results.table("sensitivity"), part)


@query
def noise_last(results: Results) -> Judgement:
    """Of the eight features the last has the largest sensitivity, in the MSE arm of every seed."""
    import pandas as pd

    def part(view: View) -> tuple[str, str]:
        all_eight = pd.DataFrame({j: view.values(f"s_{j}", None) for j in _FEATURES})
        largest = (all_eight.idxmax(axis=1) == 8).mean()
        word = "holds" if largest == 1 else "holds under conditions" if largest else "fails"
        means = all_eight.mean()
        return word, f"X₈ {means[8]:.2f}, next {means.drop(8).max():.2f}"

    return over_views(results.table("sensitivity"), part)


@query
def noise_figures(results: Results) -> Judgement:
    """The printed sensitivities of MSE lie within two standard deviations of the published protocol's runs."""

    def part(view: View) -> tuple[str, str]:
        near = []
        for j, figure in zip(_FEATURES, V2_SENSITIVITY["mse"], strict=True):
            runs = view.values(f"s_{j}", None)
            near.append(abs(figure - runs.mean()) <= 2 * runs.std(ddof=1))
        some = "holds under conditions" if any(near) else "fails"
        return "holds" if all(near) else some, f"{sum(near)} of 8 features"

    return over_views(results.table("sensitivity"), part, ("published",))


_LIST = (0.1, 0.001, 0.01)  # λ, λ₈ and α of section 6.2


@query
def noise_list(results: Results) -> Judgement:
    """λ₈ = 0.001 cuts X₈'s sensitivity by a fifth or more, half of what is printed, and adds less than ``STABLE`` of error."""

    def part(view: View) -> tuple[str, str]:
        cut, cost = view.share("s_8", _LIST), view.share("rmse", _LIST)
        return all_of([below(cut, -0.2), below(cost, STABLE)]), f"X₈ {_interval(cut)}; RMSE {_interval(cost)}"

    return over_views(results.table("sensitivity"), part)


@query
def noise_spill(results: Results) -> Judgement:
    """λ₈ = 0.001 moves the sensitivity of at least one other feature by 5 % or more."""

    def part(view: View) -> tuple[str, str]:
        others = {j: view.share(f"s_{j}", _LIST) for j in range(1, 8)}
        most = max(others, key=lambda j: abs(float(others[j].mean())))
        # "fails" to stay within is what is claimed
        words = [within(change, 0.05, len(others)) for change in others.values()]
        word = "holds" if "fails" in words else "fails" if set(words) == {"holds"} else "not shown"
        return word, f"{words.count('fails')} of 7 others; most X{'₁₂₃₄₅₆₇'[most - 1]}, {_interval(others[most])}"

    return over_views(results.table("sensitivity"), part)


def _best_list(results: Results, price: Callable[[View, tuple[float, float, float], int], str]) -> Judgement:
    """Whether one of the lists cuts X₈'s sensitivity by a tenth or more at a price that is right."""

    def part(view: View) -> tuple[str, str]:
        arms = view.lists()
        if not arms:
            raise MissingResults("the table has no list of λ")
        n = len(arms) * view.protocols
        words = [all_of([below(view.share("s_8", arm), -0.1, n), price(view, arm, n)]) for arm in arms]
        return any_of(words), f"{words.count('holds')} of {len(arms)} lists"

    return over_views(results.table("lists"), part)


@query
def noise_tuning(results: Results) -> Judgement:
    """A list of those tried cuts X₈'s sensitivity by a tenth or more and keeps all others within a tenth."""

    def kept(view: View, arm: tuple[float, float, float], tests: int) -> str:
        return all_of([within(view.share(f"s_{j}", arm), 0.1, tests) for j in range(1, 8)])

    return _best_list(results, kept)


@query
def noise_moderate(results: Results) -> Judgement:
    """A list of those tried cuts X₈'s sensitivity by a tenth or more for less than 1 % of error."""
    return _best_list(results, lambda view, arm, tests: below(view.share("rmse", arm), 0.01, tests))


@query
def list_performance(results: Results) -> Judgement:
    """A list of those tried has less error than MSE."""

    def part(view: View) -> tuple[str, str]:
        gaps = {arm: view.share("rmse", arm) for arm in view.lists()}
        if not gaps:
            raise MissingResults("the table has no list of λ")
        best = min(gaps.values(), key=lambda gap: float(gap.mean()))
        word = any_of([below(gap, 0, len(gaps) * view.protocols) for gap in gaps.values()])
        return word, f"the best of {len(gaps)}: RMSE {_interval(best)}"

    return over_views(results.table("lists"), part)


@query
def list_others(results: Results) -> Judgement:
    """With λ₈ alone lowered to 0.001 the error leaves the bound of ``STABLE``, so that the other λ would have to move."""

    def part(view: View) -> tuple[str, str]:
        cost = view.share("rmse", _LIST)
        turned = {"holds": "fails", "fails": "holds"}
        word = below(cost, STABLE)
        return turned.get(word, word), f"RMSE {_interval(cost)} with the others left as they were"

    return over_views(results.table("sensitivity"), part)


# --- without tables --------------------------------------------------------------------------------------------


@query
def change_row(results: Results) -> Judgement:
    """Each printed change of section 6.2 follows from the two printed rows above it, given their rounding."""
    printed = {
        "lam = 1e-1": (-0.16, -0.53, +0.52, -1.74, +1.78, -0.55, -0.71, -0.30),
        "lam_8 = 1e-3": (-4.17, +5.16, -8.75, -15.80, +12.99, -2.70, -32.96, -41.81),
    }
    half = 5e-5  # of the last digit
    right = [
        (new - half) / (old + half) - 5e-5 <= 1 + change / 100 <= (new + half) / (old - half) + 5e-5
        for arm, changes in printed.items()
        for old, new, change in zip(V2_SENSITIVITY["mse"], V2_SENSITIVITY[arm], changes, strict=True)
    ]
    word = "holds" if all(right) else "holds under conditions" if any(right) else "fails"
    return Judgement(word, f"{sum(right)} of {len(right)} printed changes.")


@query
def evenly(results: Results) -> Judgement:
    """Every point meets the Lai loss equally often: on average, and in one run of 100 epochs at α = 0.01."""
    plan, met = LaiSchedule(0.01, seed=0), np.zeros(58 * 512, dtype=int)
    for epoch in range(100):
        order = np.random.default_rng([0, epoch]).permutation(met.size).reshape(58, 512)
        met[order[plan.batches(epoch, 58).numpy()].ravel()] += 1
    on_average = sum(int(plan.batches(epoch, 58).sum()) for epoch in range(100)) == 58  # 1 % of 58 batches an epoch
    never = float((met == 0).mean())
    word = "holds" if never < 0.01 else "holds under conditions" if on_average else "fails"
    return Judgement(word, f"In one run {never:.0%} of the points never meet it, and one meets it {met.max()} times.")


@query
def learning_rate(results: Results) -> Judgement:
    """One gradient a thousand times as large moves an Adam step by less than five learning rates, and no later one by more."""
    weight = torch.zeros(1, requires_grad=True)
    adam, moved = torch.optim.Adam([weight], lr=1.0), []
    for step in range(1200):
        before = weight.item()
        weight.grad = torch.full((1,), 1000.0 if step == 1000 else 1.0)
        adam.step()
        moved.append(abs(before - weight.item()))
    no_jump, slowed = max(moved) < 20, moved[-1] < 0.5
    word = "fails" if not no_jump else "holds under conditions" if slowed else "holds"
    return Judgement(
        word,
        f"The step is {moved[1000]:.1f} learning rates, the next ones up to {max(moved):.1f}; 199 steps later plain steps "
        f"are {moved[-1]:.2f} of one.",
    )


@query
def larger_lam(results: Results) -> Judgement:
    """A larger λ raises what a steep slope costs, relative to a flat one's."""
    k = torch.tensor([0.0, 10.0], dtype=torch.float64)

    def cost(lam: float) -> float:
        flat, steep = lai_factor(k, lam, base="mse").tolist()
        return float(steep / flat)

    lams = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    rises = [cost(high) > cost(low) for low, high in zip(lams, lams[1:], strict=False)]
    word = "holds" if all(rises) else "holds under conditions" if any(rises) else "fails"
    numbers = ", ".join(f"{cost(lam):.3g}" for lam in lams)
    return Judgement(word, f"Cost of slope 10 over that of slope 0, λ = 0.0001 to 10: {numbers}.")


@query
def convex(results: Results) -> Judgement:
    """The Lai MSE of a line is convex in its slope, or at least has one minimum, for λ = 36 and little or much noise."""
    from . import lines

    found = []
    k = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for width in (0.1, 1.0, 10.0):
        x, y = lines.line_data(width)
        x, y = x.double(), y.double()
        intercept = (y[:, None] - k * x[:, None]).mean(0)
        errors = k * x[:, None] + intercept - y[:, None]
        loss = errors.square().mean(0) * lai_factor(k, 36.0, base="mse")
        bends = loss.diff().diff()
        minima = int(((loss[1:-1] < loss[:-2]) & (loss[1:-1] < loss[2:])).sum())
        found.append((bool((bends >= -1e-9).all()), minima))
    word = (
        "holds" if all(flat for flat, _ in found) else "holds under conditions" if any(f for f, _ in found) else "fails"
    )
    return Judgement(
        word, f"Minima in the slope, for little, some and much noise: {', '.join(str(n) for _, n in found)}."
    )
