"""Jacobians of batches, the zoo of layers, and the runs that compare slopes."""

import functools

import pandas as pd
import pytest
import torch
from batch_networks import differences, network, slopes
from torch import Tensor

from evidence.data import Housing, load_housing
from evidence.runs.slopes import compare_slopes
from evidence.studies.coupling import batch_jacobian, mixing
from evidence.studies.zoo import layer_zoo, values_depend_on_batch


@pytest.fixture
def x() -> Tensor:
    return torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- the Jacobian -------------------------------------------------------------------------------------------------


def test_jacobian_against_finite_differences(x: Tensor) -> None:
    model = network()
    torch.testing.assert_close(batch_jacobian(model, x), differences(model, x), rtol=1e-5, atol=1e-7)


def test_mixing_sums_columns(x: Tensor) -> None:
    model = network()
    jacobian = batch_jacobian(model, x)
    found = mixing(jacobian)
    torch.testing.assert_close(found.summed, slopes(model, x))
    torch.testing.assert_close(found.own, torch.stack([jacobian[i, i] for i in range(len(x))]))
    assert found.mixes and found.error == pytest.approx(float((found.summed - found.own).norm() / found.own.norm()))
    alone = mixing(batch_jacobian(model.eval(), x))
    assert not alone.mixes and alone.error == 0 and torch.equal(alone.own, alone.summed)


def test_constant_model_and_column_output(x: Tensor) -> None:
    flat = mixing(batch_jacobian(lambda x: torch.ones(len(x)), x))
    assert flat.error == 0 and not flat.mixes
    assert batch_jacobian(lambda x: x.sum(1, keepdim=True), x).shape == (9, 9, 3)


def test_errors_name_the_shape(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"returned shape \(9, 3\)"):
        batch_jacobian(lambda x: x, x)
    with pytest.raises(ValueError, match=r"jacobian has shape \(4, 3\)"):
        mixing(torch.zeros(4, 3))


# --- the zoo ------------------------------------------------------------------------------------------------------

MIX = {
    "BatchNorm, training",
    "BatchNorm without running statistics, eval",
    "attention over the batch",
    "minus the batch's mean",
}


def test_who_mixes() -> None:
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    zoo = layer_zoo(8)
    mixes = {name for name, model in zoo.items() if mixing(batch_jacobian(model, x)).mixes}
    depend = {name for name, model in zoo.items() if values_depend_on_batch(model, x)}
    assert mixes == MIX
    assert depend == MIX | {"BatchNorm in FixedStatistics", "minus its mean, detached"}
    for name, model in zoo.items():
        assert model(x).shape == (16, 1), name


# --- the runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> Housing:
    return load_housing("surrogate")


def test_arms_differ_in_the_slope_alone(data: Housing) -> None:
    run = functools.partial(compare_slopes, data, seeds=[0], pretrain_epochs=1, epochs=1)
    lams = {"summed": [0.01], "own": [0.01], "running": [0.01]}
    runs = run(lams=lams)
    assert runs["arm"].tolist() == ["MSE", "summed, λ = 0.01", "own, λ = 0.01", "running, λ = 0.01"]
    assert runs["rmse"].nunique() == 4 and runs[["rmse", "variance", "rms_k"]].notna().all(axis=None)
    none = run(lams=lams, alpha=0.0)  # no batch takes the Lai loss: every arm is the control
    assert none["rmse"].nunique() == 1
    alone = run(lams={"own": [0.01]})  # an arm does not depend on its neighbours
    pd.testing.assert_frame_equal(alone, runs.iloc[[0, 2]].reset_index(drop=True))


@pytest.mark.parametrize(
    "options, named",
    [
        ({"lams": {"true": [0.1]}}, "slope"),
        ({"lams": {"own": [-0.1]}}, "must be"),
        ({"lams": {"own": [[0.1] * 8]}}, "one number"),
        ({"lams": {"own": [0.1, 0.1]}}, "twice"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"alpha": 2.0}, "alpha"),
        ({"epochs": -1}, "epochs"),
    ],
)
def test_wrong_options_are_refused(data: Housing, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        compare_slopes(data, **options)
