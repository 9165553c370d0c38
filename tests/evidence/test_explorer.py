"""The sweep behind the explorer, what is shown of it, and the committed one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from few_rows import few_rows

from evidence.data import FEATURES, KAGGLE_SHA256, Housing
from evidence.figures.explorer import explorer_data, paper_changes, sweep_changes
from evidence.ledger.paper import V1_SMOOTHNESS, V2_SMOOTHNESS
from evidence.runs import explorer
from evidence.runs.arms import Arm, Cell, train_arms, train_cells
from evidence.runs.explorer import ALPHAS, LAMS, MEASURED, explorer_sweep
from evidence.runs.protocols import PROTOCOLS
from evidence.runs.store import CellStore
from tools.report import TOLERANCES

RESULTS = Path(__file__).parents[2] / "book" / "results"
SHORT: dict[str, Any] = {"seeds": [3], "pretrain_epochs": 1, "epochs": 2}


def few(seed: int) -> Housing:
    return few_rows()


# --- the sweep -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept() -> tuple[pd.DataFrame, pd.DataFrame]:
    return explorer_sweep(few, lams=[0.1, 0.001], alphas=[0.5, 1.0], points=5, **SHORT)


def test_every_pair_is_trained_as_the_tables_train_it(swept: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    arms = [Arm(lam, alpha) for alpha in (0.5, 1.0) for lam in (0.1, 0.001)]
    expected = train_arms(few, dict.fromkeys(PROTOCOLS, arms), **SHORT).table
    keys = ["protocol", "lam", "alpha", "seed"]
    both = [one.sort_values(keys).reset_index(drop=True) for one in (swept[0], expected)]
    pd.testing.assert_frame_equal(both[0][keys + MEASURED], both[1][keys + MEASURED], rtol=1e-4)


def test_a_curve_is_the_mean_output_with_one_feature_moved(swept: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    data = few(3)
    ((_, model, *_),) = train_cells(data, [Cell("sound", Arm(0.001, 1.0), 3, 1, 2)])
    column = FEATURES.index("MedInc")
    low, high = np.quantile(data.test.x[:, column].numpy(), [0.02, 0.98])
    line = swept[1].query("protocol == 'sound' and lam == 0.001 and alpha == 1")
    assert line["x"].tolist() == pytest.approx(np.linspace(low, high, 5).tolist(), rel=1e-5)
    for x, output in zip(line["x"], line["output"], strict=True):
        rows = data.test.x[::12].clone()
        rows[:, column] = x
        with torch.no_grad():
            assert output == pytest.approx(model(rows).mean().item(), abs=1e-3)


def test_what_is_kept_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"protocols": ["sound"], "lams": [0.1], "alphas": [1.0], "store": CellStore(tmp_path)}
    first = explorer_sweep(few, seeds=[0], pretrain_epochs=0, epochs=0, **options)
    with monkeypatch.context() as patch:
        patch.setattr(explorer, "train_cells", lambda *_: pytest.fail("trained again"))
        again = explorer_sweep(few, seeds=[0], pretrain_epochs=0, epochs=0, **options)
        for one, other in zip(first, again, strict=True):
            pd.testing.assert_frame_equal(one, other)
    longer = explorer_sweep(few, seeds=[0], pretrain_epochs=0, epochs=1, **options)
    assert longer[0]["rmse"].tolist() != first[0]["rmse"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": ["best"]}, "protocol"),
        ({"feature": "Income"}, "feature"),
        ({"points": 1}, "points = 1"),
        ({"epochs": -1}, "epochs = -1"),
        ({"lams": [0.0]}, "lam"),
        ({"alphas": [2.0]}, "alpha = 2.0"),
        ({"seeds": [0, 0]}, "seeds"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "train_cells", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        explorer_sweep(few, **{**SHORT, **change})


# --- what is shown ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "explorer.csv")


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return pd.read_csv(RESULTS / "explorer_curves.csv")


def of(rows: pd.DataFrame, protocol: str, alpha: float, lam: float) -> pd.DataFrame:
    return rows[(rows["protocol"] == protocol) & (rows["alpha"] == alpha) & (rows["lam"] == lam)]


def test_the_explorer_shows_the_saved_tables_at_every_position(table: pd.DataFrame, curves: pd.DataFrame) -> None:
    data = explorer_data(table, curves)
    assert json.loads(json.dumps(data)) == data
    shown = 0
    for protocol, by_alpha in data["cells"].items():
        plain = table[(table["protocol"] == protocol) & table["lam"].isna()].set_index("seed")
        for alpha, by_lam in zip(data["alphas"], by_alpha, strict=True):
            for lam, cell in zip(data["lams"], by_lam, strict=True):
                own = of(table, protocol, alpha, lam).set_index("seed")
                for name in ("rmse", "variance", "rms_k"):
                    changes = [100 * (own[name][s] - plain[name][s]) / plain[name][s] for s in own.index]
                    assert cell[name]["value"] == pytest.approx(own[name].mean())
                    assert cell[name]["change"] == pytest.approx(np.mean(changes))
                    assert [cell[name]["low"], cell[name]["high"]] == pytest.approx([min(changes), max(changes)])
                    assert cell[name]["text"][0] == f"{own[name].mean():.3f}"
                    number = float(cell[name]["text"][1].removesuffix("\u00a0%").replace("−", "-"))
                    assert number == pytest.approx(np.mean(changes), abs=0.0501)
                shares = [100 * own[f"k_{j}"].mean() / plain[f"k_{j}"].mean() for j in range(1, 9)]
                assert cell["slopes"] == pytest.approx(shares)
                line = of(curves, protocol, alpha, lam)
                assert cell["curve"] == line["output"].tolist() and data["x"] == line["x"].tolist()
                shown += len(own)
    assert shown == table["lam"].notna().sum() > 0


def test_changes_are_paired_by_seed() -> None:
    runs = pd.DataFrame({"protocol": "sound", "lam": [np.nan, np.nan, 0.1, 0.1], "alpha": [0.0, 0.0, 1.0, 1.0]})
    runs = runs.assign(seed=[0, 1, 1, 0], rmse=[1.0, 2.0, 3.0, 1.1], variance=1.0, rms_k=1.0)
    found = sweep_changes(runs).loc[("sound", 1.0, 0.1), "rmse"]
    assert found.tolist() == pytest.approx([30.0, 10.0, 50.0])


def test_the_papers_points_are_its_printed_figures() -> None:
    points = {(p["version"], p["lam"], p["alpha"]): p for p in paper_changes()}
    rmse, variance = V2_SMOOTHNESS[0.001]
    assert points[2, 0.001, 0.01]["rmse"] == pytest.approx(100 * (rmse - 0.6960) / 0.6960)
    assert points[2, 0.001, 0.01]["variance"] == pytest.approx(100 * (variance - 0.7728) / 0.7728)
    assert {lam for version, lam, alpha in points if (version, alpha) == (1, 1.0)} == set(V1_SMOOTHNESS) - {None}


# --- what is committed -----------------------------------------------------------------------------------------


def test_the_committed_sweep_is_complete_and_says_where_it_comes_from(
    table: pd.DataFrame, curves: pd.DataFrame
) -> None:
    about = json.loads((RESULTS / "explorer.json").read_text())
    assert KAGGLE_SHA256 in about["data"] and about["command"].startswith('make reproduce ARGS="explorer')
    grid = pd.MultiIndex.from_product([PROTOCOLS, ALPHAS, LAMS, about["seeds"]])
    arms = table.dropna(subset="lam").set_index(["protocol", "alpha", "lam", "seed"])
    assert arms.index.is_unique and set(arms.index) == set(grid) and arms.notna().all(axis=None)
    assert len(table) - len(arms) == len(PROTOCOLS) * len(about["seeds"])
    assert (curves.groupby(["protocol", "alpha", "lam"], dropna=False).size() == curves["x"].nunique()).all()


def test_the_committed_sweep_agrees_with_the_table_of_ten_seeds(table: pd.DataFrame) -> None:
    """Where both have a run, of the same seed, split and schedule."""
    keys = ["protocol", "alpha", "lam", "seed"]
    ten = pd.read_csv(RESULTS / "smoothness.csv")
    both = table.merge(ten, on=keys, suffixes=("", "_ten"))
    assert len(both) == table["seed"].nunique() * (4 + 4 + 5)  # of each protocol, MSE among them
    for protocol, runs in both.groupby("protocol"):
        limits = TOLERANCES[str(protocol)]
        assert {"rmse", "variance"} <= set(limits)
        for name in set(limits) & set(MEASURED):
            assert ((runs[name] - runs[f"{name}_ten"]).abs() <= limits[name]).all(), (protocol, name)
