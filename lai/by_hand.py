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

    Raises
    ------
    TypeError
        For another layer.
    """
    if isinstance(layer, nn.SiLU):
        return _SiLU.apply(u)
    if isinstance(layer, nn.ReLU):
        a = torch.relu(u)
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


class _Normalize(torch.autograd.Function):
    """One node that gives the spread as well, which BatchNorm's own keeps to itself."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, running: tuple[Tensor, Tensor], momentum: float, eps: float
    ) -> tuple[Tensor, Tensor]:
        rows = z.reshape(1, -1, z.shape[-1])
        unit, mean, inverse = torch.native_batch_norm(rows, None, None, *running, True, momentum, eps)
        ctx.save_for_backward(rows, unit, mean, inverse)
        ctx.eps = eps
        return unit.view_as(z), inverse.view(*z.shape[:-1], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_unit: Tensor, grad_inverse: Tensor) -> tuple[Tensor, None, None, None]:
        rows, unit, mean, inverse = ctx.saved_tensors
        grad, _, _ = torch.ops.aten.native_batch_norm_backward(
            grad_unit.reshape(rows.shape), rows, None, None, None, mean, inverse, True, ctx.eps, [True, False, False]
        )
        # The spread's own derivative: 1 / std falls by unit / (n std^2) as a sample moves out.
        push = grad_inverse.reshape(1, -1, 1) * inverse.square().view(1, -1, 1) / rows.shape[-1]
        return torch.addcmul(grad, unit, push, value=-1).view(grad_unit.shape), None, None, None


def normalize(z: Tensor, running: tuple[Tensor, Tensor], momentum: float, eps: float) -> tuple[Tensor, Tensor]:
    """BatchNorm in training mode without its weights: (z - mean) / std over the last dimension, and 1 / std.

    Parameters
    ----------
    z : Tensor (..., n_channels, B)
    running : (mean, var), Tensors with a value for each channel
        Running statistics, which this updates.
    momentum, eps : float
        As in BatchNorm.

    Returns
    -------
    Tensors (..., n_channels, B) and (..., n_channels, 1), both differentiable
    """
    return _Normalize.apply(z, running, momentum, eps)


def back_through_batch(p: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of summed outputs by the input of :func:`normalize`, from the one by its output.

    The batch's mean and spread depend on every sample, so it loses what ``p`` has in common with a constant and with
    ``unit``: (p - mean(p) - unit mean(p unit)) / std. (A sample's own slope, with both held fixed, is p / std.)

    Parameters
    ----------
    p, unit : Tensor (..., n_channels, B)
    inverse : Tensor (..., n_channels, 1)
    """
    return _BackThroughBatch.apply(p, unit, inverse)


class _BackThroughBatch(torch.autograd.Function):
    """One node instead of eight."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
        along = (p * unit).mean(-1, keepdim=True)
        out = torch.addcmul(p - p.mean(-1, keepdim=True), unit, along, value=-1).mul_(inverse)
        ctx.save_for_backward(p, unit, inverse, along, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p, unit, inverse, along, out = ctx.saved_tensors
        grad_inverse = (grad * out).sum(-1, keepdim=True) / inverse
        mixed = (grad * unit).mean(-1, keepdim=True)
        # A projection is its own transpose, so p gets what the forward pass does to it.
        grad_p = torch.addcmul(grad - grad.mean(-1, keepdim=True), unit, mixed, value=-1).mul_(inverse)
        grad_unit = (grad * -(along * inverse)).addcmul_(p, mixed * inverse, value=-1)
        return grad_p, grad_unit, grad_inverse


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
