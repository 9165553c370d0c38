"""Draw the figures of pages that run no code, from the library and the committed results: README's, and that of the answer."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from evidence.figures import fronts, trade_off, use_style
from evidence.ledger.paper import V2_SMOOTHNESS
from lai import lai_factor

ROOT = Path(__file__).resolve().parent.parent


FRONTS = {
    "slope penalty": ("slope penalty", "standardised"),
    "input noise": ("input noise", "standardised"),
    "Lai loss": ("Lai", "standardised"),
}
"""Of the answer's figure: from labels to methods and units."""


def draw(results: Path, target: Path) -> None:
    """README's: the factor, and what λ does."""
    _style()
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.0))
    k = torch.linspace(0, 5, 501, dtype=torch.float64)
    for lam in (0.5, 1.0, 2.0):
        left.plot(k, lai_factor(k, lam, base="mae"), label=f"λ = {lam:g}")
    left.set_xlabel("slope |k| of the model (target per unit of input)")
    left.set_ylabel("factor on the absolute error")
    left.legend()
    trade_off(right, pd.read_csv(results), V2_SMOOTHNESS)
    _save(fig, target)


def draw_answer(results: Path, target: Path) -> None:
    """Error against slope on the housing data, a line for each method."""
    _style()
    fig, ax = plt.subplots(figsize=(5.0, 3.4))
    table = pd.read_csv(results)
    fronts(ax, table[table["task"] == "housing"], FRONTS)
    ax.set_xlim(0.2, 1.15)
    ax.set_ylim(0.97, 1.4)
    ax.legend()
    _save(fig, target)


def _style() -> None:
    use_style()
    plt.rcParams.update({"svg.hashsalt": "lai", "svg.fonttype": "path"})


def _save(fig: Figure, target: Path) -> None:
    """As SVG, the same bytes for the same results."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(target, metadata={"Date": None})
    plt.close(fig)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("usage: python -m tools.readme_figure")
    results, figures = ROOT / "book" / "results", ROOT / "book" / "figures"
    draw(results / "smoothness.csv", figures / "readme.svg")
    draw_answer(results / "relatives_fronts.csv", figures / "answer.svg")
