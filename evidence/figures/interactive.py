"""The book's figures with sliders: the factor, the triangle, a descent, a loss surface, fits. Import it by name: it needs plotly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch

from lai.factor import BASES, Base, check_choice, check_lam, lai_factor

from .sliders import Controls, stepped
from .style import COLOURS, GREY


def factor_curve(lam: float, base: Base = "mae", *, alt: str | None = None) -> go.Figure:
    """The factor over the slope, with its boundary and the factor at one slope k. Sliders: λ, k, and a switch for the loss.

    Parameters
    ----------
    lam
        The reader's λ; the slider starts there, among values from 0.1 to 10.
    base
        "mae" or "mse", where the switch between the two losses starts.

    Source: paper, sections 2.2 and 3.1.

    Examples
    --------
    >>> from evidence.figures.sliders import state
    >>> figure = factor_curve(0.5)
    >>> [control["name"] for control in figure.layout.meta["controls"]]
    ['λ', 'slope k', 'loss']
    >>> point = state(figure)[3]  # the factor at the slope of the second slider
    >>> bool(abs(point["y"][0] - lai_factor(float(point["x"][0]), 0.5, base="mae")) < 1e-6)
    True
    """
    check_choice("base", base, BASES)
    lam = _one_lam(lam)
    lams = _with([0.1, 0.5, 1.0, 2.0, 10.0], lam)
    bounds = sorted({*lams, *map(math.sqrt, lams)})
    low, high = min(0.01, bounds[0] / 10), max(100.0, bounds[-1] * 10)
    shown = [m * 10.0**d for d in range(-2, 2) for m in (1, 1.5, 2.5, 4, 7)] + [100.0]
    grid = np.unique(_single(*np.geomspace(low, high, 121), *bounds))
    extent: list[float] = [math.inf, 0.0]

    def build(lam: float, k: float, loss: str) -> list[dict[str, Any]]:
        base: Base = "mse" if loss == "MSE" else "mae"
        bound = _single(math.sqrt(lam) if base == "mse" else lam)
        factor = _factor(grid, lam, base)
        extent[:] = min(extent[0], factor.min()), max(extent[1], factor.max())
        here = _factor(_single(k), lam, base)
        lines = [
            (np.where(grid <= bound, factor, np.nan), "below the boundary", COLOURS[0], "solid"),
            (np.where(grid >= bound, factor, np.nan), "above the boundary", COLOURS[1], "dash"),
        ]
        hover = "k = %{x:.3g}<br>factor %{y:.4g}<extra></extra>"
        return [
            *({"type": "scatter", "mode": "lines", "x": grid, "y": y, "name": name, "hovertemplate": hover,
               "line": {"color": colour, "dash": dash, "width": 3}} for y, name, colour, dash in lines),
            {"type": "scatter", "mode": "markers", "x": bound, "y": _factor(bound, lam, base),
             "name": f"boundary, k = {bound[0]:.3g}", "hovertemplate": hover,
             "marker": {"color": "black", "size": 10, "symbol": "diamond"}},
            {"type": "scatter", "mode": "markers", "x": [k], "y": here, "name": f"factor {here[0]:.3g} at k = {k:.3g}",
             "hovertemplate": hover,
             "marker": {"color": "white", "size": 13, "symbol": "circle", "line": {"color": "black", "width": 3}}},
        ]  # fmt: skip

    figure = stepped(
        build,
        {"λ": lams, "slope k": shown, "loss": ["MAE", "MSE"]},
        start={"λ": lam, "slope k": 1.0, "loss": base.upper()},
        layout={
            "xaxis": {"type": "log", "title": {"text": "slope k"}, "dtick": 1, "tickformat": "~g"},
            "yaxis": {"type": "log", "title": {"text": "factor"}, "dtick": "D2", "tickformat": "~g"},
        },
        alt=alt
        or "The factor over the slope on logarithmic axes, with sliders for λ, for one slope k and for the loss. For every λ "
        "it falls up to the boundary, where the slope equals λ for MAE and √λ for MSE, and rises from there on. With λ below 1 the far "
        "side, steep slopes, ends higher than the near side; with λ above 1 flat slopes end higher.",
    )
    margin = 0.04 * math.log10(extent[1] / extent[0])
    figure.update_layout(
        xaxis_range=[math.log10(low), math.log10(high)],
        yaxis_range=[math.log10(extent[0]) - margin, math.log10(extent[1]) + margin],
    )
    return figure


def triangle(k: float, e: float, *, alt: str | None = None) -> go.Figure:
    """The line, the error and its two legs, with a slider for the slope; the longer leg is the loss.

    Parameters
    ----------
    k
        The reader's slope, finite; the slider starts there, among values from -4 to 4.
    e
        The error, prediction minus target, finite and not zero.

    Source: paper, section 2.

    Examples
    --------
    >>> from evidence.figures.sliders import state
    >>> figure = triangle(0.75, 2.5)
    >>> [trace["name"] for trace in state(figure)][2:4]
    ['along the line: a = 1.5', 'across it: b = 2, the longer']
    """
    for name, value in (("k", k), ("e", e)):
        if not math.isfinite(value) or (name == "e" and value == 0):
            raise ValueError(f"{name} = {value}: must be finite" + (" and not zero" if name == "e" else ""))
    slopes = _with([-4.0, -3.0, *(i / 4 for i in range(-8, 9)), 3.0, 4.0], float(k))
    half = 0.72 * abs(e)

    def build(k: float) -> list[dict[str, Any]]:
        along = np.array([1.0, k]) / math.hypot(1, k)
        target = np.array([0.0, -e])
        foot = (target @ along) * along
        a, b = float(np.hypot(*foot)), float(np.hypot(*(target - foot)))
        loss = abs(e) * float(lai_factor(torch.tensor(k, dtype=torch.float64), 1.0, base="mae"))
        tail = {name: ", the longer" if math.isclose(v, loss) else "" for name, v in (("a", a), ("b", b))}
        if all(tail.values()):
            tail = dict.fromkeys(tail, ", equal")
        far = 3 * half * along
        sides = [
            ("line", -far, far, "black", "solid", 2),
            (f"error |e| = {abs(e):.3g}", 0 * target, target, GREY, "solid", 4),
            (f"along the line: a = {a:.3g}{tail['a']}", 0 * foot, foot, COLOURS[0], "solid", 7 if tail["a"] else 4),
            (f"across it: b = {b:.3g}{tail['b']}", foot, target, COLOURS[1], "dash", 7 if tail["b"] else 4),
        ]
        side = "left" if foot[0] > 0 else "right"  # beside the triangle, not on it
        where = f"{'bottom' if e > 0 else 'top'} {side}"
        return [
            *({"type": "scatter", "mode": "lines", "x": [p[0], q[0]], "y": [p[1], q[1]], "name": name,
               "hoverinfo": "name", "line": {"color": colour, "dash": dash, "width": width}}
              for name, p, q, colour, dash, width in sides),
            {"type": "scatter", "mode": "markers+text", "x": [0.0, 0.0], "y": [0.0, -e], "name": "ends of the error",
             "text": ["prediction", "target"], "textposition": where,
             "hoverinfo": "text", "showlegend": False,
             "marker": {"color": ["black", "white"], "size": 11, "symbol": ["circle", "square"],
                        "line": {"color": "black", "width": 2}}},
        ]  # fmt: skip

    centre = -e / 2
    return stepped(
        build,
        {"slope k": slopes},
        start={"slope k": k},
        layout={
            "height": 460,
            "xaxis": {"range": [-half, half], "title": {"text": "x, from the prediction"}},
            "yaxis": {
                "range": [centre - half, centre + half],
                "title": {"text": "y, from the prediction"},
                "scaleanchor": "x",
            },
        },
        alt=alt
        or "A line through the prediction, with a slider for its slope. The vertical error and its two legs, along the "
        "line and across it, form a right triangle. On a line flatter than 45 degrees the leg across is the longer, on "
        "a steeper one the leg along; at 45 degrees they are equal.",
    )


def descent(
    paths: Callable[..., tuple[tuple[Any, Any], tuple[Any, Any]]],
    controls: Controls,
    *,
    start: Mapping[str, float | str] | None = None,
    x_label: str = "slope k",
    y_label: str = "ln of the loss",
    alt: str,
) -> go.Figure:
    """A loss over one slope, and the places that a descent visits on it.

    Parameters
    ----------
    paths
        Called as ``paths(*values)``, one value for each control. Returns ``(k, loss), (k, loss)``: the curve, and
        the descent from its start to its end, as arrays.
    controls, start, alt
        As in :func:`evidence.figures.sliders.stepped`.
    x_label, y_label : str

    Source: ours, for section 4 of the paper.

    Examples
    --------
    >>> from evidence.figures.sliders import state
    >>> k = np.linspace(-1, 1, 5)
    >>> figure = descent(lambda k0: ((k, k**2), (np.array([k0, 0.0]), np.array([k0**2, 0.0]))), {"start": [-1, 1]},
    ...                  alt="A parabola and one step to its foot.")
    >>> state(figure, 1)[2]["x"].tolist()
    [1.0]
    """

    def build(*values: float | str) -> list[dict[str, Any]]:
        (k, loss), (visited, at) = (tuple(_array("paths", part) for part in pair) for pair in paths(*values))
        trail = {"color": COLOURS[1], "width": 4}
        ends = (("start", 0, "circle-open"), (f"end, at {float(visited[-1]):.2g}", -1, "diamond"))
        return [
            {"type": "scatter", "mode": "lines", "name": "loss", "x": k, "y": loss, "line": {"color": COLOURS[0]}},
            {"type": "scatter", "mode": "lines", "name": "descent", "x": visited, "y": at, "line": trail},
            *({"type": "scatter", "mode": "markers", "name": name, "x": visited[[i]], "y": at[[i]],
               "marker": {"color": "black", "size": 11, "symbol": symbol, "line": {"width": 2}}}
              for name, i, symbol in ends),
        ]  # fmt: skip

    layout = {"xaxis": {"title": {"text": x_label}}, "yaxis": {"title": {"text": y_label}}}
    return stepped(build, controls, start=start, layout=layout, alt=alt)


def loss_surface(
    losses: Callable[..., Any],
    slopes: Any,
    intercepts: Any,
    controls: Controls,
    *,
    start: Mapping[str, float | str] | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
    x_label: str = "slope",
    y_label: str = "intercept",
    z_label: str = "loss",
    layout: Mapping[str, Any] | None = None,
    alt: str,
) -> go.Figure:
    """The loss of a line over its slope and its intercept: a surface to turn by hand, its lowest point marked.

    Parameters
    ----------
    losses
        Called as ``losses(*values)``, one value for each control. Returns an array of shape
        (len(slopes), len(intercepts)): entry [i, j] belongs to slope i and intercept j.
    slopes, intercepts
        The grid, two vectors; 41 values each are 9 kB a state.
    controls, start, layout, alt
        As for :func:`evidence.figures.sliders.stepped`.
    marks
        Names and places, (slope, intercept), each drawn as an upright line.
    x_label, y_label, z_label
        What the axes say. The vertical axis fits each state: a state's shape can be compared, its height cannot.

    Source: paper, appendix A.

    Examples
    --------
    >>> from evidence.figures.sliders import state
    >>> import numpy as np
    >>> k, b = np.linspace(2, 4, 5), np.linspace(3, 5, 5)
    >>> def losses(power):
    ...     return np.abs(k[:, None] - 3) ** power + np.abs(b[None, :] - 4) ** power
    >>> figure = loss_surface(losses, k, b, {"power": [1.0, 2.0]}, alt="A basin, lowest at slope 3 and intercept 4.")
    >>> state(figure, 1)[1]["name"]
    'lowest: slope 3, intercept 4'
    """
    x, y = _vector("slopes", slopes), _vector("intercepts", intercepts)
    places = dict(marks or {})

    def build(*values: Any) -> list[dict[str, Any]]:
        z = _array("losses", losses(*values))
        if z.shape != (len(x), len(y)):
            raise ValueError(f"losses returned shape {z.shape}: it must be (slopes, intercepts), {(len(x), len(y))}")
        if not np.isfinite(z).any():
            raise ValueError(f"losses at {values} has no finite entry")
        i, j = np.unravel_index(int(np.nanargmin(np.where(np.isfinite(z), z, np.nan))), z.shape)
        top, bottom = float(z[np.isfinite(z)].max()), float(z[i, j])
        hover = f"{x_label} %{{x:.3g}}<br>{y_label} %{{y:.3g}}<br>{z_label} %{{z:.4g}}<extra></extra>"
        surface = {
            "type": "surface", "x": x, "y": y, "z": z.T, "name": z_label, "colorscale": "Cividis", "showscale": False,
            "opacity": 0.95, "hovertemplate": hover,
            "contours": {"z": {"show": True, "start": bottom, "end": top, "size": (top - bottom) / 16 or 1.0,
                               "color": "rgba(255,255,255,0.55)", "width": 1}},
        }  # fmt: skip
        lowest = {
            "type": "scatter3d", "mode": "lines+markers", "x": [x[i], x[i]], "y": [y[j], y[j]], "z": [bottom, top],
            "name": f"lowest: {x_label} {x[i]:.3g}, {y_label} {y[j]:.3g}", "hovertemplate": hover,
            "line": {"color": COLOURS[1], "width": 5},  # upright, to be seen behind a slope
            "marker": {"color": COLOURS[1], "size": [8, 0.1], "line": {"width": 0}},
        }  # fmt: skip
        lines = [
            {"type": "scatter3d", "mode": "lines", "x": [px, px], "y": [py, py], "z": [bottom, top], "name": name,
             "line": {"color": "black", "width": 5, "dash": ("solid", "dash", "dot")[n % 3]}, "hoverinfo": "name"}
            for n, (name, (px, py)) in enumerate(places.items())
        ]  # fmt: skip
        return [surface, lowest, *lines]

    axes = {"xaxis": x_label, "yaxis": y_label, "zaxis": z_label}
    scene = {axis: {"title": {"text": text}, "gridcolor": "#bbbbbb"} for axis, text in axes.items()}
    base = {
        "height": 480,
        "margin": {"l": 0, "r": 0, "t": 8, "b": 8},
        "scene": {
            **scene,
            "aspectmode": "cube",
            "camera": {"eye": {"x": -1.7, "y": -1.7, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.15}},
        },
        "showlegend": True,
        "legend": {"orientation": "v", "y": 1, "yanchor": "top"},
    }
    return stepped(build, controls, layout=base | dict(layout or {}), start=start, alt=alt)


def fits(
    x: Any,
    y: Any,
    lams: Sequence[float | str],
    curves: Any,
    tangents: Any = None,
    *,
    grid: Any = None,
    at: Any = None,
    lam: float | str | None = None,
    truth: Any = None,
    name: str = "λ",
    x_label: str = "x",
    y_label: str = "y",
    alt: str,
) -> go.Figure:
    """Points in the plane and the curve fitted to them for each λ, with a slider for λ.

    Parameters
    ----------
    x, y
        The data, N values each.
    lams
        L values of λ, or strings for fits without one, such as "MSE".
    curves
        The fits, shape (L, G): each on ``grid``.
    tangents
        Slopes of the fits, shape (L, A), drawn as short tangents at ``at``.
    grid
        Where the curves are computed: G values in rising order; by default the data's own ``x``.
    at
        Where the tangents touch: A values within ``grid``, by default ``grid`` itself.
    lam
        The value that the slider shows first.
    truth
        The curve without noise, G values on ``grid``.
    name, x_label, y_label
        What the slider and the axes are called.

    Source: paper, section 3.1.

    Examples
    --------
    >>> from evidence.figures.sliders import state
    >>> import torch
    >>> x = torch.linspace(0, 1, 5)
    >>> curves = torch.stack([x, x**2])
    >>> slopes = torch.stack([torch.ones(5), 2 * x])
    >>> figure = fits(x, x, [0.1, 1.0], curves, slopes, lam=1.0, alt="A line at the first λ, a parabola at the second.")
    >>> state(figure, 1)[1]["y"].tolist()
    [0.0, 0.0625, 0.25, 0.5625, 1.0]
    """
    x, y = _vector("x", x), _vector("y", y, at_least=1)
    if len(x) != len(y):
        raise ValueError(f"y has {len(y)} values: it must have as many as x, {len(x)}")
    order = np.argsort(x, kind="stable") if grid is None else slice(None)
    grid = x[order] if grid is None else _vector("grid", grid)
    if not (np.diff(grid) >= 0).all():
        raise ValueError("grid must rise from value to value")
    curves = _matrix("curves", curves, len(lams), len(grid), "one row for each λ, one column for each value of grid")
    curves = curves[:, order]
    if truth is not None:
        truth = _matrix("truth", np.asarray(_array("truth", truth))[None], 1, len(grid), "one value for each of grid")
        truth = truth[0][order]
    touch = grid if at is None else _vector("at", at, at_least=1)
    if tangents is not None:
        shape = "one row for each λ, one column for each value of at"
        tangents = _matrix("tangents", tangents, len(lams), len(touch), shape)
        if at is None:
            tangents = tangents[:, order]
        if touch.min() < grid[0] or touch.max() > grid[-1]:
            raise ValueError(f"at must lie within grid, {grid[0]:g} to {grid[-1]:g}")
    elif at is not None:
        raise ValueError("at is given without tangents")
    place = {value: i for i, value in enumerate(lams)}

    def build(value: float | str) -> list[dict[str, Any]]:
        row = place[value]
        text = value if isinstance(value, str) else f"{name} = {value:g}"
        traces: list[dict[str, Any]] = [
            {"type": "scatter", "mode": "markers", "x": x, "y": y, "name": "data",
             "marker": {"color": GREY, "size": 6, "opacity": 0.6}},
            {"type": "scatter", "mode": "lines", "x": grid, "y": curves[row], "name": f"fit, {text}",
             "line": {"color": COLOURS[0], "width": 3}},
        ]  # fmt: skip
        if truth is not None:
            line = {"color": "black", "width": 2, "dash": "dot"}
            traces.append({"type": "scatter", "mode": "lines", "x": grid, "y": truth, "name": "truth", "line": line})
        if tangents is not None:
            half = (grid[-1] - grid[0]) / max(40, 3 * len(touch))
            height = np.interp(touch, grid, curves[row])
            across = np.stack([touch - half, touch + half, np.full_like(touch, np.nan)], axis=1)
            up = np.stack([height - half * tangents[row], height + half * tangents[row], across[:, 2]], axis=1)
            line = {"color": COLOURS[1], "width": 3}
            traces.append({"type": "scatter", "mode": "lines", "x": across.ravel(), "y": up.ravel(), "line": line,
                           "name": "tangents", "hoverinfo": "skip"})  # fmt: skip
        return traces

    labels = {"xaxis": {"title": {"text": x_label}}, "yaxis": {"title": {"text": y_label}}}
    return stepped(build, {name: list(lams)}, start={} if lam is None else {name: lam}, layout=labels, alt=alt)


def _single(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def _factor(k: np.ndarray, lam: float, base: Base) -> np.ndarray:
    """lai_factor of the slopes as they are stored."""
    return lai_factor(torch.as_tensor(k, dtype=torch.float64), lam, base=base).numpy()


def _one_lam(lam: Any) -> float:
    checked = check_lam(lam, n_features=1)
    return checked if isinstance(checked, float) else float(checked.reshape(()))


def _with(values: list[float], own: float) -> list[float]:
    """The values with the reader's own among them, in order; one that looks the same gives way."""
    return sorted([v for v in values if f"{v:g}" != f"{own:g}"] + [own])


def _array(name: str, value: Any) -> np.ndarray:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}: must be real numbers")
    return array.astype(np.float64)


def _vector(name: str, value: Any, at_least: int = 2) -> np.ndarray:
    array = _array(name, value)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # a column, as a model takes it
    if array.ndim != 1 or len(array) < at_least or not np.isfinite(array).all():
        raise ValueError(f"{name} has shape {array.shape}: must be a vector of at least {at_least} finite values")
    return array


def _matrix(name: str, value: Any, rows: int, columns: int, rule: str) -> np.ndarray:
    array = _array(name, value)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.shape != (rows, columns):
        raise ValueError(f"{name} has shape {array.shape}: must be {(rows, columns)}, {rule}")
    return array
