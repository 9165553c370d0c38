"""Fronts of error against slope, a line for each method."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from .style import GREY, style


def fronts(ax: Axes, table: pd.DataFrame, variants: Mapping[str, tuple[str, str]], *, n_seeds: int = 10) -> None:
    """Mean error against mean slope over a method's strengths, with a band of two standard errors; both against MSE's.

    ``table`` is one task's part of relatives_fronts.csv, ``variants`` goes from labels to (method, units).
    """
    mse = table[table["method"] == "MSE"].iloc[0]
    for i, (label, (method, units)) in enumerate(variants.items()):
        own = table[(table["method"] == method) & (table["units"] == units)].sort_values("trial")
        colour, dash = style(i)
        x, y = own["slope_mean"] / mse["slope_mean"], own["rmse_mean"] / mse["rmse_mean"]
        error = 2 * own["rmse_sd"] / n_seeds**0.5 / mse["rmse_mean"]
        ax.plot(x, y, color=colour, linestyle=dash, marker="osD^v"[i % 5], markersize=4, label=label)
        ax.fill_between(x, y - error, y + error, color=colour, alpha=0.12, linewidth=0)
    ax.plot(1, 1, marker="*", markersize=13, color=GREY, linestyle="none", label="MSE", zorder=3)
    ax.set_xlabel("slope, in multiples of MSE's")
    ax.set_ylabel("RMSE, in multiples of MSE's")
