"""The figures that the paper prints: whether runs may give them, and whether they agree with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evidence.runs.experiments import EXPERIMENTS

from ..paper import V1_SAMPLING, V1_SMOOTHNESS, V2_LIST_RMSE, V2_SENSITIVITY, V2_SMOOTHNESS
from ..verdicts import all_of
from ..views import TRADES, Judge, Judgement, Part, Results, View, over_views, query, together
from .sensitivity import FEATURES, LIST

if TYPE_CHECKING:
    import pandas as pd


def judge_figure(printed: float, runs: np.ndarray | pd.Series, span: float, tests: int = 1) -> str:
    """Whether a printed figure is one that a run may give.

    "holds" if it lies in the 95 % prediction interval of one more run (2.37 standard deviations for ten seeds) and that interval is
    no wider than ``span``, so that noise alone lets no figure pass; "fails" if it lies outside, at 95 % for ``tests`` figures
    together; else "not shown".
    """
    from scipy.stats import t

    n = len(runs)
    if n < 2:
        return "not shown"
    spread = float(runs.std(ddof=1)) * (1 + 1 / n) ** 0.5
    one, all_tests = (spread * float(t.ppf(1 - 0.025 / k, n - 1)) for k in (1, tests))
    off = abs(printed - float(runs.mean()))
    return "fails" if off > all_tests else "holds" if off <= one and 2 * one <= span else "not shown"


@dataclass(frozen=True)
class Columns:
    """Columns of a table of the paper and our arms for them, the control (MSE) first."""

    arms: Mapping[str, tuple[float | None, ...]]
    printed: Mapping[str, Sequence[float]]
    metrics: Sequence[str]
    shares: bool = False  # differences to the control as shares of it

    def judge_column(self, view: View, arm: str, column: str, tests: int = 1) -> tuple[list[str], list[str]]:
        """What one arm's runs say of a column's figures, and of its differences to the control (:func:`judge_figure`).

        The span of a figure is that from the least to the largest printed in its row. The control itself has no differences. A
        column with fewer figures than there are metrics has the first ones.
        """
        control = next(iter(self.arms))
        figures, differences = [], []
        change = View.share if self.shares else View.change
        for i, (metric, printed) in enumerate(zip(self.metrics, self.printed[column], strict=False)):
            row = [figures[i] for figures in self.printed.values() if i < len(figures)]
            span, base = max(row) - min(row), self.printed[control][i]
            figures.append(judge_figure(printed, view.values(metric, *self.arms[arm]), span, tests))
            if arm != control:
                difference, unit = printed - base, base if self.shares else 1.0
                runs = change(view, metric, self.arms[arm], self.arms[control])
                differences.append(judge_figure(difference / unit, runs, span / unit, tests))
        return figures, differences

    def wrong_pairs(self, wanted: Sequence[str]) -> list[tuple[str, str]]:
        """A wanted arm with another column, and another arm with a wanted column."""
        return [(a, c) for a in self.arms for c in self.printed if a != c and (a in wanted or c in wanted)]

    def judge(self, wanted: Sequence[str]) -> Judge:
        """Whether our runs may give the wanted columns, and would not give other columns as well.

        "holds" if all figures and differences do, and fewer than half of the wrong pairs contradict none; "fails" if one fails;
        else "not shown".
        """
        tests = sum(len(self.printed[name]) * (1 if name == next(iter(self.arms)) else 2) for name in wanted)

        def part(view: View) -> tuple[str, str]:
            own = [self.judge_column(view, name, name, tests) for name in wanted]
            figures, differences = ([word for pair in own for word in pair[i]] for i in (0, 1))
            wrong = self.wrong_pairs(wanted)
            passing = sum("fails" not in sum(self.judge_column(view, *pair, tests), []) for pair in wrong)
            tells = passing < len(wrong) / 2
            word = all_of(figures + differences)
            told = " and ".join(
                f"{words.count('holds')} of {len(words)} printed {name} agree, {words.count('fails')} contradicted"
                for name, words in (("figures", figures), ("differences to MSE", differences))
                if words
            )
            told += f"; of {len(wrong)} columns wrongly paired {passing} are not contradicted"
            told += "" if tells else ": the test does not tell columns apart"
            return "not shown" if word == "holds" and not tells else word, told

        return part


def _columns(printed: Mapping[float | None, tuple[float, float]], alpha: float) -> Columns:
    """Errors and variances over λ."""
    names = {lam: "MSE" if lam is None else f"λ = {lam:g}" for lam in printed}
    arms = {name: (lam, None, alpha) for lam, name in names.items()}
    return Columns(arms, {names[lam]: pair for lam, pair in printed.items()}, ("rmse", "variance"))


def _figures(table: pd.DataFrame, columns: Columns, wanted: Sequence[str] = ()) -> Judgement:
    return over_views(table, columns.judge(wanted or list(columns.arms)), "published")


@query
def v1_figures(results: Results) -> Judgement:
    """Version 1's printed errors and variances, and their differences to MSE's, are ones that runs of the published protocol may
    give, and those of another column are not (:class:`Columns`)."""
    return _figures(results.table("strength"), _columns(V1_SMOOTHNESS, 1.0))


@query
def v2_figures(results: Results) -> Judgement:
    """Version 2's printed errors and variances, judged likewise."""
    return _figures(results.table("smoothness"), _columns(V2_SMOOTHNESS, 0.01))


@query
def sampling_figures(results: Results) -> Judgement:
    """The column of version 1's section 5 that its section 4 does not have, judged as ``v1_figures`` among the columns of both."""
    first = _columns(V1_SMOOTHNESS, 1.0)
    lams = {"MSE": None, "λ = 0.001": 1e-3}
    arms = {name: (lam, None, 1.0) for name, lam in lams.items()}
    printed = {name: first.printed[name] for name in lams}
    few = (0.01, 1e-4)
    name = "λ = 0.0001, α = 0.01"
    columns = Columns({**arms, name: (few[1], None, few[0])}, {**printed, name: V1_SAMPLING[few]}, first.metrics)
    return _figures(results.table("sampling"), columns, [name])


_ROWS = Columns(
    {"MSE": (None,), "λ = 0.1": (0.1, None, 0.01), "λ₈ = 0.001": LIST},
    {
        "MSE": V2_SENSITIVITY["mse"],
        "λ = 0.1": V2_SENSITIVITY["lam = 1e-1"],
        "λ₈ = 0.001": V2_SENSITIVITY["lam_8 = 1e-3"],
    },
    [f"s_{j}" for j in FEATURES],
    shares=True,
)
"""The sensitivities of section 6.2, row by row."""


@query
def noise_figures(results: Results) -> Judgement:
    """The printed sensitivities of MSE are ones that runs of the published protocol may give, and other rows are not."""
    return _figures(results.table("sensitivity"), _ROWS, ["MSE"])


@query
def noise_lam_figures(results: Results) -> Judgement:
    """The printed sensitivities at λ = 0.1, and the changes against MSE, judged likewise."""
    return _figures(results.table("sensitivity"), _ROWS, ["λ = 0.1"])


@query
def noise_list_figures(results: Results) -> Judgement:
    """The printed sensitivities with λ₈ = 0.001, the error, and the changes against MSE, judged likewise."""
    errors = {"MSE": V2_SMOOTHNESS[None][0], "λ = 0.1": V2_SMOOTHNESS[0.1][0], "λ₈ = 0.001": V2_LIST_RMSE}
    printed = {row: (*_ROWS.printed[row], error) for row, error in errors.items()}
    columns = Columns(_ROWS.arms, printed, [*_ROWS.metrics, "rmse"], shares=True)
    return _figures(results.table("sensitivity"), columns, ["λ₈ = 0.001"])


@query
def change_row(results: Results) -> Judgement:
    """Each printed change of section 6.2, of errors too, follows from the two printed rows above it, given their rounding."""
    printed = {
        "lam = 1e-1": (-0.16, -0.53, +0.52, -1.74, +1.78, -0.55, -0.71, -0.30, -0.07),
        "lam_8 = 1e-3": (-4.17, +5.16, -8.75, -15.80, +12.99, -2.70, -32.96, -41.81, +2.40),
    }
    errors = {"mse": V2_SMOOTHNESS[None][0], "lam = 1e-1": V2_SMOOTHNESS[0.1][0], "lam_8 = 1e-3": V2_LIST_RMSE}
    rows = {name: (*V2_SENSITIVITY[name], error) for name, error in errors.items()}
    half = 5e-5  # of the last digit
    right = [
        (new - half) / (old + half) - 5e-5 <= 1 + change / 100 <= (new + half) / (old - half) + 5e-5
        for arm, changes in printed.items()
        for old, new, change in zip(rows["mse"], rows[arm], changes, strict=True)
    ]
    word = "holds" if all(right) else "holds under conditions" if any(right) else "fails"
    return Judgement(word, f"{sum(right)} of {len(right)} printed changes.")


@query
def one_seed(results: Results) -> Judgement:
    """Each printed gap between MSE and a λ is more than the error of MSE moves, with the same seed and the same loss, if the run
    begins with weights that differ by one part in a million (tools/rounding.py); the published protocol after its last step."""
    runs = results.table("rounding")
    runs = runs[runs["arm"].eq("MSE") & runs["protocol"].eq("published")]
    parts = []
    for version in TRADES:
        plan = EXPERIMENTS[version.table]
        again = runs[runs["epochs"].eq(plan.pretrain_epochs + plan.epochs)]
        if again.empty:
            parts.append(Part(version.name, "not tested", "rounding.csv has no such run"))
            continue
        moved = float((again["rmse_last_again"] - again["rmse_last"]).abs().max())
        gaps = {
            lam: figures[0] - version.printed[None][0] for lam, figures in version.printed.items() if lam is not None
        }
        words = ["holds" if abs(gap) > moved else "fails" for gap in gaps.values()]
        told = "; ".join(f"λ = {lam:g}: {gap:+.4f}" for lam, gap in gaps.items())
        parts.append(
            Part(version.name, all_of(words), f"gaps printed at {told}; rounding moves MSE by up to {moved:.2g}")
        )
    return together(parts, int(runs["seed"].nunique()))
