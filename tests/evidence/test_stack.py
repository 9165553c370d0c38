"""Networks trained in a stack take the path that `lai.fit` gives each alone."""

import copy

import pytest
import torch

import lai
from evidence.runs.old.by_hand import activate, batch_norm, lai_norm, linear, norm_of_data, project, project_to_data
from evidence.runs.old.stack import Lane, Stack, adam, branch, fit_stack
from lai import FixedStatistics

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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", ["summed", "true"])
def test_a_network_takes_the_same_path_to_the_last_bit_whatever_its_neighbours(kind: str, slope: str) -> None:
    """In float32, where results are kept cell by cell and must not depend on what was trained beside them."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=g)
    data = x, x[:, 0].sin() + x[:, 1]

    def weights(lanes: list[Lane]) -> torch.Tensor:
        options = {**KINDS[kind], "standardize": x} if kind == "standardised" else KINDS[kind]
        stack = Stack([lai.MLP(8, seed=lane.seed, **options) for lane in lanes])
        fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=3, batch_size=128, slope=slope)
        return torch.cat([p.flatten() for p in stack.models()[0].state_dict().values()])

    for one in (Lane(0), Lane(0, lam=LAM), Lane(0, lam=LAM, alpha=0.5)):
        alone = weights([one])
        for beside in (
            [Lane(0)],
            [Lane(0, lam=2.0, alpha=0.5), Lane(0, lam=1e-9)],
            [Lane(3), Lane(4, lam=1e-9)] * 3,
            [Lane(0)] * 12,
        ):
            assert torch.equal(alone, weights([one, *beside]))


def test_slopes_by_hand_are_those_of_autograd(data: tuple) -> None:
    """Value, slope and the derivative of both by every weight, in float64, against double backward in each network."""
    x = data[0][:40]
    for kind, options in {**KINDS, "tanh": {"activation": "tanh"}, "softplus": {"activation": "softplus"}}.items():
        options = {**options, "standardize": x} if kind == "standardised" else options
        models = [lai.MLP(3, (8, 6), seed=seed, **options).double() for seed in range(2)]
        for slope in ("summed", "true"):
            stack = Stack(models).train()
            value, k = stack.value_and_slope(x.T.expand(2, -1, -1), slope)
            (value.square().sum() + k.pow(3).sum()).backward()
            for i, model in enumerate(copy.deepcopy(models)):
                alone = FixedStatistics(model, "batch") if slope == "true" and kind == "BatchNorm" else model.train()
                own_value, own_k = lai.value_and_input_gradient(alone, x)
                (own_value.square().sum() + own_k.pow(3).sum()).backward()
                assert torch.allclose(value[i], own_value, atol=1e-12) and torch.allclose(k[i].T, own_k, atol=1e-12)
                for name, parameter in model.named_parameters():
                    grad = stack._own[name.replace(".", "_")].grad
                    grad = torch.zeros_like(parameter) if grad is None else grad[i]
                    assert torch.allclose(grad, parameter.grad, atol=1e-9), (kind, slope, name)


def test_each_layer_by_hand_against_finite_differences() -> None:
    g = torch.Generator().manual_seed(2)

    def given(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64, requires_grad=True)

    def normalised(
        z: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, p: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        running = torch.zeros(2, 3).double(), torch.ones(2, 3).double()
        out, centred, inverse = batch_norm(z, gain, bias, None, running, 0.1, 1e-2)
        return out, project(p, centred, inverse.detach()), inverse

    assert torch.autograd.gradcheck(normalised, (given(2, 3, 7), given(2, 3, 1), given(2, 3, 1), given(2, 3, 7)))
    data = given(2, 4, 7).detach()

    def normalised_data(
        weight: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, p: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        running = torch.zeros(2, 3).double(), torch.ones(2, 3).double()
        out, *rest = norm_of_data(data, weight, torch.zeros_like(gain), gain, bias, running, 0.1, 1e-2)
        return out, project_to_data(p, *rest)

    inputs = given(2, 3, 4), given(2, 3, 1), given(2, 3, 1), given(2, 3, 7)
    assert torch.autograd.gradcheck(normalised_data, inputs)
    for n_in, n_out in ((5, 2), (2, 5)):
        weight, bias, x = given(2, n_out, n_in), given(2, n_out, 1), given(2, n_in, 7)
        assert torch.autograd.gradcheck(linear, (weight, bias, x))
        assert torch.autograd.gradcheck(linear, (weight, None, x))
    for layer in (torch.nn.SiLU(), torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Softplus(beta=3)):

        def activated(u: torch.Tensor, k: torch.Tensor, layer: torch.nn.Module = layer) -> tuple[torch.Tensor, ...]:
            a, chain = activate(layer, 1 * u)
            return a, chain(k)

        u, k = given(4, 5), given(4, 5)
        assert torch.autograd.gradcheck(activated, (u, k))
        torch.testing.assert_close(activated(u, k)[1], k * torch.autograd.grad(layer(u).sum(), u)[0])


def test_batch_norm_by_hand_is_torchs() -> None:
    """Outputs and running statistics, also far from zero, where a sum of squares alone would have lost the spread."""
    g = torch.Generator().manual_seed(3)
    z = torch.randn(2, 3, 50, generator=g) * 0.1 + 1000
    gain, bias, offset = torch.randn(3, 2, 3, 1, generator=g)
    ours, torchs = ([torch.zeros(6), torch.ones(6)] for _ in range(2))
    own = batch_norm(z - offset, gain, bias, offset, (ours[0].view(2, 3), ours[1].view(2, 3)), 0.1, 1e-5)[0]
    values = gain.flatten().double(), bias.flatten().double()
    running = [kept.double() for kept in torchs]
    reference = torch.nn.functional.batch_norm(z.double().view(1, 6, 50), *running, *values, training=True)
    assert torch.allclose(own.view(1, 6, 50).double(), reference, atol=5e-3)
    for kept, expected in zip(ours, running, strict=True):
        assert torch.allclose(kept.double(), expected, rtol=1e-3)


@pytest.mark.parametrize(("n_in", "n_out"), [(3, 5), (5, 3)])
def test_norm_of_data_is_a_linear_layer_and_torchs_batch_norm(n_in: int, n_out: int) -> None:
    """Outputs, their gradient by the data and running statistics, in float32 for features of unlike scale far from zero."""
    g = torch.Generator().manual_seed(4)
    scales, places = (
        torch.tensor([[1.0], [1e3], [0.1], [1.0], [10.0]]),
        torch.tensor([[4.0], [2e3], [-120.0], [0.0], [35.0]]),
    )
    x = (torch.randn(2, 5, 64, generator=g) * scales + places)[:, :n_in]
    weight = torch.randn(2, n_out, n_in, generator=g)
    gain, bias, offset = torch.randn(3, 2, n_out, 1, generator=g)
    p = torch.randn(2, n_out, 64, generator=g)
    running = torch.zeros(2, n_out), torch.ones(2, n_out)
    out, *rest = norm_of_data(x, weight, offset, gain, bias, running, 0.1, 1e-5)
    k = project_to_data(p, *rest)
    for i in range(2):
        kept = torch.zeros(n_out).double(), torch.ones(n_out).double()
        rows = x[i].double().T.requires_grad_()
        z = rows @ weight[i].double().T + offset[i, :, 0].double()
        reference = torch.nn.functional.batch_norm(
            z, *kept, gain[i, :, 0].double(), bias[i, :, 0].double(), training=True
        )
        (slopes,) = torch.autograd.grad((reference * p[i].double().T).sum(), rows)
        for own, expected in (
            (out[i].T, reference.detach()),
            (k[i].T, slopes),
            (running[0][i], kept[0]),
            (running[1][i], kept[1]),
        ):
            assert torch.allclose(own.double(), expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))


def test_lai_norm_is_the_factor_and_its_norm(data: tuple) -> None:
    g = torch.Generator().manual_seed(1)
    k = torch.randn(2, 5, 30, generator=g, dtype=torch.float64) * 10.0 ** torch.randint(-3, 4, (2, 5, 30), generator=g)
    k[0, 0, 0], k[1, 1, 1] = 0.0, 0.25  # flat, and at the boundary of λ = 0.0625
    lam = torch.tensor([[1e-4, 0.1, 1.0, 3.0, 400.0], [0.5, 0.0625, 1e-2, 7.0, 2.0]], dtype=torch.float64)[..., None]
    results = []
    for way in (lai_norm, lambda k, lam: torch.linalg.vector_norm(lai.lai_factor(k, lam), dim=1)):
        inputs = k.clone().requires_grad_()
        norm = way(inputs, lam)
        norm.square().sum().backward()
        results.append((norm.detach(), inputs.grad))
    for ours, reference in zip(*results, strict=True):
        assert torch.allclose(ours, reference, rtol=1e-9, atol=1e-12)


def test_the_true_slope_trains_another_network(data: tuple) -> None:
    lanes = [Lane(0, lam=LAM)]
    trained: dict[str, list] = {"BatchNorm": [], "plain": []}
    for kind, results in trained.items():
        for slope in ("summed", "true"):
            stack = Stack([network(kind, data[0], 0)])
            fit_stack(stack, adam(stack, 0.01), data, lanes, epochs=3, batch_size=32, slope=slope)
            results += stack.models()
    assert same(*trained["plain"]) and not same(*trained["BatchNorm"], 1e-2)
    single = network("BatchNorm", data[0], 0)
    options = {"epochs": 3, "batch_size": 32, "lr": 0.01, "seed": 0, "device": "cpu", "drop_last": True}
    lai.fit(FixedStatistics(single, "batch"), data, criterion=lai.LaiLoss(LAM), **options)
    assert same(trained["BatchNorm"][1], single)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_moves_as_a_whole(kind: str, data: tuple) -> None:
    """Statistics and scaling as well as weights; the meta device stands in for a GPU."""
    stack = Stack([network(kind, data[0], seed) for seed in range(2)]).to("meta").train()
    x = torch.empty(2, 3, 10, dtype=torch.float64, device="meta")
    assert stack(x).device.type == "meta" and stack.value_and_slope(x)[1].shape == (2, 3, 10)


def test_validation_may_be_rare(data: tuple) -> None:
    stack = Stack([network("plain", data[0], 0)])
    kept = fit_stack(stack, adam(stack, 0.01), data, [Lane(0)], epochs=5, batch_size=32, val=data, validate_every=2)
    assert kept["epoch"].tolist() == [1, 3, 4]


def test_errors_name_what_is_wrong(data: tuple) -> None:
    x, y = data
    models = [network("plain", x, 0), lai.MLP(3, (8,), seed=0).double()]
    with pytest.raises(ValueError, match="architecture"):
        Stack(models)
    with pytest.raises(ValueError, match="LayerNorm"):
        Stack([lai.MLP(3, (8,), norm="layer")])
    with pytest.raises(ValueError, match="at least one"):
        Stack([])
    cumulative = lai.MLP(3, (8,), norm="batch")
    cumulative[1].momentum = None
    with pytest.raises(ValueError, match="momentum=None"):
        Stack([cumulative])
    coupled = Stack([network("BatchNorm", x, 0)])
    with pytest.raises(ValueError, match="batch_size = 1"):
        fit_stack(coupled, adam(coupled, 0.1), data, [Lane(0)], epochs=1, batch_size=1)
    with pytest.raises(ValueError, match=r"y \(150, 1\): y must be \(N,\)"):
        fit_stack(coupled, adam(coupled, 0.1), (x, y[:, None]), [Lane(0)], epochs=1, batch_size=8)
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
        fit_stack(stack, adam(stack, 0.1), data, [Lane(0)], epochs=1, batch_size=8, slope="other")  # type: ignore
    with pytest.raises(FloatingPointError, match=r"epoch 0 \(Lane\(seed=0"):
        fit_stack(stack, adam(stack, 0.1), (x * 1e200, y), [Lane(0, lam=1.0)], epochs=1, batch_size=8)
