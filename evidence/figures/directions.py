"""Figures for many inputs: triangles, contours, boundaries in other units, λ lists, losses by direction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import COLOURS, GREY, style


def triangles(ax: Axes, slopes: Sequence[float], e: float) -> None:
    """One triangle per input, side by side: the same error ``e``, another slope, other legs.

    One unit across is drawn as long as one unit up: angles are true.
    """
    for j, k in enumerate(slopes):
        theta = math.atan(k)
        along = np.array([math.cos(theta), math.sin(theta)])
        p = np.array([1.7 * abs(e) * j, 0.0])
        q = p - [0.0, e]
        foot = p + ((q - p) @ along) * along
        ends = np.array([p - 0.6 * abs(e) * along, p + 0.6 * abs(e) * along, foot])
        ends = ends[np.argsort(ends @ along)]
        ax.plot(*ends[[0, -1]].T, color="black", linewidth=1.4, linestyle="-")
        for one, other, (colour, dash), name in (
            (p, q, ("black", "-"), "error |e|"),
            (p, foot, style(0), "leg along the line, a"),
            (foot, q, style(1), "leg across it, b"),
        ):
            ax.plot(*np.array([one, other]).T, color=colour, linestyle=dash, linewidth=3, label=None if j else name)
        ax.plot(*p, "o", color="black", linestyle="none", zorder=5)
        ax.plot(*q, "s", color="black", linestyle="none", markerfacecolor="white", zorder=5)
    ax.set_xticks(
        [1.7 * abs(e) * j for j in range(len(slopes))], [f"$k_{{{j + 1}}}$ = ${k:.3g}$" for j, k in enumerate(slopes)]
    )
    ax.set_xlabel("slope with respect to each input")
    ax.set_ylabel("y, from the prediction")
    ax.grid(axis="x", visible=False)
    ax.set_aspect("equal")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1, borderaxespad=0)


def slope_map(ax: Axes, place: ArrayLike, value: ArrayLike, slopes: ArrayLike, house: int, *, every: int = 40) -> None:
    """Dots at ``place`` (N, 2), coloured by ``value`` (N,), with the ``slopes`` (N, 2) as arrows at one in ``every``.

    A square marks the row ``house``. All are in standard deviations; the places are longitude and latitude.
    """
    at, k = np.asarray(place), np.asarray(slopes)
    shown = np.union1d(np.arange(0, len(at), every), house)
    dots = ax.scatter(at[:, 0], at[:, 1], c=np.asarray(value), s=5, cmap="cividis")
    ax.quiver(*at[shown].T, *k[shown].T, angles="xy", scale=40, width=0.005, color=COLOURS[1])
    ax.plot(*at[house], "s", color="black", linestyle="none", markerfacecolor="none", markersize=9)
    ax.figure.colorbar(dots, ax=ax, label="value of the map\n(standard deviations)")
    ax.set_xlabel("longitude (standard deviations)")
    ax.set_ylabel("latitude (standard deviations)")


def factor_contours(ax: Axes, lam: float, *, norm: str) -> None:
    """Contours of the "l1" or "l2" norm of two squared-error factors over the two slopes, with the minima marked.

    The axes reach three boundaries each way.
    """
    bound = math.sqrt(lam)
    k = np.linspace(-3 * bound, 3 * bound, 241)
    g = np.maximum(k**2, lam) / (1 + k**2) / min(1.0, lam)
    one, other = np.meshgrid(g, g)
    height = one + other if norm == "l1" else np.hypot(one, other)
    low, high = height.min(), height.max()
    levels = low + (high - low) * np.linspace(0, 1, 15) ** 1.7  # closer near the minima
    ax.contourf(k, k, height, levels=levels, cmap="cividis")
    ax.contour(k, k, height, levels=levels, colors="white", linewidths=0.5)
    corners = np.array([(s, t) for s in (-bound, bound) for t in (-bound, bound)])
    ax.plot(*corners.T, "o", color="black", markeredgecolor="white", linestyle="none")
    ax.text(0, 0, norm.upper(), ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
    ticks = [-2 * bound, 0, 2 * bound]
    ax.set_xticks(ticks, [f"{t:.3g}" for t in ticks])
    ax.set_yticks(ticks, [f"{t:.3g}" for t in ticks])
    ax.set_xlabel("slope $k_1$")
    ax.set_ylabel("slope $k_2$")
    ax.grid(visible=False)
    ax.set_aspect("equal")


def boundaries(ax: Axes, names: Sequence[str], bounds: Sequence[float], slopes: np.ndarray) -> None:
    """A row per feature: the middle 80 % of the slopes' sizes as a bar, and the boundary as a cross.

    ``slopes`` is (N, d); ``bounds`` has d entries; both in the same units.
    """
    rows = np.arange(len(names))[::-1]
    low, high = np.quantile(np.abs(slopes), [0.1, 0.9], axis=0)
    ax.hlines(
        rows, low, high, color=COLOURS[0], linewidth=7, linestyle="-", alpha=0.75, label="model's slopes, middle 80 %"
    )
    ax.plot(bounds, rows, "X", color=COLOURS[1], markersize=9, linestyle="none", label="boundary of the one λ")
    ax.set_xscale("log")
    ax.set_yticks(rows, names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel("size of the slope (standardised units)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.35, 1.0), ncols=1, borderaxespad=0)


def list_effects(ax: Axes, lams: Sequence[float], sensitivity: np.ndarray) -> None:
    """Sensitivity to noise on each feature over the list's first entry, as a multiple of that at the entry 1.

    ``sensitivity`` is (len(lams), seeds, d), already divided. Lines are means, bars one standard deviation over seeds.
    """
    mean, spread = sensitivity.mean(1), sensitivity.std(1, ddof=1)
    for j in range(sensitivity.shape[2]):
        colour, dash = style(j)
        name = f"$x_{j + 1}$" + (" (its λ changes)" if j == 0 else "")
        ax.errorbar(
            lams, mean[:, j], spread[:, j], color=colour, linestyle=dash, marker="osD^"[j % 4], markersize=5, label=name
        )
    ax.set_xscale("log")
    ax.set_xticks(lams, [f"{lam:g}" for lam in lams])
    ax.set_xticks([], minor=True)
    ax.axhline(1, color=GREY, linewidth=1, linestyle=(0, (2, 2)))


def worst_change(ax: Axes, growth: np.ndarray, name: str) -> None:
    """One line: the greatest of the relative changes (seeds, steps, d) in each step, on an axis linear near zero."""
    colour, dash = style(len(ax.lines) // 2)
    ax.axhline(0, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
    ax.plot(growth.max((0, 2)), color=colour, linestyle=dash, label=name)
    ax.set_yscale("symlog", linthresh=1e-4)
