"""What a training step computes and keeps: products and elements counted as it runs, and formulas for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Counts by torch's own table. Its FlopCounterMode also follows modules, and fails where their input is a leaf."""

    products = 0
    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.products += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        elif not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.elements += max((t.numel() for t in tensors), default=0)
        return out


def _counted(step: Callable[[], object]) -> _Counter:
    with _Counter() as counter:
        step()
    return counter


def count_products(step: Callable[[], object]) -> int:
    """The multiplications and additions in a step's matrix products; the rest, elementwise, is not counted.

    Examples
    --------
    >>> import torch
    >>> count_products(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48
    """
    return _counted(step).products


def count_elements(step: Callable[[], object]) -> int:
    """The elements that a step's other operations go over, of each operation those of its largest tensor.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(2, 3)
    >>> count_elements(lambda: (x * x + 1).sum())  # three operations on six elements
    18
    """
    return _counted(step).elements


def products_by_widths(widths: Sequence[int], *, data: bool = True) -> tuple[int, int]:
    """The multiplications and additions of an MSE step and of a Lai step of fully connected layers, for each sample.

    With P for the product of a layer's weights and one sample, an MSE step takes 3P in each layer: forward, and back to the
    weights and to what came in. It needs no gradient with respect to the data, so in the first layer it takes 2P. A Lai step
    takes 6P, also in the first: forward and back for the slopes, and twice as much to differentiate both. What came into the
    last layer's backward pass is constant, which leaves out one P there. Several outputs have a pass back each.

    Parameters
    ----------
    widths : number of inputs, of units in each hidden layer, and of outputs
    data
        Whether the Lai step has the gradient with respect to the data, which ``backward`` computes where it is not given
        ``inputs``, as the slopes need data that require a gradient. It is used for nothing.

    Returns
    -------
    plain, lai : int

    Examples
    --------
    >>> plain, lai = products_by_widths((8, 256, 256, 1))
    >>> round(lai / plain, 2)
    2.02
    """
    layers = [2 * a * b for a, b in pairwise(widths)]
    back = 3 * sum(layers) - layers[-1]
    return 3 * sum(layers) - layers[0], 3 * sum(layers) + widths[-1] * back - (0 if data else layers[0])


KEPT = {"relu": (1, 2), "tanh": (1, 3), "silu": (2, 8)}
"""What an MSE step and a Lai step keep for each hidden layer until their last backward pass, in tensors of batch times width.

An MSE step keeps the layer's output, and of SiLU its input. A Lai step also keeps the gradient that the slopes' backward pass has behind the
activation, and, but for ReLU, the one before it. SiLU's derivative is made of operations of which four more keep their results.
"""
