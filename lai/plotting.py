"""Figures of the book. The only module that imports matplotlib; import it by name.

Every function draws into Axes that the chapter has made and returns None, so that a cell ends without an
address. Lines differ by dash pattern as well as by colour: they must be told apart in grey and with dark
colours inverted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, Polygon, Rectangle

if TYPE_CHECKING:
    import pandas as pd

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

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A4F7D")
"""Blue, vermilion, green and purple after Okabe and Ito, told apart by readers of every colour vision."""

DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1, 2)))
"""Solid, dashed, dotted, dash-dotted, in the order of `COLOURS`."""

_GREY = "#6b6b6b"


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
    ax.axvline(x, color=_GREY, linewidth=1.1, linestyle=(0, (2, 2)), label=label, zorder=1)


def legend_above(ax: Axes, title: str) -> None:
    """A legend over the Axes, where a narrow panel has no room for it."""
    ax.legend(title=title, loc="lower left", bbox_to_anchor=(-0.05, 1.0), fontsize=9, borderaxespad=0, handlelength=1.6)


def shared_legend(fig: Figure, ax: Axes) -> None:
    """One legend for all panels, in a row above them, with the entries of ``ax``."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9, handlelength=1.6)


def triangle(ax: Axes, k: float, e: float) -> None:
    """The line of slope ``k``, an error ``e`` = prediction - target, and its legs along and across the line.

    The prediction is the origin. One unit of x is drawn as long as one unit of y: angles are true.
    """
    theta = math.atan(k)
    along = np.array([math.cos(theta), math.sin(theta)])
    p, q = np.zeros(2), np.array([0.0, -e])
    foot = (q @ along) * along
    span = 0.75 * abs(e)
    ends = np.array([p, foot]) @ along
    start, stop = (ends.min() - span) * along, (ends.max() + span) * along

    ax.plot(*np.array([start, stop]).T, color="black", linewidth=1.6, linestyle="-")
    ax.plot([-0.6 * abs(e), 0.75 * abs(e)], [0, 0], color=_GREY, linewidth=1, linestyle=(0, (1, 2)))
    for one, other, colour, dash in ((p, q, "black", "-"), (p, foot, *_style(0)), (foot, q, *_style(1))):
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
        ax.add_patch(Arc((0, 0), size, size, theta1=low, theta2=high, color="black", linewidth=1.2))
        _at_angle(ax, p, math.radians((low + high) / 2), 0.5 * size + 0.09 * abs(e))
        to_p, to_foot = (math.degrees(math.atan2(*(point - q)[::-1])) for point in (p, foot))
        low, high = sorted((to_p, to_foot))
        ax.add_patch(Arc((0.0, -e), size, size, theta1=low, theta2=high, color="black", linewidth=1.2))
        _at_angle(ax, q, math.radians((low + high) / 2), 0.5 * size + 0.09 * abs(e))
        inward, upward = _unit(p - foot) * corner, _unit(q - foot) * corner
        square = Polygon(
            [foot + inward, foot + inward + upward, foot + upward], closed=False, fill=False, linewidth=1.1
        )
        ax.add_patch(square)
    ax.set_aspect("equal")
    ax.set_xlabel("x, from the prediction (dimensionless)")
    ax.set_ylabel("y, from the prediction\n(dimensionless)")


def turned_axes(ax: Axes, k: float, e: float) -> None:
    """The error of `triangle` in axes turned along the line, with the balls of three distances around it.

    All points of the square have the error's Chebyshev distance, all points of the circle its Euclidean one.
    """
    theta = math.atan(k)
    x, y = -e * math.sin(theta), -e * math.cos(theta)
    reach, size = max(abs(x), abs(y)), abs(e)
    square = Rectangle((-reach, -reach), 2 * reach, 2 * reach, fill=False, linewidth=2.2, edgecolor=COLOURS[2])
    circle = Circle((0, 0), size, fill=False, linewidth=1.4, edgecolor=_GREY, linestyle=(0, (4, 3)))
    ax.add_patch(square)
    ax.add_patch(circle)
    square.set_label("same Chebyshev distance")
    circle.set_label("same Euclidean distance")
    ax.axhline(0, color="black", linewidth=1.6, linestyle="-")
    ax.axvline(0, color=_GREY, linewidth=1, linestyle=(0, (1, 2)))
    ax.plot([0, x], [0, y], color="black", linestyle="-", linewidth=3)
    for across, down, (colour, dash) in (([0, x], [0, 0], _style(0)), ([x, x], [0, y], _style(1))):
        ax.plot(across, down, color=colour, linestyle=dash, linewidth=3)
    ax.plot(0, 0, "o", color="black", linestyle="none", zorder=5)
    ax.plot(x, y, "s", color="black", linestyle="none", markerfacecolor="white", zorder=5)
    _name_sides(ax, np.zeros(2), np.array([x, 0.0]), np.array([x, y]), e)
    ax.set_aspect("equal")
    ax.set_xlim(-1.15 * size, 1.15 * size)
    ax.set_ylim(-1.15 * size, 1.15 * size)
    ax.set_xlabel("along the line (dimensionless)")
    ax.set_ylabel("across the line (dimensionless)")
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
        ax.set_xlabel("slope k (dimensionless)")
    power = 2 if base == "mse" else 1
    low = min(1.0, lam)
    sin, cos = np.sin(theta) ** power / low, lam * np.cos(theta) ** power / low
    least = max(1.0, lam) / (math.hypot(1, lam) if power == 1 else 1 + lam)
    tail = "²" if base == "mse" else ""
    front = "λ " if lam > 1 else ""
    ax.plot(x, np.maximum(sin, cos), color="#bbbbbb", linewidth=6, linestyle="-", label="the greater")
    colour, dash = _style(0)
    ax.plot(
        x, sin, color=colour, linestyle=dash, linewidth=1.8, label=f"(sin{tail} θ)/λ" if lam < 1 else f"sin{tail} θ"
    )
    colour, dash = _style(1)
    ax.plot(x, cos, color=colour, linestyle=dash, linewidth=1.8, label=f"{front}cos{tail} θ")
    ax.plot(at, least, "o", color="black", linestyle="none", label="boundary", zorder=5)
    ax.set_ylabel("factor (dimensionless)")


def _style(i: int) -> tuple[str, str | tuple[int, tuple[float, ...]]]:
    return COLOURS[i], DASHES[i]


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


def validation_curves(ax: Axes, curves: pd.DataFrame, protocol: str, *, first_epoch: int = 0) -> None:
    """Validation RMSE by epoch, a line an arm: the mean over seeds, with the range of the seeds behind it.

    ``curves`` has columns protocol, arm, epoch, and either val_rmse with one row a seed, or mean, low and high.
    """
    chosen = curves[(curves["protocol"] == protocol) & (curves["epoch"] >= first_epoch)]
    if "mean" not in chosen:
        over_seeds = chosen.groupby(["arm", "epoch"], sort=False)["val_rmse"]
        chosen = over_seeds.agg(mean="mean", low="min", high="max").reset_index()
    for i, (arm, line) in enumerate(chosen.groupby("arm", sort=False)):
        colour, dash = ("black", "-") if arm == "MSE" else _style((i - 1) % len(COLOURS))
        ax.plot(line["epoch"], line["mean"], color=colour, linestyle=dash, linewidth=1.6, label=str(arm))
        ax.fill_between(line["epoch"], line["low"], line["high"], color=colour, alpha=0.12, linewidth=0)
    # One epoch's outlier can be ten times as high as all that is to be seen.
    ax.set_ylim(float(chosen["low"].min()) - 0.005, float(chosen["high"].quantile(0.97)))
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation RMSE (100,000 US$)")
    ax.legend(ncols=2, fontsize=9)


def trade_off(ax: Axes, table: pd.DataFrame, paper: Mapping[float | None, tuple[float, float]]) -> None:
    """Each arm's change of variance and of RMSE against its own MSE, in per cent: the paper's and each protocol's.

    Small marks are seeds, large ones their means, joined in the order of λ; λ is written where there is room.
    """
    groups = [("paper, one run", [(k, *_relative(v, paper[None])) for k, v in paper.items() if k is not None])]
    for protocol, runs in table.groupby("protocol", sort=False):
        control = runs[runs["arm"] == "MSE"].set_index("seed")
        points = []
        for lam, arm in runs.dropna(subset="lam").groupby("lam", sort=False):
            own = control.loc[arm["seed"]]
            change = [100 * (arm[m].to_numpy() / own[m].to_numpy() - 1) for m in ("variance", "rmse")]
            points.append((lam, *change))
        groups.append((f"{protocol}, {runs['seed'].nunique()} seeds", points))
    for i, (name, points) in enumerate(groups):
        colour, marker = ("black", "s") if i == 0 else (COLOURS[i - 1], "o^"[(i - 1) % 2])
        means = [(float(np.mean(x)), float(np.mean(y))) for _, x, y in points]
        ax.plot(*np.array(means).T, color=colour, marker=marker, linewidth=1.2, linestyle="-", label=name)
        for (lam, x, y), mean in zip(points, means, strict=True):
            ax.plot(x, y, color=colour, marker=marker, markersize=3, alpha=0.4, linestyle="none")
            if math.hypot(*mean) > 4:  # nearer to the origin the labels would cover each other
                ax.annotate(f"λ = {lam:g}", mean, xytext=(6, 4), textcoords="offset points", fontsize=9, color=colour)
    ax.axhline(0, color=_GREY, linewidth=0.8, linestyle="-")
    ax.axvline(0, color=_GREY, linewidth=0.8, linestyle="-")
    ax.set_xlabel("change of output variance against MSE (%)")
    ax.set_ylabel("change of validation RMSE\nagainst MSE (%)")
    ax.legend()


def paired_bars(ax: Axes, values: pd.DataFrame, ylabel: str) -> None:
    """Two or more columns side by side for each row of ``values``, on a logarithmic axis."""
    width = 0.8 / values.shape[1]
    for i, name in enumerate(values.columns):
        x = np.arange(len(values)) + (i - (values.shape[1] - 1) / 2) * width
        ax.bar(x, values[name], width, color=COLOURS[i], hatch=("", "//", "..")[i % 3], edgecolor="white", label=name)
    ax.set_xticks(range(len(values)), values.index, rotation=30, ha="right")
    ax.set_yscale("log")
    ax.set_ylabel(ylabel)
    ax.legend()


def _relative(arm: tuple[float, float], control: tuple[float, float]) -> tuple[float, float]:
    """(RMSE, variance) pairs to the changes (variance, RMSE) in per cent."""
    return 100 * (arm[1] / control[1] - 1), 100 * (arm[0] / control[0] - 1)
