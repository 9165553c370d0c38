"""Figures that move with sliders: every state computed beforehand, none of it left to the page.

A figure holds every state that its sliders can reach, so that it moves in a page that has no Python behind it. The first state is
the figure's data. Each state, the first one included, is a frame named by the positions of its sliders, such as "0-2".
``layout.meta`` says which sliders there are: ``{"controls": [{"name", "values", "labels", "start"}], "alt": ...}``. Jupyter shows
one slider over all states.

Importing this module makes ``plotly_mimetype`` plotly's renderer: a figure at the end of a cell is data for the page
that shows it and never opens a browser or loads anything.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import torch

plotly.io.renderers.default = "plotly_mimetype"

MAX_STATES = 256
MAX_BYTES = 1_500_000

_AXIS = {"gridcolor": "#dddddd", "linecolor": "black", "showline": True, "ticks": "outside", "zeroline": False}
_LAYOUT: dict[str, Any] = {
    "template": "none",
    "autosize": True,
    "height": 400,
    "margin": {"l": 60, "r": 16, "t": 16, "b": 52},
    "font": {"size": 13, "color": "black", "family": "sans-serif"},
    "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
    "hovermode": "closest",
    "uirevision": "kept",  # a turned surface stays turned when a slider moves
    "xaxis": {**_AXIS, "automargin": True},
    "yaxis": {**_AXIS, "automargin": True},
}

Build = Callable[..., Sequence[Any]]
Controls = Mapping[str, Sequence[float | str]]


def stepped(
    build: Build,
    controls: Controls,
    *,
    layout: Mapping[str, Any] | None = None,
    start: Mapping[str, float | str] | None = None,
    alt: str,
) -> go.Figure:
    """A figure with one slider for each control, and any combination of their values.

    Parameters
    ----------
    build
        Called once for every combination, with one value for each control in their order. Returns plotly traces, the
        same number, types and attributes in every state. Coordinates are stored as float32.
    controls
        The name of each slider and its values, in the order in which the slider runs through them: numbers, or
        strings for choices. Together at most 256 states.
    layout
        Attributes of plotly's layout, over the ones all figures here share. Where it gives no range, the axes of a plane figure
        are fixed to what all states need, so that it is the curve that moves.
    start
        The value that each slider shows first, or the nearest one there is; by default the middle one.
    alt
        What the figure shows, for readers who cannot see it.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ValueError, TypeError
        For controls without values, too many states, states that do not match, a start that belongs to no control,
        an empty alt text, or a figure of more than 1.5 MB.

    Examples
    --------
    >>> import torch
    >>> from plotly import graph_objects as go
    >>> import lai
    >>> k = torch.linspace(0, 3, 7)
    >>> def curve(lam):
    ...     return [go.Scatter(x=k.numpy(), y=lai.lai_factor(k, lam, base="mae").numpy(), name="factor")]
    >>> figure = stepped(curve, {"λ": [0.5, 1.0, 2.0]}, alt="The factor is least at slope λ.")
    >>> [frame.name for frame in figure.frames]
    ['0', '1', '2']
    >>> figure.layout.meta["controls"]
    [{'name': 'λ', 'values': [0.5, 1.0, 2.0], 'labels': ['0.5', '1', '2'], 'start': 1}]
    >>> float(state(figure, 2)[0]["y"][0])  # the factor of a flat line at λ = 2
    2.0
    """
    names, values = _check_controls(controls)
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt = {alt!r}: must say what the figure shows")
    starts = _starts(dict(zip(names, values, strict=True)), start or {})

    keys = list(itertools.product(*(range(len(row)) for row in values)))
    states = [_traces(build(*(row[i] for row, i in zip(values, key, strict=True)))) for key in keys]
    _check_alike(states, keys)
    moving = [
        {name for name in states[0][i] if any(not _same(s[i][name], states[0][i][name]) for s in states)}
        for i in range(len(states[0]))
    ]
    moved = [i for i, changed in enumerate(moving) if changed]

    frames = []
    for key, one in zip(keys, states, strict=True):
        # plotly merges a frame into what is drawn: what never changes needs no repeating
        data = [{name: v for name, v in one[i].items() if name in moving[i] or name == "type"} for i in moved]
        frames.append(go.Frame(name=_name(key), data=data, traces=moved, _validate=False))
    first = keys.index(starts)
    labels = [[v if isinstance(v, str) else f"{v:g}" for v in row] for row in values]
    meta = {
        "controls": [
            {"name": name, "values": list(row), "labels": text, "start": at}
            for name, row, text, at in zip(names, values, labels, starts, strict=True)
        ],
        "alt": " ".join(alt.split()),
    }
    figure = go.Figure(data=states[first], layout=_LAYOUT, frames=frames)
    figure.update_layout(_ranges(states))
    figure.update_layout(dict(layout or {}))
    figure.update_layout(meta=meta, sliders=[_jupyter_slider(names, labels, keys, first)])
    size = len(figure.to_json())
    if size > MAX_BYTES:
        raise ValueError(f"the figure has {size} bytes: at most {MAX_BYTES}; take fewer states or coarser grids")
    return figure


def state(figure: go.Figure | Mapping[str, Any], *positions: int) -> list[dict[str, Any]]:
    """The traces that ``figure`` shows with its sliders at ``positions``, coordinates as arrays.

    ``figure`` may also be the dictionary that its JSON holds. No positions: the first state.

    >>> from evidence.figures.interactive import triangle
    >>> figure = triangle(1.0, 2.0)
    >>> slopes = figure.layout.meta["controls"][0]["values"]
    >>> [trace["name"] for trace in state(figure, slopes.index(0.5))][:2]
    ['line', 'error |e| = 2']
    """
    plain = figure.to_plotly_json() if isinstance(figure, go.Figure) else figure
    if not positions:
        positions = tuple(control["start"] for control in plain["layout"]["meta"]["controls"])
    found = [frame for frame in plain["frames"] if frame["name"] == _name(positions)]
    if not found:
        raise ValueError(f"positions = {positions}: the figure has no such state")
    traces = [dict(trace) for trace in plain["data"]]
    for i, change in zip(found[0]["traces"], found[0]["data"], strict=True):
        traces[i] |= change
    return [{name: _decoded(value) for name, value in trace.items()} for trace in traces]


def _check_controls(controls: Controls) -> tuple[list[str], list[list[Any]]]:
    if not isinstance(controls, Mapping) or not controls:
        raise ValueError(f"controls = {controls!r}: must map the name of each slider to its values")
    names, rows = [], []
    for name, values in controls.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"controls has the name {name!r}: a slider needs a name")
        if isinstance(values, str):
            raise TypeError(f"controls[{name!r}] = {values!r}: must be a list of values")
        row = [_check_value(name, value) for value in values]
        if not row:
            raise ValueError(f"controls[{name!r}] is empty: a slider needs values")
        labels = [v if isinstance(v, str) else f"{v:g}" for v in row]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"controls[{name!r}] has {', '.join(twice)} twice")
        names.append(name)
        rows.append(row)
    count = math.prod(map(len, rows))
    if count > MAX_STATES:
        raise ValueError(f"controls make {count} states: at most {MAX_STATES}")
    return names, rows


def _check_value(name: str, value: Any) -> float | str:
    if isinstance(value, str):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"controls[{name!r}] holds {value!r}: must be numbers or strings") from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"controls[{name!r}] holds {value!r}: must be finite numbers or strings")
    return number


def _starts(controls: dict[str, list[Any]], start: Mapping[str, float | str]) -> tuple[int, ...]:
    for name in start:
        if name not in controls:
            raise ValueError(f"start has {name!r}: the controls are {', '.join(map(repr, controls))}")
    found = []
    for name, row in controls.items():
        if name not in start:
            found.append((len(row) - 1) // 2 if len(row) % 2 else len(row) // 2)
        elif (value := _check_value(name, start[name])) in row:
            found.append(row.index(value))
        else:
            numbers = [i for i, v in enumerate(row) if not isinstance(v, str)]
            if isinstance(value, str) or not numbers:
                raise ValueError(f"start[{name!r}] = {value!r}: must be one of {', '.join(map(repr, row))}")
            found.append(min(numbers, key=lambda i: abs(row[i] - value)))
    return tuple(found)


def _traces(built: Any) -> list[dict[str, Any]]:
    """Traces as dictionaries with float32 coordinates."""
    if isinstance(built, go.Figure) or not isinstance(built, list | tuple) or not built:
        raise TypeError(f"build returned {type(built).__name__}: it must return a list of traces")
    return [_small(t.to_plotly_json() if hasattr(t, "to_plotly_json") else dict(t)) for t in built]


def _small(trace: dict[str, Any]) -> dict[str, Any]:
    if "type" not in trace:
        raise ValueError("build returned a trace without a type")
    return {
        name: _coordinates(value) if name in ("x", "y", "z", "surfacecolor", "customdata") else _plain(value)
        for name, value in trace.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray | torch.Tensor):
        return _coordinates(value)
    return value


def _coordinates(value: Any) -> Any:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return np.ascontiguousarray(array, dtype=np.float32) if array.dtype.kind in "iuf" else value


def _shape(value: Any, path: str) -> set[str]:
    """The paths of all attributes in a trace."""
    if not isinstance(value, dict):
        return {path}
    return set().union(*(_shape(v, f"{path}.{name}") for name, v in value.items())) if value else {path}


def _check_alike(states: list[list[dict[str, Any]]], keys: list[tuple[int, ...]]) -> None:
    """What is missing in one state would keep its value from the state before."""
    first = [(trace["type"], _shape(trace, "")) for trace in states[0]]
    for key, one in zip(keys, states, strict=True):
        if [trace["type"] for trace in one] != [kind for kind, _ in first]:
            raise ValueError(f"build returned other traces in state {_name(key)} than in {_name(keys[0])}")
        for i, trace in enumerate(one):
            if odd := sorted(_shape(trace, "") ^ first[i][1]):
                raise ValueError(f"trace {i} has {odd[0][1:]} in some states only, {_name(key)} or {_name(keys[0])}")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return all(_same(a[name], b[name]) for name in a)
    return bool(a == b)


def _ranges(states: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """For plane figures, axes that every state fits into."""
    if any(trace["type"] != "scatter" or {"xaxis", "yaxis"} & set(trace) for one in states for trace in one):
        return {}
    found = {}
    for name in ("x", "y"):
        arrays = [np.asarray(trace[name]).ravel() for one in states for trace in one if name in trace]
        if not arrays or any(array.dtype.kind != "f" for array in arrays):
            continue
        values = np.concatenate(arrays)
        values = values[np.isfinite(values)]
        if len(values):
            pad = 0.05 * float(values.max() - values.min()) or 0.5
            found[f"{name}axis"] = {"range": [float(values.min()) - pad, float(values.max()) + pad]}
    return found


def _jupyter_slider(
    names: list[str], labels: list[list[str]], keys: list[tuple[int, ...]], first: int
) -> dict[str, Any]:
    """One slider over all states: plotly's own know nothing of each other."""
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = []
    for key in keys:
        label = ", ".join(f"{name} = {row[i]}" for name, row, i in zip(names, labels, key, strict=True))
        steps.append({"label": label, "method": "animate", "args": [[_name(key)], still]})
    return {"active": first, "steps": steps, "pad": {"t": 48}, "currentvalue": {"prefix": "", "font": {"color": "black"}}, "ticklen": 0,
            "font": {"color": "rgba(0,0,0,0)"}}  # fmt: skip


def _name(positions: Sequence[int]) -> str:
    return "-".join(map(str, positions))


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and {"dtype", "bdata"} <= set(value):
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"])).copy()
        shape = str(value.get("shape", "")).replace(" ", "")
        return array.reshape([int(n) for n in shape.split(",")]) if shape else array
    return value
