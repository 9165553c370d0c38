"""The factor against closed forms, exact rational arithmetic and finite differences."""

import functools
import math
from fractions import Fraction
from typing import Any

import checks
import numpy as np
import pytest
import torch
import torch.autograd.forward_ad as fwAD
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

import lai

LAMS = [1e-4, 0.01, 0.1, 0.5, 1.0, 1.5, 2.0, 36.0]


def paper_factor(k: float, lam: float, base: str) -> float:
    """Section 3.1, literally, branch by branch, in exact arithmetic up to one square root."""
    k2, lam_q = Fraction(k) ** 2, Fraction(lam)
    if base == "mse":
        steep, flat = k2 / (1 + k2), lam_q / (1 + k2)
        return float(max(steep, flat) if lam >= 1 else max(steep / lam_q, 1 / (1 + k2)))
    # max(|k|, λ)/√(1+k²) through its square, which is rational
    steep, flat = k2 / (1 + k2), lam_q**2 / (1 + k2)
    square = max(steep, flat) if lam >= 1 else max(steep / lam_q**2, 1 / (1 + k2))
    return math.sqrt(square.numerator / square.denominator)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_both_formulas_of_section_3_1(base: str, lam: float, dtype: torch.dtype) -> None:
    k = torch.cat([torch.zeros(1), torch.logspace(-12, 30, 400, dtype=torch.float64), -torch.logspace(-3, 3, 50)])
    k = k.to(dtype)
    got = lai.lai_factor(k, lam, base=base)
    want = torch.tensor([paper_factor(v, lam, base) for v in k.tolist()], dtype=torch.float64)
    assert got.dtype == dtype and torch.isfinite(got).all()
    torch.testing.assert_close(got.double(), want, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_over_its_whole_range(base: str, dtype: torch.dtype) -> None:
    bits = torch.arange(0, 2**15, 7, dtype=torch.int16)  # every seventh non-negative number of the format
    k = bits.view(dtype)
    k = k[torch.isfinite(k)]
    for lam in (0.01, 1.0, 36.0):
        got = lai.lai_factor(k, lam, base=base)
        want = torch.tensor([paper_factor(v, lam, base) for v in k.tolist()], dtype=torch.float64)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("lam", LAMS)
def test_limits_boundary_and_minimum(base: str, lam: float) -> None:
    edge = lam if base == "mae" else math.sqrt(lam)
    f = lambda k: lai.lai_factor(torch.tensor(k, dtype=torch.float64), lam, base=base).item()  # noqa: E731
    least = max(1, lam) / (math.sqrt(1 + lam**2) if base == "mae" else 1 + lam)
    assert f(0.0) == pytest.approx(max(1, lam), rel=1e-14)
    assert f(math.inf) == pytest.approx(1 / min(1, lam), rel=1e-14)
    assert f(edge) == pytest.approx(least, rel=1e-14)
    grid = torch.logspace(-6, 6, 20001, dtype=torch.float64)
    values = lai.lai_factor(grid, lam, base=base)
    assert values.min().item() >= least * (1 - 1e-14)
    assert abs(math.log10(grid[values.argmin()].item() / edge)) < 1e-3
    below, above = grid < edge, grid > edge
    assert (values[below].diff() <= 0).all() and (values[above].diff() >= 0).all()


positive = st.floats(1e-6, 1e6)


@given(k=positive, lam=positive, base=st.sampled_from(["mae", "mse"]))
@settings(max_examples=300, deadline=None)
def test_inversion_duality_evenness_and_square(k: float, lam: float, base: str) -> None:
    def f(k: float, lam: float, base: str = base) -> float:
        return lai.lai_factor(torch.tensor(k, dtype=torch.float64), lam, base=base).item()

    assert f(k, lam) == pytest.approx(f(1 / k, 1 / lam), rel=1e-12)
    assert f(-k, lam) == f(k, lam)
    assert f(k, lam, "mse") == pytest.approx(f(k, math.sqrt(lam), "mae") ** 2, rel=1e-12)


@pytest.mark.parametrize("base", ["mae", "mse"])
def test_continuous_in_lam_at_one(base: str) -> None:
    k = torch.linspace(-5, 5, 101, dtype=torch.float64)
    below, above = (lai.lai_factor(k, 1 + s * 1e-9, base=base) for s in (-1, 1))
    torch.testing.assert_close(below, above, rtol=1e-8, atol=0)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("lam", [0.01, 0.5, 1.0, 2.0, 36.0])
def test_derivatives_against_finite_differences(base: str, lam: float) -> None:
    edge = lam if base == "mae" else math.sqrt(lam)
    k = torch.tensor([0.003, 0.3, 0.9, 1.1, 3.0, 30.0], dtype=torch.float64)
    k = torch.cat([torch.zeros(1, dtype=torch.float64), k, -k])
    k = k[(k.abs() / edge - 1).abs() > 0.01]  # the tie has a test of its own
    checks.derivatives(lambda k: lai.lai_factor(k, lam, base=base), k)
    with fwAD.dual_level():
        forward = fwAD.unpack_dual(lai.lai_factor(fwAD.make_dual(k, torch.ones_like(k)), lam, base=base)).tangent
    backward = torch.func.grad(lambda k: lai.lai_factor(k, lam, base=base).sum())(k)
    torch.testing.assert_close(forward, backward)


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivative_over_the_whole_range(base: str, dtype: torch.dtype) -> None:
    """Against 60 digits: for slopes and λ at the ends of the format, where powers of either overflow."""
    eps, tiny, most = (getattr(torch.finfo(dtype), name) for name in ("eps", "tiny", "max"))
    decades = (-30, -10, -3, 0, 3, 10, 30)
    with mp.workdps(60):
        for lam in (tiny, *(3.0 * 10.0**p for p in decades), most):
            at = torch.tensor(lam, dtype=dtype).item()  # as the format holds it
            k = torch.tensor([2.0 * s * 10.0**p for p in decades for s in (1, -1)], dtype=dtype, requires_grad=True)
            (got,) = torch.autograd.grad(lai.lai_factor(k, at, base=base).sum(), k)
            power, edge = (2, mp.sqrt(mp.mpf(at))) if base == "mse" else (1, mp.mpf(at))
            for x, value in zip(map(mp.mpf, k.tolist()), got.tolist(), strict=True):
                factor = (max(abs(x), edge) / mp.sqrt(1 + x**2) / min(1, edge)) ** power
                by_log = mp.sign(x) / (abs(x) * (1 + x**2)) if abs(x) > edge else -x / (1 + x**2)
                want = power * factor * by_log
                assert abs(mp.mpf(value) - want) <= 20 * eps * abs(want) + 4 * tiny, (lam, x)


@pytest.mark.parametrize("base", ["mae", "mse"])
def test_derivative_by_a_tensor_lam(base: str) -> None:
    k = torch.tensor([[0.2, 3.0], [0.4, 0.1]], dtype=torch.float64)
    lam = torch.tensor([0.5, 2.0], dtype=torch.float64)
    checks.derivatives(lambda k, lam: lai.lai_factor(k, lam, base=base), k, lam)
    with fwAD.dual_level():
        forward = fwAD.unpack_dual(lai.lai_factor(k, fwAD.make_dual(lam, torch.ones_like(lam)), base=base)).tangent
    backward = torch.func.grad(lambda lam: lai.lai_factor(k, lam, base=base).sum())(lam)
    torch.testing.assert_close(forward.sum(0), backward)


def test_tie_averages_the_two_slopes() -> None:
    k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(lai.lai_factor(k, 2.0, base="mae"), k)
    cos = 1 / math.sqrt(5)
    left, right = -2 * 2 * cos**3, cos**3  # d(λ cos θ)/dk and d(sin θ)/dk at k = λ = 2
    assert slope.item() == pytest.approx((left + right) / 2, rel=1e-12)


def test_slope_at_zero_is_zero_and_nan_stays_nan() -> None:
    k = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(lai.lai_factor(k, 0.5), k)
    assert slope.item() == 0
    assert torch.isnan(lai.lai_factor(torch.tensor(float("nan")), 0.5))


@pytest.mark.parametrize("power", [0, 2, 4, 8])
def test_derivative_survives_large_k_in_float32(power: int) -> None:
    """d sin θ/dk = (1+k²)^(-3/2); computed as 1/h - k²/h³ it is noise beyond k = 1e4."""
    k = torch.tensor(3.0 * 10**power, requires_grad=True)
    (slope,) = torch.autograd.grad(lai.lai_factor(k, 1.0, base="mae"), k)
    assert slope.item() == pytest.approx((1 + k.item() ** 2) ** -1.5, rel=1e-5)


def test_broadcasts_along_features_only() -> None:
    k = torch.tensor([[0.1, 5.0], [2.0, 0.3], [1.0, 1.0]])
    lam = [0.5, 3.0]
    got = lai.lai_factor(k, torch.tensor(lam))
    for j, value in enumerate(lam):
        torch.testing.assert_close(got[:, j], lai.lai_factor(k[:, j], value))
    refused = functools.partial(checks.refused, ValueError)
    refused(r"lam has shape \(3,\).*shape of k.*\(3, 2\)", lai.lai_factor, k, torch.ones(3))
    refused(r"lam has shape \(2,\).*broadcast", lai.lai_factor, torch.tensor(1.0), torch.ones(2))  # not to enlarge k


@pytest.mark.parametrize(
    ("lam", "message"),
    [
        (0.0, "lam = 0.0: λ must be finite and greater than 0"),
        (-0.1, "lam = -0.1"),
        (math.nan, "lam = nan"),
        (math.inf, "lam = inf"),
        ([0.1, -2.0], r"lam\[1\] = -2.0"),
        ([[0.1, 1.0], [0.0, 1.0]], r"lam\[2\] = 0.0"),
        (torch.tensor(0.0), "lam = 0.0"),
        ([], r"lam = \[\]: λ must not be empty"),
        (torch.tensor([1.0, math.nan]), r"lam\[1\] = nan"),
    ],
)
def test_bad_lam_is_named(lam: object, message: str) -> None:
    for function in (lai.check_lam, functools.partial(lai.lai_factor, torch.ones(2)), lai.LaiLoss):
        checks.refused(ValueError, message, function, lam)


@pytest.mark.parametrize("lam", ["0.1", None, True, 1j, [[1.0], [1.0, 2.0]], torch.tensor(True)])
def test_lam_of_a_wrong_type(lam: object) -> None:
    checks.refused(TypeError, "lam", lai.check_lam, lam)


def test_check_lam_accepts_what_users_have() -> None:
    assert lai.check_lam(np.float64(0.1), n_features=3) == lai.check_lam(np.array(0.1), n_features=3) == 0.1
    assert lai.check_lam(2) == 2.0 and isinstance(lai.check_lam(2), float)
    assert lai.check_lam(np.float32(0.5)) == 0.5
    assert lai.check_lam([0.1, 0.2], n_features=2).tolist() == [0.1, 0.2]  # type: ignore[union-attr]
    checks.refused(ValueError, "lam_8 has 2 entries", lai.check_lam, [0.1, 0.2], n_features=8, name="lam_8")


def test_bad_base_and_bad_k() -> None:
    checks.refused(ValueError, "base = 'huber'", lai.lai_factor, torch.ones(1), 1.0, base="huber")
    for dtype in (torch.complex64, torch.bool):
        k = torch.ones(1, dtype=dtype)
        checks.refused(TypeError, f"k has dtype {dtype}: a slope is a real number", lai.lai_factor, k, 1.0)
    assert lai.lai_factor(3, 1.0).item() == pytest.approx(0.9)  # Python numbers will do


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16, torch.float32])
def test_a_narrow_lam_tensor_costs_no_precision(base: str, narrow: torch.dtype) -> None:
    lam = torch.tensor([0.3, 3.0]).to(narrow)  # rounded once, here
    k = torch.tensor([[0.0, 0.0], [5.0, 0.2]], dtype=torch.float64)
    want = torch.stack([lai.lai_factor(k[:, j], lam[j].item(), base=base) for j in range(2)], 1)
    torch.testing.assert_close(lai.lai_factor(k, lam, base=base), want, rtol=1e-15, atol=0)


def test_maps_over_lam() -> None:
    """torch.func shows no values, which the check of λ has to do without."""
    k, lams = torch.tensor([0.3, 4.0]), torch.tensor([[0.1, 0.2], [0.5, 3.0]])
    mapped = torch.func.vmap(lambda lam: lai.lai_factor(k, lam))(lams)
    torch.testing.assert_close(mapped, torch.stack([lai.lai_factor(k, lam) for lam in lams]))
    by_lam = torch.func.grad(lambda lam: lai.lai_factor(k, lam).sum())(lams[0])
    lam = lams[0].clone().requires_grad_()
    torch.testing.assert_close(by_lam, torch.autograd.grad(lai.lai_factor(k, lam).sum(), lam)[0])


def test_a_lam_beyond_the_dtype_is_refused_and_not_nan() -> None:
    limits = torch.finfo(torch.float32)
    for lam in (limits.tiny, limits.max):
        for k in (0.0, 1.0, limits.max):
            assert lai.lai_factor(k, lam, base="mae").item() == pytest.approx(paper_factor(k, lam, "mae"), rel=1e-6)
    checks.refused(ValueError, "lam = 1e-92.*float32", lai.lai_factor, torch.zeros(1), 1e-92)
    assert lai.lai_factor(torch.zeros(1, dtype=torch.float64), 1e-92).item() == 1
    checks.refused(ValueError, "lam = 1e.40.*float32", lai.lai_factor, torch.zeros(1), 1e40, base="mae")


@pytest.mark.parametrize("base", ["mae", "mse"])
def test_rescaled_lam_has_its_boundary_at_the_same_model(base: Any) -> None:
    """A slope at the boundary in raw units is at the boundary of the standardised model, and the way back is exact."""
    x_scale, y_scale, lam = torch.tensor([0.5, 20.0], dtype=torch.float64), 3.0, [0.2, 4.0]
    power = 2 if base == "mse" else 1
    k = torch.tensor(lam, dtype=torch.float64) ** (1 / power)
    x = torch.randn(5, 2, dtype=torch.float64)
    _, scaled = lai.value_and_input_gradient(lambda z: (z * x_scale) @ k / y_scale, x / x_scale)
    moved = lai.rescale_lam(lam, x_scale=x_scale, y_scale=y_scale, base=base)
    torch.testing.assert_close(scaled[0] ** power, moved)
    back = lai.rescale_lam(moved, x_scale=1 / x_scale, y_scale=1 / y_scale, base=base)
    torch.testing.assert_close(back, torch.tensor(lam, dtype=torch.float64))
    assert lai.rescale_lam(0.3, x_scale=2, y_scale=4, base=base) == pytest.approx(0.3 * 0.5**power, rel=1e-15)
    checks.refused(ValueError, r"x_scale = \[1.0, 0.0\]", lai.rescale_lam, 0.3, x_scale=[1.0, 0.0])
    checks.refused(ValueError, "y_scale = nan", lai.rescale_lam, 0.3, y_scale=math.nan)
    checks.refused(ValueError, "lam = -1", lai.rescale_lam, -1.0)
    checks.refused(ValueError, "base = 'huber'", lai.rescale_lam, 1.0, base="huber")


def test_lists_beyond_the_dtype_are_refused() -> None:
    checks.refused(
        ValueError,
        "lam = 1e-100.*float32",
        lai.lai_factor,
        torch.zeros(2),
        torch.tensor([1e-100, 1.0], dtype=torch.float64),
    )


def test_a_factor_beyond_half_precision_is_refused() -> None:
    k = torch.ones(2)
    checks.refused(ValueError, "lam = 1e-06: must be between .* torch.float16", lai.lai_factor, k.half(), 1e-6)
    assert (
        torch.isfinite(lai.lai_factor(k.half(), 1e-4)).all()
        and torch.isfinite(lai.lai_factor(k.bfloat16(), 1e-6)).all()
    )
