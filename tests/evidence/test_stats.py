"""Intervals against closed forms, pairing, and the rule by which steps are judged."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evidence.ledger.stats import bootstrap_mean, judge_steps, paired, student_mean


def test_bootstrap_interval_of_a_large_sample_is_the_normal_one() -> None:
    sample = np.random.default_rng(0).normal(3, 2, 400)
    mean, low, high = bootstrap_mean(sample)
    half = 1.96 * sample.std() / math.sqrt(len(sample))
    assert mean == pytest.approx(sample.mean())
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.05)


@pytest.mark.parametrize(("size", "least"), [(6, 0.925), (10, 0.93), (30, 0.93)])
def test_bootstrap_covers_the_mean_about_as_often_as_it_says(size: int, least: float) -> None:
    """Plain percentiles would do so 87, 90 and 94 times in a hundred."""
    rng = np.random.default_rng(1)
    hits = np.mean([i.low <= 0 <= i.high for i in (bootstrap_mean(rng.normal(size=size), n=1000) for _ in range(1500))])
    assert least < hits < 0.97


def test_students_interval_is_scipys() -> None:
    sample = np.random.default_rng(2).normal(3, 2, 10)
    for level in (0.95, 0.9985):
        mean, low, high = student_mean(sample, level=level)
        expected = stats.t.interval(level, 9, loc=sample.mean(), scale=stats.sem(sample))
        assert mean == pytest.approx(sample.mean()) and (low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([1.0], 0.95, "values = "),
        ([1.0, math.nan], 0.95, "values = "),
        ([[1.0, 2.0]], 0.95, "values"),
        ([1, 2], 1, "level = 1"),
    ],
)
def test_students_interval_needs_two_numbers_and_a_level(values: list, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        student_mean(values, level=level)


@pytest.mark.parametrize("size", [10, 20, 40])
def test_bootstrap_interval_is_about_as_wide_as_students(size: int) -> None:
    """Where the sample is normal the two should agree; wider still for several questions at once."""
    sample = stats.norm.ppf((np.arange(size) + 0.5) / size)
    for level in (0.95, 0.995):
        mean = bootstrap_mean(sample, level=level)
        low, high = stats.t.interval(level, size - 1, loc=sample.mean(), scale=stats.sem(sample))
        assert (mean.high - mean.low) / (high - low) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]]])
def test_bootstrap_names_a_bad_sample(values: list) -> None:
    with pytest.raises(ValueError, match="finite, one-dimensional"):
        bootstrap_mean(values)
    with pytest.raises(ValueError, match="level = 1"):
        bootstrap_mean([1.0], level=1)


def runs() -> pd.DataFrame:
    rows = [("a", s, 1.0 + s) for s in (2, 0, 1)] + [("b", s, 0.5 + s * s) for s in (0, 1, 2)]
    return pd.DataFrame(rows, columns=["arm", "seed", "rmse"])


def test_pairs_by_seed_and_not_by_row() -> None:
    assert paired(runs(), "rmse", "a", "b").tolist() == [0.5, 0.5, -1.5]


def test_pairing_refuses_what_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match=r"arm 'c' is missing.*\['a', 'b'\]"):
        paired(runs(), "rmse", "c", "b")
    with pytest.raises(ValueError, match=r"seeds \[0, 1\] and \[0, 1, 2\]"):
        paired(runs().query("not (arm == 'a' and seed == 2)"), "rmse", "a", "b")
    with pytest.raises(ValueError, match="more than once"):
        paired(pd.concat([runs(), runs()]), "rmse", "a", "b")


def test_judging() -> None:
    up, down, unclear = [0.1, 0.2, 0.3], [-0.1, -0.2, -0.3], [-0.2, 0.1, 0.1]
    assert judge_steps([up, up], 1) == "holds" and judge_steps([down], -1) == "holds"
    assert judge_steps([up, unclear], 1) == "not shown"
    assert judge_steps([up, unclear, down], 1) == "fails"
    with pytest.raises(ValueError, match="sign = 0"):
        judge_steps([up], 0)


def test_steps_of_several_quantities_have_wider_intervals() -> None:
    """Nine values of one sign and one of the other: shown alone, and not as one of forty."""
    step = [0.3, 0.4, 0.2, 0.5, 0.1, 0.3, 0.6, 0.2, 0.4, -0.2]
    assert judge_steps([step], 1) == "holds" == judge_steps([step], 1, tests=4)
    mean, error = np.mean(step), np.std(step, ddof=1) / 10**0.5
    tests = [n for n in (4, 40, 400, 4000) if mean - error * stats.t.ppf(1 - 0.025 / n, 9) > 0]
    assert [n for n in (4, 40, 400, 4000) if judge_steps([step], 1, tests=n) == "holds"] == tests != [4, 40, 400, 4000]
