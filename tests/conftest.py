"""What several files of tests ask for by name, and which tests share a worker."""

import pytest


@pytest.fixture
def surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Kaggle's data, whatever this machine has."""
    monkeypatch.setenv("LAI_DATA", "none")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All tests of a chapter on one worker, as they share its runs; other tests with those of their file."""
    if not config.pluginmanager.hasplugin("xdist"):  # which the mark belongs to; tools/mutate.py does without
        return
    for item in items:
        chapter = getattr(getattr(item, "module", None), "CHAPTER", None)
        if item.path.stem == "test_all_chapters" and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            chapter = item.callspec.params["name"]
        item.add_marker(pytest.mark.xdist_group(chapter or item.path.relative_to(config.rootpath).as_posix()))
