"""The time of a single table: measured by the real command, written for every table, and on the page."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evidence.runs.experiments import EXPERIMENTS
from tools import few_seeds, report
from tools.reproduce import parser

RESULTS = Path(__file__).parents[2] / "book" / "results"


def test_a_table_of_its_own_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: calls.append((command, options)))
    monkeypatch.setattr(few_seeds, "load_housing", lambda source: type("Data", (), {"provenance": source}))
    written: dict[Path, str] = {}
    monkeypatch.setattr(few_seeds, "replace_texts", written.update)
    few_seeds.main(["--seeds", "2"])
    assert all(command[:2] == ["make", "reproduce"] for command, _ in calls)
    chosen = [parser().parse_args(command[2].removeprefix("ARGS=").split()) for command, _ in calls]
    assert [options.tables for options in chosen] == [[name] for name in EXPERIMENTS]
    assert all(options.seeds == [0, 1] and options.source == "kaggle" for options in chosen)
    folders = {folder for options in chosen for folder in (options.cells, options.out)}
    assert len(folders) == 2 * len(EXPERIMENTS) and not any(folder.exists() for folder in folders)
    assert all(options["check"] for _, options in calls)
    (text,) = (text for path, text in written.items() if path.suffix == ".csv")
    assert [line.split(",")[:2] for line in text.splitlines()[1:]] == [[name, "2"] for name in EXPERIMENTS]


def test_the_committed_times_are_those_of_the_tables_library() -> None:
    table, about = (pd.read_csv(RESULTS / "few_seeds.csv"), json.loads((RESULTS / "few_seeds.json").read_text()))
    assert table["table"].tolist() == list(EXPERIMENTS) and (table["wall_seconds"] > 0).all()
    for name in EXPERIMENTS:
        same = json.loads((RESULTS / f"{name}.json").read_text())
        for key in ("versions", "hardware"):
            assert about[key] == same[key], "run `python -m tools.few_seeds` after `make reproduce`"


def test_the_page_has_minutes(tmp_path: Path) -> None:
    times = {"table": ["strength", "lists"], "seeds": 3, "wall_seconds": [90.0, 126.0]}
    pd.DataFrame(times).to_csv(tmp_path / "few_seeds.csv", index=False)
    (tmp_path / "few_seeds.json").write_text(json.dumps({"hardware": "a machine, 2 cores, no GPU"}))
    head, _, line = report.few_seeds(tmp_path).splitlines()
    assert head.startswith("| 3 seeds, 2 cores |") and "strength" in head and "lists" in head
    assert line == "| wall time | 1.5 min | 2.1 min |"
