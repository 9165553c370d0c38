"""README's Python runs as it stands, and its rerun commands name parameters that the chapters have."""

import re
from pathlib import Path

import nbformat
import pytest
import torch

import lai
from tools.notebook import parameters

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_the_code_runs_and_keeps_its_budget() -> None:
    """The model that README trains is as steep, relative to one trained with MSE, as the sweep had said."""
    names: dict = {}
    whole, loop = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(whole, "README.md", "exec"), names)
    choice, train, val, settings = (names[name] for name in ("choice", "train", "val", "settings"))
    plain = lai.MLP(3, standardize=train[0], seed=0)
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
