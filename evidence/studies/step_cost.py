"""What a training step costs with and without the Lai loss: multiplications counted, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from evidence.runs.old.stack import Stack, adam
from lai.factor import check_lam
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
        "plain": MSE. "double backward": the L2 Lai MSE with slopes from autograd, whose graph is kept and differentiated
        again. "written out": the same with the slopes of :meth:`evidence.runs.old.stack.Stack.value_and_slope` and one backward pass.
        All three share one network and Adam. In the corrected protocol the second has the summed slope; it costs as much.
        With BatchNorm the second takes torch's, which can be differentiated twice, and the others that of :mod:`evidence.runs.old.by_hand`.

    Source: paper, version 1, section 5 ("additional training costs relative to MSE").
    """
    check_lam(lam)
    stack = Stack([recipe.model(x, 0)]).train()
    optimizer, inputs = adam(stack, recipe.lr), x.T[None].contiguous()

    def step(loss: Callable[[], Tensor]) -> Step:
        def once() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

        return once

    def plain() -> Tensor:
        return (stack.forward(inputs)[0] - y).square().mean()

    def double() -> Tensor:
        leaf = inputs.clone().requires_grad_()
        output = stack.forward(leaf)  # not called: the counter cannot look into modules whose input is a leaf
        (k,) = torch.autograd.grad(output.sum(), leaf, create_graph=True)
        return lai_loss(output[0], y, k[0].T, lam=lam)

    def written() -> Tensor:
        output, k = stack.value_and_slope(inputs, recipe.slope)
        return lai_loss(output[0], y, k[0].T, lam=lam)

    return {"plain": step(plain), "double backward": step(double), "written out": step(written)}


def count_products(step: Step) -> int:
    """The multiplications and additions in a step's matrix products; the rest, elementwise, is not counted.

    Examples
    --------
    >>> count_products(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
    48
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


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
