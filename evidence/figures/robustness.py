"""The same networks measured in two ways: how far the seeds lie apart in each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import GREY, style


def spreads(ax: Axes, pairs: Mapping[str, Mapping[str, ArrayLike]], label: str) -> None:
    """A dot for each network and a bar at their mean, a line for each way to measure them, under the name of their pair."""
    places, names, top = [], [], 0.0
    for title, ways in pairs.items():
        ax.annotate(title, (0.01, top), xycoords=("axes fraction", "data"), va="center", fontweight="bold")
        for i, (name, values) in enumerate(ways.items()):
            top += 1
            x, colour = np.asarray(values, dtype=float), style(1 - i)[0]
            ax.plot(x, np.full(len(x), top), "oD"[i], color=colour, linestyle="none", markersize=6, alpha=0.55)
            ax.plot([x.mean()] * 2, [top - 0.33, top + 0.33], color="black", linewidth=2, linestyle="-")
            places.append(top)
            names.append(name)
        top += 1.25
        ax.axhline(top - 0.62, color=GREY, linewidth=0.6, linestyle="-")
    ax.set_yticks(places, names)
    ax.set_ylim(top - 0.62, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(label)
