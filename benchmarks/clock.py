"""Times that are compared in turns, the memory of a process of its own, and what autograd keeps."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.losses import Loss, Step


class Ratio(NamedTuple):
    """Cost relative to a base.

    Attributes
    ----------
    ratio, low, high : float
        Median and quartiles of the ratios within a round.
    rounds : int
    base : float
        Median of the base itself, in seconds of processor time or in MB.
    system : float
        Of ``ratio`` what the operating system takes, on average; it mostly hands out memory for large tensors.
    """

    ratio: float
    low: float
    high: float
    rounds: int
    base: float
    system: float = float("nan")


def ratios(base: Step, others: Mapping[str, Step], *, seconds: float, least: int = 5) -> dict[str, Ratio]:
    """The time of each step relative to ``base``, all taken in turn until ``seconds`` are over and ``least`` rounds done.

    Processor time of this process, so that what else the machine computes counts little. The order is reversed in
    every second round, so that no step always follows the same one.

    Examples
    --------
    >>> found = ratios(lambda: None, {"the same": lambda: None}, seconds=0)
    >>> found["the same"].rounds
    5
    """
    steps = {"": base, **others}
    for step in steps.values():
        step(), step()  # the first calls pay for what is set up once
    times: dict[str, list[float]] = {name: [] for name in steps}
    system = dict.fromkeys(steps, 0.0)
    began = time.monotonic()
    gc.collect()
    gc.disable()
    try:
        while len(times[""]) < least or time.monotonic() - began < seconds:
            for name in sorted(steps, reverse=len(times[""]) % 2 == 1):
                before, started = _system_seconds(), time.process_time()
                steps[name]()
                times[name].append(time.process_time() - started)
                system[name] += _system_seconds() - before
    finally:
        gc.enable()
    of_base = np.maximum(times.pop(""), 1e-9)
    found = {name: _summary(np.asarray(own) / of_base, of_base) for name, own in times.items()}
    return {name: one._replace(system=float(system[name] / of_base.sum())) for name, one in found.items()}


def _system_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


def _summary(relative: Any, base: Any) -> Ratio:
    low, median, high = np.quantile(relative, [0.25, 0.5, 0.75])
    return Ratio(float(median), float(low), float(high), len(base), float(np.median(base)))


def peak_mb(build: Callable[..., Step], *args: Any) -> float:
    """What two steps add to the largest resident memory of a fresh process, in MB.

    ``build`` and ``args`` go to another process, so that ``build`` must be a module's function.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (build, args))


def _peak(build: Callable[..., Step], args: tuple[Any, ...]) -> float:
    step = build(*args)
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far counts from here; Linux only
    before = _size("VmRSS")
    step(), step()
    return _size("VmHWM") - before


def saved_mb(loss: Loss, model: nn.Module, x: Tensor, y: Tensor) -> float:
    """What a loss keeps for its backward pass, in MB; without weights and data, which are there anyway.

    Examples
    --------
    >>> x = torch.ones(1000, 1)
    >>> saved_mb(lambda model, x, y: model(x).exp().sum(), nn.Linear(1, 1), x, x)  # exp keeps its result
    0.004
    """
    others = {t.untyped_storage().data_ptr() for t in (*model.parameters(), x, y)}
    kept = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage()  # itself, so that no other takes its address
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss(model, x, y)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in others) / 1e6


def _size(name: str) -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(lines[name].split()[0]) * 1024 / 1e6
