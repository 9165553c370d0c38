"""The losses that are compared, each a function from a model and a batch to the number that a step minimises."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, jacrev, vmap

import lai

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Step = Callable[[], None]

LAM = 0.1
WEIGHT = 0.1
"""Of a penalty beside the error; no time depends on it, nor on λ."""


def mse(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(model(x), y)


def lai_mse(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """As a training loop has it."""
    y_hat, k = lai.value_and_input_gradient(model, x)
    return lai.lai_loss(y_hat, y, k, lam=LAM)


def bare_slopes(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and slopes with nothing around torch's own backward pass."""
    x = x.detach().requires_grad_()
    y_hat = model(x)
    (k,) = torch.autograd.grad(y_hat, x, torch.ones_like(y_hat), create_graph=True)
    return y_hat, k


def slope_penalty(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The error plus the mean square slope, the slopes taken in one backward pass."""
    y_hat, k = bare_slopes(model, x)
    return nn.functional.mse_loss(y_hat, y) + WEIGHT * k.square().flatten(1).sum(1).mean()


def double_backpropagation(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The error plus the square of its own gradient by the inputs (Drucker and Le Cun, 1992)."""
    x = x.detach().requires_grad_()
    errors = (model(x) - y).square()
    (g,) = torch.autograd.grad(errors.sum(), x, create_graph=True)
    return errors.mean() + WEIGHT * g.square().flatten(1).sum(1).mean()


def penalty_by_differences(model: nn.Module, x: Tensor, y: Tensor, h: float = 1e-2) -> Tensor:
    """The slope penalty without a second derivative: the difference quotient along the slope (Finlay and Oberman, 2021)."""
    x = x.detach().requires_grad_()
    y_hat = model(x)
    (k,) = torch.autograd.grad(y_hat, x, torch.ones_like(y_hat), retain_graph=True)
    along = nn.functional.normalize(k.flatten(1), dim=1).view_as(x)
    steepness = (model(x.detach() + h * along) - y_hat) / h
    return nn.functional.mse_loss(y_hat, y) + WEIGHT * steepness.square().mean()


def mse_with_noise(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return mse(model, x + 0.1 * torch.randn_like(x), y)


def projected_jacobian(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The error plus the squared Jacobian of many outputs, estimated by one random projection (Hoffman et al., 2019)."""
    x = x.detach().requires_grad_()
    y_hat = model(x)
    v = nn.functional.normalize(torch.randn_like(y_hat), dim=1)
    (g,) = torch.autograd.grad(y_hat, x, v, create_graph=True)
    return nn.functional.mse_loss(y_hat, y) + WEIGHT * y_hat.shape[1] * g.square().flatten(1).sum(1).mean()


def by_vmap_of_grad(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The Lai loss with the slope of each sample on its own."""
    k, y_hat = vmap(grad_and_value(lambda row: model(row[None]).sum()))(x)
    return lai.lai_loss(y_hat[:, None], y, k, lam=LAM)


def by_jacrev(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The Lai loss with each sample's Jacobian in reverse mode."""

    def twice(row: Tensor) -> tuple[Tensor, Tensor]:
        value = model(row[None])[0]
        return value, value

    k, y_hat = vmap(jacrev(twice, has_aux=True))(x)
    return lai.lai_loss(y_hat, y, k[:, 0], lam=LAM)


def by_finite_differences(model: nn.Module, x: Tensor, y: Tensor, h: float = 1e-2) -> Tensor:
    """The Lai loss with slopes from a forward difference in each input."""
    n, d = x.shape
    moved = x[:, None] + h * torch.cat([x.new_zeros(1, d), torch.eye(d, dtype=x.dtype, device=x.device)])
    values = model(moved.flatten(0, 1)).reshape(n, d + 1)
    return lai.lai_loss(values[:, :1], y, (values[:, 1:] - values[:, :1]) / h, lam=LAM)


def naive_factor_loss(y_hat: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """The Lai MSE written with k², which overflows where slopes are large: the least that the formula itself needs."""
    squares = k.square()
    factors = squares.clamp(min=LAM) / ((1 + squares) * min(1.0, LAM))
    return ((y_hat - y).square() * factors.square().sum(1).sqrt()).mean()


def naive(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The least that a Lai step needs: bare slopes in that formula."""
    y_hat, k = bare_slopes(model, x)
    return naive_factor_loss(y_hat[:, 0], y[:, 0], k)


def lai_of_bare_slopes(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    y_hat, k = bare_slopes(model, x)
    return lai.lai_loss(y_hat, y, k, lam=LAM)


STAGES: dict[str, Loss] = {
    "slopes and their derivative": slope_penalty,
    "the factor, written with k²": naive,
    "the factor for every slope": lai_of_bare_slopes,
    "checks of the model and the slopes": lai_mse,
}
"""From an MSE step to a Lai step: each has one thing more than the one before it."""

WEIGHTS_ONLY = "Lai loss, backward to the weights only"
"""The last stage without the gradient with respect to the data, which no one uses."""


def step_of(
    loss: Loss, model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, data: bool = True
) -> Step:
    """A training step as a function without arguments; without ``data`` backward is told that only weights need gradients."""
    needed = None if data else [p for p in model.parameters() if p.requires_grad]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model, x, y).backward(inputs=needed)
        optimizer.step()

    return step
