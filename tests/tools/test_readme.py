"""README's Python runs as it stands, and its rerun commands name parameters that the chapters have."""

import re
from pathlib import Path

import nbformat
import torch

from tools.notebook import parameters

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_the_training_loop_runs_and_trains() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), names)
    assert torch.isfinite(names["loss"]) and names["k"].shape == (64, 3)
    assert any(p.grad is not None and (p.grad != 0).any() for p in names["model"].parameters())


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
