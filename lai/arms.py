"""Networks that differ in their loss alone, trained side by side, measured, and kept one by one."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from .cells import CellStore
from .factor import check_choice, check_lam
from .parallel import run_parallel
from .protocols import PROTOCOLS, Protocol
from .readout import read_out
from .schedule import LaiSchedule, check_count
from .stack import Lane, Stack, adam, branch, fit_stack
from .training import resolve_device

if TYPE_CHECKING:
    from .data import Housing


@dataclass(frozen=True)
class Arm:
    """One loss to train with.

    Attributes
    ----------
    lam : float, tuple of floats (one per feature) or None
        None: MSE throughout, the control.
    alpha : float
        Share of Lai batches after pre-training; 0 for the control.

    Examples
    --------
    >>> Arm(0.1).name, Arm(None).name, Arm((0.1, 0.1, 0.001), alpha=0.01).name
    ('λ = 0.1', 'MSE', 'λ = 0.1, λ₃ = 0.001')
    """

    lam: float | tuple[float, ...] | None = None
    alpha: float = 1.0

    def __post_init__(self) -> None:
        LaiSchedule(self.alpha)  # says what is wrong with it
        if self.lam is None:
            object.__setattr__(self, "alpha", 0.0)
        elif isinstance(self.lam, tuple):
            object.__setattr__(self, "lam", tuple(float(v) for v in check_lam(list(self.lam))))  # type: ignore[union-attr]
        else:
            value = check_lam(self.lam)
            if not isinstance(value, float):
                raise ValueError(f"lam = {self.lam!r}: an arm takes one number, or a tuple with one for each feature")
            object.__setattr__(self, "lam", value)

    @property
    def base(self) -> float:
        """λ; of a list its most frequent value, the first of equals; NaN for MSE."""
        if isinstance(self.lam, tuple):
            return Counter(self.lam).most_common(1)[0][0]
        return math.nan if self.lam is None else self.lam

    @property
    def last(self) -> float:
        """λ of the last feature; NaN for MSE."""
        return self.lam[-1] if isinstance(self.lam, tuple) else self.base

    @property
    def name(self) -> str:
        """How the arm is called in tables, without α."""
        if self.lam is None:
            return "MSE"
        values = enumerate(self.lam if isinstance(self.lam, tuple) else (), 1)
        others = [f"λ{str(j).translate(_LOWERED)} = {v:g}" for j, v in values if v != self.base]
        return ", ".join([f"λ = {self.base:g}", *others])


_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
MSE = Arm(None)
"""The control."""


def arm_name(lam: float | None) -> str:
    """How an arm is called in every table: "MSE", or its λ as in "λ = 0.1".

    >>> arm_name(None), arm_name(1e-3)
    ('MSE', 'λ = 0.001')
    """
    return Arm(lam).name


class Runs(NamedTuple):
    """What an experiment returns.

    ``table``: a row for each run, with columns protocol, arm, lam (of a list, its most frequent value), lam_8 (of the
    last feature), alpha, seed, and what :func:`lai.readout.read_out` measures.

    ``curves``: columns protocol, arm, seed, epoch, val_rmse (running statistics).

    ``cost``: columns protocol, arm, seed, cpu_seconds and peak_mb of the process, as they were when the run was made;
    a kept run keeps them.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    cost: pd.DataFrame


def train_arms(
    data: Housing,
    arms: Mapping[str, Sequence[Arm]],
    *,
    seeds: Iterable[int],
    pretrain_epochs: int,
    epochs: int,
    device: str = "auto",
    n_jobs: int | None = None,
    store: CellStore | None = None,
    progress: bool = False,
) -> Runs:
    """Train every arm of every protocol with every seed, and measure it.

    For each protocol and seed one network is pre-trained with MSE; every arm continues from its copy, with the
    optimiser's state and on identical batches, so the arms differ in the loss alone.

    Parameters
    ----------
    data : Housing
        From :func:`lai.data.load_housing`.
    arms : mapping from a name in ``PROTOCOLS`` to its arms
        The control is added where it is missing.
    seeds : ints
        Each sets initial weights, batch order and schedule.
    pretrain_epochs, epochs : int
        Before and after the arms part.
    device
        As in :func:`lai.fit`. On a GPU all seeds of a protocol are trained in one tensor program, on a CPU a few; the
        results do not depend on that.
    n_jobs : int, optional
        Processes, as in :func:`lai.parallel.run_parallel`; results do not depend on it.
    store : CellStore, optional
        Keeps every run (protocol, arm, seed) when it ends, so that what was stopped goes on where it was. Shared by
        all experiments: a run that another one has made is not made again.
    progress
        Show a progress bar with the time left.

    Raises
    ------
    ValueError
        For an unknown protocol, a bad or repeated arm, or a seed given twice, before anything is trained.

    Source: paper, version 2, section 6.1, for the form; the protocols fill in what it leaves open.
    """
    wanted: dict[str, list[Arm]] = {}
    for protocol, given in arms.items():
        check_choice("protocol", protocol, tuple(PROTOCOLS))
        wanted[protocol] = [MSE, *(arm for arm in given if arm != MSE)]
        named = Counter((arm.name, arm.alpha) for arm in wanted[protocol])
        if repeated := [name for (name, _), n in named.items() if n > 1]:
            raise ValueError(f"arms[{protocol!r}]: {repeated[0]} is there twice (λ to 6 digits)")
        for arm in wanted[protocol]:
            if isinstance(arm.lam, tuple) and len(arm.lam) != data.train.x.shape[1]:
                raise ValueError(f"lam has {len(arm.lam)} entries: one for each of {data.train.x.shape[1]} features")
    if not wanted:
        raise ValueError("arms: give at least one protocol")
    chosen = check_seeds(seeds)
    LaiSchedule(0.0, pretrain_epochs=pretrain_epochs)
    check_count("epochs", epochs)
    where = str(resolve_device(device))

    def cell(protocol: str, arm: Arm, seed: int) -> _Cell:
        return _Cell(plain_twin(protocol) if arm == MSE else protocol, arm, seed, pretrain_epochs, epochs)

    def of_group(group: Sequence[int]) -> list[_Job]:
        cells = dict.fromkeys(
            cell(protocol, arm, seed) for protocol in wanted for seed in group for arm in wanted[protocol]
        )
        missing: dict[str, list[_Cell]] = {}
        for one in cells:
            if store is None or store.get(one.settings(data, where)) is None:
                missing.setdefault(one.protocol, []).append(one)
        return [_Job(data, tuple(together), where, store) for together in missing.values()]

    size = len(chosen) if torch.device(where).type == "cuda" else _seeds_a_job(len(chosen), len(wanted), n_jobs)
    jobs = [job for i in range(0, len(chosen), size) for job in of_group(chosen[i : i + size])]
    made: dict[_Cell, dict[str, Any]] = {}
    for results in run_parallel(
        _run, [(j,) for j in jobs], n_jobs=n_jobs, progress=progress, costs=[j.cost for j in jobs]
    ):
        made |= results
    parts: tuple[list, list, list] = ([], [], [])
    for protocol, of_protocol in wanted.items():
        several = len({arm.alpha for arm in of_protocol if arm != MSE}) > 1
        for arm in of_protocol:
            name = f"{arm.name}, α = {arm.alpha:g}" if several and arm != MSE else arm.name
            for seed in chosen:
                run = cell(protocol, arm, seed)
                result = made.get(run) or (store.get(run.settings(data, where)) if store is not None else None)
                assert result is not None  # noqa: S101
                key = {"protocol": protocol, "arm": name, "seed": seed}
                lams = {"lam": arm.base, "lam_8": arm.last, "alpha": arm.alpha, "seed": seed}
                parts[0].append({"protocol": protocol, "arm": name, **lams, **result["measured"]})
                parts[1].append(pd.DataFrame({**key, **result["curve"]}))
                parts[2].append({**key, **result["cost"]})
    return Runs(pd.DataFrame(parts[0]), pd.concat(parts[1], ignore_index=True), pd.DataFrame(parts[2]))


def plain_twin(protocol: str) -> str:
    """The first protocol that trains a network with MSE as this one does: they may differ in their slope."""
    own = replace(PROTOCOLS[protocol], name="", about="", slope="summed")
    return next(n for n, p in PROTOCOLS.items() if replace(p, name="", about="", slope="summed") == own)


def _seeds_a_job(n_seeds: int, n_protocols: int, n_jobs: int | None) -> int:
    """As many as leave about three jobs to each process: many are faster together, few are less to lose and to wait for."""
    import joblib

    return math.ceil(n_seeds * n_protocols / (3 * joblib.effective_n_jobs(n_jobs)))


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """``seeds`` as a list, or ``ValueError`` if there is none, one twice, or one that is no seed."""
    chosen = [check_count("seed", s) for s in seeds]
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"seeds = {chosen}: give at least one, and none twice")
    return chosen


@dataclass(frozen=True)
class _Cell:
    """One run: all that determines it, but for the data."""

    protocol: str
    arm: Arm
    seed: int
    pretrain_epochs: int
    epochs: int

    def settings(self, data: Housing, device: str) -> dict[str, Any]:
        return {
            "data": data.sha256,
            "split": _digest(data.val.x),
            "protocol": asdict(PROTOCOLS[self.protocol]),
            "lam": self.arm.lam,
            "alpha": self.arm.alpha,
            "seed": self.seed,
            "epochs": [self.pretrain_epochs, self.epochs],
            "device": torch.device(device).type,
        }


class _Job(NamedTuple):
    """Runs of one protocol and one length, to be trained in one stack."""

    data: Housing
    cells: tuple[_Cell, ...]
    device: str
    store: CellStore | None

    @property
    def cost(self) -> float:
        """Roughly, in plain steps: a Lai step costs about three."""
        first = self.cells[0]
        return first.pretrain_epochs + first.epochs * sum(1 + 2 * cell.arm.alpha for cell in self.cells)


def _run(job: _Job) -> dict[_Cell, dict[str, Any]]:
    """Train the job's runs, measure them and keep them."""
    started = time.process_time()
    cells, where = job.cells, torch.device(job.device)
    recipe: Protocol = PROTOCOLS[cells[0].protocol]
    pretrain_epochs, epochs = cells[0].pretrain_epochs, cells[0].epochs
    data = _on(job.data, where)
    x, y = data.train
    seeds = sorted({cell.seed for cell in cells})
    options: dict[str, Any] = {
        "batch_size": min(recipe.batch_size, len(x)),
        "pretrain_epochs": pretrain_epochs,
        "val": tuple(data.val),
        # Two hundred points are enough to draw a curve, and validating takes time.
        "validate_every": max(1, (pretrain_epochs + epochs) // 100),
    }
    trunk = Stack([recipe.model(job.data.train.x, seed) for seed in seeds]).to(where)
    state = adam(trunk, recipe.lr)
    first = fit_stack(trunk, state, (x, y), [Lane(seed) for seed in seeds], epochs=pretrain_epochs, **options)
    lanes = [Lane(cell.seed, cell.arm.lam, cell.arm.alpha) for cell in cells]
    stack, state = branch(trunk, state, [seeds.index(cell.seed) for cell in cells])
    options |= {"first_epoch": pretrain_epochs, "slope": recipe.slope}
    history = fit_stack(stack, state, (x, y), lanes, epochs=epochs, **options)
    results = {}
    for i, (cell, model) in enumerate(zip(cells, stack.models(), strict=True)):
        before, after = first[first["lane"] == seeds.index(cell.seed)], history[history["lane"] == i]
        curve = pd.concat([part for part in (before, after) if len(part)] or [history])[["epoch", "val_rmse"]]
        results[cell] = {"measured": read_out(model, data, recipe.batch_size), "curve": curve.to_dict("list")}
    used = time.process_time() - started
    for cell, result in results.items():
        result["cost"] = {
            "cpu_seconds": round(used / len(cells), 3),
            "peak_mb": _peak_mb(),
        }
        if job.store is not None:
            job.store.put(cell.settings(job.data, job.device), result)
    return results


def _peak_mb() -> int:
    """The most memory this process has had, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2)


def _on(data: Housing, where: torch.device) -> Housing:
    def moved(part: Any) -> Any:
        return type(part)(*(t.to(where) if isinstance(t, Tensor) else t for t in part))

    return replace(data, train=moved(data.train), val=moved(data.val), test=moved(data.test))


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()[:16]
