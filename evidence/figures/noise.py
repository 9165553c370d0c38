"""Sensitivity to noise: kinds of noise, changes feature by feature, what calm costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from .style import COLOURS, GREY

if TYPE_CHECKING:
    import pandas as pd

_MARKERS = "o^Dvs"


def noise_ratios(ax: Axes, found: pd.DataFrame, names: Sequence[str]) -> None:
    """Ours over the printed sensitivity, feature by feature, a mark a kind of noise; 1 is the paper.

    ``found`` is from :func:`evidence.ledger.noise.compare_noises`.
    """
    columns = [name for name in map(str, found) if name.startswith("ratio_")]
    for i, (kind, row) in enumerate(found.iterrows()):
        colour = (*COLOURS, GREY)[i % 5]
        x = np.arange(len(columns)) + 0.12 * (i - (len(found) - 1) / 2)
        ax.plot(x, row[columns].astype(float), marker=_MARKERS[i % 5], color=colour, linestyle="none", label=str(kind))
    ax.axhline(1, color="black", linewidth=1.0, linestyle="-")
    ax.set_yscale("log")
    ax.set_xticks(range(len(columns)), names, rotation=30, ha="right")
    ax.set_ylabel("sensitivity, ours over the paper's")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.2, columnspacing=1.0)


def sensitivity_dots(
    ax: Axes, changes: Mapping[str, pd.DataFrame], names: Sequence[str], paper: Sequence[float] | None = None
) -> None:
    """Change of each sensitivity and of the error against MSE, in per cent, with 95 % intervals; the legend is the caller's.

    ``changes`` maps a label to the result of :func:`evidence.ledger.noise.sensitivity_changes`; ``paper`` has the printed changes as
    shares, features first and then the error.
    """
    rows = [*names, "RMSE"]
    y = np.arange(len(rows), dtype=float)
    for i, (label, found) in enumerate(changes.items()):
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % 5]
        at = y + 0.17 * (i - (len(changes) - 1) / 2)
        mean = 100 * found["change"].to_numpy()
        sides = 100 * np.abs(found[["low", "high"]].to_numpy().T - found["change"].to_numpy())
        ax.errorbar(
            mean,
            at,
            xerr=np.nan_to_num(sides),
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="none",
            label=label,
        )
    if paper is not None:
        ax.plot(100 * np.asarray(paper), y, linestyle="none", marker="*", markersize=9, color="black", label="paper")
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.set_yticks(y, rows)
    ax.invert_yaxis()
    ax.set_xlabel("change against MSE (%)")


def price_of_calm(
    ax: Axes, table: pd.DataFrame, feature: int, budgets: Sequence[float], paper: tuple[float, float]
) -> None:
    """Change of one sensitivity against the change of the error, in per cent: every list, a colour a protocol.

    Marks are means over seeds, small ones single seeds; the line joins MSE with the lists that none undercuts. ``budgets``
    (shares) are vertical lines and ``paper`` is the printed pair (error, sensitivity) of changes as shares.
    """
    for i, (protocol, runs) in enumerate(table.groupby("protocol", sort=False)):
        control = runs[runs["arm"] == "MSE"].set_index("seed")[["rmse", f"s_{feature}"]]
        points = [(0.0, 0.0)]
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % 5]
        for arm, group in runs.groupby("arm", sort=False):
            if arm == "MSE":
                continue
            change = 100 * (group.set_index("seed")[control.columns] / control - 1)
            ax.plot(*change.to_numpy().T, color=colour, marker=marker, markersize=3, alpha=0.35, linestyle="none")
            points.append(tuple(change.mean()))
        x, y = np.array(points[1:]).T
        ax.plot(x, y, color=colour, marker=marker, markersize=7, linestyle="none", label=str(protocol))
        lower = [point for j, point in enumerate(sorted(points)) if all(point[1] < p[1] for p in sorted(points)[:j])]
        ax.plot(*np.array(lower).T, color=colour, linewidth=1.2, linestyle="-")
    for budget in budgets:
        ax.axvline(100 * budget, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    ax.plot(*(100 * np.asarray(paper)), linestyle="none", marker="*", markersize=14, color="black", label="paper")
    ax.set_xscale("symlog", linthresh=1)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("change of validation RMSE against MSE (%)")
    ax.set_ylabel(f"change of the sensitivity to X{str(feature).translate(_LOWERED)}\nagainst MSE (%)")
    ax.legend()


_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
