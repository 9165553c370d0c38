"""The page on sensitivity: its formula, its kept tables, refusals and exercises.

Networks are few and small here; the kept results are those of the committed tables.
"""

import functools
import json
import re
from typing import Any

import pandas as pd
import pytest
from chapter_run import ROOT, Run, small

from evidence.data import KAGGLE_SHA256
from evidence.ledger.tables import reach
from evidence.runs import noise
from evidence.runs.experiments import EXPERIMENTS

CHAPTER = "71_experiments_sensitivity"
RESULTS = ROOT / "book" / "results"

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def kept(name: str = "sensitivity") -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_by_hand_is_the_library() -> None:
    by_hand, library = re.findall(r"\d\.\d+", small(CHAPTER, "3").printed["by-hand"])
    assert by_hand == library


# --- the kept tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sensitivity", "lists"])
def test_complete_and_with_provenance(name: str) -> None:
    about, table = json.loads((RESULTS / f"{name}.json").read_text()), kept(name)
    assert (
        KAGGLE_SHA256 in about["data"] and about["command"].startswith("make reproduce") and len(about["seeds"]) >= 10
    )
    for protocol, arms in EXPERIMENTS[name].arms.items():
        runs = table[table["protocol"] == protocol]
        assert len(runs) == (1 + len(arms)) * len(about["seeds"]) and runs.drop(columns=["lam", "lam_8"]).notna().all(
            axis=None
        )


def test_the_kinds_of_noise_were_measured_on_the_kept_networks() -> None:
    about, study = json.loads((RESULTS / "noise.json").read_text()), kept("noise")
    assert KAGGLE_SHA256 in about["data"] and about["seeds"] == sorted(set(study["seed"]))
    assert set(study["kind"]) == set(noise.NOISES) and set(study["scale"]) == set(noise.SCALES)


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"lam_last": 0.0}, "lam_last = 0"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"source": "moon"}, "source must be one of"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message)


def test_exercises() -> None:
    done = small(CHAPTER, "3")
    at = done.names["solution_4"]
    nearby = reach(kept("lists"), "sound", feature=8, budgets=[at - 0.001, at])["own"]
    assert nearby.iloc[0] > -0.5 >= nearby.iloc[1]
    assert set(done.names["solution_3"].index) == set(done.names["names"])
