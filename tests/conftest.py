"""What several files of tests ask for by name, and which tests share a worker."""

import io
from typing import Any

import pytest

collect_ignore = ["conftest.py", "book/conftest.py", "lai/conftest.py"]
"""No tests in them, and one name for two modules is more than the collection of doctests takes."""

BAD_INPUTS = "tests/lai/test_bad_inputs.py::test_refused_with_parameter_and_value["
"""The table of bad inputs, one of them a test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-health", action="store_true", help="keep what the long tests found for the book's pages")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--record-health"):
        return
    from tools import health, reproduce

    found = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "skipped")}
    ended = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    axe = [value for report in ended for key, value in report.user_properties if key == "axe"]
    if axe:  # a number for every page
        health.record("axe", {"violations": sum(axe), "pages": len(axe)})
    for report in ended:
        for key, value in report.user_properties:
            if key == "comparison":
                reproduce.second(value)
    if config.getoption("cov_source", None):  # with --cov
        health.record("coverage", covered())
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    health.record("tests", {**found, "bad_inputs": sum(name.startswith(BAD_INPUTS) for name in passed)})


def covered() -> dict[str, float]:
    """How much of each package the tests ran, in per cent of its statements and branches."""
    from coverage import Coverage

    kept = Coverage()
    kept.load()
    return {
        name: round(kept.report(include=f"{name}/*", file=io.StringIO()), 1) for name in kept.get_option("run:source")
    }


@pytest.fixture
def surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Kaggle's data, whatever this machine has."""
    monkeypatch.setenv("LAI_DATA", "none")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All tests of a chapter on one worker, as they share its runs; other tests with those of their file.

    The first group that reads the built pages comes first and builds them, the others when they are there, so that no worker waits.
    """
    if not config.pluginmanager.hasplugin("xdist"):  # which the mark belongs to; tools/mutate.py does without
        return
    groups = {}
    for item in items:
        chapter = getattr(getattr(item, "module", None), "CHAPTER", None)
        if item.path.stem == "test_all_chapters" and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            chapter = item.callspec.params["name"]
        groups[item] = chapter or item.path.relative_to(config.rootpath).as_posix()
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    of_pages = list(dict.fromkeys(groups[item] for item in items if "html" in getattr(item, "fixturenames", ())))

    def place(item: pytest.Item) -> int:
        if groups[item] in of_pages:
            return 0 if groups[item] == of_pages[0] else 2
        early = ("tests/benchmarks/", "tests/book/", "tests/evidence/")
        return 1 if item.path.relative_to(config.rootpath).as_posix().startswith(early) else 3

    items.sort(key=place)
