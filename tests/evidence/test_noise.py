"""Kinds of noise, changes of sensitivities, and the price of a calmer feature: closed forms and other computations."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

import lai
from evidence import figures
from evidence.data import Housing, load_housing
from evidence.ledger import noise
from evidence.ledger.tables import reach, sensitivity_table
from evidence.runs.arms import Arm
from evidence.runs.experiments import run_experiment
from evidence.runs.noise import NOISES, noise_study


@pytest.fixture(scope="module")
def small() -> Housing:
    """A few hundred rows of the surrogate."""
    data = load_housing("surrogate")
    return Housing(
        **{
            **vars(data),
            "train": type(data.train)(*(t[:1024] for t in data.train)),
            "val": type(data.val)(*(t[:256] for t in data.val)),
            "test": type(data.test)(data.test.x[:256], None),
        }
    )


def made_up(seeds: int = 8, spread: float = 0.02) -> pd.DataFrame:
    """MSE and lists of two features; the second calms at a price, the third list is beaten by the second."""
    rng = np.random.default_rng(3)
    rows = []
    arms = {"MSE": (0.0, 0.0, 0.0), "mild": (0.01, -0.2, 0.1), "hard": (0.04, -0.5, -0.1), "bad": (0.05, -0.4, 0.9)}
    for seed in range(seeds):
        start = 1 + 0.1 * rng.random(3)
        for arm, (error, fall, other) in arms.items():
            e, a, b = start * (1 + np.array([error, other, fall]) + (arm != "MSE") * spread * rng.normal(size=3) / 4)
            row = {"protocol": "sound", "arm": arm, "seed": seed, "rmse": e, "s_1": a, "s_2": b}
            rows.append(row | {"rmse_last": 2 * e, "s_last_1": b, "s_last_2": a})
    return pd.DataFrame(rows)


# --- kinds of noise --------------------------------------------------------------------------------------------


def test_units_of_the_kinds() -> None:
    x = torch.tensor([[1.0, -3.0], [3.0, -3.0], [5.0, -6.0]])
    sizes = {kind: unit(x) for kind, unit in NOISES.items() if unit is not None}
    torch.testing.assert_close(sizes["share of its standard deviation"], x.double().std(0))
    assert sizes["share of its range"].tolist() == [4.0, 3.0] and sizes["the same number for all"].tolist() == [
        1.0,
        1.0,
    ]
    assert sizes["share of the feature's size"].tolist() == pytest.approx([(35 / 3) ** 0.5, 18**0.5])


def test_the_study_measures_the_experiments_own_mse_networks(small: Housing) -> None:
    options: dict[str, Any] = {"pretrain_epochs": 1, "epochs": 2, "device": "cpu", "n_jobs": 1}
    arms = {"published": [Arm(0.1, 1.0)], "sound": [Arm(0.1, 1.0)]}
    table = run_experiment(small, "sensitivity", arms=arms, seeds=[3, 5], **options).table
    study = noise_study(small, seeds=[3, 5], epochs=3, scales=[0.5, 1.0])
    assert len(study) == 2 * 2 * len(NOISES) * 2
    columns = [f"s_{j}" for j in range(1, 9)]
    same = study[(study["kind"] == "share of each value") & (study["scale"] == 0.5)]
    mse = table[table["arm"] == "MSE"]
    np.testing.assert_allclose(same[columns], mse[columns], rtol=1e-5)
    # additive noise doubles with its scale only in a linear network, and is a share of what it says
    linear = lai.sensitivity(lambda x: x @ torch.ones(8), small.test.x, noise=small.test.x.std(0).double().tolist())
    assert (linear > 0).all() and (study[columns] > 0).all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": []}, "scales"),
        ({"scales": [0.0]}, "scales"),
        ({"protocols": ["best"]}, "protocol"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"epochs": -1}, "epochs"),
    ],
)
def test_the_study_names_bad_arguments(small: Housing, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_study(small, **{"epochs": 0, "seeds": [0], **change})


def test_the_nearest_scale_is_found_and_judged() -> None:
    printed = (1.0, 2.0, 4.0)
    rows = []
    for c in (0.1, 0.5, 2.0):
        right = {f"s_{j}": 2 * c * p for j, p in enumerate(printed, 1)}
        wrong = {f"s_{j}": 2 * c * p * f for j, (p, f) in enumerate(zip(printed, (3.0, 1.0, 1 / 3), strict=True), 1)}
        for seed in (0, 1):  # the mean over seeds counts
            turn = 1.5 if seed else 0.5
            rows += [{"kind": "right", "scale": c, "seed": seed} | {k: v * turn for k, v in right.items()}]
            rows += [{"kind": "wrong", "scale": c, "seed": seed} | {k: v * turn for k, v in wrong.items()}]
    found = noise.compare_noises(pd.DataFrame(rows).assign(protocol="sound"), "sound", printed)
    assert list(found.index) == ["right", "wrong"] and found["scale"].tolist() == [0.5, 0.5]
    assert found["factor"].tolist() == pytest.approx([1.0, np.exp(np.log(3) * (2 / 3) ** 0.5)])
    assert found.loc["wrong", ["ratio_1", "ratio_2", "ratio_3"]].tolist() == pytest.approx([3, 1, 1 / 3])
    with pytest.raises(ValueError, match="protocol = 'best'"):
        noise.compare_noises(pd.DataFrame(rows).assign(protocol="sound"), "best", printed)


# --- changes ---------------------------------------------------------------------------------------------------


def test_changes_are_those_of_the_table_beside_the_papers() -> None:
    table = made_up()
    for evaluation in ("averaged", "last step"):
        found = noise.sensitivity_changes(table, "sound", "mild", evaluation=evaluation)
        shown = sensitivity_table(table, "sound", "mild", {}, ["a", "b"], evaluation=evaluation)
        assert list(found.index) == [1, 2, "RMSE"]
        assert [f"{100 * v:+.1f} %" for v in found["change"]] == shown["change, ours"].tolist()
        assert [f"{100 * a:+.1f} to {100 * b:+.1f} %" for a, b in zip(found["low"], found["high"], strict=True)] == (
            shown["95 %"].tolist()
        )
    lone = noise.sensitivity_changes(table[table["seed"] == 0], "sound", "mild")
    assert lone["low"].isna().all() and lone["change"].notna().all()
    with pytest.raises(ValueError, match="arm = 'other'"):
        noise.sensitivity_changes(table, "sound", "other")
    with pytest.raises(ValueError, match="protocol = 'best'"):
        noise.sensitivity_changes(table, "best", "mild")
    with pytest.raises(ValueError, match="evaluation"):
        noise.sensitivity_changes(table, "sound", "mild", evaluation="best")


def test_change_table_has_the_papers_column_and_ours() -> None:
    columns = {"a": ("sound", "mild", "averaged"), "b": ("sound", "hard", "last step")}
    shown = noise.change_table(made_up(), columns, ((1.0, 2.0, 0.5), (1.1, 1.0, 0.5)), ["x", "y"])
    assert shown["paper"].tolist() == ["+10.0", "-50.0", "+0.0"] and list(shown.index) == ["x", "y", "RMSE"]
    assert shown.loc["y", "a"].startswith("-") and "[" in shown.loc["y", "a"]
    exact = noise.change_table(made_up(spread=0), columns, None, ["x", "y"])
    assert exact["a"].tolist() == [
        "+10 [+10,\N{NO-BREAK SPACE}+10]",
        "-20 [-20,\N{NO-BREAK SPACE}-20]",
        "+1.0 [+1.0,\N{NO-BREAK SPACE}+1.0]",
    ]
    assert "paper" not in noise.change_table(made_up(), columns, None, ["x", "y"])


# --- the price of a calmer feature -----------------------------------------------------------------------------

BUDGETS = [0.005, 0.01, 0.025, 0.2]


@pytest.mark.parametrize("evaluation", ["averaged", "last step"])
@pytest.mark.parametrize("feature", [1, 2])
def test_the_price_is_what_reach_reads_off(evaluation: str, feature: int) -> None:
    table = made_up()
    ours = noise.price_of_calm(table, "sound", feature=feature, budgets=BUDGETS, evaluation=evaluation, resamples=5)
    theirs = reach(table, "sound", feature=feature, budgets=BUDGETS, evaluation=evaluation)
    own, others = (ours[(ours["feature"] == feature) == mine]["change"].to_numpy() for mine in (True, False))
    np.testing.assert_allclose(own, theirs["own"], atol=1e-12)
    np.testing.assert_allclose(others, theirs["others"], atol=1e-12)
    assert np.isnan(own[-1]) and ours["low"].isna().to_numpy()[-1]


def test_the_price_without_noise_and_its_interval() -> None:
    exact = noise.price_of_calm(made_up(spread=0), "sound", feature=2, budgets=BUDGETS[:3], resamples=20)
    assert exact["change"].tolist() == pytest.approx([0.05, -0.1, 0.1, -0.2, 0.0, -0.35])
    np.testing.assert_allclose(exact["low"], exact["change"], atol=1e-12)
    few, many = (noise.price_of_calm(made_up(seeds=n), "sound", feature=2, budgets=[0.01]) for n in (4, 40))
    assert ((few["low"] <= few["change"]) & (few["change"] <= few["high"])).all()
    assert ((many["high"] - many["low"]) < (few["high"] - few["low"])).all()
    alone = noise.price_of_calm(made_up(seeds=1), "sound", feature=2, budgets=[0.01])
    assert alone["low"].isna().all() and alone["change"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": 0}, "feature"),
        ({"feature": 3}, "feature = 3"),
        ({"evaluation": "best"}, "evaluation"),
        ({"protocol": "best"}, "protocol = 'best'"),
        ({"resamples": 0}, "resamples"),
    ],
)
def test_the_price_names_bad_arguments(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"protocol": "sound", "feature": 2, "budgets": [0.01], **change}
    with pytest.raises(ValueError, match=message):
        noise.price_of_calm(made_up(), **given)
    with pytest.raises(ValueError, match="no arm besides MSE"):
        noise.price_of_calm(made_up().query("arm == 'MSE'"), "sound", feature=2, budgets=[0.01])


# --- figures ---------------------------------------------------------------------------------------------------


def test_figures_show_their_numbers() -> None:
    table = made_up(spread=0)
    _, (left, right) = plt.subplots(1, 2)
    changes = {arm: noise.sensitivity_changes(table, "sound", arm) for arm in ("mild", "hard")}
    figures.sensitivity_dots(left, changes, ["a", "b"], [0.1, -0.3, 0.0])
    dots = {line.get_label(): line.get_xdata() for line in left.get_lines()}
    np.testing.assert_allclose(dots["paper"], [10, -30, 0])
    assert [text.get_text() for text in left.get_yticklabels()] == ["a", "b", "RMSE"] and left.yaxis_inverted()
    figures.price_of_calm(right, table, 2, [0.01], (0.024, -0.4))
    joined = max(right.get_lines(), key=lambda line: len(line.get_xdata()) if line.get_linestyle() == "-" else 0)
    np.testing.assert_allclose(joined.get_xdata(), [0, 1, 4], atol=1e-9)  # the list that is beaten is left out
    np.testing.assert_allclose(joined.get_ydata(), [0, -20, -50], atol=1e-9)
    _, ax = plt.subplots()
    found = pd.DataFrame(
        {"scale": 1.0, "factor": 1.0, "ratio_1": [1.0, 3.0], "ratio_2": [1.0, 0.5]}, index=["one", "two"]
    )
    figures.noise_ratios(ax, found, ["a", "b"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    plt.close("all")
