"""Curves with tangents, what a loss did to slopes of every size, and how a unit's slope switches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLOURS, GREY, style


def tangents(ax: Axes, x: ArrayLike, value: ArrayLike, slope: ArrayLike, *, reach: float = 0.25) -> None:
    """Short straight pieces of the tangents at ``x``, each reaching ``reach`` (in data units) to both sides."""
    at, height, k = (np.asarray(a, dtype=float) for a in (x, value, slope))
    dx = reach / np.hypot(1, k)
    for i in range(len(at)):
        ends = np.array([-dx[i], dx[i]])
        label = "tangents" if i == 0 else None
        ax.plot(at[i] + ends, height[i] + k[i] * ends, color=COLOURS[1], linewidth=1.8, linestyle="-", label=label)
    ax.plot(at, height, "o", color=COLOURS[1], linestyle="none", markersize=3.5)


def fitted(ax: Axes, data: tuple[ArrayLike, ArrayLike], grid: ArrayLike, value: ArrayLike, label: str = "fit") -> None:
    """Data as dots and a fitted curve over a grid; x and y are pure numbers."""
    ax.plot(*data, "o", color=GREY, linestyle="none", markersize=3, alpha=0.7, label="data")
    ax.plot(grid, value, color=COLOURS[0], linestyle="-", linewidth=2, label=label)
    ax.set_xlabel("x")
    ax.set_ylabel("y")


def fitted_panels(
    axes: np.ndarray,
    data: tuple[ArrayLike, ArrayLike],
    grid: ArrayLike,
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    every: int = 160,
) -> None:
    """One panel for each (value, slope) over the grid, with its name, the same data and a tangent ``every`` so many."""
    for ax, (name, curve) in zip(axes.flat, panels.items(), strict=True):
        x, value, slope = (np.asarray(a, dtype=float)[every // 2 :: every] for a in (grid, *curve))
        fitted(ax, data, grid, curve[0])
        tangents(ax, x, value, slope)
        ax.annotate(name, (0.04, 0.92), xycoords="axes fraction")
        ax.set_ylim(-2.1, 2.1)
        ax.label_outer()


def change_by_slope(
    ax: Axes, before: ArrayLike, changes: Mapping[str, ArrayLike], boundaries: Mapping[str, float], *, bins: int = 6
) -> None:
    """Mean change of \\|k\\| for points sorted into equally full bins of \\|k\\| before, a line for each loss.

    ``before`` and each entry of ``changes`` are (seeds, N). Bars are two standard errors over seeds; a short line at
    the foot marks each boundary that lies among the slopes.
    """
    start = np.asarray(before, dtype=float)
    edges = np.quantile(start, np.linspace(0, 1, bins + 1))
    which = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, bins - 1)
    centre = [np.median(start[which == b]) for b in range(bins)]
    for i, (name, change) in enumerate(changes.items()):
        colour, dash = style(i)
        mean, error = np.empty(bins), np.empty(bins)
        for b in range(bins):
            rows = [
                row[inside == b].mean()
                for row, inside in zip(np.asarray(change), which, strict=True)
                if (inside == b).any()
            ]
            mean[b], error[b] = np.mean(rows), np.std(rows, ddof=min(1, len(rows) - 1)) / np.sqrt(len(rows))
        ax.errorbar(
            centre, mean, 2 * error, color=colour, linestyle=dash, marker="o", markersize=4, capsize=2, label=name
        )
        if edges[0] < boundaries[name] < edges[-1]:
            ax.axvline(boundaries[name], ymax=0.12, color=colour, linestyle=dash)
    ax.axhline(0, color="black", linewidth=0.8, linestyle="-")
    ax.set_xlabel("|k| before")
    ax.set_ylabel("change of |k| against\nthe plain loss")


def switching(ax: Axes, b: ArrayLike, curves: Mapping[str, ArrayLike], at: float, slopes: Mapping[str, float]) -> None:
    """Mean factors over a bias ``b``, and at ``b = at`` a thick piece of line with the slope that autograd returns."""
    x = np.asarray(b, dtype=float)
    reach = 0.18 * (x[-1] - x[0])
    for i, (name, curve) in enumerate(curves.items()):
        colour, dash = style(i)
        ax.plot(x, curve, color=colour, linestyle=dash, linewidth=1.6, label=name)
        height = np.interp(at, x, np.asarray(curve, dtype=float))
        ends = np.array([-reach, reach])
        ax.plot(at + ends, height + slopes[name] * ends, color=colour, linestyle="-", linewidth=5, alpha=0.35)
    ax.set_xlabel("bias b")
    ax.set_ylabel("mean factor")
