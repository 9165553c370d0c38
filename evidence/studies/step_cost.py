"""What a training step costs with and without the Lai loss: multiplications counted, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lai.batchnorm import FixedStatistics
from lai.factor import check_lam
from lai.gradient import value_and_input_gradient
from lai.loss import lai_loss
from lai.schedule import check_count

if TYPE_CHECKING:
    from evidence.runs.protocols import Protocol

Step = Callable[[], None]


def training_steps(recipe: Protocol, x: Tensor, y: Tensor, lam: float) -> dict[str, Step]:
    """Training steps of a protocol's network on one batch, to be counted or timed: each call makes one.

    Parameters
    ----------
    recipe : Protocol
    x, y : Tensors (B, d) and (B,)
    lam : float

    Returns
    -------
    dict from name to function
        "plain": MSE. "Lai": the L2 Lai MSE with the protocol's slope, as a loop of one's own takes it. Both have one
        network and Adam in common.

    Source: paper, version 1, section 5 ("additional training costs relative to MSE").
    """
    check_lam(lam)
    model = recipe.model(x, 0).train()
    sloped = FixedStatistics(model) if recipe.norm == "batch" and recipe.slope == "own" else model
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)

    def plain() -> Tensor:
        return nn.functional.mse_loss(model(x), y)

    def lai() -> Tensor:
        value, k = value_and_input_gradient(sloped, x)
        return lai_loss(value, y, k, lam=lam)

    def step(loss: Callable[[], Tensor]) -> Step:
        def once() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return once

    return {"plain": step(plain), "Lai": step(lai)}


class _Products(TorchDispatchMode):
    """Counts by torch's own table. Its FlopCounterMode also follows modules, and fails where their input is a leaf."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def count_products(step: Step) -> int:
    """The multiplications and additions in a step's matrix products; the rest, elementwise, is not counted.

    Examples
    --------
    >>> count_products(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48
    """
    with _Products() as counter:
        step()
    return counter.total


def seconds_per_step(steps: Mapping[str, Step], n: int = 30) -> dict[str, float]:
    """The median processor time of each step over ``n`` rounds, in which they take turns; compare only within one call.

    Time of this process, so that what else the machine does counts little.

    Examples
    --------
    >>> list(seconds_per_step({"nothing": lambda: None}, n=3))
    ['nothing']
    """
    check_count("n", n, least=1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for lap in range(n + 2):
        for name, step in steps.items():
            began = time.process_time()
            step()
            if lap >= 2:  # the first ones pay for what is set up once
                times[name].append(time.process_time() - began)
    return {name: float(np.median(values)) for name, values in times.items()}
