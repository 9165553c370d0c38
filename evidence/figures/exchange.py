"""One pair of α and λ against another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from .style import COLOURS, GREY

Point = tuple[np.ndarray, np.ndarray]


def exchanges(ax: Axes, pairs: Mapping[str, tuple[Point, Point]]) -> None:
    """From each pair's first setting, a filled mark, an arrow to its second, an open one: variance and error of each.

    ``pairs`` is name to ((variances, errors), (variances, errors)), one number a seed; small marks are seeds.
    """
    for i, (name, two) in enumerate(pairs.items()):
        colour, marker = ("black", *COLOURS)[i % 5], "so^DP"[i % 5]
        start, end = ((float(np.mean(x)), float(np.mean(y))) for x, y in two)
        arrow = {"arrowstyle": "->", "color": colour, "shrinkA": 4, "shrinkB": 4, "linewidth": 1.3}
        ax.annotate("", end, start, arrowprops=arrow)
        ax.plot(*start, color=colour, marker=marker, linestyle="none", label=name)
        ax.plot(*end, color=colour, marker=marker, linestyle="none", markerfacecolor="white")
        for x, y in two:
            if np.size(x) > 1:
                ax.plot(x, y, color=colour, marker=marker, linestyle="none", markersize=3, alpha=0.4)
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.legend()
