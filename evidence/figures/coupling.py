"""What a batch-coupled gradient loses: one unit, the features of a network, and networks trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from .style import COLOURS, GREY, style

if TYPE_CHECKING:
    import pandas as pd

MARKERS = "os^D"


def unit_slopes(ax: Axes, z: Sequence[float], own: Sequence[float], left: Sequence[float]) -> None:
    """A unit's own slope over its normalised input, and what the summed gradient keeps of it."""
    for i, (values, label) in enumerate(((own, "own"), (left, "summed"))):
        colour, dash = style(i)
        ax.plot(np.asarray(z), np.asarray(values), color=colour, linestyle=dash, label=label)
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.set_xlabel("normalised input z")


def slopes_by_feature(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Root mean square slopes, a group of marks for each feature; lines span the seeds.

    ``tables`` maps a name to a frame with a row a seed and a column a feature.
    """
    for i, (name, table) in enumerate(tables.items()):
        at = np.arange(table.shape[1]) + 0.22 * (i - (len(tables) - 1) / 2)
        ax.vlines(at, table.min(), table.max(), color=COLOURS[i], linewidth=1.6)
        ax.plot(at, table.mean(), MARKERS[i], color=COLOURS[i], linestyle="none", markersize=5.5, label=name)
        ax.set_xticks(range(table.shape[1]), table.columns, rotation=40, ha="right")
    ax.set_yscale("log")
    ax.set_ylabel("root mean square slope\n(target per unit of the feature)")
    ax.grid(visible=False, axis="x")


def kept_by_lam(
    ax: Axes, runs: pd.DataFrame, metric: str, paper: Mapping[float | None, tuple[float, float]], lam: float
) -> None:
    """An arm's RMSE or variance over that of its seed's MSE arm, against λ: a line a slope, small marks the seeds.

    ``metric`` is "rmse" or "variance"; the paper's pairs are drawn in black, and the reader's λ is marked.
    """
    control = runs[runs["slope"] == "none"].set_index("seed")[metric]
    ax.axhline(1, color=GREY, linewidth=0.8, linestyle="-")
    ax.axvline(lam, color=GREY, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1)
    column = ("rmse", "variance").index(metric)
    points = [(value, pair[column] / paper[None][column]) for value, pair in paper.items() if value is not None]
    ax.plot(*np.array(sorted(points)).T, "s-", color="black", linewidth=1.2, markersize=5, label="paper, v1")
    for i, (slope, arms) in enumerate(runs[runs["slope"] != "none"].groupby("slope", sort=False)):
        ratio = (arms[metric] / arms["seed"].map(control)).groupby(arms["lam"])
        colour, dash = style(i)
        mark = MARKERS[::2][i] if i < 2 else MARKERS[3]
        mean = ratio.mean()
        ax.plot(mean.index, mean, mark, color=colour, linestyle=dash, linewidth=1.6, label=str(slope))
        for value, seeds in ratio:
            ax.plot([value] * len(seeds), seeds, mark, color=colour, markersize=3, alpha=0.5, linestyle="none")
    ax.set_xscale("log")
    ax.set_ylabel(("RMSE", "output variance")[column] + "\nover that of MSE")
