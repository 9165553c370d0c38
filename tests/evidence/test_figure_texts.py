"""Texts of figures on a telephone: in a window 390 pixels wide a figure is shown 358 wide, and no text may be below 9 pixels there.

The exponents of powers of ten and the indices of formulas are smaller than the text that they belong to, and are not looked at.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.polynomial import Polynomial

from evidence import figures
from evidence.data import sensor_readings
from evidence.figures.style import SMALLEST, WIDEST
from evidence.ledger.paper import V1_SMOOTHNESS

ROOT = Path(__file__).parents[2]
SHOWN, LEAST = 358, 9
PAD = 0.2  # inches that an inline figure has around what is drawn


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with mpl.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def pulls(fig: Figure) -> None:
    figures.pulls(fig.subplots(), 0.1)


def losses(fig: Figure) -> None:
    axes = fig.subplots(1, 2)
    figures.losses_and_pulls(*axes)
    figures.shared_legend(fig, axes[0])


def three_panels(fig: Figure) -> None:
    for ax, lam in zip(fig.subplots(1, 3, sharey=True), (1.0, 0.5, 2.0), strict=True):
        figures.branches(ax, lam)
        figures.legend_above(ax, f"λ = {lam:g}")
        ax.label_outer()


def sensor(fig: Figure) -> None:
    ax = fig.subplots()
    x, y = sensor_readings()
    figures.triangle_on_curve(ax, (x, y[0]), Polynomial.fit(x, y[0], 6), 9)
    figures.shared_legend(fig, ax)


def surface(fig: Figure) -> None:
    grid = torch.linspace(-1, 1, 9)
    figures.line_surface_3d(fig.add_subplot(projection="3d"), grid, grid, torch.outer(grid, grid))


def basins(fig: Figure) -> None:
    grid = torch.linspace(-1, 1, 9)
    ax = fig.subplots()
    figures.basins(ax, grid, grid, torch.outer(grid, grid) > 0, {"lowest loss": (0.0, 0.0)})
    figures.shared_legend(fig, ax)


def trade_off(fig: Figure) -> None:
    figures.trade_off(fig.subplots(), pd.read_csv(ROOT / "book" / "results" / "strength.csv"), V1_SMOOTHNESS)


def curves(fig: Figure) -> None:
    arms = ["MSE", *(f"λ = {10.0**-n:g}" for n in range(5))]
    made = pd.DataFrame(
        [(arm, epoch, 1 / epoch) for arm in arms for epoch in range(1, 9)], columns=["arm", "epoch", "mean"]
    )
    made = made.assign(protocol="published", low=made["mean"] - 0.01, high=made["mean"] + 0.01)
    figures.validation_curves(fig.subplots(), made, "published")


def dots(fig: Figure) -> None:
    values = pd.DataFrame(np.ones((8, 4)), index=[f"Feature{i}" for i in range(8)])
    values.columns = pd.Index(["paper", "one recipe, 100 epochs", "another recipe", "a third"])
    figures.paired_dots(fig.subplots(), values, "sensitivity")


def spreads(fig: Figure) -> None:
    pair = {"a way to measure it": np.linspace(0.6, 0.9, 10), "another way": np.linspace(0.7, 0.8, 10)}
    figures.spreads(fig.subplots(), {"a loss, λ = 0.001": pair, "another, 500 epochs": pair}, "validation RMSE")


@pytest.mark.parametrize(
    "draw", [pulls, losses, three_panels, sensor, surface, basins, trade_off, curves, dots, spreads]
)
def test_texts_can_be_read_on_a_telephone(draw: Callable[[Figure], None]) -> None:
    fig = plt.figure(figsize=(WIDEST, 4))
    draw(fig)
    fig.draw_without_rendering()
    texts = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip()]
    saved = fig.dpi * (fig.get_tightbbox().width + PAD)
    assert len(texts) > 5
    assert min(text.get_fontsize() for text in texts) * fig.dpi / 72 * SHOWN / saved >= LEAST


def test_no_literal_is_below_the_smallest_or_above_the_widest() -> None:
    code = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "evidence" / "figures").glob("*.py")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code[path.name] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    found: dict[str, list[tuple[str, str]]] = {"size": [], "width": []}
    for name, text in code.items():
        found["size"] += [(name, size) for size in re.findall(r"(?:font|label)_?size\"?[=:] ?([\d.]+)", text)]
        found["width"] += [(name, width) for width in re.findall(r"figsize=\(\s*([\d.]+)", text)]
    assert len(found["width"]) > 50
    assert [at for at in found["size"] if float(at[1]) < SMALLEST] == []
    assert [at for at in found["width"] if float(at[1]) > WIDEST] == []
