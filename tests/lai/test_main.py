"""`python -m lai`: a line for each thing, OK or FAIL, and a failure of an extra does not fail the whole."""

import sys

import pytest

from lai import __main__ as report


def test_every_line_says_ok_or_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(report, "_compiler", lambda: "not tried")
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    assert report.main() == 0
    lines = {line[6:18].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert all(line.startswith(("OK ", "FAIL")) for line in lines.values())
    assert lines["slopes"].startswith("OK") and lines["lai[plot]"].startswith("FAIL")


def test_broken_slopes_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> str:
        raise RuntimeError("no derivative\nand more")

    monkeypatch.setattr(report, "_compiler", lambda: "not tried")
    monkeypatch.setattr(report, "_slopes", broken)
    assert report.main() == 1
    assert "FAIL  slopes       RuntimeError: no derivative\n" in capsys.readouterr().out
