"""The page on one Lai batch in a hundred: cost counted, pairs compared, verdicts and their mutants, exercises.

Networks are trained for an epoch here; the committed page has the sizes of its parameters cell. Nothing is asserted about time.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, small

CHAPTER = "73_experiments_sampling"
TINY = {"seeds": 2, "epochs": 1, "n_jobs": 1, "protocols": ["published"]}
RESULTS = ROOT / "book" / "results"

pytestmark = pytest.mark.usefixtures("surrogate")


@pytest.fixture(scope="module")
def kept() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "sampling.csv")


# --- the verdicts ----------------------------------------------------------------------------------------------


def judged(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """The words of the verdict cell where the table of results has been changed."""
    run = small(CHAPTER, "3")
    change(pd.read_csv(RESULTS / "sampling.csv")).to_csv(folder / "sampling.csv", index=False)
    before = dict(run.names)
    run.names |= {"folder": folder, "kept": pd.read_csv(folder / "sampling.csv")}
    try:
        run.again("pairs")
        return [line.rpartition(": ")[2] for line in run.again("verdicts").splitlines()]
    finally:
        run.names.clear()
        run.names.update(before)


def test_verdicts_of_made_up_tables(tmp_path: Path) -> None:
    def made(table: pd.DataFrame, by: Any) -> pd.DataFrame:
        few = (table["alpha"] == 0.01).to_numpy()
        jitter = 1e-3 * np.random.default_rng(0).standard_normal(len(table))
        for column in ("rmse", "rmse_last", "variance", "variance_last"):
            table[column] = 0.7 + by * few + jitter
        return table

    assert judged(tmp_path, lambda table: made(table, 0.01)) == ["holds", "holds"]
    assert judged(tmp_path, lambda table: made(table, 0.2)) == ["fails", "fails"]

    def published_only(table: pd.DataFrame) -> pd.DataFrame:
        return made(
            table, 0.01 * (table["protocol"] == "published").to_numpy() + 0.3 * (table["protocol"] != "published")
        )

    assert judged(tmp_path, published_only) == ["holds under conditions", "fails"]


def test_the_table_of_pairs_and_the_query_say_the_same_numbers() -> None:
    """Both compare seed by seed."""
    names = small(CHAPTER, "3").names
    told = names["judged"].numbers
    for row in names["pairs"].itertuples(index=False):
        if row[2] != 1e-3:
            continue
        part = re.search(rf"{row[0].capitalize()}, {row[1]}: ([a-z ]+) \(RMSE (.*?); variance (.*?)\)\.", told)
        assert part is not None and part[1] == row[6]
        for shown, said in zip(row[4:6], (part[2], part[3]), strict=True):
            assert re.findall(r"[-+][\d.]+", shown) == re.findall(r"[-+][\d.]+", said)


def test_the_cost_verdict_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(CHAPTER, "3")
    assert "cost (counted): fails" in run.again("verdict-cost", "LaiSchedule(0.01", "LaiSchedule(0.02")
    run.again("verdict-cost")


def test_lai_steps_cost_about_twice_in_products() -> None:
    """And thrice where a pass for BatchNorm's statistics is added."""
    counted = small(CHAPTER, "3").names["counted"]
    assert counted["plain"].nunique() == 1  # the protocols differ in elementwise work
    ratio = counted["Lai"] / counted["plain"]
    assert ratio[["published", "sound"]].between(1.9, 2.3).all()
    assert 2.9 < ratio["corrected"] < 3.3


# --- the kept tables -------------------------------------------------------------------------------------------


def test_kept_results_are_whole(kept: pd.DataFrame) -> None:
    assert set(kept["protocol"]) == {"published", "corrected", "sound"}
    assert kept.groupby(["protocol", "arm"])["seed"].nunique().nunique() == 1
    about = pd.read_json(RESULTS / "sampling.json", typ="series")
    assert len(about["seeds"]) == kept["seed"].nunique()


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam_few": 0.0}, "lam_few = 0"),
        ({"lam_sound_few": float("nan")}, "lam_sound_few"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"source": "moon"}, "source must be one of"),
    ],
)
def test_bad_parameters_stop_before_anything_is_computed(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **{**TINY, **change}).assert_refused(message, until="live-table")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seeds": 0}, "seeds = "), ({"protocols": ["best"]}, "best"), ({"epochs": -1}, "epochs = -1")],
)
def test_bad_sizes_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    wrong = Run(CHAPTER, **{**TINY, **change})
    with pytest.raises((ValueError, KeyError), match=message):
        wrong.all(until="live-table", leave_out={"count", "seconds", "verdict-cost", "cost-numbers"})
    assert "run" not in wrong.printed


def test_exercises() -> None:
    done = small(CHAPTER, "3")
    assert done.names["solution_4"] == 500 - 290
    assert all(0 < value < 1 for value in done.names["solution_3"].values())  # flatter in slopes, too
