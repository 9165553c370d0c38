"""Models that mix the samples of a batch: the whole Jacobian, and what the sum trick makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from lai.gradient import value_and_input_gradient

if TYPE_CHECKING:
    import pandas as pd


def batch_jacobian(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""Every output of a batch differentiated by every input of it, one backward pass an output.

    Parameters
    ----------
    model : callable from (N, \*features) to (N,) or (N, 1)
        In its present mode; called once, so in training mode BatchNorm's running statistics move.
    x : Tensor (N, \*features)

    Returns
    -------
    Tensor (N, N, \*features)
        Entry [m, i] is d output_m / d x_i, in units of the output per unit of the input. The blocks [i, i] are each
        sample's own slope; where samples stand alone all others are zero.

    Raises
    ------
    ValueError
        If the model does not return one number for each sample.

    Source: ours; the paper (section 3.2) takes for granted that the other blocks are zero.

    Examples
    --------
    >>> import torch
    >>> batch_jacobian(lambda x: 2 * (x - x.mean()), torch.tensor([1.0, 4.0]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        output = model(leaf)
        if output.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(f"the model returned shape {tuple(output.shape)} for a batch of {len(x)}: one number each")
        rows = []
        for value in output.flatten():
            grads = (
                torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
                if value.requires_grad
                else [None]
            )
            rows.append(torch.zeros_like(leaf) if grads[0] is None else grads[0])
    return torch.stack(rows).detach()


class Mixing(NamedTuple):
    r"""What :func:`mixing` finds. ``own`` and ``summed`` have shape (N, \*features).

    ``own`` is each sample's own slope, ``summed`` what the sum trick returns for it, ``error`` the root mean square of
    their difference over that of ``own`` (0 where samples stand alone, 1 where nothing of the slope is left), and
    ``mixes`` whether any output moves with another sample's input at all.
    """

    own: Tensor
    summed: Tensor
    error: float
    mixes: bool


def mixing(jacobian: Tensor) -> Mixing:
    r"""How far a batch's samples mix, from its Jacobian (N, N, \*features).

    Source: ours.

    Examples
    --------
    >>> import torch
    >>> found = mixing(batch_jacobian(lambda x: 2 * (x - x.mean()), torch.tensor([1.0, 4.0])))
    >>> found.own, found.summed, found.error
    (tensor([1., 1.]), tensor([0., 0.]), 1.0)
    """
    n = len(jacobian)
    if jacobian.ndim < 2 or jacobian.shape[1] != n:
        raise ValueError(f"jacobian has shape {tuple(jacobian.shape)}: it must be (N, N, *features)")
    diagonal = torch.arange(n, device=jacobian.device)
    own, summed = jacobian[diagonal, diagonal], jacobian.sum(0)
    others = jacobian.clone()
    others[diagonal, diagonal] = 0
    size = own.double().square().sum()
    error = ((summed - own).double().square().sum() / size).sqrt() if size > 0 else torch.zeros(())
    return Mixing(own, summed, float(error), bool((others != 0).any()))


def contamination(model: nn.Module, x: Tensor) -> pd.DataFrame:
    """How far the summed gradient is from the true one, feature by feature, in training mode.

    Parameters
    ----------
    model : Module from (N, d) to (N,) or (N, 1)
    x : Tensor (N, d)
        One training batch.

    Returns
    -------
    DataFrame
        A row a feature: ``summed``, the root mean square over the batch of d(Σ output)/dx_ij as training takes
        it; ``own``, that of each sample's own slope d output_i/dx_ij with the batch's statistics held fixed;
        and their ``ratio``. In target per unit of the feature.

    Source: ours; see the protocol "published".

    Examples
    --------
    >>> from lai import MLP
    >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(contamination(MLP(2, (8,), norm="batch", seed=0), x)["ratio"].max() < 0.9)
    True
    >>> contamination(MLP(2, (8,), norm="layer", seed=0), x)["ratio"].tolist()  # no coupling: the same
    [1.0, 1.0]
    """
    probe = copy.deepcopy(model).train()
    _, summed = value_and_input_gradient(probe, x, create_graph=False)
    frozen = copy.deepcopy(model).train()
    for module in frozen.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # the next pass sets the running statistics to this batch's own
    with torch.no_grad():
        frozen(x)
    frozen.eval()
    _, own = value_and_input_gradient(frozen, x, create_graph=False)
    import pandas as pd

    columns = {n: g.double().square().mean(0).sqrt().cpu() for n, g in (("summed", summed), ("own", own))}
    return pd.DataFrame(columns).assign(ratio=lambda t: t["summed"] / t["own"])
