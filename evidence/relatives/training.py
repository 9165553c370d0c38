"""Every method on every task: networks trained side by side, and what is measured of them.

What is chosen, and on which rows, is written in ``book/relatives_protocol.md``, which is older than the results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from evidence.runs.arms import check_seeds
from evidence.runs.parallel import run_parallel
from evidence.runs.store import CellStore, digest_of, kept_or_made
from lai.factor import check_choice
from lai.schedule import LaiSchedule, check_count

from .methods import METHODS, Batch, Method, lipschitz_output, mse
from .networks import LipschitzNetworks, Networks
from .tasks import TASKS, Drawn, Task, closed_loop, data_of

LR = 3e-3
NOISE = 0.3
"""Standard deviation of the noise on every standardised input, for the errors under noise."""

SHIFT, SHIFT_STEPS = 0.3, 5
"""Euclidean norm of the worst shift of a standardised input, and the steps of gradient ascent that look for it."""


def relatives_study(
    *,
    tasks: Sequence[str] = tuple(TASKS),
    methods: Sequence[str] = tuple(METHODS),
    seeds: Iterable[int] = range(10),
    trials: int = 8,
    steps: int | None = None,
    n_jobs: int | None = None,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train every method ``trials`` times for each task and seed, and measure each network.

    Parameters
    ----------
    tasks, methods : names from ``TASKS`` and ``METHODS``
    seeds : ints
        Each with rows, initial weights and batches of its own, which all methods share.
        Noise and dropout are drawn for all seeds of a call in turn, so that they differ where the seeds before a seed do.
    trials : int
        Strengths of each method, from its weakest to its strongest.
    steps : int, optional
        Instead of the task's own.
    n_jobs : int, optional
        Processes, a task and method each; the results do not depend on it.
    store : CellStore, optional
        Where finished pieces are kept and found.

    Returns
    -------
    DataFrame
        A row for each task, method, units, seed and trial: ``strength``; ``rmse_train``, and for "val" and "test" ``rmse``,
        ``noisy`` (RMSE with noise on the inputs), ``shifted`` (under the worst small shift), ``slope`` (mean norm of the
        slope), ``slope_p95``, ``slope_raw`` (mean norm in raw units); ``variance`` of the outputs; ``slope_error`` (root mean
        square, where the true slopes are known); ``loop_cost`` and ``loop_wear`` (pendulum); ``cost``, CPU seconds of one
        network. Errors, slopes and variance are in standardised units.

    Examples
    --------
    >>> table = relatives_study(tasks=["friedman 200"], methods=["MSE", "Lai"], seeds=[0], trials=2, steps=3)
    >>> table[["method", "units", "trial"]].values.tolist()[:3]
    [['MSE', 'standardised', 0], ['Lai', 'standardised', 0], ['Lai', 'standardised', 1]]
    """
    for task in tasks:
        check_choice("task", task, tuple(TASKS))
    for method in methods:
        check_choice("method", method, tuple(METHODS))
    check_count("trials", trials, least=1)
    calls = [
        (TASKS[task], METHODS[method], units, check_seeds(seeds), trials, steps, store)
        for task in tasks
        for method in methods
        if method != "Sobolev training" or TASKS[task].name.startswith("friedman")
        for units in METHODS[method].unit_choices
        if units in TASKS[task].units
    ]
    costs = [float(call[0].steps * call[0].batch_size) for call in calls]
    return pd.concat(run_parallel(_piece, calls, n_jobs=n_jobs, progress=progress, costs=costs), ignore_index=True)


def _piece(
    task: Task,
    method: Method,
    units: str,
    seeds: Sequence[int],
    trials: int,
    steps: int | None,
    store: CellStore | None,
) -> pd.DataFrame:
    settings = {
        "study": "relatives",
        "task": task.name,
        "method": method.name,
        "units": units,
        "seeds": list(seeds),
        "trials": trials,
        "steps": steps or task.steps,
        "sources": digest_of(sorted(Path(__file__).parent.glob("*.py"))),
        "data": data_of(task, tuple(seeds)),
    }
    rows = kept_or_made(store, settings, lambda: _trained(task, method, units, seeds, trials, steps or task.steps))
    key = {"task": task.name, "method": method.name, "units": units}
    return pd.DataFrame([{**key, **row} for row in rows])


class Stacked:
    """The data of every network of a piece, standardised by its training rows: (E, N, d) and (E, N)."""

    def __init__(self, drawn: Sequence[Drawn], repeats: int) -> None:
        self.repeats = repeats
        mean = torch.stack([d.train[0].mean(0) for d in drawn])[:, None, :]
        spread = torch.stack([d.train[0].std(0, correction=0) for d in drawn])[:, None, :]
        if (spread == 0).any():  # pixels that are always blank: all share one scale
            spread = spread.square().mean(2, keepdim=True).sqrt().expand_as(spread)
        y_mean = torch.stack([d.train[1].mean() for d in drawn])[:, None]
        y_sd = torch.stack([d.train[1].std(correction=0) for d in drawn])[:, None]
        self.x_mean, self.x_sd, self.y_mean, self.y_sd = (self.each(t) for t in (mean, spread, y_mean, y_sd))
        self.rows = {
            part: (
                (torch.stack([getattr(d, part)[0] for d in drawn]) - mean) / spread,
                (torch.stack([getattr(d, part)[1] for d in drawn]) - y_mean) / y_sd,
            )
            for part in ("train", "val", "test")
        }

        def standardised(part: str) -> Tensor | None:
            slopes = [getattr(d, part) for d in drawn]
            return None if slopes[0] is None else torch.stack(slopes) * spread / y_sd[:, :, None]

        self.slope, self.test_slope = standardised("slope"), standardised("test_slope")

    def each(self, t: Tensor) -> Tensor:
        """From a row for each seed to a row for each network: a seed's trials one after another."""
        return t.repeat_interleave(self.repeats, 0)


def _trained(
    task: Task, method: Method, units: str, seeds: Sequence[int], trials: int, steps: int
) -> list[dict[str, Any]]:
    trials = 1 if method.strengths[0] == method.strengths[1] else trials
    low, high = (math.log(s) for s in method.strengths)
    strengths = [math.exp(low + (high - low) * i / max(1, trials - 1)) for i in range(trials)]
    data = Stacked([task.draw(seed) for seed in seeds], trials)
    strength = torch.tensor(strengths * len(seeds))
    scale = _units(units, method, data, trials, len(seeds))
    if method.exact_units:
        strength = strength * scale.square().mean(1).sqrt()
    started = time.process_time()
    if method.kind == "length":
        lengths = [max(1, round(steps * s)) for s in strengths]
        parts = [
            _train(task, method, Stacked([task.draw(seed) for seed in seeds], 1), seeds, n, strength[:1], scale[:1])
            for n in lengths
        ]
        net = _interleaved(parts, len(seeds), task.draw(seeds[0]).train[0].shape[1], list(seeds))
    else:
        net = _train(task, method, data, seeds, steps, strength, scale)
    cost = (time.process_time() - started) / len(strength)
    output = _output(method, net, data, strength, scale)
    found = _measured(task, data, output)
    keys = [(seed, trial) for seed in seeds for trial in range(trials)]
    return [
        {"seed": seed, "trial": trial, "strength": strengths[trial], "cost": cost}
        | {name: float(values[i]) for name, values in found.items()}
        for i, (seed, trial) in enumerate(keys)
    ]


def _units(units: str, method: Method, data: Stacked, trials: int, n_seeds: int) -> Tensor:
    """What slopes are multiplied by (E, d); see :mod:`evidence.relatives.methods`."""
    d = data.x_sd.shape[2]
    if units == "standardised":
        scale = torch.ones(trials * n_seeds, d)
    elif units == "raw":
        scale = data.y_sd / data.x_sd[:, 0]
    else:  # of every trial its own, from a tenth to ten, the same for all seeds
        drawn = 10 ** (2 * torch.rand(trials, d, generator=torch.Generator().manual_seed(17)) - 1)
        scale = drawn.repeat(n_seeds, 1)
    if units == "free" or (units == "raw" and not method.exact_units):
        scale = scale / scale.square().mean(1, keepdim=True).sqrt()
    return scale


def _train(
    task: Task,
    method: Method,
    data: Stacked,
    seeds: Sequence[int],
    steps: int,
    strength: Tensor,
    units: Tensor,
) -> Networks:
    """Adam over ``steps`` batches, the step size falling along a cosine; a seed's networks see the same batches.

    Not :class:`lai.Sweep`, whose networks differ in λ alone: here each method has a loss of its own, and some change the layers
    (dropout, Lipschitz projections, centralised gradients).
    """
    x, y = data.rows["train"]
    each = data.repeats
    strength, units = strength.expand(len(seeds) * each), units.expand(len(seeds) * each, -1)
    net = method.networks(x.shape[2], [seed for seed in seeds for _ in range(each)])
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    torch.manual_seed(seeds[0])  # of noise, dropout and random directions
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    size = min(task.batch_size, x.shape[1])
    per_epoch = x.shape[1] // size
    takes = torch.stack([_taking(method, seed, steps, per_epoch) for seed in seeds])
    row = torch.arange(len(seeds))[:, None]
    for step in range(steps):
        at = step % per_epoch
        if at == 0:
            order = torch.stack([torch.randperm(x.shape[1], generator=g) for g in orders])
        rows = order[:, at * size : (at + 1) * size]
        taken = takes[:, step]
        slope = None if data.slope is None else data.each(data.slope[row, rows])
        batch = Batch(net, data.each(x[row, rows]), data.each(y[row, rows]), strength, units, slope, step / steps)
        if taken.any():
            batch.x.requires_grad_()
            loss = method.loss(batch)
            if not taken.all():
                loss = torch.where(data.each(taken), loss, mse(batch))
        else:
            loss = mse(batch)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _taking(method: Method, seed: int, steps: int, per_epoch: int) -> Tensor:
    """Which batches take the method's loss (steps,): spread, with a random start for each seed."""
    before = round(method.pretrain * steps)
    if method.alpha == 1:
        return torch.arange(steps) >= before
    schedule = LaiSchedule(method.alpha, seed=seed)
    epochs = -(-steps // per_epoch)
    taken = torch.cat([schedule.batches(epoch, per_epoch) for epoch in range(epochs)])[:steps]
    return taken & (torch.arange(steps) >= before)


def _interleaved(parts: list[Networks], n_seeds: int, n_features: int, seeds: list[int]) -> Networks:
    """One stack, a seed's trials one after another, from a stack of all seeds for each trial."""
    net = type(parts[0])(n_features, [seed for seed in seeds for _ in parts])
    with torch.no_grad():
        for target, *sources in zip(net.parameters(), *(p.parameters() for p in parts), strict=True):
            target.copy_(torch.stack(sources, 1).flatten(0, 1))
    return net


Output = Callable[[Tensor], Tensor]


def _output(method: Method, net: Networks, data: Stacked, strength: Tensor, units: Tensor) -> Output:
    """The finished predictors, from standardised rows (E, N, d) to (E, N)."""
    if isinstance(net, LipschitzNetworks):
        return lambda x: lipschitz_output(net, x, strength, units)
    if method.kind == "shrink":
        with torch.no_grad():
            centre = net(data.each(data.rows["train"][0])).mean(1, keepdim=True)
        return lambda x: centre + strength[:, None] * (net(x) - centre)
    return net


def _measured(task: Task, data: Stacked, output: Output) -> dict[str, Tensor]:
    """Every measure of every network (E,)."""
    found = {"rmse_train": _rmse(output, *(data.each(t[:, :N_ROWS]) for t in data.rows["train"]))}
    for part in ("val", "test"):
        x, y = (data.each(t[:, :N_ROWS]) for t in data.rows[part])
        noise = torch.randn(x[:: data.repeats].shape, generator=torch.Generator().manual_seed(0))
        k = _slopes(output, x)
        norm = k.norm(dim=2)
        found |= {
            f"rmse_{part}": _rmse(output, x, y),
            f"noisy_{part}": _rmse(output, x + NOISE * data.each(noise), y),
            f"shifted_{part}": _rmse(output, _shifted(output, x, y), y),
            f"slope_{part}": norm.mean(1),
            f"slope_p95_{part}": norm.quantile(0.95, dim=1),
            f"slope_raw_{part}": (k * (data.y_sd[:, :, None] / data.x_sd)).norm(dim=2).mean(1),
        }
        if part == "test":
            with torch.no_grad():
                found["variance"] = output(x).var(1, correction=0)
            if data.test_slope is not None:
                wrong = k - data.each(data.test_slope[:, :N_ROWS])
                found["slope_error"] = wrong.square().sum(2).mean(1).sqrt()
    if task.closed_loop:

        def control(state: Tensor) -> Tensor:
            return output((state - data.x_mean) / data.x_sd) * data.y_sd + data.y_mean

        with torch.no_grad():
            found |= closed_loop(control, len(data.y_sd))
    return found


N_ROWS = 2000
"""At most so many rows of each part are measured."""


def _rmse(output: Output, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return (output(x) - y).square().mean(1).sqrt()


def _slopes(output: Output, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(output(x).sum(), x)[0]


def _shifted(output: Output, x: Tensor, y: Tensor) -> Tensor:
    """Rows moved, within ``SHIFT``, to where their error is large: normalised gradient ascent from the rows themselves."""
    shift = torch.zeros_like(x)
    for _ in range(SHIFT_STEPS):
        at = (x + shift).requires_grad_()
        (up,) = torch.autograd.grad((output(at) - y).square().sum(), at)
        shift = shift + 2 * SHIFT / SHIFT_STEPS * up / up.norm(dim=2, keepdim=True).clamp(min=1e-12)
        shift = shift * (SHIFT / shift.norm(dim=2, keepdim=True).clamp(min=SHIFT))
    return x + shift
