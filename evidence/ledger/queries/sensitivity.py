"""Sensitivity to noise in one feature (section 6.2), and lists of λ."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..verdicts import all_of, any_of, below, interval_text, within
from ..views import Judgement, MissingResults, Results, View, at_bounds, over_views, query, views
from .trade import STABLE

if TYPE_CHECKING:
    import pandas as pd

FEATURES = range(1, 9)

LIST = (0.1, 0.001, 0.01)  # λ, λ₈ and α of section 6.2


@query
def noise_most(results: Results) -> Judgement:
    """At λ = 0.1 the sensitivity falls on five features or more; it does not if it rises on four or more."""

    def part(view: View) -> tuple[str, str]:
        changes = [view.share(f"s_{j}", (0.1, None, 0.01)) for j in FEATURES]
        sure = [below(change, 0) for change in changes]
        mean = sum(float(change.mean()) < 0 for change in changes)
        word = "holds" if sure.count("holds") >= 5 else "fails" if sure.count("fails") >= 4 else "not shown"
        beyond = f"beyond chance lower on {sure.count('holds')}, higher on {sure.count('fails')}"
        return word, f"lower on {mean} of 8 features on average; {beyond}"

    return over_views(results.table("sensitivity"), part)


@query
def noise_last(results: Results) -> Judgement:
    """Of the eight features the last has the largest sensitivity, in the MSE network of every seed."""
    import pandas as pd

    def part(view: View) -> tuple[str, str]:
        all_eight = pd.DataFrame({j: view.values(f"s_{j}", None) for j in FEATURES})
        largest = (all_eight.idxmax(axis=1) == 8).mean()
        word = "holds" if largest == 1 else "holds under conditions" if largest else "fails"
        means = all_eight.mean()
        return word, f"X₈ {means[8]:.2f}, next {means.drop(8).max():.2f}"

    return over_views(results.table("sensitivity"), part)


@query
def noise_list(results: Results) -> Judgement:
    """λ₈ = 0.001 cuts X₈'s sensitivity by a fifth or more, half of what is printed, and adds less than ``STABLE`` of error.

    Other lists have no say, as it is this one that is claimed; those that do as much at that cost are named.
    """

    def judge(bound: float, least: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            cut, cost = view.share("s_8", LIST), view.share("rmse", LIST)
            word = all_of([below(cut, -least), below(cost, bound)])
            return word, f"X₈ {interval_text(cut)}; RMSE {interval_text(cost)}"

        return over_views(results.table("sensitivity"), part)

    judgement = at_bounds(judge, (STABLE, "RMSE"), (0.2, "fall for X₈"))
    return judgement._replace(numbers=f"{judgement.numbers} {_tuned_lists(results)}")


def _tuned_lists(results: Results) -> str:
    """The lists of the tuning study that cut X₈'s sensitivity by a fifth at less than ``STABLE`` of error."""
    try:
        found = []
        for view in views(results.table("lists")):
            arms = view.lists()
            for arm in arms:
                cut, cost, n = view.share("s_8", arm), view.share("rmse", arm), len(arms) * view.beside
                if all_of([below(cut, -0.2, n), below(cost, STABLE, n)]) == "holds":
                    lam, last, alpha = arm
                    found.append(
                        f"{view.name}, λ = {lam:g}, λ₈ = {last:g}, α = {alpha:g}: X₈ {cut.mean():+.0%}, RMSE {cost.mean():+.1%}"
                    )
    except MissingResults as missing:
        return f"Other lists were not looked at, as {missing}."
    return f"Lists of the tuning study that do it: {'; '.join(found) or 'none'}."


@query
def noise_spill(results: Results) -> Judgement:
    """λ₈ = 0.001 moves the sensitivity of at least one other feature by 5 % or more."""

    def judge(bound: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            others = {j: view.share(f"s_{j}", LIST) for j in range(1, 8)}
            most = max(others, key=lambda j: abs(float(others[j].mean())))
            # "fails" to stay within is what is claimed
            words = [within(change, bound, len(others) * view.beside) for change in others.values()]
            word = "holds" if "fails" in words else "fails" if set(words) == {"holds"} else "not shown"
            return (
                word,
                f"{words.count('fails')} of 7 others; most X{'₁₂₃₄₅₆₇'[most - 1]}, {interval_text(others[most])}",
            )

        return over_views(results.table("sensitivity"), part)

    return at_bounds(judge, (0.05, "change"))


def _best_list(
    results: Results, cost: Callable[[View, tuple[float, float, float], int, float], str], bound: float, about: str
) -> Judgement:
    """Whether one of the lists cuts X₈'s sensitivity by a tenth or more at a cost within a bound."""

    def judge(bound: float, least: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            arms = view.lists()
            if not arms:
                raise MissingResults("the table has no list of λ")
            n = len(arms) * view.beside
            asked = [
                (partial(cost, view, arm, n, bound), partial(below, view.share("s_8", arm), -least, n)) for arm in arms
            ]
            words = [all_of(ask() for ask in both) for both in asked]
            return any_of(words), f"{words.count('holds')} of {len(arms)} lists"

        return over_views(results.table("lists"), part)

    return at_bounds(judge, (bound, about), (0.1, "fall for X₈"))


@query
def noise_tuning(results: Results) -> Judgement:
    """A list of those tried cuts X₈'s sensitivity by a tenth or more and keeps all others within a tenth."""

    def kept(view: View, arm: tuple[float, float, float], tests: int, bound: float) -> str:
        others = sorted((view.share(f"s_{j}", arm) for j in range(1, 8)), key=lambda change: -abs(change.mean()))
        return all_of(within(change, bound, tests) for change in others)  # those that move most are asked first

    return _best_list(results, kept, 0.1, "other features")


@query
def noise_moderate(results: Results) -> Judgement:
    """A list of those tried cuts X₈'s sensitivity by a tenth or more for less than 1 % of error."""

    def cost(view: View, arm: tuple[float, float, float], tests: int, bound: float) -> str:
        return below(view.share("rmse", arm), bound, tests)

    return _best_list(results, cost, 0.01, "RMSE")


@query
def list_performance(results: Results) -> Judgement:
    """A list of those tried has less error than MSE."""

    def part(view: View) -> tuple[str, str]:
        gaps = {arm: view.share("rmse", arm) for arm in view.lists()}
        if not gaps:
            raise MissingResults("the table has no list of λ")
        best = min(gaps.values(), key=lambda gap: float(gap.mean()))
        word = any_of([below(gap, 0, len(gaps) * view.beside) for gap in gaps.values()])
        return word, f"the best of {len(gaps)}: RMSE {interval_text(best)}"

    return over_views(results.table("lists"), part)


def _together(results: Results, *names: str) -> pd.DataFrame:
    """Tables as one, with the seeds that all have; runs that are in several count once."""
    import pandas as pd

    tables = [results.table(name) for name in names]
    seeds = set.intersection(*(set(table["seed"]) for table in tables))
    whole = pd.concat([table[table["seed"].isin(seeds)] for table in tables])
    return whole.drop_duplicates(["protocol", "lam", "lam_8", "alpha", "seed"])


@query
def list_others(results: Results) -> Judgement:
    """With λ₈ alone lowered to 0.001 the error leaves the bound of ``STABLE``, and with other λ for the other features it is back
    within it."""
    lam, last, alpha = LIST

    def judge(bound: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            cost = view.share("rmse", LIST)
            numbers = f"RMSE {interval_text(cost)} with the others left as they were"
            if below(cost, bound) != "fails":
                return ("fails" if below(cost, bound) == "holds" else "not shown"), numbers
            adjusted = [arm for arm in view.lists() if arm[0] != lam and arm[1:] == (last, alpha)]
            if not adjusted:
                raise MissingResults("the tables have no list with the same λ₈ and other λ beside it")
            costs = {arm: view.share("rmse", arm) for arm in adjusted}
            best = min(costs, key=lambda arm: float(costs[arm].mean()))
            word = any_of([below(one, bound, len(costs)) for one in costs.values()])
            return word, f"{numbers}, {interval_text(costs[best])} with λ = {best[0]:g} for them"

        return over_views(_together(results, "sensitivity", "lists"), part)

    return at_bounds(judge, (STABLE, "RMSE"))


@query
def list_sensitive(results: Results) -> Judgement:
    """A λ₈ that is a hundred times smaller moves the error further than one λ for all features that is a hundred times smaller."""

    def part(view: View) -> tuple[str, str]:
        one, every = (np.abs(view.share("rmse", arm, (0.1, None, 0.01))) for arm in (LIST, (1e-3, None, 0.01)))
        return below(
            every - one, 0
        ), f"RMSE by {one.mean():.1%} with one entry, by {every.mean():.1%} with one λ for all"

    return over_views(_together(results, "sensitivity", "smoothness"), part)
