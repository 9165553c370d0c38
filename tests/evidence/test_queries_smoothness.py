"""Queries on error, variance and slopes over λ: each verdict flips with the table."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, flat, rising, table

from evidence.ledger.claims import printed
from evidence.ledger.paper import V2_SMOOTHNESS
from evidence.ledger.queries import QUERIES
from evidence.ledger.queries.smoothness import smoothness_verdicts
from evidence.ledger.tables import ADHERES, EVALUATIONS, SMOOTHNESS_CLAIMS
from evidence.ledger.views import Results

ROOT = Path(__file__).parents[2]


def steeply(lam: float | None) -> float:
    """So that the loss acts at every λ."""
    return 0.8 if lam is None else 0.5 + 0.05 * np.log10(lam)


@pytest.mark.parametrize(
    ("name", "file", "alpha", "lams"), [("v1", "strength", 1.0, (*LAMS, 1e-4)), ("v2", "smoothness", 0.01, LAMS)]
)
def test_rises_and_falls(tmp_path: Path, name: str, file: str, alpha: float, lams: tuple[float, ...]) -> None:
    effect = table(rising, falling, alpha=alpha, lams=lams)
    none = table(flat, flat, alpha=alpha, lams=lams, noise=0.001)
    for query in (f"{name}_loss_rises", f"{name}_var_falls"):
        assert ask(tmp_path, query, **{file: effect}) == "holds"
        assert ask(tmp_path, query, **{file: none}) == "not shown"
        reverse = table(lambda lam: -rising(lam), lambda lam: -falling(lam), alpha=alpha, lams=lams)
        assert ask(tmp_path, query, **{file: reverse}) == "fails"


@pytest.mark.parametrize(
    ("bounds", "adheres", "beats"),
    [(2, "fails", "fails"), (0.5, "holds", "fails"), (-0.5, "holds", "holds"), (-2, "fails", "holds")],
)
@pytest.mark.parametrize(("name", "file", "alpha"), [("v1", "strength", 1.0), ("v2", "smoothness", 0.01)])
def test_adheres_and_beats(
    tmp_path: Path, name: str, file: str, alpha: float, bounds: float, adheres: str, beats: str
) -> None:
    """The error at λ = 0.1 lies so many times ``ADHERES`` above MSE's."""
    made = table(lambda lam: 0.7 * (1 + bounds * ADHERES) if lam == 0.1 else 0.7, steeply, alpha=alpha)
    assert ask(tmp_path, f"{name}_adheres", **{file: made}) == adheres
    assert ask(tmp_path, f"{name}_beats", **{file: made}) == beats


def test_where_the_loss_does_not_act_there_is_nothing_to_follow(tmp_path: Path) -> None:
    made = table(flat, steeply)
    assert ask(tmp_path, "v2_adheres", smoothness=made) == ask(tmp_path, "stable", smoothness=made) == "holds"
    made["rms_k"] = made["rms_k_last"] = 1.0 + 0.01 * made["seed"]
    for name in ("v2_adheres", "stable", "max_accuracy"):
        assert ask(tmp_path, name, smoothness=made) == "not tested"
    made.loc[made["protocol"].eq("sound") & made["lam"].notna(), ["rms_k", "rms_k_last"]] *= 0.8
    assert ask(tmp_path, "v2_adheres", smoothness=made) == ask(tmp_path, "stable", smoothness=made) == "holds"
    assert "Published, averaged: not tested (" in QUERIES["stable"](Results(tmp_path)).numbers


@pytest.mark.parametrize(("fall", "verdict"), [(0.08, "not tested"), (0.12, "holds")])
def test_slopes_that_hardly_fall_are_nothing_to_follow(tmp_path: Path, fall: float, verdict: str) -> None:
    """However sure the fall is: at λ = 0.1 it has to be a tenth."""
    made = table(flat, lambda lam: 0.8 * (1 - fall if lam else 1), spread=1e-3)
    for alpha, file in ((1.0, "strength"), (0.01, "smoothness")):
        name = "v1_adheres" if alpha == 1 else "v2_adheres"
        assert ask(tmp_path, name, **{file: made.assign(alpha=alpha)}) == verdict
        told = QUERIES[name](Results(tmp_path)).numbers
        assert ("fall of the slopes than 10 %: at 5 % holds, at 20 % not tested." in told) and "than 0.5 %: " in told


def test_the_page_judges_as_the_queries_do_and_at_the_papers_lam_alone() -> None:
    """The sound protocol has λ = 1 as well, from which to 0.1 the error is not shown to rise."""
    runs = pd.read_csv(ROOT / "book" / "results" / "smoothness.csv")
    results = Results(ROOT / "book" / "results")
    more = set(runs.loc[runs["protocol"] == "sound", "lam"].dropna()) - set(V2_SMOOTHNESS)
    assert more == {1.0}
    cell = printed(ROOT / "notebooks" / "70_experiments_smoothness.ipynb")["verdicts"]
    lines = iter(line.strip() for line in cell if line.startswith("  "))
    for protocol in ("published", "corrected", "sound"):
        for evaluation in EVALUATIONS:
            page = smoothness_verdicts(runs, protocol, evaluation=evaluation)
            assert set(page) == set(SMOOTHNESS_CLAIMS)
            for claim, word in page.items():
                assert next(lines) == f"{claim}, {SMOOTHNESS_CLAIMS[claim]}: {word}"
                told = QUERIES[claim.replace("-", "_")](results).numbers
                assert f"{protocol.capitalize()}, {evaluation}: {word} (" in told, claim


@pytest.mark.parametrize(("cost", "verdict"), [(1.6, "holds"), (1.4, "fails")])
def test_whether_training_without_a_start_is_fatal(tmp_path: Path, cost: float, verdict: str) -> None:
    made = table(lambda lam: 0.7 * (cost if lam == 0.1 else 1), falling, alpha=1.0)
    assert ask(tmp_path, "fatal", strength=made) == verdict
    both = QUERIES["fatal"](Results(tmp_path)).numbers
    assert "at 25 % holds, at 100 % fails." in both


@pytest.mark.parametrize(
    ("error", "gap", "verdict"),
    [(1.0, 0.08, "holds"), (1.0, 0.12, "fails"), (1.05, 0.08, "fails"), (1.0, 0.1, "not shown")],
)
def test_overfitting_is_a_smaller_gap_at_no_cost(tmp_path: Path, error: float, gap: float, verdict: str) -> None:
    made = table(lambda lam: 0.7 * (error if lam else 1), falling)
    assert ask(tmp_path, "overfitting", smoothness=made) == "fails" if error > 1 else "not shown"
    for end in ("", "_last"):
        made["rmse_train" + end] = made["rmse" + end] - np.where(made["lam"].isna(), 0.1, gap)
        made["rmse_train" + end] -= 1e-5 * np.cos(7.0 * made["seed"] * made["lam"].fillna(0.5))
    assert ask(tmp_path, "overfitting", smoothness=made) == verdict
    old = made.drop(columns=["rmse_train", "rmse_train_last"])
    assert ask(tmp_path, "overfitting", smoothness=old) == "not tested"


@pytest.mark.parametrize(
    ("error", "variance", "verdict"),
    [(1.03, 1.03, "holds"), (1.0, 1.07, "holds"), (1.07, 1.0, "fails"), (1.0, 1.2, "fails")],
)
def test_equivalence_of_two_pairs(tmp_path: Path, error: float, variance: float, verdict: str) -> None:
    full = table(rising, falling, alpha=1.0, lams=(*LAMS, 1e-4))
    few = full[np.isclose(full["lam"], 1e-3)].assign(lam=1e-4, lam_8=1e-4, alpha=0.01)
    few[["rmse", "rmse_last"]] *= error
    few[["variance", "variance_last"]] *= variance
    assert ask(tmp_path, "equivalence", sampling=pd.concat([full, few])) == verdict
    assert ask(tmp_path, "v1_loss_rises", strength=pd.concat([full, few])) == "holds"  # the other α does not disturb


@pytest.mark.parametrize(("drop", "verdict"), [(0.0, "holds"), (0.001, "fails"), (-0.001, "fails")])
def test_convergence_from_the_curves(tmp_path: Path, drop: float, verdict: str) -> None:
    """One arm that still falls or rises is enough."""
    epochs = np.arange(500)
    still = pd.DataFrame({"protocol": "sound", "arm": "MSE", "epoch": epochs, "mean": 1.0})
    curves = pd.concat([still, still.assign(arm="λ = 0.1", mean=1.0 - drop * epochs)])
    assert ask(tmp_path, "v1_converged", strength_curves=curves) == verdict


@pytest.mark.parametrize(("drop", "verdict"), [(0.0, "holds"), (0.001, "fails")])
def test_stability_after_pre_training(tmp_path: Path, drop: float, verdict: str) -> None:
    epochs = np.arange(200)
    curves = pd.DataFrame({"protocol": "sound", "arm": "MSE", "epoch": epochs, "mean": 1.0 - drop * epochs})
    steep = curves.assign(arm="λ = 0.1", mean=2.0 - 0.01 * epochs)
    assert ask(tmp_path, "pretrain_stable", smoothness_curves=pd.concat([curves, steep])) == verdict
    if drop:
        numbers = QUERIES["pretrain_stable"](Results(tmp_path)).numbers
        assert "0.9055" in numbers and "0.8055" in numbers  # epochs 91 to 100 and 191 to 200, counted from 1


def test_lowest_points_of_a_line_are_found_without_searching() -> None:
    said = QUERIES["iterative"](Results(ROOT / "book" / "results"))
    assert said.verdict == "fails as stated" and "in 15 of 15 cases" in said.numbers


def test_formulas_judge_novelty_evenness_and_size() -> None:
    found = {name: QUERIES[name](Results(ROOT / "book" / "results")) for name in ("novelty", "evenly", "large_models")}
    assert [found[name].verdict for name in found] == ["fails as stated", "fails", "holds under conditions"]
    never = float(re.findall(r"(\d+)% of the points", found["evenly"].numbers)[0])
    assert never == pytest.approx(100 * np.exp(-1), abs=4)  # 58 of 5,800 batches, drawn without regard to the points
