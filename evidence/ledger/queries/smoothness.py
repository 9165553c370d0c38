"""Error, variance and slopes over λ, version 1's section 4 and version 2's section 6.1, and α against λ (version 1's section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from evidence.runs.experiments import EXPERIMENTS
from lai.factor import check_choice

from ..paper import V1_SAMPLING, V1_SMOOTHNESS, V2_SMOOTHNESS
from ..stats import judge_steps
from ..tables import ADHERES, EVALUATIONS, runs_of
from ..verdicts import all_of, any_of, below, interval_text, within
from ..views import (
    Judge,
    Judgement,
    MissingResults,
    Part,
    Results,
    Version,
    View,
    at_bounds,
    over_versions,
    over_views,
    query,
    together,
    views,
)
from .trade import ACTS

if TYPE_CHECKING:
    import pandas as pd

SIMILAR = (0.05, 0.10)
"""How near in error and in variance two arms must be to be called similar: the paper's pair is 3.4 % and 3.6 % apart."""


def _metric(metric: str) -> str:
    return {"rmse": "RMSE", "variance": "variance", "rms_k": "slope"}[metric]


def _steps(metric: str, sign: int, wanted: Iterable[float | None], alpha: float) -> Judge:
    def part(view: View) -> tuple[str, str]:
        lams = view.lams(wanted, alpha)
        pairs = list(zip(lams[1:], lams, strict=False))
        steps = [view.change(metric, (low, None, alpha), (high, None, alpha)) for low, high in pairs]
        means = [f"{view.values(metric, lam, None, alpha).mean():.3f}" for lam in lams]
        at = ", ".join(f"{lam:g}" for lam in lams)
        return judge_steps(steps, sign), f"{_metric(metric)} at λ = {at}: {', '.join(means)}"

    return part


def _adheres(alpha: float, bound: float = ADHERES, least: float = ACTS) -> Judge:
    def part(view: View) -> tuple[str, str]:
        arm = (0.1, None, alpha)
        gap, slopes = view.share("rmse", arm), view.share("rms_k", arm)
        numbers = f"RMSE {interval_text(gap, '+.2%')} of MSE's, slopes {interval_text(slopes)}"
        acts = below(slopes, -least) == "holds" or len(gap) < 2  # one seed leaves both open
        return within(gap, bound) if acts else "not tested", numbers  # where it does not act, a small gap says nothing

    return part


def _adheres_at_bounds(table: pd.DataFrame, alpha: float) -> Judgement:
    return at_bounds(
        lambda bound, least: over_views(table, _adheres(alpha, bound, least)),
        (ADHERES, "RMSE"),
        (ACTS, "fall of the slopes"),
    )


def _beats(table: pd.DataFrame, alpha: float) -> Judgement:
    def part(view: View) -> tuple[str, str]:
        gap = view.change("rmse", (0.1, None, alpha))
        lower = f"lower in {int((gap < 0).sum())} of {len(gap)} seeds"
        return below(gap, 0, view.beside), f"RMSE {interval_text(gap, '+.4f')} against MSE, {lower}"

    return over_views(table, part)


@query
def v1_loss_rises(results: Results) -> Judgement:
    """From each λ of version 1 to the next smaller one the error rises, α = 1."""
    return over_views(results.table("strength"), _steps("rmse", +1, V1_SMOOTHNESS, 1.0))


@query
def v1_var_falls(results: Results) -> Judgement:
    """From each λ of version 1 to the next smaller one the variance falls, α = 1."""
    return over_views(results.table("strength"), _steps("variance", -1, V1_SMOOTHNESS, 1.0))


@query
def v1_adheres(results: Results) -> Judgement:
    """Where λ = 0.1 lowers the slopes at α = 1 (``ACTS``), the error is within ``ADHERES`` of MSE's."""
    return _adheres_at_bounds(results.table("strength"), 1.0)


@query
def v1_beats(results: Results) -> Judgement:
    """At λ = 0.1 and α = 1 the error is below MSE's."""
    return _beats(results.table("strength"), 1.0)


def _moved(curves: pd.DataFrame, late: int, early: int, width: int) -> pd.DataFrame:
    """Mean validation error of each protocol and arm over ``width`` epochs up to ``late`` and up to ``early``, from 1.

    ``room`` is half of Student's interval of their difference, from the scatter of the epochs of either, 95 % for all arms of a protocol.
    """
    import pandas as pd
    from scipy.stats import t

    epoch = curves["epoch"] + 1  # as people count them

    def block(last: int) -> pd.DataFrame:
        rows = curves[(epoch > last - width) & (epoch <= last)]
        if rows.empty:
            raise MissingResults(f"the curves have no epochs up to {last}")
        return rows.groupby(["protocol", "arm"], sort=False)["mean"].agg(["mean", "var", "count"])

    one, two = block(late), block(early)
    arms = one.groupby("protocol")["mean"].transform("size")
    error = (one["var"] / one["count"] + two["var"] / two["count"]) ** 0.5
    room = error * t.ppf(1 - 0.025 / arms, one["count"] + two["count"] - 2)
    return pd.DataFrame({"late": one["mean"], "early": two["mean"], "room": room})


def _settled(means: pd.DataFrame, bound: float) -> Judgement:
    """Whether, in each protocol, every arm's mean error moves by less than a bound."""
    parts = []
    for protocol, rows in means.groupby("protocol", sort=False):
        own = rows.droplevel("protocol")
        moved, room = own["late"] / own["early"] - 1, own["room"] / own["early"]
        least, most = moved.abs() - room, moved.abs() + room
        word = "fails" if (least > bound).any() else "holds" if (most < bound).all() else "not shown"
        arm = str((least if word == "fails" else most).idxmax())
        early, late = own.loc[arm, ["early", "late"]]
        numbers = f"most in {arm}, RMSE {early:.4f} and then {late:.4f}, {moved[arm]:+.2%} ± {room[arm]:.2%}"
        parts.append(Part(str(protocol), word, numbers))
    return together(parts)


@query
def v1_converged(results: Results) -> Judgement:
    """Over the last 50 epochs every arm's mean validation error is within ``ADHERES`` of that of the 50 before."""
    curves = results.table("strength_curves")
    last = int(curves["epoch"].max()) + 1
    return at_bounds(partial(_settled, _moved(curves, last, last - 50, 50)), (ADHERES, "change"))


@query
def pretrain_stable(results: Results) -> Judgement:
    """With MSE alone the mean validation error of the last ten epochs is within ``ADHERES`` of that at the end of pre-training."""
    curves = results.table("smoothness_curves")
    plan = EXPERIMENTS["smoothness"]
    means = _moved(curves[curves["arm"] == "MSE"], plan.pretrain_epochs + plan.epochs, plan.pretrain_epochs, 10)
    return at_bounds(partial(_settled, means), (ADHERES, "change"))


@query
def fatal(results: Results) -> Judgement:
    """Without pre-training, at λ = 0.1 and α = 1, the error is half as large again as MSE's, or more."""

    def judge(bound: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            cost = view.share("rmse", (0.1, None, 1.0))
            return below(-cost, -bound), f"RMSE {interval_text(cost)}"

        return over_views(results.table("strength"), part)

    return at_bounds(judge, (0.5, "RMSE"))


@query
def overfitting(results: Results) -> Judgement:
    """At one of the paper's λ at least validation and training error lie closer together than with MSE, and the validation error
    is less than ``ADHERES`` above MSE's."""

    def judge(bound: float) -> Judgement:
        def part(view: View, version: Version, places: int) -> tuple[str, str]:
            words, numbers = [], []
            for lam in view.lams(version.printed, version.alpha):
                arm = (lam, None, version.alpha)
                gap = view.change("rmse", arm) - view.change("rmse_train", arm)
                words.append(all_of([below(gap, 0, places), below(view.share("rmse", arm), bound, places)]))
                numbers.append(f"λ = {lam:g}: {interval_text(gap, '+.4f')}")
            return any_of(words), f"gap against MSE's at {'; '.join(numbers)}"

        return over_versions(results, part)

    return at_bounds(judge, (ADHERES, "RMSE"))


@query
def equivalence(results: Results) -> Judgement:
    """α = 0.01 with λ = 1e-4 is within ``SIMILAR`` of α = 1 with λ = 1e-3, in error and in variance."""
    (few, many) = ((lam, None, alpha) for alpha, lam in sorted(V1_SAMPLING))

    def judge(bound: float) -> Judgement:
        def part(view: View) -> tuple[str, str]:
            gaps = [view.share(metric, few, many) for metric in ("rmse", "variance")]
            rooms = [room * bound / SIMILAR[0] for room in SIMILAR]
            words = [within(gap, room) for gap, room in zip(gaps, rooms, strict=True)]
            return all_of(words), f"RMSE {interval_text(gaps[0])}; variance {interval_text(gaps[1])}"

        return over_views(results.table("sampling"), part)

    return at_bounds(judge, (SIMILAR[0], "RMSE, and on the variance in proportion,"))


SECTION_6: dict[str, Judge] = {
    "v2-loss-rises": _steps("rmse", +1, V2_SMOOTHNESS, 0.01),
    "v2-var-falls": _steps("variance", -1, V2_SMOOTHNESS, 0.01),
    "v2-adheres": _adheres(0.01),
    "slopes-fall": _steps("rms_k", -1, V2_SMOOTHNESS, 0.01),
}
"""How the ``SMOOTHNESS_CLAIMS`` are judged in one protocol and evaluation, at the λ that version 2 prints."""


def smoothness_verdicts(table: pd.DataFrame, protocol: str, *, evaluation: str = "averaged") -> dict[str, str]:
    """``SMOOTHNESS_CLAIMS`` judged on one protocol's runs in one evaluation, by the very rules of the queries (``SECTION_6``).

    - v2-loss-rises: from each λ of the paper to the next smaller one, paired by seed;
    - v2-var-falls: likewise;
    - v2-adheres: the interval of the paired difference in RMSE between λ = 0.1 and MSE lies within ``ADHERES`` of MSE's;
      "not tested" if λ is not shown to lower the slopes by ``ACTS``, as a small gap then says nothing;
    - slopes-fall: as v2-var-falls, for ``rms_k``.

    Returns
    -------
    dict from claim to "holds", "fails", "not shown" (the seeds do not settle it) or "not tested" (no two λ, or for
    v2-adheres none that acts)

    Source: paper, version 2, section 6.1; the rules are in :func:`evidence.ledger.stats.judge_steps`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> lam, seed = [np.nan, np.nan, 0.1, 0.1], [0, 1, 0, 1]
    >>> runs = pd.DataFrame({"protocol": "sound", "lam": lam, "seed": seed, "alpha": 0.01, "variance": 1.0})
    >>> runs = runs.assign(rmse=[0.5, 0.6, 0.6, 0.7], rms_k=[1.0, 1.0, 0.5, 0.5])
    >>> smoothness_verdicts(runs, "sound")
    {'v2-loss-rises': 'not tested', 'v2-var-falls': 'not tested', 'v2-adheres': 'fails', 'slopes-fall': 'not tested'}
    """
    check_choice("evaluation", evaluation, tuple(EVALUATIONS))
    (view,) = (one for one in views(runs_of(table, protocol)) if one.evaluation == evaluation)
    found = dict.fromkeys(SECTION_6, "not tested")
    for claim, judge in SECTION_6.items():
        with suppress(MissingResults):
            found[claim], _ = judge(view)
    return found


@query
def v2_loss_rises(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the error rises, α = 0.01."""
    return over_views(results.table("smoothness"), SECTION_6["v2-loss-rises"])


@query
def v2_var_falls(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the variance falls, α = 0.01."""
    return over_views(results.table("smoothness"), SECTION_6["v2-var-falls"])


@query
def slopes_fall(results: Results) -> Judgement:
    """From each λ of version 2 to the next smaller one the root mean square slope falls, α = 0.01."""
    return over_views(results.table("smoothness"), SECTION_6["slopes-fall"])


@query
def v2_adheres(results: Results) -> Judgement:
    """Where λ = 0.1 lowers the slopes at α = 0.01 (``ACTS``), the error is within ``ADHERES`` of MSE's."""
    return _adheres_at_bounds(results.table("smoothness"), 0.01)


@query
def v2_beats(results: Results) -> Judgement:
    """At λ = 0.1 and α = 0.01 the error is below MSE's."""
    return _beats(results.table("smoothness"), 0.01)
