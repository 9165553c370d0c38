"""Where the Lai batches fall, and when a network is read: what both do to what a table says of λ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from lai.factor import check_choice
from lai.schedule import LaiSchedule, Placement, check_count
from lai.sweep import Sweep

from .arms import Arm, check_seeds
from .parallel import run_parallel
from .protocols import PROTOCOLS
from .readout import measure

if TYPE_CHECKING:
    from evidence.data import Housing

PLACEMENTS: tuple[Placement, ...] = ("spread", "free")


def placement_study(
    data: Callable[[int], Housing],
    *,
    protocols: Sequence[str] = ("published", "sound"),
    lams: Sequence[float] = (0.1, 0.01, 0.001),
    alpha: float = 0.01,
    seeds: Iterable[int] = range(10),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    last: int = 20,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Train arms with both placements of the Lai batches, and measure them after every one of the last epochs.

    All arms of a seed start from one pre-trained network and see the same batches; the placements differ in which of them take the
    Lai loss.

    Parameters
    ----------
    data : callable from a seed to Housing
        From :func:`evidence.data.load_housing`.
    protocols : names from ``PROTOCOLS``
    lams : sequence of float
    alpha : float
    seeds : ints
    pretrain_epochs, epochs, last : int
        Epochs of MSE, of the arms, and of these the last ones in which networks are measured.
    n_jobs : int
        Processes, one seed and protocol each; the results do not depend on it.

    Returns
    -------
    DataFrame
        A row for each protocol, seed, placement, arm and epoch: ``since``, the plain steps since the last Lai batch (NaN if there
        was none); ``rmse``, ``variance`` and ``rms_k`` with exact statistics, as in :func:`evidence.runs.readout.evaluation`.

    Source: ours; the paper (section 5) samples "randomly" and is silent about the rest.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> table = placement_study(lambda seed: load_housing("surrogate"), protocols=["sound"], lams=[0.1], seeds=[0], alpha=0.5,
    ...                         pretrain_epochs=0, epochs=1, last=1)
    >>> table[["placement", "arm", "epoch"]].values.tolist()
    [['spread', 'MSE', 0], ['spread', 'λ = 0.1', 0], ['free', 'MSE', 0], ['free', 'λ = 0.1', 0]]
    """
    for protocol in protocols:
        check_choice("protocol", protocol, tuple(PROTOCOLS))
    for name, value in (("pretrain_epochs", pretrain_epochs), ("epochs", epochs), ("last", last)):
        check_count(name, value)
    arms = [Arm(lam, alpha) for lam in lams]
    calls = [
        (data(seed), protocol, arms, alpha, seed, (pretrain_epochs, epochs, last))
        for seed in check_seeds(seeds)
        for protocol in protocols
    ]
    return pd.concat(run_parallel(_one_seed, calls, n_jobs=n_jobs), ignore_index=True)


def pretrained(data: Housing, protocol: str, seed: int, epochs: int) -> tuple[Sweep, dict[str, Any]]:
    """A network of the protocol after ``epochs`` of MSE, to branch arms off, and what all further training of it is given."""
    recipe, train = PROTOCOLS[protocol], (data.train.x, data.train.y)
    batch_size = min(recipe.batch_size, len(data.train.x))
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "drop_last": True, "slope": recipe.slope}
    trunk = Sweep([recipe.model(data.train.x, seed)], lr=recipe.lr, device="cpu")
    trunk.fit(train, lams=[None], epochs=epochs, **options)
    return trunk, {"train": train, **options}


def measured(model: nn.Module, data: Housing) -> dict[str, float]:
    """``rmse``, ``variance`` and ``rms_k`` with exact statistics."""
    exact = measure(model, data).exact
    return {metric: exact[metric] for metric in ("rmse", "variance", "rms_k")}


def _one_seed(
    data: Housing, protocol: str, arms: Sequence[Arm], alpha: float, seed: int, lengths: tuple[int, int, int]
) -> pd.DataFrame:
    before, after, _ = lengths
    trunk, options = pretrained(data, protocol, seed, before)
    rows: list[dict[str, Any]] = []
    for placement in PLACEMENTS:
        free: dict[str, Any] = {"placement": "free", "epochs": max(1, after)} if placement == "free" else {}
        schedule = LaiSchedule(alpha, pretrain_epochs=before, seed=seed, **free)
        sweep = trunk.branch([0] * (1 + len(arms)))
        key = {"protocol": protocol, "seed": seed, "placement": placement}
        sweep.fit(
            lams=[None, *(arm.lam for arm in arms)],
            schedule=schedule,
            first_epoch=before,
            epochs=after,
            each_epoch=_measuring(sweep, schedule, data, ["MSE", *(arm.name for arm in arms)], lengths, key, rows),
            **options,
        )
    return pd.DataFrame(rows)


def _measuring(
    sweep: Sweep,
    schedule: LaiSchedule,
    data: Housing,
    names: Sequence[str],
    lengths: tuple[int, int, int],
    key: dict[str, Any],
    rows: list[dict[str, Any]],
) -> Callable[[dict[str, Any]], None]:
    """What is to be done after an epoch: a row for each network, if it is one of the last."""
    before, after, last = lengths
    n_batches = len(data.train.x) // min(PROTOCOLS[key["protocol"]].batch_size, len(data.train.x))
    latest = math.nan  # the number of the last Lai batch

    def measuring(row: dict[str, Any]) -> None:
        nonlocal latest
        epoch = row["epoch"]
        taken = schedule.batches(epoch, n_batches).nonzero().flatten()
        latest = epoch * n_batches + int(taken.max()) if len(taken) else latest
        if epoch >= before + after - last:
            since = (epoch + 1) * n_batches - 1 - latest
            for name, model in zip(names, sweep.models(), strict=True):
                rows.append({**key, "arm": name, "epoch": epoch, "since": since, **measured(model, data)})

    return measuring
