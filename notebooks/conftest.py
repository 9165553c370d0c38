"""nbval on the notebooks: it runs each once, and what it executed serves the built book as well."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tools import build
from tools.notebook import peak_memory

ROOT = Path(__file__).resolve().parents[1]
CACHED = pytest.StashKey[Path]()
STARTED = pytest.StashKey[float]()
OUTPUTS = pytest.StashKey[dict[str, list[nbformat.NotebookNode]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The chapters from the last to the first, whose shortest then come last, so that no process waits for another."""
    items.sort(key=lambda item: item.path.stem, reverse=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """nbval runs the notebooks on the surrogate, which every machine has and whose verdicts are committed.

    What it executed is kept where `tools.build` looks for it, so that the book is built without running a notebook again.
    """
    if item.path.suffix != ".ipynb":
        return (yield)
    file: Any = item.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "LAI_DATA", "none"
        )  # the kernel starts with a notebook's first cell, and inherits it
        if (
            CACHED not in file.stash
        ):  # before the first cell: the execution belongs to the sources as they are now
            file.stash[CACHED] = build.cached(
                build.Book(ROOT), item.path, build.surroundings(ROOT)
            )
            file.stash[OUTPUTS] = {}
            file.stash[STARTED] = time.monotonic()
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[Any]:
    report = yield
    if (
        item.path.suffix == ".ipynb"
        and report.when == "call"
        and report.passed
    ):
        cell: Any = item
        outputs = cell.parent.stash[OUTPUTS]
        outputs[cell.cell.id] = cell.test_outputs
        seconds = time.monotonic() - cell.parent.stash[STARTED]
        megabytes = peak_memory(cell.parent.kernel.km)
        keep(
            item.path, outputs, cell.parent.stash[CACHED], seconds, megabytes
        )
    return report


def keep(
    notebook: Path,
    outputs: dict[str, list[nbformat.NotebookNode]],
    place: Path,
    seconds: float,
    megabytes: float | None,
) -> None:
    """Write the executed notebook, once every one of its cells has passed."""
    node = nbformat.read(notebook, as_version=4)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    if [cell.id for cell in code] != list(outputs):
        return
    for count, cell in enumerate(code, 1):
        cell.execution_count, cell.outputs = count, outputs[cell.id]
        if cell.source.rstrip().endswith(
            ";"
        ):  # nbval keeps no history, in which IPython looks for the semicolon
            cell.outputs = [
                output
                for output in cell.outputs
                if output.output_type != "execute_result"
            ]
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}")
    nbformat.write(node, partial)
    build.keep(partial, place, seconds, megabytes)
