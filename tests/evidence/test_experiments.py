"""The paper's experiments: paired arms, the wrong slope of one protocol, and results that cannot be faked."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from few_rows import few_rows

import lai
from evidence.data import Housing, Split
from evidence.ledger.paper import V1_SAMPLING, V1_SMOOTHNESS, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.queries.smoothness import smoothness_verdicts
from evidence.ledger.tables import (
    SMOOTHNESS_CLAIMS,
    by_arm,
    lam_with_effect,
    paper_table,
    reach,
    sensitivity_table,
)
from evidence.runs import arms
from evidence.runs.arms import MSE, Arm, train_arms
from evidence.runs.experiments import EXPERIMENTS, planned, run_experiment, with_last
from evidence.runs.protocols import PROTOCOLS, Protocol
from evidence.runs.store import CellStore
from evidence.studies.coupling import contamination
from lai import FixedStatistics


@pytest.fixture(scope="module")
def small() -> Housing:
    """A tenth of the surrogate's rows."""
    return few_rows(3000, 700, 2000)


FEW = {"seeds": range(2), "pretrain_epochs": 2, "epochs": 2, "device": "cpu"}


def smoothness(data: Housing, **options: Any) -> arms.Runs:
    return run_experiment(data, "smoothness", **options)


def test_tidy_rows_for_every_arm_and_curves_for_every_epoch(small: Housing) -> None:
    lams = {"published": [0.1], "sound": [1.0, 0.01]}
    table, curves, cost = smoothness(small, lams=lams, alpha=0.5, **FEW)
    assert table.groupby("protocol", sort=False)["arm"].unique().map(list).to_dict() == {
        "published": ["MSE", "λ = 0.1"],
        "sound": ["MSE", "λ = 1", "λ = 0.01"],
    }
    assert np.isfinite(table.drop(columns=["protocol", "arm", "lam", "lam_8"])).all(axis=None)
    assert len(table) == len(cost) == 2 * (2 + 3) and not table.duplicated(["protocol", "arm", "seed"]).any()
    assert (table.loc[table["arm"] == "MSE", "alpha"] == 0).all() and (
        table["lam"].isna() == (table["arm"] == "MSE")
    ).all()
    assert curves.groupby(["protocol", "arm", "seed"])["epoch"].apply(list).map(lambda e: e == [0, 1, 2, 3]).all()
    sound = table.query("protocol == 'sound'")
    for metric in ("rmse", "variance", *(f"s_{j}" for j in range(1, 9))):
        last = f"s_last_{metric[2:]}" if metric[:2] == "s_" else f"{metric}_last"
        assert (sound[metric] == sound[last]).all()  # after so few epochs an evaluation is of one moment
    squares = sum(table[f"k_{j}"] ** 2 for j in range(1, 9))
    np.testing.assert_allclose(table["rms_k"], squares**0.5, rtol=1e-6)
    assert (cost["cpu_seconds"] > 0).all() and (cost["peak_mb"] > 50).all()


def test_long_runs_keep_a_hundred_points_of_their_curve(small: Housing) -> None:
    few = dataclasses.replace(small, train=Split(small.train.x[:64], small.train.y[:64]))
    curves = train_arms(few, {"sound": []}, seeds=[0], pretrain_epochs=0, epochs=200, device="cpu").curves
    assert curves["epoch"].tolist() == list(range(1, 200, 2))


def test_arms_share_pretraining_and_a_schedule_without_lai_batches_is_the_control(small: Housing) -> None:
    table = smoothness(small, protocols=["sound"], lams=[0.01], alpha=0.0, **FEW).table
    control, arm = (table[table["arm"] == a].reset_index() for a in ("MSE", "λ = 0.01"))
    assert (control["rmse"] == arm["rmse"]).all()
    curves = smoothness(small, protocols=["sound"], lams=[0.01], alpha=1.0, **FEW).curves
    by_arm = curves.pivot(index=["seed", "epoch"], columns="arm", values="val_rmse").reset_index()
    before, after = by_arm.query("epoch < 2"), by_arm.query("epoch >= 2")
    assert (before["MSE"] == before["λ = 0.01"]).all() and (after["MSE"] != after["λ = 0.01"]).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("lam", [0.01, with_last(0.1, 0.001)], ids=["one", "list"])
def test_equals_a_run_written_with_fit(
    small: Housing, protocol: str, lam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Branching off a copy with the optimiser's state is the same as training each arm from the start.

    In float64 nearly to the last digit; in float32 up to rounding, which BatchNorm on raw features amplifies.
    """
    plain_model = Protocol.model
    single = train_arms(small, {protocol: [Arm(lam, 0.5)]}, **FEW).table
    monkeypatch.setattr(Protocol, "model", lambda self, x, seed: plain_model(self, x, seed).double())
    small = dataclasses.replace(
        small,
        train=Split(*(t.double() for t in small.train)),
        val=Split(*(t.double() for t in small.val)),
        test=small.test._replace(x=small.test.x.double()),
    )
    table = train_arms(small, {protocol: [Arm(lam, 0.5)]}, **FEW).table
    recipe = PROTOCOLS[protocol]
    model = recipe.model(small.train.x, seed=1)
    lai.fit(
        FixedStatistics(model, "batch") if protocol == "corrected" else model,
        small.train,
        criterion=lai.LaiLoss(lam),
        schedule=lai.LaiSchedule(0.5, pretrain_epochs=2, seed=1),
        epochs=4,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        seed=1,
        drop_last=True,
        device="cpu",
        allow_coupling=protocol == "published",
    )
    row, own = (kind.query("lam == lam and seed == 1").iloc[0] for kind in (table, single))
    for metric in ("rmse", "variance", "rmse_last", "variance_last", "rms_k", "k_1", "k_8", "s_1", "s_8"):
        assert own[metric] == pytest.approx(row[metric], rel=1e-5 if protocol == "sound" else 5e-3), metric

    def check(end: str) -> None:
        assert row[f"rmse{end}"] == pytest.approx(lai.rmse(model, *small.val), rel=1e-9)
        assert row[f"rmse_train{end}"] == pytest.approx(lai.rmse(model, *small.train), rel=1e-9)
        assert row[f"variance{end}"] == pytest.approx(lai.output_variance(model, small.test.x), rel=1e-9)
        output, k = lai.value_and_input_gradient(model.eval(), small.val.x, create_graph=False)
        found = np.cov([output.detach().numpy(), (small.val.y - output).detach().numpy()], ddof=0)
        assert row[f"variance_val{end}"] == pytest.approx(found[0, 0], rel=1e-9)
        assert row[f"covariance{end}"] == pytest.approx(found[0, 1], rel=1e-6)
        eps = torch.randn(small.val.x.shape, generator=torch.Generator().manual_seed(0))
        noisy = lai.rmse(model, small.val.x + 0.3 * small.train.x.std(0) * eps.double(), small.val.y)
        assert row[f"rmse_noisy{end}"] == pytest.approx(noisy, rel=1e-9)
        for j in (0, 7):
            assert row[f"k{end}_{j + 1}"] == pytest.approx(k[:, j].square().mean().sqrt().item(), rel=1e-9)
            assert row[f"s{end}_{j + 1}"] == pytest.approx(lai.sensitivity(model, small.test.x)[j].item(), rel=1e-9)

    check("_last")
    assert (row["rmse_running"], row["variance_running"]) == (row["rmse_last"], row["variance_last"])
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.momentum = 1.0  # the next batch's statistics, of all rows, for every layer
    with torch.no_grad():
        model.train()(small.train.x)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d)):
        norm.running_var *= 1 - 1 / len(small.train.x)  # torch keeps the unbiased one
    check("")
    assert (row["rmse_exact_last"], row["variance_exact_last"]) == (row["rmse"], row["variance"])
    assert (row["rmse"] != row["rmse_last"]) == (protocol != "sound")


@pytest.mark.parametrize("protocol", ["published", "sound"])
def test_an_evaluation_is_the_mean_over_the_last_epochs(small: Housing, protocol: str) -> None:
    """Of fifteen epochs the last three: after the 13th and the 15th."""
    row = train_arms(small, {protocol: []}, seeds=[0], pretrain_epochs=0, epochs=15, device="cpu").table.iloc[0]
    recipe, found = PROTOCOLS[protocol], []
    for epochs in (13, 15):
        model = recipe.model(small.train.x, seed=0)
        lai.fit(
            model,
            small.train,
            epochs=epochs,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
            seed=0,
            drop_last=True,
            device="cpu",
        )
        running = lai.rmse(model, *small.val)
        lai.set_exact_statistics(model, small.train.x)
        _, k = lai.value_and_input_gradient(model.eval(), small.val.x, create_graph=False)
        found.append([running, lai.rmse(model, *small.val), k.square().sum(1).mean().sqrt().item()])
    (_, first_exact, first_k), (running, exact, rms_k) = found
    approx = {"rel": 1e-4 if protocol == "sound" else 1e-2}
    assert row["rmse"] == pytest.approx((first_exact + exact) / 2, **approx)
    assert row["rms_k"] == pytest.approx((first_k + rms_k) / 2, **approx)
    assert row["rmse_last"] == pytest.approx(running, **approx)
    assert row["rmse_exact_last"] == pytest.approx(exact, **approx)
    assert row["rmse_running"] == pytest.approx((found[0][0] + running) / 2, **approx)
    assert row["rmse"] != row["rmse_exact_last"]


def test_workers_and_the_store_change_nothing(small: Housing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CellStore(tmp_path)
    options = {"protocols": ["published", "sound"], "lams": [0.1], "alpha": 0.5, **FEW}
    alone = smoothness(small, **options)
    kept = smoothness(small, **options, n_jobs=2, store=store)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2 * 2 * 2
    for file in files[:3]:  # some runs of a seed are lost: they come out the same without their neighbours
        file.unlink()
    mended = smoothness(small, **options, store=store)
    monkeypatch.setattr(arms, "_run", None)  # nothing may be computed now
    again = smoothness(small, **options, store=store)
    for other in (kept, mended, again):
        for one, two in zip(alone[:2], other[:2], strict=True):
            pd.testing.assert_frame_equal(one, two, check_exact=True)
    with pytest.raises(TypeError):  # another λ is another cell
        smoothness(small, **options | {"lams": [0.2]}, store=store)


def test_the_number_of_threads_changes_nothing(small: Housing) -> None:
    """A run takes one, whatever torch was told."""
    before, tables = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            tables.append(train_arms(small, {"published": [Arm(0.1, 0.5)]}, **FEW).table)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_experiments_share_their_runs(small: Housing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CellStore(tmp_path)
    options: dict[str, Any] = {"protocols": ["sound"], **FEW, "seeds": [0], "store": store}
    table = run_experiment(small, "smoothness", **options).table
    monkeypatch.setattr(arms, "_run", None)
    shared = {"sound": [Arm(0.1, 0.01)]}
    again = run_experiment(small, "sensitivity", **options, arms=shared).table
    pd.testing.assert_frame_equal(again, table[table["arm"].isin(["MSE", "λ = 0.1"])].reset_index(drop=True))


def test_runs_beside_others_are_themselves_up_to_rounding(small: Housing) -> None:
    chosen = [MSE, Arm(0.1, 0.5), Arm(0.01, 1.0), Arm(0.1, 1.0)]
    cells = [arms.Cell("sound", arm, seed, 1, 2) for seed in (0, 1) for arm in chosen]
    together = arms._run(arms._Job(small, tuple(cells), "cpu", None))
    for cell in cells[2:4]:
        own = arms._run(arms._Job(small, (cell,), "cpu", None))[cell]
        assert together[cell]["measured"] == pytest.approx(own["measured"], rel=1e-4)
    with pytest.raises(ValueError, match="cells differ in more than seed, arm and slope"):
        list(arms.train_cells(small, [cells[0], dataclasses.replace(cells[1], epochs=3)]))


def test_arms_have_names_by_which_the_paper_calls_them() -> None:
    plan = planned("sampling")["published"]
    assert [(a.name, a.alpha) for a in plan] == [("λ = 0.001", 1.0), ("λ = 0.0001", 0.01)]
    assert Arm(with_last(0.1, 1e-3)).name == "λ = 0.1, λ₈ = 0.001" and Arm((2.0, 1.0)).name == "λ = 2, λ₂ = 1"
    assert Arm(with_last(0.1, 1e-3)).base == 0.1 and Arm(with_last(0.1, 1e-3)).last == 1e-3
    assert Arm(None, 0.5) == MSE and np.isnan(MSE.base)


def test_the_papers_arms_are_all_planned() -> None:
    for name, paper in (
        ("strength", by_arm(V1_SMOOTHNESS)),
        ("smoothness", by_arm(V2_SMOOTHNESS)),
    ):
        for protocol in ("published", "corrected"):
            assert ["MSE", *(a.name for a in planned(name)[protocol])] == list(paper)
    assert [f"{a.name}, α = {a.alpha:g}" for a in planned("sampling")["published"]] == list(by_arm(V1_SAMPLING))
    assert {a.name for a in planned("sensitivity")["published"]} == {"λ = 0.1", "λ = 0.1, λ₈ = 0.001"}
    assert all(set(e.arms) == set(PROTOCOLS) for e in EXPERIMENTS.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": ["best"]}, "protocol = 'best'"),
        ({"lams": [0.1, -1.0]}, "lam = -1.0"),
        ({"lams": [[0.1, 0.2]]}, "an arm takes one number"),
        ({"lams": [(0.1, 0.2)]}, "lam has 2 entries"),
        ({"lams": []}, "at least one λ"),
        ({"lams": [0.1, 0.10000001]}, "λ = 0.1 is there twice"),
        ({"protocols": []}, "at least one protocol"),
        ({"protocols": ["published"], "lams": {"sound": [0.1]}}, "nothing is given for it"),
        ({"lams": [0.1], "arms": {"sound": []}}, "not both"),
        ({"alpha": 2.0}, "alpha = 2.0"),
        ({"seeds": [1, 1]}, r"seeds = \[1, 1\]"),
        ({"seeds": []}, r"seeds = \[\]"),
        ({"epochs": -1}, "epochs = -1"),
        ({"pretrain_epochs": -1}, "pretrain_epochs = -1"),
        ({"device": "abacus"}, "device = 'abacus'"),
    ],
)
def test_bad_arguments_are_named_before_training(
    small: Housing, change: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "run_parallel", None)
    with pytest.raises(ValueError, match=message):
        smoothness(small, **{"protocols": ["sound"], **FEW, **change})


def test_contamination_against_every_samples_own_slope() -> None:
    """`own` holds the batch's statistics fixed: then the model is a plain function, differentiated by hand here."""
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    bn = torch.nn.BatchNorm1d(5)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), bn, torch.nn.Tanh(), torch.nn.Linear(5, 1))
    table = contamination(model, x)
    hidden = model[0](x)
    var, mean = torch.var_mean(hidden, 0)  # the running variance is the unbiased one

    def fixed(x: torch.Tensor) -> torch.Tensor:
        return model[3](torch.tanh((model[0](x) - mean.detach()) / (var.detach() + bn.eps).sqrt()))

    _, own = lai.value_and_input_gradient(fixed, x, create_graph=False)
    np.testing.assert_allclose(table["own"], own.double().square().mean(0).sqrt(), rtol=1e-4)
    assert (table["summed"] < 0.9 * table["own"]).any()
    without = contamination(torch.nn.Sequential(model[0], model[2], model[3]), x)
    np.testing.assert_allclose(without["ratio"], 1)


# --- tables and verdicts ---------------------------------------------------------------------------------------


def made_up(rmse: dict[float | None, float], variance: dict[float | None, float], noise: float = 1e-4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "protocol": "sound",
            "arm": arms.arm_name(lam),
            "lam": np.nan if lam is None else lam,
            "seed": seed,
            "alpha": 0.01,
            "rmse": rmse[lam] + noise * rng.normal(),
            "variance": variance[lam] + noise * rng.normal(),
            "rmse_last": 0.7 + noise * rng.normal(),
            "variance_last": 0.7 + noise * rng.normal(),
            "rms_k": variance[lam] + noise * rng.normal(),
            "rms_k_last": 0.7 + noise * rng.normal(),
        }
        for lam in rmse
        for seed in range(8)
    ]
    return pd.DataFrame(rows)


UP = {None: 0.700, 0.1: 0.701, 0.01: 0.72, 0.001: 0.80}
DOWN = {None: 0.80, 0.1: 0.70, 0.01: 0.6, 0.001: 0.4}


def test_verdicts_follow_the_numbers() -> None:
    assert smoothness_verdicts(made_up(UP, DOWN), "sound") == dict.fromkeys(SMOOTHNESS_CLAIMS, "holds")
    fails = ["fails", "fails", "not tested", "fails"]  # where the slopes do not fall there is nothing to follow
    assert list(smoothness_verdicts(made_up(DOWN, UP), "sound").values()) == fails
    unclear = ["not shown", "not shown", "not tested"]
    last = smoothness_verdicts(made_up(UP, DOWN), "sound", evaluation="last step")
    assert "holds" not in last.values()
    flat = dict.fromkeys(UP, 0.7)
    assert list(smoothness_verdicts(made_up(flat, flat), "sound").values()) == [*unclear, "not shown"]
    assert smoothness_verdicts(made_up(flat, DOWN, noise=0.001), "sound")["v2-adheres"] == "holds"
    assert smoothness_verdicts(made_up(flat, {**flat, None: 2.0}, noise=0.1), "sound")["v2-adheres"] == "not shown"
    one = made_up(UP, DOWN).query("lam.isna() or lam == 0.1")
    assert list(smoothness_verdicts(one, "sound").values()) == ["not tested", "not tested", "holds", "not tested"]
    control = one[one["arm"] == "MSE"]
    assert set(smoothness_verdicts(control, "sound").values()) == {"not tested"}
    alone = made_up(UP, DOWN).query("seed == 0")
    assert set(smoothness_verdicts(alone, "sound").values()) == {"not shown"}
    with pytest.raises(ValueError, match="evaluation = 'best'"):
        smoothness_verdicts(one, "sound", evaluation="best")


def test_table_puts_the_papers_figures_beside_ours() -> None:
    shown = paper_table(made_up(UP, DOWN), "sound", by_arm({None: (0.696, 0.7728), 0.1: (0.6955, 0.7683)}))
    assert list(shown.columns) == ["MSE", "λ = 0.1", "λ = 0.01", "λ = 0.001"] and len(shown) == 8
    mse, last = shown["MSE"], shown["λ = 0.001"]
    assert mse["RMSE, paper"] == "0.6960" and last["RMSE, paper"] == "–"
    assert last["RMSE, ours"].startswith("0.80") and "±" in mse["variance, ours"]
    assert mse["Δ RMSE"] == "–" and float(last["Δ RMSE"].split()[0]) == pytest.approx(0.1, abs=1e-3)
    change, low, high = (float(part) for part in re.findall(r"[-+][\d.]+", last["Δ variance"]))
    assert low <= change <= high and low == pytest.approx(-0.4, abs=1e-3)
    with pytest.raises(ValueError, match=r"protocol = 'published'.*\['sound'\]"):
        paper_table(made_up(UP, DOWN), "published", {})


def test_lam_with_effect_interpolates_in_log_lam() -> None:
    table = made_up(UP, {None: 1.0, 0.1: 0.9, 0.01: 0.7, 0.001: 0.3}, noise=0)
    assert lam_with_effect(table, "sound", 0.8) == pytest.approx(10**-1.5)
    assert lam_with_effect(table, "sound", 0.9) == pytest.approx(0.1)
    assert np.isnan(lam_with_effect(table, "sound", 0.1))


def noisy(falls: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """A table of sensitivities in which arms change the error and the last of two features by given shares."""
    rng = np.random.default_rng(1)
    rows = []
    for seed in range(6):
        start = 1 + 0.1 * rng.random(3)
        for arm, (error, fall) in {"MSE": (0.0, 0.0), **falls}.items():
            values = {"rmse": start[0] * (1 + error), "s_1": start[1], "s_2": start[2] * (1 + fall)}
            rows.append({"protocol": "sound", "arm": arm, "seed": seed, **values, "s_last_1": 9.0, "s_last_2": 9.0})
    return pd.DataFrame(rows)


def test_sensitivity_table_has_the_papers_change_row_and_ours() -> None:
    shown = sensitivity_table(
        noisy({"list": (0.02, -0.4)}), "sound", "list", {"mse": (0.5, 8.42), "list": (0.6, 4.8998)}, ["a", "b"]
    )
    assert list(shown.index) == ["a", "b", "RMSE"]
    assert shown.loc["b", "change, paper"] == "-41.8 %" and shown.loc["b", "change, ours"] == "-40.0 %"
    assert shown.loc["a", "change, ours"] == "+0.0 %" and shown.loc["RMSE", "change, ours"] == "+2.0 %"
    assert shown.loc["RMSE", "change, paper"] == "–" and V2_SENSITIVITY["mse"][7] == 8.42
    with pytest.raises(ValueError, match="arm = 'other'"):
        sensitivity_table(noisy({"list": (0.02, -0.4)}), "sound", "other", {}, ["a", "b"])


def test_reach_reads_the_lower_envelope() -> None:
    table = noisy({"mild": (0.01, -0.2), "bad": (0.015, -0.1), "hard": (0.03, -0.5)})
    found = reach(table, "sound", feature=2, budgets=[0.005, 0.01, 0.02, 0.1])
    np.testing.assert_allclose(found["own"], [-0.1, -0.2, -0.35, np.nan], atol=1e-9)
    np.testing.assert_allclose(found["others"][:3], 0, atol=1e-9)
