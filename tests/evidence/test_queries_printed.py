"""Queries on the paper's printed figures: tables that give them, and tables that do not."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, rising, table, with_list

from evidence.ledger.paper import V1_SMOOTHNESS, V2_LIST_RMSE, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.queries import QUERIES
from evidence.ledger.views import Results


def printed_2(metric: int) -> Callable[[float | None], float]:
    return lambda lam: V2_SMOOTHNESS[lam][metric]


def test_figures_are_those_of_the_published_protocol(tmp_path: Path) -> None:
    near = table(printed_2(0), printed_2(1))
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds"
    said = QUERIES["v2_figures"](Results(tmp_path)).numbers
    assert "8 of 8 printed figures and 6 of 6 printed differences to MSE" in said
    passed = [int(n) for n in re.findall(r"of 12 columns wrongly paired (\d+) pass in full", said)]
    assert len(passed) == 2 and max(passed) < 6
    far = table(lambda lam: 2.0, printed_2(1))
    assert ask(tmp_path, "v2_figures", smoothness=far) == "holds under conditions"
    assert ask(tmp_path, "v2_figures", smoothness=table(lambda lam: 2.0, lambda lam: 9.0)) == "fails"
    assert ask(tmp_path, "v2_figures", smoothness=near.query("protocol == 'sound'")) == "not tested"
    ten = table(lambda lam: V1_SMOOTHNESS[lam][0], lambda lam: V1_SMOOTHNESS[lam][1], alpha=1.0, lams=(*LAMS, 1e-4))
    assert ask(tmp_path, "v1_figures", strength=ten) == "holds"


@pytest.mark.parametrize(("deviations", "matched"), [(1.9, 8), (2.1, 4)])
def test_a_figure_matches_within_two_standard_deviations(tmp_path: Path, deviations: float, matched: int) -> None:
    made = table(printed_2(0), printed_2(1), noise=1e-6)
    mse = made[made["lam"].isna() & made["protocol"].eq("published")]
    made["rmse"] += deviations * mse["rmse"].std()
    ask(tmp_path, "v2_figures", smoothness=made)
    assert f"({matched} of 8 printed figures" in QUERIES["v2_figures"](Results(tmp_path)).numbers.split("last step")[0]


def test_figures_that_any_column_would_match_do_not_just_hold(tmp_path: Path) -> None:
    wide = table(printed_2(0), printed_2(1), noise=0.1)
    assert ask(tmp_path, "v2_figures", smoothness=wide) == "holds under conditions"
    said = QUERIES["v2_figures"](Results(tmp_path)).numbers
    assert "8 of 8 printed figures and 6 of 6" in said and "the test does not tell columns apart" in said


def test_differences_count_beside_figures(tmp_path: Path) -> None:
    """Seeds differ widely and arms of one seed do not: the figures are matched, and a difference that is wrong is noticed."""
    rng = np.random.default_rng(1)
    near = table(printed_2(0), printed_2(1))
    shift = pd.Series(rng.normal(0, 0.05, 10))
    metrics = ["rmse", "rmse_last", "variance", "variance_last"]
    near[metrics] = near[metrics].add(near["seed"].map(shift - shift.mean()), axis=0)
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds"
    near.loc[np.isclose(near["lam"], 0.01), ["rmse", "rmse_last"]] += 0.01
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds under conditions"
    assert "8 of 8 printed figures and 5 of 6" in QUERIES["v2_figures"](Results(tmp_path)).numbers


def test_the_column_of_few_lai_batches(tmp_path: Path) -> None:
    full = table(lambda lam: V1_SMOOTHNESS[lam][0], lambda lam: V1_SMOOTHNESS[lam][1], alpha=1.0, lams=(1e-3,))
    few = table(lambda lam: 0.7820, lambda lam: 0.4653, lams=(1e-4,)).dropna(subset="lam")
    assert ask(tmp_path, "sampling_figures", sampling=pd.concat([full, few])) == "holds"
    few["rmse"] += 1
    few["variance"] += 1
    few["rmse_last"] += 1
    few["variance_last"] += 1
    assert ask(tmp_path, "sampling_figures", sampling=pd.concat([full, few])) == "fails"


def as_printed(spread: float) -> pd.DataFrame:
    """The paper's three rows of sensitivities, with seeds that differ by this share; the list's error is printed too."""
    frame = with_list()
    listed = np.isclose(frame["lam_8"], 0.001) & np.isclose(frame["lam"], 0.1)
    rows = {"mse": frame["lam"].isna(), "lam = 1e-1": np.isclose(frame["lam"], 0.1) & ~listed, "lam_8 = 1e-3": listed}
    for n, (row, here) in enumerate(rows.items(), start=1):
        for j, printed in enumerate(V2_SENSITIVITY[row], start=1):
            for name in (f"s_{j}", f"s_last_{j}"):
                frame.loc[here, name] = printed * (1 + spread * np.cos(n * frame.loc[here, "seed"] + j))
    for row, error in (("mse", 0.6960), ("lam_8 = 1e-3", V2_LIST_RMSE)):
        for name in ("rmse", "rmse_last"):
            noise = spread * np.cos(frame.loc[rows[row], "seed"] + len(row))
            frame.loc[rows[row], name] = error + noise + (1e-6 if name == "rmse" else 0)
    return frame


SENSITIVITY_ROWS = ("noise_figures", "noise_lam_figures", "noise_list_figures")


@pytest.mark.parametrize("name", SENSITIVITY_ROWS)
def test_sensitivities_as_printed(tmp_path: Path, name: str) -> None:
    frame = as_printed(1e-3)
    assert ask(tmp_path, name, sensitivity=frame) == "holds"
    frame[["s_3", "s_last_3"]] += 1
    assert ask(tmp_path, name, sensitivity=frame) == "holds under conditions"
    assert ask(tmp_path, name, sensitivity=as_printed(0.5)) == "holds under conditions"
    assert "the test does not tell columns apart" in QUERIES[name](Results(tmp_path)).numbers


def rounding(moved: float) -> pd.DataFrame:
    """Two runs of MSE in each protocol that end up this far apart."""
    rows = pd.DataFrame({"protocol": ["published", "sound"], "arm": "MSE", "epochs": 200})
    for metric in ("rmse", "rmse_last"):
        rows[metric], rows[f"{metric}_again"] = 0.7, 0.7 + moved
    return rows


@pytest.mark.parametrize(
    ("noise", "moved", "verdict"),
    [
        (1e-4, 1e-4, "holds"),  # less than every printed gap
        (1e-4, 1e-3, "holds under conditions"),  # rounding moves more than the smallest of them
        (3e-3, 1e-4, "holds under conditions"),  # another seed turns the two smaller ones
        (0.05, 1e-4, "fails"),
        (1e-4, 0.05, "fails"),
    ],
)
def test_whether_one_seed_is_enough(tmp_path: Path, noise: float, moved: float, verdict: str) -> None:
    made = table(rising, falling, noise=noise)
    assert ask(tmp_path, "one_seed", smoothness=made, rounding=rounding(moved)) == verdict
    (tmp_path / "rounding.csv").unlink()
    assert QUERIES["one_seed"](Results(tmp_path)).verdict == "not tested"
