"""The chapter on choosing λ and α: the verdict and its mutants, inserted numbers, refusals."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts, small
from sklearn.datasets import load_diabetes

CHAPTER = "81_choosing"
VERDICT = committed_verdicts(CHAPTER)["verdict"]
RESULTS = ROOT / "book" / "results"


def run(lam: str = "3") -> Run:
    return small(CHAPTER, lam)


# --- the verdict -----------------------------------------------------------------------------------------------


def test_the_verdict_is_of_pairs_of_networks() -> None:
    each = np.array([[1.0, 1.0], [0.5, 0.5], [0.5, 0.5], [1.1, 1.2]])

    def judged(*last: float) -> str:
        return run().mutant("verdict", {"each": np.vstack([each[:3], last])}).splitlines()[0]

    assert judged(1.1, 1.2) == VERDICT[0] == "steepens: holds"
    assert judged(0.9, 1.2) == "steepens: not shown"
    assert judged(0.9, 0.8) == "steepens: fails"


def test_the_check_notices_a_conversion_that_is_not_undone_and_a_choice_that_is_not_the_flattest() -> None:
    good = run().printed["verdict"].splitlines()[1:]
    assert [line.rpartition(": ")[2] for line in good[:1] + good[3:]] == ["True", "True"]
    wrong = run().mutant("verdict", old="x_scale=s_x, y_scale=s_y", new="x_scale=s_x")
    assert wrong.splitlines()[1].endswith("False")
    choice = run().names["choice"]
    other = type(choice)(**{**vars(choice), "row": 1 if choice.row != 1 else 2})
    assert run().mutant("verdict", {"choice": other}).splitlines()[4].endswith("False")


# --- what is shown ---------------------------------------------------------------------------------------------


def test_every_inserted_number_is_there() -> None:
    run().assert_every_inserted_number_is_there()


@pytest.mark.parametrize("lam", ["3", "0.05"])
def test_the_readers_lam_is_among_those_that_are_tried(lam: str) -> None:
    assert run(lam).names["choice"].table["lam"].count(float(lam)) == 1
    assert run(lam).glued["root-lam"] == pytest.approx(math.sqrt(float(lam)))


def test_the_boundary_in_raw_units_is_the_standardised_one_times_the_spreads() -> None:
    table = load_diabetes(scaled=False)
    rows = run().names["rows"][:242]
    bmi, target = table.data[rows, table.feature_names.index("bmi")], table.target[rows]
    assert run().glued["bmi-boundary"] == pytest.approx(math.sqrt(3) * target.std() / bmi.std())


def test_no_row_is_in_two_parts_and_none_is_lost() -> None:
    x, y = (
        np.concatenate([np.asarray(part[i]) for part in map(run().names.get, ("train", "val", "test"))]) for i in (0, 1)
    )  # type: ignore[index]
    assert len(x) == len(y) == 442 == len(np.unique(x, axis=0))
    assert np.allclose(x[:242].mean(0), 0, atol=1e-5) and np.allclose(x[:242].std(0), 1, atol=1e-5)


def test_the_table_of_alpha_is_the_saved_sweep_and_the_benchmark() -> None:
    saved = pd.read_csv(RESULTS / "explorer.csv").query("protocol == 'sound'").set_index("seed")
    plain = saved[saved["lam"].isna()]
    for name, alpha in (("", 0.01), ("-tenth", 0.1), ("-all", 1.0)):
        own = saved[(saved["lam"] == 0.1) & (saved["alpha"] == alpha)]
        assert run().glued[f"sound-slope{name}"] == pytest.approx((100 * (own["rms_k"] / plain["rms_k"] - 1)).mean())
    step = pd.read_csv(RESULTS / "cost.csv").query("part == 'grid' and measure == 'time'")["ratio"].median()
    assert run().glued["lai-step"] == pytest.approx(step)
    assert run().names["strengths"]["time"].tolist() == [f"{1 + a * (step - 1):.2f}" for a in (0.01, 0.1, 1.0)]


def test_the_swing_is_of_schedules_that_differ_in_their_lai_batches_alone() -> None:
    """Without Lai batches the two networks are one."""
    slopes_by_epoch = run().names["slopes_by_epoch"]
    lai = run().names["lai"]
    assert slopes_by_epoch(lai.LaiSchedule(0.0)) == pytest.approx(np.full(8, 100.0), abs=1e-3)


# --- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"alpha": math.nan}, "alpha = nan"),
        ({"alpha": "all"}, "alpha = 'all'"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 0.5}, "seed = 0.5"),
        ({"epochs": 0}, "epochs = 0"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message)
