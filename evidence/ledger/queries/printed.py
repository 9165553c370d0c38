"""The figures that the paper prints: whether runs may give them, and whether they agree with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evidence.runs.experiments import EXPERIMENTS

from ..paper import V1_SAMPLING, V1_SMOOTHNESS, V2_LIST_RMSE, V2_SENSITIVITY, V2_SMOOTHNESS
from ..views import Judge, Judgement, MissingResults, Results, Version, View, over_versions, over_views, query, some_of
from .sensitivity import FEATURES, LIST

if TYPE_CHECKING:
    import pandas as pd


def _near(printed: float, runs: np.ndarray | pd.Series) -> bool:
    """Whether a printed figure is one that a run may give: within two standard deviations of the mean."""
    return bool(abs(printed - runs.mean()) <= 2 * runs.std(ddof=1))


@dataclass(frozen=True)
class Columns:
    """Columns of a table of the paper and our arms for them, the control (MSE) first."""

    arms: Mapping[str, tuple[float | None, ...]]
    printed: Mapping[str, Sequence[float]]
    metrics: Sequence[str]
    shares: bool = False  # differences to the control as shares of it

    def matches(self, view: View, arm: str, column: str) -> tuple[list[bool], list[bool]]:
        """Which figures of a column one arm's runs may give, and which differences to the control.

        The control itself has no differences. A column with fewer figures than there are metrics has the first ones.
        """
        control = next(iter(self.arms))
        figures, differences = [], []
        change = View.share if self.shares else View.change
        for metric, printed, base in zip(self.metrics, self.printed[column], self.printed[control], strict=False):
            figures.append(_near(printed, view.values(metric, *self.arms[arm])))
            if arm != control:
                difference = printed / base - 1 if self.shares else printed - base
                differences.append(_near(difference, change(view, metric, self.arms[arm], self.arms[control])))
        return figures, differences

    def judge(self, wanted: Sequence[str]) -> Judge:
        """Whether our runs may give the wanted columns, and would not give other columns as well.

        "holds" if all figures and differences are matched, and of the wrong pairings, a wanted arm with another column or another
        arm with a wanted column, fewer than half; "fails" if no figure is.
        """

        def part(view: View) -> tuple[str, str]:
            own = [self.matches(view, name, name) for name in wanted]
            figures, differences = ([one for pair in own for one in pair[i]] for i in (0, 1))
            wrong = [(arm, column) for arm in self.arms for column in self.printed if arm != column]
            wrong = [pair for pair in wrong if set(pair) & set(wanted)]
            passed = [self.matches(view, *pair) for pair in wrong]
            alone = sum(all(one) for one, _ in passed)
            passing = sum(all(one) and all(two) for one, two in passed)
            tells = passing < len(wrong) / 2
            word = "holds" if all(figures + differences) and tells else "holds under conditions"
            told = f"{sum(figures)} of {len(figures)} printed figures"
            told += f" and {sum(differences)} of {len(differences)} printed differences to MSE" if differences else ""
            told += f" are ones that a run may give; of {len(wrong)} columns wrongly paired {passing} pass in full"
            told += f", {alone} by the figures alone" if alone != passing else ""
            told += "" if tells else ": the test does not tell columns apart"
            return word if any(figures) else "fails", told

        return part


def _columns(printed: Mapping[float | None, tuple[float, float]], alpha: float) -> Columns:
    """Errors and variances over λ."""
    names = {lam: "MSE" if lam is None else f"λ = {lam:g}" for lam in printed}
    arms = {name: (lam, None, alpha) for lam, name in names.items()}
    return Columns(arms, {names[lam]: pair for lam, pair in printed.items()}, ("rmse", "variance"))


def _figures(table: pd.DataFrame, columns: Columns, wanted: Sequence[str] = ()) -> Judgement:
    return over_views(table, columns.judge(wanted or list(columns.arms)), ("published",))


@query
def v1_figures(results: Results) -> Judgement:
    """Version 1's printed errors and variances, and their differences to MSE's, are ones that runs of the published protocol may
    give, and those of another column are not."""
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
    """Each printed gap between MSE and a λ is more than another seed, or a rounding of the weights, makes in the published protocol.

    More than two standard deviations of the paired difference over seeds, so that one seed gives its sign; and more than
    the error of MSE moves if the same run begins with weights that differ by one part in a million (tools/rounding.py).
    """
    rounding = results.table("rounding")
    rounding = rounding[rounding["arm"] == "MSE"]

    def part(view: View, version: Version, places: int) -> tuple[str, str]:
        metric = "rmse_running" if view.running else "rmse"
        plan = EXPERIMENTS[version.table]
        again = rounding[
            rounding["protocol"].eq(view.protocol) & rounding["epochs"].eq(plan.pretrain_epochs + plan.epochs)
        ]
        if again.empty:
            raise MissingResults(f"rounding.csv has no run of {view.protocol}, {version.name}")
        moved = (again[f"{metric}_again"] - again[metric]).abs().max()
        words, numbers = [], []
        for lam in view.lams(version.printed, version.alpha):
            gap = version.printed[lam][0] - version.printed[None][0]
            spread = float(view.change("rmse", (lam, None, version.alpha)).std(ddof=1))
            words.append("fails" if abs(gap) <= 2 * spread or abs(gap) <= moved else "holds")
            numbers.append(f"λ = {lam:g}: {gap:+.4f}, over seeds ± {spread:.4f}")
        return some_of(words), f"gaps printed at {'; '.join(numbers)}; rounding moves MSE by up to {moved:.2g}"

    return over_versions(results, part, protocols=("published",))
