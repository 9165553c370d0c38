"""Networks trained in a stack take the path that `lai.fit` gives each alone."""

import copy

import pytest
import torch

import lai
from lai.stack import Lane, Stack, adam, branch, fit_stack

LAM = 0.05
KINDS = {"plain": {}, "BatchNorm": {"norm": "batch", "activation": "relu"}, "standardised": {"standardize": True}}


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(150, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.3])
    return x, x[:, 0].sin() + x[:, 1] * x[:, 2]


def network(kind: str, x: torch.Tensor, seed: int) -> lai.MLP:
    options = dict(KINDS[kind])
    if options.pop("standardize", False):
        options["standardize"] = x
    return lai.MLP(3, (8, 6), seed=seed, **options).double()


def alone(model: lai.MLP, data: tuple, lane: Lane, epochs: int, pretrain: int) -> lai.MLP:
    criterion = None if lane.lam is None else lai.LaiLoss(lane.lam)
    lai.fit(
        model,
        data,
        criterion=criterion,
        schedule=lai.LaiSchedule(lane.alpha, pretrain_epochs=pretrain, sampling=lane.sampling, seed=lane.seed),
        epochs=epochs,
        batch_size=32,
        lr=0.01,
        seed=lane.seed,
        device="cpu",
        drop_last=True,
        allow_coupling=lane.sampling == "batches",
    )
    return model


def same(one: torch.nn.Module, other: torch.nn.Module, tolerance: float = 1e-9) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.allclose(states[0][n].double(), states[1][n].double(), atol=tolerance) for n in states[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_computes_what_its_networks_do(kind: str, data: tuple) -> None:
    x, _ = data
    models = [network(kind, x, seed) for seed in range(3)]
    stack = Stack(models)
    for mode in (True, False):
        outputs = stack.train(mode)(x.T.expand(3, -1, -1))
        for i, model in enumerate(models):
            assert torch.allclose(outputs[i], model.train(mode)(x), atol=1e-12)
    assert all(same(a, b, 1e-12) for a, b in zip(stack.models(), models, strict=True))  # running statistics too


@pytest.mark.parametrize("kind", KINDS)
def test_each_network_takes_the_path_it_takes_alone(kind: str, data: tuple) -> None:
    lanes = [Lane(0), Lane(0, lam=LAM, alpha=0.5), Lane(1, lam=2.0), Lane(1, lam=(0.1, 1.0, 3.0), alpha=0.25)]
    stack = Stack([network(kind, data[0], lane.seed) for lane in lanes])
    curves = fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=4, batch_size=32, pretrain_epochs=1, val=data)
    for i, (lane, trained) in enumerate(zip(lanes, stack.models(), strict=True)):
        single = alone(network(kind, data[0], lane.seed), data, lane, 4, 1)
        assert same(trained, single)
        last = curves[curves["lane"] == i]["val_rmse"].iloc[-1]
        assert last == pytest.approx(lai.rmse(single, *data), abs=1e-9)
    assert not same(*stack.models()[:2], 1e-3)


def test_points_are_sampled_as_by_fit(data: tuple) -> None:
    lanes = [Lane(0, lam=LAM, alpha=0.25, sampling="points"), Lane(0, lam=LAM, alpha=0.25), Lane(1)]
    stack = Stack([network("plain", data[0], lane.seed) for lane in lanes])
    fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=3, batch_size=32, pretrain_epochs=1)
    for lane, trained in zip(lanes, stack.models(), strict=True):
        assert same(trained, alone(network("plain", data[0], lane.seed), data, lane, 3, 1))
    coupled = Stack([network("BatchNorm", data[0], 0)])
    with pytest.raises(ValueError, match="sampling = 'points'"):
        fit_stack(coupled, adam(coupled, 0.01), data, lanes[:1], epochs=1, batch_size=32)


def test_branches_go_on_with_the_optimisers_state(data: tuple) -> None:
    trunk = Stack([network("plain", data[0], seed) for seed in (0, 1)])
    state = adam(trunk, 0.01)
    fit_stack(trunk, state, data, [Lane(0), Lane(1)], epochs=2, batch_size=32)
    arms, states = branch(trunk, state, [0, 1, 0])
    lanes = [Lane(0), Lane(1, lam=LAM), Lane(0, lam=LAM)]
    fit_stack(arms, states, data, lanes, epochs=2, first_epoch=2, batch_size=32)
    for lane, trained in zip(lanes, arms.models(), strict=True):
        whole = alone(network("plain", data[0], lane.seed), data, lane, 4, 2)
        assert same(trained, whole)


def test_a_network_does_not_feel_its_neighbours(data: tuple) -> None:
    """One that trains well and one whose weights grow wild, beside a third and alone."""

    def weights(lanes: list[Lane]) -> torch.Tensor:
        stack = Stack([network("BatchNorm", data[0], lane.seed) for lane in lanes])
        fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=3, batch_size=32)
        return torch.cat([p.flatten() for p in stack.models()[0].parameters()]).detach()

    one = Lane(0, lam=LAM, alpha=0.5)
    beside = [one, Lane(3), Lane(4, lam=1e-9), Lane(9, lam=5.0, alpha=0.1)]
    assert torch.allclose(weights([one]), weights(beside), rtol=0, atol=1e-12)


def test_frozen_statistics_give_each_samples_own_slope(data: tuple) -> None:
    """Against finite differences of one sample's output, with the statistics of the batch as constants."""
    x = data[0][:40]
    model = network("BatchNorm", x, 0)
    stack = Stack([model]).train()
    inputs = x.T[None].clone().requires_grad_()
    (k,) = torch.autograd.grad(stack(inputs, frozen=True).sum(), inputs)
    fixed = copy.deepcopy(model).train()
    for layer in fixed:
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.momentum = None
            layer.reset_running_stats()
    fixed(x)
    for layer in fixed:  # torch keeps the unbiased variance, and normalises with the biased one
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_var *= (len(x) - 1) / len(x)
    fixed.eval()
    assert torch.allclose(fixed(x), stack(inputs, frozen=True)[0], atol=1e-12)
    step = torch.zeros(3, dtype=torch.float64)
    step[1] = 1e-6
    numeric = (fixed(x + step) - fixed(x - step)) / 2e-6
    assert torch.allclose(k[0, 1], numeric, atol=1e-6)
    (summed,) = torch.autograd.grad(stack(inputs).sum(), inputs)
    assert summed.norm() < 0.9 * k.norm()


def test_the_true_slope_trains_another_network(data: tuple) -> None:
    lanes = [Lane(0, lam=LAM, slope="summed"), Lane(0, lam=LAM, slope="true")]
    trained = {}
    for kind in ("BatchNorm", "plain"):
        stack = Stack([network(kind, data[0], 0)] * 2)
        fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=3, batch_size=32)
        trained[kind] = stack.models()
    assert same(*trained["plain"]) and not same(*trained["BatchNorm"], 1e-2)


def test_errors_name_what_is_wrong(data: tuple) -> None:
    x, y = data
    models = [network("plain", x, 0), lai.MLP(3, (8,), seed=0).double()]
    with pytest.raises(ValueError, match="architecture"):
        Stack(models)
    with pytest.raises(ValueError, match="LayerNorm"):
        Stack([lai.MLP(3, (8,), norm="layer")])
    with pytest.raises(ValueError, match="at least one"):
        Stack([])
    stack = Stack(models[:1])
    with pytest.raises(ValueError, match="lanes: 2 for a stack of 1"):
        fit_stack(stack, adam(stack, 0.1), data, [Lane(0), Lane(1)], epochs=1, batch_size=8)
    with pytest.raises(ValueError, match="batch_size = 1000"):
        fit_stack(stack, adam(stack, 0.1), data, [Lane(0)], epochs=1, batch_size=1000)
    with pytest.raises(ValueError, match="lam has 2 entries"):
        fit_stack(stack, adam(stack, 0.1), data, [Lane(0, lam=(1.0, 2.0))], epochs=1, batch_size=8)
    with pytest.raises(ValueError, match="lam = -1"):
        Lane(0, lam=-1.0)
    with pytest.raises(ValueError, match="slope = 'other'"):
        Lane(0, lam=1.0, slope="other")  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match=r"epoch 0 \(Lane\(seed=0"):
        fit_stack(stack, adam(stack, 0.1), (x * 1e200, y), [Lane(0, lam=1.0)], epochs=1, batch_size=8)
