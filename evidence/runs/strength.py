"""The plane of α and λ: what each pair does to error, variance and slope, beside its own control."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from lai.factor import check_lam
from lai.gradient import value_and_input_gradient
from lai.metrics import output_variance, rmse
from lai.schedule import LaiSchedule, Sampling, check_count
from lai.sweep import Sweep
from lai.training import resolve_device

from .parallel import run_parallel
from .protocols import PROTOCOLS
from .readout import moments

if TYPE_CHECKING:
    from evidence.data import Housing

Pair = tuple[float, float]


def strength_plane(
    data: Housing,
    *,
    lams: Sequence[float] = (1.0, 0.1, 0.01),
    alphas: Sequence[float] = (0.01, 0.1, 1.0),
    samplings: Sequence[Sampling] = ("batches",),
    pretrained: Sequence[bool] = (True,),
    seeds: Iterable[int] = range(3),
    rows: int = 3072,
    batch_size: int = 256,
    pretrain_epochs: int = 40,
    epochs: int = 40,
    lr: float = 3e-3,
    n_jobs: int = 1,
    device: str = "auto",
) -> pd.DataFrame:
    """Train the network of the protocol "sound" at every pair (α, λ), and with MSE alone.

    All arms of a seed start from one network and see the same batches. Pre-trained arms part after
    ``pretrain_epochs`` of MSE; the others take the Lai loss from the first epoch. Both train for
    ``pretrain_epochs + epochs`` in all.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`; its first ``rows`` training rows are used.
    lams, alphas : sequences of float
        Every pair of them is an arm.
    samplings : of "batches" and "points"
        What α is a share of (:class:`lai.LaiSchedule`).
    pretrained : of True and False
    seeds : ints
    rows, batch_size, pretrain_epochs, epochs : int
    lr : float
        Adam's step size.
    n_jobs : int
        Processes, one seed each; the results do not depend on it.
    device
        As in :func:`lai.fit`.

    Returns
    -------
    DataFrame
        A row for each arm and seed: ``alpha``, ``lam`` (NaN and 0 for the control), ``sampling``, ``pretrained``,
        ``seed``, ``lai_share`` (of all steps, pre-training included), ``rmse`` (validation), ``variance`` (of the
        test outputs), ``rms_k`` (root mean square norm of the slope on validation rows, in target per raw feature):
        means over the last epochs (:func:`evidence.runs.readout.moments`), and after the last step with ``_last``.

    Raises
    ------
    ValueError
        For a λ, α or count outside its range, before anything is trained.

    Source: paper, section 5 ("controlling the sizes of the hyperparameters α and λ"); the settings are ours.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> plane = strength_plane(load_housing("surrogate"), lams=[0.1], alphas=[0.5], seeds=[0], rows=512, epochs=1,
    ...                        pretrain_epochs=1)
    >>> plane[["alpha", "lam", "lai_share"]].values.tolist()
    [[0.0, nan, 0.0], [0.5, 0.1, 0.25]]
    """
    for lam in lams:
        if not isinstance(check_lam(lam, name="lams"), float):
            raise ValueError(f"lams = {lams!r}: each arm takes one number, not a list")
    for alpha in alphas:
        LaiSchedule(alpha, pretrain_epochs=pretrain_epochs)
    for sampling in samplings:
        LaiSchedule(0.5, sampling=sampling)
    for name, value in (("rows", rows), ("batch_size", batch_size), ("epochs", epochs)):
        check_count(name, value, least=1)
    if batch_size > min(rows, len(data.train.x)):
        raise ValueError(
            f"batch_size = {batch_size}: must not exceed the number of rows, {min(rows, len(data.train.x))}"
        )
    chosen = [check_count("seed", s) for s in seeds]
    pairs = [(float(a), float(v)) for a in alphas for v in lams]
    options = (tuple(samplings), tuple(pretrained), rows, batch_size, pretrain_epochs, epochs, lr)
    where = str(resolve_device(device))
    calls = [(data, pairs, seed, where, *options) for seed in chosen]
    return pd.concat(run_parallel(_one_seed, calls, n_jobs=n_jobs), ignore_index=True)


def _one_seed(
    data: Housing,
    pairs: Sequence[Pair],
    seed: int,
    device: str,
    samplings: Sequence[Sampling],
    pretrained: Sequence[bool],
    rows: int,
    batch_size: int,
    pretrain_epochs: int,
    epochs: int,
    lr: float,
) -> pd.DataFrame:
    train = (data.train.x[:rows].to(device), data.train.y[:rows].to(device))
    val, x_test = (data.val.x.to(device), data.val.y.to(device)), data.test.x.to(device)
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "drop_last": True}
    first = Sweep([PROTOCOLS["sound"].model(train[0], seed)], lr=lr, device=device)
    trunk = first.branch([0])
    trunk.fit(train, lams=[None], epochs=pretrain_epochs, **options)
    parts = []
    for late in pretrained:
        done = pretrain_epochs if late else 0
        share = epochs / (pretrain_epochs + epochs) if late else 1.0
        # Arms of one α have their Lai batches at the same places: they are trained side by side.
        groups: list[tuple[Sampling, float, list[float | None]]] = [("batches", 0.0, [None])] * (late == pretrained[0])
        groups += [
            (kind, alpha, [lam for a, lam in pairs if a == alpha])
            for kind in samplings
            for alpha in dict.fromkeys(alpha for alpha, _ in pairs)
        ]
        for kind, alpha, lams in groups:
            arms = (trunk if late else first).branch([0] * len(lams))
            taken: list[pd.DataFrame] = []
            arms.fit(
                train,
                lams=lams,
                schedule=LaiSchedule(alpha, pretrain_epochs=done, sampling=kind, seed=seed),
                first_epoch=done,
                epochs=pretrain_epochs + epochs - done,
                each_epoch=partial(_watch, arms, val, x_test, moments(pretrain_epochs + epochs, epochs), taken),
                **options,
            )
            means = sum(taken[1:], taken[0]) / len(taken)
            parts += [
                {
                    "alpha": alpha,
                    "lam": math.nan if lam is None else lam,
                    "sampling": kind,
                    "pretrained": late,
                    "seed": seed,
                    "lai_share": alpha * share,
                    **means.iloc[i],
                    **taken[-1].iloc[i].add_suffix("_last"),
                }
                for i, lam in enumerate(lams)
            ]
    return pd.DataFrame(parts)


def _watch(arms: Sweep, val: Any, x_test: torch.Tensor, when: list[int], taken: list[pd.DataFrame], row: Any) -> None:
    """After the epochs ``when``, the last of which ends the training: what is measured of each arm."""
    if row["epoch"] in when:
        taken.append(pd.DataFrame([_read(model, val, x_test) for model in arms.models()]))


def _read(model: torch.nn.Module, val: tuple[torch.Tensor, torch.Tensor], x_test: torch.Tensor) -> dict[str, float]:
    model.eval()
    _, k = value_and_input_gradient(model, val[0], create_graph=False)
    slope = k.double().square().sum(1).mean().sqrt().item()
    return {"rmse": rmse(model, *val), "variance": output_variance(model, x_test), "rms_k": slope}
