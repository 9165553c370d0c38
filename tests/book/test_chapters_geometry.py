"""The chapters linear_geometry and lambda: verdicts, inserted numbers and exercises, at many λ.

Most runs execute the code cells in this process; a few go through papermill as a reader's do.
"""

import functools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from chapter_run import Run, committed_verdicts, surroundings

import lai
from evidence import figures
from evidence.figures import sliders

GEOMETRY, LAMBDA = "10_linear_geometry", "20_lambda"
VERDICTS = {name: ["\n".join(lines) for lines in committed_verdicts(name).values()] for name in (GEOMETRY, LAMBDA)}
LAMS = (1e-6, 1.0, 3, 1e4)


def total_least_squares(done: Run) -> float:
    """The slope of the axis along which a chapter's five readings spread most."""
    axes = np.linalg.eigh(np.cov(done.names["x5"], done.names["y5"]))[1]
    return float(axes[1, -1] / axes[0, -1])


@functools.cache
def run(chapter: str, **parameters: Any) -> Run:
    return Run(chapter, **parameters).all()


@pytest.fixture(params=[GEOMETRY, LAMBDA])
def chapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- at every λ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", LAMS)
def test_verdicts_do_not_depend_on_lam(chapter: str, lam: float) -> None:
    assert run(chapter, lam=lam).verdicts() == VERDICTS[chapter]


@pytest.mark.parametrize("k, e", [(-2.0, 1.0), (0.0, 1.0), (1.0, -3.0), (100.0, 2.0), (-0.1, -0.01)])
def test_geometry_at_other_triangles(k: float, e: float) -> None:
    done = run(GEOMETRY, k=k, e=e, lam=0.3)
    assert done.verdicts() == VERDICTS[GEOMETRY]
    assert done.glued["a"] == pytest.approx(abs(e * k) / math.hypot(1, k))
    assert done.glued["b"] == pytest.approx(abs(e) / math.hypot(1, k))
    assert done.glued["loss"] == pytest.approx(max(done.glued["a"], done.glued["b"]))


def test_the_first_triangle_has_the_legs_of_its_reading() -> None:
    done = run(GEOMETRY, lam=0.3)
    curve = done.names["wave"]
    x, target = (done.names[name][done.names["marked"]].item() for name in ("sensor_x", "sensor_y"))
    slope = (curve(x + 1e-6) - curve(x - 1e-6)) / 2e-6
    error = np.array([0.0, target - curve(x)])
    step = np.array([1.0, slope]) / math.hypot(1, slope)
    along = error @ step
    across = float(np.hypot(*(error - along * step)))
    assert done.glued["sensor-k"] == pytest.approx(slope)
    assert done.glued["sensor-loss"] == pytest.approx(max(abs(along), across))
    assert done.glued["sensor-share"] == pytest.approx(max(abs(along), across) / abs(error[1]))
    assert abs(along) > across  # as the alt text says


@pytest.mark.parametrize("lam", LAMS)
def test_inserted_numbers(lam: float) -> None:
    done = run(GEOMETRY, lam=lam)
    k, e = done.names["k"], done.names["e"]
    assert done.glued["weighted"] == pytest.approx(abs(e) * max(abs(k), lam) / math.hypot(1, k) / min(1, lam))
    assert done.glued["share"] == pytest.approx(max(abs(k), 1) / math.hypot(1, k))
    assert math.tan(math.radians(done.glued["theta"])) == pytest.approx(k)
    done = run(LAMBDA, lam=lam)
    top, low = max(1.0, lam), min(1.0, lam)
    peak_at = max(lam**0.5, 3**-0.5)

    def pull(k: float) -> float:
        return 2 * k / (1 + k**2) ** 2 / low

    assert done.glued == {
        "lam": lam,
        "root": pytest.approx(lam**0.5),
        "highest": pytest.approx(max(lam, 1 / lam)),
        "from_flat": pytest.approx(top - top / math.hypot(1, lam), rel=1e-6, abs=1e-14),
        "from_vertical": pytest.approx(1 / low - top / math.hypot(1, lam), rel=1e-6, abs=1e-14),
        "ratio_mae": pytest.approx(lam**-2, rel=1e-5),
        "ratio_mse": pytest.approx(1 / lam),
        "peak_at": pytest.approx(peak_at, rel=1e-3),
        "peak": pytest.approx(pull(peak_at), rel=1e-3),
        "weaker": pytest.approx(pull(peak_at) / pull(10 * peak_at), rel=5e-3),
        "root_ten": pytest.approx(10**0.5),
        "at_ten": pytest.approx(
            total_least_squares(done), abs=0.005
        ),  # short of the boundary, so on the cosine's branch
    }


@pytest.mark.parametrize("lam", LAMS)
def test_mirror_pulls_and_tails_in_closed_form(lam: float) -> None:
    """The formulas of the chapter on λ, by finite differences of the factor."""

    def factor(base: str, k: float, lam: float = lam) -> float:
        return float(lai.lai_factor(torch.tensor(k, dtype=torch.float64), lam, base=base))  # type: ignore[arg-type]

    def pull(base: str, k: float) -> float:
        h = 1e-5 * k
        return (factor(base, k + h) - factor(base, k - h)) / (2 * h)

    top, low = max(1.0, lam), min(1.0, lam)
    for base, boundary, size in (("mae", float(lam), 1), ("mse", lam**0.5, 2)):
        for k in (-3.0, -0.2, 0.01, 0.7, 1.0, 50.0):  # the mirror, and evenness
            assert factor(base, k) == pytest.approx(factor(base, 1 / k, 1 / lam))
            assert factor(base, k) == pytest.approx(factor(base, -k))
        root = 3 if base == "mae" else 4
        for times in (0.3, 0.9, 1.1, 3.0):
            k = times * boundary
            known = size * (-top * k if times < 1 else (1 if base == "mae" else k) / low) / (1 + k * k) ** (root / 2)
            noise = 1e-10 * factor(base, k) / k  # of the differences, where a factor hardly changes
            assert pull(base, k) == pytest.approx(known, rel=1e-4, abs=noise)
        steep = torch.tensor([1e4, 1e5], dtype=torch.float64, requires_grad=True)
        tail = lai.lai_factor(steep * top, lam, base=base).sum()  # type: ignore[arg-type]
        tail = torch.autograd.grad(tail, steep)[0] / top
        assert tail.tolist() == pytest.approx([size / (low * (s * top) ** 3) for s in steep.tolist()], rel=1e-4)
    # "close to its greatest value on this side", ten times as steep as where the pull is strongest
    assert factor("mse", 10 * max(lam**0.5, 3**-0.5)) > 0.95 / low
    # to leading order in a small λ, and mirrored
    if lam <= 0.05:
        assert 1 - factor("mae", lam) == pytest.approx(lam**2 / 2, rel=0.01, abs=1e-15)
        assert 1 - factor("mse", lam**0.5) == pytest.approx(lam, rel=0.06)
    if lam >= 100:
        assert 1 - factor("mae", lam) == pytest.approx(1 / (2 * lam**2), rel=0.01)
        assert 1 - factor("mse", lam**0.5) == pytest.approx(1 / lam, rel=0.01)


# --- figures with sliders, and their twins -----------------------------------------------------------------------


def last_value(done: Run, name: str) -> Any:
    """What a cell ends in: the figure that the page shows."""
    line = done.source(name).splitlines()[-1]
    assert line.startswith("interactive.")
    return eval(line, done.names)  # noqa: S307


@pytest.mark.parametrize("lam", (0.05, 1.0, 3))
@pytest.mark.parametrize("base", ["mae", "mse"])
def test_curve_with_sliders_and_its_twin_hold_the_librarys_values(lam: float, base: str) -> None:
    import json

    import matplotlib.pyplot as plt

    shown = json.loads(last_value(run(LAMBDA, lam=lam), "curve-figure").to_json())
    lams, slopes, losses = (control["values"] for control in shown["layout"]["meta"]["controls"])
    at_loss = losses.index(base.upper())
    starts = [control["start"] for control in shown["layout"]["meta"]["controls"]]
    assert lams[starts[0]] == lam and {0.1, 10.0} <= set(lams)  # "Try λ = 0.1, then λ = 10"
    for i, value in enumerate(lams):
        boundary = value**0.5 if base == "mse" else value
        for j in (0, starts[1], len(slopes) - 1):
            below, above, corner, here = sliders.state(shown, i, j, at_loss)
            for trace in (below, above, corner, here):
                x, y = (torch.tensor(trace[axis], dtype=torch.float64) for axis in "xy")
                drawn = ~y.isnan()
                expected = lai.lai_factor(x[drawn], value, base=base)  # type: ignore[arg-type]
                assert torch.allclose(y[drawn], expected, rtol=1e-5)
            assert float(corner["x"][0]) == pytest.approx(boundary) and float(here["x"][0]) == pytest.approx(slopes[j])

    with surroundings({}):
        _, ax = plt.subplots()
        figures.factor_curve(ax, lam, base=base)  # type: ignore[arg-type]
        for line in ax.lines:
            x, y = (torch.tensor(values, dtype=torch.float64).flatten() for values in line.get_data())
            assert torch.allclose(y, lai.lai_factor(x, lam, base=base))  # type: ignore[arg-type]
        at = ax.lines[3].get_xdata()
        assert float(torch.tensor(at)) == pytest.approx(slopes[starts[1]])  # the same point as before a slider moves


@pytest.mark.parametrize("k, e", [(0.75, 2.5), (0.0, 1.0), (-2.0, 1.0), (100.0, -2.0)])
def test_triangle_with_a_slider_holds_the_librarys_values(k: float, e: float) -> None:
    shown = last_value(run(GEOMETRY, k=k, e=e, lam=0.3), "triangle-figure")
    (control,) = shown.layout.meta["controls"]
    assert control["values"][control["start"]] == k
    for i, slope in enumerate(control["values"]):
        _, error, along, across, _ = sliders.state(shown, i)
        size, a, b = (math.hypot(*(t[axis][1] - t[axis][0] for axis in "xy")) for t in (error, along, across))
        loss = abs(e) * lai.lai_factor(slope, 1.0, base="mae").item()
        assert (size, max(a, b)) == pytest.approx((abs(e), loss), rel=1e-5)
        assert (a, b) == pytest.approx([abs(e * slope) / math.hypot(1, slope), abs(e) / math.hypot(1, slope)], rel=1e-4)


@pytest.mark.parametrize("base, size", [("mae", 1), ("mse", 2)])
@pytest.mark.parametrize("lam", (0.05, 1.0, 3.0))
def test_figure_of_the_pulls(lam: float, base: str, size: int) -> None:
    import matplotlib.pyplot as plt

    with surroundings({}):
        _, ax = plt.subplots()
        figures.pulls(ax, lam, base=base)  # type: ignore[arg-type]
        up, down, tail = (torch.tensor(line.get_xydata()).T for line in ax.lines[:3])
    top, low, power = max(1.0, lam), min(1.0, lam), 1.5 if base == "mae" else 2.0
    assert torch.allclose(up[1], size * top * up[0] / (1 + up[0] ** 2) ** power)
    assert torch.allclose(down[1], size * (down[0] ** (size - 1)) / low / (1 + down[0] ** 2) ** power)
    assert float(tail[1, -1]) == pytest.approx(float(down[1, -1]), rel=0.01)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0, -1, math.nan, math.inf, [0.1, 0.2], "small"])
def test_bad_lam_stops_before_anything_is_computed(chapter: str, lam: Any) -> None:
    wrong = Run(chapter, lam=lam)
    with pytest.raises((ValueError, TypeError), match="^lam"):
        wrong.all()
    assert list(wrong.printed) == ["parameters"]
    assert not wrong.glued


@pytest.mark.parametrize("name, value", [("k", math.nan), ("k", math.inf), ("e", 0.0), ("e", math.nan)])
def test_bad_triangle_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        Run(GEOMETRY, **{name: value}).all()


# --- every verdict could have come out otherwise ---------------------------------------------------------------


def shifted(run: Any) -> dict[str, Any]:
    """A factor whose boundary lies elsewhere."""

    def lai_factor(k: Any, lam: float, *, base: str) -> torch.Tensor:
        return lai.lai_factor(k, 2 * lam, base=base)

    return {"lai": SimpleNamespace(lai_factor=lai_factor)}


def not_divided(run: Any) -> dict[str, Any]:
    """The factor without its division by a small λ."""

    def lai_factor(k: Any, lam: float, *, base: str) -> torch.Tensor:
        return lai.lai_factor(k, lam, base=base) * min(1, lam)

    return {"lai": SimpleNamespace(lai_factor=lai_factor)}


def exchanged(run: Any) -> dict[str, Any]:
    """The two legs in the wrong order."""
    legs = run.names["legs"]
    return {"legs": lambda k, e: legs(k, e)[::-1]}


MUTANTS = {
    "verdict-legs": (GEOMETRY, exchanged),
    "verdict-max": (GEOMETRY, lambda run: {"b_all": run.names["b_all"] * 0.9}),
    "verdict-chebyshev": (GEOMETRY, lambda run: {"measured": run.names["es"].abs()}),
    "verdict-negative": (GEOMETRY, lambda run: {"measured": torch.maximum(run.names["b_all"], run.names["es"])}),
    "verdict-nonsmooth": (GEOMETRY, lambda run: {"lai_of_slope": lambda k: torch.tensor(k).square()}),
    "verdict-one": (LAMBDA, shifted),
    "verdict-lambda": (LAMBDA, shifted),
    "verdict-duality": (LAMBDA, not_divided),
    "verdict-vanishing": (LAMBDA, lambda run: {"exponents": {"as is": [1, 2], "divided by λ": [0, 0]}}),
    "verdict-range": (LAMBDA, lambda run: {"lai": SimpleNamespace(lai_factor=lambda k, *_, **__: k * 0 + 1)}),
}


def test_every_verdict_has_a_mutant(chapter: str) -> None:
    tagged = {c.id for c in Run(chapter).cells() if "nbval-check-output" in c.metadata.get("tags", [])}
    assert tagged == {name for name, (where, _) in MUTANTS.items() if where == chapter}


@pytest.mark.parametrize("name", MUTANTS)
def test_verdict_changes_where_the_claim_is_false(name: str) -> None:
    where, mutate = MUTANTS[name]
    done = run(where)
    before = SimpleNamespace(names=done.found[name])
    printed = done.mutant(name, mutate(before)).rstrip("\n")
    assert printed.split(":")[0] in {line.split(":")[0] for line in VERDICTS[where]}
    assert printed not in VERDICTS[where]


# --- exercises -------------------------------------------------------------------------------------------------


def test_exercises_of_the_geometry() -> None:
    done = run(GEOMETRY)
    assert done.names["solution_1"] == pytest.approx(6 / math.sqrt(5))
    grade = functools.partial(done.again, "exercise-2-answer", "return None  # replace None, for example by")
    assert grade("return (e**2 * (k**2).clamp(min=1) / (1 + k**2)).sqrt()  #") == "Right, for every triangle.\n"
    assert grade("return e * k.clamp(min=1) / (1 + k**2).sqrt()  #").startswith("Not yet: e = ")
    assert done.printed["exercise-2-solution"] == "Right, for every triangle.\n"

    assert done.printed["exercise-3-solution"] == "Manhattan distance: 1.000 to 1.414 times |e|\n"

    x, y = (done.names[name].numpy() for name in ("x5", "y5"))
    kappa, height = np.polyfit(x, y, 1)
    rho = (y - kappa * x - height).var() / x.var()
    tls = (kappa**2 + rho - 1 + math.sqrt((kappa**2 + rho - 1) ** 2 + 4 * kappa**2)) / (2 * kappa)
    assert done.names["solution_4"] == pytest.approx((tls, tls), abs=1e-3) and tls == pytest.approx(
        total_least_squares(done)
    )

    reached = {t: slope == pytest.approx(1) for t, slope in done.names["solution_5"].items()}
    needed = (kappa - 1) * (1 * (1 + 1) - (kappa - 1))  # the noise from which slope 1 is a minimum
    assert reached == {t: rho * t**2 >= needed for t in reached}

    heights = {p: height for p, (height, _) in done.names["solution_6"].items()}
    assert heights == {p: pytest.approx(2 ** (1 / p - 0.5)) for p in heights}
    kinks = {p: bend > 1e-3 for p, (_, bend) in done.names["solution_6"].items()}
    assert kinks == {p: p == math.inf for p in kinks}
    k = torch.logspace(-3, 3, 600_001, dtype=torch.float64)
    weighted = (k**4 + 1.5**4) ** 0.25 / (1 + k**2).sqrt()  # p = 4, λ = 1.5
    assert float(k[weighted.argmin()]) == pytest.approx(1.5 ** (4 / (4 - 2)), rel=1e-3)


def test_exercises_of_lambda() -> None:
    done = run(LAMBDA)
    assert done.names["solution_1"] == (36.0, 6.0)
    assert (done.names["solution_3"], done.names["strength_3"]) == pytest.approx((2**-0.5, 4 / 3**1.5))
    assert (done.names["solution_4"], done.names["mse_4"]) == pytest.approx((0.14249, 1 / 99), rel=1e-3)
    divisor = functools.partial(
        done.again, "exercise-5-answer", "return None  # replace None, for example by min(1, lam)"
    )
    assert divisor("return (1 + lam) / 2") == "Right: a mirror without a kink.\n"
    assert divisor("return min(1, lam)") == "Not yet: a mirror, but with a kink at λ = 1.\n"
    assert divisor("return lam").startswith("Not yet: λ = ") and divisor("return 0.0").startswith("Not yet: λ = ")
    assert done.printed["exercise-5-solution"].count("Right") == 2
    lam = done.names["lam"]
    assert done.names["solution_5"]["lowest_divisor"] == pytest.approx(
        [math.hypot(1, lam), 1, math.hypot(1, lam) / lam], rel=1e-6
    )
    assert done.names["solution_6"] == pytest.approx((1, lam**2), rel=1e-4)
