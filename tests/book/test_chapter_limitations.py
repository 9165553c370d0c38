"""The chapter on limitations: verdicts, inserted numbers, exercises, refusals, and a mutant for every verdict.

One run executes everything at a λ that is not the chapter's own. The others execute the cells that depend on λ or on
the data; a test below proves that the rest does not.
"""

import ast
import functools
import itertools
import math
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from chapter_run import Run, committed_verdicts, surroundings

from evidence.figures import sliders
from evidence.studies import lines

matplotlib.use("Agg")

CHAPTER = "50_limitations"
VERDICTS = committed_verdicts(CHAPTER)
# What leads to the verdicts of the appendix and of the mirrored optima: fixed data, fixed λ.
FIXED = ["grid", "verdict-appendix", "tiny-contrast", "tiny-spread", "verdict-tiny", "basin-table", "verdict-basin"]
FIXED += ["mse-table", "verdict-mse", "convex", "descend", "shares", "verdict-mirror", "many-count"]
NETWORKS = ["wave-train", "wave-table", "wave-figure", "two-inputs", "verdict-second", "cost"]
NETWORKS += ["excess-sweep", "excess-figure", "verdict-excess"]
LEAVE_OUT = set(FIXED + NETWORKS + ["threshold-table", "race-check"]) - {"descend", "tiny-spread", "many-count"}


@functools.cache
def full() -> Run:
    done = Run(CHAPTER, lam=3.0, starts=200).all()
    done.names["kept"] = True
    return done


@functools.cache
def run(**parameters: Any) -> Run:
    return Run(CHAPTER, starts=60, **parameters).all(leave_out=LEAVE_OUT)


# --- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_verdicts_at_another_lam() -> None:
    done = full()
    assert {name: done.printed[name].splitlines() for name in VERDICTS} == VERDICTS


def test_verdicts_on_lines_use_neither_the_readers_lam_nor_the_readers_data() -> None:
    chapter = Run(CHAPTER)
    own = {"lam", "noise", "x", "y", "rho", "k_hat", "x_low", "x_high", "half", "x_mean", "y_mean", "surface"}
    for name in FIXED:
        tree = ast.parse(chapter.source(name))
        bound = {a.arg for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) for a in n.args.args}
        bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        assert (read - bound) & own == set(), name


def reversed_networks(names: dict[str, Any]) -> dict[str, Any]:
    return {"turn": -names["turn"], "turn2": -names["turn2"]}


def other(table: pd.DataFrame, value: float) -> pd.DataFrame:
    return table * 0 + value


MUTANTS: dict[str, Any] = {
    "verdict-appendix": [
        ("app-one: fails", lambda n: {"table": other(n["table"], 3.0)}),
        (
            "app-one: holds",
            lambda n: {"table": n["table"].assign(slope=n["table"].index.get_level_values("λ"), intercept=4.0)},
        ),
    ],
    "verdict-tiny": [
        ("app-tiny: fails", lambda n: {"contrasts": other(n["contrasts"], 1.0)}),
        ("app-tiny: holds", lambda n: {"spread": {0.1: 9.0, 1.0: 9.0, 5.0: 9.0}}),
    ],
    "verdict-basin": [
        ("app-basin: fails", lambda n: {"basin": n["basin"] * 2}),
        ("app-basin: holds", lambda n: {"basin": other(n["basin"], 3.1)}),
    ],
    "verdict-mse": [
        ("app-mse: fails", lambda n: {"squares": other(n["squares"], 3.0)}),
        ("app-mse: holds", lambda n: {"squares": other(n["squares"], 6.0)}),
    ],
    "verdict-mirror": [
        ("nonconvex: fails", lambda n: {"records": [[0, 0, 0, 0, 0, torch.zeros(5)]]}),
        ("symmetry: fails", lambda n: {"shares": n["shares"].assign(lost=0.0)}),
        ("symmetry: holds", lambda n: {"shares": n["shares"].assign(lost=0.5)}),
        ("  pre-training saves not all", lambda n: {"shares": n["shares"].assign(**{"lost, pre-trained": 0.1})}),
    ],
    "verdict-second": [("second-order: fails", reversed_networks)],
    "verdict-excess": [
        ("excess: fails", lambda n: {"excess": -n["excess"].abs()}),
        ("excess: holds", lambda n: {"excess": n["excess"].abs() + 1}),
        ("excess: not shown", lambda n: {"excess": n["excess"] * torch.tensor([[1.0], [-1.0]]).repeat(3, 1)}),
    ],
}


def test_every_verdict_has_a_mutant() -> None:
    assert set(MUTANTS) == set(VERDICTS)


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_verdict_changes_where_the_claim_is_false(name: str) -> None:
    done = full()
    for expected, mutate in MUTANTS[name]:
        mutant = Run(CHAPTER)
        mutant.names = {**done.names, **mutate(done.names)}
        assert expected in mutant.again(name).splitlines()


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lam, data", [(0.05, {}), (1.0, {"x_low": 0.0, "x_high": 10.0, "noise": 17.5}), (3.0, {"noise": 0.4})]
)
def test_inserted_numbers_at_other_lams_and_data(lam: float, data: dict[str, float]) -> None:
    done = run(lam=lam, **data)
    x, y = done.names["x"].numpy(), done.names["y"].numpy()
    slope, intercept = np.polyfit(x, y, 1)
    rho = (y - slope * x - intercept).var() / x.var()
    assert done.glued["k_hat"] == pytest.approx(slope)
    assert done.glued["rho"] == pytest.approx(rho) and done.glued["width"] == pytest.approx(math.sqrt(rho))
    assert (done.glued["lam"], done.glued["root"]) == pytest.approx((lam, math.sqrt(lam)))
    a = slope**2 + rho - 1
    assert done.glued["k_t"] == pytest.approx((a + math.sqrt(a**2 + 4 * slope**2)) / (2 * slope))
    k = np.linspace(0.5, 12, 4001)
    residual = y - k[:, None] * x
    mean = np.abs(residual - np.median(residual, axis=1, keepdims=True)).mean(1)
    assert done.glued["k_mae"] == pytest.approx(k[np.argmin(mean / np.hypot(1, k))], abs=0.02)
    # the watershed tells which starts at the best height are lost
    grid, wrong = done.names["grid_k"], done.names["wrong"][:, 20]
    clear = (grid + 1 / done.glued["k_t"]).abs() > 0.1
    lost = (grid < -1 / done.glued["k_t"]) & (math.sqrt(lam) > 1 / done.glued["k_t"])
    assert torch.equal(wrong[clear], lost[clear])
    assert 0 <= done.glued["wrong"] <= 1 and done.glued["right-pre-trained"] == 1.0


@pytest.mark.long
def test_your_data_are_judged_by_the_data() -> None:
    narrow, wide = run(lam=3.0, noise=0.4), run(lam=1.0, x_low=0.0, x_high=10.0, noise=17.5)
    assert list(narrow.names["yours"].values()) == [False, False, False, True, True, False]
    assert wide.names["yours"]["lowest at intercept 4 (± 0.5) for λ = 1"] is False
    assert list(full().names["yours"].values()) == [True, True, True, True, False, True]


@pytest.mark.parametrize("lam", [3.0])
def test_the_surface_to_turn_shows_the_library_loss(lam: float) -> None:
    chapter = run(lam=lam, noise=0.4) if lam == 3.0 else run(lam=lam)
    with surroundings({}):
        torch.set_default_dtype(torch.float64)
        names = dict(chapter.names)
        tree = ast.parse(chapter.source("surface-figure"))
        assert isinstance(tree.body[-1], ast.Expr)
        figure = eval(compile(ast.Expression(tree.body[-1].value), "figure", "eval"), names)  # noqa: S307
    assert len(figure.to_json()) < 1_500_000
    controls = figure.layout.meta["controls"]
    assert len(figure.frames) <= 60 and lam in controls[0]["values"]
    assert controls[0]["values"][controls[0]["start"]] == lam
    slopes, intercepts = names["coarse"]
    sizes = [range(len(control["values"])) for control in controls]
    for positions in itertools.product(*sizes):
        value, ratio, span = (c["values"][i] for c, i in zip(controls, positions, strict=True))
        low, high = names["ranges"][span]
        x, y = lines.line_data(ratio * (high - low) / 2, (low, high), n=144)
        e = slopes[:, None, None] * x + intercepts[:, None] - y
        factor = slopes.abs().clamp(min=value) / (1 + slopes**2).sqrt() / min(1.0, value)
        expected = e.abs().mean(2) * factor[:, None]
        surface, lowest, truth = sliders.state(figure, *positions)
        np.testing.assert_allclose(surface["z"], expected.T, rtol=1e-5)
        i, j = divmod(int(expected.argmin()), len(intercepts))
        assert lowest["x"][0] == pytest.approx(float(slopes[i]), abs=1e-6)
        assert lowest["y"][0] == pytest.approx(float(intercepts[j]))
        assert (truth["x"][0], truth["y"][0]) == (3.0, 4.0)


# --- exercises -------------------------------------------------------------------------------------------------


def test_the_descents_run_downhill_to_the_valley_that_the_watershed_assigns() -> None:
    """At all positions of the sliders, against a closed form that is not taken from `lai_factor`."""
    names = run(lam=0.05).names
    k_hat = names["k_hat"]
    cases = itertools.product(names["from_slopes"], names["paths_lam"], names["paths_width"])
    with surroundings({}):
        torch.set_default_dtype(torch.float64)  # as the chapter does
        paths = {case: names["visited"](*case) for case in cases}
    for (start, value, width), ((k, level), (trail, at)) in paths.items():

        def exactly(k: np.ndarray, value: float = value, width: float = width) -> np.ndarray:
            return np.log((width**2 + (k - k_hat) ** 2) * np.maximum(k**2, value) / ((1 + k**2) * min(1, value)))

        np.testing.assert_allclose(level, exactly(k.numpy()))
        np.testing.assert_allclose(at, exactly(trail.numpy()))
        fine = np.linspace(-9, 9, 18_001)
        heights = exactly(fine)
        valleys = fine[1:-1][(heights[1:-1] < heights[:-2]) & (heights[1:-1] < heights[2:])]
        assert float(trail[0]) == start and np.abs(valleys - float(trail[-1])).min() < 0.05  # a step is 0.03
        watershed = -1 / lines.total_least_squares(k_hat, width**2)
        if abs(start - watershed) > 0.1:
            assert (float(trail[-1]) < -0.05) == (start < watershed and math.sqrt(value) > -watershed), (start, value)


def test_exercises() -> None:
    done = run(lam=0.05)
    assert done.names["solution_3"] == pytest.approx(-lines.total_least_squares(3.0, 2.0))
    exactly, estimate = done.names["solution_4"][0.01]
    assert exactly == pytest.approx(estimate, rel=0.01)
    assert done.printed["exercise-5-solution"] == "falls all the way to 0: True\n"


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("lam", 0),
        ("lam", math.nan),
        ("noise", 0.0),
        ("noise", math.inf),
        ("noise", 11.0),
        ("x_low", 2.0),
        ("x_high", math.nan),
        ("starts", 3),
        ("seeds", 1),
        ("steps", 0.5),
    ],
)
def test_bad_parameters_stop_before_anything_is_computed(name: str, value: Any) -> None:
    wrong = Run(CHAPTER, **{name: value})
    with pytest.raises((ValueError, TypeError), match=f"^{'x_range' if name.startswith('x') else name}"):
        wrong.all()
    assert list(wrong.printed) == ["parameters"]
    assert not wrong.glued
