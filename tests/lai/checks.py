"""What is asked of several functions: errors that help, finite derivatives, samples that stand alone, nothing moved."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def refused(kind: type[Exception], message: str, function: Callable, *args: Any, **kwargs: Any) -> None:
    """The call raises one error, of a line, whose text begins as ``message`` (a regular expression) says."""
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    error = caught.value
    assert re.match(message, str(error)), f"{error!r} does not begin with {message!r}"
    assert "\n" not in str(error)
    assert error.__context__ is None or error.__suppress_context__, "an error while another was handled"


def derivatives(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """First and second derivatives by every input are those of finite differences; inputs in float64."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def finite(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Value, first and second derivatives by every input are finite."""
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    value = function(*leaves)
    first = torch.autograd.grad(value.sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first), leaves, allow_unused=True)
    for t in (value, *first, *(g for g in second if g is not None)):
        assert torch.isfinite(t).all(), t


def alike_in_any_order(function: Callable[..., Tensor], *samples: Tensor) -> None:
    """A number stays, and a value for each sample moves with its sample, when the samples are permuted."""
    order = torch.randperm(len(samples[0]), generator=torch.Generator().manual_seed(0))
    before, after = function(*samples), function(*(t[order] for t in samples))
    torch.testing.assert_close(after, before[order] if before.ndim else before)


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


@contextmanager
def untouched(*models: nn.Module) -> Iterator[None]:
    """Weights, buffers, gradients, modes and the global random state are as before, even after an error."""
    before = [(state(m), [part.training for part in m.modules()]) for m in models]
    random = torch.get_rng_state()
    yield
    for model, (weights, modes) in zip(models, before, strict=True):
        same(model, weights)
        assert [part.training for part in model.modules()] == modes
        assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def same(model: nn.Module, other: nn.Module | dict[str, Tensor], rtol: float = 0.0, atol: float = 0.0) -> None:
    """Two models, or a model and a state, agree in every weight and buffer; exactly, unless told otherwise."""
    expected = other.state_dict() if isinstance(other, nn.Module) else other
    torch.testing.assert_close(dict(model.state_dict()), dict(expected), rtol=rtol, atol=atol)
