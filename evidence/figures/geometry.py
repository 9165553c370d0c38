"""The triangle, the turned axes and the two branches of the factor."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, Circle, Polygon, Rectangle
from matplotlib.patheffects import withStroke
from numpy.polynomial import Polynomial as Curve
from numpy.typing import ArrayLike

from .style import COLOURS, GREY, style


def triangle(ax: Axes, k: float, e: float) -> None:
    """The line of slope ``k``, an error ``e`` = prediction - target, and its legs along and across the line.

    The prediction is the origin. One unit of x is drawn as long as one unit of y: angles are true.
    """
    _triangle(ax, np.zeros(2), k, e)
    ax.set_xlabel("x, from the prediction")
    ax.set_ylabel("y, from the prediction")


def triangle_on_curve(ax: Axes, data: tuple[ArrayLike, ArrayLike], curve: Curve, i: int) -> None:
    """Data, a curve fitted to them, and the triangle of the i-th point at the curve's tangent; scales as in `triangle`."""
    x, y = (np.asarray(part, dtype=float) for part in data)
    ax.plot(x, y, "o", color=GREY, linestyle="none", markersize=4, alpha=0.6, label="readings")
    grid = np.linspace(x.min(), x.max(), 401)
    ax.plot(grid, curve(grid), color=COLOURS[2], linestyle="-", label="fitted curve")
    at = np.array([x[i], curve(x[i])])
    _triangle(ax, at, float(curve.deriv()(x[i])), float(at[1] - y[i]), line="tangent, of slope k")
    for text in ax.texts:  # over readings and curve
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    ax.set_xlabel("x")
    ax.set_ylabel("y")


def _triangle(ax: Axes, p: np.ndarray, k: float, e: float, *, line: str | None = None) -> None:
    """`triangle` with the prediction at ``p``, and the line under this name in the legend."""
    theta = math.atan(k)
    along = np.array([math.cos(theta), math.sin(theta)])
    down = np.array([0.0, -e])
    q, foot = p + down, p + (down @ along) * along
    span = 0.75 * abs(e)
    ends = np.array([np.zeros(2), foot - p]) @ along
    start, stop = p + (ends.min() - span) * along, p + (ends.max() + span) * along

    ax.plot(*np.array([start, stop]).T, color="black", linewidth=1.6, linestyle="-", label=line)
    level = p[0] + np.array([-0.6, 0.75]) * abs(e)
    ax.plot(level, [p[1], p[1]], color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    for one, other, colour, dash in ((p, q, "black", "-"), (p, foot, *style(0)), (foot, q, *style(1))):
        ax.plot(*np.array([one, other]).T, color=colour, linestyle=dash, linewidth=3, solid_capstyle="butt")
    ax.plot(*p, "o", color="black", linestyle="none", zorder=5)
    ax.plot(*q, "s", color="black", linestyle="none", markerfacecolor="white", zorder=5)

    _name_sides(ax, p, foot, q, e)
    side = -1 if (foot - q)[0] > 0 else 1  # away from the triangle
    _note(ax, p, "prediction", (9 * side, -11 if e > 0 else 11))
    _note(ax, q, "target", (9 * side, -6 if e > 0 else 6))

    if 12 < math.degrees(abs(theta)) < 70:  # room for the angles
        size, corner = 0.55 * abs(e), 0.08 * abs(e)
        turn = 0.0 if side > 0 else 180.0
        low, high = sorted((turn, turn + math.degrees(theta)))
        ax.add_patch(Arc(tuple(p), size, size, theta1=low, theta2=high, color="black", linewidth=1.2))
        _at_angle(ax, p, math.radians((low + high) / 2), 0.5 * size + 0.09 * abs(e))
        to_p, to_foot = (math.degrees(math.atan2(*(point - q)[::-1])) for point in (p, foot))
        low, high = sorted((to_p, to_foot))
        ax.add_patch(Arc(tuple(q), size, size, theta1=low, theta2=high, color="black", linewidth=1.2))
        _at_angle(ax, q, math.radians((low + high) / 2), 0.5 * size + 0.09 * abs(e))
        inward, upward = _unit(p - foot) * corner, _unit(q - foot) * corner
        square = Polygon(
            [foot + inward, foot + inward + upward, foot + upward], closed=False, fill=False, linewidth=1.1
        )
        ax.add_patch(square)
    ax.set_aspect("equal")


def turned_axes(ax: Axes, k: float, e: float) -> None:
    """The error of `triangle` in axes turned along the line, with the balls of three distances around it.

    All points of the square have the error's Chebyshev distance, all points of the circle its Euclidean one.
    """
    theta = math.atan(k)
    x, y = -e * math.sin(theta), -e * math.cos(theta)
    reach, size = max(abs(x), abs(y)), abs(e)
    square = Rectangle((-reach, -reach), 2 * reach, 2 * reach, fill=False, linewidth=2.2, edgecolor=COLOURS[2])
    circle = Circle((0, 0), size, fill=False, linewidth=1.4, edgecolor=GREY, linestyle=(0, (4, 3)))
    ax.add_patch(square)
    ax.add_patch(circle)
    square.set_label("same Chebyshev distance")
    circle.set_label("same Euclidean distance")
    ax.axhline(0, color="black", linewidth=1.6, linestyle="-")
    ax.axvline(0, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    ax.plot([0, x], [0, y], color="black", linestyle="-", linewidth=3)
    for across, down, (colour, dash) in (([0, x], [0, 0], style(0)), ([x, x], [0, y], style(1))):
        ax.plot(across, down, color=colour, linestyle=dash, linewidth=3)
    ax.plot(0, 0, "o", color="black", linestyle="none", zorder=5)
    ax.plot(x, y, "s", color="black", linestyle="none", markerfacecolor="white", zorder=5)
    _name_sides(ax, np.zeros(2), np.array([x, 0.0]), np.array([x, y]), e)
    ax.set_aspect("equal")
    ax.set_xlim(-1.15 * size, 1.15 * size)
    ax.set_ylim(-1.15 * size, 1.15 * size)
    ax.set_xlabel("along the line")
    ax.set_ylabel("across the line")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=1, borderaxespad=0)


def branches(ax: Axes, lam: float, *, over: str = "angle", base: str = "mae") -> None:
    """The two branches of the Lai factor, thin, and the greater of them, bold, with the boundary marked.

    ``over`` is "angle" (0 to 90 degrees) or "slope" (0 to four times the boundary, at least 4).
    """
    boundary = math.sqrt(lam) if base == "mse" else lam
    if over == "angle":
        x = np.linspace(0, 90, 721)
        theta = np.radians(x)
        at = math.degrees(math.atan(boundary))
        ax.set_xlabel("angle θ (degrees)")
        ax.set_xticks([0, 45, 90])
    else:
        x = np.linspace(0, 4 * max(1.0, boundary), 801)
        theta = np.arctan(x)
        at = boundary
        ax.set_xlabel("slope k")
    power = 2 if base == "mse" else 1
    low = min(1.0, lam)
    sin, cos = np.sin(theta) ** power / low, lam * np.cos(theta) ** power / low
    least = max(1.0, lam) / (math.hypot(1, lam) if power == 1 else 1 + lam)
    tail = "²" if base == "mse" else ""
    front = "λ " if lam > 1 else ""
    ax.plot(x, np.maximum(sin, cos), color="#bbbbbb", linewidth=6, linestyle="-", label="the greater")
    colour, dash = style(0)
    ax.plot(
        x, sin, color=colour, linestyle=dash, linewidth=1.8, label=f"(sin{tail} θ)/λ" if lam < 1 else f"sin{tail} θ"
    )
    colour, dash = style(1)
    ax.plot(x, cos, color=colour, linestyle=dash, linewidth=1.8, label=f"{front}cos{tail} θ")
    ax.plot(at, least, "o", color="black", linestyle="none", label="boundary", zorder=5)
    ax.set_ylabel("factor")


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.hypot(*v)


def _name_sides(ax: Axes, p: np.ndarray, foot: np.ndarray, q: np.ndarray, e: float) -> None:
    """Write |e|, a and b on the outside of the sides p-q, p-foot and foot-q; a side of no length gets no name."""
    middle = (p + q + foot) / 3
    for one, other, text, colour in ((p, q, "|e|", "black"), (p, foot, "a", COLOURS[0]), (foot, q, "b", COLOURS[1])):
        if np.hypot(*(other - one)) < 0.03 * abs(e):
            continue
        normal = _unit(np.array([-(other - one)[1], (other - one)[0]]))
        outside = normal @ ((one + other) / 2 - middle)
        if outside < 0 or (outside == 0 and text == "b"):  # the line is level: |e| and b coincide
            normal = -normal
        ax.annotate(
            text,
            (one + other) / 2,
            xytext=tuple(14 * normal),
            textcoords="offset points",
            color=colour,
            ha="center",
            va="center",
            fontstyle="italic",
            fontsize=13,
        )


def _note(ax: Axes, at: np.ndarray, text: str, offset: tuple[float, float]) -> None:
    side = "left" if offset[0] > 0 else "right"
    ax.annotate(text, (at[0], at[1]), xytext=offset, textcoords="offset points", ha=side, va="center")


def _at_angle(ax: Axes, centre: np.ndarray, angle: float, radius: float) -> None:
    x, y = centre + radius * np.array([math.cos(angle), math.sin(angle)])
    ax.text(x, y, "θ", ha="center", va="center")
