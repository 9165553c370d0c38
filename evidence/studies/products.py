"""The multiplications of a training step, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Products(TorchDispatchMode):
    """Counts by torch's own table. Its FlopCounterMode also follows modules, and fails where their input is a leaf."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def count_products(step: Callable[[], object]) -> int:
    """The multiplications and additions in a step's matrix products; the rest, elementwise, is not counted.

    Examples
    --------
    >>> import torch
    >>> count_products(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48
    """
    with _Products() as counter:
        step()
    return counter.total
