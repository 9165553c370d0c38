"""The book's running example: readings of a noisy sensor, the five that the first chapters fit, and the map of house values in two inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from lai.schedule import check_count

from .housing import Housing

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


def house_map(data: Housing, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """Places and values of training houses, each in standard deviations from its mean.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    rows : int, optional
        The first so many houses. Default: all.

    Returns
    -------
    place, value : Tensor (N, 2), Tensor (N,), float64
        Longitude and latitude; the target.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> place, value = house_map(load_housing("surrogate"), 100)
    >>> place.shape, value.shape, bool(place.mean(0).abs().max() < 1e-9)
    (torch.Size([100, 2]), torch.Size([100]), True)
    """
    where = [data.feature_names.index(name) for name in ("Longitude", "Latitude")]
    place, value = data.train.x[:rows, where].double(), data.train.y[:rows].double()
    return tuple((t - t.mean(0)) / t.std(0, correction=0) for t in (place, value))  # type: ignore[return-value]
