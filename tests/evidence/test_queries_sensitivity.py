"""Queries on sensitivities and lists of λ: each verdict flips with the table."""

from pathlib import Path

import pytest
from ledger_tables import ask, with_list

from evidence.ledger.queries import QUERIES
from evidence.ledger.views import Results


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("noise_most", {"lam": -0.05}, {"lam": +0.05}),
        ("noise_list", {"cut": 0.6}, {"cut": 0.95}),
        ("noise_list", {"cost": 1.02}, {"cost": 1.2}),
        ("noise_spill", {"other": 0.8}, {"other": 1.0}),
        ("noise_tuning", {"other": 1.01}, {"other": 0.8}),
        ("noise_moderate", {"cost": 1.001}, {"cost": 1.1}),
        ("list_performance", {"cost": 0.95}, {"cost": 1.05}),
        ("list_others", {"cost": 1.2}, {"cost": 1.01}),
    ],
)
def test_queries_on_sensitivity(
    tmp_path: Path, name: str, holding: dict[str, float], failing: dict[str, float]
) -> None:
    file = "lists" if name in ("noise_tuning", "noise_moderate", "list_performance") else "sensitivity"
    assert ask(tmp_path, name, **{file: with_list(**holding)}) == "holds"
    assert ask(tmp_path, name, **{file: with_list(**failing)}) == "fails"


def test_the_most_sensitive_feature(tmp_path: Path) -> None:
    frame = with_list()
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "holds"
    frame[["s_1", "s_running_1"]] *= 20
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "fails"


def test_lists_of_the_tuning_study_are_named_if_they_do_it(tmp_path: Path) -> None:
    assert ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.95), lists=with_list(cut=0.5, cost=1.02)) == "fails"
    said = QUERIES["noise_list"](Results(tmp_path)).numbers
    assert "study that do it: " in said and "sound, λ = 0.1, λ₈ = 0.001, α = 0.01: X₈ -50%, RMSE +2.0%" in said
    ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.95), lists=with_list(cut=0.5, cost=1.2))
    assert QUERIES["noise_list"](Results(tmp_path)).numbers.endswith("study that do it: none.")
