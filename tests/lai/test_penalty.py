"""The curvature penalty against closed forms, torch's Hessians and float64 finite differences."""

import copy
import math
from typing import Any

import checks
import pytest
import torch
from torch import Tensor, nn

import lai
from lai import curvature_penalty


@pytest.fixture(autouse=True)
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def points(n: int = 5, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def hessians(model: Any, x: Tensor) -> Tensor:
    rows = [torch.autograd.functional.hessian(lambda v: model(v[None])[0], row) for row in x.detach()]
    return torch.stack(rows)


# --- values ----------------------------------------------------------------------------------------------------


def test_polynomial_of_one_input() -> None:
    x = points(7)
    y = x**3 - 2 * x**2
    torch.testing.assert_close(curvature_penalty(y, x, reduction="none"), (6 * x - 4) ** 2)
    torch.testing.assert_close(curvature_penalty(y, x), ((6 * x - 4) ** 2).mean())
    torch.testing.assert_close(curvature_penalty(y, x, reduction="sum"), ((6 * x - 4) ** 2).sum())


def test_quadratic_form_of_many_inputs() -> None:
    a = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    x = points(3, 4)
    y = (x @ a * x).sum(1, keepdim=True)  # (N, 1), Hessian a + aᵀ everywhere
    expected = (a + a.T).square().sum()
    torch.testing.assert_close(curvature_penalty(y, x, reduction="none"), expected.expand(3))


@pytest.mark.parametrize("activation", ["tanh", "silu", "softplus"])
def test_networks_against_torch_hessians(activation: str) -> None:
    model = lai.MLP(3, (8, 8), activation=activation, seed=0).double()
    x = points(6, 3)
    expected = hessians(model, x).square().sum((1, 2))
    torch.testing.assert_close(curvature_penalty(model(x), x, reduction="none"), expected)


def test_features_of_any_shape() -> None:
    x = points(4, 2, 3)
    y = (x**3).sum((1, 2)) + x[:, 0, 0] * x[:, 1, 2]
    expected = (6 * x).square().sum((1, 2)) + 2
    torch.testing.assert_close(curvature_penalty(y, x, reduction="none"), expected)


def test_given_slopes_are_used() -> None:
    model, x = lai.MLP(2, (8,), seed=0).double(), points(5, 2)
    output = model(x)
    k = lai.input_gradient(output, x, create_graph=True)
    torch.testing.assert_close(curvature_penalty(output, x, grad=k), curvature_penalty(output, x))
    torch.testing.assert_close(curvature_penalty(output, x, grad=2 * k), 4 * curvature_penalty(output, x))


def test_straight_models_have_none() -> None:
    x = points(5, 2)
    line = nn.Linear(2, 1)
    assert curvature_penalty(line(x), x).item() == 0
    relu = lai.MLP(2, (16, 16), activation="relu", seed=0).double()
    loss = curvature_penalty(relu(x), x)  # kinks are not seen
    assert loss.item() == 0
    assert curvature_penalty(3 * x.sum(1), x).item() == 0  # no weights at all
    checks.refused(ValueError, "output does not depend on inputs", curvature_penalty, torch.ones(5), x)


# --- Hutchinson ------------------------------------------------------------------------------------------------


def test_hutchinson_is_right_on_average() -> None:
    model, x = lai.MLP(4, (8, 8), seed=0).double(), points(3, 4)
    output = model(x)
    exact = curvature_penalty(output, x, reduction="none")
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [
            curvature_penalty(output, x, method="hutchinson", generator=generator, reduction="none").detach()
            for _ in range(300)
        ]
    )
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - exact).abs() < 4 * error).all()
    many = curvature_penalty(output, x, method="hutchinson", n_probes=400, generator=generator, reduction="none")
    assert ((many - exact).abs() < 4 * draws.std(0) / math.sqrt(400)).all()


def test_hutchinson_of_one_input_is_exact() -> None:
    x = points(5)
    y = torch.sin(x)
    for shaped in (x, x[:, None].detach().requires_grad_()):
        y = torch.sin(shaped).reshape(5)
        expected = torch.sin(shaped).reshape(5) ** 2
        torch.testing.assert_close(curvature_penalty(y, shaped, method="hutchinson", reduction="none"), expected)


def test_generator_repeats_and_spares_the_global_state() -> None:
    x = points(5, 3)
    y = lai.MLP(3, (8,), seed=0).double()(x)
    before = torch.random.get_rng_state()
    one, other = (
        curvature_penalty(y, x, method="hutchinson", generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert one.item() == other.item()
    assert torch.equal(torch.random.get_rng_state(), before)


# --- derivatives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, n_features", [("exact", 1), ("exact", 3), ("hutchinson", 3)])
def test_gradient_by_the_weights_against_finite_differences(method: Any, n_features: int) -> None:
    model, x = lai.MLP(n_features, (6,), activation="tanh", seed=0).double(), points(5, n_features)

    def value() -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return curvature_penalty(model(x), x, method=method, n_probes=2, generator=generator)

    by_autograd = torch.autograd.grad(value(), list(model.parameters()), allow_unused=True)
    step = 1e-5
    for p, g in zip(model.parameters(), by_autograd, strict=True):
        for i in range(p.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p.view(-1)[i] += sign * step
                ends.append(value().item())
                with torch.no_grad():
                    p.view(-1)[i] -= sign * step
            found = 0.0 if g is None else g.reshape(-1)[i].item()
            assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_twice_differentiable_by_the_input() -> None:
    checks.derivatives(lambda v: curvature_penalty(torch.sin(2 * v), v, reduction="none"), points(3))


def test_leaves_everything_as_it_was() -> None:
    model, x = lai.MLP(2, (8,), seed=0).double(), points(5, 2)
    weights = copy.deepcopy(model.state_dict())
    output = model(x)
    value = curvature_penalty(output, x)
    assert value.requires_grad and x.grad is None and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())
    plain = curvature_penalty(output, x, create_graph=False)
    assert not plain.requires_grad and plain.item() == value.item()
    output.sum().backward()  # the caller's graph is still there
    with torch.no_grad():
        assert not curvature_penalty(*recorded(model, x)).requires_grad


def recorded(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        return model(x), x


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grad": torch.zeros(5, 3)}, "grad has shape"),
        ({"grad": torch.zeros(5, 2)}, "grad carries no graph"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    model, x = lai.MLP(2, (8,), seed=0).double(), points(5, 2)
    checks.refused(ValueError, message, curvature_penalty, model(x), x, **options)


def test_refuses_several_outputs_and_plain_inputs() -> None:
    x = points(5, 2)
    checks.refused(ValueError, "output has shape", curvature_penalty, x * 2, x)
    for given in ({}, {"grad": torch.ones(5, 2)}):
        message = "inputs.requires_grad is False"
        checks.refused(ValueError, message, curvature_penalty, x.sum(1), x.detach(), **given)
