"""The page on version 1's table: its verdicts and their mutants, inserted numbers, sentences on the kept results, exercises.

Networks are trained for an epoch here; the committed page has the sizes of its parameters cell.
"""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts

from evidence.ledger.paper import V1_SMOOTHNESS
from evidence.ledger.queries import QUERIES, Results
from evidence.ledger.stats import bootstrap_mean, judge_steps, paired
from evidence.ledger.tables import lam_with_effect
from evidence.runs import arms

CHAPTER = "72_experiments_strength"
TINY = {"seeds": 1, "epochs": 1, "n_jobs": 1}
RESULTS = ROOT / "book" / "results"

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def tiny() -> Run:
    return Run(CHAPTER, lam=3.0, **TINY).all()


@pytest.fixture(scope="module")
def kept() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "strength.csv")


def means(table: pd.DataFrame) -> pd.DataFrame:
    return table.groupby(["protocol", "arm"]).mean(numeric_only=True)


# --- the verdicts ----------------------------------------------------------------------------------------------


def test_committed_verdicts_are_what_the_kept_results_give() -> None:
    committed = committed_verdicts(CHAPTER)
    assert list(committed) == ["live-verdict", "verdicts"]
    assert tiny().lines("verdicts") == committed["verdicts"] and len(committed["verdicts"]) == 6
    assert [line.rpartition(": ")[2] for line in committed["live-verdict"]] == ["True"] * 3


def judged(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, str]:
    """The verdicts where the table of results has been changed."""
    change(pd.read_csv(RESULTS / "strength.csv")).to_csv(folder / "strength.csv", index=False)
    (folder / "strength_curves.csv").write_bytes((RESULTS / "strength_curves.csv").read_bytes())
    run = tiny()
    before, run.names["folder"] = run.names["folder"], folder
    try:
        lines = run.again("verdicts").splitlines()
    finally:
        run.names["folder"] = before
        run.again("verdicts")
    return {line.partition(",")[0]: line.rpartition(": ")[2] for line in lines}


def test_verdicts_of_made_up_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def made(table: pd.DataFrame, sign: int) -> pd.DataFrame:
        depth = -np.log10(table["lam"].fillna(10.0)) + 1 + 1e-3 * rng.standard_normal(len(table))
        for end in ("", "_running"):
            table[f"rmse{end}"] = 0.7 + sign * 0.05 * depth
            table[f"variance{end}"] = 0.7 - sign * 0.1 * depth
        return table

    paper = judged(tmp_path, lambda table: made(table, +1))
    assert [paper[f"v1-{c}"] for c in ("loss-rises", "var-falls", "beats", "adheres")] == [
        "holds",
        "holds",
        "fails",
        "fails",
    ]
    turned = judged(tmp_path, lambda table: made(table, -1))
    assert [turned[f"v1-{c}"] for c in ("loss-rises", "var-falls", "beats")] == ["fails", "fails", "holds"]


# --- inserted numbers ------------------------------------------------------------------------------------------


def test_every_inserted_number_is_there() -> None:
    tiny().assert_every_inserted_number_is_there()


def test_inserted_numbers_by_another_way(kept: pd.DataFrame) -> None:
    glued = tiny().glued
    wide = kept.pivot_table(index="seed", columns=["protocol", "arm"], values=["rmse", "variance", "rms_k"])
    for name in ("published", "corrected"):
        for power in (3, 4):
            arm = wide["variance"][name][f"λ = {10**-power:g}"].mean()
            assert glued[f"{name}-kept-{power}"] == pytest.approx(arm / wide["variance"][name]["MSE"].mean())
    tenth = wide["rmse"]["sound"]["λ = 0.1"].mean() / wide["rmse"]["sound"]["MSE"].mean()
    assert glued["sound-tenth"] == pytest.approx(100 * (tenth - 1))
    gap = wide["rmse"]["published"]["λ = 0.1"] - wide["rmse"]["published"]["MSE"]
    assert (glued["gap-mean"], glued["gap-lower"]) == (pytest.approx(gap.mean()), (gap < 0).sum())
    assert glued["gap-spread"] == pytest.approx(gap.std())
    assert glued["gap-low"] < glued["gap-mean"] < 0 < glued["gap-high"]  # "not beyond chance"
    # "by itself leaves out zero", "widened ... does not", and the mean of the other program
    assert glued["running-low"] < glued["running-mean"] < glued["running-high"] < 0
    assert "not shown in published" in QUERIES["v1_beats"](Results(RESULTS)).views
    other = pd.read_csv(RESULTS / "two_programs.csv").query("table == 'strength' and protocol == 'published'")
    other = other.pivot(index="seed", columns="arm", values="rmse_running")
    assert glued["running-other"] == pytest.approx((other["λ = 0.1"] - other["MSE"]).mean())
    assert glued["running-mean"] < glued["running-other"]
    fall = wide["variance"]["published"]["λ = 0.001"] - wide["variance"]["published"]["MSE"]
    assert (
        glued["fall"] == pytest.approx(fall.mean()) and glued["fall-low"] < 0 < glued["fall-high"]
    )  # "leave that open"
    for power in (1, 3):
        error, variance = (
            wide[m]["corrected"][f"λ = {10.0**-power:g}"].mean() / wide[m]["corrected"]["MSE"].mean()
            for m in ("rmse", "variance")
        )
        assert glued[f"price-{power}"] == pytest.approx((error - 1) / (1 - variance))


def test_live_changes_are_against_the_protocols_own_control() -> None:
    done = tiny()
    of_all = done.names["table"].groupby(["protocol", "arm"])["variance"].mean()
    for (protocol, arm), change in done.names["changes"]["Δ variance (%)"].items():
        own = of_all[protocol]
        assert change == pytest.approx(100 * (own[arm] / own["MSE"] - 1))


# --- sentences on the kept results, held against them ----------------------------------------------------------


def test_kept_results_are_whole(kept: pd.DataFrame) -> None:
    assert set(kept["protocol"]) == {"published", "corrected", "sound"}
    assert set(V1_SMOOTHNESS) - {None} == set(kept.query("protocol == 'published'")["lam"].dropna())
    assert kept.groupby(["protocol", "arm"])["seed"].nunique().nunique() == 1
    about = pd.read_json(RESULTS / "strength.json", typ="series")
    assert len(about["seeds"]) == kept["seed"].nunique()


def test_slopes_fall_at_every_step_in_every_protocol(kept: pd.DataFrame) -> None:
    for _, runs in kept.groupby("protocol"):
        arms = ["MSE", *(f"λ = {v:g}" for v in sorted(runs["lam"].dropna().unique(), reverse=True))]
        steps = [paired(runs, "rms_k", low, high) for high, low in zip(arms[1:], arms[2:], strict=False)]
        assert judge_steps(steps, -1) == "holds"


def test_published_protocol_acts_weakly_and_less_and_less(kept: pd.DataFrame) -> None:
    """ "in the paper's direction and less than in the paper", "fades while it trains"."""
    glued, own = tiny().glued, means(kept).loc["published"]
    assert abs(own.loc["MSE", "rmse"] - V1_SMOOTHNESS[None][0]) < 0.02
    for power in (3, 4):
        assert glued[f"paper-kept-{power}"] < glued[f"published-kept-{power}"] < 1.0
    assert glued["published-late"] < 0.7 * glued["published-early"]
    assert glued["corrected-late"] > glued["corrected-early"]
    assert abs(glued["gap-mean"]) < own_spread(kept)  # "smaller than the spread over seeds"


def own_spread(kept: pd.DataFrame) -> float:
    return float(kept.query("protocol == 'published' and arm == 'MSE'")["rmse"].std())


def test_with_the_true_slope_all_is_there_and_far_too_much(kept: pd.DataFrame) -> None:
    shares = {}
    for name in ("corrected", "sound"):
        runs, own = kept.query("protocol == @name"), means(kept).loc[name]
        assert bootstrap_mean(paired(runs, "rmse", "λ = 0.1", "MSE")).low > 0  # λ = 0.1 is worse
        shares[name] = own["variance"] / own.loc["MSE", "variance"]
        assert shares[name]["λ = 0.01"] < 0.25 and shares[name]["λ = 0.001"] < 0.1  # "most of the variance"
        same = lam_with_effect(kept, name, V1_SMOOTHNESS[1e-3][1] / V1_SMOOTHNESS[None][1])
        assert same > 0.01
        error = 100 * (own["rmse"] / own.loc["MSE", "rmse"] - 1)  # "near the same curve"
        by_variance = (100 * (shares[name] - 1)).sort_values()
        for lam in (1e-2, 1e-3, 1e-4):
            x, y = (100 * (V1_SMOOTHNESS[lam][i] / V1_SMOOTHNESS[None][i] - 1) for i in (1, 0))
            assert abs(np.interp(x, by_variance, error[by_variance.index]) - y) < 10
    glued, apart = tiny().glued, []
    for lam in ("λ = 0.1", "λ = 0.01", "λ = 0.001"):  # "run close together"
        assert abs(shares["corrected"][lam] - shares["sound"][lam]) < 0.12
        for metric in ("rmse", "variance"):
            one, two = (abs(means(kept).loc[n, metric][lam] / means(kept).loc[n, metric]["MSE"] - 1) for n in shares)
            apart += [one / two, two / one]
    assert glued["most-apart"] == pytest.approx(max(apart)) and max(apart) < 2.2  # "a factor of about two"
    assert glued["sound-loses"] == pytest.approx(1 - shares["sound"]["λ = 0.1"])
    assert glued["price-3"] > 1.5 * glued["price-1"]
    assert glued["sound-one-slope"] < -10 < glued["sound-one-variance"]


def test_smoother_means_lower_on_the_committed_page() -> None:
    cells = nbformat.read(ROOT / "notebooks" / f"{CHAPTER}.ipynb", as_version=4).cells
    (cell,) = (cell for cell in cells if cell.id == "along-table")
    text = "".join(o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result")
    name, shares = "", {}
    for line in text.splitlines()[1:]:
        found = re.fullmatch(r"(\w+)?\s+(MSE|λ = [\d.]+)\s+([\d.]+)", line.strip() if line[0] != " " else line)
        assert found, line
        name = found[1] or name
        shares[name, found[2]] = float(found[3])
    assert shares["corrected", "λ = 0.0001"] < 10 and shares["sound", "λ = 0.001"] < 15  # "nearly level"
    assert shares["corrected", "λ = 0.0001"] < shares["published", "λ = 0.0001"] < 50


def test_in_the_short_run_the_summed_gradient_shrinks_more_than_the_slope() -> None:
    cells = nbformat.read(ROOT / "notebooks" / f"{CHAPTER}.ipynb", as_version=4).cells
    (cell,) = (cell for cell in cells if cell.id == "summed-slopes")
    text = "".join(o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result")
    left = {line.rsplit(maxsplit=3)[0].strip(): float(line.split()[-1]) for line in text.splitlines()[1:]}
    assert left["λ = 0.0001"] < 0.7 * left["MSE"] and left["λ = 0.001"] < 0.8 * left["MSE"]
    sizes = tiny().names["sizes"]
    assert (sizes["summed / true"] == sizes["summed"] / sizes["true"]).all() and (sizes > 0).all(axis=None)


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam_sound": [0.1, 0.0]}, "lam_sound"),
        ({"seeds": 0}, "seeds = "),
        ({"feature": "Rooms"}, "feature = 'Rooms'"),
        ({"source": "moon"}, "source must be one of"),
        ({"protocols": ["best"]}, "protocol = 'best'"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"epochs": -1}, "epochs = -1"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **{**TINY, **change}).assert_refused(message, until="live-table")


def test_a_loss_that_ignores_slopes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = arms.Lane
    monkeypatch.setattr(arms, "Lane", lambda seed, lam=None, alpha=1.0: plain(seed))
    mutant = Run(CHAPTER, lam=0.1, lam_sound=0.001, protocols=["sound"], **TINY).all(until="live-curves")
    assert mutant.lines("live-verdict") == ["sound: flatter by 1 % in every seed of this run: False"]


def test_exercises_grade() -> None:
    done = tiny()
    done.assert_exercises_begin_unanswered()
    guess = functools.partial(done.again, "exercise-1-answer", "my_multiple: float | None = None")
    assert guess("my_multiple = 10") == guess("my_multiple = 1") == "Not yet.\n"
    share = functools.partial(done.again, "exercise-2-answer", "my_share: float | None = None")
    gaps = paired(
        pd.read_csv(RESULTS / "strength.csv").query("protocol == 'published'"), "rmse_running", "λ = 0.1", "MSE"
    )
    assert share(f"my_share = {(gaps < 0).mean():.2f}") == "Right.\n" and share("my_share = 7.0") == "Not yet.\n"
    assert done.names["solution_4"][0.1] == pytest.approx(0.1 / (0.9 * 0.1 + 0.1), abs=0.005)
    assert math.isfinite(done.names["solution_3"])
