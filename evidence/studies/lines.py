"""Straight-line fits under the Lai loss: surfaces over slope and intercept, and where their minima lie (appendix A).

Everything here concerns a line k x + b and data y = κ x + c + noise. In these names κ is ``slope``, and ``rho`` is the
variance of the noise over the variance of x, the one number besides κ that decides where the best slope lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lai.factor import BASES, Base, check_choice, check_lam, lai_factor
from lai.schedule import check_count

Minimum = Literal["local", "global"]


class Line(NamedTuple):
    """A line and its mean Lai loss."""

    slope: float
    intercept: float
    loss: float


def line_data(
    noise: float,
    x_range: Sequence[float] = (-1.0, 1.0),
    *,
    slope: float = 3.0,
    intercept: float = 4.0,
    n: int = 400,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Points on either side of a line, x and the vertical noise both uniform.

    Parameters
    ----------
    noise : float
        The half-width of the noise, in units of y, 0 or more.
    x_range : two floats
        The lowest and the highest x.
    slope, intercept : float
        The paper's line is y = 3x + 4.
    n : int
        How many points.
    seed : int, optional
        None sets the points out evenly instead of drawing them: every x of a regular grid with every noise value of
        another, as many of each as √n allows. x and noise are then exactly uncorrelated and nothing is left to chance.

    Returns
    -------
    x, y : Tensor (n,), Tensor (n,)
        In float64. With ``seed=None`` the length is the largest square up to ``n``.

    Source: paper, appendix A, which states neither the noise nor the range of x.

    Examples
    --------
    >>> x, y = line_data(1.0, (0.0, 4.0), n=4)
    >>> x.tolist(), y.tolist()
    ([1.0, 1.0, 3.0, 3.0], [6.5, 7.5, 12.5, 13.5])
    """
    low, high = check_range(x_range)
    noise = _check_finite("noise", noise, least=0.0)
    if seed is None:
        side = math.isqrt(check_count("n", n, least=4))
        middles = (2 * torch.arange(side, dtype=torch.float64) + 1) / side - 1
        pairs = torch.cartesian_prod(middles, middles)
    else:
        generator = torch.Generator().manual_seed(check_count("seed", seed))
        pairs = 2 * torch.rand(check_count("n", n, least=4), 2, dtype=torch.float64, generator=generator) - 1
    x = (low + high) / 2 + (high - low) / 2 * pairs[:, 0]
    return x, slope * x + intercept + noise * pairs[:, 1]


def line_surface(x: Tensor, y: Tensor, slopes: Tensor, intercepts: Tensor, *, lam: float, base: Base = "mae") -> Tensor:
    """The mean Lai loss of every line with one of the slopes and one of the intercepts.

    Parameters
    ----------
    x, y : Tensor (N,), Tensor (N,)
    slopes, intercepts : Tensor (S,), Tensor (B,)
        In units of y per x, and of y.
    lam : float
        λ > 0, as in :func:`lai.lai_factor`.
    base : "mae" or "mse"

    Returns
    -------
    Tensor (S, B)
        In units of y for "mae", of y squared for "mse".

    Source: paper, section 3.1 and appendix A.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])
    >>> line_surface(x, y, torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]), lam=1.0)
    tensor([[0.5000, 0.5000],
            [0.0000, 0.7071]])
    """
    _check_points(x, y)
    check_choice("base", base, BASES)
    factor = lai_factor(slopes, float(check_lam(lam, n_features=1)), base=base)
    rows = []
    for k in slopes:  # a row at a time: the memory is B x N, not S x B x N
        e = k * x + intercepts[:, None] - y
        rows.append((e.abs() if base == "mae" else e.square()).mean(1))
    return torch.stack(rows) * factor[:, None]


def best_line(x: Tensor, y: Tensor, *, lam: float, base: Base = "mae") -> Line:
    """The line with the least Lai loss of all, by search over the slope.

    All points of a line share one factor, so for a given slope the best intercept is that of the plain loss: the mean
    of y - k x for "mse", its median for "mae". What is left is one curve over the slope. It can have several valleys:
    a fine grid finds the deepest, bisection of the bracket its bottom, and the boundary itself is tried as well.

    Parameters
    ----------
    x, y : Tensor (N,), Tensor (N,)
        N at least 2, x not constant.
    lam : float
    base : "mae" or "mse"

    Source: paper, appendix A.

    Examples
    --------
    >>> x, y = line_data(5.0, n=400)
    >>> line = best_line(x, y, lam=2.0)
    >>> round(line.slope, 6), round(line.intercept, 6)
    (2.0, 4.0)
    """
    _check_points(x, y)
    check_choice("base", base, BASES)
    lam = float(check_lam(lam, n_features=1))
    fitted, rho, x_mean, y_mean = line_moments(x, y)
    u, v = (x.double() - x_mean).numpy(), (y.double() - y_mean).numpy()
    bound = math.sqrt(lam) if base == "mse" else lam
    spread = float((u * u).mean())

    def height(k: np.ndarray) -> np.ndarray:
        if base == "mse":
            return spread * (rho + (k - fitted) ** 2)
        r = v - k[:, None] * u
        r = r - np.median(r, axis=1, keepdims=True)
        return np.abs(r).mean(1)

    k = _deepest(height, bound, base, fitted, rho)
    r = v - k * u
    middle = float(r.mean() if base == "mse" else np.median(r))
    loss = float(height(np.array([k]))[0]) * float(_factor(np.array([k]), bound, base)[0])
    return Line(k, y_mean + middle - k * x_mean, loss)


class Moments(NamedTuple):
    """What squared errors see of a sample."""

    slope: float
    rho: float
    x_mean: float
    y_mean: float


def line_moments(x: Tensor, y: Tensor) -> Moments:
    """The least-squares slope, ρ = residual variance over the variance of x, and the two means.

    Examples
    --------
    >>> import torch
    >>> line_moments(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([-1.0, 1.0, 3.0]))
    Moments(slope=2.0, rho=0.0, x_mean=0.0, y_mean=1.0)
    """
    _check_points(x, y)
    x, y = x.double(), y.double()
    u, v = x - x.mean(), y - y.mean()
    spread = float(u.square().mean())
    if spread == 0:
        raise ValueError("x is constant: a slope needs two different values of x")
    slope = float((u * v).mean()) / spread
    return Moments(slope, float((v - slope * u).square().mean()) / spread, float(x.mean()), float(y.mean()))


def total_least_squares(slope: float, rho: float) -> float:
    r"""The slope of total least squares, where the Lai loss ends for λ → ∞.

    .. math::
        k_T = \frac{(\kappa^2 + \rho - 1) + \sqrt{(\kappa^2 + \rho - 1)^2 + 4\kappa^2}}{2\kappa}

    Parameters
    ----------
    slope : float
        κ, not 0: the least-squares slope of a sample, or the true one of a population.
    rho : float
        Residual variance over the variance of x, 0 or more.

    Raises
    ------
    ValueError
        If ``slope`` is 0 or not finite, or ``rho`` negative.

    Source: ours, for the basin of the paper's appendix A; the estimator is older than the paper by a century.

    Examples
    --------
    >>> total_least_squares(3.0, 0.0), round(total_least_squares(3.0, 1.0), 4)
    (3.0, 3.3028)
    """
    slope, rho = _check_slope(slope), _check_finite("rho", rho, least=0.0)
    a = slope * slope + rho - 1
    root = math.hypot(a, 2 * slope)
    if a >= 0:
        return (a + root) / (2 * slope)
    return 2 * slope / (root - a)  # the same number, without a difference of nearly equal ones


def mean_error(k: Tensor, slope: float, rho: float, *, base: Base = "mse") -> Tensor:
    r"""The plain error of a line with slope k and the best intercept, for a whole population.

    For "mse" :math:`\rho + (k - \kappa)^2`, in units of the variance of x, whatever the distributions. For "mae" x and
    noise are uniform, with :math:`a` the greater and :math:`b` the smaller of :math:`|k - \kappa|` and
    :math:`\sqrt\rho`, and the mean of :math:`|e|` is :math:`a/2 + b^2/(6a)` in units of the half-width of x.

    Parameters
    ----------
    k : Tensor of any shape
    slope, rho : float
        As in :func:`total_least_squares`.
    base : "mae" or "mse"

    Source: ours; the population is our reading of the paper's appendix A.

    Examples
    --------
    >>> import torch
    >>> mean_error(torch.tensor([3.0, 2.0]), 3.0, 1.0), mean_error(torch.tensor([3.0, 2.0]), 3.0, 1.0, base="mae")
    (tensor([1., 2.]), tensor([0.5000, 0.6667]))
    """
    check_choice("base", base, BASES)
    u = (k - slope).abs()
    if base == "mse":
        return rho + u * u
    width = torch.as_tensor(math.sqrt(rho), dtype=u.dtype)
    a, b = torch.maximum(u, width), torch.minimum(u, width)
    return a / 2 + torch.where(a > 0, b * b / torch.where(a > 0, 6 * a, 1.0), 0.0)


def best_slope(slope: float, rho: float, *, lam: float, base: Base = "mse") -> float:
    """The slope with the least Lai loss for the population of :func:`mean_error`.

    Parameters
    ----------
    slope, rho, base
        As in :func:`mean_error`.
    lam : float

    Source: paper, appendix A.

    Examples
    --------
    >>> best_slope(3.0, 10.0, lam=36.0)  # enough noise: the boundary
    6.0
    >>> round(best_slope(3.0, 1.0, lam=36.0), 4)  # less: total least squares
    3.3028
    """
    slope, rho = _check_slope(slope), _check_finite("rho", rho, least=0.0)
    check_choice("base", base, BASES)
    lam = float(check_lam(lam, n_features=1))
    bound = math.sqrt(lam) if base == "mse" else lam

    def height(k: np.ndarray) -> np.ndarray:
        return mean_error(torch.from_numpy(k), slope, rho, base=base).numpy()

    return _deepest(height, bound, base, slope, rho)


def noise_needed(target: float, slope: float, *, base: Base = "mse", minimum: Minimum = "global") -> float:
    r"""The ρ from which the boundary, put at the slope ``target``, is a minimum of the Lai loss.

    With :math:`u = |t - \kappa|`, and :math:`1/q` the rate at which the logarithm of the MAE factor falls towards
    :math:`t` on the side of :math:`\kappa`,

    .. math::
        q = \begin{cases} t(1 + t^2) & t < \kappa\\ (1 + t^2)/t & t > \kappa\end{cases}
        \qquad
        \rho_{\mathrm{mse}} = u\,(q - u), \qquad
        \rho_{\mathrm{mae}} = \begin{cases} u\,(2q - u)/3 & q \ge 2u\\ 3u^2 (q - u)/(q + u) & q < 2u\end{cases}

    and 0 where these are negative. For :math:`t > \kappa` nothing else competes and this is all. For :math:`t < \kappa`
    the valley near :math:`\kappa` may be deeper still: with ``minimum="global"`` the noise that settles it is searched.

    Parameters
    ----------
    target, slope : float
        t > 0 and κ > 0, in the same units. λ is then t for "mae" and t² for "mse".
    base : "mae" or "mse"
        "mae" for uniform x and noise. (For normal ones the thresholds of "mse" hold for both.)
    minimum : "local" or "global"

    Returns
    -------
    float
        The variance of the noise over that of x.

    Source: ours, for the paper's appendix A.

    Examples
    --------
    >>> noise_needed(6.0, 3.0), noise_needed(6.0, 3.0, base="mae")
    (9.5, 9.333333333333334)
    >>> noise_needed(1.0, 3.0, minimum="local"), round(noise_needed(1.0, 3.0), 2)
    (0.0, 5.08)
    """
    t, slope = _check_slope(target, "target"), _check_slope(slope)
    check_choice("base", base, BASES)
    check_choice("minimum", minimum, ("local", "global"))
    if t < 0 or slope < 0:
        raise ValueError(f"target = {target}, slope = {slope}: both must be greater than 0")
    u, q = abs(t - slope), t * (1 + t * t) if t < slope else (1 + t * t) / t
    if base == "mse":
        local = u * (q - u)
    else:
        local = u * (2 * q - u) / 3 if q >= 2 * u else 3 * u * u * (q - u) / (q + u)
    local = max(0.0, local)
    if minimum == "local" or t >= slope:
        return local
    lam = t * t if base == "mse" else t

    def wins(rho: float) -> bool:
        return abs(best_slope(slope, rho, lam=lam, base=base) - t) < 1e-9

    if wins(local):
        return local
    low, high = local, max(1.0, 2 * local)
    while not wins(high):
        low, high = high, 2 * high
    while high - low > 1e-7 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if wins(middle) else (middle, high)
    return high


def check_range(x_range: Sequence[float]) -> tuple[float, float]:
    """(low, high) as floats, or a ``ValueError``."""
    try:
        low, high = map(float, x_range)
    except (TypeError, ValueError):
        raise ValueError(f"x_range = {x_range!r}: must be two numbers, the lowest and the highest x") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"x_range = {x_range!r}: must be two finite numbers, the first the smaller")
    return low, high


def _factor(k: np.ndarray, bound: float, base: Base) -> np.ndarray:
    f = np.maximum(np.abs(k), bound) / np.hypot(1, k) / min(1.0, bound)
    return f * f if base == "mse" else f


def _deepest(
    height: Callable[[np.ndarray], np.ndarray], bound: float, base: Base, slope: float, rho: float, n: int = 2001
) -> float:
    """The slope at which height times factor is least: the kinks or the bottom of the grid's deepest valley."""
    # Beyond both the boundary and the basin everything rises. The basin of absolute errors lies near that of squares.
    top = 1.5 * max(bound, abs(total_least_squares(slope, rho)) if slope else 0.0) + 1.0
    inner = min(1.0, 2 * abs(slope), 3 * bound)
    grid = np.unique(np.concatenate([np.linspace(0, inner, n // 4), np.linspace(inner, top, n)]))
    grid = np.unique(np.concatenate([-grid, grid]))

    def loss(k: np.ndarray) -> np.ndarray:
        return height(k) * _factor(k, bound, base)

    at = int(np.argmin(loss(grid)))
    low, high = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    while high - low > 1e-10 * max(1.0, abs(high)):
        inside = np.linspace(low, high, 9)
        best = int(np.argmin(loss(inside)))
        low, high = inside[max(best - 1, 0)], inside[min(best + 1, 8)]
    candidates = np.array([bound, -bound, (low + high) / 2])  # of equals the first: a kink is met exactly
    values = loss(candidates)
    return float(candidates[int(np.argmax(values <= values.min() * (1 + 1e-13)))])


def _check_points(x: Tensor, y: Tensor) -> None:
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: both must be (N,), with N at least 2")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("x and y must be finite")


def _check_finite(name: str, value: float, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
        raise ValueError(f"{name} = {value!r}: must be a finite number, {least:g} or more")
    return float(value)


def _check_slope(value: float, name: str = "slope") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < abs(value) < math.inf:
        raise ValueError(f"{name} = {value!r}: must be finite and not 0")
    return float(value)
