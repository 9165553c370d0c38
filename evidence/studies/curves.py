"""Small one-dimensional regressions, many at once: a stack of networks, each with its own data and its own λ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evidence.runs.old.stack import Stack
from lai.factor import BASES, Base, check_choice, check_lam, unchecked_factor
from lai.models import MLP
from lai.schedule import check_count


def curves(stack: Stack, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes of every network of a stack, without graph.

    Parameters
    ----------
    stack : Stack of E networks of one input
    x : Tensor (N,), points for all of them, or (E, N), a row for each

    Returns
    -------
    value, slope : Tensor (E, N), Tensor (E, N)
        In units of y, and of y per x.

    Source: paper, section 3 (the tangent at a point of the curve).

    Examples
    --------
    >>> stack = Stack([MLP(1, (4,), seed=seed) for seed in range(3)])
    >>> value, slope = curves(stack, torch.linspace(-1, 1, 5))
    >>> value.shape, slope.shape
    (torch.Size([3, 5]), torch.Size([3, 5]))
    """
    value, slope = _value_and_slope(stack, _rows("x", x, len(stack)))
    return value.detach(), slope.detach()


def fit_curves(
    models: Sequence[MLP],
    x: Tensor,
    y: Tensor,
    lams: Sequence[float | None],
    *,
    base: Base = "mse",
    steps: int,
    lr: float = 0.01,
) -> Stack:
    """Train networks of one input, each on its own Lai loss, by Adam on all of its points.

    Each takes the path that it would take alone: the stack's loss is a sum over networks, and Adam works on each
    weight by itself.

    Parameters
    ----------
    models : sequence of E MLPs
        Of one architecture, without normalisation. They are copied and stay as they are.
    x, y : Tensor (N,) or (E, N)
        Data for all of them, or a row for each.
    lams : sequence of E entries
        λ of each network, in the units of :func:`lai.lai_factor`; None is the plain loss.
    base : "mse" or "mae"
    steps : int
    lr : float
        Adam's step size.

    Returns
    -------
    Stack
        The trained networks; ``.models()`` takes it apart.

    Raises
    ------
    ValueError, TypeError
        For a wrong λ, shape or option, before anything is trained.
    FloatingPointError
        If the loss stops being finite.

    Source: paper, sections 3 and 3.1; the optimiser is ours.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 20)
    >>> stack = fit_curves([MLP(1, (8,), seed=0)] * 2, x, 2 * x, [None, 0.1], steps=300)
    >>> plain, lai = curves(stack, x)[1].mean(1)
    >>> bool(lai < plain)
    True
    """
    check_choice("base", base, BASES)
    check_count("steps", steps)
    if len(lams) != len(models):
        raise ValueError(f"lams has {len(lams)} entries for {len(models)} models: give one each")
    values = [1.0 if lam is None else check_lam(lam, n_features=1, name="lams") for lam in lams]
    x, y = _rows("x", x, len(models)), _rows("y", y, len(models))
    if x.shape != y.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: they must be the same")
    lam = torch.tensor([float(value) for value in values], dtype=x.dtype)[:, None]
    plain = torch.tensor([value is None for value in lams])[:, None]
    stack = Stack(models)
    optimizer = torch.optim.Adam((p for p in stack.parameters() if p.requires_grad), lr=lr, fused=True)
    for step in range(steps):
        if plain.all():
            value, factor = stack(x[:, None]), torch.ones(())  # no slopes needed, no second derivative paid for
        else:
            value, slope = _value_and_slope(stack, x)
            factor = torch.where(plain, 1.0, unchecked_factor(slope, lam, base))
        e = value - y
        loss = ((e * e if base == "mse" else e.abs()) * factor).mean(1).sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss.item()} at step {step}; try a smaller lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return stack


def _value_and_slope(stack: Stack, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    value = stack(x[:, None])
    # Entry (e, i) depends on x[e, i] alone, so the gradient of the sum holds every slope.
    return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def _rows(name: str, t: Tensor, n: int) -> Tensor:
    if t.ndim == 1:
        t = t.expand(n, -1)
    if t.ndim != 2 or t.shape[0] != n or t.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(t.shape)}: it must be (N,) or ({n}, N)")
    return t
