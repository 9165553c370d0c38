"""Results of experiments: curves, trade-offs, dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from .style import COLOURS, GREY, SMALLEST, legend_above, legend_row, style

if TYPE_CHECKING:
    import pandas as pd


def validation_curves(ax: Axes, curves: pd.DataFrame, protocol: str, *, first_epoch: int = 0) -> None:
    """Validation RMSE by epoch, a line an arm: the mean over seeds, with the range of the seeds behind it.

    ``curves`` has columns protocol, arm, epoch, and either val_rmse with one row a seed, or mean, low and high.
    """
    chosen = curves[(curves["protocol"] == protocol) & (curves["epoch"] >= first_epoch)]
    if "mean" not in chosen:
        over_seeds = chosen.groupby(["arm", "epoch"], sort=False)["val_rmse"]
        chosen = over_seeds.agg(mean="mean", low="min", high="max").reset_index()
    for i, (arm, line) in enumerate(chosen.groupby("arm", sort=False)):
        colour, dash = ("black", "-") if arm == "MSE" else style((i - 1) % len(COLOURS))
        ax.plot(line["epoch"], line["mean"], color=colour, linestyle=dash, linewidth=1.6, label=str(arm))
        ax.fill_between(line["epoch"], line["low"], line["high"], color=colour, alpha=0.12, linewidth=0)
    # One epoch's outlier can be ten times as high as all that is to be seen.
    ax.set_ylim(float(chosen["low"].min()) - 0.005, float(chosen["high"].quantile(0.97)))
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation RMSE (100,000 US$)")
    legend_row(ax, protocol)


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
    labels = []
    for i, (name, points) in enumerate(groups):
        colour, marker = ("black", "s") if i == 0 else (COLOURS[i - 1], "o^D"[(i - 1) % 3])
        means = [(float(np.mean(x)), float(np.mean(y))) for _, x, y in points]
        ax.plot(*np.array(means).T, color=colour, marker=marker, linewidth=1.2, linestyle="-", label=name)
        for (lam, x, y), mean in zip(points, means, strict=True):
            ax.plot(x, y, color=colour, marker=marker, markersize=3, alpha=0.4, linestyle="none")
            labels.append((f"λ = {lam:g}", mean, "left" if i == 2 else "right", colour))
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.margins(x=0.2)
    ax.set_xlabel("change of output variance against MSE (%)")
    ax.set_ylabel("change of validation RMSE\nagainst MSE (%)")
    ax.legend()
    _write_where_there_is_room(ax, labels)


def _write_where_there_is_room(ax: Axes, labels: Sequence[tuple[str, tuple[float, float], str, str]]) -> None:
    """Texts beside their points (text, point, side, colour), but for those that would leave the axes or cover a point,
    another text or the legend."""
    ax.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]  # the layout, which moves the axes
    legend = ax.get_legend()
    frame, taken = ax.get_window_extent(), [legend.get_window_extent()] if legend else []
    marks = ax.transData.transform([point for _, point, _, _ in labels])
    taken += [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in marks]
    for text, point, side, colour in labels:
        offset, ha = ((-7, -12), "right") if side == "left" else ((7, 4), "left")
        note = ax.annotate(
            text, point, xytext=offset, ha=ha, textcoords="offset points", fontsize=SMALLEST, color=colour
        )
        box = note.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
        else:
            note.remove()


def swing(ax: Axes, runs: pd.DataFrame, *, up_to: int = 200, step: int = 10) -> None:
    """How far each network's RMSE lies from its own mean, by the number of plain steps since its last Lai batch.

    ``runs`` has columns seed, placement, since and rmse, several moments of each network. Small marks are moments, a line joins
    the means over intervals of ``step`` steps, each placement its own.
    """
    for i, (placement, own) in enumerate(runs[runs["since"] <= up_to].groupby("placement", sort=False)):
        apart = own["rmse"] - own.groupby("seed")["rmse"].transform("mean")
        colour, dash = style(i)
        ax.plot(own["since"], apart, color=colour, marker="os"[i], markersize=3, alpha=0.35, linestyle="none")
        means = apart.groupby(own["since"] // step * step + step / 2).agg(["mean", "size"]).query("size >= 3")
        ax.plot(means.index, means["mean"], color=colour, linestyle=dash, label=str(placement))
    ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
    ax.set_xlabel("plain steps since the last Lai batch")
    ax.set_ylabel("RMSE less the network's mean")
    legend_above(ax, "Lai batches")


def paired_dots(ax: Axes, values: pd.DataFrame, ylabel: str) -> None:
    """Two or more columns side by side for each row of ``values``, as dots on a logarithmic axis: bars would need a zero."""
    for i, name in enumerate(values.columns):
        x = np.arange(len(values)) + 0.16 * (i - (values.shape[1] - 1) / 2)
        ax.plot(x, values[name], "osD^"[i % 4], color=COLOURS[i], linestyle="none", label=name)
    ax.set_xticks(range(len(values)), values.index, rotation=30, ha="right")
    ax.set_yscale("log")
    ax.set_ylabel(ylabel)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0)


def _relative(arm: tuple[float, float], control: tuple[float, float]) -> tuple[float, float]:
    """(RMSE, variance) pairs to the changes (variance, RMSE) in per cent."""
    return 100 * (arm[1] / control[1] - 1), 100 * (arm[0] / control[0] - 1)
