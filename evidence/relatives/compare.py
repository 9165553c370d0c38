"""Paired comparisons of methods over tasks, as book/relatives_protocol.md has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from evidence.ledger.stats import student_mean

from .methods import UNITS
from .tasks import TASKS

Variant = tuple[str, str]
"""A method and its units."""

MSE: Variant = ("MSE", "standardised")
_SHARES = {
    "α = 1": ("Lai", "slope penalty"),
    "α = 10 %": ("Lai, α = 10 %", "slope penalty, α = 10 %"),
    "α = 1 %": ("Lai, α = 1 %", "slope penalty, α = 1 %"),
}
PAIRS = {
    label if units == UNITS[0] else f"{label}, {units} units": (*pair, units)
    for units in UNITS
    for label, pair in _SHARES.items()
}
"""Lai loss and the slope penalty in the same units and in as many batches."""

MEASURES = {
    "error at 80 % of MSE's slope": ("at_80", "rmse"),
    "error at 60 %": ("at_60", "rmse"),
    "error at 40 %": ("at_40", "rmse"),
    "slope at equal error": ("budget_slope", "slope"),
    "least error": ("rmse", None),
    "least error under noise": ("least_noisy", None),
    "least error under shifts": ("least_shifted", None),
}
"""What is compared in every pair: a column, and MSE's column that is 100 %, if it is another."""

CLOSEST = {
    "the penalty against noise": ("slope penalty", "input noise", UNITS[0]),
    "Lai loss against noise": ("Lai", "input noise", UNITS[0]),
    "differences against the penalty": ("finite differences", "slope penalty", UNITS[0]),
}
"""The methods of the best ranks at 60 % of MSE's slope, and Lai loss beside one of them."""

LEAST_SEEDS = 8
"""Of ten, that must reach a slope for a comparison at it."""


def saved(folder: Path, name: str = "relatives") -> pd.DataFrame:
    """A committed table of the comparison, "relatives" or "relatives_fronts", whose rows in other than standardised units have a file of their own."""
    return pd.concat([pd.read_csv(folder / f"{name}{end}.csv") for end in ("", "_units")], ignore_index=True)


def relative(table: pd.DataFrame, measure: str, to: str | None = None) -> pd.DataFrame:
    """Change against MSE of the same seed, mean over seeds: variants in rows, tasks in columns.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.relatives.choices.choices`.
    measure : str
        A column of it.
    to : str, optional
        MSE's column to compare with; ``measure`` itself by default.

    Returns
    -------
    DataFrame
        (value - MSE's) / MSE's; NaN where fewer than ``LEAST_SEEDS`` seeds, or all that there are, have a value.
    """
    tasks = table["task"].unique()
    variants = pd.MultiIndex.from_frame(table[["method", "units"]].drop_duplicates())
    found = pd.DataFrame(index=variants, columns=tasks, dtype=float)
    reference = _of(table, MSE, to or measure)
    needed = reference.groupby("task").size().clip(upper=LEAST_SEEDS)
    for variant in variants:
        changes = (_of(table, variant, measure) / reference - 1).dropna().groupby("task")
        found.loc[variant] = changes.mean()[changes.size() >= needed.reindex(changes.size().index)].reindex(tasks)
    return found


def differences(
    table: pd.DataFrame,
    measure: str,
    one: Variant,
    other: Variant,
    *,
    comparisons: int,
    to: str | None = None,
    same_rows: bool = False,
) -> pd.DataFrame:
    """``one`` less ``other``, in shares of MSE's value, with intervals corrected for the number of comparisons.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.relatives.choices.choices`. Less is better in every measure.
    measure : str
        A column of it.
    one, other : (method, units)
    comparisons : int
        How many the table is part of: the level is 1 - 0.05 / comparisons (Bonferroni).
    to : str, optional
        MSE's column that is 100 %; ``measure`` itself by default.
    same_rows : bool
        Widen the interval of a task whose seeds split the same rows: Student's takes seeds for independent. The variance of the mean is
        then 1/n + test rows per training row, in place of 1/n, times that of a seed (Nadeau and Bengio, 2003).

    Returns
    -------
    DataFrame
        A row for each task: ``mean``, ``low``, ``high``, ``seeds`` and ``word``: "better" or "worse" of ``one``, "not shown", or
        "not reached".
    """
    reference = _of(table, MSE, to or measure)
    gaps = ((_of(table, one, measure) - _of(table, other, measure)) / reference).dropna()
    by_task, needed = (
        {str(task): own for task, own in gaps.groupby("task")},
        reference.groupby("task").size().clip(upper=LEAST_SEEDS),
    )
    rows = {}
    for task in table["task"].unique():
        gap = by_task.get(task, gaps[:0])
        if len(gap) < max(2, needed[task]):
            rows[task] = (np.nan, np.nan, np.nan, len(gap), "not reached")
            continue
        mean, low, high = student_mean(gap.to_numpy(), level=1 - 0.05 / comparisons)
        if same_rows and task in TASKS:
            room = (high - mean) * (1 + len(gap) * TASKS[task].overlap) ** 0.5
            low, high = mean - room, mean + room
        word = "better" if high < 0 else "worse" if low > 0 else "not shown"
        rows[task] = (mean, low, high, len(gap), word)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "seeds", "word"])


def _of(table: pd.DataFrame, variant: Variant, measure: str) -> pd.Series:
    """A column of one variant, by task and seed."""
    method, units = variant
    return table[(table["method"] == method) & (table["units"] == units)].set_index(["task", "seed"])[measure]


def in_pairs(
    table: pd.DataFrame,
    pairs: Mapping[str, tuple[str, str, str]] = PAIRS,
    measures: Mapping[str, tuple[str, str | None]] = MEASURES,
    *,
    same_rows: bool = False,
) -> pd.DataFrame:
    """Two methods in the same units: a row for each pair, measure and task, corrected for all of them.

    In raw units, for the tasks that have them, the slope that is held equal is in raw units too. The error at 40 % has no such
    column, and no rows there.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.relatives.choices.choices`.
    pairs : dict
        From labels to (method, other method, units).
    measures : dict
        As ``MEASURES``.
    same_rows : bool
        As in :func:`differences`.

    Returns
    -------
    DataFrame
        ``pair``, ``measure``, ``task`` and the columns of :func:`differences`; ``word`` is said of the first method.
    """
    comparisons = len(pairs) * len(measures) * table["task"].nunique()
    found = []
    for pair, (one, other, units) in pairs.items():
        own = table[table["task"].isin(table.loc[table["units"] == units, "task"])]
        for name, (column, to) in measures.items():
            measure = column.replace("at_", "raw_") if units == "raw" else column
            if measure in own:
                rows = differences(
                    own, measure, (one, units), (other, units), comparisons=comparisons, to=to, same_rows=same_rows
                )
                found.append(rows.rename_axis("task").reset_index().assign(pair=pair, measure=name))
    return pd.concat(found, ignore_index=True)


def closest(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`in_pairs` of ``CLOSEST`` at 60 % of MSE's slope."""
    return in_pairs(table, CLOSEST, {"error at 60 %": MEASURES["error at 60 %"]})


def tally(words: pd.Series) -> dict[str, int]:
    """How often a method was better, was worse, and could be compared.

    Examples
    --------
    >>> tally(pd.Series(["worse", "not shown", "worse", "not reached"]))
    {'better': 0, 'worse': 2, 'compared': 3}
    """
    return {
        "better": int((words == "better").sum()),
        "worse": int((words == "worse").sum()),
        "compared": int((words != "not reached").sum()),
    }


def standardised(changes: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`relative` that are in standardised units, by method."""
    return changes[changes.index.get_level_values("units") == "standardised"].droplevel("units")


def ranked(changes: pd.DataFrame) -> pd.DataFrame:
    """Variants that every task has, by their mean rank over the tasks, with that rank and the mean change.

    Parameters
    ----------
    changes : DataFrame
        From :func:`relative`.

    Examples
    --------
    >>> changes = pd.DataFrame({"a": [0.0, -0.1, -0.2], "b": [0.0, -0.3, np.nan]}, index=["MSE", "one", "other"])
    >>> ranked(changes)["rank"].to_dict()
    {'one': 1.0, 'MSE': 2.0}
    """
    whole = changes.dropna()
    return pd.DataFrame({"rank": whole.rank().mean(axis=1), "change": whole.mean(axis=1)}).sort_values(
        "rank", kind="stable"
    )
