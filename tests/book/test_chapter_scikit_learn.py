"""The chapter on scikit-learn: inserted numbers against the saved table, the live networks, refusals."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts, small
from scipy import stats

CHAPTER = "82_scikit_learn"
TABLE = pd.read_csv(ROOT / "book" / "results" / "estimators.csv")


def run() -> Run:
    return small(CHAPTER, "3")


def test_every_inserted_number_is_there() -> None:
    run().assert_every_inserted_number_is_there()


@pytest.mark.parametrize("label", ["plain", "tuned", "mse", "early", "halves", "noisy"])
def test_counts_are_of_paired_tests_corrected_for_all(label: str) -> None:
    measure, one, other = run().names["PAIRS"][label]
    better = worse = 0
    for _, own in TABLE.groupby("task"):
        by_seed = own.pivot(index="seed", columns="estimator", values=measure)
        test = stats.ttest_rel(by_seed[one], by_seed[other])
        found = test.pvalue < 0.05 / run().glued["n-tests"]
        better, worse = better + int(found and test.statistic < 0), worse + int(found and test.statistic > 0)
    assert (run().glued[f"{label}-better"], run().glued[f"{label}-worse"]) == (better, worse)
    assert run().glued["n-tests"] == 6 * TABLE["task"].nunique()


def test_the_verdict_is_of_the_tuned_pair_and_turns_with_it() -> None:
    assert run().printed["verdict"].splitlines() == committed_verdicts(CHAPTER)["verdict"]

    def judged(won: int, lost: int) -> str:
        return run().mutant("verdict", {"counted": {"tuned": (won, lost)}}).splitlines()[0].partition(": ")[2]

    assert [judged(*counts) for counts in ((2, 0), (0, 2), (1, 1), (0, 0))] == [
        "holds",
        "fails",
        "holds under stated conditions",
        "not shown",
    ]


def test_shares_of_slopes_are_of_means_over_seeds() -> None:
    means = TABLE.groupby(["estimator", "task"])["slope"].mean()
    share = 100 * means["LaiRegressor, half the slope"] / means["LaiRegressor, MSE"]
    assert run().glued["half-slope-least"] == pytest.approx(share.min())
    assert run().glued["half-slope-most"] == pytest.approx(share.max())


def test_the_live_networks_are_trained_on_other_rows_than_they_are_measured_on() -> None:
    names = run().names
    rows = {row.tobytes() for row in names["X_test"]}
    assert len(rows) == 100 and not rows & {row.tobytes() for row in names["X_train"]}
    error = np.sqrt(np.mean(np.square(names["flat"].predict(names["X_test"]) - names["y_test"])))
    assert names["rows"]["LaiRegressor"]["rmse"] == pytest.approx(error / names["y_train"].std())
    assert names["search"].best_params_["lam"] in (1.0, 3.0, 0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"seed": -1}, "seed = -1"),
        ({"epochs": 0}, "epochs = 0"),
        ({"epochs": 1.5}, "epochs = 1.5"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message)
