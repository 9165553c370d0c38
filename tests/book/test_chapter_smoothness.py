"""The page on smoothness executed at small sizes: what it inserts, what its verdicts are computed from, its live part.

What it says about the kept results in fixed words is in test_results.py.
"""

import functools
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts

from evidence.data import load_housing
from evidence.ledger.paper import V2_SMOOTHNESS
from evidence.ledger.queries import QUERIES, Results
from evidence.ledger.tables import shrunken_rmse
from evidence.runs.experiments import run_experiment

CHAPTER = "70_experiments_smoothness"
SMALL = {"seeds": 2, "pretrain_epochs": 1, "epochs": 2, "n_jobs": 1, "alpha": 0.5}

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def small() -> Run:
    return Run(CHAPTER, lam=0.3, **SMALL).all()


def test_the_committed_verdicts_are_what_the_kept_results_give() -> None:
    committed = committed_verdicts(CHAPTER)
    assert list(committed) == ["refusal", "live-verdict", "verdicts", "verdict-shrink"]
    assert small().lines("verdict-shrink") == committed["verdict-shrink"] and len(committed["verdict-shrink"]) == 2
    assert small().lines("verdicts") == committed["verdicts"] and len(committed["verdicts"]) == 25
    assert small().lines("refusal") == committed["refusal"]


def test_verdicts_turn_with_the_results() -> None:
    """The order of λ turned round in the sound protocol: what held fails there, and nowhere else."""
    run = small()
    before, said = run.names["kept"], run.lines("verdicts")
    turned = before.copy()
    sound = turned["protocol"] == "sound"
    lams = turned.loc[sound & turned["lam"].notna(), "lam"].unique()
    other = dict(zip(sorted(lams), sorted(lams, reverse=True), strict=True))
    turned.loc[sound, "lam"] = turned.loc[sound, "lam"].map(other)
    arms = before[before["protocol"] == "sound"].drop_duplicates("arm").set_index("lam")["arm"]
    turned.loc[sound, "arm"] = [("MSE" if math.isnan(lam) else arms[lam]) for lam in turned.loc[sound, "lam"]]
    run.names["kept"] = turned
    try:
        now = run.again("verdicts").splitlines()
    finally:
        run.names["kept"] = before
    changed = [new for old, new in zip(said, now, strict=True) if old != new]
    assert now[:20] == said[:20]
    assert [line.split(",")[0].strip() for line in changed if line.endswith(": fails")] == [
        "v2-loss-rises",
        "v2-var-falls",
        "v2-adheres",
        "slopes-fall",
    ]


def test_shrinking_by_another_way() -> None:
    """One figure of the table by arithmetic, and what is inserted about the covariance."""
    kept, study = (pd.read_csv(ROOT / "book" / "results" / f"{name}.csv") for name in ("smoothness", "shrinking"))
    runs = kept[kept["protocol"] == "corrected"].pivot(index="seed", columns="arm")
    keep = (study["protocol"] == "corrected") & (study["epochs"] == 200) & (study["readout"] == "recomputed")
    on = study[keep].set_index("seed")
    drawn = 1 - runs["rms_k"]["λ = 0.01"] / runs["rms_k"]["MSE"]
    square = runs["rmse"]["MSE"] ** 2 + drawn**2 * on["variance_val"] + 2 * drawn * on["covariance"]
    dearer = (runs["rmse"]["λ = 0.01"] - square**0.5).mean()
    assert small().names["excess"]["corrected", "λ = 0.01"]["rms_k"].mean == pytest.approx(dearer)
    share = (on["covariance"] / on["variance_val"]).mean()
    assert small().glued["covariance-published"] == pytest.approx(share)


def test_sentences_on_shrinking() -> None:
    """The page's reading of its table, and what README and introduction say of all tables."""
    excess, glued = small().names["excess"], small().glued
    for lam in ("0.1", "0.01", "0.001"):  # "in the sound protocol at every λ that does"
        assert excess["sound", f"λ = {lam}"]["variance"].low > 0 > excess["sound", f"λ = {lam}"]["rms_k"].high
    corrected = {lam: excess["corrected", f"λ = {lam}"]["variance"] for lam in ("0.01", "0.001")}
    assert corrected["0.01"].low < 0 < corrected["0.001"].low  # "in the corrected one at the smallest"
    assert glued["covariance-published"] > 0.05 > abs(glued["covariance-sound"])
    for lam in (0.01, 0.001):  # "the paper's own figures for λ = 0.01 and 0.001 say so too"
        (rmse, variance), (error, wanted) = V2_SMOOTHNESS[None], V2_SMOOTHNESS[lam]
        assert error - shrunken_rmse(rmse, variance, (wanted / variance) ** 0.5) > 1e-4
    folder = Results(ROOT / "book" / "results")
    slopes, variances = (QUERIES[name](folder).views for name in ("shrinking_slopes", "shrinking"))
    assert slopes == "" and QUERIES["shrinking_slopes"](folder).verdict == "holds"  # README: "the cheaper of the two"
    assert "fails" not in variances
    assert re.match(r"holds in [^;]*\bsound;", variances)


def test_the_verdict_on_shrinking_turns() -> None:
    """Were the errors of the Lai arms those of MSE, none would be dearer."""
    run = small()
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


def test_every_inserted_number_is_there() -> None:
    small().assert_every_inserted_number_is_there()


def test_inserted_numbers_by_another_way() -> None:
    glued, kept = small().glued, pd.read_csv(ROOT / "book" / "results" / "smoothness.csv")
    for protocol in ("published", "corrected", "sound"):
        mse, least = (kept[(kept["protocol"] == protocol) & (kept["arm"] == arm)] for arm in ("MSE", "λ = 0.001"))
        assert glued[f"{protocol}-rmse"] == pytest.approx(np.mean(mse["rmse"]))
        assert glued[f"{protocol}-kept"] == pytest.approx(np.sum(least["variance"]) / np.sum(mse["variance"]))
        if protocol == "published":
            for name, metric in (("lose", "variance"), ("lose-running", "variance_running")):
                assert glued[name] == sum(a < b for a, b in zip(least[metric], mse[metric], strict=True))
    assert glued["paper-kept"] == pytest.approx(0.6604 / 0.7728) and glued["paper-gap"] == pytest.approx(0.0005)
    assert glued["kept-seeds"] == len(set(kept["seed"]))


def test_the_live_tables_are_the_experiment() -> None:
    done = small()
    lams = {"published": [0.3], "sound": [1.0, 0.1, 0.01]}
    options = {"seeds": range(2), "pretrain_epochs": 1, "epochs": 2, "device": "cpu", "n_jobs": 1}
    again = run_experiment(load_housing("surrogate"), "smoothness", lams=lams, alpha=0.5, **options).table  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(done.names["runs"].table, again)
    assert set(again["protocol"]) == {"published", "sound"}


def test_three_protocols_beside_the_paper() -> None:
    done = small()
    tables = [cell.source for cell in done.cells() if cell.id.startswith("committed-")]
    assert sum('"corrected"' in source for source in tables) == 2 == sum('"published"' in source for source in tables)
    shown = done.names["paper_table"](done.names["kept"], "corrected", done.names["paper"])
    assert list(shown.columns) == ["MSE", "λ = 0.1", "λ = 0.01", "λ = 0.001"]
    assert shown.loc["RMSE, paper"].tolist() == [f"{pair[0]:.4f}" for pair in V2_SMOOTHNESS.values()]


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
    done = small()
    done.assert_exercises_begin_unanswered()
    measured, said, without = (float(line.split()[-1]) for line in done.lines("exercise-6-solution"))
    assert measured == said != without
