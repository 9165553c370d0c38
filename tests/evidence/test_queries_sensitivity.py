"""Queries on sensitivities and lists of λ: each verdict flips with the table."""

from pathlib import Path

import numpy as np
import pytest
from ledger_tables import ask, with_list

from evidence.ledger.queries import QUERIES
from evidence.ledger.views import Results


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("noise_list", {"cut": 0.6}, {"cut": 0.95}),
        ("noise_list", {"cost": 1.02}, {"cost": 1.2}),
        ("noise_spill", {"other": 0.8}, {"other": 1.0}),
        ("noise_tuning", {"other": 1.01}, {"other": 0.8}),
        ("noise_tuning", {"cut": 0.85}, {"cut": 0.95}),
        ("noise_moderate", {"cost": 1.001}, {"cost": 1.03}),
        ("noise_moderate", {"cut": 0.85}, {"cut": 0.95}),
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


@pytest.mark.parametrize(("fall", "rise", "word"), [(5, 3, "holds"), (4, 4, "fails"), (4, 3, "not shown")])
def test_on_how_many_features_the_sensitivity_falls(tmp_path: Path, fall: int, rise: int, word: str) -> None:
    frame = with_list()
    for j in range(1, fall + rise + 1):
        columns = [f"s_{j}", f"s_last_{j}"]
        frame.loc[np.isclose(frame["lam"], 0.1), columns] *= 0.95 if j <= fall else 1.05
    ask(tmp_path, "noise_most", sensitivity=frame)
    assert f"Sound: {word} (" in QUERIES["noise_most"](Results(tmp_path)).numbers


def test_the_most_sensitive_feature(tmp_path: Path) -> None:
    frame = with_list()
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "holds"
    frame.loc[frame["seed"] == 0, ["s_1", "s_last_1"]] *= 20
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "holds under conditions"
    frame[["s_1", "s_last_1"]] *= 20
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "fails"


def test_lists_of_the_tuning_study_are_named_if_they_do_it(tmp_path: Path) -> None:
    assert ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.95), lists=with_list(cut=0.5, cost=1.02)) == "fails"
    said = QUERIES["noise_list"](Results(tmp_path)).numbers
    assert "study that do it: " in said and "sound, λ = 0.1, λ₈ = 0.001, α = 0.01: X₈ -50%, RMSE +2.0%" in said
    ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.95), lists=with_list(cut=0.5, cost=1.2))
    assert QUERIES["noise_list"](Results(tmp_path)).numbers.endswith("study that do it: none.")
