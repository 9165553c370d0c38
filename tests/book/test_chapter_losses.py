"""The chapter on losses and regularisation: verdicts and numbers at many parameters, refusals, mutants, exercises.

Closed forms are computed again here, without the chapter's code. Most runs leave out the cells that train.
"""

import functools
import math
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from chapter_run import Run, committed_verdicts, small
from scipy import integrate, optimize, stats

import lai

matplotlib.use("Agg")

CHAPTER = "00_losses_and_regularization"
VERDICTS = {name: "\n".join(lines) for name, lines in committed_verdicts(CHAPTER).items()}
TRAINS = {"exercise-5-solution"}
LAMS = (0.05, 3.0)


@functools.cache
def run(**parameters: Any) -> Run:
    return Run(CHAPTER, **parameters).all(leave_out=TRAINS)


def array(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=float)


# --- at many parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [*({"lam": lam} for lam in LAMS), {"beta": 0.001}, {"beta": 100.0}, {"beta": 2}])
def test_verdicts_hold_at_every_parameter(parameters: dict[str, float]) -> None:
    done = run(worlds=50, **parameters)
    assert {name: done.printed[name].rstrip("\n") for name in VERDICTS} == VERDICTS


@pytest.mark.parametrize("lam", LAMS)
def test_lam_acts_and_agrees_with_the_closed_form(lam: float) -> None:
    done = run(worlds=50, lam=lam)
    assert done.glued["lam"] == lam
    last = float(done.printed["lai-by-hand"].split()[-1])  # e = 1, k = 5
    assert last == pytest.approx(max(25, lam) / 26 / min(1, lam), abs=6e-4)
    # the figure's valleys lie inside its axis, at ±√λ, and a point without error costs nothing
    slopes, curves = done.names["slopes"], done.names["multiplied"]
    assert abs(slopes[curves[2].argmin()].item()) == pytest.approx(math.sqrt(lam), abs=0.02 * done.names["reach"])
    assert curves[0].abs().max() == 0
    assert torch.allclose(curves[1], 0.25 * curves[2])  # one shape, stretched by e²


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"lam": 0},
        {"lam": math.nan},
        {"lam": [0.1, 0.2]},
        {"beta": 0.0},
        {"beta": 101.0},
        {"beta": math.nan},
        {"beta": "much"},
        {"beta": True},
        {"worlds": 49},
        {"worlds": 60.5},
    ],
)
def test_bad_parameters_stop_before_anything_is_computed(parameters: dict[str, Any]) -> None:
    wrong = Run(CHAPTER, **parameters)
    (name,) = parameters
    with pytest.raises((ValueError, TypeError), match=f"^{name}"):
        wrong.all()
    assert list(wrong.printed) == ["parameters"] and not wrong.glued


# --- the statements, computed another way ------------------------------------------------------------------------


def test_likelihoods_against_scipy() -> None:
    done = Run(CHAPTER, worlds=50).all(until="laplace-by-hand", leave_out=TRAINS)
    e = 1.2 * array(done.names["x"]) - array(done.names["y"])
    assert done.names["nll"].item() == pytest.approx(-stats.norm(scale=0.5).logpdf(e).sum())
    done.again("laplace-by-hand")
    assert done.names["nll"].item() == pytest.approx(-stats.laplace(scale=0.4).logpdf(e).sum())


def test_best_constants() -> None:
    targets = np.array([1.0, 2.0, 4.0, 4.5, 40.0])
    huber = optimize.minimize_scalar(
        lambda c: np.where(abs(c - targets) < 1, (c - targets) ** 2 / 2, abs(c - targets) - 0.5).sum(), bounds=(0, 10)
    ).x
    found = [float(line.split()[-1]) for line in run().printed["outlier"].splitlines()[:3]]
    assert found == pytest.approx([targets.mean(), np.median(targets), huber], abs=0.006)


def test_the_empirical_risk_falls_and_the_true_one_stays_above_the_noise() -> None:
    done = run()
    train, true = array(done.names["train_risk"]), array(done.names["true_risk"])
    assert (np.diff(train) < 0).all() and (true > 0.09).all()  # nested models; noise that no model takes away


@pytest.mark.parametrize("beta", [0.001, 0.3, 2, 100.0])
def test_penalised_fits_are_minima(beta: float) -> None:
    done = run(worlds=50, beta=beta)
    X, y, n = array(done.names["X"]), array(done.names["y"]), 100
    assert X.shape == (n, 6)

    def objective(w: np.ndarray, l1: float, l2: float) -> float:
        return ((y - X @ w) ** 2).sum() / 2 / n + beta * (l1 * abs(w).sum() + l2 / 2 * (w**2).sum())

    rng = np.random.default_rng(0)
    for name, l1, l2 in (("ridge", 0, 1), ("proximal", 1, 0), ("mixed", 0.5, 0.5)):
        w = array(done.names[name])
        least = objective(w, l1, l2)
        moved = [objective(w + 10.0**p * rng.normal(size=6), l1, l2) for p in (-3, -2, -1) for _ in range(50)]
        assert min(moved) > least, name
    zeros = int((array(done.names["proximal"]) == 0).sum())
    assert done.glued["zeros_proximal"] == zeros and done.glued["zeros_gradient"] == 0
    if beta == 0.3:
        assert zeros == 3
    # MAP: noise of size 1 and a prior of variance 1/(Nβ)
    prior = 1 / (n * beta)
    mean = np.linalg.solve(X.T @ X + np.eye(6) / prior, X.T @ y)
    assert array(done.names["ridge"]) == pytest.approx(mean)


def test_double_backpropagation_in_closed_form() -> None:
    w, b, v, x, y = 1.5, -0.4, 0.8, 0.5, 1.0

    def value(theta: np.ndarray) -> float:
        w, b, v = theta
        tanh = math.tanh(w * x + b)
        return ((v * tanh - y) * v * w * (1 - tanh**2)) ** 2 / 2

    numbers = optimize.approx_fprime(np.array([w, b, v]), value, 1e-7)
    done = run()
    assert array(done.names["twice"]) == pytest.approx(numbers, abs=1e-5)


def test_noise_expansion_is_of_fourth_order() -> None:
    lines = run().printed["noise-expansion"].splitlines()
    rest = [float(line.split()[-1]) for line in lines]
    assert rest[0] / rest[1] == pytest.approx(16, rel=0.15) and rest[1] / rest[2] == pytest.approx(16, rel=0.15)
    gain = integrate.quad(lambda v: (0.8 * math.tanh(1.5 * (0.5 + 0.1 * v) - 0.4) - 1) ** 2 * stats.norm.pdf(v), -8, 8)[
        0
    ]
    tanh = math.tanh(0.35)
    assert float(lines[1].split()[3].rstrip(",")) == pytest.approx(gain - (0.8 * tanh - 1) ** 2, abs=1e-6)


def test_interpolant() -> None:
    done = run()
    x8, y8 = array(done.names["x8"]), array(done.names["y8"])
    w = array(done.names["coefficients"])
    assert np.polynomial.polynomial.polyval(x8, w) == pytest.approx(y8)
    slopes = np.polynomial.polynomial.polyval(x8, np.polynomial.polynomial.polyder(w))
    assert done.glued["steepest"] == pytest.approx(abs(slopes).max())
    assert done.printed["interpolation"].startswith("Lai loss: value 0.000, pull 0.000\nsum: value")


def test_product_is_a_sum_of_moving_strength() -> None:
    """Equation eq-lr-moving, at a slope and an error that both depend on one weight."""
    w = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    mse, factor = (3 - w) ** 2 + 0.2, lai.lai_factor(w, 0.3)

    def slope(value: torch.Tensor) -> float:
        return float(torch.autograd.grad(value, w, retain_graph=True)[0])

    assert slope(mse * factor) == pytest.approx(factor.item() * (slope(mse) + mse.item() * slope(factor.log())))


# --- every verdict could have come out otherwise -----------------------------------------------------------------

MUTANTS = {
    "verdict-huber": ("has_jump(F.huber_loss)", "has_jump(F.l1_loss)", "v1-huber: holds"),
    "verdict-l2": ("w = (scale * ridge)", "w = (scale * ridge + 1)", "intro-l2: fails"),
    "verdict-gradient": ("rates_agree(kinked,", "rates_agree(smooth,", "intro-gradient: holds"),
    "verdict-added": ('"double": by_input', '"double": slope', "intro-added: holds"),
    "verdict-goal": ("lai.lai_loss(y_hat, y8, k", "lai.lai_loss(y_hat, y8 + 1, k", "intro-goal: holds"),
}
MORE_MUTANTS = [
    ("verdict-l2", "(w**2).sum()", "(w**4).sum().sqrt()", "intro-l2: fails"),  # squares of another norm
    ("verdict-l2", "scale * ", "", "intro-l2: holds"),  # one data set: the norm passes as well
    ("verdict-gradient", "measured, u @ slope", "measured, 2 * u @ slope", "intro-gradient: fails"),
    ("verdict-goal", "mse5 * lai", "mse5 + 0 * lai", "intro-goal: fails"),  # a loss without a factor
]


def test_every_verdict_has_a_mutant() -> None:
    assert set(MUTANTS) == set(VERDICTS)


@pytest.mark.parametrize("name, old, new, expected", [(k, *v) for k, v in MUTANTS.items()] + MORE_MUTANTS)
def test_verdict_changes_where_the_claim_is_otherwise(name: str, old: str, new: str, expected: str) -> None:
    assert run(worlds=50, beta=0.3).mutant(name, old=old, new=new).rstrip("\n") == expected


# --- exercises -----------------------------------------------------------------------------------------------------


def test_exercise_1() -> None:
    done = run()
    errors = np.array([0.5, -1, 2, -0.5, 1])
    assert done.names["solution_1"] == pytest.approx(math.sqrt((errors**2).mean()))


def test_exercise_2_grades_by_computing() -> None:
    done = run()
    assert done.printed["exercise-2-answer"] == "No answer yet.\n"
    assert done.printed["exercise-2-solution"] == "Right.\n"
    answer = functools.partial(done.again, "exercise-2-answer", "return None  # replace None, for example by")
    right = "return w.sign() * (w.abs() - t * r).clamp(min=0) / (1 + t - t * r)  #"
    assert answer(right) == "Right.\n"
    assert answer("return soft(w, t)  #").startswith("Not yet: w = ")
    assert answer("return soft(w, t * r) * (1 - t * (1 - r))  #").startswith("Not yet")  # a gradient step


def test_exercises_3_4_and_6() -> None:
    done = run()
    assert done.printed["exercise-3-solution"] == "t = 0.4: ['0.36', '-0.48']\nt = 1.2: ['0.00', '0.00']\n"

    def weigh(w: float) -> float:
        return math.exp(-((w - 0.5) ** 2) / 2 - abs(w))

    total, first = (integrate.quad(lambda w, p=p: w**p * weigh(w), -12, 12, points=[0])[0] for p in (0, 1))
    assert done.names["solution_4"] == pytest.approx((0, first / total), abs=1e-4)
    assert done.names["solution_6"][0.0] < 1e-8 < 1e-4 < done.names["solution_6"][0.3]


def test_exercise_5_ends_where_the_solution_says() -> None:
    ends = small(CHAPTER, "3").names["solution_5"]
    assert ends["Adam", "ridge"] < 1e-3 and ends["AdamW", "least squares"] < 1e-2
    assert min(ends["Adam", "least squares"], ends["AdamW", "ridge"]) > 0.5
