"""A chapter executed in the test's own process, with what a test changes; at small sizes once for all tests."""

import ast
import contextlib
import functools
import io
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pandas as pd
import pytest
import torch

from tools.values import read_values

matplotlib.use("Agg")

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
# Chapters that train, with parameters that make the same cells run in seconds.
QUICK = {
    "00_losses_and_regularization": "worlds=50",
    "30_nonlinear": "seeds=3 pretrain_steps=60 steps=15",
    "40_high_dimension": "rows=200 seeds=2 list_steps=5 vector_steps=5",
    "51_coupled_samples": "seeds=2 pretrain_epochs=1 epochs=1",
    "50_limitations": "starts=20 seeds=2 steps=20",
    "60_lai_training": "lams=[0.1] alphas=[0.25,1.0] seeds=2 worlds=2 pretrain_epochs=4 epochs=4",
    "61_strength_map": "lams=[0.5] alphas=[0.25,1.0] seeds=2 rows=256 pretrain_epochs=1 epochs=2 n_jobs=1",
    "70_experiments_smoothness": "lam_sound=[0.1] seeds=2 pretrain_epochs=1 epochs=2 alpha=0.5 n_jobs=1",
    "71_experiments_sensitivity": "seeds=2 pretrain_epochs=1 epochs=2 alpha=1 n_jobs=1 protocols=published",
    "72_experiments_strength": "seeds=1 epochs=5 n_jobs=1 protocols=published",
    "73_experiments_sampling": "seeds=2 epochs=8 n_jobs=1 protocols=published",
    "75_robustness": "pretrain_epochs=1 epochs=10 alpha=0.3",
    "80_relatives": "steps=30",
    "81_choosing": "epochs=8",
    "82_scikit_learn": "epochs=4",
    "74_protocol_search": "pretrain_epochs=1 epochs=1 n_jobs=1",
}


class Run:
    """A chapter's code cells, executed one after the other; what each printed, what was glued, which tables it ends with."""

    def __init__(self, chapter: str, **parameters: Any) -> None:
        self.notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
        self.names: dict[str, Any] = {}
        self.glued: dict[str, Any] = {}
        self.printed: dict[str, str] = {}
        self.tables: dict[str, str] = {}  # as HTML
        self.found: dict[str, dict[str, Any]] = {}  # the names as each cell found them
        self.parameters = parameters
        self.dtype = torch.get_default_dtype()

    def cells(self) -> Iterator[Any]:
        return (cell for cell in self.notebook.cells if cell.cell_type == "code")

    def all(self, until: str = "", leave_out: Collection[str] = ()) -> "Run":
        """Execute the cells up to ``until``, but for those that only cost time in a test, and the glue of these."""
        leave_out = {*leave_out, *(f"{name}-glue" for name in leave_out)}
        with surroundings(self.glued):
            for cell in self.cells():
                if cell.id == until:
                    break
                if cell.id in leave_out:
                    continue
                self.found[cell.id] = dict(self.names)
                self.printed[cell.id] = self._execute(cell.source, cell.id)
                if "parameters" in cell.metadata.get("tags", []):
                    self.names.update(self.parameters)
            self.dtype = torch.get_default_dtype()
        return self

    def source(self, name: str) -> str:
        return next(cell.source for cell in self.cells() if cell.id == name)

    def again(self, name: str, old: str = "", new: str = "") -> str:
        """Execute one cell in what the others left, with a change in its source; what it prints."""
        assert old in self.source(name)
        with surroundings({}):
            torch.set_default_dtype(self.dtype)  # as the chapter's first cell left it
            return self._execute(self.source(name).replace(old, new), name)

    def mutant(self, name: str, changes: Mapping[str, Any] = {}, old: str = "", new: str = "") -> str:  # noqa: B006
        """What one cell prints in what it found, with other values or a change in its source; the run stays as it is."""
        kept = dict(self.names)
        # In place: functions of earlier cells look into this very dict.
        self.names.clear()
        self.names.update(self.found[name], **changes)
        try:
            return self.again(name, old, new)
        finally:
            self.names.clear()
            self.names.update(kept)

    def inserted(self) -> set[str]:
        """The names of the numbers that the prose asks for."""
        prose = "\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")
        return set(re.findall(r"\{glue:text\}`([^`:]+)", prose))

    def assert_every_inserted_number_is_there(self) -> None:
        assert self.inserted() <= self.glued.keys()
        assert [
            name for name, value in self.glued.items() if isinstance(value, float) and not math.isfinite(value)
        ] == []

    def assert_refused(self, message: str, **where: Any) -> None:
        """A bad parameter stops a chapter, with an error that begins with ``message``, before anything is computed."""
        with pytest.raises((ValueError, TypeError), match=f"^{message}"):
            self.all(**where)
        assert list(self.printed) == ["parameters"] and not self.glued

    def _execute(self, source: str, name: str) -> str:
        tree, last = ast.parse(source, name), None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(tree, name, "exec"), self.names)  # noqa: S102
            value = last and eval(compile(last, name, "eval"), self.names)  # noqa: S307
        if isinstance(value, pd.DataFrame):
            self.tables[name] = value.to_html()
        return out.getvalue()

    def lines(self, name: str) -> list[str]:
        """What a cell printed."""
        return self.printed[name].splitlines()

    def verdicts(self) -> list[str]:
        tagged = [c.id for c in self.cells() if "nbval-check-output" in c.metadata.get("tags", [])]
        return [self.printed[name].rstrip("\n") for name in tagged]


@functools.cache
def small(name: str, lam: str) -> Run:
    """A chapter at small sizes on the stand-in for Kaggle's data; tests that ask for the same λ share the run.

    A test that changes what the run left puts it back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAI_DATA", "none")
        return Run(name, **read_values(ROOT / "notebooks" / f"{name}.ipynb", lam, QUICK.get(name, ""))).all()


def committed_verdicts(chapter: str) -> dict[str, list[str]]:
    """What the verdict cells of the committed notebook print, by the cell's name."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    tagged = (cell for cell in notebook.cells if "nbval-check-output" in cell.metadata.get("tags", []))
    return {cell.id: "".join(output.text for output in cell.outputs).splitlines() for cell in tagged}


@contextlib.contextmanager
def surroundings(glued: dict[str, Any]) -> Iterator[None]:
    """glue() into a dict; one thread; matplotlib and torch left as they were."""
    import matplotlib.pyplot as plt
    import myst_nb

    before = torch.get_default_dtype(), torch.get_num_threads(), myst_nb.glue
    torch.set_num_threads(1)
    myst_nb.glue = lambda name, value, display=True: glued.update({name: value})
    try:
        with plt.rc_context():
            yield
    finally:
        torch.set_default_dtype(before[0])
        torch.set_num_threads(before[1])
        myst_nb.glue = before[2]
        plt.close("all")
