"""Colours, dashes and legends: what all figures of the book share."""

from __future__ import annotations

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A4F7D")
"""Blue, vermilion, green and purple after Okabe and Ito, told apart by readers of every colour vision."""

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1, 2)))
"""Solid, dashed, dotted, dash-dotted, in the order of `COLOURS`."""

GREY = "#6b6b6b"


def use_style() -> None:
    """Set matplotlib's defaults for every figure of the book."""
    plt.rcParams.update(
        {
            "figure.figsize": (5.0, 3.3),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.7,
            "axes.axisbelow": True,
            "lines.linewidth": 2.2,
            "lines.markersize": 7,
            "legend.edgecolor": "white",
            "legend.framealpha": 0.85,
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=list(DASHES)),
        }
    )


def mark_reader(ax: Axes, x: float, label: str | None = None) -> None:
    """A thin vertical line at the reader's own value; with ``label`` it enters the legend."""
    ax.axvline(x, color=GREY, linewidth=1.1, linestyle=(0, (2, 2)), label=label, zorder=1)


def legend_above(ax: Axes, title: str) -> None:
    """A legend over the Axes, where a narrow panel has no room for it."""
    ax.legend(title=title, loc="lower left", bbox_to_anchor=(-0.05, 1.0), fontsize=9, borderaxespad=0, handlelength=1.6)


def legend_row(ax: Axes, title: str) -> None:
    """A legend over the Axes in rows of five, under a title, where lines fill the panel."""
    ax.legend(
        title=title,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=5,
        fontsize=8.5,
        borderaxespad=0,
        handlelength=1.5,
        handletextpad=0.5,
        columnspacing=1.0,
    )


def shared_legend(fig: Figure, ax: Axes) -> None:
    """One legend for all panels, in a row above them, with the entries of ``ax``."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9, handlelength=1.6)


def style(i: int) -> tuple[str, str | tuple[int, tuple[float, ...]]]:
    """Colour and dash of the i-th line of a figure, counting round."""
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
