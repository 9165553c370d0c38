"""Networks of an experiment's arms, kept after training: to look at what the tables only sum up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from lai.factor import check_choice
from lai.schedule import check_count

from .arms import MSE, Arm, Cell, train_cells
from .protocols import PROTOCOLS
from .readout import evaluation

if TYPE_CHECKING:
    from evidence.data import Housing
    from lai.models import MLP


class Trained(NamedTuple):
    """The networks of one protocol and seed, by the name of their arm, and what :class:`evidence.runs.arms.Runs` says of them."""

    protocol: str
    models: dict[str, MLP]
    table: pd.DataFrame
    curves: pd.DataFrame


def train_and_keep(data: Housing, protocol: str, arms: Sequence[Arm], seed: int, epochs: int) -> Trained:
    """Train arms on the same batches from the first epoch, as :func:`evidence.runs.arms.train_arms` does, and keep the networks.

    Same results, on the CPU and without pre-training, but for columns of cost. The control, MSE, is added.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    protocol : str
        A name in ``PROTOCOLS``.
    arms : sequence of Arm
        No two of the same name.
    seed : int
        Of initial weights, batch order and schedule.
    epochs : int

    Returns
    -------
    Trained
        Networks as they are at the end, in evaluation mode, with BatchNorm's statistics exact.

    Source: paper, version 1, section 4; the protocols fill in what it leaves open.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> networks = train_and_keep(load_housing("surrogate"), "sound", [Arm(0.1)], seed=0, epochs=0)
    >>> list(networks.models), networks.table["seed"].tolist()
    (['MSE', 'λ = 0.1'], [0, 0])
    """
    check_choice("protocol", protocol, tuple(PROTOCOLS))
    check_count("seed", seed)
    check_count("epochs", epochs)
    wanted = [MSE, *(arm for arm in arms if arm != MSE)]
    names = [arm.name for arm in wanted]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"arms: {repeated[0]} is there twice (λ to 6 digits)")
    models, rows, curves = {}, [], []
    for cell, model, taken, curve, _ in train_cells(data, [Cell(protocol, arm, seed, 0, epochs) for arm in wanted]):
        arm = cell.arm
        key = {"protocol": protocol, "arm": arm.name}
        lams = {"lam": arm.base, "lam_8": arm.last, "alpha": arm.alpha, "seed": seed}
        rows.append({**key, **lams, **evaluation(taken)})
        models[arm.name] = model
        curves.append(pd.DataFrame({**key, "seed": seed, "epoch": curve[0], "val_rmse": curve[1]}))
    return Trained(protocol, models, pd.DataFrame(rows), pd.concat(curves, ignore_index=True))


@torch.no_grad()
def outputs_along(model: nn.Module, x: Tensor, feature: int, values: Tensor) -> Tensor:
    """The mean output over a sample when one feature is set to a value in all of its rows and the others stay.

    Parameters
    ----------
    model : Module from (N, d) to (N,)
        In evaluation mode, if the modes differ.
    x : Tensor (N, d)
    feature : int
        Its column, from 0.
    values : Tensor (G,)
        In the feature's units.

    Returns
    -------
    Tensor (G,)
        In the target's units. Unlike the outputs of rows that differ in the feature, these differ in nothing else:
        their slope is the mean of the model's own slopes k along that feature.

    Source: Friedman, "Greedy function approximation" (2001), section 8.2: partial dependence.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    >>> outputs_along(lambda x: 2 * x[:, 0] + x[:, 1], x, 0, torch.tensor([0.0, 1.0]))
    tensor([2., 4.])
    """
    if not 0 <= feature < x.shape[1]:
        raise ValueError(f"feature = {feature}: must be a column from 0 to {x.shape[1] - 1}")
    rows = x.repeat(len(values), 1)
    rows[:, feature] = values.repeat_interleave(len(x))
    return model(rows).view(len(values), len(x)).mean(1)
