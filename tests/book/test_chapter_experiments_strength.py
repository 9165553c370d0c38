"""The page on version 1's table: its verdicts and their mutants, kept tables, refusals, exercises.

Networks are trained for an epoch here; the committed page has the sizes of its parameters cell.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from chapter_run import ROOT, Run, small

from evidence.ledger.paper import V1_SMOOTHNESS
from lai import program, sweep

CHAPTER = "72_experiments_strength"
TINY = {"seeds": 1, "epochs": 1, "n_jobs": 1, "protocols": ["published"]}
RESULTS = ROOT / "book" / "results"

pytestmark = pytest.mark.usefixtures("surrogate")


@pytest.fixture(scope="module")
def kept() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "strength.csv")


# --- the verdicts ----------------------------------------------------------------------------------------------


def judged(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, str]:
    """The verdicts where the table of results has been changed."""
    change(pd.read_csv(RESULTS / "strength.csv")).to_csv(folder / "strength.csv", index=False)
    (folder / "strength_curves.csv").write_bytes((RESULTS / "strength_curves.csv").read_bytes())
    run = small(CHAPTER, "3")
    before = dict(run.names)
    run.names["folder"] = folder
    try:
        lines = run.again("verdicts").splitlines()
    finally:
        run.names.clear()
        run.names.update(before)
    return {line.partition(",")[0]: line.rpartition(": ")[2] for line in lines}


def test_verdicts_of_made_up_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def made(table: pd.DataFrame, sign: int) -> pd.DataFrame:
        depth = -np.log10(table["lam"].fillna(10.0)) + 1 + 1e-3 * rng.standard_normal(len(table))
        for end in ("", "_last"):
            table[f"rmse{end}"] = 0.7 + sign * 0.05 * depth
            table[f"variance{end}"] = 0.7 - sign * 0.1 * depth
        return table

    paper = judged(tmp_path, lambda table: made(table, +1))
    assert [paper[f"v1-{c}"] for c in ("loss-rises", "var-falls", "beats", "adheres")] == [
        "holds",
        "holds",
        "fails",
        "fails",
    ]
    turned = judged(tmp_path, lambda table: made(table, -1))
    assert [turned[f"v1-{c}"] for c in ("loss-rises", "var-falls", "beats")] == ["fails", "fails", "holds"]


# --- the kept tables -------------------------------------------------------------------------------------------


def test_kept_results_are_whole(kept: pd.DataFrame) -> None:
    assert set(kept["protocol"]) == {"published", "corrected", "sound"}
    assert set(V1_SMOOTHNESS) - {None} == set(kept.query("protocol == 'published'")["lam"].dropna())
    assert kept.groupby(["protocol", "arm"])["seed"].nunique().nunique() == 1
    about = pd.read_json(RESULTS / "strength.json", typ="series")
    assert len(about["seeds"]) == kept["seed"].nunique()


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam_sound": [0.1, 0.0]}, "lam_sound"),
        ({"seeds": 0}, "seeds = "),
        ({"feature": "Rooms"}, "feature = 'Rooms'"),
        ({"source": "moon"}, "source must be one of"),
        ({"protocols": ["best"]}, "protocol = 'best'"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"epochs": -1}, "epochs = -1"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **{**TINY, **change}).assert_refused(message, until="live-table")


def test_a_loss_that_ignores_slopes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep.lai_loss
    monkeypatch.setattr(program, "_TRACED", {})  # what was traced before knows the real one
    monkeypatch.setattr(sweep, "lai_loss", lambda value, y, k, **given: real(value, y, torch.zeros_like(k), **given))
    mutant = Run(CHAPTER, lam=0.1, lam_sound=0.001, **{**TINY, "protocols": ["sound"]}).all(until="live-curves")
    assert mutant.lines("live-verdict") == ["sound: flatter by 1 % in every seed of this run: False"]


def test_exercises() -> None:
    done = small(CHAPTER, "3")
    assert done.names["solution_4"][0.1] == pytest.approx(0.1 / (0.9 * 0.1 + 0.1), abs=0.005)
    assert math.isfinite(done.names["solution_3"])
