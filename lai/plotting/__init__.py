"""Figures of the book. The only folder that imports matplotlib; import it by name.

Every function draws into Axes that the chapter has made and returns None, so that a cell ends without an
address. Lines differ by dash pattern as well as by colour: they must be told apart in grey and with dark
colours inverted.
"""

from .experiments import paired_bars, trade_off, validation_curves
from .geometry import branches, triangle, turned_axes
from .style import COLOURS, DASHES, legend_above, mark_reader, shared_legend, use_style

__all__ = [
    "COLOURS",
    "DASHES",
    "branches",
    "legend_above",
    "mark_reader",
    "paired_bars",
    "shared_legend",
    "trade_off",
    "triangle",
    "turned_axes",
    "use_style",
    "validation_curves",
]
