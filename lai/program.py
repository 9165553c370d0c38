"""A step of several networks as one tensor program: vmap of the loss and of Adam over the networks, traced and compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .batchnorm import HandedOut, Moments, Slope


class Network:
    """One network of a sweep, as an objective sees it; with BatchNorm it may be called once.

    ``left`` has BatchNorm's running statistics, as the last pass left them.
    """

    def __init__(self, template: nn.Module, weights: dict[str, Tensor], running: dict[str, Moments]) -> None:
        self._template, self._weights, self._running = template, weights, running
        self.left = running

    def __call__(self, x: Tensor) -> Tensor:
        r"""Outputs (N,) or (N, 1) for ``x`` (N, \*features), normalised by the batch where there is BatchNorm."""
        value, seen = self._pass(x)
        self._keep(seen)
        return value

    def value_and_slope(self, x: Tensor, slope: Slope = "own") -> tuple[Tensor, Tensor]:
        """Outputs, and slopes of the shape of ``x``: which, where BatchNorm couples the samples, ``SLOPES`` says."""
        if slope == "summed" or not self._running:
            k, (value, seen) = self._slope(x, None)
            self._keep(seen)
            return value, k
        value, seen = self._pass(x)
        self._keep(seen)
        held = seen if slope == "own" else {n: Moments(*(m.detach() for m in kept)) for n, kept in self.left.items()}
        k, (same, _) = self._slope(x, held)
        return (same if slope == "own" else value), k

    def _pass(self, x: Tensor, held: dict[str, Moments] | None = None) -> tuple[Tensor, dict[str, Moments]]:
        norms = {name: m for name, m in self._template.named_modules() if isinstance(m, HandedOut)}
        for name, norm in norms.items():
            norm.held, norm.seen = (None if held is None else held[name]), None
        value = functional_call(self._template, self._weights, (x,))
        seen = {}
        for name, norm in norms.items():
            if norm.seen is not None:
                seen[name] = norm.seen
            norm.held = norm.seen = None  # nothing of this pass may outlive it
        return value, seen

    def _slope(self, x: Tensor, held: dict[str, Moments] | None) -> Any:
        def summed(z: Tensor) -> Any:
            passed = self._pass(z, held)
            return passed[0].sum(), passed

        return grad(summed, has_aux=True)(x)

    def _keep(self, seen: dict[str, Moments]) -> None:
        self.left = {
            name: self._template.get_submodule(name).moved(kept, seen[name])  # type: ignore[operator]
            for name, kept in self._running.items()
        }


Objective = Callable[..., Tensor]


class Part(NamedTuple):
    r"""What some networks of a sweep minimise in a step.

    ``objective`` (network, \*args) is the loss of one :class:`Network`. It is traced when it is first seen, so use the same
    object for every step, which must not depend on values. ``own`` says of each of ``args`` whether it has a row for each
    network that takes part, or is one for all of them. ``rows`` are the networks that take part, all by default.
    """

    objective: Objective
    args: tuple[Tensor, ...]
    own: tuple[bool, ...]
    rows: Tensor | None = None


Name = tuple[str, str]
"""Of a tensor with a row for each network: its kind ("weight", Adam's "first" and "second" moment, BatchNorm's running
"mean" and "var"), and the name of the parameter or layer."""

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's, as in ``torch.optim.Adam``."""


def _adam(name: str, rows: dict[Name, Tensor], gradient: Tensor, rate: Tensor) -> dict[Name, Tensor]:
    """A step of Adam (Kingma and Ba, 2015) in the traced program, where it costs a tenth of what torch's own does beside it.

    ``rate`` is (lr / (1 - β₁ᵗ), 1 / √(1 - β₂ᵗ)).
    """
    first = BETAS[0] * rows["first", name] + (1 - BETAS[0]) * gradient
    second = BETAS[1] * rows["second", name] + (1 - BETAS[1]) * gradient * gradient
    moved = rows["weight", name] - rate[0] * first / (second.sqrt() * rate[1] + EPS)
    return {("weight", name): moved, ("first", name): first, ("second", name): second}


def program(template: nn.Module, names: Sequence[Sequence[Any]], part: Part) -> Callable[..., Any]:
    """The program of a part, from flat arguments to its networks' losses (E,) and their new state.

    In the ``template`` BatchNorm layers are replaced by ``HandedOut``. The arguments are ``_adam``'s ``rate``, then what
    has these ``names`` (one for all networks, each one's own to keep, and each one's state, which the step changes), then
    the part's own.
    """

    def one(state: dict[Name, Tensor], own: Any, shared: Any, rate: Tensor, args: Any) -> Any:
        running = {n: Moments(state["mean", n], state["var", n]) for kind, n in names[2] if kind == "mean"}

        def loss_of(weights: dict[str, Tensor]) -> Any:
            network = Network(template, {**shared, **own, **weights}, running)
            loss = part.objective(network, *args)
            return loss, (loss, network.left)

        weights = {name: value for (kind, name), value in state.items() if kind == "weight"}
        gradients, (loss, left) = grad(loss_of, has_aux=True)(weights)
        new = {(moment, n): value for n, kept in left.items() for moment, value in kept._asdict().items()}
        for name, gradient in gradients.items():
            new |= _adam(name, state, gradient, rate)
        return loss, [new[name] for name in names[2]]

    mapped = vmap(one, in_dims=(0, 0, None, None, [0 if own else None for own in part.own]))

    def flat(rate: Tensor, *tensors: Tensor) -> Any:
        left = iter(tensors)
        shared, own, state = ({name: next(left) for name in of_kind} for of_kind in names)
        return mapped(state, own, shared, rate, list(left))

    return flat


_TRACED: MutableMapping[Objective, dict[Any, torch.fx.GraphModule]] = WeakKeyDictionary()
"""Traced programs of an objective, by all else that they depend on."""


def traced(
    kind: str | None,
    template: nn.Module,
    names: Sequence[Sequence[Any]],
    part: Part,
    arguments: list[Tensor],
    *,
    again: bool = False,
) -> torch.fx.GraphModule | None:
    """The operations of :func:`program`: traced once for each ``kind`` of network, and each time where it is None.

    None where a value of a buffer decides what is computed, which a trace would fix; with ``again`` also where it was not
    traced before.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # it takes a second to import

    like = [(t.shape, t.dtype, t.device) for t in arguments]
    before, key = _TRACED.setdefault(part.objective, {}), (kind, part.own, str(names), str(like))
    if again or (kind is not None and key in before):
        return before.get(key)
    try:
        found = make_fx(program(template, names, part))(*arguments)
    except RuntimeError:  # what fails in the program itself fails again where it runs as it is
        return None
    if kind is not None:
        before[key] = found
    return found


_COMPILED: dict[Any, Callable[..., Any]] = {}
"""Compiled programs, by what was traced: sweeps of the same kind share them."""


def compiled(graph: torch.fx.GraphModule, arguments: list[Tensor]) -> tuple[Callable[..., Any], str]:
    """The program compiled, or as it is with the reason."""
    like = [(t.shape, t.stride(), t.dtype, t.device) for t in arguments]
    key: Any = graph.code, str(like), torch.get_num_threads()
    if any(node.op == "get_attr" for node in graph.graph.nodes):
        key = graph, key  # it holds constants, which the code does not show
    if key not in _COMPILED:
        found = torch.compile(graph, fullgraph=True, dynamic=False)
        try:
            found(*arguments)
        except Exception as error:  # whatever a missing or broken compiler raises
            reason = f"eager: torch.compile failed ({type(error).__name__})"
            warnings.warn(f"{reason}; the sweep goes on without it: {str(error).splitlines()[0]}", stacklevel=4)
            return graph, reason
        _COMPILED[key] = found
    return _COMPILED[key], "compiled"
