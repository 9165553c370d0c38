"""The page on smoothness executed at small sizes: what it inserts, what its verdicts are computed from, its live part."""

import math
from typing import Any

import pandas as pd
import pytest
from chapter_run import ROOT, Run, small

CHAPTER = "70_experiments_smoothness"

pytestmark = pytest.mark.usefixtures("surrogate")


def test_verdicts_turn_with_the_results() -> None:
    """The order of λ turned round in the sound protocol: what held fails there, and nowhere else."""
    run = small(CHAPTER, "3")
    before, said = run.names["kept"], run.lines("verdicts")
    turned = before.copy()
    sound = turned["protocol"] == "sound"
    lams = turned.loc[sound & turned["lam"].notna(), "lam"].unique()
    other = dict(zip(sorted(lams), sorted(lams, reverse=True), strict=True))
    turned.loc[sound, "lam"] = turned.loc[sound, "lam_8"] = turned.loc[sound, "lam"].map(other)
    arms = before[before["protocol"] == "sound"].drop_duplicates("arm").set_index("lam")["arm"]
    turned.loc[sound, "arm"] = [("MSE" if math.isnan(lam) else arms[lam]) for lam in turned.loc[sound, "lam"]]
    run.names["kept"] = turned
    try:
        now = run.again("verdicts").splitlines()
    finally:
        run.names["kept"] = before
    changed = [new for old, new in zip(said, now, strict=True) if old != new]
    assert now[:20] == said[:20]
    claims = ["v2-loss-rises", "v2-var-falls", "v2-adheres", "slopes-fall"]
    failed = [line.split(",")[0].strip() for line in changed if line.endswith(": fails")]
    assert failed == 2 * claims  # in both evaluations


def test_shrinking_by_another_way() -> None:
    """One figure of the table by arithmetic, and what is inserted about the covariance."""
    kept = pd.read_csv(ROOT / "book" / "results" / "smoothness.csv")
    runs = kept[kept["protocol"] == "corrected"].pivot(index="seed", columns="arm")
    q, v = runs["covariance"]["MSE"], runs["variance_val"]["MSE"]
    drawn = 1 - runs["rms_k"]["λ = 0.01"] / runs["rms_k"]["MSE"]
    square = runs["rmse"]["MSE"] ** 2 + drawn**2 * v + 2 * drawn * q
    dearer = (runs["rmse"]["λ = 0.01"] - square**0.5).mean()
    assert small(CHAPTER, "3").names["excess"]["corrected", "λ = 0.01"]["rms_k"].mean == pytest.approx(dearer)
    assert small(CHAPTER, "3").glued["covariance-corrected"] == pytest.approx((q / v).mean())


def test_the_verdict_on_shrinking_turns() -> None:
    """Were the errors of the Lai arms those of MSE, none would be dearer."""
    run = small(CHAPTER, "3")
    before = run.names["kept"]
    mse = before[before["arm"] == "MSE"].set_index(["protocol", "seed"])["rmse"]
    cheap = before.assign(rmse=mse.loc[list(zip(before["protocol"], before["seed"], strict=True))].to_numpy())
    run.names["kept"] = cheap
    try:
        run.again("shrink")
        assert run.again("verdict-shrink").startswith("same variance, Lai dearer: 0 of")
    finally:
        run.names["kept"] = before
        run.again("shrink")


def test_the_live_table_is_at_the_readers_lam() -> None:
    table = small(CHAPTER, "3").names["runs"].table
    assert table.groupby("protocol")["lam"].max().to_dict() == {"published": 3.0, "sound": 0.1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam_sound": [0.1, 0.0]}, "lam_sound"),
        ({"source": "moon"}, "source must be one of"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message)


def test_exercises_run() -> None:
    done = small(CHAPTER, "3")
    measured, said, without = (float(line.split()[-1]) for line in done.lines("exercise-5-solution"))
    assert measured == said != without
