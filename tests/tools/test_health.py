"""The page on the book's health shows what was recorded, measured and judged, that of licences every package, the errata their number."""

import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tools import faults, health, mutate
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
    health.record("coverage", {"lai": 97.3, "evidence": 88.0}, file)
    health.record("axe", {"violations": 5, "pages": 31}, file)
    health.record("mutants", {"killed": 17, "tried": 19}, file, part="loss")
    health.record("faults", {"survived": 3, "tried": 4}, file, part="make book")
    health.record("tests", {**json.loads(file.read_text())["tests"], "passed": 23456}, file)
    page = health.page("checks", tmp_path)
    assert "| 23,456 |" in page and "12,345" not in page and "| 678 |" in page
    assert (
        "| 17 of 19 |" in page
        and "| 3 of 4 |" in page
        and "31 pages, in light and dark | 5 |" in page
        and "of `lai` that the tests run, in % | 97.3 |" in page
        and health.today() in page
    )
    assert os.uname().nodename not in page


def test_what_was_not_run_again_keeps_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "health.json"
    for what, parts in (("mutants", mutate.MODULES), ("faults", faults.COMMANDS)):
        for part in parts:
            health.record(what, {"killed": 24, "survived": 24, "tried": 25}, file, part)
    before = json.loads(file.read_text())
    monkeypatch.setattr(mutate, "prepare", lambda: None)
    monkeypatch.setattr(mutate, "score", lambda *_: (9, 9))
    monkeypatch.setattr(faults, "disturbed", lambda *_: "")
    monkeypatch.setattr(faults, "start", lambda *_: subprocess.Popen(["true"]))
    monkeypatch.setattr(faults, "contents", lambda *_: {"done": ""})
    mutate.main(["loss", "--file", str(file)])
    faults.main(["--commands", "papermill", "--moments", "2", "--file", str(file)])
    after = json.loads(file.read_text())
    assert after["mutants"].pop("loss")["tried"] == 9 and after["faults"].pop("papermill")["tried"] == 2
    del before["mutants"]["loss"], before["faults"]["papermill"]
    assert after == before


@pytest.mark.parametrize("text", ["0", "-1", "-3", "1.5", "many", "", "10000000000"])
@pytest.mark.parametrize(
    ("main", "option"), [(faults.main, "--moments"), (mutate.main, "--sample"), (mutate.main, "--jobs")]
)
def test_how_many_is_one_or_more(
    main: Callable[[list[str]], None],
    option: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Or nothing is run, and nothing recorded."""
    monkeypatch.setattr(faults, "run", lambda *_: pytest.fail("a command was started"))
    monkeypatch.setattr(mutate, "prepare", lambda: pytest.fail("tests were started"))
    with pytest.raises(SystemExit, match="2"):
        main([f"{option}={text}"])
    assert re.search(rf"argument {option}: ({text}|\(empty\)): .*a whole number", capsys.readouterr().err)


def test_times_and_verdicts_are_those_of_the_sources_at_hand(tmp_path: Path) -> None:
    shutil.copy(ROOT / "book" / "claims.yml", tmp_path)
    before = health.page("claims", tmp_path)
    text = (tmp_path / "claims.yml").read_text()
    (tmp_path / "claims.yml").write_text(text.replace("verdict: holds\n", "verdict: fails\n"))
    assert health.page("claims", tmp_path) != before and "| holds | 0 |" in health.page("claims", tmp_path)
    took = {
        "20_lambda": {"seconds": 12.4, "megabytes": 345.6},
        "30_nonlinear": {"seconds": 1.0, "megabytes": None},
        "32_curves": {"seconds": None, "megabytes": None},
    }
    (tmp_path / "execution.json").write_text(json.dumps(took))
    page = health.page("chapters", tmp_path)
    assert "20_lambda` | 12 | 346 |" in page and "together | 13 |" in page
    assert "30_nonlinear` | 1 | not known |" in page and "32_curves` | not known | not known |" in page


def test_errata_are_counted(tmp_path: Path) -> None:
    (tmp_path / "errata.md").write_text("*Slip.* One.\n\nA *Slip.* inside a line.\n\n*Reading.* Two.\n*Slip.* Three.\n")
    said = health.page("errata", tmp_path)
    assert "in 3 places: 2 are slips" in said and "and 1 are" in said


def test_a_child_may_be_killed_instead_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[psutil.Popen] = []

    def start(*_: object) -> psutil.Popen:
        started.append(psutil.Popen(["true"] if started else ["sh", "-c", "sleep 600; exit 3"]))
        while len(started) == 1 and not started[0].children():
            time.sleep(0.01)
        return started[-1]

    monkeypatch.setattr(faults, "start", start)
    command = faults.COMMANDS["papermill"]
    assert faults.disturbed(command, tmp_path, 0.0, "a child killed", random.Random(0), {}) == ""
    assert [process.wait() for process in started] == [3, 0]  # the first came to its own end


@pytest.mark.long
def test_commands_survive_being_stopped(tmp_path: Path) -> None:
    """Each of them at one random moment; `make faults` tries more."""
    file = tmp_path / "health.json"
    faults.main(["--moments", f"{len(faults.COMMANDS)}", "--file", str(file)])
    found = json.loads(file.read_text())["faults"]
    assert {name: (of["survived"], of["tried"]) for name, of in found.items()} == dict.fromkeys(faults.COMMANDS, (1, 1))


def test_all_modules_are_mutated_by_default_and_each_is_recorded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def score(module: str, *_: object) -> tuple[int, int]:
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(module)
        return 3, 3

    monkeypatch.setattr(mutate, "prepare", lambda: None)
    monkeypatch.setattr(mutate, "score", score)
    with pytest.raises(KeyboardInterrupt):
        mutate.main(["--file", str(tmp_path / "health.json")])
    assert list(json.loads((tmp_path / "health.json").read_text())["mutants"]) == tried == list(mutate.MODULES[:2])


def test_no_mutant_outlives_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen] = []

    def start(module: str, source: str) -> int:
        started.append(subprocess.Popen(["sleep", source], start_new_session=True))
        return started[-1].pid

    monkeypatch.setattr(mutate, "start", start)
    running = mutate.outcomes("loss", ["0", "600"], limit=600, jobs=2)
    assert next(running) == (0, 0)
    running.close()
    assert started[1].wait(timeout=10) == -9
