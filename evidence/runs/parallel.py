"""The same function over many arguments, on this machine's cores or on a cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def run_parallel(
    function: Callable,
    calls: Sequence[tuple],
    *,
    n_jobs: int | None = None,
    progress: bool = False,
    costs: Sequence[float] | None = None,
) -> list:
    """``[function(*c) for c in calls]``, through joblib, with one torch thread in each process.

    Where it runs is joblib's to say: under ``joblib.parallel_config(backend="dask")``, or Ray's backend, the same call
    runs on a cluster. One thread each, so that results do not depend on the number of cores or workers.

    Parameters
    ----------
    n_jobs : int, optional
        Processes, no more than there are calls. Default: what ``joblib.parallel_config`` says, else 1.
    progress : bool
        Show a bar with the time left.
    costs : sequence of float, optional
        What each call costs, in any unit, for calls that are unequal: the dearest go first, so that none is left to run
        alone at the end, and the time left is right.

    Examples
    --------
    >>> run_parallel(pow, [(2, 3), (3, 2)])
    [8, 9]
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    weights = [1.0] * len(calls) if costs is None else list(costs)
    results: list = [None] * len(calls)
    order = sorted(range(len(calls)), key=lambda i: -weights[i])  # of equals, as they came
    bar = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}"
    processes = None if n_jobs is None else min(n_jobs, max(len(calls), 1))
    parallel = Parallel(n_jobs=processes, batch_size=1, return_as="generator_unordered")
    with tqdm(total=sum(weights), disable=not progress, bar_format=bar) as shown, _ticking(shown):
        for done, (i, result) in enumerate(parallel(delayed(_one)(function, i, calls[i]) for i in order), 1):
            results[i] = result
            shown.set_postfix_str(f"{done} of {len(calls)} runs", refresh=False)
            shown.update(weights[i])
    return results


@contextmanager
def _ticking(bar: Any, seconds: float = 5) -> Iterator[None]:
    """Let a bar's clock go on between calls, which may take minutes."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(seconds):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
    finally:
        stop.set()


def _one(function: Callable, i: int, arguments: tuple) -> tuple[int, object]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return i, function(*arguments)
    finally:
        torch.set_num_threads(before)
