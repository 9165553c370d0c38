"""Compiled training takes the path of `lai.fit`, whose derivatives are all autograd's."""

import copy
import itertools

import numpy as np
import pytest
import torch

import lai
from lai.compiled import Network, _logistic, takes
from lai.coupling import FixedStatistics
from lai.stack import Lane, Stack, adam, fit_stack

LAM = 0.05
KINDS = {
    "plain": {},
    "ReLU": {"activation": "relu"},
    "BatchNorm": {"norm": "batch", "activation": "relu"},
    "smooth BatchNorm": {"norm": "batch"},
    "standardised": {"standardize": True},
    "standardised BatchNorm": {"norm": "batch", "activation": "relu", "standardize": True},
}


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Five features, which do not fill a block."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(150, 5, generator=g) * torch.tensor([1.0, 2.0, 0.3, 1.0, 0.5]) + 0.5
    return x, x[:, 0].sin() + x[:, 1] * x[:, 2] - x[:, 4]


def network(kind: str, x: torch.Tensor, seed: int) -> lai.MLP:
    options = dict(KINDS[kind])
    if options.pop("standardize", False):
        options["standardize"] = x
    model = lai.MLP(x.shape[1], (16, 8), seed=seed, **options)
    g = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():  # gains, shifts and running statistics that are not 1 and 0
        for layer in model:
            if isinstance(layer, torch.nn.BatchNorm1d):
                for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    value += 0.5 * torch.rand(value.shape, generator=g)
    return model


def wide(data: tuple) -> tuple:
    return tuple(part.double() for part in data)


def alone(model: lai.MLP, data: tuple, lane: Lane, epochs: int, pretrain: int) -> lai.MLP:
    """In float64, by `lai.fit`."""
    model = copy.deepcopy(model).double()
    lai.fit(
        model,
        wide(data),
        criterion=None if lane.lam is None else lai.LaiLoss(lane.lam),
        schedule=lai.LaiSchedule(lane.alpha, pretrain_epochs=pretrain, seed=lane.seed),
        epochs=epochs,
        batch_size=32,
        lr=0.001,
        seed=lane.seed,
        device="cpu",
        drop_last=True,
        allow_coupling=True,
    )
    return model


def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
    states = one.state_dict(), other.state_dict()
    return max(float((states[0][n].double() - states[1][n].double()).abs().max()) for n in states[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", ["summed", "true"])
@pytest.mark.parametrize("lam", [None, 0.05, 4.0, (0.1, 1.0, 3.0, 0.01, 0.5)], ids=str)
def test_gradients_are_those_of_double_backward(kind: str, slope: str, lam: float | tuple | None, data: tuple) -> None:
    x, y = data[0][:61], data[1][:61]  # not a multiple of a vector
    model = network(kind, data[0], 0)
    ours = Network(model, 0.01).gradients(x, y, Lane(0, lam=lam), slope)
    reference = copy.deepcopy(model).double().train()
    trusted = FixedStatistics(reference, "batch") if slope == "true" and "BatchNorm" in kind else reference
    value, k = lai.value_and_input_gradient(trusted, x.double())
    if lam is None:
        loss = (value - y.double()).square().mean()
    else:
        loss = lai.LaiLoss(list(lam) if isinstance(lam, tuple) else lam)(value, y.double(), k)
    loss.backward()
    largest = max(float(p.grad.abs().max()) for p in reference.parameters() if p.grad is not None)
    assert list(ours) == [name for name, _ in reference.named_parameters()] and largest > 0.01
    for name, parameter in reference.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert float((ours[name].double() - expected).abs().max()) < 1e-4 * largest, name


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_the_path_that_fit_takes(kind: str, data: tuple) -> None:
    for lane in (Lane(0), Lane(0, lam=LAM, alpha=0.5), Lane(1, lam=(0.1, 1.0, 3.0, 2.0, 1.0), alpha=0.25)):
        model = network(kind, data[0], lane.seed)
        before = copy.deepcopy(model.state_dict())
        ours = Network(model, 0.001)
        curve = ours.fit(data, lane, epochs=4, batch_size=32, pretrain_epochs=1, val=data)
        reference = alone(model, data, lane, 4, 1)
        assert apart(ours.model(), reference) < 1e-4 < 0.01 < apart(ours.model(), model)
        assert [epoch for epoch, _ in curve] == [0, 1, 2, 3]
        assert curve[-1][1] == pytest.approx(lai.rmse(reference, *wide(data)), abs=1e-4)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["BatchNorm", "standardised"])
@pytest.mark.parametrize("slope", ["summed", "true"])
def test_it_takes_the_path_of_a_stack(kind: str, slope: str, data: tuple) -> None:
    lane = Lane(3, lam=LAM)
    model = network(kind, data[0], 3)
    stack = Stack([model])
    curves = fit_stack(
        stack, adam(stack, 0.001), data, [lane], epochs=3, batch_size=32, slope=slope, val=data, validate_every=2
    )
    ours = Network(model, 0.001)
    curve = ours.fit(data, lane, epochs=3, batch_size=32, slope=slope, val=data, validate_every=2)
    assert apart(ours.model(), stack.models()[0]) < 1e-4
    assert [epoch for epoch, _ in curve] == curves["epoch"].tolist() == [1, 2]
    assert [value for _, value in curve] == pytest.approx(curves["val_rmse"].tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", ["plain", "BatchNorm"])
def test_a_copy_goes_on_where_the_trunk_was_and_leaves_it_alone(kind: str, data: tuple) -> None:
    trunk = Network(network(kind, data[0], 0), 0.001)
    trunk.fit(data, Lane(0), epochs=2, batch_size=32)
    kept = trunk.model()
    arm = trunk.copy()
    options = {"epochs": 2, "first_epoch": 2, "batch_size": 32}
    arm.fit(data, Lane(0, lam=LAM), **options)
    assert apart(arm.model(), alone(network(kind, data[0], 0), data, Lane(0, lam=LAM), 4, 2)) < 1e-4
    assert apart(trunk.model(), kept) == 0
    again = trunk.copy()
    again.fit(data, Lane(0, lam=LAM), **options)
    assert apart(again.model(), arm.model()) == 0  # to the last bit


def test_the_logistic_function_over_all_of_float32() -> None:
    u = np.concatenate([np.linspace(-120, 120, 100_001), [0, np.inf, -np.inf, 3e38, -3e38]]).astype(np.float32)
    out, whole = np.empty_like(u), np.empty_like(u)
    _logistic(u, whole, whole.view(np.int32), out)
    expected = 1 / (1 + np.exp(-np.clip(u.astype(np.float64), -88, 87)))
    assert (np.abs(out - expected) < 3e-7 * expected).all()


def test_what_is_not_finite_is_refused_at_the_epochs_end(data: tuple) -> None:
    x, y = data
    for kind in ("plain", "ReLU", "BatchNorm", "standardised"):
        for lam in (None, LAM):
            ours = Network(network(kind, x, 0), 0.001)
            y_bad = y.clone()
            y_bad[3] = torch.inf
            with pytest.raises(FloatingPointError, match=r"not finite after epoch 0 .*seed=0"):
                ours.fit((x, y_bad), Lane(0, lam=lam), epochs=2, batch_size=50)
            x_bad = x.clone()
            x_bad[3, 1] = torch.nan
            ours = Network(network(kind, x, 0), 0.001)
            with pytest.raises(FloatingPointError, match="not finite after epoch 0"):
                ours.fit((x_bad, y), Lane(0, lam=lam), epochs=1, batch_size=50)


def test_bad_input_is_refused(data: tuple) -> None:
    for options in (
        {"hidden": (16,)},
        {"hidden": (16, 8, 8)},
        {"hidden": (6, 8)},
        {"activation": "tanh"},
        {"norm": "layer"},
    ):
        with pytest.raises(
            ValueError, match=r"(?s)model = .*two hidden layers of ReLU or SiLU with widths that are multiples of 4"
        ):
            Network(lai.MLP(**{"n_features": 5, "hidden": (16, 8), **options}), 0.001)
    cumulative = lai.MLP(5, (16, 8), norm="batch", activation="relu")
    assert takes(cumulative) and not takes(torch.nn.Sequential(*cumulative))
    for momentum in (None, 0.5):  # none, and another than the second layer's
        cumulative[1].momentum = momentum
        assert not takes(cumulative)
    cumulative[1].momentum = cumulative[4].momentum = None
    assert not takes(cumulative)
    with pytest.raises(ValueError, match="float32 on the CPU"):
        Network(lai.MLP(5, (16, 8)).double(), 0.001)
    ours, coupled = Network(network("plain", data[0], 0), 0.001), Network(network("BatchNorm", data[0], 0), 0.001)
    before = ours.model()
    good = {"epochs": 1, "batch_size": 32}
    for bad, said in (
        ({"epochs": -1}, "epochs = -1"),
        ({"batch_size": 151}, "batch_size = 151: it must not exceed the 150 samples"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"validate_every": 0}, "validate_every = 0"),
        ({"slope": "steep"}, "slope = 'steep'"),
    ):
        with pytest.raises(ValueError, match=said):
            ours.fit(data, Lane(0), **{**good, **bad})
    for lane, said in (
        (Lane(0, lam=(1.0, 2.0)), "lam has 2 entries"),
        (Lane(0, lam=1.0, sampling="points"), "sampling = 'points'"),
    ):
        with pytest.raises(ValueError, match=said):
            ours.fit(data, lane, **good)
    for bad_data in ((data[0][:, :4], data[1]), (data[0], data[1][:, None]), (data[0], data[1][:9])):
        with pytest.raises(ValueError, match=r"x has shape .* and y .*: \(N, 5\) and \(N,\) are needed"):
            ours.fit(bad_data, Lane(0), **good)
    with pytest.raises(ValueError, match="batch_size = 1"):
        coupled.fit(data, Lane(0), epochs=1, batch_size=1)
    assert apart(ours.model(), before) == 0


def test_every_width_of_block_agrees() -> None:
    """Features that fill no block, one or more, and layers of one block or many."""
    g = torch.Generator().manual_seed(1)
    for n_features, hidden in itertools.product((1, 4, 9), ((4, 4), (12, 20))):
        x = torch.randn(40, n_features, generator=g)
        model = lai.MLP(n_features, hidden, seed=0)
        ours = Network(model, 0.01).gradients(x, x[:, 0], Lane(0, lam=0.3))
        value, k = lai.value_and_input_gradient(model, x)
        lai.LaiLoss(0.3)(value, x[:, 0], k).backward()
        assert all(torch.allclose(ours[name], p.grad, atol=1e-5) for name, p in model.named_parameters())
