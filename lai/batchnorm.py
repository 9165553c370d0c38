"""BatchNorm with slopes that are each sample's own: a way out for models that mix the samples of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .factor import check_choice, check_kind, compute_dtype
from .metrics import evaluating, in_eval_mode


class FixedStatistics(nn.Module):
    r"""A model with BatchNorm, trained as ever, but with slopes that are each sample's own.

    In training mode the values are those of ``model``, but the gradient of the summed output with respect to the input
    treats the batch's statistics as constants, so it is the slope of each sample. Where the input requires a gradient,
    "batch" costs one extra forward pass and "running" two.

    Parameters
    ----------
    model : Module from (N, \*features) to (N,) or (N, 1), trained in place
        BatchNorm layers that are in eval mode are left alone.
    statistics : "batch" or "running"
        Which statistics the slopes hold fixed: those of the batch, so that the loss still sees how the *weights* move
        them, or the running ones as this pass leaves them, so that it does not.

    Source: ours.

    Examples
    --------
    >>> import torch, lai
    >>> wrapped = FixedStatistics(lai.MLP(2, (8,), norm="batch"))
    >>> lai.assert_independent_samples(wrapped, torch.rand(64, 2))  # of the model itself it would raise
    """

    def __init__(self, model: nn.Module, statistics: Literal["batch", "running"] = "batch") -> None:
        super().__init__()
        check_kind("model", model, nn.Module, "a Module")
        check_choice("statistics", statistics, ("batch", "running"))
        self.model = model
        self.statistics = statistics

    def extra_repr(self) -> str:
        return f"statistics={self.statistics!r}"

    def forward(self, x: Tensor) -> Tensor:
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm) and m.training]
        if not norms or not (x.requires_grad and torch.is_grad_enabled()):
            return self.model(x)
        forked = partial(torch.random.fork_rng, devices=[x.device] if x.is_cuda else [])  # each pass draws the same
        if self.statistics == "batch":
            with forked(), _recorded(norms) as seen:
                self.model(x.detach())
            with in_eval_mode(norms), _replaced(seen):
                return self.model(x)
        with forked():
            values = self.model(x.detach())
        with in_eval_mode(norms):
            with forked():
                same = self.model(x.detach())
            # Zero in value and in the gradient by the weights; its gradient by x is the slope.
            return values + (self.model(x) - same)


Seen = dict[nn.Module, list[tuple[Tensor, Tensor]]]


@contextmanager
def _recorded(norms: list[_BatchNorm]) -> Iterator[Seen]:
    """Collect mean and variance of what each layer is given, call by call, with their graph to the weights."""
    seen: Seen = {m: [] for m in norms}

    def record(module: nn.Module, args: tuple[Tensor]) -> None:
        h = args[0]
        over = [i for i in range(h.ndim) if i != 1]
        seen[module].append((h.mean(over, keepdim=True), h.var(over, correction=0, keepdim=True)))

    with ExitStack() as hooks:
        for m in norms:
            hooks.enter_context(m.register_forward_pre_hook(record))
        yield seen


@contextmanager
def _replaced(seen: Seen) -> Iterator[None]:
    """Normalise by the recorded statistics instead."""
    left = {m: iter(calls) for m, calls in seen.items()}

    def replace(module: _BatchNorm, args: tuple[Tensor], output: Tensor) -> Tensor:
        mean, var = next(left[module])
        h = (args[0] - mean) / (var + module.eps).sqrt()
        if not module.affine:
            return h
        shape = [1, -1] + [1] * (h.ndim - 2)
        return h * module.weight.view(shape) + module.bias.view(shape)

    with ExitStack() as hooks:
        for m in seen:
            hooks.enter_context(m.register_forward_hook(replace))
        yield


def set_exact_statistics(model: nn.Module, x: Tensor, *, batch_size: int = 8192) -> None:
    r"""Give BatchNorm the mean and variance that its inputs have over all of ``x``, layer by layer.

    Afterwards eval mode gives what training mode gives with all of ``x`` as one batch. Running statistics jitter with the
    last few batches; their average (``torch.optim.swa_utils.update_bn``) is far from the whole where data have heavy tails.

    Parameters
    ----------
    model : Module, whose L layers with running statistics take L passes
    x : Tensor (N, \*features), N at least 1
        Usually all training rows, but for any so far outside that it alone would decide a variance.
    batch_size : int, rows at a time, which changes no more than rounding

    Source: ours.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> model = lai.MLP(2, (8,), norm="batch", seed=0)
    >>> lai.set_exact_statistics(model, x)
    >>> bool(torch.allclose(model.eval()(x), model.train()(x), atol=1e-6))
    True
    """
    check_kind("x", x, Tensor, "a tensor; torch.as_tensor makes one")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: statistics need at least one row")
    model = getattr(model, "_orig_mod", model)  # a compiled model does not see hooks
    left = {m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats}
    with evaluating(model):
        while left:
            seen: dict[_BatchNorm, tuple[int, Tensor, Tensor]] = {}

            def record(module: _BatchNorm, args: tuple[Tensor]) -> None:
                # The first layer that is not done: what the later ones are given is not yet what they will be given.
                if not seen or module in seen:  # noqa: B023
                    seen[module] = _pooled(seen.get(module), args[0])  # noqa: B023

            with ExitStack() as hooks:
                for m in left:
                    hooks.enter_context(m.register_forward_pre_hook(record))
                for rows in x.split(batch_size):
                    model(rows)
            if not seen:
                break  # layers that the model does not use
            [(layer, (_, mean, var))] = seen.items()
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(var)  # type: ignore[union-attr]
            left.remove(layer)


def _pooled(before: tuple[int, Tensor, Tensor] | None, h: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number, mean and variance of each channel's values so far and those of ``h`` (N, C, ...) together."""
    values = h.to(compute_dtype(h)).transpose(0, 1).flatten(1)
    n, (var, mean) = values.shape[1], torch.var_mean(values, 1, correction=0)
    if before is None:
        return n, mean, var
    m, old_mean, old_var = before
    share, apart = n / (m + n), mean - old_mean
    return m + n, old_mean + share * apart, (1 - share) * old_var + share * var + share * (1 - share) * apart**2


SLOPES = {
    "summed": "gradient of the summed outputs, through the batch's statistics: not a slope of any sample",
    "own": "each sample's own slope, the batch's statistics held fixed",
    "running": "each sample's own slope, with running statistics",
}
"""What stands for k where BatchNorm couples the samples of a batch."""

Slope = Literal["summed", "own", "running"]


class Moments(NamedTuple):
    """Mean and variance of the channels of a BatchNorm layer, Tensors (n_channels,)."""

    mean: Tensor
    var: Tensor


class HandedOut(nn.Module):
    """A BatchNorm layer in training mode, as a function: its statistics come in and go out by attributes.

    ``seen`` are those of the last batch (population variance), with their graph to the weights; ``held`` is what to
    normalise by instead.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.momentum: float = norm.momentum  # type: ignore[assignment]  # a sweep takes no other
        self.held: Moments | None = None
        self.seen: Moments | None = None
        self.count = 0

    @classmethod
    def replacing(cls, model: nn.Module) -> nn.Module:
        """The model with every BatchNorm layer replaced, in place."""
        for name, child in model.named_children():
            if isinstance(child, _BatchNorm):
                setattr(model, name, cls(child))
            else:
                cls.replacing(child)
        return cls(model) if isinstance(model, _BatchNorm) else model

    def forward(self, h: Tensor) -> Tensor:
        over, shape = [i for i in range(h.ndim) if i != 1], [1, -1] + [1] * (h.ndim - 2)
        if self.held is None:
            if self.seen is not None:
                raise ValueError("a BatchNorm layer is used twice in one pass, which a sweep does not take")
            mean = h.mean(over)
            centred = h - mean.view(shape)
            self.seen, self.count = Moments(mean, (centred * centred).mean(over)), h.numel() // h.shape[1]
            if self.count == 1:
                raise ValueError("a batch of one value per channel has no variance: BatchNorm needs two or more")
        mean, var = self.seen if self.held is None else self.held  # type: ignore[misc]
        scale = (var + self.eps).rsqrt()
        shift = -mean * scale
        if self.weight is not None:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return h * scale.view(shape) + shift.view(shape)

    def moved(self, running: Moments, seen: Moments) -> Moments:
        """Running statistics after a batch: its variance counts unbiased, as torch has it."""
        unbiased = seen.var * (self.count / (self.count - 1))
        pairs = zip(running, (seen.mean, unbiased), strict=True)
        return Moments(*(old + self.momentum * (new - old) for old, new in pairs))
