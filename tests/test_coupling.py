"""Jacobians of batches, slopes with fixed statistics, the zoo of layers, and the runs that compare slopes."""

import copy
import functools

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import lai
from lai.coupled_runs import compare_slopes
from lai.coupling import FixedStatistics, batch_jacobian, mixing
from lai.data import Housing, load_housing
from lai.zoo import layer_zoo, values_depend_on_batch

WIDTHS = 7, 5


def network(*, affine: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """Two BatchNorms with weights that are not 1 and 0; float64, in training mode."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out in zip((3, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, affine=affine), nn.Dropout(dropout), nn.Softplus()]
        if affine:
            nn.init.normal_(layers[-3].weight)
            nn.init.normal_(layers[-3].bias)
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 1), nn.Flatten(0)).double().train()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def slopes(model: nn.Module, x: Tensor) -> Tensor:
    return lai.value_and_input_gradient(model, x, create_graph=False)[1]


def differences(function: functools.partial, x: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of (N,) outputs by every entry of ``x``: (N, N, d)."""
    out = torch.zeros(len(x), *x.shape, dtype=x.dtype)
    for i in range(len(x)):
        for j in range(x.shape[1]):
            up, down = x.clone(), x.clone()
            up[i, j] += step
            down[i, j] -= step
            out[:, i, j] = (function(up) - function(down)).detach() / (2 * step)
    return out


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
    with pytest.raises(ValueError, match="statistics"):
        FixedStatistics(network(), "fixed")  # type: ignore[arg-type]


# --- fixed statistics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_weights_gradients_are_those_of_train_mode(x: Tensor, statistics: str, affine: bool) -> None:
    plain = network(affine=affine)
    inner = copy.deepcopy(plain)
    wrapped = FixedStatistics(inner, statistics)  # type: ignore[arg-type]
    values = wrapped(x.clone().requires_grad_())
    expected = plain(x)
    torch.testing.assert_close(values, expected)
    values.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(inner.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)
    for one, other in zip(inner.buffers(), plain.buffers(), strict=True):  # running statistics moved once
        torch.testing.assert_close(one, other)
    assert all(m.training for m in inner.modules())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in inner.modules())


def test_slopes_with_the_batchs_statistics_against_finite_differences(x: Tensor) -> None:
    model = network()
    still, h = copy.deepcopy(model), x
    for layer in still:  # by hand: set each layer's statistics to the batch's, population variance
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean, layer.running_var = h.mean(0).detach(), h.var(0, correction=0).detach()
            layer.eval()
        h = layer(h)
    expected = mixing(differences(still.eval(), x))
    torch.testing.assert_close(slopes(FixedStatistics(model), x), expected.own, rtol=1e-5, atol=1e-7)


def test_slopes_with_running_statistics_are_those_of_eval_mode(x: Tensor) -> None:
    model = network()
    k = slopes(FixedStatistics(model, "running"), x)
    torch.testing.assert_close(k, slopes(model.eval(), x))


def test_the_loss_sees_how_weights_move_the_batchs_statistics(x: Tensor) -> None:
    """Scaling the layer below BatchNorm changes no slope, and the gradient by the weights knows it."""
    model = network()
    _, k = lai.value_and_input_gradient(FixedStatistics(model), x, create_graph=True)
    weights = list(model[0].parameters())
    grads = torch.autograd.grad(k.square().mean(), weights)
    assert abs(sum((g * w).sum().item() for g, w in zip(grads, weights, strict=True))) < 1e-3
    before = k.detach().square().mean().item()
    direction = [torch.randn_like(w) for w in weights]
    along = sum((g * d).sum().item() for g, d in zip(grads, direction, strict=True))
    moved = []
    for step in (1e-6, -1e-6):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for w, d in zip(other[0].parameters(), direction, strict=True):
                w += step * d
        moved.append(slopes(FixedStatistics(other), x).square().mean().item())
    assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(along, rel=1e-4) and before > 0


def test_dropout_draws_one_mask(x: Tensor) -> None:
    model = network(dropout=0.5)
    for statistics in ("batch", "running"):
        torch.manual_seed(3)
        values = FixedStatistics(copy.deepcopy(model), statistics)(x.clone().requires_grad_())  # type: ignore[arg-type]
        torch.manual_seed(3)
        torch.testing.assert_close(values, copy.deepcopy(model)(x))


def test_frozen_layers_eval_mode_and_no_grad_are_left_alone(x: Tensor) -> None:
    model = network()
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d):
            layer.eval()
    torch.testing.assert_close(slopes(FixedStatistics(model), x), slopes(model, x))
    wrapped = FixedStatistics(network()).eval()
    torch.testing.assert_close(wrapped(x), wrapped.model(x))
    with torch.no_grad():
        assert not wrapped.train()(x.clone().requires_grad_()).requires_grad


def test_convolutions_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.SiLU(), nn.Flatten(), nn.Linear(9, 1), nn.Flatten(0)
    )
    images = torch.randn(6, 2, 5)
    torch.testing.assert_close(FixedStatistics(model)(images.clone().requires_grad_()), model(images))
    lai.assert_independent_samples(FixedStatistics(model), images)


def test_fit_takes_the_wrapper_and_refuses_the_model(x: Tensor) -> None:
    y = x.sum(1)
    settings = {"criterion": lai.LaiLoss(0.1), "epochs": 1, "batch_size": 9, "lr": 1e-2, "seed": 0, "device": "cpu"}
    with pytest.raises(RuntimeError, match="not independent"):
        lai.fit(network(), (x, y), **settings)  # type: ignore[arg-type]
    history = lai.fit(FixedStatistics(network()), (x, y), **settings)  # type: ignore[arg-type]
    assert history["lai_share"].tolist() == [1.0]


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
