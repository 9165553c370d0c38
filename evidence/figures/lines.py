"""Loss surfaces over slope and intercept, and maps of where descents end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from .style import COLOURS, SMALLEST, style

_MARKS = ("*", "P", "D")


def line_contours(
    ax: Axes,
    slopes: Tensor,
    intercepts: Tensor,
    losses: Tensor,
    marks: Mapping[str, tuple[float, float]],
    *,
    label: str | None = None,
) -> None:
    """A surface (S, B) from above, darker where it is lower, with places (slope, intercept) marked by name.

    Neighbouring levels enclose equal shares of the picture, so that walls and basins both show.
    """
    _contours(ax, slopes, intercepts, losses)
    _places(ax, marks)
    ax.set_xlabel("slope k")
    ax.set_ylabel("intercept")
    if label is not None:
        white = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        ax.annotate(label, (0.05, 0.9), xycoords="axes fraction", bbox=white)


def plane_contours(
    ax: Axes, axis: Tensor, losses: Tensor, *, ends: Tensor | None = None, truth: tuple[float, float] | None = None
) -> None:
    """A loss (S, S) over two slopes, from above as in :func:`line_contours`, with the ends (N, 2) of descents as dots."""
    _contours(ax, axis, axis, losses)
    if ends is not None:
        dots: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 7}
        ax.plot(*np.asarray(ends).T, "o", linestyle="none", label="ends of descents", **dots)
    if truth is not None:
        _places(ax, {"slopes of the data": truth})
    ax.set_xlabel("slope $k_1$")
    ax.set_ylabel("slope $k_2$")


def line_surface_3d(
    ax: Any, slopes: Tensor, intercepts: Tensor, losses: Tensor, *, label: str = "mean Lai MAE"
) -> None:
    """The same surface from the side, turned so that its valleys can be seen; into Axes with projection="3d"."""
    k, b = np.meshgrid(np.asarray(slopes), np.asarray(intercepts), indexing="ij")
    ax.plot_surface(k, b, np.asarray(losses), cmap="cividis", linewidth=0, rcount=60, ccount=60)
    ax.view_init(elev=28, azim=-125)
    ax.set_xlabel("slope k", fontsize=SMALLEST)
    ax.set_ylabel("intercept", fontsize=SMALLEST)
    ax.set_zlabel(label, fontsize=SMALLEST, labelpad=10)
    ax.tick_params(labelsize=SMALLEST)
    ax.set_box_aspect(None, zoom=0.85)


def basins(ax: Axes, slopes: Tensor, heights: Tensor, wrong: Tensor, marks: Mapping[str, tuple[float, float]]) -> None:
    """Which starts, on a grid (S, B) of slopes and heights, descend to a slope of the wrong sign: these are hatched."""
    z = np.asarray(wrong, dtype=float).T
    x, y = np.asarray(slopes), np.asarray(heights)
    ax.contourf(x, y, z, levels=[-0.5, 0.5, 1.5], colors=["#dbe9f3", "#f3c9ae"], hatches=["", "///"])
    _places(ax, marks)
    ax.grid(False)
    ax.set_xlabel("slope at the start")
    ax.set_ylabel("height at the start")


def descents(ax: Axes, paths: Sequence[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]) -> None:
    """A loss over the slope, and the places that descents visit on it: for each ((k, loss), (k, loss))."""
    (k, loss), _ = paths[0]
    ax.plot(k, loss, color="#bbbbbb", linewidth=5, linestyle="-")
    for i, (_, (visited, at)) in enumerate(paths):
        colour, dash = style(i)
        ax.plot(visited, at, color=colour, linestyle=dash, label=f"from {float(visited[0]):g}")
        ax.plot(visited[0], at[0], "o", color=colour, markerfacecolor="white", linestyle="none")
        ax.plot(visited[-1], at[-1], "D", color=colour, markersize=8, linestyle="none")
    ax.set_xlabel("slope k")
    ax.set_ylabel("ln of the loss")
    ax.legend()


def _contours(ax: Axes, x: Tensor, y: Tensor, losses: Tensor) -> None:
    z = np.asarray(losses).T
    levels = np.unique(np.quantile(z, np.linspace(0, 1, 15)))
    ax.contourf(np.asarray(x), np.asarray(y), z, levels=levels, cmap="cividis")
    ax.contour(np.asarray(x), np.asarray(y), z, levels=levels, colors="white", linewidths=0.4)
    ax.grid(False)


def _places(ax: Axes, marks: Mapping[str, tuple[float, float]]) -> None:
    for n, (name, (x, y)) in enumerate(marks.items()):
        ax.plot(
            x,
            y,
            _MARKS[n % len(_MARKS)],
            linestyle="none",
            label=name,
            markersize=11,
            markerfacecolor=COLOURS[1] if n == 0 else "white",
            markeredgecolor="black",
            zorder=6 if n == 0 else 5,  # where they coincide, the star lies on the cross
        )
