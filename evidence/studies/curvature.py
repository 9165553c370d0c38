"""Training with the penalty on the second derivative (paper, section 4), many networks at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from evidence.runs.old.stack import Stack
from lai.factor import check_choice, check_lam, lai_factor
from lai.gradient import input_gradient
from lai.penalty import Method, curvature_penalty
from lai.schedule import check_count


def fit_curved(
    stack: Stack,
    x: Tensor,
    y: Tensor,
    *,
    lam: Sequence[float | None],
    weight: Sequence[float],
    steps: int,
    lr: float = 0.01,
    pretrain_steps: int = 0,
    method: Method = "exact",
) -> Tensor:
    r"""Train every network of a stack on its own data, with its own λ and its own weight of the curvature penalty.

    Network i descends on the mean over its points of :math:`e^2 \lVert F\rVert / \sqrt d` (the L2 Lai MSE, divided so
    that flat models have their plain MSE) plus ``weight[i]`` times :func:`curvature_penalty`, by Adam on all points at
    once; the step size falls to zero along a half cosine.

    Parameters
    ----------
    stack : Stack of E networks from d inputs
        Trained in place.
    x, y : Tensor (E, N, d), Tensor (E, N)
    lam : E numbers or None
        None is plain MSE.
    weight : E numbers, 0 or more
        In units that make the penalty one of squared y: of x to the fourth power.
    steps, lr, pretrain_steps
        Adam steps in all, the first step size, and how many of the steps take the plain MSE alone.
    method : "exact" or "hutchinson"

    Returns
    -------
    Tensor (E,)
        Each network's loss at the last step.

    Raises
    ------
    FloatingPointError
        If a loss is not finite.
    ValueError, TypeError
        For shapes that do not match, a λ or a weight out of range.

    Source: paper, sections 3.1, 3.2 and 4.

    Examples
    --------
    >>> import torch
    >>> from lai import MLP
    >>> x = torch.linspace(-1, 1, 16)[:, None].expand(2, 16, 1)
    >>> stack = Stack([MLP(1, (8,), activation="tanh", seed=0)] * 2)
    >>> before = fit_curved(stack, x, x[..., 0] ** 2, lam=[None, 0.5], weight=[0.0, 1e-3], steps=1)
    >>> after = fit_curved(stack, x, x[..., 0] ** 2, lam=[None, 0.5], weight=[0.0, 1e-3], steps=100)
    >>> bool((after < before).all())
    True
    """
    if x.ndim != 3 or y.shape != x.shape[:2] or len(x) != len(stack):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: they must be ({len(stack)}, N, d) "
            f"and ({len(stack)}, N) for {len(stack)} networks"
        )
    for name, given in (("lam", lam), ("weight", weight)):
        if len(given) != len(stack):
            raise ValueError(f"{name} has {len(given)} entries: it must have {len(stack)}, one per network")
    for value in weight:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"weight = {value!r}: must be a finite number, 0 or more")
    check_choice("method", method, ("exact", "hutchinson"))
    check_count("steps", steps, least=1)
    check_count("pretrain_steps", pretrain_steps)
    size, n, d = x.shape
    lai = torch.tensor([value is not None for value in lam])
    lams = torch.tensor([1.0 if value is None else float(check_lam(value)) for value in lam], dtype=x.dtype)
    weights = torch.tensor(weight, dtype=x.dtype)
    rows_lam, rows_lai = lams.repeat_interleave(n)[:, None], lai.repeat_interleave(n)
    inputs = x.detach().reshape(size * n, d).clone().requires_grad_()
    parameters = [p for p in stack.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        output = stack(inputs.view(size, n, d).transpose(1, 2)).reshape(-1)
        loss = (output - y.reshape(-1)).square()
        if step >= pretrain_steps:
            k = input_gradient(output, inputs, create_graph=True)
            factor = torch.linalg.vector_norm(lai_factor(k, rows_lam), dim=1) / math.sqrt(d)
            loss = loss * torch.where(rows_lai, factor, 1.0)
            if weights.any():
                bent = curvature_penalty(output, inputs, grad=k, method=method, generator=generator, reduction="none")
                loss = loss + weights.repeat_interleave(n) * bent
        each = loss.view(size, n).mean(1)
        if not torch.isfinite(each).all():
            raise FloatingPointError(f"loss = {each.tolist()} at step {step}: not finite; try a smaller lr than {lr}")
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad(set_to_none=True)
        each.sum().backward(inputs=parameters)
        optimizer.step()
    return each.detach()
