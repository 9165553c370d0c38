"""What keeps slopes from being trained on, found before it fails or is silently wrong, with the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node

WAYS_OUT = {
    r"(?i)scaled_?dot_?product|_attention": "fused attention has no second derivative; "
    "run the model under torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    r"(?i)cudnn_?rnn": "cuDNN's recurrent layers have no second derivative; "
    "run the model under torch.backends.cudnn.flags(enabled=False)",
    r"CompiledFunctionBackward|aot_autograd|donated buffers": "a compiled model has no second derivative; "
    "compile lai.WithSlopes(model), whose slopes are part of the program",
    r"use_reentrant|[Cc]heckpoint": "reentrant checkpointing gives no gradient with respect to the input; "
    "call torch.utils.checkpoint.checkpoint with use_reentrant=False",
    r"_DDPSinkBackward": "DistributedDataParallel(static_graph=True) takes the slopes' pass for the step's and averages "
    "no gradients; wrap lai.WithSlopes(model) instead, which returns outputs and slopes",
    r"RegisterPostBackwardFunction": "FSDP frees a sharded layer's weights before the second derivative needs them; "
    "call fully_shard on lai.WithSlopes(model) as a whole and on no layer inside",
}
"""What autograd's nodes or errors say, why it cannot be trained on, and what to do."""

NO_DERIVATIVE = (
    "the model holds an operation without a second derivative; "
    "write it in differentiable operations, or give its backward a derivative of its own"
)
"""The same of whatever is not in ``WAYS_OUT``."""

# The ways out of a loss that is not finite, and of a batch of one sample.
CALMER = "try a smaller lr, a λ nearer to 1, or scaled inputs"
TOO_SHORT = "which BatchNorm cannot normalise; use drop_last=True or another size"


def _way_out(text: str) -> str:
    why = next((why for pattern, why in WAYS_OUT.items() if re.search(pattern, text)), NO_DERIVATIVE)
    return f"the slopes cannot be trained on: {why}"


@contextmanager
def explained() -> Iterator[None]:
    """Torch's errors that belong to second derivatives, with cause and remedy; others pass as they are."""
    try:
        yield
    except RuntimeError as error:
        if any(re.search(pattern, str(error)) for pattern in (*WAYS_OUT, "is not implemented|once_differentiable")):
            raise RuntimeError(_way_out(str(error))) from error
        raise


def _nodes(tensors: Iterable[Tensor], until: tuple[Tensor, ...]) -> Iterator[Node]:
    """The graph of ``tensors``, as far as that of ``until``."""
    seen = {t.grad_fn for t in until}
    waiting = [t.grad_fn for t in tensors]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [following for following, _ in node.next_functions]


def leaves(output: Tensor, until: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """The tensors that receive a gradient from ``output``."""
    return (node.variable for node in _nodes([output], until) if hasattr(node, "variable"))


def refuse_dead_ends(slopes: list[Tensor], xs: tuple[Tensor, ...] = (), ones: Tensor | None = None) -> None:
    """Raise where the slopes' second derivative would fail in the loss's backward, or would silently be left out.

    Slopes are linear in the ``ones`` that were pulled back, where they are given: if they do not depend on them, a
    backward in between was cut.
    """
    nodes = {node: node.name() for node in _nodes(slopes, xs)}
    whole = ones is None or any(getattr(node, "variable", None) is ones for node in nodes)
    dead = ("NotImplemented", "Error", "CompiledFunctionBackwardBackward")
    if not whole or any(name.endswith(dead) for name in nodes.values()):
        raise RuntimeError(_way_out(" ".join(sorted(nodes.values()))))


def refuse_a_cut_branch(slopes: list[Tensor], ones: Tensor, of_thrice: list[Tensor]) -> None:
    """Raise where a backward was cut on one of several ways from the output to the input.

    Slopes k are linear in ``ones``, so Σ ones · ∂(Σ k · constant k) / ∂ones is Σ k², and less where something was cut. Slopes
    ``of_thrice`` the ones tell how far rounding carries: nothing is said of those that are lost in it.
    """
    square = sum(k.detach().square().sum() for k in slopes)
    lost = sum((t - 3 * k.detach()).square().sum() for k, t in zip(slopes, of_thrice, strict=True))
    if not 0 < lost + square < torch.inf or lost > 1e-10 * square:
        return
    with explained():
        (back,) = torch.autograd.grad(sum((k * k.detach()).sum() for k in slopes), ones, retain_graph=True)  # type: ignore[arg-type]
    if (back * ones.detach()).sum() < 0.99 * square:
        raise RuntimeError(_way_out(""))


def refuse_wrappers(output: Tensor, xs: tuple[Tensor, ...]) -> None:
    """Raise where a distributed wrapper around the bare model would make the gradients wrong."""
    for node in _nodes([output], xs):
        name = node.name()
        static = name == "_DDPSinkBackward" and node.ddp_weakref().static_graph  # type: ignore[attr-defined]
        if static or name == "RegisterPostBackwardFunctionBackward":
            raise RuntimeError(_way_out(name))
