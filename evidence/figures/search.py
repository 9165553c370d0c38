"""The search for the paper's recipe: where every recipe lands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from .style import COLOURS, GREY, SMALLEST

if TYPE_CHECKING:
    import pandas as pd


def recipes_map(
    ax: Axes, ranked: pd.DataFrame, target: tuple[float, float], ruler: tuple[float, float], radius: float
) -> None:
    """Mean RMSE and variance of every recipe, a mark a family, with the paper's point and what counts as near it.

    ``ranked`` has columns family, rmse, variance and near; ``radius`` is the largest distance that counts, in rulers.
    Recipes near in their pattern as well are filled.
    """
    turn = np.linspace(0, 2 * np.pi, 200)
    wide = np.sqrt(2) * radius  # the distance is a root mean square of two
    edge = [centre + wide * unit * f(turn) for centre, unit, f in zip(target, ruler, (np.cos, np.sin), strict=True)]
    ax.plot(*edge, color=GREY, linewidth=1.0, linestyle=(0, (3, 2)), label=f"distance {radius:g}")
    for i, (family, rows) in enumerate(ranked.groupby("family")):
        colour = (*COLOURS, GREY)[i % 5]
        for near, part in rows.groupby("near"):
            face = colour if near else "white"
            ax.plot(
                part["rmse"].astype(float),
                part["variance"].astype(float),
                linestyle="none",
                marker="os^Dv"[i % 5],
                markersize=6,
                markeredgecolor=colour,
                markerfacecolor=face,
            )
        ax.plot(
            [], [], linestyle="none", marker="os^Dv"[i % 5], color=colour, markerfacecolor="white", label=str(family)
        )
    ax.plot(*target, linestyle="none", marker="*", markersize=15, color="black", label="paper")
    for axis in (ax.xaxis, ax.yaxis):
        axis.axes.set_xscale("log") if axis is ax.xaxis else axis.axes.set_yscale("log")
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    ax.tick_params(which="both", labelsize=SMALLEST)
    ax.set_xlabel("validation RMSE (100,000 US$)")
    ax.set_ylabel("variance of the test outputs")
    ax.legend()
