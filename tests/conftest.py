"""What several files of tests ask for by name, and which tests share a worker."""

import functools
import io
import re
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]

collect_ignore = ["conftest.py", "book/conftest.py"]
"""No tests in them, and one name for two modules is more than the collection of doctests takes."""

JUDGING = ("tests/book/test_ledger_page.py", "tests/evidence/test_claims.py", "tests/tools/test_report.py")
"""Files whose tests judge every claim, which a process does once."""

BAD_INPUTS = "tests/lai/test_bad_inputs.py::test_refused_with_parameter_and_value["
"""The table of bad inputs, one of them a test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-health", action="store_true", help="keep what the long tests found for the book's pages")


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    # Of the whole run alone: not of one that was interrupted, or of some of its tests.
    if not config.getoption("--record-health") or exitstatus not in (0, 1) or config.option.keyword:
        return
    from tools import health, reproduce

    found = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "skipped")}
    found["failed"] += len(terminalreporter.stats.get("error", []))
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


def group(nodeid: str) -> str:
    """Tests of one group run in one process: those of a chapter, which share its runs, else those of a file."""
    path, _, test = nodeid.partition("::")
    if path.endswith("test_all_chapters.py") and (chapter := re.search(r"\[.*?(\d\d_[a-z_]+)", test)):
        return chapter[1]
    return "all claims" if path in JUDGING else chapters().get(path, path)


@functools.cache
def chapters() -> dict[str, str]:
    """The files of tests that are about one chapter."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "book").glob("test_chapter_*.py")}
    found = {path: re.search(r'^CHAPTER = "(\w+)"', text, re.MULTILINE) for path, text in texts.items()}
    return {path.relative_to(ROOT).as_posix(): chapter[1] for path, chapter in found.items() if chapter}


class ByGroup(LoadScopeScheduling):
    """xdist 3.8 marks groups (`--dist loadgroup`) in a way that pytest 9.2 no longer sees, and runs every test where there is room."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)  # tools/mutate.py does without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return ByGroup(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first group that reads the built pages comes first and builds them, the others when they are there, so that no process waits."""
    groups = {item: group(item.nodeid) for item in items}
    asked = {item: getattr(item, "fixturenames", ()) for item in items}
    of_pages = {groups[item] for item in items if "html" in asked[item]}
    # One that needs no browser, as without one its tests are left out and nothing is built.
    first = next((groups[item] for item in items if "html" in asked[item] and "browser" not in asked[item]), None)

    def place(item: pytest.Item) -> int:
        if groups[item] in of_pages:
            return 0 if groups[item] == first else 2
        early = ("tests/benchmarks/", "tests/book/", "tests/evidence/")
        return 1 if item.nodeid.startswith(early) else 3

    items.sort(key=place)
