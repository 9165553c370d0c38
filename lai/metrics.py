"""What the paper measures: RMSE, the variance of the outputs, the sensitivity to noise (section 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .factor import check_kind, wide
from .gradient import Inputs, WithSlopes, arguments, call
from .schedule import check_count


def rmse(model: Callable[..., Tensor], x: Inputs, y: Tensor) -> float:
    """Root mean squared error of the model in eval mode, in the target's units.

    Parameters
    ----------
    model : callable from (N, *features) to (N,) or (N, 1); a module is put into eval mode and then back
    x : Tensor (N, *features), N at least 1, or a tuple or dict of what the model takes
    y : Tensor, the shape of the model's output, else ``ValueError``

    Source: paper, section 6.1 ("Loss").

    Examples
    --------
    >>> import torch
    >>> round(rmse(torch.abs, torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 4.0])), 4)  # errors 0 and -2
    1.4142
    """
    with evaluating(model):
        out = _outputs(model, x)
        if out.shape != y.shape:
            raise ValueError(f"y has shape {tuple(y.shape)} and the output {tuple(out.shape)}: they must be the same")
        return float((out - wide(y)).square().mean().sqrt())


def output_variance(model: Callable[[Tensor], Tensor], x: Tensor) -> float:
    r"""Variance of the outputs over ``x`` (N, \*features), N >= 1, in the target's units squared (population variance).

    The paper's measure of smoothness is one of scale: a constant offset in slope or a mere shrinking of all outputs
    moves it as well.

    Source: paper, section 6.1 ("Var").

    Examples
    --------
    >>> import torch
    >>> output_variance(lambda x: 3 * x, torch.tensor([1.0, -1.0]))
    9.0
    """
    with evaluating(model):
        return float(_outputs(model, x).var(correction=0))


def sensitivity(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    relative_noise: float | None = None,
    noise: float | Sequence[float] | Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Mean absolute change of the output when Gaussian noise is added to one feature at a time.

    Parameters
    ----------
    model : callable from (N, d) to (N,) or (N, 1)
    x : Tensor (N, d), N at least 1
    relative_noise : float >= 0, default 0.5: x_j becomes x_j (1 + relative_noise · ε), ε standard normal
        The only kind of noise found that gives the paper's row of sensitivities.
    noise : float, or d floats, >= 0, if x_j becomes x_j + noise_j · ε instead, in the units of each feature
    seed : int, the same ε for every model that is measured with it

    Returns
    -------
    Tensor (d,), float64, in the target's units

    Source: paper, section 6.2; the kind and scale of its noise are not stated.

    Examples
    --------
    >>> import torch
    >>> s = sensitivity(lambda x: 3 * x[:, 0], torch.ones(10_000, 2), noise=1.0)  # E|3ε| = 3 √(2/π) = 2.394
    >>> [round(v, 1) for v in s.tolist()]
    [2.4, 0.0]
    """
    if relative_noise is not None and noise is not None:
        raise ValueError(f"relative_noise = {relative_noise} and noise = {noise}: give one of them, not both")
    check_kind("x", x, Tensor, "a tensor (N, d)")
    if x.ndim != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}: it must be (N, d)")
    name, value = ("noise", noise) if noise is not None else ("relative_noise", relative_noise)
    scale = torch.as_tensor(0.5 if value is None else value, dtype=torch.float64).flatten()
    if scale.numel() not in (1, x.shape[1]) or not (torch.isfinite(scale) & (scale >= 0)).all():
        raise ValueError(f"{name} = {value}: must be finite, not negative, and one number or {x.shape[1]}")
    scale = scale.expand(x.shape[1])
    generator = torch.Generator().manual_seed(check_count("seed", seed))
    changes = []
    with evaluating(model):
        before = _outputs(model, x)
        for j in range(x.shape[1]):
            # Drawn on the CPU, so that a GPU adds the same noise.
            eps = torch.randn(len(x), generator=generator).to(x) * float(scale[j])
            shifted = x.clone()
            shifted[:, j] = x[:, j] + eps if noise is not None else x[:, j] * (1 + eps)
            changes.append((_outputs(model, shifted) - before).abs().mean())
    return torch.stack(changes)


def _outputs(model: Callable[..., Tensor], x: Inputs) -> Tensor:
    """What the model returns, in float64."""
    every = arguments(x)
    check_kind("x", x, Tensor | tuple | list | dict, "a tensor, or a tuple or dict of what the model takes")
    if isinstance(model, WithSlopes):
        model = model.model
    if any(isinstance(t, Tensor) and t.shape[:1] == (0,) for t in every.values()):
        shapes = ", ".join(str(tuple(t.shape)) for t in every.values() if isinstance(t, Tensor))
        raise ValueError(f"x has shape {shapes}: at least one row is needed")
    return wide(only_tensor(call(model, every)))


def only_tensor(output: Any) -> Tensor:
    """What a model returned, or ``TypeError`` where it is not one tensor."""
    what = "a tensor; of several outputs, wrap the model in one that returns one"
    check_kind("the model's output", output, Tensor, what)
    return output


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Eval mode and no gradients."""
    with in_eval_mode(model.modules() if isinstance(model, nn.Module) else ()), torch.no_grad():
        yield


@contextmanager
def kept_mode_on_error(model: nn.Module) -> Iterator[None]:
    """The mode of each module is put back if an error leaves."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    except BaseException:
        for m, training in modes:
            m.training = training
        raise


@contextmanager
def in_eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """These modules themselves, and the mode of each restored afterwards."""
    modes = [(m, m.training) for m in modules]
    try:
        for m, _ in modes:
            m.training = False
        yield
    finally:
        for m, training in modes:
            m.training = training
