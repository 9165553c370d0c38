"""Networks that are kept: the same as those of the tables, and what they say along one feature."""

import pandas as pd
import pytest
import torch

from evidence.data import Housing, load_housing
from evidence.runs.arms import Arm
from evidence.runs.experiments import PROTOCOLS, run_experiment
from evidence.runs.trained import outputs_along, train_and_keep
from lai.metrics import output_variance, rmse


@pytest.fixture(scope="module")
def data() -> Housing:
    return load_housing("surrogate")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_networks_are_those_of_the_tables(data: Housing, protocol: str) -> None:
    lais = [Arm(0.1), Arm(0.001)]
    kept = train_and_keep(data, protocol, lais, seed=1, epochs=1)
    runs = run_experiment(data, "strength", arms={protocol: lais}, seeds=[1], epochs=1, device="cpu")
    pd.testing.assert_frame_equal(kept.table, runs.table, check_exact=True)
    pd.testing.assert_frame_equal(kept.curves, runs.curves, check_exact=True)
    for row in kept.table.itertuples():
        model = kept.models[str(row.arm)]
        assert not model.training
        assert rmse(model, *data.val) == row.rmse and output_variance(model, data.test.x) == row.variance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "best"}, "protocol"),
        ({"arms": [Arm(0.1), Arm(0.1, 0.5)]}, "λ = 0.1 is there twice"),
        ({"seed": -1}, "seed = -1"),
        ({"epochs": 0.5}, "epochs = 0.5"),
    ],
)
def test_bad_input_is_named(data: Housing, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_and_keep(data, **{"protocol": "sound", "arms": [Arm(0.1)], "seed": 0, "epochs": 1, **change})


def test_along_a_feature_nothing_else_moves(data: Housing) -> None:
    """Its slope is the mean of the slopes k, which autograd gives."""
    model = PROTOCOLS["sound"].model(data.train.x, seed=0).double().eval()
    x = data.test.x[:50].double()
    values = torch.tensor([2.0 - 1e-4, 2.0 + 1e-4], dtype=torch.float64)
    low, high = outputs_along(model, x, 0, values).tolist()
    moved = x.clone()
    moved[:, 0] = 2.0
    moved.requires_grad_()
    (k,) = torch.autograd.grad(model(moved).sum(), moved)
    assert (high - low) / 2e-4 == pytest.approx(k[:, 0].mean().item(), rel=1e-5)
    assert torch.equal(x, data.test.x[:50].double())
    with pytest.raises(ValueError, match="feature = 8"):
        outputs_along(model, x, 8, values)
