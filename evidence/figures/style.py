"""Colours, dashes and legends: what all figures of the book share."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A4F7D")
"""Blue, vermilion, green and purple after Okabe and Ito, told apart by readers of every colour vision."""

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1, 2)))
"""Solid, dashed, dotted, dash-dotted, in the order of `COLOURS`."""

GREY = "#6b6b6b"

WIDEST = 5.4
"""Inches. On a telephone 390 pixels wide a figure is shown 358 wide; saved, it is a tenth of an inch wider than it is made."""

SMALLEST = 10
"""Points: of the smallest text, which in a figure of `WIDEST` is 9 pixels high on such a telephone."""


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
            "legend.fontsize": SMALLEST,
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
    ax.legend(title=title, loc="lower left", bbox_to_anchor=(-0.05, 1.0), borderaxespad=0, handlelength=1.6)


def legend_row(ax: Axes, title: str) -> None:
    """A legend over the Axes in rows of at most five, under a title, where lines fill the panel."""
    _in_rows(
        lambda columns: ax.legend(
            title=title,
            alignment="left",
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=columns,
            borderaxespad=0,
            handlelength=1.5,
            handletextpad=0.5,
            columnspacing=1.0,
        ),
        at_most=5,
        share=0.85,  # about that of the Axes, which the layout has not placed yet
    )


def shared_legend(fig: Figure, ax: Axes) -> None:
    """One legend for all panels, in rows of at most four above them, with the entries of ``ax``."""
    entries = ax.get_legend_handles_labels()
    _in_rows(
        lambda columns: fig.legend(*entries, loc="outside upper center", ncols=columns, handlelength=1.6),
        at_most=4,
        share=0.97,
    )


def _in_rows(make: Callable[[int], Legend], *, at_most: int, share: float) -> None:
    """The legend with the fewest rows, as even as can be, that is not wider than this share of the figure, which it would widen."""
    for columns in range(at_most, 0, -1):
        legend = make(columns)
        rows = -(-len(legend.get_texts()) // columns)
        if (even := -(-len(legend.get_texts()) // rows)) < columns:
            legend.remove()
            legend = make(even)
        figure = legend.get_figure(root=True)
        assert figure is not None
        if columns == 1 or legend.get_window_extent().width <= share * figure.bbox.width:
            return
        legend.remove()


def style(i: int) -> tuple[str, str | tuple[int, tuple[float, ...]]]:
    """Colour and dash of the i-th line of a figure, counting round."""
    return COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
