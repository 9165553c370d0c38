"""Compiled training takes the path of `lai.fit`, whose derivatives are all autograd's."""

import copy
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lai
from evidence.runs.old.compiled import Network, _epoch, _logistic, takes
from evidence.runs.old.stack import Lane, Stack, adam, fit_stack
from lai import FixedStatistics

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
    with torch.no_grad():  # nothing of BatchNorm's is 1, 0 or its default
        for layer in model:
            if isinstance(layer, torch.nn.BatchNorm1d):
                layer.eps, layer.momentum = 0.2, 0.3
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


def by_autograd(model: lai.MLP, x: torch.Tensor, y: torch.Tensor, lam: object, slope: str) -> dict[str, torch.Tensor]:
    """The gradients by double backward, in float64."""
    model = copy.deepcopy(model).double().train()
    fixed = slope == "true" and any(isinstance(layer, torch.nn.BatchNorm1d) for layer in model)
    value, k = lai.value_and_input_gradient(FixedStatistics(model, "batch") if fixed else model, x.double())
    if lam is None:
        loss = (value - y.double()).square().mean()
    else:
        loss = lai.LaiLoss(list(lam) if isinstance(lam, tuple) else lam)(value, y.double(), k)
    loss.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}


def assert_same_gradients(model: lai.MLP, x: torch.Tensor, y: torch.Tensor, lam: object, slope: str) -> None:
    ours = Network(model, 0.01).gradients(x, y, Lane(0, lam=lam), slope)
    trusted = by_autograd(model, x, y, lam, slope)
    assert list(ours) == list(trusted)
    largest = max(float(grad.abs().max()) for grad in trusted.values())
    assert largest > 0.001
    for name, grad in trusted.items():  # the second is for biases before BatchNorm, whose gradient is 0
        assert float((ours[name].double() - grad).abs().max()) < 1e-5 * float(grad.abs().max()) + 1e-7 * largest, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", ["summed", "true"])
@pytest.mark.parametrize("lam", [None, 0.05, 4.0, (0.1, 1.0, 3.0, 0.01, 0.5)], ids=str)
def test_gradients_are_those_of_double_backward(kind: str, slope: str, lam: float | tuple | None, data: tuple) -> None:
    for n in (61, 2) if "BatchNorm" in kind else (61, 1):  # no multiple of a vector, and the fewest
        assert_same_gradients(network(kind, data[0], 0), data[0][:n], data[1][:n], lam, slope)


def test_gradients_where_branches_meet() -> None:
    """k² = λ to the last bit, where the mean of both sides counts; and a ReLU at 0, which has no slope there."""
    model = lai.MLP(1, (4, 4), activation="relu")
    x = torch.tensor([[1.0], [2.0], [4.0]])
    with torch.no_grad():
        for layer, weight, bias in zip((0, 2, 4), (0.5, 0.25, 0.25), (1.0, 0.5, 0.0), strict=True):
            model[layer].weight.fill_(weight)
            model[layer].bias.fill_(bias)
    k = lai.value_and_input_gradient(model, x)[1]
    assert (k.square() == 0.25).all()
    for lam in (0.25, 0.25 - 2**-20, 0.25 + 2**-20):
        assert_same_gradients(model, x, x[:, 0].square(), lam, "summed")
    with torch.no_grad():
        model[0].bias.zero_()
    assert_same_gradients(model, torch.tensor([[0.0], [2.0]]), torch.ones(2), 0.1, "summed")


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


def test_one_compilation_serves_every_network(data: tuple) -> None:
    """Another type anywhere, as of a float64 scale, would be compiled by itself and compute otherwise."""
    for kind, slope in itertools.product(KINDS, ("summed", "true")):
        Network(network(kind, data[0], 0), 0.01).gradients(*data, Lane(0, lam=LAM), slope)
    assert len(_epoch.nopython_signatures) == 1


BITS = """
import hashlib, torch
import lai
from evidence.runs.old.compiled import Network
from evidence.runs.old.stack import Lane
torch.set_num_threads(1)
x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
digest = hashlib.sha256()
for options in ({}, {"norm": "batch", "activation": "relu"}):
    for slope in ("summed", "true"):
        network = Network(lai.MLP(8, seed=0, **options), 0.001)
        network.fit((x, x[:, 0].sin()), Lane(0, lam=0.01, alpha=0.5), epochs=5, batch_size=100, slope=slope)
        for value in network.model().state_dict().values():
            digest.update(value.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_bits_are_the_same_freshly_compiled_or_not(tmp_path: Path) -> None:
    """They were not, until every function was inlined: a process that compiled ran other copies of the inner functions than one
    that found them compiled."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-c", BITS]
    found = {subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert any(tmp_path.rglob("*.nbc"))  # the second call has loaded what the first has compiled
    found |= {subprocess.run(call, capture_output=True, text=True, check=True).stdout}
    assert len(found) == 1 and len(found.pop().strip()) == len(hashlib.sha256().hexdigest())


def test_the_logistic_function_over_all_of_float32() -> None:
    u = np.concatenate([np.linspace(-120, 120, 100_001), [0, np.inf, -np.inf, 3e38, -3e38]]).astype(np.float32)
    out, whole = np.empty_like(u), np.empty_like(u)
    _logistic(u, whole, whole.view(np.int32), out)
    expected = 1 / (1 + np.exp(-np.clip(u.astype(np.float64), -88, 87)))
    assert (np.abs(out - expected) < 3e-7 * expected).all()
    model = lai.MLP(1, (4, 4), seed=0)  # NaN, which the exponential's bounds would hide, comes out of the activation
    assert Network(model, 0.01).gradients(torch.tensor([[torch.nan]]), torch.ones(1), Lane(0))["0.weight"].isnan().any()


def test_what_is_not_finite_is_refused_at_the_epochs_end(data: tuple) -> None:
    x, y = data
    for kind in KINDS:
        for lam, slope in ((None, "summed"), (LAM, "summed"), (LAM, "true")):
            ours = Network(network(kind, x, 0), 0.001)
            y_bad = y.clone()
            y_bad[3] = torch.inf
            with pytest.raises(FloatingPointError, match=r"not finite after epoch 0 .*seed=0"):
                ours.fit((x, y_bad), Lane(0, lam=lam), epochs=2, batch_size=50, slope=slope)
            for bad in (torch.nan, torch.inf):
                x_bad = x.clone()
                x_bad[3, 1] = bad
                ours = Network(network(kind, x, 0), 0.001)
                with pytest.raises(FloatingPointError, match="not finite after epoch 0"):
                    ours.fit((x_bad, y), Lane(0, lam=lam), epochs=1, batch_size=50, slope=slope)


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
    normed = lai.MLP(5, (16, 8), norm="batch", activation="relu")
    assert takes(normed) and not takes(torch.nn.Sequential(*normed))
    for name, first, second in (
        ("momentum", None, 0.1),
        ("momentum", 0.5, 0.1),
        ("momentum", None, None),
        ("eps", 1e-3, 1e-5),
    ):
        setattr(normed[1], name, first)
        setattr(normed[4], name, second)
        assert not takes(normed)
        normed[1].momentum = normed[4].momentum = 0.1
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
    for n_features, hidden, norm in itertools.product((1, 4, 9), ((4, 4), (12, 20)), (None, "batch")):
        x = torch.randn(40, n_features, generator=g)
        for slope in ("summed", "true"):
            assert_same_gradients(lai.MLP(n_features, hidden, norm=norm, seed=0), x, x[:, 0], 0.3, slope)
