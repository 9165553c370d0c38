"""Lines under the Lai loss, against scipy's optimisers, orthogonal regression and plain definitions."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad
from scipy.optimize import minimize, minimize_scalar

import lai
from evidence.studies import lines


def sample(noise: float = 2.0, seed: int = 0, x_range: tuple[float, float] = (-1.0, 3.0), n: int = 60) -> Any:
    return lines.line_data(noise, x_range, n=n, seed=seed)


# --- data ------------------------------------------------------------------------------------------------------


def test_random_data_stay_on_either_side_of_the_line_and_repeat() -> None:
    x, y = lines.line_data(0.5, (2.0, 5.0), slope=-1.0, intercept=7.0, n=1000, seed=3)
    e = y - (7 - x)
    assert x.dtype == torch.float64 and len(x) == 1000
    assert 2 <= x.min() < 2.1 and 4.9 < x.max() <= 5 and -0.5 <= e.min() < -0.45 and 0.45 < e.max() <= 0.5
    again = lines.line_data(0.5, (2.0, 5.0), slope=-1.0, intercept=7.0, n=1000, seed=3)
    assert torch.equal(again[0], x) and torch.equal(again[1], y)


def test_even_data_have_the_ratio_exactly() -> None:
    x, y = lines.line_data(3.0, (0.0, 4.0), n=410)
    assert len(x) == 400
    moments = lines.line_moments(x, y)
    assert moments == pytest.approx((3.0, (3.0 / 2.0) ** 2, 2.0, 10.0))


def test_moments_against_numpy() -> None:
    x, y = sample()
    slope, intercept = np.polyfit(x, y, 1)
    residual = y.numpy() - slope * x.numpy() - intercept
    expected = (slope, residual.var() / x.numpy().var(), float(x.mean()), float(y.mean()))
    assert lines.line_moments(x, y) == pytest.approx(expected)


# --- the surface -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("lam", [0.1, 1.0, 36.0])
def test_surface_is_the_library_loss_of_each_line(base: Any, lam: float) -> None:
    x, y = sample()
    k, b = torch.linspace(-3, 6, 5, dtype=torch.float64), torch.linspace(0, 8, 4, dtype=torch.float64)
    surface = lines.line_surface(x, y, k, b, lam=lam, base=base)
    assert surface.shape == (5, 4)
    for i in range(5):
        for j in range(4):
            one = lai.lai_loss(k[i] * x + b[j], y, k[i].expand(len(x)), lam=lam, base=base)
            assert surface[i, j].item() == pytest.approx(one.item())


# --- the best line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("base, lam", [("mae", 0.5), ("mae", 2.0), ("mae", 1e4), ("mse", 0.25), ("mse", 36.0)])
def test_best_line_against_scipy_from_many_starts(base: Any, lam: float, seed: int) -> None:
    x, y = sample(noise=1 + 3 * seed, seed=seed)
    bound = math.sqrt(lam) if base == "mse" else lam

    def loss(p: np.ndarray) -> float:
        e = p[0] * x.numpy() + p[1] - y.numpy()
        f = max(abs(p[0]), bound) / math.hypot(1, p[0]) / min(1, bound)
        return float(np.mean(np.abs(e) * f if base == "mae" else (e * f) ** 2))

    line = lines.best_line(x, y, lam=lam, base=base)
    assert line.loss == pytest.approx(loss(np.array(line[:2])))
    starts = [(k, 4 - k) for k in (-6.0, -2.0, -0.5, 0.5, 1.0, 2.0, 3.0, 5.0)]
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    least = min(minimize(loss, s, method="Nelder-Mead", options=options).fun for s in starts)
    assert line.loss <= least * (1 + 1e-7)


def test_best_line_follows_the_data_around() -> None:
    """Shifting x shears the surface: the slope stays, the intercept turns about the middle of the data."""
    x, y = lines.line_data(5.0, (-1.0, 1.0))
    far_x, far_y = lines.line_data(5.0 * 5, (0.0, 10.0))  # the same ratio
    near, far = lines.best_line(x, y, lam=1.0), lines.best_line(far_x, far_y, lam=1.0)
    assert near[:2] == pytest.approx((1.0, 4.0), abs=1e-6)
    assert far[:2] == pytest.approx((1.0, 4 + 2 * 5), abs=1e-6)
    mirrored = lines.best_line(-x, y, lam=1.0)
    assert mirrored[:2] == pytest.approx((-1.0, 4.0), abs=1e-6)


def test_exact_data_are_not_pulled() -> None:
    x, y = lines.line_data(0.0)
    for base in ("mae", "mse"):
        line = lines.best_line(x, y, lam=0.5, base=base)  # type: ignore[arg-type]
        assert line == pytest.approx((3.0, 4.0, 0.0), abs=1e-8)


# --- closed forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_total_least_squares_is_orthogonal_regression(seed: int) -> None:
    x, y = sample(noise=0.5 + 2 * seed, seed=seed)
    moments = lines.line_moments(x, y)
    centred = np.stack([x - x.mean(), y - y.mean()], 1)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    assert lines.total_least_squares(moments.slope, moments.rho) == pytest.approx(direction[1] / direction[0])
    assert lines.best_line(x, y, lam=1e12, base="mse").slope == pytest.approx(direction[1] / direction[0], abs=1e-6)


def test_total_least_squares_against_odr() -> None:
    odr = pytest.importorskip("scipy.odr")
    x, y = sample()
    fit = odr.ODR(odr.RealData(x.numpy(), y.numpy()), odr.unilinear).run()
    moments = lines.line_moments(x, y)
    assert lines.total_least_squares(moments.slope, moments.rho) == pytest.approx(
        fit.beta[0], rel=1e-4
    )  # its tolerance


@pytest.mark.parametrize("slope", [-3.0, -0.2, 0.01, 0.7, 3.0])
@pytest.mark.parametrize("rho", [0.0, 1e-6, 0.3, 9.5, 1e4])
def test_total_least_squares_solves_its_equation(slope: float, rho: float) -> None:
    """slope k² + (1 - slope² - rho) k - slope = 0: the cosine branch is level there, and minimal."""
    k = lines.total_least_squares(slope, rho)
    terms = slope * k * k, (1 - slope * slope - rho) * k, -slope
    assert sum(terms) == pytest.approx(0, abs=1e-9 * max(map(abs, terms)))
    assert k * slope > 0
    if 1e-3 < rho < 100:  # elsewhere the valley is too sharp or too flat for a search
        found = minimize_scalar(lambda t: (rho + (t - slope) ** 2) / (1 + t * t), (0.5 * k, k, 2 * k))
        assert found.x == pytest.approx(k, rel=1e-5)


@pytest.mark.parametrize("u, h", [(0.0, 1.0), (0.4, 1.0), (1.0, 1.0), (2.5, 1.0), (2.0, 0.0)])
def test_mean_error_of_uniform_data_by_quadrature(u: float, h: float) -> None:
    value, _ = dblquad(lambda s, t: abs(u * s + h * t) / 4, -1, 1, -1, 1, epsabs=1e-6)
    k = torch.tensor(3.0 - u, dtype=torch.float64)
    assert lines.mean_error(k, 3.0, h * h, base="mae").item() == pytest.approx(value, abs=1e-4)
    assert lines.mean_error(k, 3.0, h * h).item() == pytest.approx(h * h + u * u)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("rho", [0.1, 4.0, 12.0])
@pytest.mark.parametrize("bound", [0.01, 0.5, 2.0, 6.0, 1e4])
def test_best_slope_against_a_fine_grid_and_large_samples(base: Any, rho: float, bound: float) -> None:
    lam = bound**2 if base == "mse" else bound
    found = lines.best_slope(3.0, rho, lam=lam, base=base)
    k = torch.linspace(-15, 15, 300_001, dtype=torch.float64)
    loss = lines.mean_error(k, 3.0, rho, base=base) * lai.lai_factor(k, lam, base=base)
    at = torch.tensor([found], dtype=torch.float64)
    best = lines.mean_error(at, 3.0, rho, base=base) * lai.lai_factor(at, lam, base=base)
    assert best.item() <= loss.min().item() * (1 + 1e-9)
    x, y = lines.line_data(math.sqrt(rho), n=2500)
    assert lines.best_line(x, y, lam=lam, base=base).slope == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("slope, target", [(3.0, 0.5), (3.0, 1.0), (3.0, 2.0), (3.0, 6.0), (0.4, 0.2), (0.4, 1.5)])
def test_noise_needed_is_where_the_best_slope_arrives(base: Any, slope: float, target: float) -> None:
    lam = target**2 if base == "mse" else target
    rho = lines.noise_needed(target, slope, base=base)
    assert lines.best_slope(slope, 1.01 * rho + 1e-6, lam=lam, base=base) == pytest.approx(target, abs=1e-9)
    if rho > 0:
        assert lines.best_slope(slope, 0.99 * rho, lam=lam, base=base) != pytest.approx(target, abs=1e-4)
    local = lines.noise_needed(target, slope, base=base, minimum="local")
    assert local <= rho * (1 + 1e-6)

    def drops(r: float) -> bool:
        """Whether the loss rises on both sides of the boundary."""
        k = target * torch.tensor([1 - 1e-6, 1.0, 1 + 1e-6], dtype=torch.float64)
        v = lines.mean_error(k, slope, r, base=base) * lai.lai_factor(k, lam, base=base)
        return bool(v[0] > v[1] < v[2])

    assert drops(1.01 * local + 1e-3)
    assert local == 0 or not drops(0.99 * local)


def test_thresholds_of_squared_errors_in_other_words() -> None:
    for target in (3.5, 6.0, 20.0):
        assert lines.noise_needed(target, 3.0) == pytest.approx((target - 3) * (3 + 1 / target))
        assert lines.total_least_squares(3.0, lines.noise_needed(target, 3.0)) == pytest.approx(target)
    for target in (1.0, 2.0, 2.9):
        d = 3 - target
        expected = max(0.0, d * (target * (1 + target**2) - d))
        assert lines.noise_needed(target, 3.0, minimum="local") == pytest.approx(expected)
    assert lines.noise_needed(3.0, 3.0) == 0


def test_normal_data_have_one_threshold_for_both_losses() -> None:
    """With normal x and noise the mean of |e| is √(2/π) times the root of the mean of e²."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4_000, generator=generator, dtype=torch.float64)
    y = 3 * x + 4 + math.sqrt(12.0) * torch.randn(4_000, generator=generator, dtype=torch.float64)
    for bound in (1.0, 2.0, 6.0, 50.0):
        mae, mse = (lines.best_line(x, y, lam=v, base=b) for v, b in ((bound, "mae"), (bound**2, "mse")))  # type: ignore[arg-type]
        assert mae.slope == pytest.approx(mse.slope, rel=0.1)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: lines.line_data(-1.0), "noise"),
        (lambda: lines.line_data(math.nan), "noise"),
        (lambda: lines.line_data(1.0, (1.0, 1.0)), "x_range"),
        (lambda: lines.line_data(1.0, (0.0, math.inf)), "x_range"),
        (lambda: lines.line_data(1.0, 3.0), "x_range"),  # type: ignore[arg-type]
        (lambda: lines.line_data(1.0, n=3), "n = 3"),
        (lambda: lines.total_least_squares(0.0, 1.0), "slope"),
        (lambda: lines.total_least_squares(1.0, -1.0), "rho"),
        (lambda: lines.noise_needed(-1.0, 3.0), "target"),
        (lambda: lines.noise_needed(1.0, 3.0, base="mape"), "base"),  # type: ignore[arg-type]
        (lambda: lines.noise_needed(1.0, 3.0, minimum="flat"), "minimum"),  # type: ignore[arg-type]
        (lambda: lines.best_slope(3.0, 1.0, lam=0.0), "lam"),
        (lambda: lines.line_moments(torch.ones(3), torch.rand(3)), "x is constant"),
        (lambda: lines.best_line(torch.rand(3), torch.rand(3, 1), lam=1.0), "x has shape"),
        (lambda: lines.best_line(torch.tensor([0.0, math.nan]), torch.rand(2), lam=1.0), "x and y"),
    ],
)
def test_refusals_name_the_parameter(call: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        call()
