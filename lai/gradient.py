"""The slope k: exact gradients of a model's output by its input, one sample at a time."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .factor import check_flag, check_kind, check_number, check_outputs, compute_dtype
from .obstacles import explained, leaves, refuse_a_cut_branch, refuse_dead_ends, refuse_wrappers

NO_GRADIENT = "inputs.requires_grad is False: call inputs.requires_grad_() first, or use value_and_input_gradient"

Inputs = Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]
"""What a model is called with: a tensor, a tuple of positional arguments, or a dict of keyword arguments."""


def input_gradient(
    output: Tensor,
    inputs: Tensor | tuple[Tensor, ...],
    *,
    create_graph: bool | None = None,
    features: Any = None,
    scale: Any = None,
    allow_unused: bool = False,
) -> Tensor:
    r"""The derivative of every sample's output with respect to that sample's input.

    One backward pass serves the whole batch: row i of the gradient of the summed outputs is the slope of sample i, as
    only its own output depends on its input. Where samples mix (BatchNorm in training mode) it is not, which only
    :func:`assert_independent_samples` notices.

    Parameters
    ----------
    output : Tensor (N,), (N, 1) or (N, M), what the model returned for ``inputs``, with its graph
    inputs : Tensor (N, \*features), or a tuple of them, whose slopes are flattened and stand side by side, (N, d)
        What the model was given; must have ``requires_grad=True``. Its ``.grad`` is never touched.
    create_graph : bool, optional
        Whether the result can be differentiated again, as training on it needs. Default: yes; has to be said where
        gradients are off, but the output has a graph.
    features : sequence of int, or bool mask of the shape of the features, optional
        The features whose slopes are wanted, counted in the flattened features: the result is (N, n_chosen).
    scale : float or torch.amp.GradScaler, optional
        The output's gradient is multiplied by it and the slopes, in float32 or wider, are divided by it, so that float16
        neither overflows (65,504) nor underflows in between.
    allow_unused : bool, take a slope of zero where the output does not depend on ``inputs``

    Returns
    -------
    Tensor (N, \*features), or (N, M, \*features) for M outputs, which take a pass each
        In units of the output per unit of the input.

    Raises
    ------
    ValueError
        If the batch sizes differ, ``inputs`` does not require gradients, or the output does not depend on it.
    RuntimeError
        If the slopes are to be trained on, but the model cannot be differentiated twice or is wrapped so that its
        gradients would be wrong; says what to do.
    FloatingPointError
        If float16 slopes overflow while the output is finite; not with a GradScaler, which skips the step.

    Source: paper, section 3 (k as the tangent's slope) and section 3.2 (one slope per direction); ``scale`` as torch has it
    for gradient penalties.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> input_gradient(x[:, 0] ** 2 + 5 * x[:, 1], x, create_graph=False)
    tensor([[2., 5.],
            [6., 5.]])
    """
    return _slopes(output, inputs, create_graph, features, scale, allow_unused)


def _slopes(
    output: Tensor,
    inputs: Any,
    create_graph: bool | None,
    features: Any,
    scale: Any,
    allow_unused: bool,
    *,
    look: bool = True,
    branches: bool = False,
) -> Tensor:
    """:func:`input_gradient`; only with ``look`` is the graph searched for what cannot be trained on, and its branches too."""
    xs = inputs if isinstance(inputs, tuple) else (inputs,)
    if not isinstance(output, Tensor) or not xs or not all(isinstance(x, Tensor) for x in xs):
        kinds = ", ".join(type(x).__name__ for x in xs)
        raise TypeError(f"output and inputs must be tensors, not {type(output).__name__} and {kinds}")
    for x in xs:
        if x.ndim == 0 or output.shape[:1] != x.shape[:1]:
            shapes = f"output has shape {tuple(output.shape)} and inputs {tuple(x.shape)}"
            raise ValueError(f"{shapes}: both must begin with the same batch size N")
        if not x.requires_grad:
            raise ValueError(NO_GRADIENT)
    check_flag("allow_unused", allow_unused)
    if create_graph is None and output.requires_grad and not torch.is_grad_enabled():
        raise ValueError("create_graph = None: gradients are off; say True to train on the slopes, False to look")
    create_graph = graph_wanted(create_graph)
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and output.requires_grad and create_graph:
        refuse_wrappers(output, xs)

    def differentiated(by: Sequence[Tensor], ones: Tensor, *, create_graph: bool) -> Any:
        device = output.device.type
        on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        # Autocast is for the forward pass: what a model computes in float32 must not come back in float16.
        with explained(), torch.autocast(device, enabled=False) if on else nullcontext():
            return torch.autograd.grad(
                output, by, ones, create_graph=create_graph, retain_graph=True, allow_unused=True
            )

    def pull(ones: Tensor) -> list[Tensor]:
        ones.requires_grad_(create_graph and look)  # for the search alone: a gradient by them costs a pass
        grads: Iterable[Tensor | None] = [None] * len(xs)
        # A graph is kept even if create_graph is off: the caller still has the loss of this output to minimise.
        if output.requires_grad:
            grads = differentiated(xs, ones, create_graph=create_graph)
        found = [g for g in grads if g is not None]
        if len(found) < len(xs) and not allow_unused:
            raise ValueError(
                "output does not depend on inputs: the model was given another tensor, detaches it, or ran under no_grad; "
                "give it the very tensor, as value_and_input_gradient does, or take zero slopes with allow_unused=True"
            )
        if create_graph and found and look:
            refuse_dead_ends(found, xs, ones)
            if branches:
                used = [x for g, x in zip(grads, xs, strict=True) if g is not None]
                refuse_a_cut_branch(found, ones, differentiated(used, 3 * ones.detach(), create_graph=False))
        return [torch.zeros_like(x) if g is None else g for g, x in zip(grads, xs, strict=True)]

    return _all_slopes(pull, output, features, scale)


def _all_slopes(pull: Callable[[Tensor], Iterable[Tensor]], output: Tensor, features: Any, scale: Any) -> Tensor:
    """The slopes of all columns of ``output``, where ``pull`` takes the output's gradient to those of the inputs."""
    check_outputs("output", output)
    by = 1.0 if scale is None else scale.get_scale() if hasattr(scale, "get_scale") else scale
    check_number("scale", by, "must be a number greater than 0 or a torch.amp.GradScaler", 0)
    if output.dtype == torch.float16:
        by = min(by, 2.0**15)  # a new GradScaler has 2^16, which float16 does not hold
    columns = []
    for m in range(output.shape[1] if output.ndim == 2 else 1):
        ones = torch.full_like(output, by, requires_grad=False)
        if output.ndim == 2 and output.shape[1] > 1:
            ones = torch.zeros_like(output, requires_grad=False)
            ones[:, m] = by
        parts = list(pull(ones))
        k = parts[0] if len(parts) == 1 else torch.cat([g.reshape(len(g), g[:1].numel()) for g in parts], 1)
        if features is not None:
            k = k.reshape(len(k), k[:1].numel())[:, feature_indices(features, k.shape[1:].numel())]
        columns.append(k if scale is None else k.to(compute_dtype(k)) / by)
    k = columns[0] if len(columns) == 1 else torch.stack(columns, 1)
    if len(columns) > 1 and not _traced():
        k.of_outputs = len(columns)  # type: ignore[attr-defined]  # for the loss, which cannot tell them from features
    if not hasattr(scale, "get_scale") and torch.float16 in (output.dtype, parts[0].dtype) and not _traced():
        if torch.isfinite(output).all() and not torch.isfinite(k).all():
            raise FloatingPointError(
                f"scale = {scale}: the slopes leave float16, whose largest number is 65504, on their way to the input; "
                "give a smaller scale or the GradScaler as scale, or use bfloat16"
            )
    return k


def value_and_input_gradient(
    model: Callable[..., Tensor],
    inputs: Inputs,
    *,
    wrt: Any = None,
    create_graph: bool | None = None,
    features: Any = None,
    scale: Any = None,
    allow_unused: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""The model's output and its input gradient, wherever it is called.

    It is :func:`input_gradient` of ``model(inputs)``, errors included, under ``no_grad`` and ``inference_mode`` too, and
    leaves ``inputs`` as it was. Inside ``torch.compile`` and the transforms of ``torch.func`` it is part of the program;
    there, an output that does not depend on the input has slopes of zero, whatever ``allow_unused`` says. There is a warning
    if slopes are to be trained on, and the model, or the one that a function calls, has no parameter to train. What cannot be
    differentiated twice is looked for in a Module's first call in each mode.

    Parameters
    ----------
    model : callable from (N, \*features) to (N,), (N, 1) or (N, M)
    inputs : Tensor (N, \*features), tuple or dict
        A tuple is ``model(*inputs)``, a dict ``model(**inputs)``; other entries may be anything.
    wrt : int or str, or a sequence of them, optional
        Whose slopes are wanted: places in the tuple, or keys of the dict. Default: the one floating-point tensor; where
        there are several, it has to be said.
    create_graph : bool, by default whether gradients are on; if false, both results are detached
    features, scale, allow_unused : as in :func:`input_gradient`

    Returns
    -------
    output, grad : Tensor, Tensor

    Examples
    --------
    >>> import torch
    >>> value_and_input_gradient(torch.mul, (torch.ones(2), torch.full((2,), 3.0)), wrt=0, create_graph=False)
    (tensor([3., 3.]), tensor([3., 3.]))
    """
    create_graph = graph_wanted(create_graph)
    every = arguments(inputs)
    places = _places(every, wrt, several=False)

    def of_chosen(*xs: Tensor) -> Tensor:
        return call(model, {**every, **dict(zip(places, xs, strict=True))})  # torch 2.4 compiles no |

    xs = tuple(every[place] for place in places)
    if _traced():
        output, pull = torch.func.vjp(of_chosen, *xs)  # type: ignore[misc]
        k = _all_slopes(pull, output, features, scale)
        if not torch.compiler.is_compiling():  # whose graph is not yet there to be searched
            refuse_dead_ends([k])
    else:
        seen = _LOOKED_THROUGH.setdefault(model, set()) if isinstance(model, nn.Module) else set()
        mode = getattr(model, "training", None)
        with torch.inference_mode(False), torch.enable_grad():
            every = {n: t.clone() if isinstance(t, Tensor) and t.is_inference() else t for n, t in every.items()}
            xs = tuple(every[place] for place in places)
            # Fresh leaves, so that the caller's tensors stay as they are.
            xs = tuple(x if create_graph and x.requires_grad else x.detach().requires_grad_() for x in xs)
            output = of_chosen(*xs)
            once = isinstance(model, nn.Module) and mode not in seen
            how = {"look": once or not isinstance(model, nn.Module), "branches": once}
            k = _slopes(output, xs, create_graph, features, scale, allow_unused, **how)
            if create_graph:
                seen.add(mode)
                _warn_of_frozen(model, every, output, xs)
    return (output, k) if create_graph else (output.detach(), k.detach())


_LOOKED_THROUGH: MutableMapping[nn.Module, set[Any]] = WeakKeyDictionary()
"""Models whose graph was searched for what cannot be trained on, in training or evaluation mode: a tenth of a step, so once."""


def _warn_of_frozen(model: Any, every: dict[Any, Any], output: Tensor, xs: tuple[Tensor, ...]) -> None:
    weights = _weights_of(model)
    first = next(weights, None)
    if first is None or first.requires_grad:  # the usual cases, as this is asked in every step
        return
    others = [leaf for leaf in leaves(output, xs) if all(leaf is not x for x in xs)]
    if not any(getattr(t, "requires_grad", False) for t in (*weights, *every.values(), *others)):
        what = "model has no parameter that requires a gradient, so its slopes train nothing"
        warnings.warn(f"{what}: unfreeze some, or say create_graph=False if you only look", stacklevel=3)


def _weights_of(model: Any) -> Iterator[Tensor]:
    """The parameters of a Module, and of those that a function or a method names."""
    held = [model, getattr(model, "__self__", None)]
    if inspect.isfunction(model):
        names = inspect.getclosurevars(model)
        held += [*names.nonlocals.values(), *names.globals.values()]
    for one in held:
        if isinstance(one, nn.Module):
            yield from one.parameters()
        elif isinstance(one, Tensor) and one.requires_grad:
            yield one


class WithSlopes(nn.Module):
    r"""A model that returns its slopes beside its outputs, to be wrapped or compiled as one.

    DistributedDataParallel, FSDP's ``fully_shard`` on the whole and ``torch.compile`` then have the slopes inside, and their
    gradients are right; around the bare model the slopes would be taken through the wrapper. FSDP layer by layer inside it
    is refused. :func:`lai.fit` takes it where ``wrt`` or ``features`` are to be said. What cannot be differentiated twice is
    only explained in a call that is not compiled.

    Parameters
    ----------
    model : Module to (N,), (N, 1) or (N, M), trained in place
    wrt, features, scale, allow_unused : as in :func:`value_and_input_gradient`

    Source: ours.

    Examples
    --------
    >>> import torch, lai
    >>> y_hat, k = WithSlopes(lai.MLP(2, (8,), seed=0))(torch.ones(4, 2))
    >>> y_hat.shape, k.shape
    (torch.Size([4]), torch.Size([4, 2]))
    """

    def __init__(
        self, model: nn.Module, *, wrt: Any = None, features: Any = None, scale: Any = None, allow_unused: bool = False
    ) -> None:
        super().__init__()
        check_kind("model", model, nn.Module, "a Module; of a function, value_and_input_gradient has the slopes")
        check_flag("allow_unused", allow_unused)
        self.model, self.wrt = model, wrt
        features = None if features is None else _flat(features)
        self.how = {"features": features, "scale": scale, "allow_unused": allow_unused}

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Outputs and slopes of ``model(*args, **kwargs)``."""
        every: dict[Any, Any] = dict(enumerate(args))
        return value_and_input_gradient(self.model, {**every, **kwargs}, wrt=self.wrt, **self.how)


def assert_independent_samples(model: Callable[..., Tensor], inputs: Inputs, *, wrt: Any = None) -> None:
    r"""Raise if one sample's output depends on another sample's input.

    The Lai loss needs each sample's own slope; where samples mix, as by BatchNorm in training mode, there is none, and
    :func:`input_gradient` is silently wrong. The probe differentiates the first 16 outputs with respect to every
    floating-point input that has a row for each (to ``wrt``, or that of a WithSlopes), in the model's present mode. A Module is
    given these 16 samples only, any other callable all. A Module's buffers, the random state and ``.grad`` are left as they were.

    Parameters
    ----------
    model, inputs, wrt : as in :func:`value_and_input_gradient`; N >= 2

    Raises
    ------
    RuntimeError
        If samples mix; names BatchNorm layers, and the ways out.
    ValueError
        If there are fewer than two samples to compare, or a slope is not finite.

    Source: ours; the paper does not mention it.

    Examples
    --------
    >>> import torch, lai
    >>> assert_independent_samples(lai.MLP(3, (4,), norm="batch").eval(), torch.rand(8, 3))  # fixed statistics
    >>> assert_independent_samples(lai.MLP(3, (4,), norm="batch").train(), torch.rand(8, 3))
    Traceback (most recent call last):
        ...
    RuntimeError: samples are not independent: an output depends on another sample's input. ...
    """
    if isinstance(model, WithSlopes):
        model, wrt = model.model, model.wrt if wrt is None else wrt
    every = arguments(inputs)
    places = _places(every, wrt)
    n = next((len(every[place]) for place in places if every[place].ndim), 0)
    if wrt is None:  # others, such as a temperature, are of no sample
        places = [place for place in places if every[place].shape[:1] == (n,)] or places
    if isinstance(model, nn.Module):
        every = each_tensor(lambda t: t[:16] if t.shape[:1] == (n,) else t, every)
    with unchanged(model), torch.inference_mode(False), torch.enable_grad():
        xs = tuple(every[place].clone().detach().requires_grad_() for place in places)
        every |= dict(zip(places, xs, strict=True))
        if xs[0].ndim == 0 or len(xs[0]) < 2:
            raise ValueError(f"inputs has shape {tuple(xs[0].shape)}: at least 2 samples are needed to compare")
        output = call(model, every)
        if output.ndim == 0 or output.shape[0] != len(xs[0]):
            raise ValueError(f"the model returned shape {tuple(output.shape)} for a batch of {len(xs[0])}")
        mixed = output.requires_grad and any(_others_matter(output, xs, i) for i in range(min(16, len(output))))
    if not mixed:
        return
    norms = [
        f"{name or 'model'} ({type(m).__name__})"
        for name, m in (model.named_modules() if isinstance(model, nn.Module) else ())
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.training or m.running_mean is None)
    ]
    named, way_out = "", "Way out: compute nothing from the other samples of a batch, or detach it."
    if norms:
        named = f" BatchNorm in training mode: {', '.join(norms)}."
        way_out = (
            "Ways out: GroupNorm or LayerNorm instead of BatchNorm, or lai.FixedStatistics(model), which lai.fit takes as it "
            "is; .eval() on those layers helps in a loop of your own, but lai.fit undoes it."
        )
    raise RuntimeError(
        f"samples are not independent: an output depends on another sample's input.{named} The summed gradient is then not "
        f"each sample's own slope, and λ loses its meaning. {way_out}"
    )


def _others_matter(output: Tensor, xs: tuple[Tensor, ...], i: int) -> bool:
    grads = torch.autograd.grad(output[i].sum(), xs, retain_graph=True, allow_unused=True)
    # Exactly zero where samples stand alone: row j then receives nothing but products with zero.
    others = [part for g in grads if g is not None for part in (g[:i], g[i + 1 :])]
    if not all(torch.isfinite(part).all() for part in others):
        raise ValueError("the model's slope is not finite on these inputs: look for a root or a division at zero")
    return any(bool((part != 0).any()) for part in others)


@contextmanager
def unchanged(model: object) -> Iterator[None]:
    """Put buffers (running statistics) and random state back afterwards."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = [(m, n, b, b.detach().clone()) for m in modules for n, b in m._buffers.items() if b is not None]
    cuda = {t.device for m in modules for t in (*m.parameters(False), *m.buffers(False)) if t.is_cuda}
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            with torch.no_grad():
                for module, name, buffer, value in before:
                    module._buffers[name] = buffer
                    buffer.copy_(value)


def graph_wanted(create_graph: bool | None) -> bool:
    """Whether results are to be differentiated again; by default whether gradients are on."""
    if create_graph is None:
        return torch.is_grad_enabled()
    check_flag("create_graph", create_graph)
    return create_graph


# --- inputs -------------------------------------------------------------------------------------------------


def arguments(inputs: Inputs) -> dict[Any, Any]:
    """What the model is called with: positional arguments by their number, keyword arguments by their name."""
    if isinstance(inputs, dict):
        return dict(inputs)
    return dict(enumerate(inputs if isinstance(inputs, (tuple, list)) else (inputs,)))


def call(model: Callable[..., Any], every: dict[Any, Any]) -> Any:
    """The model's output for these :func:`arguments`."""
    named = {n: t for n, t in every.items() if isinstance(n, str)}
    return model(*(t for n, t in every.items() if n not in named), **named)


def each_tensor(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """``inputs`` with ``function`` of every tensor in place of it."""
    if isinstance(inputs, dict):
        return {name: each_tensor(function, t) for name, t in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(each_tensor(function, t) for t in inputs)
    return function(inputs) if isinstance(inputs, Tensor) else inputs


def _places(every: dict[Any, Any], wrt: Any, *, several: bool = True) -> list[Any]:
    """Where in the arguments the tensors are whose slopes are wanted."""
    real = [place for place, t in every.items() if isinstance(t, Tensor) and t.dtype.is_floating_point]
    if wrt is not None:
        places = list(wrt) if isinstance(wrt, (tuple, list)) else [wrt]
        for place in places:
            if place not in every:
                raise ValueError(f"wrt = {place!r}: the inputs are {', '.join(map(repr, every))}")
            if place not in real:
                about = getattr(every[place], "dtype", type(every[place]).__name__)
                raise TypeError(f"wrt = {place!r}: that input is {about}; only floating-point tensors have slopes")
        real = places
    if not real:
        kinds = ", ".join(str(getattr(t, "dtype", type(t).__name__)) for t in every.values())
        raise TypeError(f"inputs are of {kinds}: slopes need a floating-point tensor")
    if wrt is None and len(real) > 1 and not several:
        raise ValueError(f"wrt = None: say which of the inputs {', '.join(map(repr, real))} has the slopes")
    return real


def _flat(features: Any) -> list[Any]:
    features = features.tolist() if hasattr(features, "tolist") else features
    return [j for part in features for j in _flat(part)] if isinstance(features, (list, tuple, range)) else [features]


def feature_indices(features: Any, d: int) -> list[int]:
    """The chosen ones of ``d`` flattened features."""
    flat = _flat(features)
    mask = bool(flat) and all(isinstance(j, bool) for j in flat)
    chosen = [j for j, on in enumerate(flat) if on] if mask else flat
    fits = len(flat) == d if mask else all(type(j) is int and 0 <= j < d for j in flat)
    if not chosen or not fits:
        raise ValueError(f"features = {flat}: must be indices from 0 to {d - 1}, or a mask of {d} with one that is on")
    return chosen


def _traced() -> bool:
    """Whether torch.compile or a transform of torch.func is looking: nothing but torch.func.vjp differentiates there."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
