"""The map of α and λ: the verdict and its mutants, inserted numbers, what is committed, refusals, exercises.

Networks are few and small here; the committed page has the sizes of its parameters cell.
"""

import functools
import itertools
import math
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from chapter_run import ROOT, Run
from scipy import stats

import evidence.runs.old.stack

CHAPTER = "61_strength_map"
VERDICT = ["alpha-lambda (this network's variance): holds", "  a tenth of the largest share lowers it too: True"]
SMALL = {"seeds": 3, "rows": 512, "pretrain_epochs": 20, "epochs": 20, "lams": [1.0, 0.01], "alphas": [0.1, 1.0]}
TINY = {"seeds": 2, "rows": 256, "pretrain_epochs": 1, "epochs": 2, "lams": [0.5], "alphas": [0.25, 1.0]}
LATER = {"points", "points-paired", "scratch", "scratch-summary"}  # they train more; nothing after them needs them

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def small(lam: float) -> Run:
    return Run(CHAPTER, lam=lam, n_jobs=1, **SMALL).all(leave_out=LATER)


@functools.cache
def tiny() -> Run:
    return Run(CHAPTER, lam=3.0, n_jobs=1, **TINY).all()


@functools.cache
def committed() -> dict[str, str]:
    """What each cell of the committed page printed or showed, as text."""
    cells = nbformat.read(ROOT / "notebooks" / f"{CHAPTER}.ipynb", as_version=4).cells
    return {
        cell.id: "".join(o.get("text", "") or o.data.get("text/plain", "") for o in cell.outputs)
        for cell in cells
        if cell.cell_type == "code"
    }


# --- the verdict -----------------------------------------------------------------------------------------------


def test_the_committed_verdict() -> None:
    tagged = [c.id for c in Run(CHAPTER).cells() if "nbval-check-output" in c.metadata.get("tags", [])]
    assert tagged == ["verdict-cheap"]
    assert committed()["verdict-cheap"].splitlines() == VERDICT


@pytest.mark.parametrize("lam", [0.05, 3.0])
def test_verdict_does_not_depend_on_the_readers_lam(lam: float) -> None:
    assert small(lam).printed["verdict-cheap"].splitlines() == VERDICT


def judged(change: Any) -> list[str]:
    """The verdict where ``change(alpha, lam, seed)`` is what the arms measured."""
    run = small(3.0)
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

    assert judged(fall) == VERDICT
    assert judged(lambda *key: -fall(*key))[0].endswith(": fails")
    assert judged(lambda alpha, lam, seed: -10 / lam - seed)[0].endswith(": not shown")  # α does nothing
    assert judged(lambda alpha, lam, seed: -10 * alpha - seed)[0].endswith(": not shown")  # λ does nothing
    only_full = judged(lambda alpha, lam, seed: fall(alpha, lam, seed) if alpha == 1 else (-1.0) ** seed)
    assert only_full == [VERDICT[0], "  a tenth of the largest share lowers it too: False"]
    # the reader's own row (λ = 3) has no say
    assert judged(lambda alpha, lam, seed: fall(alpha, lam, seed) if lam < 3 else -1e3) == VERDICT


def test_verdict_notices_a_loss_without_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.runs.old.stack, "lai_norm", lambda k, lam: torch.ones_like(k[:, 0]))
    trained = {"imports", "parameters", "lam-check", "train", "map-figure", "verdict-cheap"}
    mutant = Run(CHAPTER, lam=3.0, n_jobs=1, **SMALL)
    mutant.all(leave_out={cell.id for cell in mutant.cells()} - trained)
    assert not mutant.printed["verdict-cheap"].startswith(VERDICT[0])


# --- inserted numbers ------------------------------------------------------------------------------------------


def test_every_inserted_number_is_there() -> None:
    done = tiny()
    done.assert_every_inserted_number_is_there()
    assert done.glued.keys() <= done.inserted()  # and none in vain


def test_inserted_numbers_by_another_way() -> None:
    done = small(0.05)
    arms, glued = done.names["arms"], done.glued
    plain = done.names["plane"][done.names["plane"]["lam"].isna()].set_index("seed")
    for row in arms.itertuples():
        for metric in ("rmse", "variance", "rms_k"):
            own = plain.loc[row.seed, metric]
            assert getattr(row, f"{metric}_change") == pytest.approx(100 * (getattr(row, metric) - own) / own)
    few = arms[(arms["alpha"] == 0.1) & (arms["lam"] == 0.01)]["rms_k_change"]
    assert (glued["corner-low"], glued["corner-high"]) == (min(few), max(few))
    assert glued["fewest"] == math.floor(0.1 * 2 * 20) and glued["least-share"] == 10
    # the price: walk down each line to the first piece that spans the goal
    prices = []
    lines = {a: line.groupby("lam")[["variance_change", "rmse_change"]].mean() for a, line in arms.groupby("alpha")}
    goal = max(line["variance_change"].min() for line in lines.values())
    for line in lines.values():
        points = sorted([*line.itertuples(index=False, name=None), (0.0, 0.0)])
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if x0 <= goal < x1:
                prices.append(y0 + (goal - x0) / (x1 - x0) * (y1 - y0))
    assert [glued["price-low"], glued["price-high"]] == pytest.approx(sorted(prices))


def test_interval_is_students() -> None:
    import pandas as pd

    values = pd.Series([1.0, 2.5, -0.5, 4.0])
    mean, wide = (float(part) for part in small(0.05).names["interval"](values).split(" ± "))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert [mean - wide, mean + wide] == pytest.approx([expected.low, expected.high], abs=0.11)


def test_the_bill_by_counting_products() -> None:
    done = small(0.05)
    forward, first = 8 * 64 + 64 * 32 + 32, 8 * 64  # a row; the plain step needs no gradient by its inputs
    assert done.names["c"] == pytest.approx(6 * forward / (3 * forward - first) - 1, rel=0.01)
    costs = done.names["arms"].groupby("alpha")["cost"].agg(["min", "max"])
    for share, (low, high) in costs.iterrows():
        assert low == high == pytest.approx(1 + done.names["c"] * share / 2)  # half of the run is pre-training


# --- sentences that the committed sizes make true --------------------------------------------------------------


def test_sentences_on_the_committed_map() -> None:
    rows = [line.split() for line in committed()["map-table"].splitlines()[2:]]
    table, alpha = {}, math.nan
    for row in rows:
        numbers = [float(word) for word in row if word != "±"]
        if len(numbers) == 8:
            alpha, numbers = numbers[0], numbers[1:]
        table[alpha, numbers[0]] = np.reshape(numbers[1:], (3, 2))  # error, variance, slope: mean, half-width
    for share in (0.1, 1.0):  # "with many Lai steps"
        error, variance, slope = (np.array([table[share, lam][i, 0] for lam in (1.0, 0.1, 0.01)]) for i in range(3))
        assert (np.diff(error) > 0).all() and (np.diff(variance) < 0).all() and (np.diff(slope) < 0).all()
    assert table[1.0, 1.0][1, 0] > 0 > table[1.0, 1.0][2, 0]  # "need not move the same way"
    mean, wide = table[0.01, 0.01][2]
    assert mean > 0 and wide > abs(mean)  # the corner, thrown about
    prices = [float(line.split()[-2]) for line in committed()["one-curve"].splitlines()]
    assert prices[0] > 3 * max(prices[1:]) and abs(prices[1] - prices[2]) < 2
    assert committed()["few-steps"].startswith("α = 0.01: 3 of 320 steps")
    slope = next(line for line in committed()["points-paired"].splitlines() if line.startswith("α = 0.01, rms"))
    mean, wide = (float(word) for word in slope.split(": ")[1].split(" ± "))
    assert mean + wide < 0  # "can matter at a small α"


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


def test_all_cells_run_and_grade() -> None:
    done = tiny()
    assert done.printed["exercise-1-answer"] == done.printed["exercise-2-answer"] == "No answer yet.\n"
    assert done.printed["exercise-1-solution"] == "Right.\n"
    bill = functools.partial(done.again, "exercise-1-answer", "your_percentage: float | None = None")
    assert bill("your_percentage = 2.5") == "Right.\n"
    assert "half of the epochs" in bill("your_percentage = 5")
    assert bill("your_percentage = 0.025") == "Not yet.\n"


def test_exercises_on_the_map() -> None:
    done = small(0.05)
    assert done.printed["exercise-2-solution"] == "Right.\n"
    name = functools.partial(done.again, "exercise-2-answer", "your_readout: str | None = None")
    assert name('your_readout = "cost"') == name('your_readout = "share of Lai steps"') == "Not yet.\n"
    assert name('your_readout = "speed"').startswith("Not yet: give one of")
    chosen, mean = done.names["solution_3"], done.names["mean"]
    allowed = mean[mean["rmse_change"] <= 1]
    assert mean.loc[chosen, "variance_change"] == allowed["variance_change"].min()
    grouped = done.names["arms"].groupby(["alpha", "lam"])[["rms_k_change", "variance_change"]].mean()
    assert done.names["solution_4"] == pytest.approx(stats.spearmanr(grouped).statistic)
