"""Lai Training's plan: which batches, or which points of a batch, take the Lai loss (paper, section 5)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .factor import check_choice

Sampling = Literal["batches", "points"]


def check_count(name: str, value: object, *, least: int = 0) -> int:
    """Return ``value`` as an int, or raise unless it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} = {value!r}: must be a whole number, {least} or more")
    return int(value)


class LaiSchedule:
    """Which part of each epoch takes the Lai loss, a share alpha of it in the long run.

    After ``pretrain_epochs`` with the plain loss alone, each epoch draws ``alpha`` of its batches (or of its
    points, spread evenly over the batches) without replacement. A fraction that is left over is carried to the
    next epoch (or batch), so the share is exactly ``alpha`` in the long run: with alpha = 0.01 and 58 batches,
    58 batches in every 100 epochs.

    The plan depends on ``seed`` and the epoch's number alone, not on torch's random state and not on what was
    asked before. Hence a control arm without Lai loss sees identical batches, and a run can be resumed.

    Parameters
    ----------
    alpha : float in [0, 1]
        The share of batches (or points) that take the Lai loss.
    pretrain_epochs : int
        Epochs at the start with none.
    sampling : "batches" or "points"
        The paper says both in section 5; "batches" is how it defines α.
    seed : int

    Raises
    ------
    ValueError
        For an ``alpha`` outside [0, 1], a negative count or an unknown ``sampling``.

    Source: paper, section 5 (Lai Training).

    Examples
    --------
    >>> schedule = LaiSchedule(0.25, pretrain_epochs=1, seed=0)
    >>> [schedule.batches(epoch, 8).nonzero().flatten().tolist() for epoch in range(3)]
    [[], [2, 3], [5, 6]]
    >>> LaiSchedule(0.01, sampling="points").points(0, [512, 512])
    [tensor([145, 216, 310, 398, 414]), tensor([ 31, 260, 311, 318, 341])]
    """

    def __init__(
        self, alpha: float, *, pretrain_epochs: int = 0, sampling: Sampling = "batches", seed: int = 0
    ) -> None:
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1:
            raise ValueError(f"alpha = {alpha!r}: the share of Lai batches must be a number from 0 to 1")
        check_choice("sampling", sampling, ("batches", "points"))
        self.alpha = float(alpha)
        self.pretrain_epochs = check_count("pretrain_epochs", pretrain_epochs)
        self.sampling = sampling
        self.seed = check_count("seed", seed)
        self._share = Fraction(str(self.alpha))  # 0.01 means 1/100, not the double nearest to it

    def __repr__(self) -> str:
        return (
            f"LaiSchedule(alpha={self.alpha}, pretrain_epochs={self.pretrain_epochs}, "
            f"sampling={self.sampling!r}, seed={self.seed})"
        )

    def batches(self, epoch: int, n_batches: int) -> Tensor:
        """Which of the epoch's ``n_batches`` take the Lai loss: a bool tensor (n_batches,), on the CPU."""
        before = max(0, epoch - self.pretrain_epochs) * n_batches
        chosen = torch.zeros(n_batches, dtype=torch.bool)
        if epoch >= self.pretrain_epochs:
            n = self._count(before, n_batches)
            chosen[torch.from_numpy(self._rng(epoch).choice(n_batches, n, replace=False))] = True
        return chosen

    def points(self, epoch: int, sizes: list[int]) -> list[Tensor]:
        """The Lai points of each batch, given the epoch's batch sizes: sorted indices, on the CPU."""
        if epoch < self.pretrain_epochs:
            return [torch.zeros(0, dtype=torch.long) for _ in sizes]
        rng = self._rng(epoch)
        done = (epoch - self.pretrain_epochs) * sum(sizes)
        chosen = []
        for size in sizes:
            picks = np.sort(rng.choice(size, self._count(done, size), replace=False))
            chosen.append(torch.from_numpy(picks).long())
            done += size
        return chosen

    def _count(self, before: int, n: int) -> int:
        """How many of the next ``n`` to choose, ``before`` having gone by: the carry, without a state."""
        return math.floor(self._share * (before + n)) - math.floor(self._share * before)

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, 0x1A1])  # the tag keeps it apart from the batch order
