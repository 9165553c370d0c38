"""The plane of α and λ: a grid of numbers, and what smoothness costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from .style import GREY, style

if TYPE_CHECKING:
    import pandas as pd


def plane(ax: Axes, cells: pd.DataFrame, name: str) -> None:
    """A grid of numbers, rows λ and columns α: falls blue, rises red, the stronger the larger."""
    values = cells.to_numpy(dtype=float)
    largest = max(float(np.abs(values).max()), 1e-9)
    ax.imshow(values, cmap="RdBu_r", vmin=-1.6 * largest, vmax=1.6 * largest, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, f"{value:+.1f}".replace("-", "−"), ha="center", va="center")
    ax.set_xticks(range(cells.shape[1]), [f"{alpha:g}" for alpha in cells.columns])
    ax.set_yticks(range(cells.shape[0]), [f"{lam:g}" for lam in cells.index])
    ax.set_xlabel("α, share of Lai batches")
    ax.set_ylabel("λ", rotation=0, labelpad=8)
    ax.set_title(name, loc="left")
    ax.grid(False)


def frontier(ax: Axes, arms: pd.DataFrame) -> None:
    """Change of error against change of variance: a line through the means of each α, small marks for the seeds.

    ``arms`` has columns alpha, lam, rmse_change and variance_change, in per cent.
    """
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle="-")
    for i, (alpha, line) in enumerate(arms.groupby("alpha")):
        colour, dash = style(i)
        marker = "os^D"[i % 4]
        mean = line.groupby("lam")[["variance_change", "rmse_change"]].mean().to_numpy()
        ax.plot(*mean.T, color=colour, linestyle=dash, marker=marker, linewidth=1.4, label=f"α = {alpha:g}")
        ax.plot(
            line["variance_change"],
            line["rmse_change"],
            color=colour,
            marker=marker,
            markersize=3,
            alpha=0.5,
            linestyle="none",
        )
    ax.legend()
