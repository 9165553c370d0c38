"""nbval runs the notebooks on the surrogate, which every machine has and whose verdicts are committed."""

import os
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    before = os.environ.get("LAI_DATA")
    # The kernel starts with a notebook's first cell, and inherits it.
    os.environ["LAI_DATA"] = "none"
    try:
        return (yield)
    finally:
        if before is None:
            del os.environ["LAI_DATA"]
        else:
            os.environ["LAI_DATA"] = before
