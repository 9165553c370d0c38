"""What several files of tests ask for by name."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes minutes, or is drawn at random; `make test-all` runs it")


@pytest.fixture
def surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Kaggle's data, whatever this machine has."""
    monkeypatch.setenv("LAI_DATA", "none")
