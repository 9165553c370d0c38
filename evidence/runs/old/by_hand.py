"""The layers' derivatives written out, so that a Lai step needs one backward pass and no double one.

With k computed by the chain rule as part of the forward pass, autograd differentiates output and k together. Every
function here agrees with autograd's own double backward (tested in float64).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def activate(layer: nn.Module, u: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """An activation, and the chain rule through it: what multiplies a gradient by its derivative. Both differentiable.

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
    if isinstance(layer, nn.ReLU):
        a = torch.relu_(u)
        sign = a.detach()  # the derivative is constant; 0 at 0, as autograd has it
        return a, lambda k: torch.ops.aten.threshold_backward(k.expand_as(sign), sign, 0)
    if isinstance(layer, nn.SiLU):
        a, rise = _SiLU.apply(u)
    elif isinstance(layer, nn.Tanh):
        a = torch.tanh(u)
        rise = 1 - a * a
    elif isinstance(layer, nn.Softplus):
        a, rise = layer(u), torch.sigmoid(layer.beta * u)
    else:
        raise TypeError(f"no derivative is written out for {layer}")
    return a, partial(torch.mul, rise)


class _SiLU(torch.autograd.Function):
    """One node instead of five, because most of a step's time would go there."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.sigmoid(u)
        a = u * s
        rest = torch.addcmul(s, a, s, value=-1)
        d = rest + a
        ctx.save_for_backward(s, rest, d)
        return a, d

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_a: Tensor, grad_d: Tensor) -> Tensor:
        s, rest, d = ctx.saved_tensors
        second = rest + d  # d' = (2 d - a)(1 - s), and rest = d - a
        return second.addcmul_(second, s, value=-1).mul_(grad_d).addcmul_(grad_a, d)


def linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """weight · x + bias for many networks, with products in the order that is fast.

    Parameters
    ----------
    weight : Tensor (E, n_out, n_in)
    bias : Tensor (E, n_out, 1) or None
    x : Tensor (E, n_in, B)
    """
    return _Linear.apply(weight, bias, x)


class _Linear(torch.autograd.Function):
    """As autograd has it, but for the order of the products."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x)
        return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias, weight, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        weight, x = ctx.saved_tensors
        # A product with few rows takes half the time of one with few columns.
        by_weight = (x @ grad.mT).mT if x.shape[1] < grad.shape[1] else grad @ x.mT
        by_bias = grad.sum(-1, keepdim=True) if ctx.needs_input_grad[1] else None
        return by_weight, by_bias, weight.mT @ grad if ctx.needs_input_grad[2] else None


def batch_norm(
    z: Tensor,
    gain: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    running: tuple[Tensor, Tensor],
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNorm in training mode, over the last dimension, with what it keeps to itself.

    Several times as fast as torch's own on a CPU, whose loops over the channels are not vectorised.

    Parameters
    ----------
    z : Tensor (..., n_channels, B)
    gain, bias : Tensor (..., n_channels, 1)
    offset : Tensor (..., n_channels, 1), optional
        The bias of the layer before, if ``z`` is without it. It changes the running mean and nothing else.
    running : (mean, var), Tensors (..., n_channels)
        Running statistics, which this updates.
    momentum, eps : float
        As in BatchNorm.

    Returns
    -------
    Tensor (..., n_channels, B)
        The output, (z - mean) / std · gain + bias.
    Tensor (..., n_channels, B)
        z - mean, for :func:`project` alone: its gradient is right only if it comes from there.
    Tensor (..., n_channels, 1)
        1 / std, differentiable.
    """
    return _BatchNorm.apply(z, gain, bias, offset, *running, momentum, eps)


class _BatchNorm(torch.autograd.Function):
    """One node for what would be nine. The gradient by ``centred`` comes already projected, from :class:`_Project`."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        gain: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n = z.shape[-1]
        mean = z.mean(-1, keepdim=True)
        centred = z - mean
        squares = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).square_()
        inverse = (squares / n).add_(eps).rsqrt_()
        running_mean.lerp_((mean if offset is None else mean + offset)[..., 0], momentum)
        running_var.lerp_(squares[..., 0] / (n - 1), momentum)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gain, centred, inverse)
        return (centred * (gain * inverse)).add_(bias), centred, inverse

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, projected: Tensor | None, grad_inverse: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        gain, centred, inverse = ctx.saved_tensors
        grad = torch.zeros_like(centred) if grad is None else grad
        n = centred.shape[-1]
        grad_bias = grad.sum(-1, keepdim=True)
        grad_gain = (grad * centred).sum(-1, keepdim=True) * inverse
        # A constant added to z changes nothing, nor (but for eps) does a factor: the gradient by z has no such part.
        along = gain * grad_gain
        if grad_inverse is not None:  # 1 / std falls by (z - mean) / (n std^3) as a sample moves out
            along = along + grad_inverse * inverse
        by_z = (grad - grad_bias / n).mul_(gain * inverse).addcmul_(centred, along * inverse.square() / n, value=-1)
        if projected is not None:
            by_z.addcmul_(projected, inverse)
        # 0 and not None: to Adam's moments these are not the same.
        offset = torch.zeros_like(gain) if ctx.needs_input_grad[3] else None
        return by_z, grad_gain, grad_bias, offset, None, None, None, None


def project(p: Tensor, centred: Tensor, inverse: Tensor) -> Tensor:
    """What BatchNorm lets through of the gradient of summed outputs, to be divided by the spread.

    The batch's mean and spread depend on every sample, so the gradient ``p`` by the normalised values u loses what it has
    in common with a constant and with these values: p - mean(p) - u mean(p u). (A sample's own slope, with both held
    fixed, loses nothing.)

    Parameters
    ----------
    p : Tensor (..., n_channels, B)
    centred, inverse : Tensors (..., n_channels, B) and (..., n_channels, 1)
        From :func:`batch_norm`; u is their product.
    """
    return _Project.apply(p, centred, inverse)


def _projected(p: Tensor, centred: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    along = (p * centred).mean(-1, keepdim=True) * inverse
    return (p - p.mean(-1, keepdim=True)).addcmul_(centred, along * inverse, value=-1), along


class _Project(torch.autograd.Function):
    """One node instead of seven."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, centred: Tensor, inverse: Tensor) -> Tensor:
        out, along = _projected(p, centred, inverse)
        ctx.save_for_backward(centred, inverse, along, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        centred, inverse, along, out = ctx.saved_tensors
        # A projection is its own transpose, so p gets what the forward pass does to it.
        grad_p, mixed = _projected(grad, centred, inverse)
        # By u it is -(grad along + p mixed); BatchNorm's backward pass would project that, and it is linear.
        return grad_p, (grad_p * -along).addcmul_(out, mixed, value=-1), None


def norm_of_data(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    gain: Tensor,
    bias: Tensor,
    running: tuple[Tensor, Tensor],
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A linear layer of data and BatchNorm in training mode after it, as one product of the data with few rows.

    The batch's mean and spread of every channel follow from the mean and covariance of the few features, so no pass over
    the many channels is needed but the product itself.

    Parameters
    ----------
    x : Tensor (E, n_in, B)
        Data: it gets no gradient.
    weight, offset : Tensors (E, n_out, n_in) and (E, n_out, 1)
        Of the linear layer. The offset changes the running mean and nothing else; it gets no gradient.
    gain, bias, running, momentum, eps
        As in :func:`batch_norm`.

    Returns
    -------
    Tensor (E, n_out, B)
        The output.
    scaled, unit : Tensors (E, n_out, n_in)
        What the centred data are multiplied by: weight / std · gain and weight / std.
    centred : Tensor (E, n_in, B)
        The data less their mean.
    """
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    covariance = centred @ centred.mT / x.shape[-1]
    var = ((weight @ covariance) * weight).sum(-1, keepdim=True)
    with torch.no_grad():
        running[0].lerp_((weight * mean.mT).sum(-1) + offset[..., 0], momentum)
        running[1].lerp_(var[..., 0] * (x.shape[-1] / (x.shape[-1] - 1)), momentum)
    unit = weight * (var + eps).rsqrt()
    scaled = unit * gain
    return linear(scaled, bias, centred), scaled, unit, centred


def project_to_data(p: Tensor, scaled: Tensor, unit: Tensor, centred: Tensor) -> Tensor:
    """The chain rule through :func:`norm_of_data` for summed outputs: :func:`project`, then the linear layer.

    Parameters
    ----------
    p : Tensor (E, n_out, B)
    scaled, unit, centred
        From :func:`norm_of_data`.

    Returns
    -------
    Tensor (E, n_in, B)
    """
    n = centred.shape[-1]
    straight, products, total = _Through.apply(p, scaled, centred)
    along = (products * unit).sum(-1, keepdim=True) / n
    level = (scaled.mT * (total / n).mT).sum(-1, keepdim=True)
    return torch.baddbmm(straight - level, scaled.mT @ (along * unit), centred, alpha=-1)


class _Through(torch.autograd.Function):
    """p brought to the features, its products with the data, and its sum over them.

    Backward in one pass over the channels instead of three.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, scaled: Tensor, centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(p, scaled, centred)
        return scaled.mT @ p, (centred @ p.mT).mT, p.sum(-1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, by_products: Tensor, by_sum: Tensor) -> tuple[Tensor, Tensor, None]:
        p, scaled, centred = ctx.saved_tensors
        by_p = torch.baddbmm(by_sum, torch.cat([scaled, by_products], -1), torch.cat([grad, centred], 1))
        return by_p, (grad @ p.mT).mT, None


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
    """g' = 2 k / (1 + k²)² on the steep side, -λ times that on the flat one; their mean at the boundary.

    All of it divided by min(1, λ), which makes the least value of g 1 / (1 + λ) up to λ = 1, and λ / (1 + λ) beyond: never 0.
    """

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
