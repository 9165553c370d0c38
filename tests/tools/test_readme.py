"""README's Python runs as it stands, and its rerun commands name parameters that the chapters have; drawn figures are up to date."""

import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

import lai
from tools import readme_figure
from tools.notebook import parameters

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_the_code_runs_and_keeps_its_budget() -> None:
    """The model that README trains is as steep, relative to one trained with MSE, as the sweep had said."""
    names: dict = {}
    whole, loop = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(whole, "README.md", "exec"), names)
    choice, train, val, settings = (names[name] for name in ("choice", "train", "val", "settings"))
    plain = lai.MLP(3, seed=0)
    lai.fit(plain, train, **settings)
    slope, of_mse = (
        sum(lai.value_and_input_gradient(m, val[0], create_graph=False)[1].abs().mean(0) * val[0].std(0))
        for m in (names["model"], plain)
    )
    assert choice.met and choice.table["slope"][choice.row] <= 0.6
    assert float(slope / of_mse) == pytest.approx(choice.table["slope"][choice.row], rel=0.01)
    before = [p.detach().clone() for p in names["model"].parameters()]
    exec(compile(loop, "README.md", "exec"), names)
    assert torch.isfinite(names["loss"]) and names["k"].shape == (16, 3)
    assert all((p != q).any() for p, q in zip(before, names["model"].parameters(), strict=True))


def test_rerun_commands_name_real_chapters_and_parameters() -> None:
    commands = re.findall(r"make chapter NAME=(\w+)[^\n]*", TEXT)
    assert commands
    for line in re.findall(r"make chapter [^\n]*", TEXT):
        name = re.search(r"NAME=(\w+)", line)
        assert name
        (path,) = (ROOT / "notebooks").glob(f"*_{name[1]}.ipynb")
        known = parameters(nbformat.read(path, as_version=4))
        given = re.search(r'PARAMS="([^"]*)"', line)
        for item in given[1].split() if given else []:
            assert item.partition("=")[0] in known, f"{line}: no parameter {item}"
    (path,) = re.findall(r"papermill (notebooks/\S+)", TEXT)
    assert (ROOT / path).exists()


def test_links_and_figure_are_there() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT)
    local = [t for t in targets if not t.startswith("http")]
    assert "book/figures/readme.svg" in local
    assert [t for t in local if not (ROOT / t).exists()] == []


def drawn(svg: Path) -> tuple[list[str], np.ndarray]:
    """The commands of all paths of a figure, and where they lead."""
    paths = " ".join(re.findall(r' d="([^"]+)"', svg.read_text(encoding="utf-8")))
    return re.findall(r"[A-Za-z]", paths), np.array(re.findall(r"-?\d[\d.]*", paths), dtype=float)


@pytest.mark.parametrize(
    "draw, table, name",
    [
        (readme_figure.draw, "smoothness.csv", "readme.svg"),
        (readme_figure.draw_answer, "relatives_fronts.csv", "answer.svg"),
    ],
)
def test_a_committed_figure_is_what_the_results_say(
    draw: Callable[[Path, Path], None], table: str, name: str, tmp_path: Path
) -> None:
    with mpl.rc_context():
        draw(ROOT / "book" / "results" / table, tmp_path / name)
    commands, places = drawn(tmp_path / name)
    expected, at = drawn(ROOT / "book" / "figures" / name)
    assert commands == expected
    np.testing.assert_allclose(places, at, atol=0.1)  # points


def test_at_the_same_slope_lai_loss_has_the_larger_error_as_the_answer_says_of_its_figure() -> None:
    fronts = pd.read_csv(ROOT / "book" / "results" / "relatives_fronts.csv").query("task == 'housing'")
    (mse,) = fronts[fronts["method"] == "MSE"]["slope_mean"]
    error = {}
    for method, units in readme_figure.FRONTS.values():
        own = fronts[(fronts["method"] == method) & (fronts["units"] == units)].sort_values("slope_mean")
        error[method] = np.interp(np.linspace(0.3, 0.9, 25) * mse, own["slope_mean"], own["rmse_mean"])
    for other in ("input noise", "slope penalty"):
        gap = error["Lai"] - error[other]
        assert (gap > 0).all() and (np.diff(gap[::8]) < 0).all()  # larger the flatter the models
    assert error["slope penalty"].sum() < error["input noise"].sum()  # as the alt text says
