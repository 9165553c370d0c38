"""Draw README's figure from the library and the committed results: the factor, and what λ does."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import pandas as pd
import torch
from matplotlib import pyplot as plt

from evidence.figures import trade_off, use_style
from evidence.ledger.paper import V2_SMOOTHNESS
from lai import lai_factor

ROOT = Path(__file__).resolve().parent.parent


def draw(results: Path, target: Path) -> None:
    """Write the figure as SVG, the same bytes for the same results."""
    use_style()
    plt.rcParams.update({"svg.hashsalt": "lai", "svg.fonttype": "path"})
    fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.0))
    k = torch.linspace(0, 5, 501, dtype=torch.float64)
    for lam in (0.5, 1.0, 2.0):
        left.plot(k, lai_factor(k, lam, base="mae"), label=f"λ = {lam:g}")
    left.set_xlabel("slope |k| of the model (target per unit of input)")
    left.set_ylabel("factor on the absolute error")
    left.legend()
    trade_off(right, pd.read_csv(results), V2_SMOOTHNESS)
    target.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(target, metadata={"Date": None})
    plt.close(fig)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("usage: python -m tools.readme_figure")
    draw(ROOT / "book" / "results" / "smoothness.csv", ROOT / "book" / "figures" / "readme.svg")
