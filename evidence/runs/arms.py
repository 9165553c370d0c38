"""Networks that differ in their loss alone, trained on the same batches, measured, and kept one by one."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lai.factor import check_choice, check_lam
from lai.models import MLP
from lai.schedule import LaiSchedule, check_count
from lai.sweep import Sweep
from lai.training import resolve_device

from .parallel import run_parallel
from .protocols import PROTOCOLS
from .readout import Moment, evaluation, measure, moments
from .store import CellStore

if TYPE_CHECKING:
    from evidence.data import Housing


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
    last feature), alpha, seed, and what :func:`evidence.runs.readout.evaluation` gives.

    ``curves``: columns protocol, arm, seed, epoch, val_rmse (running statistics).

    ``cost``: columns protocol, arm, seed, cpu_seconds and peak_mb of the process, as they were when the run was made;
    a kept run keeps them.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    cost: pd.DataFrame


def train_arms(
    data: Housing | Callable[[int], Housing],
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
    data : Housing, or callable from a seed to one
        From :func:`evidence.data.load_housing`. With a callable every seed can have a split of its own.
    arms : mapping from a name in ``PROTOCOLS`` to its arms
        The control is added where it is missing.
    seeds : ints
        Each sets initial weights, batch order and schedule.
    pretrain_epochs, epochs : int
        Before and after the arms part.
    device
        As in :func:`lai.fit`.
    n_jobs : int, optional
        Processes, as in :func:`evidence.runs.parallel.run_parallel`; results do not depend on it.
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
    chosen = check_seeds(seeds)
    of_seed = {seed: data(seed) if callable(data) else data for seed in chosen}
    n_features = of_seed[chosen[0]].train.x.shape[1]
    wanted: dict[str, list[Arm]] = {}
    for protocol, given in arms.items():
        check_choice("protocol", protocol, tuple(PROTOCOLS))
        wanted[protocol] = [MSE, *(arm for arm in given if arm != MSE)]
        named = Counter((arm.name, arm.alpha) for arm in wanted[protocol])
        if repeated := [name for (name, _), n in named.items() if n > 1]:
            raise ValueError(f"arms[{protocol!r}]: {repeated[0]} is there twice (λ to 6 digits)")
        for arm in wanted[protocol]:
            if isinstance(arm.lam, tuple) and len(arm.lam) != n_features:
                raise ValueError(f"lam has {len(arm.lam)} entries: one for each of {n_features} features")
    if not wanted:
        raise ValueError("arms: give at least one protocol")
    LaiSchedule(0.0, pretrain_epochs=pretrain_epochs)
    check_count("epochs", epochs)
    where = str(resolve_device(device))

    def cell(protocol: str, arm: Arm, seed: int) -> Cell:
        return Cell(plain_twin(protocol) if arm == MSE else protocol, arm, seed, pretrain_epochs, epochs)

    cells = dict.fromkeys(
        cell(protocol, arm, seed) for seed in chosen for protocol in wanted for arm in wanted[protocol]
    )
    kept = {} if store is None else {one: store.get(one.settings(of_seed[one.seed], where)) for one in cells}
    jobs: dict[Any, list[Cell]] = {}
    for (twin, seed, *_), group in _side_by_side(cells).items():
        # A group is trained whole: in other company a network's last bits would differ.
        if any(kept.get(one) is None for one in group):
            jobs.setdefault((twin, seed), []).extend(group)
    calls = [_Job(of_seed[seed], tuple(group), where, store) for (_, seed), group in jobs.items()]
    made: dict[Cell, dict[str, Any]] = {}
    for results in run_parallel(
        _run, [(job,) for job in calls], n_jobs=n_jobs, progress=progress, costs=[job.cost for job in calls]
    ):
        made |= results
    parts: tuple[list, list, list] = ([], [], [])
    for protocol, of_protocol in wanted.items():
        several = len({arm.alpha for arm in of_protocol if arm != MSE}) > 1
        for arm in of_protocol:
            name = f"{arm.name}, α = {arm.alpha:g}" if several and arm != MSE else arm.name
            for seed in chosen:
                run = cell(protocol, arm, seed)
                result = made.get(run) or kept.get(run)
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


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """``seeds`` as a list, or ``ValueError`` if there is none, one twice, or one that is no seed."""
    chosen = [check_count("seed", s) for s in seeds]
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"seeds = {chosen}: give at least one, and none twice")
    return chosen


@dataclass(frozen=True)
class Cell:
    """One run: all that determines it, but for the data.

    Attributes
    ----------
    protocol : str
        A name in ``PROTOCOLS``.
    arm : Arm
    seed : int
    pretrain_epochs, epochs : int
        As in :func:`train_arms`.
    """

    protocol: str
    arm: Arm
    seed: int
    pretrain_epochs: int
    epochs: int

    def settings(self, data: Housing, device: str) -> dict[str, Any]:
        return {
            "data": data.sha256,
            "split": [_digest(data.train.x), _digest(data.val.x)],
            "protocol": asdict(PROTOCOLS[self.protocol]),
            "lam": self.arm.lam,
            "alpha": self.arm.alpha,
            "seed": self.seed,
            "epochs": [self.pretrain_epochs, self.epochs],
            "device": torch.device(device).type,
        }


def _side_by_side(cells: Iterable[Cell]) -> dict[Any, list[Cell]]:
    """Cells that one sweep trains: of one seed and protocol, with the Lai loss on the same batches.

    MSE goes with the arms that seldom differ from it, if there are any.
    """
    alphas: dict[Any, list[float]] = {}
    for cell in cells:
        alphas.setdefault((cell.seed, cell.protocol), []).append(cell.arm.alpha)
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        alpha = cell.arm.alpha or min((a for a in alphas[cell.seed, cell.protocol] if 0 < a < 0.5), default=0.0)
        groups.setdefault((plain_twin(cell.protocol), cell.seed, cell.protocol, alpha), []).append(cell)
    return groups


class _Job(NamedTuple):
    """Runs that share their pre-training, for one process."""

    data: Housing
    cells: tuple[Cell, ...]
    device: str
    store: CellStore | None

    @property
    def cost(self) -> float:
        """Roughly, in plain steps: a Lai step costs about two and a half."""
        first = self.cells[0]
        return first.pretrain_epochs + first.epochs * sum(1 + 1.5 * cell.arm.alpha for cell in self.cells)


def _run(job: _Job) -> dict[Cell, dict[str, Any]]:
    """Train the job's runs, measure them and keep them."""
    results = {}
    for cell, _, taken, curve, seconds in train_cells(job.data, job.cells, job.device):
        results[cell] = {
            "measured": evaluation(taken),
            "curve": dict(zip(("epoch", "val_rmse"), curve, strict=True)),
            "cost": {"cpu_seconds": round(seconds, 3), "peak_mb": _peak_mb()},
        }
        if job.store is not None:
            job.store.put(cell.settings(job.data, job.device), results[cell])
    return results


class TrainedCell(NamedTuple):
    """A run that has been trained."""

    cell: Cell
    model: MLP
    """In evaluation mode, with exact statistics."""
    taken: list[Moment]
    """What was measured of it in the last epochs (:func:`evidence.runs.readout.moments`)."""
    curve: tuple[list[int], list[float]]
    """Epochs, and the RMSE on the validation rows after each, with running statistics."""
    seconds: float
    """Of processor time, measuring included; what runs share is shared equally among them."""


def train_cells(data: Housing, cells: Sequence[Cell], device: str = "cpu") -> Iterator[TrainedCell]:
    """Train runs of one network and one length, and give each as it ends.

    Runs of a seed share their pre-training; those with Lai batches at the same places are trained side by side
    (:class:`lai.Sweep`).

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    cells : sequence of Cell
        At least one; they differ in seed, arm and slope alone.
    device : str

    Source: paper, version 2, section 6.1, for the form.
    """
    first = cells[0]
    if any(_kind(cell) != _kind(first) for cell in cells):
        raise ValueError("cells differ in more than seed, arm and slope")
    on_device = _on(data, torch.device(device))
    train, val = (on_device.train.x, on_device.train.y), (on_device.val.x, on_device.val.y)
    recipe, before, after = PROTOCOLS[first.protocol], first.pretrain_epochs, first.epochs
    options: dict[str, Any] = {
        "batch_size": min(recipe.batch_size, len(data.train.x)),
        "drop_last": True,
        "val": val,
        # Two hundred points are enough to draw a curve, and validating takes time.
        "validate_every": max(1, (before + after) // 100),
    }
    for seed in dict.fromkeys(cell.seed for cell in cells):
        own = [cell for cell in cells if cell.seed == seed]
        started = time.process_time()
        trunk = Sweep([recipe.model(data.train.x, seed)], lr=recipe.lr, device=device)
        curve = _points(trunk.fit(train, lams=[None], epochs=before, seed=seed, **options), 0)
        shared = (time.process_time() - started) / len(own)
        for group in _side_by_side(own).values():
            started = time.process_time()
            sweep = trunk.branch([0] * len(group))
            watch = _Watch(sweep, on_device, moments(before + after, after))
            history = sweep.fit(
                train,
                lams=[cell.arm.lam for cell in group],
                schedule=LaiSchedule(max(cell.arm.alpha for cell in group), pretrain_epochs=before, seed=seed),
                first_epoch=before,
                epochs=after,
                seed=seed,
                slope=PROTOCOLS[group[0].protocol].slope,
                each_epoch=watch,
                **options,
            )
            seconds = shared + (time.process_time() - started) / len(group)
            for i, cell in enumerate(group):
                epochs, errors = _points(history, i)
                both = curve[0] + epochs, curve[1] + errors
                yield TrainedCell(cell, watch.models[i].eval(), watch.taken[i], both, seconds)


class _Watch:
    """Measures the networks of a sweep after the epochs of their evaluation; before any if there are none."""

    def __init__(self, sweep: Sweep, data: Housing, epochs: Sequence[int]) -> None:
        self.sweep, self.data, self.epochs = sweep, data, epochs
        self.models: list[Any] = []
        self.taken: list[list[Moment]] = [[] for _ in range(len(sweep))]
        if not epochs:
            self.look()

    def __call__(self, row: dict[str, Any]) -> None:
        if row["epoch"] in self.epochs:
            self.look()

    def look(self) -> None:
        self.models = self.sweep.models()
        for taken, model in zip(self.taken, self.models, strict=True):
            taken.append(measure(model, self.data))


def _kind(cell: Cell) -> tuple[str, int, int]:
    return plain_twin(cell.protocol), cell.pretrain_epochs, cell.epochs


def _points(history: dict[str, list[Any]], network: int) -> tuple[list[int], list[float]]:
    """The validated epochs of one network, and its errors there."""
    rows = zip(history["epoch"], history["network"], history["val_rmse"], strict=True)
    points = [(epoch, error) for epoch, i, error in rows if i == network and error is not None]
    return [epoch for epoch, _ in points], [error for _, error in points]


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
