"""The factor over the slope, and how hard it pulls on each side of its boundary."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.axes import Axes

from lai.factor import Base, lai_factor

from .style import GREY, style


def factor_curve(ax: Axes, lam: float, *, base: Base = "mae", k: float = 1.0) -> None:
    """The Lai factor over the slope on logarithmic axes, its boundary, and the factor at one slope ``k`` > 0.

    What `evidence.figures.interactive.factor_curve` shows before a slider is moved, for pages without sliders.
    """
    boundary = math.sqrt(lam) if base == "mse" else lam
    low, high = min(0.01, boundary / 10), max(100.0, boundary * 10)
    sides = (("below the boundary", low, boundary), ("above the boundary", boundary, high))
    for i, (name, start, stop) in enumerate(sides):
        slopes = np.geomspace(start, stop, 300)
        colour, dash = style(i)
        ax.loglog(slopes, _factor(slopes, lam, base), color=colour, linestyle=dash, linewidth=3, label=name)
    for at, marker, fill in ((boundary, "D", "black"), (k, "o", "white")):
        height = float(_factor(np.array(at), lam, base))
        label = f"boundary, k = {at:.3g}" if marker == "D" else f"factor {height:.3g} at k = {at:.3g}"
        ax.plot(at, height, marker, color="black", markerfacecolor=fill, linestyle="none", label=label, zorder=5)
    ax.set_xlabel("slope k")
    ax.set_ylabel(f"factor, λ = {lam:g}")
    if min(1.0, lam) > 0.5 and max(1.0, lam) < 2:  # a low curve: powers of ten would leave no number on the axis
        ax.set_yscale("linear")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, borderaxespad=0)


def pulls(ax: Axes, lam: float, *, base: Base = "mse") -> None:
    """Size of the factor's derivative by the slope, on each side of the boundary, and its law for steep slopes."""
    boundary = math.sqrt(lam) if base == "mse" else lam
    low, high = min(0.01, boundary / 10), max(100.0, boundary * 10)
    below, above = np.geomspace(low, boundary * (1 - 1e-9), 300), np.geomspace(boundary * (1 + 1e-9), high, 300)
    for i, (name, slopes) in enumerate((("up, below the boundary", below), ("down, above it", above))):
        k = torch.tensor(slopes, dtype=torch.float64, requires_grad=True)
        (pull,) = torch.autograd.grad(lai_factor(k, lam, base=base).sum(), k)
        colour, dash = style(i)
        ax.loglog(slopes, pull.abs().numpy(), color=colour, linestyle=dash, linewidth=3, label=name)
    size = 2 if base == "mse" else 1
    steep = np.geomspace(max(1.0, boundary), high, 50)
    tail = size / (min(1.0, lam) * steep**3)
    ax.loglog(steep, tail, color=GREY, linestyle=(0, (1, 2)), linewidth=2, label=f"{size} / (min(1, λ) k³)")
    ax.axvline(boundary, color=GREY, linewidth=1.1, linestyle=(0, (2, 2)), label="boundary", zorder=1)
    ax.set_xlabel("slope k")
    ax.set_ylabel(f"pull of the {base.upper()} factor,\nλ = {lam:g}")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, borderaxespad=0)


def _factor(k: np.ndarray, lam: float, base: Base) -> np.ndarray:
    return np.asarray(lai_factor(torch.as_tensor(k, dtype=torch.float64), lam, base=base))
