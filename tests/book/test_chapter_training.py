"""The chapter on Lai Training: verdicts and inserted numbers at many λ, refusals, exercises, mutants.

Only one run trains the networks. The others leave those cells out, as nothing after them needs them.
"""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from chapter_run import Run, committed_verdicts
from scipy.stats import norm

import lai

CHAPTER = "60_lai_training"
VERDICTS = committed_verdicts(CHAPTER)
NETWORKS = {"loop-run", "loop-library", "identical", "verdict-loop", "batchnorm"}
NETWORKS |= {"from-scratch", "from-scratch-table", "fits", "verdict-network", "network-knobs"}


@functools.cache
def run(**parameters: Any) -> Run:
    return Run(CHAPTER, worlds=8, **parameters).all(leave_out=NETWORKS)


@pytest.mark.parametrize("lam", [pytest.param(0.05, marks=pytest.mark.long), 2.0])
def test_verdicts_do_not_depend_on_lam(lam: float) -> None:
    done = run(lam=lam)
    for name in VERDICTS.keys() - NETWORKS:
        assert done.lines(name) == VERDICTS[name], name
    assert done.glued["lam"] == lam and done.glued["boundary"] == pytest.approx(math.sqrt(lam))


def test_formulas_of_the_line() -> None:
    """Against a dense grid and finite differences, without the chapter's code."""
    done = run(lam=2.0)
    k_hat, s2, var = (done.names[name] for name in ("k_hat", "s2", "var_line"))
    grid = np.linspace(-5, 5, 2_000_001)
    tls = (s2 + var * (grid - k_hat) ** 2) / (1 + grid**2)
    assert grid[tls.argmin()] == pytest.approx(done.names["k_tls"], abs=1e-5)
    assert grid[tls.argmax()] == pytest.approx(-1 / done.names["k_tls"], abs=1e-5)
    # the share of lost starts is that of a normal sample beyond the watershed
    assert done.names["lost_starts"]["α = 1"][2.0] == pytest.approx(norm.cdf(-0.5 / done.names["k_tls"]), abs=0.06)

    def loss(k: float) -> float:
        return (s2 + var * (k - k_hat) ** 2) * lai.lai_factor(torch.tensor(k, dtype=torch.float64), 2.0).item()

    slope = (loss(k_hat + 1e-6) - loss(k_hat - 1e-6)) / 2e-6
    assert done.names["kick_line"].item() == pytest.approx(slope, rel=1e-5)
    moves = done.names["moves"]
    assert moves.iloc[:, 0].tolist() == pytest.approx(moves["formula"].tolist(), rel=0.05, abs=1e-5)


def test_strength_is_the_weight_in_the_mixture() -> None:
    strength = run(lam=2.0).names["strength"]
    k = torch.linspace(1.5, 9, 50, dtype=torch.float64)
    for alpha, lam in ((0.01, 0.1), (0.3, 2.0), (1.0, 0.5)):
        mixed = 1 - alpha + alpha * lai.lai_factor(k, lam)
        omega, h = strength(alpha, lam), k**2 / (1 + k**2)
        ratio = mixed / (1 - omega + omega * h)
        torch.testing.assert_close(ratio, ratio[:1].expand(50))


@pytest.mark.parametrize(
    "parameters, named",
    [
        ({"lam": 0.0}, "lam = 0.0"),
        ({"lam": [0.1, 0.2]}, "lam has 2 entries"),
        ({"lams": [0.1, -1.0]}, "lams"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"alphas": [0.1, -0.1]}, "alpha = -0.1"),
        ({"seeds": 1}, "seeds = 1"),
        ({"worlds": 0}, "worlds = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"pretrain_epochs": -1}, "pretrain_epochs = -1"),
    ],
)
def test_a_wrong_parameter_stops_before_anything_is_computed(parameters: dict[str, Any], named: str) -> None:
    chapter = Run(CHAPTER, **parameters)
    with pytest.raises(ValueError, match=named.replace(".", r"\.")):
        chapter.all(until="recipe", leave_out=NETWORKS)
    assert set(chapter.printed) == {"parameters"}


def test_exercises() -> None:
    done = run(lam=0.05)
    assert run(lam=2.0).names["solution_2"] == pytest.approx(0.70, abs=0.02)
    assert done.names["solution_2"] > 1 and "never" in done.printed["exercise-2-solution"]
    same, other = done.names["solution_3"]
    assert same < 1e-6 < 1e-4 < other
    before, at_it, after = done.names["solution_4"]
    assert before == pytest.approx(1, abs=1e-3) and 2 < at_it < 3 and after < 0.05
    assert done.lines("exercise-5-solution") == ["α = 0.2: +10.0%. Right."]


@pytest.mark.long
@pytest.mark.parametrize("parameters", [{"alpha": 0.0, "lams": [3.0], "alphas": [0, 1]}])
def test_the_ends_of_the_ranges(parameters: dict[str, Any]) -> None:
    done = Run(CHAPTER, worlds=2, **parameters).all(leave_out=NETWORKS)
    assert done.lines("verdict-pretrain") == VERDICTS["verdict-pretrain"]
    assert done.lines("verdict-shared") == VERDICTS["verdict-shared"]


# --- mutants: the table of strengths must notice ------------------------------------------------------------------


def strengths(cell: str = "", old: str = "", new: str = "") -> list[str]:
    """The verdict on the table of strengths, with a change in one cell; eight data sets."""
    chapter = Run(CHAPTER, worlds=8)
    wanted = {"parameters", "imports", "data", "cosines", "weights", "verdict-strength"}
    wanted |= {f"strength-{part}" for part in ("data", "train", "arms", "table", "knobs")}
    for each in chapter.cells():
        if each.id == cell:
            assert old in each.source
            each.source = each.source.replace(old, new)
    chapter.all(leave_out={each.id for each in chapter.cells()} - wanted)
    return chapter.lines("verdict-strength")


@pytest.mark.long
def test_the_table_of_strengths_notices_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strengths()[-1] == "alpha-lambda: holds"
    ignores_alpha = strengths("strength-train", "lam_of, share_of = torch.tensor(pairs).T", SAME_ALPHA)
    assert ignores_alpha[-1] == "alpha-lambda: not shown by this table"
    real = lai.lai_factor
    for mutant in (lambda k, lam: real(k, 0.1), lambda k, lam: torch.ones_like(k)):  # λ ignored; no factor
        monkeypatch.setattr(lai, "lai_factor", mutant)
        assert strengths()[-1] == "alpha-lambda: not shown by this table"


SAME_ALPHA = """
lam_of, share_of = torch.tensor(pairs).T
share_of = torch.where(share_of > 0, 0.25, 0.0)
"""
