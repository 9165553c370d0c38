"""Losses and their pulls, shrinkage, coefficient paths, and a penalty that adds beside one that multiplies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .style import GREY, mark_reader, style


def losses_and_pulls(loss_ax: Axes, pull_ax: Axes, reach: float = 3.0) -> None:
    """Squared, absolute and Huber loss over the error, and below them their derivatives.

    The squared loss is halved, so that it and the Huber loss agree up to an error of 1.
    """
    e = np.linspace(-reach, reach, 601)
    curves = {
        "squared, halved": (e**2 / 2, e),
        "absolute": (np.abs(e), np.where(e == 0, np.nan, np.sign(e))),
        "Huber": (np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5), np.clip(e, -1, 1)),
    }
    for i, (name, (loss, pull)) in enumerate(curves.items()):
        colour, dash = style(i)
        loss_ax.plot(e, loss, color=colour, linestyle=dash, label=name)
        pull_ax.plot(e, pull, color=colour, linestyle=dash)
    loss_ax.set_ylabel("loss")
    pull_ax.set_ylabel("derivative")
    pull_ax.set_xlabel("error e")


def shrinkage(ax: Axes, paths: Mapping[str, ArrayLike]) -> None:
    """The size of one weight, step by step, on a logarithmic axis; an exact zero leaves the axis."""
    for i, (name, path) in enumerate(paths.items()):
        size = np.abs(np.asarray(path, dtype=float))
        size[size == 0] = np.nan
        colour, dash = style(i)
        ax.semilogy(np.arange(len(size)), size, color=colour, linestyle=dash, label=name)
        last = int(np.flatnonzero(np.isfinite(size))[-1])
        if last < len(size) - 1:  # from the next step on exactly zero
            ax.plot(last, size[last], "o", color="black", linestyle="none", label="then exactly zero", zorder=5)
    ax.set_xlabel("step")
    ax.set_ylabel("size of the weight")
    ax.legend(loc="lower left")


def coefficient_paths(ax: Axes, beta: ArrayLike, weights: ArrayLike, n_real: int, chosen: float) -> None:
    """Weights, shape (strengths, weights), over the strength; the first ``n_real`` belong to real effects.

    The others, whose true weight is zero, are thin and grey.
    """
    beta, weights = np.asarray(beta), np.asarray(weights)
    for j in range(weights.shape[1]):
        if j < n_real:
            colour, dash = style(j)
            ax.semilogx(beta, weights[:, j], color=colour, linestyle=dash, label=f"$w_{j + 1}$")
        else:
            label = "true weight 0" if j == n_real else None
            ax.semilogx(beta, weights[:, j], color=GREY, linestyle="-", linewidth=1.2, label=label)
    mark_reader(ax, chosen, "your β")
    ax.set_ylabel("weight")


def sum_and_product(
    sum_ax: Axes, product_ax: Axes, k: ArrayLike, added: ArrayLike, multiplied: ArrayLike, errors: Sequence[float]
) -> None:
    """Two losses of one point over its slope ``k``, a curve for each error; shapes (errors, slopes)."""
    for ax, losses in ((sum_ax, np.asarray(added)), (product_ax, np.asarray(multiplied))):
        for i, e in enumerate(errors):
            colour, dash = style(i)
            ax.plot(k, losses[i], color=colour, linestyle=dash, label=f"|e| = {e:g}")
        ax.set_xlabel("slope k")
        ax.set_ylim(bottom=-0.04 * losses.max())


def risks(ax: Axes, degree: ArrayLike, train: ArrayLike, true: ArrayLike, floor: float) -> None:
    """Empirical and true risk of fitted polynomials over their degree, with the noise that no model can undercut."""
    for i, (name, risk) in enumerate((("on the training points", train), ("on new points", true))):
        colour, dash = style(i)
        ax.semilogy(degree, risk, color=colour, linestyle=dash, marker="o", markersize=5, label=name)
    ax.axhline(floor, color=GREY, linewidth=1.2, linestyle=(0, (1, 2)), label="noise variance")
    ax.set_xlabel("degree of the polynomial")
    ax.set_ylabel("mean squared error\n(median)")
    ax.legend()


def roughness(ax: Axes, groups: Mapping[str, ArrayLike]) -> None:
    """One value per seed and group, as points joined by seed, with the groups' means as bars."""
    values = np.array([np.asarray(group, dtype=float) for group in groups.values()])  # (groups, seeds)
    at = np.arange(len(values))
    for seed in values.T:
        ax.plot(at, seed, color=GREY, linewidth=0.8, linestyle="-", marker="o", markersize=4, zorder=2)
    ax.bar(at, values.mean(axis=1), width=0.5, color="#dddddd", edgecolor="black", linewidth=1.0, zorder=1)
    ax.set_xticks(at, list(groups))
    ax.set_ylabel("root mean square slope")
    ax.set_ylim(bottom=0)
