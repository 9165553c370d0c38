"""The page on reproducibility: its tables are what the results say, and a doctored result is noticed."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evidence.ledger.paper import V2_SMOOTHNESS
from evidence.runs.protocols import PROTOCOLS
from tools import report

ROOT = Path(__file__).parents[2]
TEXT = report.PAGES[0].read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> list[str]:
    """Options for a page and results of one's own."""
    shutil.copytree(report.RESULTS, tmp_path / "results")
    shutil.copy(report.PAGES[0], tmp_path / "page.md")
    return ["--page", str(tmp_path / "page.md"), "--results", str(tmp_path / "results")]


def test_the_page_is_up_to_date_and_uses_every_table(capsys: pytest.CaptureFixture) -> None:
    assert report.main(["--check"]) == 0, capsys.readouterr().out
    texts = [page.read_text(encoding="utf-8") for page in report.PAGES]
    found = [[name for name, _ in report.blocks(text)] for text in texts]
    assert all(found) and set(sum(found, [])) == set(report.BLOCKS)  # a table may stand on several pages


def test_a_doctored_result_is_noticed_and_written(
    copy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "results" / "smoothness.csv"
    table = pd.read_csv(path)
    table.loc[(table["arm"] == "λ = 0.001") & (table["protocol"] == "sound"), "rmse"] += 0.1
    table.to_csv(path, index=False)
    about = json.loads((tmp_path / "results" / "lists.json").read_text())
    about["cpu_seconds"]["sound"]["λ = 1, λ₈ = 0.1, α = 0.1"] += 1000  # of runs that no other table has
    (tmp_path / "results" / "lists.json").write_text(json.dumps(about))
    assert report.main(["--check", *copy]) == 1
    assert "results, costs is out of date" in capsys.readouterr().out
    assert report.main(["--write", *copy]) == 0 and report.main(["--check", *copy]) == 0
    changed = (tmp_path / "page.md").read_text().splitlines()
    assert len(set(changed) ^ set(TEXT.splitlines())) == 6  # three lines, old and new: costs have a sum


def test_a_line_against_the_arithmetic_by_hand() -> None:
    table = pd.read_csv(report.RESULTS / "smoothness.csv").query("protocol == 'corrected'")
    rmse = table.pivot(index="seed", columns="arm", values="rmse")
    (line,) = [line for line in TEXT.splitlines() if "RMSE, λ = 0.001 minus MSE" in line and "smoothness" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert float(cells[2]) == pytest.approx(V2_SMOOTHNESS[1e-3][0] - V2_SMOOTHNESS[None][0], abs=5e-4)
    mean, low, high = map(float, re.findall(r"[+-]\d\.\d+", cells[3 + list(PROTOCOLS).index("corrected")]))
    assert mean == pytest.approx((rmse["λ = 0.001"] - rmse["MSE"]).mean(), abs=5e-4) and low <= mean <= high


def test_shares_are_means_of_paired_ratios() -> None:
    runs = pd.DataFrame({"arm": ["a", "MSE", "MSE", "a"], "seed": [0, 0, 1, 1], "s_8": [1.0, 2.0, 4.0, 3.0]})
    np.testing.assert_allclose(report.share("s_8", "a")(runs), [-0.5, -0.25])


def test_a_shared_run_is_counted_once(tmp_path: Path) -> None:
    for name in report.EXPERIMENTS:
        runs = {"protocol": "sound", "arm": ["MSE", "λ = 0.1" if name != "sampling" else "λ = 0.1, α = 0.5"]}
        pd.DataFrame({**runs, "alpha": [0.0, 0.5], "seed": 0}).to_csv(tmp_path / f"{name}.csv", index=False)
        seconds = {"sound": {"MSE": 5.0, str(runs["arm"][1]): 15.0}}
        about = {"cpu_seconds": seconds, "epochs": "5" if name in ("strength", "sampling") else "2"}
        about |= {"wall_seconds_of_last_call": 90, "tables_of_last_call": [name], "peak_mb": 9, "device": "cpu"}
        (tmp_path / f"{name}.json").write_text(json.dumps(about))
    *_, last, _, calls = report.costs(tmp_path).splitlines()
    assert "| all, each run once | 0 | 0 | 40 |" in last
    assert calls.count("2 min") == 5


def test_mse_runs_of_two_protocols_are_one(tmp_path: Path) -> None:
    runs = pd.DataFrame({"protocol": ["published"] * 2 + ["corrected"] * 2, "arm": ["MSE", "λ = 0.1"] * 2, "seed": 0})
    for name in report.EXPERIMENTS:
        runs.assign(alpha=[0.0, 0.5] * 2).to_csv(tmp_path / f"{name}.csv", index=False)
        seconds = {"published": {"MSE": 5.0, "λ = 0.1": 15.0}, "corrected": {"MSE": 5.0, "λ = 0.1": 25.0}}
        about = {"cpu_seconds": seconds, "epochs": "2", "peak_mb": 9, "device": "cpu"}
        about |= {"wall_seconds_of_last_call": 90, "tables_of_last_call": list(report.EXPERIMENTS)}
        (tmp_path / f"{name}.json").write_text(json.dumps(about))
    *_, last, _, calls = report.costs(tmp_path).splitlines()
    assert "| all, each run once | 20 | 25 | 0 |" in last and calls.count("2 min") == 1


def test_where_to_begin_is_the_best_strength_within_the_slope() -> None:
    trials = pd.DataFrame(
        [
            ("a", "MSE", 1.0, 1.00, 1.0),
            ("a", "Lai, α = 1 %", 0.1, 0.90, 0.8),
            ("a", "Lai, α = 1 %", 0.01, 0.95, 0.6),
            ("a", "Lai, α = 1 %", 0.001, 1.10, 0.3),
            ("b", "MSE", 1.0, 1.00, 1.0),
            ("b", "Lai, α = 1 %", 0.03, 0.95, 0.5),
        ],
        columns=["task", "method", "strength", "rmse_mean", "slope_mean"],
    ).assign(units="standardised")
    least = report.Aim("", "rmse", None, "rmse_mean", ("a", "b"))
    assert report._begin(trials, "Lai, α = 1 %", least) == "λ = 0.065 (0.03 to 0.1), α = 1 %"
    flatter = least._replace(measure="at_60", to="rmse")
    assert report._begin(trials, "Lai, α = 1 %", flatter) == "λ = 0.02 (0.01 to 0.03), α = 1 %"


def test_advice_counts_what_a_t_test_finds() -> None:
    """Lai loss and the penalty at 60 % of MSE's slope in standardised units, at the level of 9 pairs, 7 measures and 10 tasks."""
    table = pd.read_csv(report.RESULTS / "relatives.csv").query("units == 'standardised'")
    wide = table.pivot(index=["task", "seed"], columns="method", values="at_60")
    mse = table[table["method"] == "MSE"].set_index(["task", "seed"])["rmse"]
    larger = 0
    for share in ("", ", α = 10 %", ", α = 1 %"):
        gap = ((wide[f"Lai{share}"] - wide[f"slope penalty{share}"]) / mse).groupby("task")
        larger += sum(
            stats.ttest_1samp(own.dropna(), 0, alternative="greater").pvalue < 0.025 / (9 * 7 * 10) for _, own in gap
        )
        assert not any(
            stats.ttest_1samp(own.dropna(), 0, alternative="less").pvalue < 0.025 / (9 * 7 * 10) for _, own in gap
        )
    assert f"in {larger} of 30 comparisons, and a smaller one in none" in report.advice(report.RESULTS)
    assert f"({larger} of 30 in standardised units)" in report.answer(report.RESULTS)
    # "often smaller with simpler methods" on the front page, and "try … before Lai loss" on that of the relatives
    assert larger > 30 / 2
    noise = ((wide["input noise"] - wide["Lai"]) / mse).groupby("task")
    less = [stats.ttest_1samp(own.dropna(), 0, alternative="less").pvalue < 0.025 / 30 for _, own in noise]
    assert sum(less) > len(less) / 2


def test_the_story_has_the_shares_that_are_left() -> None:
    """λ = 0.001 in every batch, from pivots; and the page's words: as printed in order of size, and with the true slope far from it."""
    *_, printed, coupled, own = report.through(report.RESULTS).splitlines()
    table = pd.read_csv(report.RESULTS / "strength.csv")
    for line, protocol in ((coupled, "published"), (own, "corrected")):
        runs = table[table["protocol"] == protocol].pivot(index="seed", columns="arm")
        left = runs["variance", "λ = 0.001"].mean() / runs["variance", "MSE"].mean()
        rise = runs["rmse", "λ = 0.001"].mean() / runs["rmse", "MSE"].mean() - 1
        assert line.endswith(f", {len(runs)} runs | {left:.0%} | {rise:+.0%} |")
    shares = [int(re.findall(r"(\d+)%", line)[0]) for line in (printed, coupled, own)]
    assert shares[0] < shares[1] and shares[2] < shares[0] / 5


def test_sparse_counts_the_tasks_on_which_the_mean_error_is_larger() -> None:
    table = pd.read_csv(report.RESULTS / "relatives_units.csv").query("units == 'free'")
    wide = table.pivot(index=["task", "seed"], columns="method", values="at_60")
    gap = (wide["Lai, α = 1 %"] - wide["slope penalty, α = 1 %"]).dropna().groupby("task")
    means = gap.mean()[gap.size() >= 8]
    assert f" and {(means > 0).sum()} of {len(means)} tasks in free units" in report.sparse(report.RESULTS)


def test_methods_to_take_are_in_the_order_of_their_medians() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in report.decisions(report.RESULTS).splitlines()
    ]
    table = pd.read_csv(report.RESULTS / "relatives.csv").query(
        "units == 'standardised' and method != 'Sobolev training'"
    )
    few = table[table["task"].isin(["housing 500", "friedman 200", "diabetes", "digits", "pendulum"])]
    wide = few.pivot(index=["task", "seed"], columns="method", values="rmse")
    medians = wide.div(wide["MSE"], axis=0).sub(1).groupby("task").mean().median().sort_values()
    at = next(i for i, row in enumerate(rows) if row[0] == "the same with fewer than 1,000 rows")
    assert [row[1] for row in rows[at : at + 3]] == list(medians.index[:3])
    assert rows[at][2] == f"{100 * medians.iloc[0]:+.0f} %"


def test_the_parts_of_a_ratio_sum_to_it() -> None:
    """For each network products alone, and what each stage adds; the products from the table's own count."""
    _, _, *rows = (line.strip("| ").split(" | ") for line in report.where(report.RESULTS).splitlines())
    lines = {row[0]: row[1:] for row in rows}
    table = pd.read_csv(report.RESULTS / "cost.csv")
    timed = table[(table["part"] == "where") & (table["measure"] == "time")]
    whole = timed[timed["way"] == "checks of the model and the slopes"]["ratio"]
    counted = table[(table["part"] == "grid") & (table["measure"] == "products")]
    begin, end = list(lines).index("products alone"), list(lines).index("**Lai step**")
    assert len(whole) == len(lines["aim"]) == 7
    for i, ratio in enumerate(whole):
        parts = [float(row[i].replace("−", "-")) for row in list(lines.values())[begin:end]]
        assert sum(parts) == pytest.approx(ratio, abs=0.03) and lines["**Lai step**"][i] == f"**{ratio:.2f}**"
    last = counted.loc[counted["inputs"] == 3072, "ratio"].item()
    assert lines["products alone"][-1] == f"{last:.2f}"
    assert f"and {last:.2f} with 3,072**" in report.inputs(report.RESULTS)


def test_what_is_kept_by_the_formula_is_what_was_counted() -> None:
    _, _, *rows = (line.strip("| ").split(" | ") for line in report.kept(report.RESULTS).splitlines())
    for _, tensors, formula, counted, ratio, *_ in rows:
        few, many = map(int, tensors.split(" and "))
        for a, b in zip(formula.split(" and "), counted.split(" and "), strict=True):
            assert float(b) == pytest.approx(float(a), rel=0.02)
        assert float(ratio) == pytest.approx(many / few, rel=0.03)
    assert len(rows) == 5


def test_commands_and_files_are_real() -> None:
    from tools.reproduce import parser

    for line in re.findall(r'make reproduce ARGS="([^"]*)"', TEXT):
        parser().parse_args(line.split())
    for name in re.findall(r"`((?:book|tools|lai|evidence)/[^`*]+|requirements.txt)`", TEXT):
        assert (ROOT / name).exists()
