"""What several files of tests ask for by name, and what data nbval gives the notebooks."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Kaggle's data, whatever this machine has."""
    monkeypatch.setenv("LAI_DATA", "none")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """nbval runs the notebooks on the surrogate, which every machine has and whose verdicts are committed."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.suffix == ".ipynb":  # the kernel starts with a notebook's first cell, and inherits it
            patch.setenv("LAI_DATA", "none")
        return (yield)
