"""The map of α and λ: the verdict and its mutants, inserted numbers, what is committed, refusals, exercises.

Networks are few and small here; the committed page has the sizes of its parameters cell.
"""

import functools
from typing import Any

import pytest
import torch
from chapter_run import Run, committed_verdicts
from scipy import stats

from lai import program, sweep

CHAPTER = "61_strength_map"
VERDICT = committed_verdicts(CHAPTER)["verdict-cheap"]
SMALL = {"seeds": 3, "rows": 1024, "pretrain_epochs": 20, "epochs": 20, "lams": [1.0, 0.01], "alphas": [0.1, 1.0]}
LATER = {
    "points",
    "points-paired",
    "scratch",
    "scratch-summary",
    "points-paired-glue",
    "scratch-summary-glue",
}  # they train more; nothing after them needs them

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def trained(lam: float) -> Run:
    return Run(CHAPTER, lam=lam, n_jobs=1, **SMALL).all(leave_out=LATER)


# --- the verdict -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [pytest.param(0.05, marks=pytest.mark.long), 3.0])
def test_verdict_does_not_depend_on_the_readers_lam(lam: float) -> None:
    said = trained(lam).printed["verdict-cheap"].splitlines()
    assert said[0].startswith("alpha-lambda (this network's variance): holds") and said[1] == VERDICT[1]


def judged(change: Any) -> list[str]:
    """The verdict where ``change(alpha, lam, seed)`` is what the arms measured."""
    run = trained(3.0)
    before = dict(run.names)
    arms = run.names["arms"].copy()
    keys = zip(arms["alpha"], arms["lam"], arms["seed"], strict=True)
    arms["variance_change"] = [change(*key) for key in keys]
    run.names["arms"] = arms
    try:
        return run.again("verdict-cheap").splitlines()
    finally:
        run.names.clear()
        run.names.update(before)


def test_verdict_of_made_up_maps() -> None:
    def fall(alpha: float, lam: float, seed: int) -> float:
        return -10 * alpha / lam - seed

    holds = [f"{VERDICT[0].partition(':')[0]}: holds", VERDICT[1]]
    assert judged(fall) == holds
    # along the edges, at the smallest λ and the largest α, but not in the corner of the largest λ and the smallest α
    assert judged(lambda *key: fall(*key) if key[:2] != (0.1, 1.0) else -1e3) == [
        f"{holds[0]} under stated conditions",
        VERDICT[1],
    ]
    assert judged(lambda *key: -fall(*key))[0].endswith(": fails")
    assert judged(lambda alpha, lam, seed: -10 / lam - seed)[0].endswith(": not shown")  # α does nothing
    assert judged(lambda alpha, lam, seed: -10 * alpha - seed)[0].endswith(": not shown")  # λ does nothing
    only_full = judged(lambda alpha, lam, seed: fall(alpha, lam, seed) if alpha == 1 else (-1.0) ** seed)
    assert only_full[1] == "  a tenth of the largest share lowers it too: False"
    # the reader's own row (λ = 3) has no say
    assert judged(lambda alpha, lam, seed: fall(alpha, lam, seed) if lam < 3 else -1e3) == holds


@pytest.mark.long
def test_verdict_notices_a_loss_without_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep.lai_loss
    monkeypatch.setattr(program, "_TRACED", {})  # what was traced before knows the real one
    monkeypatch.setattr(sweep, "lai_loss", lambda value, y, k, **given: real(value, y, torch.zeros_like(k), **given))
    trained = {"parameters", "imports", "train", "map-figure", "verdict-cheap"}
    mutant = Run(CHAPTER, lam=3.0, n_jobs=1, **SMALL)
    mutant.all(leave_out={cell.id for cell in mutant.cells()} - trained)
    assert not mutant.printed["verdict-cheap"].startswith(VERDICT[0])


# --- inserted numbers ------------------------------------------------------------------------------------------


def test_interval_is_students() -> None:
    import pandas as pd

    values = pd.Series([1.0, 2.5, -0.5, 4.0])
    mean, wide = (float(part) for part in trained(0.05).names["interval"](values).split(" ± "))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert [mean - wide, mean + wide] == pytest.approx([expected.low, expected.high], abs=0.11)


def test_the_bill_by_counting_products() -> None:
    done = trained(0.05)
    forward, first = 8 * 64 + 64 * 32 + 32, 8 * 64  # a row; the plain step needs no gradient by its inputs
    assert done.names["c"] == pytest.approx(6 * forward / (3 * forward - first) - 1, rel=0.01)
    costs = done.names["arms"].groupby("alpha")["cost"].agg(["min", "max"])
    for share, (low, high) in costs.iterrows():
        assert low == high == pytest.approx(1 + done.names["c"] * share / 2)  # half of the run is pre-training


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"lams": [0.1, 0.0]}, "lams"),
        ({"alphas": []}, "alphas = "),
        ({"alphas": [1.0]}, "alphas = "),
        ({"alphas": [0.1, 1.5]}, "alpha = 1.5"),
        ({"seeds": 1}, "seeds = 1"),
        ({"rows": 100}, "rows = 100"),
        ({"pretrain_epochs": 0}, "pretrain_epochs = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"source": "moon"}, "source must be one of"),
        ({"n_jobs": 0}, "n_jobs = 0"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message, leave_out=LATER)


def test_exercises_on_the_map() -> None:
    done = trained(0.05)
    chosen, mean = done.names["solution_3"], done.names["mean"]
    allowed = mean[mean["rmse_change"] <= 1]
    assert mean.loc[chosen, "variance_change"] == allowed["variance_change"].min()
    grouped = done.names["arms"].groupby(["alpha", "lam"])[["rms_k_change", "variance_change"]].mean()
    assert done.names["solution_4"] == pytest.approx(stats.spearmanr(grouped).statistic)
