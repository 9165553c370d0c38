"""The chapter on many inputs: verdicts, inserted numbers, references from elsewhere, mutants, exercises.

Only one run trains the networks; the others leave those cells out.
"""

import functools
import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from chapter_run import Run, committed_verdicts
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

import lai
from evidence.data import load_housing

CHAPTER = "40_high_dimension"
VERDICTS = committed_verdicts(CHAPTER)
TRAINED = {"list-train", "list-measure", "list-table", "list-figure", "list-spill", "list-l1-price", "verdict-list"}
TRAINED |= {"verdict-list-l1", "jd-run", "jd-figure", "verdict-vector", "exercise-6-solution"}

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def trained() -> Run:
    return Run(CHAPTER, lam=3.0, rows=300).all()


@functools.cache
def untrained(lam: float) -> Run:
    return Run(CHAPTER, lam=lam, rows=300).all(leave_out=TRAINED)


# --- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_all_verdicts_far_from_the_committed_lam() -> None:
    done = trained()
    assert {name: done.printed[name].splitlines() for name in VERDICTS} == VERDICTS


@pytest.mark.parametrize("lam", [1e-4, 50.0])
def test_what_needs_no_training_at_many_lams(lam: float) -> None:
    done = untrained(lam)
    assert done.printed["verdict-norms"].splitlines() == VERDICTS["verdict-norms"]
    assert done.glued["sample_gap"] == 0 and done.glued["batch_gap"] > 0
    assert done.glued["step8"] == pytest.approx(math.sqrt(8) * max(1, lam))
    assert done.names["slopes_agree"] and all(done.names["same_side"].values())


def dear_l1(run: Run) -> dict[str, Any]:
    return {"price": lambda q, norm: np.array([0.5 if norm == "l1" else 1.0])}


def no_cut(run: Run) -> dict[str, Any]:
    runs = run.names["runs"].copy()
    control = runs[runs["first"] == 1.0].groupby(["q", "seed", "norm"])["s1"].first()
    keys = list(zip(runs["q"], runs["seed"], runs["norm"], strict=True))
    runs["s1"] = [1.1 * control[key] for key in keys]
    runs.loc[runs["first"] == 1.0, "s1"] /= 1.1
    return {"runs": runs}


def one_order(run: Run) -> dict[str, Any]:
    def lai_loss(*args: Any, order: Any = "sample", **options: Any) -> torch.Tensor:
        return lai.lai_loss(*args, **options)

    return {"lai": SimpleNamespace(lai_loss=lai_loss, lai_factor=lai.lai_factor)}


def rising(run: Run) -> dict[str, Any]:
    runs = run.names["vector_runs"].copy()
    runs.loc[runs["step by"] == "UPGrad", "a loss rises"] = 0.9
    return {"vector_runs": runs}


MUTANTS = {"verdict-norms": one_order, "verdict-list": no_cut, "verdict-list-l1": dear_l1, "verdict-vector": rising}


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_verdict_changes_where_the_claim_is_false(name: str) -> None:
    done = trained()
    before = dict(done.names)
    done.names.update(MUTANTS[name](done))
    try:
        printed = done.again(name).splitlines()
    finally:
        done.names.clear()
        done.names.update(before)
    assert printed[0].split(":")[0] == VERDICTS[name][0].split(":")[0]
    assert printed[0] != VERDICTS[name][0]
    assert printed[0].split(": ")[1] in ("holds", "fails", "holds under stated conditions")


def test_without_torchjd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    monkeypatch.setitem(sys.modules, "torchjd.autojac", None)
    done = Run(CHAPTER, rows=300).all(
        leave_out=TRAINED - {"jd-run", "jd-figure", "verdict-vector", "exercise-6-solution"}
    )
    assert "not installed" in done.printed["jd-import"]
    assert done.printed["verdict-vector"] == "vector-loss: not tested, TorchJD is not installed\n"
    assert "sum of directions" in done.printed["jd-cost"] and done.printed["exercise-6-solution"] == ""


# --- against references from elsewhere -------------------------------------------------------------------------


def test_the_house_has_the_slopes_and_the_error_of_the_map() -> None:
    names, h = untrained(0.05).names, 1e-5
    at, k = names["place"][names["house"]], names["slopes"]
    train = load_housing().train
    assert np.allclose(names["place"], StandardScaler().fit_transform(train.x[:300, [7, 6]].double()))
    target = StandardScaler().fit_transform(train.y[:300, None].double())[names["house"], 0]
    with torch.no_grad():
        for j, step in enumerate(h * torch.eye(2, dtype=torch.float64)):
            up, down = names["surface"](torch.stack([at + step, at - step]))
            assert float(up - down) / (2 * h) == pytest.approx(k[j], rel=1e-6)
        assert names["e"] == pytest.approx(float(names["surface"](at[None])) - target)
    assert untrained(0.05).glued["e"] == names["e"]


def test_vector_and_norms_against_numpy() -> None:
    names = untrained(0.05).names
    theta = np.arctan(np.array(names["slopes"]))
    expected = names["e"] ** 2 * np.maximum(np.sin(theta) ** 2, 0.05 * np.cos(theta) ** 2) / 0.05
    np.testing.assert_allclose(names["vector"][0], expected)
    assert names["l2"] == pytest.approx(np.linalg.norm(expected))
    assert names["l1"] == pytest.approx(np.linalg.norm(expected, 1))


@pytest.mark.parametrize("norm, l1_ratio", [("l2", None), ("l1", None), ("elastic", 0.3)])
def test_batch_never_exceeds_sample(norm: Any, l1_ratio: float | None) -> None:
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        e, y = torch.randn(2, 30, generator=g, dtype=torch.float64)
        k = 2 * torch.randn(30, 4, generator=g, dtype=torch.float64)
        batch, sample = (
            float(lai.lai_loss(e, y, k, lam=0.2, norm=norm, l1_ratio=l1_ratio, order=order))
            for order in ("batch", "sample")
        )
        assert batch == pytest.approx(sample) if norm == "l1" else batch < sample - 1e-6


def test_slopes_and_boundaries_scale_as_in_scikit_learn() -> None:
    data = load_housing("surrogate")
    x, y = data.train.x[:500].double().numpy(), data.train.y[:500].double().numpy()[:, None]
    scale_x, scale_y = StandardScaler().fit(x), StandardScaler().fit(y)
    raw = LinearRegression().fit(x, y).coef_[0]
    new = LinearRegression().fit(scale_x.transform(x), scale_y.transform(y)).coef_[0]
    ratio = scale_x.scale_ / scale_y.scale_
    np.testing.assert_allclose(new, raw * ratio, rtol=1e-6)
    # λ moved along with the units: twice the boundary stays twice the boundary
    k, lam = torch.from_numpy(raw), torch.from_numpy(raw**2 / 4)
    moved = torch.from_numpy(new**2 / 4)
    torch.testing.assert_close(moved, lam * torch.from_numpy(ratio) ** 2)
    torch.testing.assert_close(lai.lai_factor(k, lam), 4 * lam.clamp(min=0) / (1 + k**2) / lam.clamp(max=1))


def test_tanh_slopes_by_finite_differences() -> None:
    names = untrained(0.05).names
    weights = [torch.stack([p.detach().double()]) for p in names["start"](1).parameters()]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = names["value_and_slopes"](weights, x)[1]
    for j in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[j] = 1e-6
        up, down = (names["value_and_slopes"](weights, x + s * step)[0] for s in (1, -1))
        torch.testing.assert_close(slopes[..., j], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_spill_formula_by_least_squares() -> None:
    """Hold the first slope, fit the others: what moves is 1 + q (2 - k1), in a sample large enough."""
    names = untrained(0.05).names
    for q in names["CORRELATIONS"]:
        torch.set_default_dtype(torch.float64)
        try:
            x, y = (part.numpy() for part in names["sample"](q, 0, n=200_000))
        finally:
            torch.set_default_dtype(torch.float32)
        for k1 in (0.2, 1.0):
            fitted = LinearRegression().fit(x[:, 1:], y - k1 * x[:, 0]).coef_
            assert fitted == pytest.approx([1 + q * (2 - k1), 1, 0.5], abs=0.02)


# --- what is refused, and exercises ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lam": 0.0}, "lam = 0"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"house": -1}, "house = -1"),
        ({"house": 300, "rows": 300}, "house = 300"),
        ({"house": 0.5}, "house = 0.5"),
        ({"l1_ratio": 1.5}, "l1_ratio = "),
        ({"rows": 10}, "rows = 10"),
        ({"seeds": 1}, "seeds = 1"),
        ({"list_steps": 0}, "list_steps = 0"),
        ({"vector_steps": 0}, "vector_steps = 0"),
    ],
)
def test_bad_parameters_stop_before_anything_is_computed(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message, leave_out=TRAINED)


def test_exercises() -> None:
    done = untrained(0.05)
    assert done.names["solution_1"] == pytest.approx(9 * math.hypot(1, 0.5))
    assert done.names["solution_3"] == pytest.approx((5 - 8**0.5) / (8 - 8**0.5))
    assert done.printed["exercise-4-solution"] == "equal: True\n"
    assert done.printed["exercise-5-solution"] == "8 places, signs kept: True\n"
