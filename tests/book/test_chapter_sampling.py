"""The page on one Lai batch in a hundred: cost counted, pairs compared, verdicts and their mutants, exercises.

Networks are trained for an epoch here; the committed page has the sizes of its parameters cell. Nothing is asserted about time.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts

from evidence.ledger.paper import V1_SAMPLING
from evidence.ledger.queries import SIMILAR
from evidence.ledger.stats import paired

CHAPTER = "73_experiments_sampling"
TINY = {"seeds": 2, "epochs": 1, "n_jobs": 1}
RESULTS = ROOT / "book" / "results"

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def tiny() -> Run:
    return Run(CHAPTER, lam=3.0, **TINY).all()


@pytest.fixture(scope="module")
def kept() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "sampling.csv")


# --- the verdicts ----------------------------------------------------------------------------------------------


def test_committed_verdicts_are_what_the_kept_results_give() -> None:
    committed = committed_verdicts(CHAPTER)
    assert list(committed) == ["verdict-cost", "verdicts"]
    for cell, lines in committed.items():
        assert tiny().lines(cell) == lines
    assert committed["verdict-cost"] == [
        "Lai steps: 290 of 29000",
        "cost (counted): holds",
        "saved of the extra cost: 99%",
    ]


def judged(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """The words of the verdict cell where the table of results has been changed."""
    run = tiny()
    change(pd.read_csv(RESULTS / "sampling.csv")).to_csv(folder / "sampling.csv", index=False)
    before = {name: run.names[name] for name in ("folder", "kept", "pairs", "rows")}
    run.names |= {"folder": folder, "kept": pd.read_csv(folder / "sampling.csv")}
    try:
        run.again("pairs")
        return [line.rpartition(": ")[2] for line in run.again("verdicts").splitlines()]
    finally:
        run.names |= before
        run.again("verdicts")


def test_verdicts_of_made_up_tables(tmp_path: Path) -> None:
    def made(table: pd.DataFrame, by: Any) -> pd.DataFrame:
        few = (table["alpha"] == 0.01).to_numpy()
        jitter = 1e-3 * np.random.default_rng(0).standard_normal(len(table))
        for column in ("rmse", "rmse_running", "variance", "variance_running"):
            table[column] = 0.7 + by * few + jitter
        return table

    assert judged(tmp_path, lambda table: made(table, 0.01)) == ["holds", "holds"]
    assert judged(tmp_path, lambda table: made(table, 0.2)) == ["fails", "fails"]

    def published_only(table: pd.DataFrame) -> pd.DataFrame:
        return made(
            table, 0.01 * (table["protocol"] == "published").to_numpy() + 0.3 * (table["protocol"] != "published")
        )

    assert judged(tmp_path, published_only) == ["holds under conditions", "fails"]


def test_the_cost_verdict_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cost (counted): fails" in tiny().again("verdict-cost", "LaiSchedule(0.01", "LaiSchedule(0.02")
    tiny().again("verdict-cost")


def test_lai_steps_cost_about_twice_in_products() -> None:
    counted = tiny().names["counted"]
    ratio = counted.div(counted["plain"], axis=0)
    assert ratio[["double backward", "written out"]].stack().between(1.9, 2.3).all()
    assert counted["double backward"].nunique() == 1  # the protocols differ in elementwise work, but for a covariance
    assert (counted.max() < 1.1 * counted.min()).all()
    assert counted.loc["published", "plain"] - counted.loc["sound", "plain"] == 2 * (512 + 2 * 64) * 8 * 8


# --- inserted numbers ------------------------------------------------------------------------------------------


def test_every_inserted_number_is_there() -> None:
    tiny().assert_every_inserted_number_is_there()


def test_inserted_numbers_by_another_way(kept: pd.DataFrame) -> None:
    glued = tiny().glued
    (rmse_few, var_few), (rmse_all, var_all) = V1_SAMPLING[0.01, 1e-4], V1_SAMPLING[1.0, 1e-3]
    assert glued["paper-rmse"] == pytest.approx(100 * (rmse_few - rmse_all) / rmse_all)
    assert glued["paper-variance"] == pytest.approx(100 * (var_all - var_few) / var_all)
    assert (glued["room-rmse"], glued["room-variance"]) == (
        pytest.approx(100 * SIMILAR[0]),
        pytest.approx(100 * SIMILAR[1]),
    )
    assert glued["lai-paper"] == 290 and glued["lai-here"] == 0  # of 58 batches in one epoch
    wide = kept.pivot_table(index="seed", columns=["protocol", "arm"], values="variance").mean()
    for name in ("published", "corrected"):
        assert glued[f"{name}-few"] == pytest.approx(wide[name]["λ = 0.0001, α = 0.01"] / wide[name]["MSE"])
        assert glued[f"{name}-all"] == pytest.approx(wide[name]["λ = 0.001, α = 1"] / wide[name]["MSE"])
    assert (glued["omega"], glued["omega-mild"]) == (pytest.approx(100 / 100.99), pytest.approx(1 / 1.99))
    every = pd.read_csv(RESULTS / "strength.csv").query("protocol == 'sound'").groupby("arm")["variance"].mean()
    assert glued["sound-ten"] == pytest.approx(every["λ = 0.1"] / every["MSE"])
    assert glued["sound-same"] == pytest.approx(every["λ = 0.01"] / every["MSE"])


def test_pairs_are_differences_by_seed(kept: pd.DataFrame) -> None:
    pairs = tiny().names["pairs"]
    assert list(pairs["protocol"]) == ["published"] * 2 + ["corrected"] * 2 + ["sound"] * 2
    own = kept.query("protocol == 'sound'")
    change = paired(own, "variance", "λ = 0.01, α = 0.01", "λ = 0.1, α = 1")
    base = own.loc[own["arm"] == "λ = 0.1, α = 1", "variance"].mean()
    assert pairs["variance (%)"].iloc[-1].startswith(f"{100 * change.mean() / base:+.1f} (")


# --- sentences on the kept results, held against them ----------------------------------------------------------


def test_kept_results_are_whole(kept: pd.DataFrame) -> None:
    assert set(kept["protocol"]) == {"published", "corrected", "sound"}
    assert kept.groupby(["protocol", "arm"])["seed"].nunique().nunique() == 1
    about = pd.read_json(RESULTS / "sampling.json", typ="series")
    assert len(about["seeds"]) == kept["seed"].nunique()


def test_few_heavy_batches_do_more_than_many_light_ones(kept: pd.DataFrame) -> None:
    """Published: more error and less variance; corrected: both are flat, the second is flatter; sound: near each other."""
    for name in ("published", "corrected"):
        runs = kept[kept["protocol"] == name]
        few, many = "λ = 0.0001, α = 0.01", "λ = 0.001, α = 1"
        assert paired(runs, "rmse", few, many).mean() > 0 > paired(runs, "variance", few, many).mean()
    assert set(tiny().names["pairs"].query("protocol == 'published'")["similar"]) == {"not shown"}  # "do not settle"
    glued = tiny().glued
    assert glued["corrected-few"] < 0.7 * glued["corrected-all"] < 0.07  # "flat", "loses a large part"
    assert glued["sound-ruin"] < 0.7 * glued["sound-all"] < 0.07
    sound = kept.query("protocol == 'sound'").groupby("arm").mean(numeric_only=True)
    two = sound.loc["λ = 0.01, α = 0.01"] / sound.loc["λ = 0.1, α = 1"] - 1
    assert abs(two["rmse"]) < SIMILAR[0] and abs(two["variance"]) < SIMILAR[1]
    assert committed_verdicts(CHAPTER)["verdicts"][0].endswith("fails")  # "not shown to be similar in any protocol"


def test_there_is_no_one_rate_of_exchange() -> None:
    """0: ten times the λ with every batch does the same. 1: the same λ does."""
    glued, at = tiny().glued, {}
    for name in ("published", "corrected", "sound"):
        ten, few, same = (glued[f"{name}-{which}"] for which in ("ten", "few", "same"))
        assert ten > same
        at[name] = (ten - few) / (ten - same)
    assert at["corrected"] > 0.75 and abs(at["sound"]) < 0.25 and 0.25 < at["published"] < 0.9


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


def test_exercises_grade() -> None:
    done = tiny()
    done.assert_exercises_begin_unanswered()
    first = functools.partial(done.again, "exercise-1-answer", "my_percentage: float | None = None")
    assert first("my_percentage = 4") == "Right.\n" and first("my_percentage = 6") == "Not yet.\n"
    second = functools.partial(done.again, "exercise-2-answer", "my_lam: float | None = None")
    assert second("my_lam = 0.01") == "Right.\n" and second("my_lam = 0.02") == "Not yet.\n"
    assert second("my_lam = -1").startswith("Not yet: ")
    assert done.names["solution_4"] == 500 - 290
    assert all(0 < value < 1 for value in done.names["solution_3"].values())  # flatter in slopes, too
