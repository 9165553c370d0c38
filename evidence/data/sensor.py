"""The book's running example in one dimension: a noisy sensor, and the five of its readings that the first chapters fit."""

from __future__ import annotations

import torch
from torch import Tensor

from lai.schedule import check_count

FIVE = slice(10, 23, 3)  # from x = -0.73 to 0.19, over the wave's lowest point


def sensor_readings(seeds: int = 1) -> tuple[Tensor, Tensor]:
    """Readings of the wave sin 3x at 40 places from -1.5 to 1.5, with normal noise of standard deviation 0.5.

    Parameters
    ----------
    seeds : int
        Number of data sets, which differ in their noise: seeds 0, 1, ...

    Returns
    -------
    x, y : Tensor (40,), Tensor (seeds, 40), float64
        Pure numbers.

    Examples
    --------
    >>> x, y = sensor_readings(3)
    >>> x.shape, y.shape
    (torch.Size([40]), torch.Size([3, 40]))
    """
    check_count("seeds", seeds, least=1)
    x = torch.linspace(-1.5, 1.5, 40, dtype=torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    noise = torch.stack([torch.randn(40, generator=g, dtype=torch.float64) for g in generators])
    return x, torch.sin(3 * x) + 0.5 * noise


def five_readings() -> tuple[Tensor, Tensor]:
    """Five evenly spaced readings of the sensor's first data set, with a least-squares slope of 1.6.

    Returns
    -------
    x, y : Tensor (5,), float64
        Pure numbers.

    Examples
    --------
    >>> x, y = five_readings()
    >>> round((torch.cov(torch.stack([x, y]))[0, 1] / x.var()).item(), 1)
    1.6
    """
    x, y = sensor_readings()
    return x[FIVE], y[0, FIVE]
