"""How a training with rare Lai batches may end: as it stands, with averaged weights, or with some plain epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch.optim.swa_utils import AveragedModel

from lai.schedule import LaiSchedule, check_count

from .arms import Arm, check_seeds
from .parallel import run_parallel
from .placement import measured, pretrained

if TYPE_CHECKING:
    from evidence.data import Housing


def endings_study(
    data: Callable[[int], Housing],
    *,
    lams: Sequence[float] = (0.1, 0.01, 0.001),
    alpha: float = 0.01,
    seeds: Iterable[int] = range(10),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    last: int = 20,
    plain: int = 4,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Train networks of the protocol "sound" with rare Lai batches, and end each training in four ways.

    Parameters
    ----------
    data : callable from a seed to Housing
    lams, alpha, seeds, pretrain_epochs, epochs : as in :func:`evidence.runs.placement.placement_study`
    last : int
        The last epochs, after each of which networks are measured and their weights averaged.
    plain : int
        Epochs of MSE that are added.
    n_jobs : int
        Processes, a seed each; the results do not depend on it.

    Returns
    -------
    DataFrame
        A row for each seed, arm and ending: "last step", "mean of evaluations", "averaged weights" and "plain epochs" (after the last
        of them); with ``rmse``, ``variance`` and ``rms_k``, as in :func:`evidence.runs.readout.evaluation`.

    Source: ours; the paper does not say when its training ends.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> table = endings_study(lambda seed: load_housing("surrogate"), lams=[0.1], seeds=[0], alpha=0.5,
    ...                       pretrain_epochs=0, epochs=1, last=1, plain=1)
    >>> table["arm"].unique().tolist(), table["ending"].nunique()
    (['MSE', 'λ = 0.1'], 4)
    """
    for name, value, least in (("epochs", epochs, 1), ("last", last, 1), ("plain", plain, 1)):
        check_count(name, value, least=least)
    arms = [Arm(lam, alpha) for lam in lams]
    calls = [
        (data(seed), arms, alpha, seed, (pretrain_epochs, epochs, min(last, epochs), plain))
        for seed in check_seeds(seeds)
    ]
    return pd.concat(run_parallel(_one_seed, calls, n_jobs=n_jobs), ignore_index=True)


def _one_seed(
    data: Housing, arms: Sequence[Arm], alpha: float, seed: int, lengths: tuple[int, int, int, int]
) -> pd.DataFrame:
    before, after, last, plain = lengths
    trunk, options = pretrained(data, "sound", seed, before)
    sweep = trunk.branch([0] * (1 + len(arms)))
    averages = [AveragedModel(model) for model in sweep.models()]
    rows: list[dict[str, Any]] = []

    def add(ending: str, models: Iterable[Any]) -> None:
        for name, model in zip(["MSE", *(arm.name for arm in arms)], models, strict=True):
            rows.append({"seed": seed, "arm": name, "ending": ending, **measured(model, data)})

    def each_epoch(row: dict[str, Any]) -> None:
        if row["epoch"] >= before + after - last:
            add("mean of evaluations", sweep.models())
            for average, model in zip(averages, sweep.models(), strict=True):
                average.update_parameters(model)

    schedule = LaiSchedule(alpha, pretrain_epochs=before, seed=seed)
    lams = [None, *(arm.lam for arm in arms)]
    sweep.fit(lams=lams, schedule=schedule, first_epoch=before, epochs=after, each_epoch=each_epoch, **options)
    add("last step", sweep.models())
    add("averaged weights", (average.module for average in averages))
    sweep.fit(lams=[None] * len(lams), first_epoch=before + after, epochs=plain, **options)
    add("plain epochs", sweep.models())
    return pd.DataFrame(rows).groupby(["seed", "arm", "ending"], sort=False).mean().reset_index()
