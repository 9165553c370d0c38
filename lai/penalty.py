"""The second-order remedy of the paper's section 4: a penalty on how fast the slope changes."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .factor import check_choice
from .gradient import NO_GRADIENT, graph_wanted, input_gradient
from .loss import REDUCTIONS, Reduction
from .schedule import check_count

Method = Literal["exact", "hutchinson"]


def curvature_penalty(
    output: Tensor,
    inputs: Tensor,
    *,
    grad: Tensor | None = None,
    method: Method = "exact",
    n_probes: int = 1,
    generator: torch.Generator | None = None,
    reduction: Reduction = "mean",
    create_graph: bool | None = None,
) -> Tensor:
    r"""The squared second derivatives of every sample's output with respect to that sample's input.

    With :math:`H_i` the matrix of second derivatives at sample i, the penalty is :math:`\lVert H_i\rVert_F^2`, the sum
    of its squared entries; for one input, the square of :math:`\mathrm{d}k/\mathrm{d}x`. "exact" takes a backward pass
    through the slope for each input, "hutchinson" ``n_probes`` of them, and is right on average, gradients too: that of
    :math:`\lVert H_i v\rVert^2` over random signs v. Samples must not mix, as for :func:`lai.input_gradient`, and of
    straight pieces (ReLU) the kinks are not seen.

    Parameters
    ----------
    output, inputs : Tensor (N,) or (N, 1), and Tensor (N, \*features), as in :func:`lai.input_gradient`
    grad : Tensor, the shape of ``inputs``, optional
        The slopes with their graph, if :func:`lai.input_gradient` has given them already: one pass less.
    method : "exact" or "hutchinson"
    n_probes : int, random vectors per sample, for "hutchinson" only
    generator : torch.Generator of the random signs, optional, on the device of ``inputs``
    reduction : "mean", "sum" or "none", over the samples
    create_graph : bool, as in :func:`lai.value_and_input_gradient`

    Returns
    -------
    Tensor, a scalar, or (N,) for "none", in units of the output squared per unit of the input to the fourth power

    Source: paper, section 4 ("second-order derivative regularization"), which gives no formula; the estimator is
    Hutchinson's (1989), applied to the square of H.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> y = x[:, 0] ** 3 + x[:, 0] * x[:, 1]  # H = [[6 x0, 1], [1, 0]]
    >>> curvature_penalty(y, x, reduction="none", create_graph=False)
    tensor([ 38., 326.])
    """
    check_choice("method", method, ("exact", "hutchinson"))
    check_choice("reduction", reduction, REDUCTIONS)
    check_count("n_probes", n_probes, least=1)
    if isinstance(output, Tensor) and (output.ndim == 0 or output.numel() != output.shape[0]):
        raise ValueError(f"output has shape {tuple(output.shape)}: it must be (N,) or (N, 1)")
    create_graph = graph_wanted(create_graph)
    if grad is None:
        grad = input_gradient(output, inputs, create_graph=True)
    elif grad.shape != inputs.shape or output.shape[0] != inputs.shape[0]:
        shapes = f"grad has shape {tuple(grad.shape)} and inputs {tuple(inputs.shape)}"
        raise ValueError(f"{shapes}: they must be the same, with the batch size N of the output")
    elif not inputs.requires_grad:
        raise ValueError(NO_GRADIENT)
    elif not grad.requires_grad and output.requires_grad:
        raise ValueError("grad carries no graph: take it with lai.input_gradient(output, inputs, create_graph=True)")

    total = torch.zeros(len(inputs), dtype=grad.dtype, device=grad.device)
    if grad.requires_grad:  # else the slope is a constant, and so is its derivative, zero
        d = grad.shape[1:].numel()
        if method == "exact":
            axes = torch.eye(d, dtype=grad.dtype, device=grad.device).reshape(d, *grad.shape[1:])
            directions = [axis.expand(grad.shape) for axis in axes]
        else:
            how: Any = {"generator": generator, "device": grad.device}
            directions = [2 * torch.randint(0, 2, grad.shape, **how).to(grad.dtype) - 1 for _ in range(n_probes)]
        for v in directions:
            (row,) = torch.autograd.grad(
                grad, inputs, v, create_graph=create_graph, retain_graph=True, allow_unused=True
            )
            if row is not None:
                total = total + row.reshape(len(row), d).square().sum(1)
        if method == "hutchinson":
            total = total / n_probes
    total = total if create_graph else total.detach()
    if reduction == "none":
        return total
    return total.mean() if reduction == "mean" else total.sum()
