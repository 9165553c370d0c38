"""Every method of the comparison in a few lines: what a batch of its networks minimises.

All work in standardised inputs and targets. ``units`` (d,) says in what units a slope counts: a penalty on k sees
``k * units``, and noise in input j has a standard deviation in proportion to ``units[j]``, since it is the product of
both that moves the output. For raw units they are 1 / sd_j.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lai import lai_loss

from .networks import CentredNetworks, LipschitzNetworks, Networks


@dataclass
class Batch:
    """What a loss sees of a step, for E networks.

    Attributes
    ----------
    net : Networks
    x, y : Tensor (E, N, d) and (E, N)
        ``x`` requires a gradient.
    strength : Tensor (E,)
    units : Tensor (E, d)
    slope : Tensor (E, N, d), optional
        The true derivatives, where they are known.
    progress : float
        Share of the training that is done, in [0, 1).
    """

    net: Networks
    x: Tensor
    y: Tensor
    strength: Tensor
    units: Tensor
    slope: Tensor | None
    progress: float

    def error(self, output: Tensor) -> Tensor:
        """Squared errors (E, N)."""
        return (output - self.y).square()

    def output_and_k(self) -> tuple[Tensor, Tensor]:
        """Outputs (E, N) and slopes (E, N, d) in the units that count."""
        output = self.net(self.x)
        (k,) = torch.autograd.grad(output.sum(), self.x, create_graph=True)
        return output, k * self.units[:, None, :]


Loss = Callable[[Batch], Tensor]  # to the losses (E,)


@dataclass(frozen=True)
class Method:
    """A method with its range of strengths.

    Attributes
    ----------
    name : str
    loss : callable, see ``Loss``
    strengths : (float, float)
        The weakest and the strongest, between which trials are spaced evenly in the logarithm.
    unit_choices : tuple of str
        Of "standardised", "raw" and "free" (drawn anew for each trial), those that are tried, each as a method of its own.
    alpha : float
        Share of the batches that take ``loss``; MSE elsewhere.
    pretrain : float
        Share of the training that is MSE, before all this.
    networks : type
    exact_units : bool
        Whether a method reads slopes in absolute units, as a Lai loss does; others have them scaled to a mean square of 1.
        λ is then given in multiples of the root mean square of the units.
    kind : str
        "loss" as above; "length" where the strength is the share of the steps that are made, "shrink" where it is what
        MSE's outputs are multiplied by.
    source : str
    """

    name: str
    loss: Loss
    strengths: tuple[float, float]
    source: str
    unit_choices: tuple[str, ...] = ("standardised",)
    alpha: float = 1.0
    pretrain: float = 0.0
    networks: type[Networks] = Networks
    exact_units: bool = False
    kind: str = "loss"


def mse(b: Batch) -> Tensor:
    """e²."""
    return b.error(b.net(b.x)).mean(1)


def weight_decay(b: Batch) -> Tensor:
    """e² + β‖W‖²/2 over the matrices of the layers."""
    return mse(b) + b.strength / 2 * sum(w.square().sum((1, 2)) for w in b.net.weights)


def dropout(b: Batch) -> Tensor:
    """e², with a share of the hidden units left out."""
    return b.error(b.net(b.x, drop=b.strength)).mean(1)


def input_noise(b: Batch) -> Tensor:
    """e², with Gaussian noise on the inputs."""
    noise = b.strength[:, None, None] * b.units[:, None, :] * torch.randn_like(b.x)
    return b.error(b.net(b.x + noise)).mean(1)


def slope_penalty(b: Batch) -> Tensor:
    """e² + β‖k‖²."""
    output, k = b.output_and_k()
    return (b.error(output) + b.strength[:, None] * k.square().sum(2)).mean(1)


def double_backpropagation(b: Batch) -> Tensor:
    """e² + β‖∂e²/∂x‖², and ∂e²/∂x = 2 e k."""
    output, k = b.output_and_k()
    error = b.error(output)
    return (error + b.strength[:, None] * 4 * error * k.square().sum(2)).mean(1)


def finite_differences(b: Batch, step: float = 0.01) -> Tensor:
    """e² + β‖k‖², the norm as the difference quotient along k, so that no second derivative is needed."""
    output = b.net(b.x)
    (k,) = torch.autograd.grad(output.sum(), b.x, retain_graph=True)
    k = k * b.units[:, None, :]
    direction = k / k.norm(dim=2, keepdim=True).clamp(min=1e-12)
    ahead = b.net(b.x.detach() + step * direction * b.units[:, None, :])
    return (b.error(output) + b.strength[:, None] * ((ahead - output) / step).square()).mean(1)


def curvature(b: Batch) -> Tensor:
    """e² + β‖H‖², by one random vector of signs; both of its indices in the units that count."""
    output, k = b.output_and_k()
    signs = torch.randint(0, 2, k.shape) * 2.0 - 1
    (row,) = torch.autograd.grad((k * signs).sum(), b.x, create_graph=True)
    return (b.error(output) + b.strength[:, None] * (row * b.units[:, None, :]).square().sum(2)).mean(1)


def lipschitz(b: Batch) -> Tensor:
    """e² of a network whose slope is bounded by the strength."""
    return b.error(lipschitz_output(b.net, b.x, b.strength, b.units)).mean(1)


def lipschitz_output(net: Networks, x: Tensor, strength: Tensor, units: Tensor) -> Tensor:
    """Outputs whose slopes, times ``units``, have a norm of at most ``strength``."""
    return strength[:, None] * net(x / units[:, None, :])


def sobolev(b: Batch) -> Tensor:
    """e² + β‖k - true slope‖²."""
    assert b.slope is not None
    output, k = b.output_and_k()
    return (b.error(output) + b.strength[:, None] * (k - b.slope * b.units[:, None, :]).square().sum(2)).mean(1)


def lai(**options: Any) -> Loss:
    """:func:`lai.lai_loss` with the strength as λ, normalised, so that the step size means the same for every d."""

    def loss(b: Batch) -> Tensor:
        output, k = b.output_and_k()
        return _lai_losses(output, b.y, k, b.strength, options)

    return loss


def lai_warmed(b: Batch) -> Tensor:
    """λ goes from 1 to its value over the first half of the training, evenly in the logarithm."""
    output, k = b.output_and_k()
    return _lai_losses(output, b.y, k, b.strength ** min(1.0, 2 * b.progress), {})


def lai_floor(b: Batch) -> Tensor:
    """(e² + floor) · factor: points that are met exactly are smoothed as well."""
    output, k = b.output_and_k()
    return _lai_losses(output, b.y, k, b.strength, {"base": _floored})


def lai_tangent(b: Batch) -> Tensor:
    r"""e² · ‖max(\|k\|, λ)‖ / (√d λ): the Lai factor divided by cos θ, whose pull does not fade as the slope grows."""
    output, k = b.output_and_k()
    return (b.error(output) * _tangents(k, b.strength)).mean(1)


def lai_tangent_floor(b: Batch) -> Tensor:
    r"""(e² + floor) · ‖max(\|k\|, λ)‖ / (√d λ)."""
    output, k = b.output_and_k()
    return ((b.error(output) + FLOOR) * _tangents(k, b.strength)).mean(1)


FLOOR = 0.1
"""Of the squared error, in units of the target's variance."""


def _floored(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square() + FLOOR


def _tangents(k: Tensor, lam: Tensor) -> Tensor:
    bounded = torch.maximum(k.abs(), lam[:, None, None])
    return bounded.square().mean(2).sqrt() / lam[:, None]


def _lai_losses(output: Tensor, y: Tensor, k: Tensor, lam: Tensor, options: dict[str, Any]) -> Tensor:
    def one(output: Tensor, y: Tensor, k: Tensor, lam: Tensor) -> Tensor:
        return lai_loss(output, y, k, lam=lam, normalize=True, **options)

    return torch.vmap(one)(output, y, k, lam)


UNITS = ("standardised", "raw", "free")
"""In which every method that measures slopes is tried."""

_LAM = (1.0, 0.003)

METHODS = {
    m.name: m
    for m in (
        Method("MSE", mse, (1.0, 1.0), "the reference"),
        Method("early stopping", mse, (1.0, 0.02), "fewer steps, as a hyperparameter", kind="length"),
        Method("weight decay", weight_decay, (1e-4, 0.1), "torch.optim.Adam's weight_decay, on weights"),
        Method("dropout", dropout, (0.03, 0.6), "Srivastava and others, 2014"),
        Method("output shrinkage", mse, (1.0, 0.3), "none: what lowers slope and variance at no cost in training", kind="shrink"),
        Method("input noise", input_noise, (0.03, 1.5), "Bishop, 1995", UNITS),
        Method("gradient centralisation", mse, (1.0, 1.0), "Yong and others, 2020", networks=CentredNetworks),
        Method("slope penalty", slope_penalty, (1e-3, 3.0), "the squared norm of the slope", UNITS),
        Method("double backpropagation", double_backpropagation, (0.01, 10.0), "Drucker and Le Cun, 1992", UNITS),
        Method("finite differences", finite_differences, (1e-3, 3.0), "Finlay and Oberman, 2021", UNITS),
        Method("curvature penalty", curvature, (1e-3, 10.0), "section 4 of the paper", UNITS),
        Method("Lipschitz network", lipschitz, (10.0, 0.3), "Anil, Lucas and Grosse, 2019", UNITS, networks=LipschitzNetworks),
        Method("Sobolev training", sobolev, (1e-3, 10.0), "Czarnecki and others, 2017", UNITS),
        Method("slope penalty, α = 10 %", slope_penalty, (0.01, 30.0), "as above, in few batches", UNITS, alpha=0.1),
        Method("slope penalty, α = 1 %", slope_penalty, (0.1, 300.0), "as above, in few batches", UNITS, alpha=0.01),
        Method("Lai", lai(), _LAM, "the paper, L2", UNITS, exact_units=True),
        Method("Lai, L1", lai(norm="l1"), _LAM, "the paper", UNITS, exact_units=True),
        Method("Lai, elastic", lai(norm="elastic", l1_ratio=0.5), _LAM, "the paper", UNITS, exact_units=True),
        Method("Lai, α = 10 %", lai(), (0.5, 0.001), "the paper, section 5", UNITS, alpha=0.1, exact_units=True),
        Method("Lai, α = 1 %", lai(), (0.1, 1e-4), "the paper, section 5", UNITS, alpha=0.01, exact_units=True),
        Method("Lai Training", lai(), (0.1, 1e-5), "half MSE, then α = 1 %", UNITS, alpha=0.01, pretrain=0.5, exact_units=True),
        Method("Lai, λ warmed up", lai_warmed, _LAM, "ours", UNITS, exact_units=True),
        Method("Lai, floor under the error", lai_floor, _LAM, "ours", UNITS, exact_units=True),
        Method("Lai, tangent", lai_tangent, (3.0, 0.03), "ours", UNITS, exact_units=True),
        Method("Lai, tangent and floor", lai_tangent_floor, (3.0, 0.03), "ours", UNITS, exact_units=True),
    )
}  # fmt: skip
