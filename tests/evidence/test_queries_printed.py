"""Queries on the paper's printed figures: tables that give them, and tables that do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, table, with_list
from scipy import stats

from evidence.ledger.paper import V1_SMOOTHNESS, V2_LIST_RMSE, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.queries import QUERIES
from evidence.ledger.queries.printed import Columns, judge_figure
from evidence.ledger.views import Results, views


def printed_2(metric: int) -> Callable[[float | None], float]:
    return lambda lam: V2_SMOOTHNESS[lam][metric]


def test_figures_are_those_of_the_published_protocol(tmp_path: Path) -> None:
    near = table(printed_2(0), printed_2(1), spread=1e-3)
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds"
    said = QUERIES["v2_figures"](Results(tmp_path)).numbers
    assert said.count("8 of 8 printed figures agree, 0 contradicted and 6 of 6 printed differences to MSE agree") == 2
    assert said.count("of 12 columns wrongly paired 0 are not contradicted") == 2
    far = table(lambda lam: 2.0, printed_2(1), spread=1e-3)
    assert ask(tmp_path, "v2_figures", smoothness=far) == "fails"
    assert ask(tmp_path, "v2_figures", smoothness=near.query("protocol == 'sound'")) == "not tested"
    others = pd.concat([near.query("protocol == 'published'"), far.query("protocol != 'published'")])
    assert ask(tmp_path, "v2_figures", smoothness=others) == "holds"
    ten = table(*(lambda lam, i=i: V1_SMOOTHNESS[lam][i] for i in (0, 1)), alpha=1.0, lams=(*LAMS, 1e-4), spread=1e-3)
    assert ask(tmp_path, "v1_figures", strength=ten) == "holds"


@pytest.mark.parametrize(
    ("tests", "share", "word"),
    [(1, 0.99, "holds"), (1, 1.01, "not shown"), (14, 0.99, "not shown"), (14, 1.01, "fails")],
)
def test_a_figure_agrees_within_the_interval_of_one_more_run(
    tmp_path: Path, tests: int, share: float, word: str
) -> None:
    """One is enough for it not to agree; to contradict the claim it must lie outside given that there are fourteen."""
    made = table(printed_2(0), printed_2(1), noise=1e-9, spread=1e-3)
    spread = made.loc[made["lam"].isna() & made["protocol"].eq("published"), "rmse"].std()
    made["rmse"] += share * spread * stats.t.ppf(1 - 0.025 / tests, 9) * 1.1**0.5
    ask(tmp_path, "v2_figures", smoothness=made)
    assert f"Published, averaged: {word} (" in QUERIES["v2_figures"](Results(tmp_path)).numbers


def test_noise_lets_no_figure_pass(tmp_path: Path) -> None:
    """However wide the runs spread, a figure agrees only where the interval is no wider than the paper's own row."""
    runs = np.random.default_rng(0).normal(size=10)
    width = 2 * stats.t.ppf(0.975, 9) * 1.1**0.5 * runs.std(ddof=1)
    assert judge_figure(runs.mean(), runs, 1.01 * width) == "holds"
    assert judge_figure(runs.mean(), runs, 0.99 * width) == "not shown"
    assert judge_figure(runs.mean(), runs[:1], 1.0) == "not shown"
    wide = table(printed_2(0), printed_2(1), noise=0.1)
    assert ask(tmp_path, "v2_figures", smoothness=wide) == "not shown"
    said = QUERIES["v2_figures"](Results(tmp_path)).numbers
    assert "0 of 8 printed figures agree, 0 contradicted" in said and "the test does not tell columns apart" in said


def test_differences_count_beside_figures(tmp_path: Path) -> None:
    """Arms of one seed differ less than seeds do: the figures agree, and a difference that is wrong is noticed."""
    near = table(printed_2(0), printed_2(1), spread=2e-3)
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds"
    near.loc[np.isclose(near["lam"], 0.01), ["rmse", "rmse_last"]] += 0.002
    assert ask(tmp_path, "v2_figures", smoothness=near) == "fails"
    said = QUERIES["v2_figures"](Results(tmp_path)).numbers
    assert "8 of 8 printed figures agree, 0 contradicted and 5 of 6 printed differences to MSE agree, 1 contra" in said


def test_wrong_pairs_are_all_that_have_a_wanted_side_and_no_other() -> None:
    columns = Columns(dict.fromkeys("abc", (None,)), {name: (1.0,) for name in "abc"}, ("rmse",))
    assert set(columns.wrong_pairs(["a"])) == {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}
    assert len(columns.wrong_pairs(list("abc"))) == len(set(columns.wrong_pairs(list("abc")))) == 6


def test_columns_that_would_do_for_other_arms_do_not_hold(tmp_path: Path) -> None:
    """Two arms are alike and so are the columns printed for them: they agree, and wrongly paired as well; with a third that is far
    from both, fewer than half of the pairs are wrong and agree."""
    arms = {
        "MSE": (None,),
        "λ = 0.1": (0.1, None, 0.01),
        "λ = 0.01": (0.01, None, 0.01),
        "λ = 0.001": (0.001, None, 0.01),
    }
    made = table(lambda lam: 0.9 if lam == 0.001 else 0.7, falling, spread=1e-2, protocols=("published",))
    view = views(made)[0]
    printed = {"MSE": (0.7,), "λ = 0.1": (0.7,), "λ = 0.01": (0.7,), "λ = 0.001": (0.9,)}
    alike = Columns(arms, printed, ("rmse",)).judge(["λ = 0.1"])(view)
    assert alike[0] == "not shown" and "of 6 columns wrongly paired 4 are not contradicted: the test" in alike[1]
    apart = Columns(arms, printed, ("rmse",)).judge(["λ = 0.001"])(view)
    assert apart[0] == "holds" and "of 6 columns wrongly paired 0 are not contradicted" in apart[1]


def test_the_column_of_few_lai_batches(tmp_path: Path) -> None:
    options: dict[str, Any] = {"spread": 1e-3}
    full = table(*(lambda lam, i=i: V1_SMOOTHNESS[lam][i] for i in (0, 1)), alpha=1.0, lams=(1e-3,), **options)
    few = table(lambda lam: 0.7820, lambda lam: 0.4653, lams=(1e-4,), **options).dropna(subset="lam")
    assert ask(tmp_path, "sampling_figures", sampling=pd.concat([full, few])) == "holds"
    few[["rmse", "variance", "rmse_last", "variance_last"]] += 1
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
    assert ask(tmp_path, name, sensitivity=frame) == "fails"
    assert ask(tmp_path, name, sensitivity=as_printed(0.5)) == "not shown"
    assert "the test does not tell columns apart" in QUERIES[name](Results(tmp_path)).numbers


def rounding(moved: float) -> pd.DataFrame:
    """Two runs of MSE that end up this far apart; what other protocols and the other evaluation do has no say."""
    rows = pd.DataFrame({"protocol": ["published", "sound"], "arm": "MSE", "epochs": 200, "seed": 0, "rmse": 0.7})
    return rows.assign(rmse_again=9.0, rmse_last=0.7, rmse_last_again=[0.7 - moved, 9.0])


@pytest.mark.parametrize(("moved", "verdict"), [(4e-4, "holds"), (6e-4, "fails"), (0.05, "fails")])
def test_whether_differences_come_of_the_loss_alone(tmp_path: Path, moved: float, verdict: str) -> None:
    """The least of the printed gaps is 0.0005."""
    assert ask(tmp_path, "one_seed", rounding=rounding(moved)) == verdict
    assert "V1: not tested" in QUERIES["one_seed"](Results(tmp_path)).numbers
