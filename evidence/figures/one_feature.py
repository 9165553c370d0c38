"""Outputs of networks against one of their features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from .style import COLOURS, style

if TYPE_CHECKING:
    import pandas as pd


def outputs_against(ax: Axes, x: np.ndarray, outputs: np.ndarray) -> None:
    """One mark a row: a network's output over one feature, whatever the other features are."""
    ax.plot(x, outputs, ".", color=COLOURS[0], markersize=2, alpha=0.35, markeredgewidth=0, rasterized=True)


def outputs_by_arm(ax: Axes, lines: pd.DataFrame) -> None:
    """A line for each column, by name; MSE, if it is among them, in black. The index is the feature."""
    others = [name for name in lines.columns if name != "MSE"]
    for name in lines.columns:
        colour, dash = ("black", "-") if name == "MSE" else style(others.index(name))
        ax.plot(lines.index, lines[name], color=colour, linestyle=dash, linewidth=1.6, label=name)
