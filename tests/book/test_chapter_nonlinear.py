"""The chapter on curves: verdicts, inserted numbers, exercises and mutants.

One run has the chapter's own sizes. The others are small: what is judged over seeds does not see the reader's λ, which is
proved here rather than repeated at every λ.
"""

import functools
import math
from typing import Any

import pytest
import torch
from chapter_run import Run, committed_verdicts, small

import lai

CHAPTER = "30_nonlinear"
VERDICTS = {name: "\n".join(lines) for name, lines in committed_verdicts(CHAPTER).items()}
EXACT = ("verdict-tangent", "verdict-mae", "verdict-mse")  # of any networks, trained or not
SMALL = {"seeds": 3, "pretrain_steps": 60, "steps": 15}
LAMS = (0.05, 3.0)


@functools.cache
def run(**parameters: Any) -> Run:
    if parameters == {"lam": parameters["lam"], **SMALL}:  # as test_all_chapters.py has it
        return small(CHAPTER, repr(parameters["lam"]).removesuffix(".0"))
    return Run(CHAPTER, **parameters).all()


# --- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_verdicts_at_the_chapters_own_sizes() -> None:
    done = run(lam=3.0)
    assert {name: done.printed[name].rstrip("\n") for name in VERDICTS} == VERDICTS


@pytest.mark.parametrize("lam", LAMS)
def test_verdicts_that_need_no_seeds_hold_at_every_lam(lam: float) -> None:
    done = run(lam=lam, **SMALL)
    assert {name: done.printed[name].rstrip("\n") for name in EXACT} == {name: VERDICTS[name] for name in EXACT}


@pytest.mark.parametrize("lam", LAMS[:-1])
def test_the_judged_arms_do_not_see_the_readers_lam(lam: float) -> None:
    here, there = (run(lam=value, **SMALL).names for value in (lam, LAMS[-1]))
    for value in (None, 0.1, 1.0, 10.0):
        for name in ("after_value", "after_slope", "at_points"):
            one, other = (names[name][names["arms"].index(value)] for names in (here, there))
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)
    assert here["arms"] == [None, *sorted({0.1, 1.0, 10.0, lam})]


def by_hand_squared(done: Run) -> dict[str, Any]:
    """A formula that is the square of the legs at its own λ."""
    a, b = done.names["a"], done.names["b"]
    return {"mean_by_hand": lambda lam, base: (torch.maximum(a, lam * b) / min(1, lam)).square().mean()}


def no_effect(done: Run) -> dict[str, Any]:
    """Slopes after training that have nothing to do with the loss, nor with those before."""
    slopes, g = done.names["slope_x"], torch.Generator().manual_seed(1)
    shuffled = [slopes.flatten()[torch.randperm(slopes.numel(), generator=g)] for _ in done.names["arms"]]
    return {"at_points": torch.stack(shuffled).reshape(-1, *slopes.shape)}


def reversed_arms(done: Run) -> dict[str, Any]:
    """A loss that does at small λ what ours does at large λ."""
    at_points, order = done.names["at_points"], done.names["arms"]
    rows = [order.index({0.1: 10.0, 10.0: 0.1}.get(value, value)) for value in order]
    return {"at_points": at_points[rows]}


MUTANTS = {
    "verdict-tangent": ({"legs": lambda k, e: (e.abs() / (1 + k**2), e.abs())}, "tangent: fails"),
    "verdict-mae": (lambda done: {"a": done.names["b"], "b": done.names["a"]}, "lai-mae: fails"),
    "verdict-mse": (by_hand_squared, "lai-mse: holds"),
    "verdict-smoothness": (lambda done: {"average": -done.names["average"]}, "smoothness: fails"),
    "verdict-smoothness ": (lambda done: {"average": done.names["average"][:1].expand(5, -1)}, "smoothness: not shown"),
    "verdict-smoothness  ": ({"stairs": {1: (1.0, 4.0), 5: (1.0, 4.0)}}, "smoothness: holds"),
    "verdict-both-sides": (no_effect, "both-sides: not shown"),
    "verdict-both-sides ": (reversed_arms, "both-sides: fails"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_verdict_changes_where_the_claim_is_false(name: str) -> None:
    done = run(lam=3.0)
    mutate, expected = MUTANTS[name]
    changes = mutate(done) if callable(mutate) else mutate
    kept = dict(done.names)
    try:
        done.names.update(changes)
        assert done.again(name.strip()).rstrip("\n") == expected
    finally:
        done.names.clear()
        done.names.update(kept)


def test_every_verdict_has_a_mutant() -> None:
    assert {name.strip() for name in MUTANTS} == set(VERDICTS)


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", LAMS)
def test_inserted_numbers(lam: float) -> None:
    done = run(lam=lam, **SMALL)
    assert done.glued["lam"] == lam and done.glued["root"] == pytest.approx(math.sqrt(lam))
    assert done.glued["relu_true"] == pytest.approx((4.5 - 1) / math.sqrt(2 * math.pi), rel=2e-3)
    assert done.glued["relu_seen"] == 0
    assert done.glued["weights"] == sum(p.numel() for p in done.names["net"].parameters())

    # the share of the gradient that detached slopes lose, by functional autograd and the formula written out
    net, x, y = (done.names[name] for name in ("net", "x", "y"))
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def value(w: Any, point: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, w, (point.reshape(1, 1),))[0]

    def loss(w: Any, held: Any) -> torch.Tensor:
        k = torch.vmap(torch.func.grad(value, 1), (None, 0))(held, x)
        factor = (k**2).clamp(min=lam) / (1 + k**2) / min(1, lam)
        return ((torch.vmap(value, (None, 0))(w, x) - y[0]).square() * factor).mean()

    first, second = torch.func.grad(loss, (0, 1))(weights, weights)
    first, second = (torch.cat([g[name].flatten() for name in weights]) for g in (first, second))
    assert done.glued["off"] == pytest.approx(100 * float(second.norm() / (first + second).norm()), rel=1e-4)


def test_a_chord_is_wrong_on_the_curve_and_right_on_a_line() -> None:
    done = run(lam=0.3, **SMALL)
    assert "b is the piece of the tangent: False\nb is the perpendicular: True\n" == done.printed["slip"]
    assert done.printed["alone"].endswith("True\n")
    assert done.printed["zero-loss"].count("True") == len({0.1, 1.0, 10.0, 0.3})
    found = done.names["found"]
    assert all(one == pytest.approx(other, rel=0.01) for name, (one, other) in found.items() if name != "ReLU")


def test_push_is_the_formula_and_its_sides_differ_by_lam() -> None:
    push = run(lam=0.3, **SMALL).names["push"]
    k = torch.logspace(-3, 2, 400, dtype=torch.float64)
    for lam in (0.01, 0.5, 1.0, 7.0):
        side = torch.where(k < math.sqrt(lam), -max(1.0, lam), 1 / min(1.0, lam))
        torch.testing.assert_close(push(k, lam), 2 * k / (1 + k**2) ** 2 * side, rtol=1e-6, atol=1e-9)


def test_staircases_have_the_formulas_roughness() -> None:
    for m, (average, rough) in run(lam=0.3, **SMALL).names["stairs"].items():
        assert average == pytest.approx(1, abs=1e-3) and rough == pytest.approx(4 * m, rel=1e-3)


def test_slider_has_each_label_once() -> None:
    shown = run(lam=0.1 + 1e-9, **SMALL).names["shown"]
    assert len({f"{value:g}" for value in shown}) == len(shown) == 7


# --- refusals and exercises --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters, named",
    [
        ({"lam": 0.0}, "lam = 0.0"),
        ({"lam": [0.1, 0.2]}, "lam has 2 entries"),
        ({"seeds": 1}, "seeds = 1"),
        ({"steps": 0}, "steps = 0"),
        ({"pretrain_steps": -5}, "pretrain_steps = -5"),
    ],
)
def test_a_wrong_parameter_stops_before_anything_is_computed(parameters: dict[str, Any], named: str) -> None:
    wrong = Run(CHAPTER, **parameters)
    with pytest.raises(ValueError, match=named.replace(".", r"\.")):
        wrong.all()
    assert list(wrong.printed) == ["parameters"] and not wrong.glued


@pytest.mark.long
def test_exercises() -> None:
    done = run(lam=3.0)
    point = [torch.tensor([number]) for number in (2.0, 5.0, -0.5)]
    assert done.names["solution_1"] == pytest.approx(lai.lai_loss(*point, lam=0.04).item())

    hard = (4.5 - 1) / math.sqrt(2 * math.pi)
    gaps = [hard - value for value in done.names["solution_3"]]
    assert gaps == sorted(gaps, reverse=True) and abs(gaps[-1]) < 0.01
    full, detached = done.names["solution_4"][False], done.names["solution_4"][True]
    assert full[0] < detached[0] and full[1] < detached[1]
    for clean, noisy in done.names["solution_5"].values():
        assert abs(clean) < 0.05 < 0.3 < abs(noisy)
