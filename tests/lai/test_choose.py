"""choose_lam against every λ trained alone by lai.fit, and what it does with a budget that no λ keeps."""

import copy
import warnings
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import lai
from lai.choose import _pick

LAMS = [1.0, 0.1, 0.01]
SETTINGS: dict[str, Any] = {"epochs": 6, "batch_size": 32, "lr": 0.01, "seed": 0, "device": "cpu"}


def wave(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4 - 2
    return x, torch.sin(2 * x[:, 0]) + x[:, 1]


TRAIN, VAL = wave(96, 0), wave(40, 1)
NETWORKS = [lai.MLP(2, (6,), seed=seed).double() for seed in range(2)]


def alone(lam: Any, **more: Any) -> tuple[float, Tensor]:
    """Mean RMSE and slopes of the networks, each trained by itself."""
    errors, slopes = [], []
    for network in NETWORKS:
        model: nn.Module = copy.deepcopy(network)
        lai.fit(model, TRAIN, criterion=None if lam is None else lai.LaiLoss(lam), **SETTINGS, **more)
        errors.append(lai.rmse(model, *VAL))
        slopes.append(lai.value_and_input_gradient(model, VAL[0])[1].abs().mean(0).detach())
    return sum(errors) / len(errors), torch.stack(slopes).mean(0)


def test_is_what_a_search_one_by_one_finds() -> None:
    schedule = lai.LaiSchedule(0.5, pretrain_epochs=1)
    choice = lai.choose_lam(NETWORKS, TRAIN, VAL, max_slope=0.97, lams=LAMS, schedule=schedule, **SETTINGS)
    plain, plain_k = alone(None)
    spread = VAL[0].std(0, correction=0)
    kept = []
    for row, lam in enumerate(LAMS, 1):
        error, k = alone(lam, schedule=schedule)
        slope = float(k @ spread / (plain_k @ spread))
        expected = [lam, lam, error, error / plain - 1, slope, *(k / plain_k).tolist()]
        got = [choice.table[name][row] for name in choice.table]
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-7)
        if slope <= 0.97:
            kept.append((error, lam))
    assert len(kept) < len(LAMS) and choice.met
    assert choice.lam == min(kept)[1]
    assert pd.DataFrame(choice.table).shape == (4, 7)


def test_some_features_have_their_lam_lowered_from_the_best_for_all() -> None:
    choice = lai.choose_lam(NETWORKS, TRAIN, VAL, max_slope=0.9, features=[1], lams=LAMS, **SETTINGS)
    table = choice.table
    best = min(LAMS, key=lambda lam: alone(lam)[0])
    assert table["lam"] == [None, *LAMS, *(lam for lam in LAMS if lam != best)]
    assert table["lam_rest"] == [None, *LAMS, best, best]
    assert table["slope"] == pytest.approx(table["slope_1"])
    error, k = alone([best, table["lam"][-1]])
    assert table["val_rmse"][-1] == pytest.approx(error, rel=1e-5)
    assert table["slope_1"][-1] == pytest.approx(float(k[1] / alone(None)[1][1]), rel=1e-5)
    assert choice.lam == [table["lam_rest"][choice.row], table["lam"][choice.row]]


def test_one_input_without_an_axis() -> None:
    (x, y), model = wave(64, 2), nn.Sequential(nn.Unflatten(0, (-1, 1)), lai.MLP(1, (4,), seed=0).double())
    line = x[:, 0], y - x[:, 1]
    choice = lai.choose_lam(model, line, line, max_slope=2.0, lams=iter(LAMS), **SETTINGS | {"epochs": 1})
    assert choice.table["slope"] == pytest.approx(choice.table["slope_0"]) and choice.lam in LAMS


def table(error: list[float], slope: list[float]) -> dict[str, list[Any]]:
    return {"lam": [None, 1.0, 0.1, 0.01], "error": [0.0, *error], "val_rmse": [1, *error], "slope": [1.0, *slope]}


@pytest.mark.parametrize(
    ("max_error", "max_slope", "row"),
    [(0.01, None, 2), (None, 0.9, 2), (0.1, 0.4, 3), (0.0, None, 1), (0.1, None, 3), (None, 1.0, 1)],
)
def test_of_what_keeps_the_budget_the_best_is_taken(max_error: Any, max_slope: Any, row: int) -> None:
    assert _pick(table([-0.01, 0.01, 0.1], [0.99, 0.7, 0.4]), max_error, max_slope) == (row, True)


@pytest.mark.parametrize(("max_error", "max_slope", "row"), [(-0.05, None, 1), (None, 0.1, 3), (0.0, 0.6, 2)])
def test_where_nothing_keeps_the_budget_the_nearest_is_named(max_error: Any, max_slope: Any, row: int) -> None:
    rows = table([-0.01, 0.01, 0.5], [0.99, 0.7, 0.4])
    with pytest.warns(UserWarning, match=f"λ = {rows['lam'][row]:.3g},"):
        assert _pick(rows, max_error, max_slope) == (row, False)


def test_slopes_at_any_price_are_warned_of() -> None:
    """A target of another scale: λ of 1 makes a constant of the model, which keeps a budget of slopes alone."""
    rows = table([2.9, 3.0, 3.1], [0.1, 0.2, 0.3])
    with pytest.warns(UserWarning, match=r"λ = 1 keeps the budget, with \+290 % error.*standardise"):
        assert _pick(rows, None, 0.6) == (1, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _pick(table([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), None, 0.6)
        _pick(rows, 5.0, 0.6)  # as asked for


def test_an_impossible_budget_is_said_to_be_unmet_by_the_whole_search() -> None:
    with pytest.warns(UserWarning, match="max_slope = 0.001"):
        choice = lai.choose_lam(NETWORKS[0], TRAIN, VAL, max_slope=1e-3, lams=LAMS, **SETTINGS)
    assert not choice.met
    assert choice.lam == choice.table["lam"][1 + min(range(3), key=lambda i: choice.table["slope"][1 + i])]


def test_the_picture_has_a_point_a_row_and_the_budget() -> None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    rows = table([-0.01, 0.01, 0.1], [0.99, 0.7, 0.4])
    choice = lai.LamChoice(lam=0.1, met=True, row=2, table=rows, max_error=0.01, max_slope=0.8)
    ax = choice.plot(Figure().subplots())
    points, chosen, across, up = ax.lines
    assert points.get_xydata().tolist() == [[k, 100 * e] for k, e in zip(rows["slope"], rows["error"], strict=True)]
    assert chosen.get_xydata().tolist() == [[0.7, 1.0]]
    assert across.get_ydata()[0] == 1.0 and up.get_xdata()[0] == 0.8
    assert len(ax.texts) == 4


def test_without_a_budget_there_is_nothing_to_choose_by() -> None:
    with pytest.raises(ValueError, match="max_error and max_slope are None"):
        lai.choose_lam(NETWORKS[0], TRAIN, VAL, lams=LAMS, **SETTINGS)


def test_slopes_of_zero_are_no_measure() -> None:
    x = torch.zeros(8, 2, dtype=torch.float64)  # no spread, so no feature counts
    with pytest.raises(ValueError, match="val"):
        lai.choose_lam(NETWORKS[0], TRAIN, (x, x[:, 0] + 1), max_slope=0.5, lams=[0.1], **SETTINGS)
