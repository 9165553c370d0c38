"""Queries on error, variance and slopes over λ: each verdict flips with the table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, flat, rising, table

from evidence.ledger.queries import QUERIES
from evidence.ledger.views import Results

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "with_effect", "without"),
    [
        ("loss_rises", "holds", "fails"),
        ("var_falls", "holds", "fails"),
        ("adheres", "holds", "holds"),
        ("beats", "fails", "fails"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_queries_on_error_and_variance(tmp_path: Path, version: int, name: str, with_effect: str, without: str) -> None:
    lams = (*LAMS, 1e-4) if version == 1 else LAMS
    options = {"alpha": 1.0 if version == 1 else 0.01, "lams": lams}
    query = f"v{version}_{name}"
    name = "strength" if version == 1 else "smoothness"
    assert ask(tmp_path, query, **{name: table(rising, falling, **options)}) == with_effect
    assert ask(tmp_path, query, **{name: table(flat, flat, noise=0.001, **options)}) == without


@pytest.mark.parametrize(("factor", "verdict"), [(1.03, "holds"), (1.3, "fails")])
def test_equivalence_of_two_pairs(tmp_path: Path, factor: float, verdict: str) -> None:
    full = table(rising, falling, alpha=1.0, lams=(*LAMS, 1e-4))
    few = full[np.isclose(full["lam"], 1e-3)].assign(lam=1e-4, lam_8=1e-4, alpha=0.01)
    columns = ["rmse", "rmse_running", "variance", "variance_running"]
    few[columns] *= factor
    assert ask(tmp_path, "equivalence", sampling=pd.concat([full, few])) == verdict
    assert ask(tmp_path, "v1_loss_rises", strength=pd.concat([full, few])) == "holds"  # the other α does not disturb


@pytest.mark.parametrize(("drop", "verdict"), [(0.0, "holds"), (0.001, "fails")])
def test_convergence_from_the_curves(tmp_path: Path, drop: float, verdict: str) -> None:
    epochs = np.arange(500)
    curves = pd.DataFrame({"protocol": "sound", "arm": "MSE", "epoch": epochs, "mean": 1.0 - drop * epochs})
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
    assert said.verdict == "holds under conditions" and "in 15 of 15 cases" in said.numbers
