"""Lai Training's plan: which batches, or which points of a batch, take the Lai loss (paper, section 5)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .factor import check_choice, check_number

Sampling = Literal["batches", "points"]
Placement = Literal["spread", "free"]


def check_count(name: str, value: object, *, least: int = 0) -> int:
    """Return ``value`` as an int, or raise unless it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} = {value!r}: must be a whole number, {least} or more")
    return int(value)


class LaiSchedule:
    """Which part of each epoch takes the Lai loss, a share alpha of it.

    After ``pretrain_epochs`` with the plain loss alone, ``alpha`` of the batches (or points) are drawn without
    replacement. What is left over is carried on from a random start: with alpha = 0.01 and 58 batches, 58 in every 100
    epochs. The plan depends on ``seed`` and the epoch's number alone, so that a run can be resumed.

    Parameters
    ----------
    alpha : float in [0, 1], the share
    pretrain_epochs : int, epochs at the start with none
    sampling : "batches" or "points"; the paper says both in section 5, "batches" is how it defines α
    placement : "spread" or "free"; the paper does not say which
        "spread": the places are drawn within every epoch (of points, every batch), which has its share. "free": one draw
        for every ``epochs`` epochs together, with which the result depends more on when training stops.
    epochs : int, over how many epochs after pre-training a free draw goes; for it alone
    seed : int

    Source: paper, section 5 (Lai Training).

    Examples
    --------
    >>> schedule = LaiSchedule(0.25, pretrain_epochs=1, seed=0)
    >>> [schedule.batches(epoch, 8).nonzero().flatten().tolist() for epoch in range(3)]
    [[], [2, 3], [5, 6]]
    """

    def __init__(
        self,
        alpha: float,
        *,
        pretrain_epochs: int = 0,
        sampling: Sampling = "batches",
        placement: Placement = "spread",
        epochs: int | None = None,
        seed: int = 0,
    ) -> None:
        check_number("alpha", alpha, "the share of Lai batches must be a number from 0 to 1", 0, 1, ends=True)
        check_choice("sampling", sampling, ("batches", "points"))
        check_choice("placement", placement, ("spread", "free"))
        if (epochs is None) == (placement == "free"):
            raise ValueError(f"epochs = {epochs!r}: must say how many a 'free' draw covers; 'spread' takes none")
        self.alpha = float(alpha)
        self.pretrain_epochs = check_count("pretrain_epochs", pretrain_epochs)
        self.sampling, self.placement = sampling, placement
        self.epochs = None if epochs is None else check_count("epochs", epochs, least=1)
        self.seed = check_count("seed", seed)
        self._share = Fraction(str(self.alpha))  # 0.01 means 1/100, not the double nearest to it
        self._start = Fraction(int(self._rng(0x57A).integers(2**32)), 2**32)

    def __repr__(self) -> str:
        free = "" if self.placement == "spread" else f", placement='free', epochs={self.epochs}"
        return (
            f"LaiSchedule(alpha={self.alpha}, pretrain_epochs={self.pretrain_epochs}, "
            f"sampling={self.sampling!r}{free}, seed={self.seed})"
        )

    def batches(self, epoch: int, n_batches: int) -> Tensor:
        """Which of the epoch's ``n_batches`` take the Lai loss: a bool tensor (n_batches,), on the CPU."""
        check_count("epoch", epoch)
        chosen = torch.zeros(check_count("n_batches", n_batches), dtype=torch.bool)
        if epoch >= self.pretrain_epochs:
            n = self._of_epoch(epoch - self.pretrain_epochs, n_batches)
            chosen[torch.from_numpy(self._rng(epoch, 0x1A1).choice(n_batches, n, replace=False))] = True
        return chosen

    def points(self, epoch: int, sizes: list[int]) -> list[Tensor]:
        """The Lai points of each batch, given the epoch's batch sizes: sorted indices, on the CPU."""
        if check_count("epoch", epoch) < self.pretrain_epochs:
            return [torch.zeros(0, dtype=torch.long) for _ in sizes]
        rng, n, past = self._rng(epoch, 0x1A1), sum(sizes), epoch - self.pretrain_epochs
        if self.placement == "free":
            taken = np.zeros(n, dtype=bool)
            taken[rng.choice(n, self._of_epoch(past, n), replace=False)] = True
            picks = [part.nonzero()[0] for part in np.split(taken, np.cumsum(sizes)[:-1])]
        else:
            starts = past * n + np.cumsum([0, *sizes[:-1]])
            picks = [
                np.sort(rng.choice(size, self._count(int(start), size), replace=False))
                for start, size in zip(starts, sizes, strict=True)
            ]
        return [torch.from_numpy(pick).long() for pick in picks]

    def _of_epoch(self, epoch: int, n: int) -> int:
        """How many of the ``n`` places of an epoch, counted from the end of pre-training, are taken."""
        if self.epochs is None:
            return self._count(epoch * n, n)
        draw, place = divmod(epoch, self.epochs)
        taken = self._count(draw * self.epochs * n, self.epochs * n)
        rng = self._rng(draw, 0xF4EE)
        return int(rng.multivariate_hypergeometric([n] * self.epochs, taken, method="marginals")[place])

    def _count(self, before: int, n: int) -> int:
        """How many of the next ``n`` to choose, ``before`` having gone by: the carry, without a state."""
        return math.floor(self._share * (before + n) + self._start) - math.floor(self._share * before + self._start)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])  # with a tag in it, which keeps it apart from the batch order
