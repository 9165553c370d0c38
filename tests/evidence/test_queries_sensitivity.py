"""Queries on sensitivities and lists of λ: each verdict flips with the table."""

from pathlib import Path

import numpy as np
import pytest
from ledger_tables import ask, falling, rising, table, with_list
from scipy import stats

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
    assert f"Sound, averaged: {word} (" in QUERIES["noise_most"](Results(tmp_path)).numbers


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
    assert (
        "study that do it: " in said and "sound, averaged, λ = 0.1, λ₈ = 0.001, α = 0.01: X₈ -50%, RMSE +2.0%" in said
    )
    ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.95), lists=with_list(cut=0.5, cost=1.2))
    assert QUERIES["noise_list"](Results(tmp_path)).numbers.endswith("study that do it: none.")


@pytest.mark.parametrize(("share", "word"), [(0.98, "not shown"), (1.02, "holds")])
def test_any_feature_in_any_view_takes_a_wider_interval(tmp_path: Path, share: float, word: str) -> None:
    """One of seven features in one of six views is enough for the claim, so 42 questions are asked."""
    frame = with_list()
    sample = 0.02 * stats.norm.ppf((np.arange(10) + 0.5) / 10)
    sample += 0.05 + share * stats.t.ppf(1 - 0.025 / 42, 9) * stats.sem(sample)
    for name in ("s_1", "s_last_1"):
        mse = frame.loc[frame["lam"].isna(), name].to_numpy()
        frame.loc[np.isclose(frame["lam_8"], 0.001) & np.isclose(frame["lam"], 0.1), name] = mse * (
            1 + np.tile(sample, 3)
        )
    assert ask(tmp_path, "noise_spill", sensitivity=frame) == word


@pytest.mark.parametrize(
    ("alone", "adjusted", "verdict"),
    [(1.2, 1.01, "holds"), (1.2, 1.2, "fails"), (1.01, 1.01, "fails"), (1.2, None, "not tested")],
)
def test_whether_the_other_lams_must_follow(tmp_path: Path, alone: float, adjusted: float | None, verdict: str) -> None:
    lists = with_list(cost=adjusted or 1.0)
    listed = np.isclose(lists["lam_8"], 0.001) & np.isclose(lists["lam"], 0.1)
    lists.loc[listed, ["lam", "alpha"]] = 1.0, 0.01 if adjusted else 0.1
    assert ask(tmp_path, "list_others", sensitivity=with_list(cost=alone), lists=lists) == verdict


@pytest.mark.parametrize(("cost", "verdict"), [(1.1, "holds"), (0.9, "holds"), (1.0, "fails")])
def test_whether_one_entry_moves_the_error_further_than_all(tmp_path: Path, cost: float, verdict: str) -> None:
    """One λ for all moves it by 2.8 per cent, and either direction counts."""
    tables = {"sensitivity": with_list(cost=cost), "smoothness": table(rising, falling)}
    assert ask(tmp_path, "list_sensitive", **tables) == verdict


def test_noise_list_tells_what_other_bounds_on_the_error_would_give(tmp_path: Path) -> None:
    ask(tmp_path, "noise_list", sensitivity=with_list(cut=0.6, cost=1.04))
    said = QUERIES["noise_list"](Results(tmp_path))
    assert said.verdict == "holds" and "than 5 %: at 2.5 % fails, at 10 % holds." in said.numbers
