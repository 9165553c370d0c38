"""Figures with sliders: every state against the library, decoded from the JSON that a page would hold."""

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import lai
from evidence.figures import interactive
from evidence.figures.sliders import state, stepped

Plain = dict[str, Any]


def page(figure: go.Figure) -> Plain:
    """The figure as a browser gets it."""
    plain: Plain = json.loads(figure.to_json())
    return plain


def controls(plain: Plain) -> list[Plain]:
    found: list[Plain] = plain["layout"]["meta"]["controls"]
    return found


def states(plain: Plain) -> Iterator[tuple[list[Any], list[Plain]]]:
    """Each state's slider values, and its traces."""
    for positions in itertools.product(*(range(len(control["values"])) for control in controls(plain))):
        values = [control["values"][i] for control, i in zip(controls(plain), positions, strict=True)]
        yield values, state(plain, *positions)


def factor(k: np.ndarray, lam: float, base: lai.factor.Base) -> np.ndarray:
    return lai.lai_factor(torch.as_tensor(k, dtype=torch.float64), lam, base=base).numpy()


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("lam", [1e-3, 0.05, 0.5, 1.0, 3.0, 36.0])
def test_factor_curve_is_the_factor(lam: float, base: lai.factor.Base) -> None:
    plain = page(interactive.factor_curve(lam, base))
    lams, slopes, losses = (control["values"] for control in controls(plain))
    assert lam in lams and len(slopes) >= 20
    assert losses[controls(plain)[2]["start"]] == base.upper()
    ranges = [plain["layout"][axis]["range"] for axis in ("xaxis", "yaxis")]
    for (value, k, loss), (below, above, boundary, point) in states(plain):
        base = loss.lower()
        expected = factor(below["x"], value, base)
        bound = math.sqrt(value) if base == "mse" else value
        np.testing.assert_array_equal(np.isnan(below["y"]), below["x"] > np.float32(bound))
        np.testing.assert_array_equal(np.isnan(above["y"]), above["x"] < np.float32(bound))
        for line in (below, above):
            seen = np.isfinite(line["y"])
            np.testing.assert_allclose(line["y"][seen], expected[seen], rtol=2e-7)
        assert boundary["x"][0] == np.float32(bound)
        np.testing.assert_allclose(boundary["y"], factor(boundary["x"], value, base), rtol=2e-7)
        assert boundary["y"][0] <= expected.min() * (1 + 1e-6)
        assert point["x"][0] == np.float32(k)
        np.testing.assert_allclose(point["y"], factor(point["x"], value, base), rtol=2e-7)
        assert f"{point['y'][0]:.3g}" in point["name"]
        for (low, high), numbers in zip(ranges, (below["x"], expected), strict=True):
            assert low <= math.log10(numbers.min()) + 1e-6 and math.log10(numbers.max()) - 1e-6 <= high


@pytest.mark.parametrize("k, e", [(0.75, 2.5), (-30.0, -0.4), (0.0, 1.0), (1.0, -2.0)])
def test_triangle_splits_the_error_and_names_the_longer_leg(k: float, e: float) -> None:
    plain = page(interactive.triangle(k, e))
    (slider,) = controls(plain)
    assert slider["values"][slider["start"]] == k
    assert plain["layout"]["yaxis"]["scaleanchor"] == "x"  # or the right angle would not look right
    for (slope,), (line, error, along, across, ends) in states(plain):
        a, b = (math.hypot(*(np.diff(leg[axis])[0] for axis in "xy")) for leg in (along, across))
        assert a**2 + b**2 == pytest.approx(e**2, rel=1e-5)
        assert max(a, b) == pytest.approx(abs(e) * float(lai.lai_factor(slope, 1.0, base="mae")), rel=1e-5)
        assert np.diff(line["y"])[0] == pytest.approx(slope * np.diff(line["x"])[0], abs=1e-5)
        assert along["y"][1] == pytest.approx(slope * along["x"][1], abs=1e-5 * abs(e))  # its foot is on the line
        dot = sum(np.diff(along[axis])[0] * np.diff(across[axis])[0] for axis in "xy")
        assert dot == pytest.approx(0, abs=1e-5 * e**2)
        assert error["y"].tolist() == pytest.approx([0, -e]) == ends["y"].tolist()
        word = {name: "longer" in leg["name"] for name, leg in (("a", along), ("b", across))}
        if abs(slope) == 1:
            assert "equal" in along["name"] and "equal" in across["name"]
        else:
            assert word == {"a": abs(slope) > 1, "b": abs(slope) < 1}


def test_loss_surface_is_the_loss_at_each_slope_and_intercept() -> None:
    x = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    y = 3 * x + 4 + torch.tensor([[0.3], [-0.4], [0.2]], dtype=torch.float64)
    slopes, intercepts = torch.linspace(1, 5, 9), torch.linspace(3, 5, 5)

    def losses(lam: float, noise: float) -> torch.Tensor:
        e = slopes[:, None, None] * x.T + intercepts[None, :, None] - (y * (1 + noise)).T
        return (e.abs().mean(-1) * lai.lai_factor(slopes, lam, base="mae")[:, None]).to(torch.float32)

    chosen = {"λ": [0.5, 4.0], "noise": [0.0, 1.0]}
    figure = interactive.loss_surface(losses, slopes, intercepts, chosen, marks={"truth": (3, 4)}, alt="A basin.")
    plain = page(figure)
    for (lam, noise), (surface, lowest, truth) in states(plain):
        model = torch.nn.Linear(1, 1, dtype=torch.float64)
        for j, k in enumerate(surface["x"]):
            for i, b in enumerate(surface["y"]):
                model.weight.data.fill_(float(k))
                model.bias.data.fill_(float(b))
                value, slope = lai.value_and_input_gradient(model, x)
                loss = lai.lai_loss(value, y * (1 + noise), slope, lam=lam, base="mae")
                assert surface["z"][i, j] == pytest.approx(loss.item(), rel=1e-5)
        i, j = np.unravel_index(surface["z"].argmin(), surface["z"].shape)
        assert (lowest["x"][0], lowest["y"][0], lowest["z"][0]) == (
            surface["x"][j],
            surface["y"][i],
            surface["z"].min(),
        )
        assert truth["x"].tolist() == [3, 3] and truth["y"].tolist() == [4, 4]


def test_fits_shows_each_curve_with_its_tangents() -> None:
    x = torch.tensor([2.0, 0.0, 1.0])  # data need not come in order
    lams = [0.1, 1.0, "MSE"]
    curves = torch.stack([n * x**2 for n in (1, 2, 3)])
    slopes = torch.stack([2 * n * x for n in (1, 2, 3)])
    plain = page(interactive.fits(x[:, None], x, lams, curves, slopes, lam="MSE", truth=x**2, alt="Parabolas."))
    assert controls(plain) == [{"name": "λ", "values": lams, "labels": ["0.1", "1", "MSE"], "start": 2}]
    for n, (_, (data, fit, truth, tangents)) in enumerate(states(plain), start=1):
        assert data["x"].tolist() == [2, 0, 1] and fit["x"].tolist() == [0, 1, 2]
        assert fit["y"].tolist() == [0, n, 4 * n] and truth["y"].tolist() == [0, 1, 4]
        pieces = tangents["x"].reshape(3, 3), tangents["y"].reshape(3, 3)
        rise = np.diff(pieces[1][:, :2]) / np.diff(pieces[0][:, :2])
        np.testing.assert_allclose(rise[:, 0], [0, 2 * n, 4 * n], rtol=1e-5)
        np.testing.assert_allclose(pieces[1][:, :2].mean(1), [0, n, 4 * n], atol=1e-6)
    ranges = plain["layout"]["yaxis"]["range"]
    assert ranges[0] < 0 and ranges[1] > 12


def test_any_combination_is_a_frame_and_the_first_state_is_the_nearest_to_start() -> None:
    x = np.linspace(0, 1, 3)

    def build(a: float, kind: str, b: float) -> list[Any]:
        moving = go.Scatter(x=x, y=a * x + b, name=kind, line={"color": "black", "width": a})
        return [{"type": "scatter", "x": x, "y": [0.0, np.nan, 1.0], "mode": "lines"}, moving]

    figure = stepped(
        build, {"a": [1, 2], "kind": ["up", "down"], "b": (0.0, 0.5, 1.5)}, start={"a": 9, "b": 0.6}, alt="Two\n lines."
    )
    plain = page(figure)
    assert [frame["name"] for frame in plain["frames"]] == [
        f"{i}-{j}-{n}" for i in range(2) for j in range(2) for n in range(3)
    ]
    assert [control["start"] for control in controls(plain)] == [1, 1, 1]
    assert controls(plain)[2] == {"name": "b", "values": [0, 0.5, 1.5], "labels": ["0", "0.5", "1.5"], "start": 1}
    assert plain["layout"]["meta"]["alt"] == "Two lines."
    for (a, kind, b), (still, moving) in states(plain):
        assert moving["name"] == kind and moving["line"] == {"color": "black", "width": a}
        np.testing.assert_allclose(moving["y"], a * x + b)
        np.testing.assert_array_equal(still["y"], [0, np.nan, 1])
    np.testing.assert_allclose(state(plain)[1]["y"], 2 * x + 0.5)  # what is drawn before any slider moves
    first = plain["data"][1]
    assert first["x"]["dtype"] == first["y"]["dtype"] == "f4"
    assert all(set(frame["data"][0]) == {"type", "y", "name", "line"} for frame in plain["frames"])
    assert all(frame["traces"] == [1] for frame in plain["frames"])  # the first trace never changes
    (slider,) = plain["layout"]["sliders"]  # Jupyter's
    assert [step["args"][0] for step in slider["steps"]] == [[frame["name"]] for frame in plain["frames"]]
    assert slider["steps"][slider["active"]]["label"] == "a = 2, kind = down, b = 0.5"


def test_axes_stand_still_unless_the_layout_says_otherwise() -> None:
    def build(a: float) -> list[Any]:
        return [go.Scatter(x=[0.0, 1.0], y=[0.0, a])]

    wide = page(stepped(build, {"a": [1.0, 10.0]}, alt="A line."))
    assert wide["layout"]["xaxis"]["range"] == pytest.approx([-0.05, 1.05])
    assert wide["layout"]["yaxis"]["range"] == pytest.approx([-0.5, 10.5])
    own = {"yaxis": {"range": [0, 2], "title": {"text": "y"}}, "height": 300}
    narrow = page(stepped(build, {"a": [1.0, 10.0]}, layout=own, alt="A line."))
    assert narrow["layout"]["yaxis"]["range"] == [0, 2] and narrow["layout"]["height"] == 300
    assert narrow["layout"]["yaxis"]["gridcolor"]  # the rest of the style stays


MAKERS: list[Callable[[], go.Figure]] = [
    lambda: interactive.factor_curve(0.5),
    lambda: interactive.factor_curve(0.123, "mse"),
    lambda: interactive.triangle(0.77, 2.0),
]


@pytest.mark.parametrize("make", MAKERS)
def test_ready_made_figures_are_small_and_say_what_they_show(make: Callable[[], go.Figure]) -> None:
    figure = make()
    assert isinstance(figure, go.Figure)
    plain = page(figure)
    assert len(json.dumps(plain)) < 600_000
    assert len(plain["layout"]["meta"]["alt"].split()) > 30
    written = json.dumps({**plain, "layout": {**plain["layout"], "meta": {}}})
    assert "$" not in written and "http" not in written  # no LaTeX, nothing from elsewhere
    assert plain == page(make())  # the same bytes every time


def one(value: float = 0.0) -> list[Any]:
    return [go.Scatter(x=[0.0, 1.0], y=[0.0, value])]


def raises(message: str, kind: type[Exception], call: Callable[[], object]) -> Any:
    return pytest.param(message, kind, call, id=message[:40])


@pytest.mark.parametrize(
    "message, kind, call",
    [
        raises("controls = {}: must map", ValueError, lambda: stepped(one, {}, alt="x")),
        raises("needs a name", ValueError, lambda: stepped(one, {" ": [1.0]}, alt="x")),
        raises("controls['a'] is empty", ValueError, lambda: stepped(one, {"a": []}, alt="x")),
        raises("controls['a'] = 'bc': must be a list", TypeError, lambda: stepped(one, {"a": "bc"}, alt="x")),
        raises("controls['a'] holds nan", ValueError, lambda: stepped(one, {"a": [1.0, math.nan]}, alt="x")),
        raises("controls['a'] holds True", ValueError, lambda: stepped(one, {"a": [True]}, alt="x")),
        raises("controls['a'] holds None: must be", TypeError, lambda: stepped(one, {"a": [None]}, alt="x")),  # type: ignore[list-item]
        raises("controls['a'] has 1 twice", ValueError, lambda: stepped(one, {"a": [1.0, 1.00000001]}, alt="x")),
        raises("make 400 states: at most 256", ValueError, lambda: stepped(one, dict.fromkeys("ab", range(20)), alt="x")),
        raises("alt = '  ': must say", ValueError, lambda: stepped(one, {"a": [1.0]}, alt="  ")),
        raises("start has 'b': the controls are 'a'", ValueError, lambda: stepped(one, {"a": [1]}, start={"b": 1}, alt="x")),
        raises("start['a'] = 'z': must be one of", ValueError, lambda: stepped(one, {"a": [1]}, start={"a": "z"}, alt="x")),
        raises("build returned Figure", TypeError, lambda: stepped(lambda a: go.Figure(), {"a": [1]}, alt="x")),  # type: ignore[arg-type, return-value]
        raises("a trace without a type", ValueError, lambda: stepped(lambda a: [{"x": [1]}], {"a": [1]}, alt="x")),
        raises("other traces in state 1", ValueError, lambda: stepped(lambda a: one() * int(a), {"a": [1, 2]}, alt="x")),
        raises(
            "trace 0 has line.dash in some states only",
            ValueError,
            lambda: stepped(
                lambda a: [go.Scatter(line={"dash": "dot"} if a > 1 else {"width": 1})], {"a": [1, 2]}, alt="x"
            ),
        ),
        raises(
            "bytes: at most 1500000",
            ValueError,
            lambda: stepped(lambda a: [go.Scatter(y=np.arange(9000) * a)], {"a": range(50)}, alt="x"),
        ),
        raises("lam = -1.0: λ must be finite", ValueError, lambda: interactive.factor_curve(-1.0)),
        raises("base = 'rmse': must be one of", ValueError, lambda: interactive.factor_curve(1.0, "rmse")),  # type: ignore[arg-type]
        raises("k = nan: must be finite", ValueError, lambda: interactive.triangle(math.nan, 1.0)),
        raises("e = 0.0: must be finite and not zero", ValueError, lambda: interactive.triangle(1.0, 0.0)),
        raises(
            "losses returned shape (2, 3): it must be (slopes, intercepts), (3, 2)",
            ValueError,
            lambda: interactive.loss_surface(lambda a: np.ones((2, 3)), [1, 2, 3], [1, 2], {"a": [1]}, alt="x"),
        ),
        raises(
            "has no finite entry",
            ValueError,
            lambda: interactive.loss_surface(lambda a: np.full((2, 2), np.nan), [1, 2], [1, 2], {"a": [1]}, alt="x"),
        ),
        raises(
            "slopes has shape (1,): must be a vector",
            ValueError,
            lambda: interactive.loss_surface(lambda a: [[1.0, 2.0]], [1], [1, 2], {"a": [1]}, alt="x"),
        ),
        raises("y has 1 values", ValueError, lambda: interactive.fits([1, 2], [1], [1.0], [[1, 2]], alt="x")),
        raises(
            "grid must rise", ValueError, lambda: interactive.fits([1, 2], [1, 2], [1], [[1, 2]], grid=[2, 1], alt="x")
        ),
        raises(
            "curves has shape (1, 2): must be (2, 2)",
            ValueError,
            lambda: interactive.fits([1, 2], [1, 2], [1, 2], [[1, 2]], alt="x"),
        ),
        raises(
            "tangents has shape (1, 1): must be (1, 2)",
            ValueError,
            lambda: interactive.fits([1, 2], [1, 2], [1], [[1, 2]], [[1]], alt="x"),
        ),
        raises(
            "at must lie within grid, 1 to 2",
            ValueError,
            lambda: interactive.fits([1, 2], [1, 2], [1], [[1, 2]], [[1]], at=[3], alt="x"),
        ),
        raises(
            "at is given without tangents",
            ValueError,
            lambda: interactive.fits([1, 2], [1, 2], [1], [[1, 2]], at=[1], alt="x"),
        ),
        raises(
            "x has dtype <U1: must be real", TypeError, lambda: interactive.fits(["a", "b"], [1, 2], [1], [[1, 2]], alt="x")
        ),
        raises("positions = (70,): the figure has no", ValueError, lambda: state(interactive.triangle(1, 1), 70)),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(message: str, kind: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)


def test_a_figure_is_data_and_opens_no_browser() -> None:
    """Whatever plotly would choose for the place it runs in, or is told by the environment."""
    code = (
        "import webbrowser, plotly.io\n"
        "webbrowser.get = lambda *_: 1 / 0\n"
        "from evidence.figures import interactive\n"
        "figure = interactive.triangle(1.0, 1.0)\n"
        "assert plotly.io.renderers.default == 'plotly_mimetype'\n"
        "print(*figure._repr_mimebundle_())\n"
        "figure\n"
    )
    environment = {**os.environ, "PLOTLY_RENDERER": "browser"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "application/vnd.plotly.v1+json\n"), done.stderr
