"""The slope k: exact gradients of a model's output by its input, one sample at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def input_gradient(output: Tensor, inputs: Tensor, *, create_graph: bool | None = None) -> Tensor:
    r"""The derivative of every sample's output by that sample's input.

    One backward pass serves the whole batch: the outputs are summed, and since sample i's output depends on
    sample i's input alone, row i of the sum's gradient is what is wanted. Where samples mix (BatchNorm in
    training mode) it is not, and nothing here can notice: see :func:`assert_independent_samples`.

    Parameters
    ----------
    output : Tensor (N,), (N, 1) or (N, M)
        What the model returned for ``inputs``, with its graph.
    inputs : Tensor (N, *features)
        What the model was given; must have ``requires_grad=True``. Its ``.grad`` is never touched.
    create_graph
        Whether the result can be differentiated again, as training on it needs. Default: whether gradients
        are on (``torch.is_grad_enabled()``), so the result is plain under ``no_grad``.

    Returns
    -------
    Tensor
        (N, \*features) for (N,) and (N, 1), (N, M, \*features) for M outputs, one pass each; in units of the
        output per unit of the input. Zero where the output does not depend on the input.

    Raises
    ------
    ValueError
        If the batch sizes differ, ``inputs`` does not require gradients, or no graph was recorded because
        the output was computed under ``no_grad``.

    Source: paper, section 3 (k as the tangent's slope) and section 3.2 (one slope per direction).

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> y = x[:, 0] ** 2 + 5 * x[:, 1]
    >>> input_gradient(y, x, create_graph=False)
    tensor([[2., 5.],
            [6., 5.]])
    """
    if not isinstance(output, Tensor) or not isinstance(inputs, Tensor):
        raise TypeError(f"output and inputs must be tensors, not {type(output).__name__} and {type(inputs).__name__}")
    if inputs.ndim == 0 or output.ndim == 0 or output.shape[0] != inputs.shape[0]:
        raise ValueError(
            f"output has shape {tuple(output.shape)} and inputs {tuple(inputs.shape)}: "
            "both must begin with the same batch size N"
        )
    if output.ndim > 2 or output.shape[1:] == (0,):
        raise ValueError(f"output has shape {tuple(output.shape)}: it must be (N,), (N, 1) or (N, M)")
    if not inputs.requires_grad:
        raise ValueError(
            "inputs.requires_grad is False: call inputs.requires_grad_() before the model, "
            "or use value_and_input_gradient(model, inputs)"
        )
    if output.ndim == 2 and output.shape[1] != 1:
        columns = [input_gradient(c, inputs, create_graph=create_graph) for c in output.unbind(1)]
        return torch.stack(columns, dim=1)
    if create_graph is None:
        create_graph = torch.is_grad_enabled()
    if not output.requires_grad:
        if not torch.is_grad_enabled():
            raise ValueError(
                "output carries no graph: it was computed under no_grad or inference_mode; "
                "use value_and_input_gradient(model, inputs), which works there"
            )
        warnings.warn("output carries no graph: its gradient by the inputs is zero", stacklevel=2)
        return torch.zeros_like(inputs)
    # A graph is kept even if create_graph is off: the caller still has the loss of this output to minimise.
    (grad,) = torch.autograd.grad(
        output,
        inputs,
        grad_outputs=torch.ones_like(output),
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
    )
    return torch.zeros_like(inputs) if grad is None else grad


def value_and_input_gradient(
    model: Callable[[Tensor], Tensor], inputs: Tensor, *, create_graph: bool | None = None
) -> tuple[Tensor, Tensor]:
    """The model's output and its input gradient, wherever it is called.

    Works under ``no_grad`` and ``inference_mode``, leaves ``inputs`` as it was (its ``requires_grad`` and
    ``.grad`` too), and otherwise is :func:`input_gradient` of ``model(inputs)``.

    Parameters
    ----------
    model : callable from (N, *features) to (N,), (N, 1) or (N, M)
    inputs : Tensor (N, *features)
    create_graph
        As in :func:`input_gradient`. If false, both results are detached.

    Returns
    -------
    output, grad : Tensor, Tensor
        Shapes as in :func:`input_gradient`.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode():
    ...     value_and_input_gradient(torch.sin, torch.zeros(2))
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    if create_graph is None:
        create_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x = inputs.clone() if inputs.is_inference() else inputs
        if not (create_graph and x.requires_grad):  # a fresh leaf, so that the caller's tensor stays as it is
            x = x.detach().requires_grad_()
        output = model(x)
        grad = input_gradient(output, x, create_graph=create_graph)
    return (output, grad) if create_graph else (output.detach(), grad.detach())


def assert_independent_samples(model: nn.Module, inputs: Tensor) -> None:
    """Raise if one sample's output depends on another sample's input.

    The Lai loss needs each sample's own slope. A model whose samples mix, such as one with BatchNorm in
    training mode, has no such thing, and :func:`input_gradient` of it is silently wrong.

    The probe differentiates every output by every input (N backward passes; at most the first 16 samples
    are used) in the model's present mode. Buffers, random state and ``.grad`` are left as they were.

    Parameters
    ----------
    model : Module from (N, *features) to (N,), (N, 1) or (N, M)
    inputs : Tensor (N, *features), N >= 2

    Raises
    ------
    RuntimeError
        If samples mix; names the layers that are known to do so, and the ways out.
    ValueError
        If there are fewer than two samples to compare, or a slope is not finite.

    Source: ours; the paper does not mention it. The chapter on coupled samples shows what it does to λ.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    >>> assert_independent_samples(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), x)
    >>> mixing = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    >>> assert_independent_samples(mixing.eval(), x)  # fixed statistics: each sample stands alone
    >>> assert_independent_samples(mixing.train(), x)
    Traceback (most recent call last):
        ...
    RuntimeError: samples are not independent: an output depends on another sample's input. ...
    """
    if inputs.ndim == 0 or inputs.shape[0] < 2:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}: at least 2 samples are needed to compare")
    with _unchanged(model, inputs.device), torch.inference_mode(False), torch.enable_grad():
        x = inputs[:16].clone().detach().requires_grad_()
        output = model(x)
        if output.ndim == 0 or output.shape[0] != x.shape[0]:
            raise ValueError(f"the model returned shape {tuple(output.shape)} for a batch of {x.shape[0]}")
        mixed = output.requires_grad and any(_others_matter(output, x, i) for i in range(x.shape[0]))
    if not mixed:
        return
    norms = [
        f"{name or 'model'} ({type(m).__name__})"
        for name, m in model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.training or m.running_mean is None)
    ]
    cause = f" BatchNorm in training mode: {', '.join(norms)}." if norms else ""
    way_out = (
        "Ways out: GroupNorm or LayerNorm instead of BatchNorm, or lai.FixedStatistics(model), which lai.fit "
        "takes as it is; .eval() on those layers helps in a loop of your own, but lai.fit undoes it."
        if norms
        else "Way out: compute nothing from the other samples of a batch, or detach it."
    )
    raise RuntimeError(
        "samples are not independent: an output depends on another sample's input."
        f"{cause} The summed gradient is then not each sample's own slope, and λ loses its meaning. {way_out}"
    )


def _others_matter(output: Tensor, x: Tensor, i: int) -> bool:
    (grad,) = torch.autograd.grad(output[i].sum(), x, retain_graph=True, allow_unused=True)
    if grad is None:
        return False
    # Exactly zero where samples stand alone: row j then receives nothing but products with zero.
    others = torch.cat([grad[:i], grad[i + 1 :]])
    if not torch.isfinite(others).all():
        raise ValueError(
            "the model's slope is not finite on these inputs, so whether samples are independent cannot be told; "
            "look for a square root, logarithm or division at zero"
        )
    return bool((others != 0).any())


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put buffers (running statistics) and random state back afterwards."""
    before = [(b, b.detach().clone()) for b in model.buffers()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)
