"""The published network trained on Lai loss with three slopes: summed through BatchNorm, and two that are its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn

from lai.batchnorm import SLOPES, FixedStatistics, set_exact_statistics
from lai.factor import check_choice, check_lam
from lai.gradient import value_and_input_gradient
from lai.loss import LaiLoss
from lai.metrics import output_variance, rmse
from lai.schedule import LaiSchedule, check_count
from lai.training import fit

from .parallel import run_parallel
from .protocols import PROTOCOLS

if TYPE_CHECKING:
    from evidence.data import Housing

PAPER_LAMS = (1e-1, 1e-2, 1e-3)
"""The λ that both versions of the paper have."""


def compare_slopes(
    data: Housing,
    *,
    lams: Mapping[str, Sequence[float]] | None = None,
    alpha: float = 1.0,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 10,
    epochs: int = 5,
    lr: float = 1e-3,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Train copies of one network that differ in the slope that their loss is given, and in λ.

    For each seed the network of the protocol "published" (raw features, 64-32, BatchNorm, ReLU) is pre-trained with
    MSE; every arm goes on from a copy of it, with the optimiser's state and on identical batches. On the CPU.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    lams : mapping from a key of ``SLOPES`` to its λ, optional
        The arms. Default: ``PAPER_LAMS`` for "summed" and "own".
    alpha : float
        Share of batches that take the Lai loss after pre-training; 1 in version 1.
    seeds : ints
        Each sets initial weights, batch order and schedule.
    pretrain_epochs, epochs : int
        Before and after the arms part.
    lr : float
        Adam's step size.
    n_jobs : int
        Processes, one seed each; the results do not depend on it.

    Returns
    -------
    DataFrame
        A row for each arm and seed, MSE among them: ``slope``, ``lam`` (NaN for MSE), ``arm`` (its name), ``seed``,
        ``rmse`` on the validation rows, ``variance`` of the outputs for the test rows, and ``rms_k``, the root mean
        square over validation rows of the norm of the slope in eval mode. Statistics are recomputed over the training
        rows first. Units: of the target, its square, and the target per raw feature.

    Raises
    ------
    ValueError
        For an unknown slope, a bad λ or a seed given twice, before anything is trained.

    Source: ours. Version 1 of the paper, section 4, has α = 1, and does not say how k was computed.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> runs = compare_slopes(load_housing("surrogate"), lams={"own": [0.1]}, seeds=[0], pretrain_epochs=0, epochs=0)
    >>> runs["arm"].tolist()  # untrained
    ['MSE', 'own, λ = 0.1']
    """
    arms: list[tuple[str, float]] = []
    for slope, values in ({"summed": PAPER_LAMS, "own": PAPER_LAMS} if lams is None else lams).items():
        check_choice("slope", slope, tuple(SLOPES))
        for value in values:
            if not isinstance(check_lam(value), float):
                raise ValueError(f"lams[{slope!r}] = {values!r}: each arm takes one number, not a list")
            arms.append((slope, float(value)))
    names = [slope_arm(*arm) for arm in arms]
    if len(set(names)) != len(names):
        raise ValueError(f"lams = {lams!r}: give no λ twice for one slope (to 6 digits)")
    chosen = [check_count("seed", s) for s in seeds]
    if len(set(chosen)) != len(chosen) or not chosen:
        raise ValueError(f"seeds = {chosen}: give at least one, and none twice")
    LaiSchedule(alpha, pretrain_epochs=pretrain_epochs)  # says what is wrong with them
    check_count("epochs", epochs)
    calls = [(data, arms, alpha, s, pretrain_epochs, epochs, lr) for s in chosen]
    return pd.concat(run_parallel(_one_seed, calls, n_jobs=n_jobs), ignore_index=True)


def slope_arm(slope: str, lam: float) -> str:
    """How an arm is called in the table.

    >>> slope_arm("own", 1e-3)
    'own, λ = 0.001'
    """
    return f"{slope}, λ = {lam:g}"


def by_slope(strength: pd.DataFrame) -> pd.DataFrame:
    """The runs of the table "strength" that differ in their slope alone, in the form of :func:`compare_slopes`.

    Its protocols "published" and "corrected" are one network, with the summed slope and with each sample's own; their MSE arms are
    the same runs. At the λ of ``PAPER_LAMS``.

    Examples
    --------
    >>> runs = [("published", None), ("published", 0.1), ("corrected", None), ("corrected", 0.1), ("sound", 0.1)]
    >>> table = pd.DataFrame(runs, columns=["protocol", "lam"]).assign(seed=0, rmse=0.7, variance=0.8, rms_k=1.0)
    >>> by_slope(table)["arm"].tolist()
    ['MSE', 'summed, λ = 0.1', 'own, λ = 0.1']
    """
    slopes = {"published": "summed", "corrected": "own"}
    plain = strength["lam"].isna()
    wanted = (plain & (strength["protocol"] == "published")) | (
        strength["protocol"].isin(slopes) & strength["lam"].isin(PAPER_LAMS)
    )
    kept = strength[wanted]
    slope = kept["protocol"].map(slopes).mask(kept["lam"].isna(), "none")
    arm = ["MSE" if s == "none" else slope_arm(s, lam) for s, lam in zip(slope, kept["lam"], strict=True)]
    return kept.assign(slope=slope, arm=arm)[["slope", "lam", "arm", "seed", "rmse", "variance", "rms_k"]]


def _one_seed(
    data: Housing,
    arms: Sequence[tuple[str, float]],
    alpha: float,
    seed: int,
    pretrain_epochs: int,
    epochs: int,
    lr: float,
) -> pd.DataFrame:
    recipe = PROTOCOLS["published"]
    x = data.train.x
    model: nn.Module = recipe.model(x, seed)
    adam = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    settings: dict[str, Any] = {"batch_size": recipe.batch_size, "lr": lr, "seed": seed, "device": "cpu"}
    settings["drop_last"] = len(x) >= recipe.batch_size
    fit(model, data.train, epochs=pretrain_epochs, optimizer=adam, **settings)
    rows = []
    for slope, lam in (("none", math.nan), *arms):
        branch, state = copy.deepcopy((model, adam))
        fit(
            _with_slope(branch, slope),
            data.train,
            criterion=None if slope == "none" else LaiLoss(lam),
            schedule=LaiSchedule(alpha, pretrain_epochs=pretrain_epochs, seed=seed),
            epochs=epochs,
            first_epoch=pretrain_epochs,
            optimizer=state,
            allow_coupling=slope == "summed",
            **settings,
        )
        set_exact_statistics(branch, x, batch_size=len(x))
        _, k = value_and_input_gradient(branch.eval(), data.val.x, create_graph=False)
        rows.append(
            {
                "slope": slope,
                "lam": lam,
                "arm": "MSE" if slope == "none" else slope_arm(slope, lam),
                "seed": seed,
                "rmse": rmse(branch, *data.val),
                "variance": output_variance(branch, data.test.x),
                "rms_k": k.double().square().sum(1).mean().sqrt().item(),
            }
        )
    return pd.DataFrame(rows)


def _with_slope(model: nn.Module, slope: str) -> nn.Module:
    if slope == "own":
        return FixedStatistics(model, "batch")
    return FixedStatistics(model, "running") if slope == "running" else model
