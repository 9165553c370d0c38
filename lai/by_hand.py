"""The layers' derivatives written out, so that a Lai step needs one backward pass and no double one.

With k computed by the chain rule as part of the forward pass, autograd differentiates output and k together. Every
function here agrees with autograd's own double backward (tested in float64).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def activate(layer: nn.Module, u: Tensor) -> tuple[Tensor, Tensor]:
    """An activation and its derivative, both differentiable.

    Parameters
    ----------
    layer : SiLU, ReLU, Tanh or Softplus
    u : Tensor of any shape
        ReLU writes its result here.

    Raises
    ------
    TypeError
        For another layer.
    """
    if isinstance(layer, nn.SiLU):
        return _SiLU.apply(u)
    if isinstance(layer, nn.ReLU):
        a = torch.relu_(u)
        return a, a.detach().sign()  # as autograd has it: 0 at 0, and constant
    if isinstance(layer, nn.Tanh):
        a = torch.tanh(u)
        return a, 1 - a * a
    if isinstance(layer, nn.Softplus):
        return layer(u), torch.sigmoid(layer.beta * u)
    raise TypeError(f"no derivative is written out for {layer}")


class _SiLU(torch.autograd.Function):
    """One node instead of five, because most of a step's time would go there."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(u)
        rest = 1 - s
        a = u * s
        d = torch.addcmul(s, a, rest)
        ctx.save_for_backward(s, rest, a, d)
        return a, d

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_d: Tensor) -> Tensor:
        s, rest, a, d = ctx.saved_tensors
        second = torch.addcmul(s, a, s, value=-1).add_(d).mul_(rest)  # d' = (s + d - a s)(1 - s)
        return second.mul_(grad_d).addcmul_(grad_a, d)


def linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """weight · x + bias for many networks, with products in the order that is fast.

    Parameters
    ----------
    weight : Tensor (E, n_out, n_in)
    bias : Tensor (E, n_out, 1)
    x : Tensor (E, n_in, B)
    """
    return _Linear.apply(weight, bias, x)


class _Linear(torch.autograd.Function):
    """As autograd has it, but for the order of the products."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        return torch.baddbmm(bias, weight, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        weight, x = ctx.saved_tensors
        # A product with few rows takes half the time of one with few columns.
        few = x.shape[1] < grad.shape[1]
        by_weight = (x @ grad.mT).mT if few else grad @ x.mT
        return by_weight, grad.sum(-1, keepdim=True), weight.mT @ grad if ctx.needs_input_grad[2] else None


def batch_norm(
    z: Tensor, gain: Tensor, bias: Tensor, running: tuple[Tensor, Tensor], momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNorm in training mode, over the last dimension, with what it keeps to itself.

    Five times as fast as torch's own on a CPU, whose loops over one channel after another are not vectorised.

    Parameters
    ----------
    z : Tensor (..., n_channels, B)
    gain, bias : Tensor (..., n_channels, 1)
    running : (mean, var), Tensors (..., n_channels)
        Running statistics, which this updates.
    momentum, eps : float
        As in BatchNorm.

    Returns
    -------
    Tensor (..., n_channels, B)
        unit · gain + bias
    Tensor (..., n_channels, B)
        unit = (z - mean) / std
    Tensor (..., n_channels, 1)
        1 / std, all three differentiable
    """
    return _BatchNorm.apply(z, gain, bias, *running, momentum, eps)


class _BatchNorm(torch.autograd.Function):
    """One node for what would be nine."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        gain: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = z.shape[-1]
        mean = z.mean(-1, keepdim=True)
        unit = z - mean
        spread = torch.linalg.vector_norm(unit, dim=-1, keepdim=True).square_()
        inverse = (spread / n).add_(eps).rsqrt_()
        unit.mul_(inverse)
        running_mean.lerp_(mean[..., 0], momentum)
        running_var.lerp_(spread[..., 0] / (n - 1), momentum)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gain, unit, inverse)
        return (unit * gain).add_(bias), unit, inverse

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_unit: Tensor | None, grad_inverse: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gain, unit, inverse = ctx.saved_tensors
        n = unit.shape[-1]
        grad = torch.zeros_like(unit) if grad is None else grad
        grad_bias = grad.sum(-1, keepdim=True)
        grad_gain = (grad * unit).sum(-1, keepdim=True)
        inner = grad * gain
        # A constant added to z changes nothing, nor (but for eps) does a factor: the gradient by z has no such part.
        constant, along = gain * grad_bias, gain * grad_gain
        if grad_unit is not None:
            inner.add_(grad_unit)
            constant = constant + grad_unit.sum(-1, keepdim=True)
            along = along + (grad_unit * unit).sum(-1, keepdim=True)
        if grad_inverse is not None:  # 1 / std falls by unit / (n std^2) as a sample moves out
            along = along + grad_inverse * inverse
        inner.sub_(constant / n).addcmul_(unit, along / n, value=-1).mul_(inverse)
        return inner, grad_gain, grad_bias, None, None, None, None


def project(p: Tensor, unit: Tensor) -> Tensor:
    """What BatchNorm lets through of the gradient of summed outputs, to be divided by the spread.

    The batch's mean and spread depend on every sample, so the gradient ``p`` by the normalised values loses what it has
    in common with a constant and with these values: p - mean(p) - unit mean(p unit). (A sample's own slope, with both
    held fixed, loses nothing.)

    Parameters
    ----------
    p, unit : Tensor (..., n_channels, B)
        ``unit`` from :func:`batch_norm`.
    """
    return _Project.apply(p, unit)


def _projected(p: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    along = (p * unit).mean(-1, keepdim=True)
    return (p - p.mean(-1, keepdim=True)).addcmul_(unit, along, value=-1), along


class _Project(torch.autograd.Function):
    """One node instead of six."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, unit: Tensor) -> Tensor:
        out, along = _projected(p, unit)
        ctx.save_for_backward(p, unit, along)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        p, unit, along = ctx.saved_tensors
        # A projection is its own transpose, so p gets what the forward pass does to it.
        grad_p, mixed = _projected(grad, unit)
        return grad_p, (grad * -along).addcmul_(p, mixed, value=-1)


def lai_norm(k: Tensor, lam: Tensor) -> Tensor:
    """The factor of the L2 Lai MSE: the norm over features of g = max(k², λ) / ((1 + k²) min(1, λ)).

    The same as ``lai_factor`` and a norm, at a third of the time; for k² that the dtype can hold.

    Parameters
    ----------
    k : Tensor (E, n_features, B)
    lam : Tensor (E, n_features, 1)

    Returns
    -------
    Tensor (E, B)
    """
    return _LaiNorm.apply(k, lam)


class _LaiNorm(torch.autograd.Function):
    """g' = 2 k / (1 + k²)² on the steep side, -λ times that on the flat one; their mean at the boundary."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, lam: Tensor) -> Tensor:
        square = k * k
        cos = (1 + square).reciprocal_()  # of θ, squared
        low = lam.clamp(max=1)
        side = torch.sign(square - lam)
        g = torch.maximum(square, lam).mul_(cos).div_(low)
        norm = g.square().sum(1, keepdim=True).sqrt_()  # g is bounded below: never near 0
        ctx.save_for_backward(k, lam, cos, side, g, norm)
        return norm[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        k, lam, cos, side, g, norm = ctx.saved_tensors
        low = lam.clamp(max=1)
        rise = torch.addcmul((1 - lam) / low, side, (1 + lam) / low)  # 2/min(1,λ), -2λ/min(1,λ), or their mean
        return rise.mul_(k).mul_(cos).mul_(cos).mul_(g).mul_(grad[:, None] / norm), None
