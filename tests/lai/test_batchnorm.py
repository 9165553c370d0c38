"""Slopes with fixed statistics: values as in train mode, slopes by finite differences."""

import copy

import checks
import pytest
import torch
from batch_networks import differences, network, slopes
from torch import Tensor, nn

import lai
from lai import FixedStatistics


@pytest.fixture
def x() -> Tensor:
    return torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


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
    expected = differences(still.eval(), x)[range(len(x)), range(len(x))]
    torch.testing.assert_close(slopes(FixedStatistics(model), x), expected, rtol=1e-5, atol=1e-7)


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
    assert history["lai_share"] == [1.0]


def test_a_wrong_choice_is_refused() -> None:
    checks.refused(ValueError, "statistics = 'fixed'", FixedStatistics, network(), "fixed")


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_exact_statistics_are_those_of_all_rows_as_one_batch(x: Tensor, batch_size: int) -> None:
    torch.manual_seed(0)
    wide = torch.cat([x, 100 * x[:3]]).double()  # heavy tails: batches alone would tell another story
    model = network().double()
    expected = copy.deepcopy(model).train()(wide)
    model.train()[0].eval()
    lai.set_exact_statistics(model, wide, batch_size=batch_size)
    assert model[-1].training and not model[0].training
    torch.testing.assert_close(model.eval()(wide), expected, rtol=1e-12, atol=1e-12)


def test_exact_statistics_of_images_and_of_models_without_batchnorm() -> None:
    torch.manual_seed(0)
    images = torch.randn(10, 2, 6, 6).double()
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2)
    ).double()
    expected = model.train()(images)
    lai.set_exact_statistics(model, images, batch_size=4)
    torch.testing.assert_close(model.eval()(images), expected, rtol=1e-12, atol=1e-12)
    plain = lai.MLP(2, (3,), seed=0)
    lai.set_exact_statistics(plain, torch.randn(5, 2))
    checks.refused(ValueError, r"x has shape \(0, 2\)", lai.set_exact_statistics, plain, torch.zeros(0, 2))


def test_exact_statistics_reach_into_a_compiled_model(x: Tensor) -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    compiled(x)  # in a graph that hooks come too late for
    expected = copy.deepcopy(model).train()(x)
    lai.set_exact_statistics(compiled, x)
    torch.testing.assert_close(model.eval()(x), expected)
