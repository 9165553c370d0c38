"""From all trials to what the comparison reports: chosen on validation rows, for every seed by itself."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

SHARES = (0.8, 0.6, 0.4)
"""Of MSE's slope, at which errors are compared."""

EXCESS = 0.01
"""By how much the validation error may exceed MSE's, where slopes are compared."""

KEY = ["task", "method", "units"]
ALSO = ("variance", "slope_error", "loop_cost", "loop_wear")


def choices(trials: pd.DataFrame) -> pd.DataFrame:
    """What each method's choices come to on the test rows: a row for each task, method, units and seed.

    Parameters
    ----------
    trials : DataFrame
        From :func:`evidence.relatives.training.relatives_study`, MSE among the methods.

    Returns
    -------
    DataFrame
        Of the trial of least validation error: ``trial``, ``rmse``, ``noisy``, ``shifted``, ``slope``, ``slope_p95``,
        ``slope_raw`` and what is in ``ALSO``. The least error under noise (``least_noisy``) and under shifts
        (``least_shifted``), chosen by the same on validation rows. ``at_80``, ``at_60``, ``at_40``: RMSE at no more than these
        per cents of MSE's slope, and ``raw_80`` and ``raw_60`` where the slope is in raw units, NaN where the method does not reach them.
        ``budget_slope``: the least slope among the trials that keep ``EXCESS``.
    """
    rows = []
    for (task, seed), group in trials.groupby(["task", "seed"], sort=False):
        reference = group[group["method"] == "MSE"].iloc[0]
        for (method, units), own in group.groupby(["method", "units"], sort=False):
            rows.append({"task": task, "method": method, "units": units, "seed": seed, **_chosen(own, reference)})
    return pd.DataFrame(rows)


def _chosen(own: pd.DataFrame, reference: pd.Series) -> dict[str, float]:
    best = own.iloc[int(own["rmse_val"].argmin())]
    found: dict[str, float] = {"trial": best["trial"]}
    for name in ("rmse", "noisy", "shifted", "slope", "slope_p95", "slope_raw"):
        found[name] = best[f"{name}_test"]
    found |= {name: best[name] for name in ALSO if name in own}
    for name in ("noisy", "shifted"):
        found[f"least_{name}"] = own[f"{name}_test"].iloc[int(own[f"{name}_val"].argmin())]
    both = pd.concat([own, reference.to_frame().T.astype(own.dtypes)], ignore_index=True)
    for label, slope, shares in (("at", "slope", SHARES), ("raw", "slope_raw", SHARES[:2])):
        for share in shares:
            found[f"{label}_{round(100 * share)}"] = error_at(both, slope, share * reference[f"{slope}_test"])
    kept = both[both["rmse_val"] <= (1 + EXCESS) * reference["rmse_val"]]
    least = kept.iloc[int(kept["slope_val"].argmin())]
    return found | {"budget_slope": least["slope_test"]}


def error_at(trials: pd.DataFrame, slope: str, wanted: float) -> float:
    """Test RMSE at a slope of at most ``wanted``, along the trials that no other beats in both validation slope and RMSE.

    Between two of them it is interpolated by their slopes on test rows; NaN where all have larger slopes.

    Examples
    --------
    >>> trials = pd.DataFrame({"slope_val": [1.0, 0.5, 0.7], "slope_test": [1.0, 0.5, 0.7],
    ...                        "rmse_val": [1.0, 2.0, 3.0], "rmse_test": [1.0, 2.0, 3.0]})
    >>> round(error_at(trials, "slope", 0.75), 6)  # the third trial is beaten by the second
    1.5
    >>> error_at(trials, "slope", 0.4)
    nan
    """
    ordered = trials.sort_values([f"{slope}_val", "rmse_val"])
    front = ordered[ordered["rmse_val"] < ordered["rmse_val"].cummin().shift(fill_value=math.inf)]
    front = front.sort_values(f"{slope}_test")
    at, error = front[f"{slope}_test"].to_numpy(), front["rmse_test"].to_numpy()
    return float(np.interp(wanted, at, error, left=math.nan))


def fronts(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every trial: a row for each task, method, units and trial."""
    measures = ["rmse_test", "noisy_test", "shifted_test", "slope_test", "slope_raw_test", "rmse_train"]
    grouped = trials.groupby([*KEY, "trial", "strength"], sort=False)[measures]
    table = grouped.mean().add_suffix("_mean").join(grouped.std().add_suffix("_sd"))
    return table.rename(columns=lambda c: c.replace("_test", "")).reset_index()
