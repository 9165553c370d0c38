"""Training with the penalty on the second derivative (paper, section 4), many networks side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.functional import mse_loss

from lai.factor import check_choice, check_lam
from lai.loss import lai_loss
from lai.penalty import Method
from lai.schedule import check_count
from lai.sweep import Network, Objective, Part, Sweep

from .curves import check_finite


def fit_curved(
    models: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    lam: Sequence[float | None],
    weight: Sequence[float],
    steps: int,
    lr: float = 0.01,
    pretrain_steps: int = 0,
    method: Method = "exact",
) -> list[nn.Module]:
    r"""Train every network on its own data, with its own λ and its own weight of the curvature penalty.

    Network i descends on the mean over its points of :math:`e^2 \lVert F\rVert / \sqrt d` (the L2 Lai MSE, divided so
    that flat models have their plain MSE) plus ``weight[i]`` times the penalty of :func:`lai.curvature_penalty`, by Adam
    on all points at once; the step size falls to zero along a half cosine.

    Parameters
    ----------
    models : sequence of E Modules from (N, d) to (N,)
        Of one architecture, without normalisation. They stay as they are.
    x, y : Tensor (E, N, d), Tensor (E, N)
    lam : E numbers or None
        None is plain MSE.
    weight : E numbers, 0 or more
        In units that make the penalty one of squared y: of x to the fourth power.
    steps, lr, pretrain_steps
        Adam steps in all, the first step size, and how many of the steps take the plain MSE alone.
    method : "exact" or "hutchinson"
        As in :func:`lai.curvature_penalty`, with one random vector for each point and step.

    Returns
    -------
    list of E Modules
        The trained copies.

    Raises
    ------
    FloatingPointError
        If the loss of a network is not finite.
    ValueError, TypeError
        For shapes that do not match, a λ or a weight out of range.

    Source: paper, sections 3.1, 3.2 and 4.

    Examples
    --------
    >>> import torch
    >>> from lai import MLP, curvature_penalty
    >>> x = torch.linspace(-1, 1, 16)[:, None].requires_grad_()
    >>> both = x.detach().expand(2, 16, 1)
    >>> models = [MLP(1, (8,), activation="tanh", seed=0)] * 2
    >>> wave = (3 * both[..., 0]).sin()
    >>> trained = fit_curved(models, both, wave, lam=[0.5, 0.5], weight=[0.0, 0.1], steps=100, lr=0.03)
    >>> free, straight = (curvature_penalty(model(x), x).item() for model in trained)
    >>> straight < 0.1 * free
    True
    """
    _check(models, x, y, lam, weight)
    check_choice("method", method, ("exact", "hutchinson"))
    check_count("steps", steps, least=1)
    check_count("pretrain_steps", pretrain_steps)
    sweep = Sweep(models, lr=lr, device="cpu", compile=False)
    directions = _directions(x, method)
    for step in range(steps):
        sweep.set_lr(lr * (1 + math.cos(math.pi * step / steps)) / 2)
        if step < pretrain_steps:
            parts = _parts(x, y, [None] * len(x), [0.0] * len(x), x[:, None])
        else:
            parts = _parts(x, y, lam, weight, next(directions))
        check_finite(sweep.step(*parts), step)
    return sweep.models()


def _check(models: Sequence[nn.Module], x: Tensor, y: Tensor, lam: Sequence[Any], weight: Sequence[Any]) -> None:
    size = len(models)
    if x.ndim != 3 or y.shape != x.shape[:2] or len(x) != size:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: they must be ({size}, N, d) "
            f"and ({size}, N) for {size} networks"
        )
    for name, given in (("lam", lam), ("weight", weight)):
        if len(given) != size:
            raise ValueError(f"{name} has {len(given)} entries: it must have {size}, one per network")
    for value in lam:
        if value is not None:
            check_lam(value)
    for value in weight:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"weight = {value!r}: must be a finite number, 0 or more")


def _directions(x: Tensor, method: Method) -> Iterator[Tensor]:
    """For every step the vectors v of the penalty, the sum of ‖Hv‖² over them: (E, n_vectors, N, d)."""
    size, n, d = x.shape
    axes = torch.eye(d, dtype=x.dtype)[:, None].expand(size, d, n, d)
    generator = torch.Generator().manual_seed(0)
    while True:
        if method == "exact":
            yield axes
        else:
            coin = torch.randint(0, 2, (size, 1, n, d), generator=generator)
            yield (2 * coin - 1).to(x.dtype)


def _parts(
    x: Tensor, y: Tensor, lam: Sequence[float | None], weight: Sequence[float], directions: Tensor
) -> list[Part]:
    """A part for each combination of losses that occurs, so that no network pays for derivatives it has no use for."""
    kinds = [(one is not None, mu > 0) for one, mu in zip(lam, weight, strict=True)]
    lams = torch.tensor([1.0 if one is None else float(one) for one in lam], dtype=x.dtype)
    args = x, y, lams, torch.tensor(weight, dtype=x.dtype), directions
    parts = []
    for kind in dict.fromkeys(kinds):
        rows = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
        parts.append(Part(_objective(*kind), tuple(arg[rows] for arg in args), (True,) * len(args), rows))
    return parts


@cache
def _objective(lai: bool, curved: bool) -> Objective:
    """The loss of networks that take the Lai loss or the plain one, with the penalty or without."""

    def objective(network: Network, x: Tensor, y: Tensor, lam: Tensor, weight: Tensor, directions: Tensor) -> Tensor:
        if not (lai or curved):
            return mse_loss(network(x), y)
        k, product, value = vjp(lambda z: network.value_and_slope(z)[::-1], x, has_aux=True)  # type: ignore[misc]
        loss = lai_loss(value, y, k, lam=lam, normalize=True) if lai else mse_loss(value, y)
        if curved:
            (rows,) = vmap(product)(directions)  # H v, which is v H, as H is symmetric
            loss = loss + weight * rows.square().sum((0, 2)).mean()
        return loss

    return objective
