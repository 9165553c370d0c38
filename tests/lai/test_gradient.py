"""Input gradients against float64 finite differences and per-sample references, and the structural traps."""

import gc
import math
import types
import warnings
import weakref
from collections.abc import Callable

import checks
import pytest
import torch
from torch import Tensor, nn

import lai
from lai import FixedStatistics

D = torch.float64


def net(norm: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(3, 5), *([norm] if norm else []), nn.Tanh(), nn.Linear(5, 1)]
    return nn.Sequential(*layers).to(D)


def finite_difference(model: Callable[[Tensor], Tensor], x: Tensor, h: float = 1e-6) -> Tensor:
    columns = []
    for j in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, j] = h
        with torch.no_grad():
            columns.append((model(x + step) - model(x - step)).flatten() / (2 * h))
    return torch.stack(columns, 1)


def points(n: int = 7) -> Tensor:
    return torch.randn(n, 3, dtype=D, generator=torch.Generator().manual_seed(1))


def test_equals_finite_differences() -> None:
    x, model = points().requires_grad_(), net()
    for output in (model(x), model(x).squeeze(1)):
        torch.testing.assert_close(lai.input_gradient(output, x), finite_difference(model, x), rtol=1e-7, atol=1e-9)


def test_second_derivative_reaches_the_weights() -> None:
    """d/dw of mean k² by autograd through the input gradient, against finite differences in w."""
    x, model = points(), net()

    def roughness() -> Tensor:
        _, k = lai.value_and_input_gradient(model, x, create_graph=True)
        return k.square().mean()

    weight = model[0].weight
    assert isinstance(weight, nn.Parameter)
    (got,) = torch.autograd.grad(roughness(), weight)
    h, want = 1e-6, torch.zeros_like(weight)
    for i in range(weight.numel()):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.view(-1)[i] += sign * h
            values.append(roughness().item())
            with torch.no_grad():
                weight.view(-1)[i] -= sign * h
        want.view(-1)[i] = (values[0] - values[1]) / (2 * h)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


def test_each_output_of_many_has_its_own_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).to(D)
    x = points().requires_grad_()
    got = lai.input_gradient(model(x), x)
    want = torch.func.vmap(torch.func.jacrev(model))(x)
    assert got.shape == (7, 4, 3)
    torch.testing.assert_close(got, want)


def test_images_and_features_of_any_rank() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=D, requires_grad=True)
    got = lai.input_gradient(x.square().sum((1, 2, 3)), x)
    torch.testing.assert_close(got, 2 * x.detach())


def test_differentiable_while_gradients_are_on() -> None:
    x, model = points().requires_grad_(), net()
    output = model(x)
    assert lai.input_gradient(output, x).requires_grad
    assert not lai.input_gradient(output, x, create_graph=False).requires_grad
    with torch.no_grad():
        checks.refused(ValueError, "create_graph = None", lai.input_gradient, output, x)
        inside = lai.input_gradient(output, x, create_graph=False)
    assert not inside.requires_grad
    torch.testing.assert_close(inside, lai.input_gradient(output, x).detach())
    output.sum().backward()  # the output's own graph is still there


def test_never_touches_grad() -> None:
    x, model = points().requires_grad_(), net()
    lai.input_gradient(model(x), x)
    assert x.grad is None and all(p.grad is None for p in model.parameters())
    x.grad = torch.ones_like(x)
    lai.input_gradient(model(x), x)
    assert (x.grad == 1).all()


def test_an_output_that_does_not_depend_on_the_input_is_refused_or_has_zero_slopes() -> None:
    x, model = points().requires_grad_(), net()
    for output in (model(x.detach()), torch.ones(7, dtype=D)):
        checks.refused(ValueError, "output does not depend on inputs", lai.input_gradient, output, x)
    assert (lai.input_gradient(model(x.detach()), x, allow_unused=True) == 0).all()
    both = lai.input_gradient(torch.stack([x.sum(1), model(x.detach())[:, 0]], 1), x, allow_unused=True)
    assert (both[:, 0] == 1).all() and (both[:, 1] == 0).all()
    checks.refused(ValueError, "output does not depend", lai.value_and_input_gradient, lambda x: model(x.detach()), x)
    output, k = lai.value_and_input_gradient(lambda x: model(x.detach()), x, allow_unused=True)
    assert (k == 0).all() and torch.equal(output, model(x))


def test_no_samples_have_no_slopes() -> None:
    output, k = lai.value_and_input_gradient(net(), points(0))
    assert output.shape == (0, 1) and k.shape == (0, 3)


@pytest.mark.parametrize("flag", ["create_graph", "allow_unused"])
def test_what_is_true_or_false_is_nothing_else(flag: str) -> None:
    x = points().requires_grad_()
    checks.refused(TypeError, f"{flag} = 'no'", lai.input_gradient, net()(x), x, **{flag: "no"})
    checks.refused(TypeError, f"{flag} = 'no'", lai.value_and_input_gradient, net(), x, **{flag: "no"})


def test_an_output_computed_without_a_graph_is_not_taken_for_flat() -> None:
    x, model = points().requires_grad_(), net()
    with torch.no_grad(), pytest.raises(ValueError, match="no_grad.*value_and_input_gradient"):
        lai.input_gradient(model(x), x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_value_and_input_gradient_in_every_mode(mode: Callable) -> None:
    x, model = points(), net()
    want = finite_difference(model, x)
    with mode():
        inner = points()  # under inference_mode an inference tensor, which autograd refuses
        output, grad = lai.value_and_input_gradient(model, inner)
        torch.testing.assert_close(output, model(x))
    assert not output.requires_grad and not grad.requires_grad
    torch.testing.assert_close(grad, want, rtol=1e-7, atol=1e-9)
    assert not inner.requires_grad and inner.grad is None


def test_value_and_input_gradient_lets_an_encoder_train() -> None:
    encoder, model = nn.Linear(3, 3).to(D), net()
    output, grad = lai.value_and_input_gradient(model, encoder(points()))
    lai.lai_loss(output.squeeze(1), torch.zeros(7, dtype=D), grad, lam=0.1).backward()
    assert encoder.weight.grad is not None and (encoder.weight.grad != 0).any()


def by_backward(output: Tensor, x: Tensor) -> Tensor:
    """The leak: x.grad holds a graph that holds x."""
    output.sum().backward(create_graph=True)
    assert x.grad is not None
    return x.grad


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize(("method", "freed"), [(lai.input_gradient, True), (by_backward, False)])
def test_no_reference_cycle_keeps_the_graph_alive(method: Callable, freed: bool) -> None:
    gc.disable()  # what is freed goes with its last reference
    try:
        x = points().requires_grad_()
        loss = method(net()(x).squeeze(1), x).square().sum()
        kept = weakref.ref(x)
        del x, loss
        assert (kept() is None) == freed
    finally:
        gc.enable()


def test_bad_arguments_are_named() -> None:
    x, model = points(), net()
    checks.refused(ValueError, "inputs.requires_grad is False", lai.input_gradient, model(x), x)
    x.requires_grad_()
    for output, message in [
        (model(x)[:3], r"output has shape \(3, 1\) and inputs \(7, 3\): .* same batch size"),
        (model(x).sum(), r"output has shape \(\) and inputs"),
        (model(x)[:, :, None], r"output has shape \(7, 1, 1\): it must be \(N,\), \(N, 1\) or \(N, M\)"),
        (model(x)[:, :0], r"output has shape \(7, 0\)"),
        (model(x)[:, :, None, None], r"output has shape \(7, 1, 1, 1\): .*Flatten\(1\)"),
    ]:
        checks.refused(ValueError, message, lai.input_gradient, output, x)
    checks.refused(TypeError, "output has dtype torch.complex128", lai.input_gradient, 1j * model(x), x)
    checks.refused(TypeError, "output and inputs must be tensors, not float", lai.input_gradient, 1.0, x)
    checks.refused(TypeError, "output and inputs must be tensors, .* float", lai.input_gradient, model(x), 1.0)


# --- samples that mix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(5), nn.GroupNorm(1, 5), nn.Dropout(0.5), nn.BatchNorm1d(5).eval()],
    ids=lambda m: type(m).__name__,
)
def test_independent_samples_pass(norm: nn.Module) -> None:
    lai.assert_independent_samples(net(norm), points())


def test_batchnorm_in_training_mode_is_named_with_the_ways_out() -> None:
    with pytest.raises(RuntimeError, match=r"1 \(BatchNorm1d\).*LayerNorm.*FixedStatistics.*eval") as error:
        lai.assert_independent_samples(net(nn.BatchNorm1d(5)), points())
    assert "another sample's input" in str(error.value)
    lai.assert_independent_samples(FixedStatistics(net(nn.BatchNorm1d(5))), points())  # a way out, as it says


def test_a_loop_that_undoes_eval_mode_is_what_the_message_warns_of() -> None:
    model = net(nn.BatchNorm1d(5)).eval()
    x = points().float()
    settings = {"criterion": lai.LaiLoss(0.5), "epochs": 1, "batch_size": len(x), "lr": 1e-3, "seed": 0}
    with pytest.raises(RuntimeError, match="but lai.fit undoes it"):
        lai.fit(model.float(), (x, x[:, :1]), device="cpu", **settings)  # type: ignore[arg-type]


def test_batchnorm_without_running_statistics_mixes_in_eval_mode_too() -> None:
    with pytest.raises(RuntimeError, match="BatchNorm"):
        lai.assert_independent_samples(net(nn.BatchNorm1d(5, track_running_stats=False)).eval(), points())


def test_mixing_that_is_not_batchnorm_is_found() -> None:
    class Centre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    with pytest.raises(RuntimeError, match="not independent.*detach"):
        lai.assert_independent_samples(net(Centre()), points())


@pytest.mark.parametrize("after", [True, False])
def test_a_sample_that_sees_its_neighbour_alone_is_found(after: bool) -> None:
    class Sees(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            none = torch.zeros_like(x[:1])
            return x + torch.cat([x[1:], none] if after else [none, x[:-1]])

    with pytest.raises(RuntimeError, match="not independent"):
        lai.assert_independent_samples(nn.Sequential(Sees(), net()), points())


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2, 2)])
def test_the_probe_takes_features_of_any_shape(shape: tuple[int, ...]) -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(len(x), -1).sum(1)

    lai.assert_independent_samples(Total(), torch.rand(shape))


def test_batchnorm_last_has_zero_summed_gradient_and_is_found() -> None:
    """The case in which nothing looks wrong: the summed gradient is not off, it is exactly zero."""
    model = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)).to(D)
    x = points().requires_grad_()
    assert lai.input_gradient(model(x), x).abs().max() < 1e-12
    with pytest.raises(RuntimeError, match="BatchNorm"):
        lai.assert_independent_samples(model, x)


def test_the_probe_leaves_everything_as_it_was() -> None:
    model = net(nn.BatchNorm1d(5))
    x = points().requires_grad_()
    with checks.untouched(model), pytest.raises(RuntimeError):
        lai.assert_independent_samples(model, x)
    still = nn.Sequential(nn.Dropout(0.5), model.eval())
    with checks.untouched(still):
        lai.assert_independent_samples(still, x)
    assert x.grad is None


def test_the_probe_does_not_accuse_a_model_whose_slope_is_infinite() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(1).sqrt()

    x = points().abs()
    x[2] = 0
    checks.refused(ValueError, "the model's slope is not finite", lai.assert_independent_samples, Root(), x)


def test_the_probe_needs_two_samples() -> None:
    message = r"inputs has shape \(1, 3\): at least 2 samples"
    checks.refused(ValueError, message, lai.assert_independent_samples, net(), points(1))
    lai.assert_independent_samples(net(), points(2))
    for of_shape in (nn.Flatten(0), nn.Sequential(net(), nn.Flatten(0), nn.Softmax(0), nn.Unflatten(0, (1, 7)))):
        message = "the model returned shape .* for a batch of 7"
        checks.refused(ValueError, message, lai.assert_independent_samples, of_shape, points())


def test_summed_gradient_through_batchnorm_is_wrong() -> None:
    """Why the probe exists: in training mode the sum trick is far from each sample's own slope."""
    model = net(nn.BatchNorm1d(5))
    x = points(64).requires_grad_()
    summed = lai.input_gradient(model(x), x).detach()
    own = torch.autograd.functional.jacobian(lambda x: model(x).squeeze(1), x.detach())
    assert isinstance(own, Tensor)
    true = torch.stack([own[i, i] for i in range(64)])
    relative = (summed - true).norm() / true.norm()
    assert relative > 0.5 and not math.isnan(relative)


def test_a_frozen_model_is_warned_of_once_where_it_would_be_trained_on() -> None:
    x = points()
    with pytest.warns(UserWarning, match="no parameter that requires a gradient"):
        lai.value_and_input_gradient(net().requires_grad_(False), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lai.value_and_input_gradient(net().requires_grad_(False), x, create_graph=False)
        lai.value_and_input_gradient(net().requires_grad_(False), x.clone().requires_grad_())  # an encoder may train
        lai.value_and_input_gradient(lambda x: x.sum(1), x)
        with torch.no_grad():
            lai.value_and_input_gradient(net().requires_grad_(False), x)


def test_a_frozen_model_is_warned_of_in_functions_and_methods() -> None:
    x, frozen = points(), net().requires_grad_(False)
    for function in (lambda x: frozen(x).sin(), frozen.forward):
        with pytest.warns(UserWarning, match="no parameter that requires a gradient"):
            lai.value_and_input_gradient(function, x)
    trained = torch.ones(len(x), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lai.value_and_input_gradient(lambda x: frozen(x).flatten() * trained, x)
        holder = types.SimpleNamespace(head=torch.nn.Linear(3, 3, dtype=D))  # which no name in the function leads to
        lai.value_and_input_gradient(lambda x: frozen(holder.head(x)), x)


def test_a_model_that_is_frozen_later_is_warned_of() -> None:
    model, x = net(), points()
    lai.value_and_input_gradient(model, x)
    with pytest.warns(UserWarning, match="no parameter that requires a gradient"):
        lai.value_and_input_gradient(model.requires_grad_(False), x)


def test_no_warning_in_ordinary_use() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lai.value_and_input_gradient(net(), points())


def test_the_probe_takes_inputs_that_have_no_rows() -> None:
    """A temperature or a weight for each feature is of no sample."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))

    class Scaled(nn.Linear):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return super().forward(a * b)[:, 0].sin()

    for other in (torch.tensor(2.0), torch.ones(3)):
        lai.assert_independent_samples(lambda a, s: (a * s).sum(1).sin(), (x, other))
        lai.assert_independent_samples(lambda s, a, t: (a * s * t).sum(1).sin(), (torch.tensor(2.0), x, other))
        lai.assert_independent_samples(lai.WithSlopes(Scaled(3, 1), wrt=0), (x, other))
        lai.assert_independent_samples(Scaled(3, 1), (x, other), wrt=0)
    mixing = lambda a, s: (a * s).sum(1) - a.mean()  # noqa: E731
    with pytest.raises(RuntimeError, match="not independent"):
        lai.assert_independent_samples(mixing, (x, torch.ones(3)))
