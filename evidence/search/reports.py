"""How near each recipe and each variant of the search comes to the paper's figures, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from evidence.ledger.paper import V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.queries.printed import judge_figure
from evidence.ledger.stats import judge_steps, paired
from evidence.ledger.verdicts import all_of

READOUTS = {"exact": ("rmse", "variance"), "running": ("rmse_running", "variance_running")}
"""Which statistics BatchNorm has when the search reads a network out, and the columns that hold the results."""

NEAR = 2.0
"""A recipe is near the paper's MSE figures if its distance is at most this many rulers."""

SAME_PATTERN = 1.5
"""... and if its sensitivities are the paper's up to one common factor and this factor typically."""


def rulers(table: pd.DataFrame, *, readout: str = "exact") -> tuple[float, float]:
    """What a difference in RMSE and in variance is measured by: the median recipe's standard deviation over seeds.

    One ruler for all recipes: by its own spread a recipe could come near by being erratic.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_mse`, one read-out epoch.
    readout : "exact" or "running"

    Returns
    -------
    (float, float)
        In the units of the target, and squared.
    """
    spread = table.groupby("recipe")[list(READOUTS[readout])].std()
    return float(spread.iloc[:, 0].median()), float(spread.iloc[:, 1].median())


def pattern(own: Sequence[float] | np.ndarray, printed: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Sensitivities compared as a pattern, as the paper does not say how much noise it added.

    Parameters
    ----------
    own, printed : sequences of d positive numbers

    Returns
    -------
    (float, float)
        The typical factor, 1 or more, by which single features are off once a common factor is taken out (the root
        mean square of the logarithms), and the common factor itself, own over printed.

    Examples
    --------
    >>> pattern([2.0, 4.0], [1.0, 2.0])
    (1.0, 2.0)
    >>> round(pattern([4.0, 1.0], [1.0, 1.0])[0], 6)
    2.0
    """
    logs = np.log(np.asarray(own, dtype=float)) - np.log(np.asarray(printed, dtype=float))
    common = logs.mean()
    return float(np.exp(np.sqrt(np.square(logs - common).mean()))), float(np.exp(common))


def rank_recipes(
    table: pd.DataFrame,
    *,
    readout: str = "exact",
    epoch: int | None = None,
    target: tuple[float, float] = V2_SMOOTHNESS[None],
    ruler: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Recipes by their distance to the paper's MSE figures, the nearest first.

    The distance is the root mean square of two differences, mean RMSE and mean variance less the printed ones, each
    in rulers (:func:`rulers`).

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_mse`.
    readout : "exact" or "running"
    epoch : int, optional
        Of the read-out; default: the last.
    target : (float, float)
        The printed RMSE and variance.
    ruler : (float, float), optional
        Default: from this table.

    Returns
    -------
    DataFrame
        A row a recipe: ``family``, ``rmse`` and ``variance`` (means over seeds) with ``rmse_sd`` and ``variance_sd``, ``z_rmse`` and
        ``z_variance`` (differences in rulers), ``distance``, ``pattern`` (:func:`pattern`), and ``near``: whether distance and
        pattern are at most ``NEAR`` and ``SAME_PATTERN``. A recipe with a seed that is not finite has distance infinity.
    """
    runs = table[table["epoch"] == (table["epoch"].max() if epoch is None else epoch)]
    if runs.empty:
        raise ValueError(f"epoch = {epoch}: the table was read out at {sorted(set(table['epoch']))}")
    columns = READOUTS[readout]
    scale = rulers(runs, readout=readout) if ruler is None else ruler
    rows = {}
    for recipe, group in runs.groupby("recipe", sort=False):
        row: dict[str, object] = {"family": group["family"].iloc[0]}
        z = []
        for name, column, value, unit in zip(("rmse", "variance"), columns, target, scale, strict=True):
            row[name], row[f"{name}_sd"] = group[column].mean(skipna=False), group[column].std()
            z.append((group[column].mean(skipna=False) - value) / unit)
            row[f"z_{name}"] = z[-1]
        distance = math.sqrt((z[0] ** 2 + z[1] ** 2) / 2)
        row["distance"] = distance if math.isfinite(distance) else math.inf
        own = group[[f"s_{j}" for j in range(1, 9)]].mean().to_numpy()
        factor = pattern(own, V2_SENSITIVITY["mse"])[0]
        row["pattern"], row["near"] = factor, distance <= NEAR and factor <= SAME_PATTERN
        rows[recipe] = row
    return pd.DataFrame(rows).T.infer_objects().sort_values("distance", kind="stable")


def both_readouts(table: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """:func:`rank_recipes` under both read-outs, as the paper does not say which it has: the order is by their mean.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_mse`.
    options
        Of :func:`rank_recipes`, but for ``readout``; ``ruler`` is a mapping from read-out to ruler.

    Returns
    -------
    DataFrame
        A row a recipe: ``family``, ``exact`` and ``running`` (distances), ``distance`` (their mean), ``pattern``, ``row``:
        whether both distances are at most ``NEAR``, and ``near``: whether the pattern is the paper's as well.
    """
    ruler = options.pop("ruler", None) or {}
    sides = {name: rank_recipes(table, readout=name, ruler=ruler.get(name), **options) for name in READOUTS}
    out = sides["exact"][["family", "pattern"]].copy()
    for name, side in sides.items():
        out[name] = side["distance"]
    out["distance"] = out[list(sides)].mean(axis=1)
    out["row"] = (out[list(sides)] <= NEAR).all(axis=1)
    out["near"] = out["row"] & (out["pattern"] <= SAME_PATTERN)
    return out.sort_values("distance", kind="stable")


FINALISTS = 5
"""How many recipes are trained again with fresh seeds, at most."""


def finalists_of(first: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the recipes that are near the paper's MSE figures, and of those that are but for their sensitivities.

    Parameters
    ----------
    first : DataFrame
        From :func:`evidence.search.run.search_mse`.

    Returns
    -------
    (list of str, list of str)
        The nearest first; at most ``FINALISTS`` of each.
    """
    ranked = both_readouts(first)
    near, rivals = ranked.index[ranked["near"]], ranked.index[ranked["row"] & ~ranked["near"]]
    return near[:FINALISTS].tolist(), rivals[:FINALISTS].tolist()


def both_rulers(first: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """:func:`rulers` of the first stage's last read-out, for each evaluation."""
    last = first[first["epoch"] == first["epoch"].max()]
    return {name: rulers(last, readout=name) for name in READOUTS}


def chosen_of(first: pd.DataFrame, fresh: pd.DataFrame) -> str:
    """The finalist that is nearest with its fresh seeds, in the first stage's rulers."""
    return str(both_readouts(fresh, ruler=both_rulers(first)).index[0])


def judge_row(runs: pd.DataFrame, target: tuple[float, float], *, tests: int = 1) -> str:
    """Whether a printed error and variance are ones that a run of a recipe may give, under both evaluations.

    Each is judged as the ledger judges printed figures (:func:`evidence.ledger.queries.printed.judge_figure`), so that a recipe
    does not pass by being erratic: the span is that of version 2's four columns.

    Parameters
    ----------
    runs : DataFrame
        Seeds of one recipe.
    target : (float, float)
        RMSE and variance.
    tests : int
        Figures that are judged together, for "fails".

    Returns
    -------
    "holds", "fails" or "not shown"
    """
    spans = [max(row) - min(row) for row in zip(*V2_SMOOTHNESS.values(), strict=True)]
    return all_of(
        judge_figure(printed, runs[column], span, tests)
        for columns in READOUTS.values()
        for column, printed, span in zip(columns, target, spans, strict=True)
    )


def lai_steps(table: pd.DataFrame, variant: str, *, readout: str = "exact", tests: int = 1) -> dict[str, str]:
    """Version 2's two orderings judged on one variant, paired by seed: see :func:`evidence.ledger.stats.judge_steps`.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_lai`.
    variant : str
    readout : "exact" or "running"
    tests : int
        As in :func:`evidence.ledger.stats.judge_steps`.

    Returns
    -------
    dict
        "v2-loss-rises" and "v2-var-falls", each "holds", "fails" or "not shown"; and "rises" and "falls", "yes" or "no":
        whether the means alone are in the paper's order.
    """
    runs = table[(table["variant"] == variant) & (table["lam"].notna())]
    if runs.empty:
        raise ValueError(f"variant = {variant!r}: the table has {sorted(set(table['variant']))}")
    arms = runs.groupby("arm")["lam"].first().sort_values(ascending=False).index.tolist()
    out = {}
    for claim, plain, column, sign in zip(
        ("v2-loss-rises", "v2-var-falls"), ("rises", "falls"), READOUTS[readout], (1, -1), strict=True
    ):
        steps = [paired(runs, column, low, high) for high, low in zip(arms, arms[1:], strict=False)]
        out[claim] = judge_steps(steps, sign, tests=tests)
        out[plain] = "yes" if all(sign * step.mean() > 0 for step in steps) else "no"
    return out


def rank_variants(
    table: pd.DataFrame, ruler: tuple[float, float], *, readout: str = "exact", tests: int = 1
) -> pd.DataFrame:
    """Variants by their distance to the paper's six Lai figures (three λ, RMSE and variance), the nearest first.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_lai`, with the paper's three λ.
    ruler : (float, float)
        From :func:`rulers`: the same that measured the MSE figures.
    readout : "exact" or "running"
    tests : int
        As in :func:`evidence.ledger.stats.judge_steps`.

    Returns
    -------
    DataFrame
        A row a variant: ``distance`` (root mean square over the six, in rulers), the same for the changes against the
        variant's own MSE arm (``distance_changes``), for each λ ``rmse`` and ``variance`` (means over seeds), the orderings of
        :func:`lai_steps`, and for the λ list the relative change of RMSE (``list_rmse``) and of the sensitivities to the
        last two features (``list_s_7``, ``list_s_8``).
    """
    lams = [lam for lam in V2_SMOOTHNESS if lam is not None]
    rows = {}
    for variant, runs in table.groupby("variant", sort=False):
        control = runs[runs["arm"] == "MSE"]
        row: dict[str, object] = {"mse_rmse": control[READOUTS[readout][0]].mean(skipna=False)}
        row["mse_variance"] = control[READOUTS[readout][1]].mean(skipna=False)
        levels, changes = [], []
        for lam in lams:
            arm = runs[np.isclose(runs["lam"], lam)]
            if arm.empty:
                raise ValueError(f"variant {variant!r} has no arm with λ = {lam:g}")
            for i, name in enumerate(("rmse", "variance")):
                mean = arm[READOUTS[readout][i]].mean(skipna=False)
                row[f"{name}_{lam:g}"] = mean
                levels.append((mean - V2_SMOOTHNESS[lam][i]) / ruler[i])
                printed = V2_SMOOTHNESS[lam][i] - V2_SMOOTHNESS[None][i]
                changes.append((mean - row[f"mse_{name}"] - printed) / ruler[i])  # type: ignore[operator]
        row["distance"], row["distance_changes"] = (
            float(np.sqrt(np.square(v).mean())) if np.isfinite(v).all() else math.inf for v in (levels, changes)
        )
        row.update(lai_steps(table, str(variant), readout=readout, tests=tests))
        listed = runs[runs["lam"].isna() & (runs["arm"] != "MSE")]
        if len(listed):
            for name, column in (("list_rmse", READOUTS[readout][0]), ("list_s_7", "s_7"), ("list_s_8", "s_8")):
                row[name] = listed[column].mean() / control[column].mean() - 1
        rows[variant] = row
    return pd.DataFrame(rows).T.infer_objects().sort_values("distance", kind="stable")


IDLE = "nothing: MSE"
"""The line of a table of readings that has MSE in place of the Lai loss in every column."""


def readings_of(
    table: pd.DataFrame, ruler: dict[str, tuple[float, float]], *, tests: int = 1
) -> dict[str, pd.DataFrame]:
    """:func:`rank_variants` in both evaluations, with ``IDLE`` as a further line: the MSE arm of the first variant.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.search.run.search_lai`, of one recipe.
    ruler : dict
        From :func:`both_rulers`.
    tests : int
        As in :func:`evidence.ledger.stats.judge_steps`.
    """
    still = table[(table["variant"] == table["variant"].iloc[0]) & (table["arm"] == "MSE")].assign(variant=IDLE)
    copies = [still.assign(arm=f"λ = {lam:g}", lam=lam) for lam in V2_SMOOTHNESS if lam is not None]
    whole = pd.concat([table, still, *copies])
    return {name: rank_variants(whole, ruler[name], readout=name, tests=tests) for name in READOUTS}


def in_order(readings: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    """Of each evaluation the variants with the paper's order at every step, beyond chance, that are nearer than ``IDLE``."""
    found = {}
    for name, table in readings.items():
        own = table[(table["distance"] < table.loc[IDLE, "distance"]) & (table.index != IDLE)]
        found[name] = own.index[(own[["v2-loss-rises", "v2-var-falls"]] == "holds").all(axis=1)].tolist()
    return found
