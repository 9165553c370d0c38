"""The page on the book's health shows what was recorded, measured and judged, that of licences every package, the errata their number."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tools import faults, health
from tools.pins import pinned

ROOT = Path(__file__).parents[2]


def test_every_pinned_package_states_a_licence() -> None:
    text = (ROOT / "requirements.txt").read_text()
    found = {name: (version, licence) for name, version, licence in health.licences(text)}
    assert pinned(text).keys() <= found.keys()
    assert [name for name, (_, licence) in found.items() if licence == "not stated" or len(licence) > 150] == []
    assert found["hypothesis"][1] == "MPL-2.0"  # an expression
    assert found["PyYAML"] == (pinned(text)["PyYAML"], "MIT License")  # a classifier
    assert found["torchjd"][1] == "MIT License"  # words


def test_what_is_recorded_is_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    assert health.page("checks", tmp_path) == "None has been run yet."
    health.record("tests", {"passed": 12345, "failed": 1, "skipped": 2, "bad_inputs": 678}, file)
    health.record("axe", {"violations": 5, "pages": 31}, file)
    health.record("mutants", {"killed": {"loss": [17, 19]}}, file)
    health.record("faults", {"survived": {"make book": [3, 4]}}, file)
    health.record("tests", {**json.loads(file.read_text())["tests"], "passed": 23456}, file)
    page = health.page("checks", tmp_path)
    assert "| 23,456 |" in page and "12,345" not in page and "| 678 |" in page
    assert (
        "| 17 of 19 |" in page
        and "| 3 of 4 |" in page
        and "31 pages, in light and dark | 5 |" in page
        and health.today() in page
    )
    assert os.uname().nodename not in page


def test_times_and_verdicts_are_those_of_the_sources_at_hand(tmp_path: Path) -> None:
    shutil.copy(ROOT / "book" / "claims.yml", tmp_path)
    before = health.page("claims", tmp_path)
    text = (tmp_path / "claims.yml").read_text()
    (tmp_path / "claims.yml").write_text(text.replace("verdict: holds\n", "verdict: fails\n"))
    assert health.page("claims", tmp_path) != before and "| holds | 0 |" in health.page("claims", tmp_path)
    (tmp_path / "execution.json").write_text('{"20_lambda": 12.4, "30_nonlinear": 1.0}')
    assert "20_lambda` | 12 |" in health.page("chapters", tmp_path) and "together | 13 |" in health.page(
        "chapters", tmp_path
    )


def test_errata_are_counted(tmp_path: Path) -> None:
    (tmp_path / "errata.md").write_text("*Slip.* One.\n\nA *Slip.* inside a line.\n\n*Reading.* Two.\n*Slip.* Three.\n")
    said = health.page("errata", tmp_path)
    assert "in 3 places" in said and "In 2 of them" in said and "other 1 are" in said


@pytest.mark.long
def test_commands_survive_being_stopped(tmp_path: Path) -> None:
    """Each of them at one random moment; `make faults` tries more."""
    file = tmp_path / "health.json"
    faults.main(["--moments", f"{len(faults.COMMANDS)}", "--file", str(file)])
    assert json.loads(file.read_text())["faults"]["survived"] == {name: [1, 1] for name in faults.COMMANDS}
