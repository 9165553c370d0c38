"""LaiRegressor: scikit-learn's own checks, the loss it minimises in either unit, weights, λ by name, and stopping."""

import importlib
import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import lai
from lai.sklearn import LaiRegressor, _repeated

SMALL: dict[str, Any] = {"hidden": (6,), "epochs": 5, "lr": 0.02, "random_state": 0, "device": "cpu"}
STILL: dict[str, Any] = {**SMALL, "epochs": 1, "lr": 1e-12}  # so that the loss is that of the network returned


def wave(n: int = 60) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2)) * [10.0, 0.1] + [100.0, 0.0]
    return X, 5 * np.sin(X[:, 0] / 10) + 20 * X[:, 1] + 7


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CHECKED = LaiRegressor(hidden=(8,), epochs=8, lr=0.2, device="cpu")


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=check.func.__name__) for _, check in estimator_checks_generator(CHECKED)],
)
def test_what_scikit_learn_asks_of_an_estimator(check: Any) -> None:
    check(clone(CHECKED))


# --- the loss ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [{}, {"base": "mae", "norm": "elastic", "l1_ratio": 0.3}], ids=str)
@pytest.mark.parametrize("lam", [0.3, [0.02, 50.0], {1: 2.0, "others": 0.1}], ids=str)
@pytest.mark.parametrize("units", ["raw", "standardised"])
def test_what_is_minimised_is_the_lai_loss_of_the_slopes_in_the_units_asked_for(
    units: str, lam: Any, loss: dict[str, Any]
) -> None:
    X, y = wave()
    w = np.random.default_rng(1).random(len(y))
    model = LaiRegressor(**STILL, lam=lam, lam_units=units, loss=loss).fit(X, y, w)
    mean = np.average(X, axis=0, weights=w)
    s_x = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))
    s_y = np.sqrt(np.average((y - np.average(y, weights=w)) ** 2, weights=w))
    k = model.slopes(X) * (1.0 if units == "raw" else s_x / s_y)
    lam = [0.1, 2.0] if isinstance(lam, dict) else lam
    output, target, k = (torch.from_numpy(a) for a in (model.predict(X) / s_y, y / s_y, k))
    losses = lai.lai_loss(output, target, k, lam=lam, reduction="none", **loss).numpy()
    assert model.loss_curve_ == pytest.approx([np.average(losses, weights=w)], rel=1e-8)


def test_slopes_are_those_of_what_is_predicted() -> None:
    X, y = wave()
    model = LaiRegressor(**SMALL).fit(X, y)
    for j, step in enumerate((1e-3, 1e-5)):
        shift = np.eye(2)[j] * step
        difference = (model.predict(X + shift) - model.predict(X - shift)) / (2 * step)
        np.testing.assert_allclose(model.slopes(X)[:, j], difference, rtol=1e-5, atol=1e-7)


def test_standardised_units_leave_the_scale_of_the_data_without_effect_and_raw_ones_do_not() -> None:
    X, y = wave()
    for units, same in (("standardised", True), ("raw", False)):
        model = LaiRegressor(**SMALL, lam=0.01, lam_units=units)
        one, other = model.fit(X, y).predict(X), clone(model).fit(X * [3.0, 0.2], y * 4).predict(X * [3.0, 0.2]) / 4
        assert np.allclose(one, other, rtol=1e-6) == same


@pytest.mark.parametrize(("lam", "base"), [(None, "mse"), (0.05, "mse"), (0.05, "huber")])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_trains_as_lai_fit_does(lam: Any, base: str, alpha: float) -> None:
    """In batches, with a part of them and pre-training."""
    X, y = wave()
    settings: dict[str, Any] = {"lam": lam, "loss": {"base": base}, "lam_units": "standardised"}
    model = LaiRegressor(**SMALL, alpha=alpha, pretrain_epochs=1, batch_size=16, **settings).fit(X, y)
    x, target = (torch.from_numpy((a - a.mean(0)) / a.std(0)) for a in (X, y))
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    alone = lai.MLP(2, (6,), seed=seed).double()
    history = lai.fit(
        alone,
        (x, target),
        criterion=None if lam is None else lai.LaiLoss(lam, base=base),
        schedule=lai.LaiSchedule(alpha, pretrain_epochs=1, seed=seed),
        epochs=5,
        batch_size=16,
        lr=0.02,
        seed=seed,
        device="cpu",
    )
    assert model.loss_curve_ == pytest.approx(history["loss"], rel=1e-6)
    np.testing.assert_allclose(model.predict(X), alone(x).detach() * y.std() + y.mean(), rtol=1e-5)


def test_plain_batches_minimise_the_error_that_the_loss_names() -> None:
    """Nine tenths of the targets lie below an estimate of their 0.9 quantile; the mean has about half."""
    rng = np.random.default_rng(1)
    X = rng.random((400, 1))
    y = X[:, 0] + rng.exponential(size=400)
    settings: dict[str, Any] = {"lam": None, "hidden": (8,), "epochs": 60, "lr": 0.02, "random_state": 0}
    high = LaiRegressor(loss={"base": ("quantile", 0.9)}, **settings).fit(X, y)
    assert abs((y < high.predict(X)).mean() - 0.9) < 0.04


def test_a_small_lam_flattens_the_feature_it_is_given_for() -> None:
    X, y = wave(120)
    frame = pd.DataFrame(X, columns=["a", "b"])
    settings = {**SMALL, "epochs": 60, "lam_units": "standardised"}
    even = LaiRegressor(**settings, lam=1.0).fit(frame, y)
    model = LaiRegressor(**settings, lam={"b": 1e-3, "others": 1.0}).fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b"]
    ratio = np.abs(model.slopes(frame)).mean(0) / np.abs(even.slopes(frame)).mean(0)
    assert ratio[1] < 0.1 < 0.3 < ratio[0]


# --- weights -------------------------------------------------------------------------------------------------------


def test_rows_are_repeated_as_often_as_their_weights_say() -> None:
    x = torch.arange(4.0)
    for weight, rows in (
        ([1.0] * 4, [0, 1, 2, 3]),
        ([2.0, 0.0, 1.0, 1.0], [0, 0, 2, 3]),
        ([0.0, 9.0, 0.0, 3.0], [1, 1, 1, 3]),
    ):
        assert _repeated(x, -x, torch.tensor(weight))[0].tolist() == rows


# --- in scikit-learn's company ------------------------------------------------------------------------------------


def test_in_a_pipeline_a_grid_search_and_a_pickle() -> None:
    X, y = wave()
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), LaiRegressor(**SMALL)), {"lairegressor__lam": [None, 1.0, 1e-3]}, cv=2
    ).fit(X, y)
    assert len(search.cv_results_["mean_test_score"]) == 3
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))


def test_random_state_decides_all() -> None:
    X, y = wave()
    model = LaiRegressor(**SMALL, batch_size=16, early_stopping=True)
    first = model.fit(X, y).predict(X)
    torch.manual_seed(5)
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), first)
    assert not np.allclose(clone(model).set_params(random_state=1).fit(X, y).predict(X), first)


def test_verbose_shows_a_bar_and_prediction_is_in_float32_for_float32(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = wave()
    model = LaiRegressor(**SMALL, verbose=True).fit(X.astype(np.float32), y)
    assert "5/5" in capsys.readouterr().err
    assert {p.dtype for p in model.module_.parameters()} == {torch.float32}


def test_early_stopping_keeps_the_best_epoch() -> None:
    X, y = wave()
    y = y + np.random.default_rng(3).normal(size=len(y)) * 5
    settings = {**SMALL, "lr": 0.05, "epochs": 200, "early_stopping": True, "validation_fraction": 0.3}
    model = LaiRegressor(**settings, lam=None, n_iter_no_change=4).fit(X, y)
    curve = np.array(model.validation_curve_)
    assert len(curve) == model.n_iter_ < 200
    best = int(curve.argmin())
    assert best < model.n_iter_ - 1
    # the same training, ended where it was best
    ended = LaiRegressor(**{**settings, "epochs": best + 1}, lam=None).fit(X, y)
    np.testing.assert_allclose(model.predict(X), ended.predict(X), rtol=1e-12)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lai.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        importlib.import_module("lai.sklearn")


# --- λ from a budget -----------------------------------------------------------------------------------------------


def test_auto_trains_with_the_lam_that_keeps_the_budget() -> None:
    X, y = wave(80)
    frame = pd.DataFrame(X, columns=["a", "b"])
    settings = {**SMALL, "epochs": 25, "lam_units": "standardised", "validation_fraction": 0.25}
    budget = {"max_slope": 0.9, "features": ["b"], "lams": [1.0, 0.1, 0.01]}
    model = LaiRegressor(**settings, lam="auto", budget=budget).fit(frame, y, np.linspace(1, 2, 80))
    table = model.choice_.table
    assert model.lam_.tolist() == [table["lam_rest"][model.choice_.row], table["lam"][model.choice_.row]]
    assert model.choice_.met and table["slope"][model.choice_.row] <= 0.9
    assert table["slope"] == pytest.approx(table["slope_1"])
    again = LaiRegressor(**settings, lam=model.lam_).fit(frame, y, np.linspace(1, 2, 80))
    np.testing.assert_array_equal(model.predict(frame), again.predict(frame))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lam": {0: 0.1}},
        {"lam": {0: 0.1, 1: 0.1, 2: 0.1}},
        {"lam": [0.1, 0.1, 0.1]},
        {"lam": "auto", "budget": {"max_error": 0.01, "features": ["b"]}},
    ],
    ids=str,
)
def test_errors_name_the_parameter(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        LaiRegressor(**{**SMALL, **wrong}).fit(*wave())


def test_a_refit_that_fails_leaves_the_estimator_as_it_was() -> None:
    X, y = wave()
    model = LaiRegressor(**SMALL, lam=0.1).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="lr = -1"):
        model.set_params(lr=-1).fit(100 * X + 7, 1000 * y)
    np.testing.assert_array_equal(model.predict(X), before)


def test_what_auto_chooses_does_not_depend_on_the_units_and_is_forgotten_without_it() -> None:
    X, y = wave(80)
    settings = {**SMALL, "epochs": 25, "lam": "auto", "validation_fraction": 0.25, "budget": {"max_slope": 0.9}}
    found = [LaiRegressor(**settings).fit(X / 7, by * y) for by in (1.0, 2.0**-20)]
    assert found[0].choice_.met and found[0].lam_ == found[1].lam_ < 1
    np.testing.assert_allclose(found[1].slopes(X / 7), found[0].slopes(X / 7) * 2.0**-20)
    assert not hasattr(found[0].set_params(lam=0.3).fit(X, y), "choice_")
