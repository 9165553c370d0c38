"""Many small networks of one shape, trained side by side in one tensor program.

One network of 8-64-32-1 leaves a core waiting for torch's bookkeeping. A stack of them does the same arithmetic with
one call per layer, whatever their number; they share nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lai.factor import check_choice, check_lam
from lai.models import MLP, Standardize
from lai.schedule import LaiSchedule, Sampling, check_count
from lai.training import batch_order, batch_starts

from .by_hand import activate, batch_norm, lai_norm, linear, norm_of_data, project, project_to_data

if TYPE_CHECKING:
    import pandas as pd

Slope = Literal["summed", "true"]


class Stack(nn.Module):
    """Copies of E networks of one architecture, with the weights of each layer in one tensor.

    Layout: features come before samples, (E, n_features, B), so that every layer is one batched product and
    BatchNorm sees its channels as rows, without copies.

    Parameters
    ----------
    models : sequence of MLP
        Same widths, activation, normalisation (None or "batch") and device.

    Raises
    ------
    ValueError
        For no model, models of different architecture, LayerNorm, or BatchNorm without a momentum.

    Source: ours.

    Examples
    --------
    >>> models = [MLP(3, (4,), seed=s) for s in range(2)]
    >>> x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    >>> both = Stack(models)(x.T.expand(2, 3, 5))
    >>> torch.allclose(both[1], models[1](x))
    True
    """

    def __init__(self, models: Sequence[MLP]) -> None:
        super().__init__()
        if not models:
            raise ValueError("models: give at least one")
        if len({str(model) for model in models}) > 1:
            raise ValueError("models differ in architecture: a stack is of one shape")
        if any(isinstance(layer, nn.LayerNorm) for layer in models[0]):
            raise ValueError("models have LayerNorm: a stack takes norm=None or norm='batch'")
        if any(isinstance(layer, nn.BatchNorm1d) and layer.momentum is None for layer in models[0]):
            raise ValueError("models have BatchNorm with momentum=None: a stack takes a number")
        self._first = copy.deepcopy(models[0])
        self._first.requires_grad_(False)
        self._own = nn.ParameterDict()  # by position and name, as in the single network: "2_weight"
        for name, _ in models[0].named_parameters():
            values = torch.stack([model.get_parameter(name).detach() for model in models])
            self._own[_key(name)] = nn.Parameter(values)
        self._kept = {}  # the same for buffers
        for name, _ in models[0].named_buffers():
            self._kept[name] = torch.stack([model.get_buffer(name) for model in models])

    def __len__(self) -> int:
        return len(next(iter(self._own.values())))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stack:
        """What ``.to()`` and its relatives call: buffers move with the parameters."""
        super()._apply(fn, recurse)
        self._kept = {name: fn(kept) for name, kept in self._kept.items()}
        return self

    def forward(self, x: Tensor, part: Tensor | None = None) -> Tensor:
        """Tensor (E, n_features, B) to (E, B).

        In training mode BatchNorm divides by the spread of the batch, and updates the running statistics; in
        evaluation mode it uses these. With ``part``, an index of networks, ``x`` and the result are of those alone.
        """
        folded = -1  # a BatchNorm that the layer before has seen to
        twice = x.requires_grad  # somebody wants slopes from autograd, and ours has one backward pass
        for position, layer in enumerate(self._first):
            if isinstance(layer, Standardize):
                x = (x - self._value(position, "mean", part)) / self._value(position, "std", part)
            elif isinstance(layer, nn.Linear):
                if self.training and not x.requires_grad and isinstance(self._first[position + 1], nn.BatchNorm1d):
                    x, folded = self._norm_of_data(position, x, part)[0], position + 1
                else:
                    weight, bias = (self._value(position, name, part) for name in ("weight", "bias"))
                    x = torch.baddbmm(bias, weight, x)
            elif isinstance(layer, nn.BatchNorm1d) and position != folded:
                gain, bias = (self._value(position, name, part) for name in ("weight", "bias"))
                if not self.training:
                    mean, var = (self._value(position, f"running_{name}", part) for name in ("mean", "var"))
                    scale = gain * (var + layer.eps).rsqrt()
                    x = (x * scale).add_(bias - mean * scale)
                else:
                    with self._running(position, layer, part) as (running, momentum):
                        if twice:
                            rows, mean, var = x.reshape(1, -1, x.shape[-1]), running[0].view(-1), running[1].view(-1)
                            values = gain.flatten(), bias.flatten(), True, momentum, layer.eps
                            x = nn.functional.batch_norm(rows, mean, var, *values).view_as(x)
                        else:
                            x = batch_norm(x, gain, bias, None, running, momentum, layer.eps)[0]
            elif not isinstance(layer, nn.BatchNorm1d | nn.Flatten):
                x = layer(x)
        return x[:, 0]

    def value_and_slope(self, x: Tensor, slope: Slope = "summed", part: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (E, B) and their slopes k (E, n_features, B), both differentiable by the weights; in training mode.

        Parameters
        ----------
        x : Tensor (E, n_features, B)
        slope : "summed" or "true"
            Where BatchNorm couples the samples: the gradient of the summed outputs, or each sample's own, with the
            batch's statistics held fixed while the input moves (as in :class:`lai.FixedStatistics`).
        part : Tensor of int, optional
            The networks that ``x`` is for; all by default.
        """
        folded = -1  # as in forward
        layers: list[Callable[[Tensor], Tensor]] = []  # the chain rule, from the first layer to the last
        weight = offset = torch.empty(0)  # of the linear layer just passed
        for position, layer in enumerate(self._first):
            if isinstance(layer, Standardize):
                mean, std = (self._value(position, name, part) for name in ("mean", "std"))
                x = (x - mean) / std
                layers.append(partial(torch.mul, 1 / std))
            elif isinstance(layer, nn.Linear):
                weight, offset = (self._value(position, name, part) for name in ("weight", "bias"))
                normed = isinstance(self._first[position + 1], nn.BatchNorm1d)
                if normed and not x.requires_grad:
                    x, scaled, unit, centred = self._norm_of_data(position, x, part)
                    folded = position + 1
                    through = partial(project_to_data, scaled=scaled, unit=unit, centred=centred)
                    layers.append(through if slope == "summed" else partial(torch.matmul, scaled.mT))
                else:
                    x = linear(weight, None if normed else offset, x)
                    layers.append(partial(torch.matmul, weight.mT))
            elif isinstance(layer, nn.BatchNorm1d) and position != folded:
                gain, bias = (self._value(position, name, part) for name in ("weight", "bias"))
                with self._running(position, layer, part) as (running, momentum):
                    x, centred, inverse = batch_norm(x, gain, bias, offset, running, momentum, layer.eps)
                # A factor for each channel costs less on the weights than on the samples.
                layers[-1] = partial(torch.matmul, (weight * (gain * inverse)).mT)
                if slope == "summed":
                    layers.append(partial(project, centred=centred, inverse=inverse.detach()))
            elif not isinstance(layer, nn.BatchNorm1d | nn.Flatten):
                x, chain = activate(layer, x)
                layers.append(chain)
        k = torch.ones_like(x[:, :, :1])
        for step in reversed(layers):
            k = step(k)
        return x[:, 0], k.expand(-1, -1, x.shape[-1])

    def _norm_of_data(self, position: int, x: Tensor, part: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The linear layer at this position and the BatchNorm after it, where nobody wants a gradient by ``x``."""
        weight, offset = (self._value(position, name, part) for name in ("weight", "bias"))
        gain, bias = (self._value(position + 1, name, part) for name in ("weight", "bias"))
        layer = self._first[position + 1]
        assert isinstance(layer, nn.BatchNorm1d)
        with self._running(position + 1, layer, part) as (running, momentum):
            return norm_of_data(x, weight, offset, gain, bias, running, momentum, layer.eps)

    @contextmanager
    def _running(
        self, position: int, layer: nn.BatchNorm1d, part: Tensor | None
    ) -> Iterator[tuple[tuple[Tensor, Tensor], float]]:
        """BatchNorm's running mean and variance (E, n_channels), to be updated in place, and their momentum."""
        whole = [self._kept[f"{position}.running_{name}"] for name in ("mean", "var")]
        mean, var = (kept if part is None else kept[part] for kept in whole)
        assert layer.momentum is not None
        yield (mean, var), layer.momentum
        counts = self._kept[f"{position}.num_batches_tracked"]
        if part is None:
            counts += 1
        else:
            counts[part] += 1
            whole[0][part], whole[1][part] = mean, var

    def _value(self, position: int, name: str, part: Tensor | None) -> Tensor:
        """A layer's parameter or buffer with the networks in front, and a vector as a column (E, n, 1)."""
        key = f"{position}_{name}"
        value = self._own[key] if key in self._own else self._kept[f"{position}.{name}"]
        value = value if part is None else value[part]
        return value[..., None] if value.ndim == 2 else value

    def models(self) -> list[MLP]:
        """The single networks, as copies, in this stack's mode."""
        result = []
        for i in range(len(self)):
            model = copy.deepcopy(self._first).requires_grad_(True)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(self._own[_key(name)][i])
                for name, buffer in model.named_buffers():
                    buffer.copy_(self._kept[name][i])
            result.append(model.train(self.training))
        return result


def _key(name: str) -> str:
    return name.replace(".", "_")


@dataclass(frozen=True)
class Lane:
    """How one network of a stack is trained.

    Attributes
    ----------
    seed : int
        Of its batch order and of its schedule: lanes of one seed see identical batches, and identical ones to a
        network trained alone by :func:`lai.fit`.
    lam : float, tuple of floats (one per feature) or None
        None: plain MSE throughout.
    alpha : float
        Share of Lai batches, or of Lai points.
    sampling : "batches" or "points"
        As in :class:`lai.LaiSchedule`; the points are not supported where BatchNorm mixes them with the rest.
    """

    seed: int
    lam: float | tuple[float, ...] | None = None
    alpha: float = 1.0
    sampling: Sampling = "batches"

    def __post_init__(self) -> None:
        check_count("seed", self.seed)
        if self.lam is not None:
            check_lam(self.lam)
        LaiSchedule(self.alpha, sampling=self.sampling)


def adam(stack: Stack, lr: float) -> torch.optim.Adam:
    """The optimiser for :func:`fit_stack`; elementwise, so every network has a state of its own."""
    # The fused step rounds differently in whole vectors and in what is left over, so a parameter that does not fill them
    # would depend on how many networks there are.
    whole = [p for p in _parameters(stack) if p[0].numel() % 16 == 0]
    rest = [p for p in _parameters(stack) if p[0].numel() % 16]
    groups = [{"params": whole, "fused": True}, {"params": rest, "fused": False, "foreach": False}]
    return torch.optim.Adam([group for group in groups if group["params"]], lr=lr)


def branch(stack: Stack, optimizer: torch.optim.Optimizer, index: Sequence[int]) -> tuple[Stack, torch.optim.Adam]:
    """Copies of the networks ``index`` (repeats allowed) with the optimiser's state: arms that part from one trunk."""
    models = stack.models()
    fresh = Stack([models[i] for i in index]).to(next(stack.parameters()).device).train(stack.training)
    state = adam(fresh, optimizer.param_groups[0]["lr"])
    at = torch.as_tensor(list(index), device=next(stack.parameters()).device)
    for old, new in zip(_parameters(stack), _parameters(fresh), strict=True):
        if optimizer.state[old]:
            kept = optimizer.state[old]
            state.state[new] = {
                "step": kept["step"].clone(),
                **{name: kept[name][at].clone() for name in ("exp_avg", "exp_avg_sq")},
            }
    return fresh, state


def _parameters(stack: Stack) -> list[Tensor]:
    return [parameter for parameter in stack.parameters() if parameter.requires_grad]


def fit_stack(
    stack: Stack,
    optimizer: torch.optim.Optimizer,
    train: tuple[Tensor, Tensor],
    lanes: Sequence[Lane],
    *,
    epochs: int,
    batch_size: int,
    first_epoch: int = 0,
    pretrain_epochs: int = 0,
    slope: Slope = "summed",
    val: tuple[Tensor, Tensor] | None = None,
    validate_every: int = 1,
) -> pd.DataFrame:
    """Train network i of the stack as ``lanes[i]`` says, with the L2 Lai MSE on its Lai batches and MSE on the rest.

    Each network takes the path that :func:`lai.fit` gives it alone with ``drop_last=True``, up to rounding; and, on one
    machine, the same to the last bit whatever else is in the stack.

    Parameters
    ----------
    stack : Stack
    optimizer
        From :func:`adam` or :func:`branch`.
    train : (x, y), Tensors (N, n_features) and (N,), on the stack's device
    lanes : sequence of Lane, one for each network
    epochs, first_epoch, pretrain_epochs, batch_size : int
        As in :func:`lai.fit` and :class:`lai.LaiSchedule`. The last, short batch of an epoch is dropped.
    slope : "summed" or "true"
        The gradient that enters the Lai loss. "summed" is d(Σ outputs)/dx in training mode, which BatchNorm makes wrong;
        "true" holds the batch's statistics fixed while the input moves. The same without BatchNorm.
    val : (x, y), optional
        For the RMSE after an epoch, with running statistics.
    validate_every : int
        After which epochs: every so many, and the last.

    Returns
    -------
    DataFrame
        A row for each lane and validated epoch: ``lane``, ``epoch``, and ``val_rmse`` if ``val`` was given.

    Raises
    ------
    FloatingPointError
        At the end of an epoch in which a network's weights left the finite numbers; names the lane.
    ValueError
        For a wrong number of lanes, fewer rows than a batch, or sampled points in a stack with BatchNorm.

    Source: ours; the training is the paper's section 5.

    Examples
    --------
    >>> x = torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    >>> stack = Stack([MLP(1, (8,), seed=0)] * 2)
    >>> lanes = [Lane(seed=0), Lane(seed=0, lam=0.5, alpha=0.25)]
    >>> curves = fit_stack(stack, adam(stack, 0.01), (x, 3 * x[:, 0]), lanes, epochs=2, batch_size=32, val=(x, 3 * x[:, 0]))
    >>> list(curves.columns), len(curves)
    (['lane', 'epoch', 'val_rmse'], 4)
    """
    import pandas as pd

    x, y = train
    if len(lanes) != len(stack):
        raise ValueError(f"lanes: {len(lanes)} for a stack of {len(stack)} networks; give one each")
    check_count("epochs", epochs)
    check_count("validate_every", validate_every, least=1)
    check_choice("slope", slope, ("summed", "true"))
    if y.shape != x.shape[:1]:
        raise ValueError(f"train: x is {tuple(x.shape)} and y {tuple(y.shape)}: y must be (N,)")
    coupled = any(isinstance(layer, nn.BatchNorm1d) for layer in stack._first)
    # A batch of one has no spread.
    starts = batch_starts(len(x), check_count("batch_size", batch_size, least=2 if coupled else 1), drop_last=True)
    if len(starts) == 0:
        raise ValueError(f"batch_size = {batch_size}: it must not exceed the {len(x)} samples")
    seeds = sorted({lane.seed for lane in lanes})
    own = torch.tensor([seeds.index(lane.seed) for lane in lanes], device=x.device)
    lam = _lam_tensor(lanes, x)
    if coupled and any(lane.lam is not None and lane.sampling == "points" for lane in lanes):
        raise ValueError("sampling = 'points': BatchNorm would mix the sampled points with the rest; use 'batches'")
    held_out = None if val is None else (val[0].T.expand(len(stack), -1, -1), val[1])
    rows: list[tuple[float, ...]] = []
    stack.train()
    for epoch in range(first_epoch, first_epoch + epochs):
        orders = torch.stack([batch_order(seed, epoch, len(x))[1] for seed in seeds]).to(x.device)
        plan = _plan(lanes, epoch, len(starts), batch_size, pretrain_epochs)
        for start, takers in zip(starts, plan, strict=True):
            chosen = orders[:, start : start + batch_size]
            xb, yb = x[chosen].transpose(1, 2)[own].contiguous(), y[chosen][own]
            optimizer.zero_grad(set_to_none=True)
            _step_loss(stack, xb, yb, lam, None if takers is None else takers.to(x.device), slope).backward()
            optimizer.step()
        _refuse_nonfinite(stack, lanes, epoch)
        if (epoch + 1 - first_epoch) % validate_every and epoch + 1 < first_epoch + epochs:
            continue
        if held_out is not None:
            errors = _validate(stack, *held_out)
            rows += [(i, epoch, error) for i, error in enumerate(errors)]
        else:
            rows += [(i, epoch) for i in range(len(lanes))]
    columns = ["lane", "epoch"] + ([] if val is None else ["val_rmse"])
    return pd.DataFrame(rows, columns=columns)


def _plan(
    lanes: Sequence[Lane], epoch: int, n_batches: int, batch_size: int, pretrain_epochs: int
) -> list[Tensor | None]:
    """For each batch of the epoch who takes the Lai loss: a bool tensor (E, 1) or (E, batch_size), or None if nobody."""
    drawn: dict[Lane, list[Tensor]] = {}
    for key in {replace(lane, lam=1.0) for lane in lanes if lane.lam is not None}:
        schedule = LaiSchedule(key.alpha, pretrain_epochs=pretrain_epochs, sampling=key.sampling, seed=key.seed)
        if key.sampling == "batches":
            drawn[key] = list(schedule.batches(epoch, n_batches)[:, None])
        else:
            picks = schedule.points(epoch, [batch_size] * n_batches)
            drawn[key] = [torch.zeros(batch_size, dtype=torch.bool).index_fill(0, pick, True) for pick in picks]
    nobody = [torch.zeros(1, dtype=torch.bool)] * n_batches
    per_lane = [nobody if lane.lam is None else drawn[replace(lane, lam=1.0)] for lane in lanes]
    plan: list[Tensor | None] = []
    for b in range(n_batches):
        rows = torch.broadcast_tensors(*(chosen[b] for chosen in per_lane))
        plan.append(torch.stack(rows) if any(row.any() for row in rows) else None)
    return plan


def _lam_tensor(lanes: Sequence[Lane], x: Tensor) -> Tensor:
    """λ as (E, d, 1); 1 where a lane is plain, and is not used."""
    rows = []
    for lane in lanes:
        value = torch.as_tensor(1.0 if lane.lam is None else lane.lam, dtype=torch.float64)
        check_lam(value, n_features=x.shape[1])
        rows.append(value.expand(x.shape[1]))
    return torch.stack(rows)[..., None].to(device=x.device, dtype=x.dtype)


def _step_loss(stack: Stack, x: Tensor, y: Tensor, lam: Tensor, lai: Tensor | None, slope: Slope) -> Tensor:
    """The loss of a batch, summed over networks so that none feels another; ``lai`` says who takes the Lai loss.

    The plain networks of the batch and the others are computed apart: what a network does is then the same to the last
    bit whatever its neighbours do.
    """
    if lai is None:
        return (stack(x) - y).square().mean(1).sum()
    takes = lai.any(1)
    if takes.all():
        return _lai_step(stack, x, y, lam, lai, slope, None)
    rest, part = (~takes).nonzero()[:, 0], takes.nonzero()[:, 0]
    plain = (stack(x[rest], rest) - y[rest]).square().mean(1).sum()
    return plain + _lai_step(stack, x[part], y[part], lam[part], lai[part], slope, part)


def _lai_step(
    stack: Stack, x: Tensor, y: Tensor, lam: Tensor, lai: Tensor, slope: Slope, part: Tensor | None
) -> Tensor:
    output, k = stack.value_and_slope(x, slope, part)
    plain = (output - y).square()
    return torch.where(lai, plain * lai_norm(k, lam), plain).mean(1).sum()


def _validate(stack: Stack, x: Tensor, y: Tensor) -> list[float]:
    stack.eval()
    with torch.no_grad():  # in pieces, which a processor's cache can hold
        pieces = zip(x.split(512, -1), y.split(512), strict=True)
        squares = torch.stack([(stack(xs) - ys).double().square().sum(1) for xs, ys in pieces])
    stack.train()
    return (squares.sum(0) / len(y)).sqrt().tolist()


def _refuse_nonfinite(stack: Stack, lanes: Sequence[Lane], epoch: int) -> None:
    finite = torch.stack([p.isfinite().flatten(1).all(1) for p in _parameters(stack)]).all(0)
    if not finite.all():
        lane = lanes[int((~finite).nonzero()[0])]
        raise FloatingPointError(f"weights are not finite after epoch {epoch} ({lane}); try a smaller lr or another λ")
