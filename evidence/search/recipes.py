"""The search for what the paper does not state: recipes, readings of its loss, and how near each comes to its figures.

A recipe fills in network, scaling and optimiser, and is judged on the paper's MSE figures alone. A variant is a reading
of what the Lai part of training does. Both are trained here by plain autograd, apart from :mod:`evidence.runs.old.stack`.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from evidence.ledger.tables import READOUTS
from evidence.runs.parallel import run_parallel
from evidence.runs.store import CellStore
from lai.factor import check_choice, check_lam
from lai.loss import lai_loss
from lai.models import ACTIVATIONS, MLP
from lai.schedule import LaiSchedule, check_count
from lai.training import batch_order, batch_starts

from .reports import both_readouts, rulers

if TYPE_CHECKING:
    from evidence.data import Housing

SCALES = {
    "raw": "as Kaggle has them",
    "standard": "less the mean, over the standard deviation",
    "minmax": "to the interval from 0 to 1",
    "robust": "less the median, over the interquartile range",
}
"""Scalings of a column, fitted on the training rows."""

NORMS = {
    "none": "no normalisation",
    "batch": "BatchNorm before each activation",
    "after": "BatchNorm after each activation",
    "layer": "LayerNorm before each activation",
    "input": "BatchNorm on the inputs",
    "input+batch": "BatchNorm on the inputs and before each activation",
}

SCHEDULES = {
    "constant": "one learning rate",
    "cosine": "falling to 0 by a cosine",
    "tenth": "a tenth of it in the second stage",
}


@dataclass(frozen=True)
class Recipe:
    """One way to fill in what the paper leaves open about network and training.

    Attributes
    ----------
    name, family : str
    scale, scale_y : keys of ``SCALES``
        Of the features and of the target. Results are in the target's own units whatever ``scale_y``; λ and k are in
        the units that the network sees.
    norm : key of ``NORMS``
    activation : key of ``lai.models.ACTIVATIONS``
    hidden : tuple of int
    lr : float
        Adam's step size at the start.
    batch_size : int
    schedule : key of ``SCHEDULES``
    fresh_adam : bool
        Whether the second stage begins with an Adam without memory.
    drop_last : bool
        Whether the last, short batch of an epoch is left out.

    Raises
    ------
    ValueError
        For an option outside its list, or a size that is not positive.
    """

    name: str
    family: str
    scale: str = "raw"
    scale_y: str = "raw"
    norm: str = "none"
    activation: str = "relu"
    hidden: tuple[int, ...] = (64, 32)
    lr: float = 1e-3
    batch_size: int = 512
    schedule: str = "constant"
    fresh_adam: bool = False
    drop_last: bool = True

    def __post_init__(self) -> None:
        check_choice("scale", self.scale, tuple(SCALES))
        check_choice("scale_y", self.scale_y, tuple(SCALES))
        check_choice("norm", self.norm, tuple(NORMS))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("schedule", self.schedule, tuple(SCHEDULES))
        check_count("batch_size", self.batch_size, least=2)
        if isinstance(self.lr, bool) or not isinstance(self.lr, int | float) or not 0 < self.lr < math.inf:
            raise ValueError(f"lr = {self.lr!r}: must be finite and greater than 0")
        for width in self.hidden:
            check_count("hidden", width, least=1)


def _family(family: str, **common: Any) -> Any:
    return lambda name, **own: Recipe(name, family, **{**common, **own})


_raw_batch = _family("raw + BatchNorm", norm="batch", lr=1e-4)
_raw = _family("raw, no BatchNorm inside")
_standard = _family("standardised", scale="standard")
_minmax = _family("min-max", scale="minmax")
_robust = _family("robust", scale="robust")

RECIPES: tuple[Recipe, ...] = (
    _raw_batch("published"),
    _raw_batch("published, lr 3e-4", lr=3e-4),
    _raw_batch("published, lr 1e-3", lr=1e-3),
    _raw_batch("published, batch 128", batch_size=128),
    _raw_batch("published, batch 256", batch_size=256),
    _raw_batch("published, batch 1024", batch_size=1024),
    _raw_batch("published, short batch kept", drop_last=False),
    _raw_batch("published, 64", hidden=(64,)),
    _raw_batch("published, 32-16", hidden=(32, 16)),
    _raw_batch("published, 128-64", hidden=(128, 64)),
    _raw_batch("published, 64-64-32", hidden=(64, 64, 32)),
    _raw_batch("published, SiLU", activation="silu"),
    _raw_batch("published, tanh", activation="tanh"),
    _raw_batch("published, BatchNorm after ReLU", norm="after"),
    _raw_batch("published, BatchNorm on inputs too", norm="input+batch"),
    _raw_batch("published, y standardised", scale_y="standard"),
    _raw_batch("published, fresh Adam", fresh_adam=True),
    _raw_batch("published, cosine", schedule="cosine"),
    _raw_batch("published, lr/10 in stage 2", schedule="tenth"),
    _raw("raw"),
    _raw("raw, lr 1e-4", lr=1e-4),
    _raw("raw, 64, lr 1e-3", hidden=(64,)),
    _raw("raw, SiLU", activation="silu"),
    _raw("raw, LayerNorm", norm="layer"),
    _raw("raw, LayerNorm, lr 1e-4", norm="layer", lr=1e-4),
    _raw("raw, BatchNorm on inputs only", norm="input"),
    _raw("raw, BatchNorm on inputs only, lr 1e-4", norm="input", lr=1e-4),
    _standard("standardised"),
    _standard("standardised, lr 1e-4", lr=1e-4),
    _standard("standardised, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
    _standard("standardised, 8 hidden", hidden=(8,)),
    _standard("standardised, 8 hidden, lr 1e-4", hidden=(8,), lr=1e-4),
    _standard("standardised, batch 4096, lr 1e-4", batch_size=4096, lr=1e-4),
    _standard("standardised, full batch, lr 1e-2", batch_size=29_710, lr=1e-2),
    _standard("standardised, y standardised", scale_y="standard"),
    _minmax("min-max"),
    _minmax("min-max, lr 1e-4", lr=1e-4),
    _minmax("min-max, 64, lr 1e-4", hidden=(64,), lr=1e-4),
    _minmax("min-max, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
    _minmax("min-max, full batch, lr 1e-2", batch_size=29_710, lr=1e-2),
    _robust("robust"),
    _robust("robust, lr 1e-4", lr=1e-4),
    _robust("robust, BatchNorm, lr 1e-4", norm="batch", lr=1e-4),
)

TUNING: tuple[Recipe, ...] = tuple(
    _standard(f"{activation}, step {lr:g}", activation=activation, lr=lr)
    for activation in ("silu", "relu", "tanh", "softplus")
    for lr in (3e-4, 1e-3, 3e-3)
)
"""What the sound protocol was chosen from, by error on the validation rows and whether the slope is smooth."""
"""What was tried for the paper's MSE figures, before any Lai figure was looked at."""

SLOPES = {
    "outputs": "gradient of the summed outputs",
    "mean": "gradient of the mean output: 1/B of that",
    "loss": "gradient of the mean squared error",
    "squares": "gradient of the summed squared errors: B times that",
    "own": "each sample's own slope, the batch's statistics held fixed",
    "running": "each sample's own slope, with running statistics",
}
"""What stands for k in the Lai loss."""

SAMPLINGS = {
    "batches": "a share α of the batches",
    "points": "a share α of each batch, with a forward pass of its own",
    "marked": "a share α of each batch, in the batch's one forward pass",
    "subset": "the same share α of the rows in every epoch, as one batch of their own",
}
"""Which rows take the Lai loss."""


@dataclass(frozen=True)
class Variant:
    """One reading of the Lai part of training.

    Attributes
    ----------
    name : str
    slope : key of ``SLOPES``
    order, norm, normalize
        As in :func:`lai.lai_loss`.
    sampling : key of ``SAMPLINGS``
    alpha : float
    changes : tuple of (attribute, value)
        Of the :class:`Recipe` that this reading is tried with.
    """

    name: str
    slope: str = "outputs"
    order: str = "sample"
    norm: str = "l2"
    normalize: bool = False
    sampling: str = "batches"
    alpha: float = 0.01
    changes: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_choice("slope", self.slope, tuple(SLOPES))
        check_choice("order", self.order, ("sample", "batch"))
        check_choice("norm", self.norm, ("l2", "l1"))
        check_choice("sampling", self.sampling, tuple(SAMPLINGS))
        if self.order == "batch" and self.sampling == "marked":
            raise ValueError("order = 'batch': it needs samples of its own, and sampling is 'marked'")
        LaiSchedule(self.alpha)


VARIANTS: tuple[Variant, ...] = (
    Variant("summed outputs"),
    Variant("mean output", slope="mean"),
    Variant("gradient of the loss", slope="loss"),
    Variant("gradient of summed squares", slope="squares"),
    Variant("own slope", slope="own"),
    Variant("own slope, running statistics", slope="running"),
    Variant("order batch", order="batch"),
    Variant("L2 over √d", normalize=True),
    Variant("L1", norm="l1"),
    Variant("L1 over d", norm="l1", normalize=True),
    Variant("two batches an epoch", alpha=2 / 58),
    Variant("points, own pass", sampling="points"),
    Variant("points, shared pass", sampling="marked"),
    Variant("fixed 1 %, its own batch", sampling="subset"),
    Variant("fresh Adam", changes=(("fresh_adam", True),)),
    Variant("lr/10 in stage 2", changes=(("schedule", "tenth"),)),
    Variant("cosine", changes=(("schedule", "cosine"),)),
    Variant("y standardised", changes=(("scale_y", "standard"),)),
)
"""The readings of the Lai part that were tried on the recipe that was chosen."""

Lam = float | tuple[float, ...]
PAPER_LAMS: tuple[Lam, ...] = (1e-1, 1e-2, 1e-3)
"""Version 2's λ (section 6.1)."""

PAPER_LIST = (1e-1,) * 7 + (1e-3,)
"""Version 2's λ list, which lowers the last feature's (section 6.2)."""


class Networks(nn.Module):
    """One network of a recipe for each seed, side by side; a network's weights never meet another's.

    Features come before samples: (E, d, B) to (E, B).

    Parameters
    ----------
    recipe : Recipe
    d : int
        Features.
    seeds : ints
        Initial weights as in ``lai.MLP(..., seed=seed)``; repeats allowed.
    """

    def __init__(self, recipe: Recipe, d: int, seeds: Sequence[int]) -> None:
        super().__init__()
        models = [MLP(d, recipe.hidden, activation=recipe.activation, seed=seed) for seed in seeds]
        layers = list(zip(*([m for m in model if isinstance(m, nn.Linear)] for model in models), strict=True))
        self.weights = nn.ParameterList(torch.stack([m.weight.detach() for m in row]) for row in layers)
        self.biases = nn.ParameterList(torch.stack([m.bias.detach() for m in row])[..., None] for row in layers)
        self.activation = ACTIVATIONS[recipe.activation]()
        self.norm = recipe.norm
        places = {"input": d} if "input" in recipe.norm else {}
        if recipe.norm not in ("none", "input"):
            places.update({str(i): width for i, width in enumerate(recipe.hidden)})
        e = len(models)
        self.gains = nn.ParameterDict({p: torch.ones(e, c, 1) for p, c in places.items()})
        self.shifts = nn.ParameterDict({p: torch.zeros(e, c, 1) for p, c in places.items()})
        self.running = {p: (torch.zeros(e * c), torch.ones(e * c)) for p, c in places.items()}
        self.momentum = 0.1
        self.eps = 1e-5

    def forward(
        self, x: Tensor, *, keep: dict[str, tuple[Tensor, Tensor]] | None = None, held: dict | None = None
    ) -> Tensor:
        """Outputs (E, B). ``keep`` receives the batch's mean and variance at each BatchNorm; ``held`` replaces them."""
        if "input" in self.norm:
            x = self._normalize("input", x, keep, held)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, weight, x)
            if i == last:
                return x[:, 0]
            place = str(i)
            if place in self.gains and self.norm != "after":
                x = self._normalize(place, x, keep, held)
            x = self.activation(x)
            if place in self.gains and self.norm == "after":
                x = self._normalize(place, x, keep, held)
        raise AssertionError

    def _normalize(self, place: str, z: Tensor, keep: dict | None, held: dict | None) -> Tensor:
        gain, shift = self.gains[place], self.shifts[place]
        if self.norm == "layer":
            mean, var = z.mean(1, keepdim=True), z.var(1, correction=0, keepdim=True)
            return (z - mean) * torch.rsqrt(var + self.eps) * gain + shift
        if keep is not None:
            keep[place] = z.mean(-1, keepdim=True), z.var(-1, correction=0, keepdim=True)
        if held is not None:
            mean, var = held[place]
            return (z - mean) * torch.rsqrt(var + self.eps) * gain + shift
        rows = z.reshape(1, -1, z.shape[-1])
        args = (*self.running[place], gain.flatten(), shift.flatten(), self.training, self.momentum, self.eps)
        return nn.functional.batch_norm(rows, *args).view_as(z)

    def slopes(self, x: Tensor, y: Tensor, slope: str) -> tuple[Tensor, Tensor]:
        """Outputs (E, B) and what stands for k, (E, d, B), both differentiable by the weights."""
        leaf = x.detach().requires_grad_()
        if slope in ("outputs", "mean", "loss", "squares"):
            output = self(leaf)
            of = (output - y).square() if slope in ("loss", "squares") else output
            of = of.mean(1) if slope in ("mean", "loss") else of.sum(1)
            (k,) = torch.autograd.grad(of.sum(), leaf, create_graph=True)
            return output, k
        held: dict[str, tuple[Tensor, Tensor]] = {}
        output = self(x, keep=held)
        if slope == "running":
            held = {p: tuple(s.view_as(self.gains[p]) for s in kept) for p, kept in self.running.items()}  # type: ignore[misc]
        (k,) = torch.autograd.grad(self(leaf, held=held).sum(), leaf, create_graph=True)
        return output, k

    def recompute(self, x: Tensor, batch_size: int) -> None:
        """Set the running statistics to averages over one pass through ``x`` (d, N), each batch counting alike."""
        mode = self.training
        self.train()
        with torch.no_grad():
            batches = [batch for batch in x.split(batch_size, dim=1) if batch.shape[1] > 1]
            for i, batch in enumerate(batches):
                self.momentum = 1 / (i + 1)
                self(batch.expand(len(self.weights[0]), -1, -1))
        self.momentum = 0.1
        self.train(mode)

    def branch(self, adam: torch.optim.Optimizer, index: Sequence[int]) -> tuple[Networks, torch.optim.Adam]:
        """Copies of the networks ``index`` with their optimiser's state."""
        fresh = copy.deepcopy(self)
        at = torch.as_tensor(list(index))
        state: dict[Tensor, dict[str, Tensor]] = {}
        for old, new in zip(self.parameters(), fresh.parameters(), strict=True):
            new.data = old.data[at].clone()
            new.grad = None
            if adam.state[old]:
                kept = adam.state[old]
                moments = {name: kept[name][at].clone() for name in ("exp_avg", "exp_avg_sq")}
                state[new] = {"step": kept["step"].clone(), **moments}
        for place, kept in self.running.items():
            e = len(self.weights[0])
            fresh.running[place] = tuple(s.view(e, -1)[at].flatten().clone() for s in kept)  # type: ignore[assignment]
        optimizer = _adam(fresh, adam.param_groups[0]["lr"])
        optimizer.state.update(state)
        return fresh, optimizer


def _adam(networks: Networks, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(networks.parameters(), lr=lr, fused=True)


class Scaled(NamedTuple):
    """A housing table as a recipe's networks see it: features first, (d, N)."""

    train: Tensor
    y: Tensor
    val: Tensor
    test: Tensor
    shift: Tensor
    scale: Tensor
    shift_y: float
    scale_y: float


def scaled(data: Housing, recipe: Recipe) -> Scaled:
    """The data in a recipe's scaling, which is fitted on the training rows.

    Parameters
    ----------
    data : Housing
    recipe : Recipe

    Returns
    -------
    Scaled
        ``y`` is scaled; the validation target is not, as outputs are scaled back for it.
    """
    shift, scale = _scaling(data.train.x, recipe.scale)
    shift_y, scale_y = _scaling(data.train.y[:, None], recipe.scale_y)
    parts = [((x - shift) / scale).T.contiguous() for x in (data.train.x, data.val.x, data.test.x)]
    y = (data.train.y - shift_y) / scale_y
    return Scaled(parts[0], y, parts[1], parts[2], shift, scale, float(shift_y), float(scale_y))


def _scaling(x: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    if kind == "raw":
        return torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    wide = x.double()
    if kind == "standard":
        shift, scale = wide.mean(0), wide.std(0, correction=0)
    elif kind == "minmax":
        shift = wide.amin(0)
        scale = wide.amax(0) - shift
    else:
        low, shift, high = torch.from_numpy(np.quantile(wide.numpy(), [0.25, 0.5, 0.75], axis=0))
        scale = high - low
    return shift.float(), torch.where(scale > 0, scale, 1.0).float()


class Branch(NamedTuple):
    """One network of a run: its seed, and its λ or None for plain MSE."""

    seed: int
    lam: Lam | None = None


def train_branches(
    networks: Networks,
    adam: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    arms: Sequence[Branch],
    epochs: range,
    *,
    variant: Variant = VARIANTS[0],
    stages: tuple[int, int] = (100, 100),
) -> None:
    """Train network i as ``arms[i]`` says, in place.

    Parameters
    ----------
    networks, adam
    x, y : Tensors (d, N) and (N,)
        As the network sees them.
    recipe : Recipe
    arms : sequence of Branch
        Arms of one seed see identical batches.
    epochs : range
        Numbers of the epochs to train. Lai loss and the second stage begin at ``stages[0]``.
    variant : Variant
        Its ``changes`` are not applied: pass the changed recipe.
    stages : (int, int)
        Epochs before and after the arms part.
    """
    seeds = sorted({arm.seed for arm in arms})
    own = torch.tensor([seeds.index(arm.seed) for arm in arms])
    lams = [None if arm.lam is None else torch.as_tensor(arm.lam, dtype=x.dtype) for arm in arms]
    rows = x.T.contiguous()
    size = min(recipe.batch_size, len(rows))
    networks.train()
    for epoch in epochs:
        for group in adam.param_groups:
            group["lr"] = _lr(recipe, epoch, stages)
        with_lai = epoch >= stages[0] and any(lam is not None for lam in lams)
        plan = _steps(seeds, epoch, len(rows), size, recipe.drop_last, variant if with_lai else None, stages[0])
        for chosen, marked in plan:
            xb, yb = rows[chosen].transpose(1, 2)[own], y[chosen][own]
            loss = (
                _mse(networks(xb), yb).sum() if marked is None else _step(networks, xb, yb, marked[own], lams, variant)
            )
            adam.zero_grad(set_to_none=True)
            loss.backward()  # a sum over networks: none feels another
            adam.step()


def _lr(recipe: Recipe, epoch: int, stages: tuple[int, int]) -> float:
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * epoch / max(1, sum(stages)))) / 2
    return recipe.lr / 10 if recipe.schedule == "tenth" and epoch >= stages[0] else recipe.lr


def _steps(
    seeds: Sequence[int], epoch: int, n: int, size: int, drop_last: bool, variant: Variant | None, pretrain: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """An epoch's batches: rows (S, B) for each seed, and which take the Lai loss, bool (S, B), or None if nobody does."""
    order = torch.stack([batch_order(seed, epoch, n)[1] for seed in seeds])
    own_batch: Tensor | None = None
    if variant is not None and variant.sampling == "subset":
        order, own_batch = _set_apart(order, seeds, variant.alpha)
    starts = batch_starts(order.shape[1], size, drop_last=drop_last)
    sizes = [min(size, order.shape[1] - start) for start in starts]
    marks = _marks(seeds, epoch, sizes, variant, pretrain)
    place = int(np.random.default_rng([epoch, 0x9AB]).integers(len(starts)))
    for b, (start, marked) in enumerate(zip(starts, marks, strict=True)):
        if b == place and own_batch is not None and own_batch.shape[1] > 1:
            yield own_batch, torch.ones(own_batch.shape, dtype=torch.bool)
        yield order[:, start : start + size], marked if marked is not None and bool(marked.any()) else None


def _set_apart(order: Tensor, seeds: Sequence[int], alpha: float) -> tuple[Tensor, Tensor]:
    """The epoch's order without a fixed share of the rows, and these rows, for each seed."""
    apart = torch.zeros(order.shape, dtype=torch.bool)
    for row, mine, seed in zip(apart, order, seeds, strict=True):
        picks = np.random.default_rng([seed, 0xF1D]).choice(len(mine), round(alpha * len(mine)), replace=False)
        row.copy_(torch.isin(mine, torch.from_numpy(picks)))
    return order[~apart].view(len(seeds), -1), order[apart].view(len(seeds), -1)


def _marks(
    seeds: Sequence[int], epoch: int, sizes: list[int], variant: Variant | None, pretrain: int
) -> list[Tensor] | list[None]:
    """For each batch the samples that take the Lai loss, bool (S, B)."""
    if variant is None or variant.sampling == "subset":
        return [None] * len(sizes)
    plans = [LaiSchedule(variant.alpha, pretrain_epochs=pretrain, seed=seed) for seed in seeds]
    if variant.sampling == "batches":
        chosen = torch.stack([plan.batches(epoch, len(sizes)) for plan in plans])
        return [chosen[:, b : b + 1].expand(-1, size) for b, size in enumerate(sizes)]
    picks = [plan.points(epoch, sizes) for plan in plans]
    return [
        torch.stack([torch.zeros(size, dtype=torch.bool).index_fill(0, mine[b], True) for mine in picks])
        for b, size in enumerate(sizes)
    ]


def _mse(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).square().mean(1)


def _step(
    networks: Networks, x: Tensor, y: Tensor, marked: Tensor, lams: Sequence[Tensor | None], variant: Variant
) -> Tensor:
    """The batch's loss, summed over networks, where at least one takes the Lai loss on the rows ``marked``."""
    options: dict[str, Any] = {"norm": variant.norm, "normalize": variant.normalize, "order": variant.order}
    if variant.sampling == "points":
        # Every network has a pass of the sampled rows and one of the rest, so that the arms differ in the loss alone.
        inside, outside = _gather(x, y, marked), _gather(x, y, ~marked)
        share = inside[1].shape[1] / y.shape[1]
        output, k = networks.slopes(*inside, variant.slope)
        parts = _losses(output, inside[1], k, torch.ones_like(inside[1], dtype=torch.bool), lams, options)
        return share * parts + (1 - share) * _mse(networks(outside[0]), outside[1]).sum()
    output, k = networks.slopes(x, y, variant.slope)
    return _losses(output, y, k, marked, lams, options)


def _losses(
    output: Tensor, y: Tensor, k: Tensor, marked: Tensor, lams: Sequence[Tensor | None], options: dict[str, Any]
) -> Tensor:
    total = output.new_zeros(())
    everywhere = marked.all(1).tolist()
    anywhere = marked.any(1).tolist()
    for i, lam in enumerate(lams):
        if lam is None or not anywhere[i]:
            total = total + (output[i] - y[i]).square().mean()
        elif everywhere[i]:
            total = total + lai_loss(output[i], y[i], k[i].T, lam=lam, **options)
        else:
            at = marked[i]
            here = lai_loss(output[i][at], y[i][at], k[i].T[at], lam=lam, reduction="sum", **options)
            total = total + (here + (output[i][~at] - y[i][~at]).square().sum()) / len(at)
    return total


def _gather(x: Tensor, y: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
    """The marked samples, as many in every row."""
    e, d, _ = x.shape
    at = marked.nonzero()[:, 1].view(e, -1)
    return x.gather(2, at[:, None].expand(-1, d, -1)), y.gather(1, at)


@torch.no_grad()
def _read(networks: Networks, seen: Scaled, data: Housing, recipe: Recipe) -> list[dict[str, float]]:
    """What the paper prints about a network, for each: RMSE, variance, and the eight sensitivities."""
    kept = {place: tuple(s.clone() for s in pair) for place, pair in networks.running.items()}
    networks.eval()
    e = len(networks.weights[0])

    def outputs(x: Tensor) -> Tensor:
        return networks(x.expand(e, -1, -1)).double() * seen.scale_y + seen.shift_y

    rows: list[dict[str, float]] = [{} for _ in range(e)]

    def put(name: str, values: Tensor) -> None:
        for row, value in zip(rows, values.tolist(), strict=True):
            row[name] = value

    def errors(suffix: str) -> Tensor:
        put(f"rmse{suffix}", (outputs(seen.val) - data.val.y.double()).square().mean(1).sqrt())
        before = outputs(seen.test)
        put(f"variance{suffix}", before.var(1, correction=0))
        return before

    errors("_running")
    networks.recompute(seen.train, min(recipe.batch_size, seen.train.shape[1]))
    before = errors("")
    noise = torch.Generator().manual_seed(0)
    for j in range(len(seen.test)):
        # x (1 + ε/2) on the raw feature, the same ε for every network: as lai.sensitivity has it.
        raw = data.test.x[:, j]
        moved = seen.test.clone()
        moved[j] = (raw * (1 + 0.5 * torch.randn(len(raw), generator=noise)) - seen.shift[j]) / seen.scale[j]
        put(f"s_{j + 1}", (outputs(moved) - before).abs().mean(1))
    with torch.enable_grad():
        leaf = seen.val.expand(e, -1, -1).clone().requires_grad_()
        (k,) = torch.autograd.grad(networks(leaf).sum(), leaf)
    put("rms_k", (k * seen.scale_y / seen.scale[:, None]).double().square().sum(1).mean(1).sqrt())
    networks.running = kept  # type: ignore[assignment]
    networks.train()
    return rows


def search_mse(
    data: Housing,
    recipes: Sequence[Recipe] = RECIPES,
    *,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train each recipe on MSE alone and read it out as the paper does, after each of its two stages.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    recipes : sequence of Recipe
    seeds : ints
        Each sets initial weights and batch order.
    pretrain_epochs, epochs : int
        The paper's MSE column has 100 and 100 epochs in version 2, and 500 without pre-training in version 1.
    n_jobs : int
        Processes, through joblib, a recipe each; results do not depend on it.
    store : CellStore, optional
        Keeps every finished recipe, so that a search that was stopped goes on where it was.
    progress
        Show a progress bar.

    Returns
    -------
    DataFrame
        A row for each recipe, seed and read-out: ``recipe``, ``family``, ``seed``, ``epoch``; ``rmse`` and ``variance``
        with BatchNorm's statistics recomputed over the training rows, ``rmse_running`` and ``variance_running`` with
        its running ones; ``s_1`` to ``s_d``, the mean absolute change of the output when feature j becomes
        x (1 + ε/2), ε standard normal; ``rms_k``, the root mean square of the slope's norm; ``seconds`` of training.
        All in units of the target, per raw feature. A recipe that diverged has NaN.

    Raises
    ------
    ValueError
        For names or seeds given twice, or none, before anything is trained.

    Source: ours; the figures to compare with are the paper's, version 2, sections 6.1 and 6.2.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> table = search_mse(load_housing("surrogate"), RECIPES[:1], seeds=[0], pretrain_epochs=0, epochs=0)  # untrained
    >>> table[["recipe", "seed", "epoch"]].values.tolist()
    [['published', 0, 0]]
    """
    chosen = _check(seeds, [r.name for r in recipes], "recipes")
    check_count("pretrain_epochs", pretrain_epochs)
    check_count("epochs", epochs)
    calls = [(data, recipe, chosen, (pretrain_epochs, epochs), store) for recipe in recipes]
    return pd.concat(run_parallel(_mse_cell, calls, n_jobs=n_jobs, progress=progress), ignore_index=True)


def _mse_cell(
    data: Housing, recipe: Recipe, seeds: list[int], stages: tuple[int, int], store: CellStore | None
) -> pd.DataFrame:
    settings = {"search": "mse", "recipe": asdict(recipe), "seeds": seeds, "stages": stages, **_origin(data)}
    kept = store.get(settings) if store is not None else None
    if kept is not None:
        return pd.DataFrame(kept)
    begin = time.perf_counter()
    seen = scaled(data, recipe)
    networks, adam = _start(recipe, seen, seeds)
    arms = [Branch(seed) for seed in seeds]
    rows = []
    for first, count in ((0, stages[0]), (stages[0], stages[1])):
        if first > 0 and recipe.fresh_adam:
            adam = _adam(networks, recipe.lr)
        train_branches(networks, adam, seen.train, seen.y, recipe, arms, range(first, first + count), stages=stages)
        if count > 0 or (first == 0 and stages == (0, 0)):
            about = {"recipe": recipe.name, "family": recipe.family}
            for arm, row in zip(arms, _read(networks, seen, data, recipe), strict=True):
                rows.append({**about, "seed": arm.seed, "epoch": first + count, **row})
        if stages == (0, 0):
            break
    table = pd.DataFrame(rows).assign(seconds=(time.perf_counter() - begin) / len(seeds))
    if store is not None:
        store.put(settings, table.to_dict("list"))
    return table


def search_lai(
    data: Housing,
    recipe: Recipe,
    variants: Sequence[Variant] = VARIANTS,
    *,
    lams: Sequence[Lam] = PAPER_LAMS,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train each variant of a recipe as version 2's section 6 does: MSE first, then an MSE arm and one for each λ.

    Parameters
    ----------
    data, seeds, pretrain_epochs, epochs, n_jobs, store, progress
        As in :func:`search_mse`; a process takes a variant.
    recipe : Recipe
        What the variants are tried with.
    variants : sequence of Variant
    lams : sequence of numbers, or tuples with one for each feature

    Returns
    -------
    DataFrame
        A row for each variant, arm and seed: ``recipe``, ``variant``, ``arm``, ``lam`` (NaN for MSE and for a list), ``seed``, and
        the read-outs of :func:`search_mse` after the last epoch.

    Raises
    ------
    ValueError
        For names or seeds given twice, or none, or a bad λ, before anything is trained.

    Source: ours; version 2, section 6, leaves open what the variants fill in.
    """
    chosen = _check(seeds, [v.name for v in variants], "variants")
    check_count("pretrain_epochs", pretrain_epochs)
    check_count("epochs", epochs)
    for lam in lams:
        check_lam(lam, n_features=data.train.x.shape[1])
    calls = [(data, recipe, variant, tuple(lams), chosen, (pretrain_epochs, epochs), store) for variant in variants]
    return pd.concat(run_parallel(_lai_cell, calls, n_jobs=n_jobs, progress=progress), ignore_index=True)


def _lai_cell(
    data: Housing,
    recipe: Recipe,
    variant: Variant,
    lams: Sequence[Lam],
    seeds: list[int],
    stages: tuple[int, int],
    store: CellStore | None,
) -> pd.DataFrame:
    recipe = replace(recipe, **dict(variant.changes))
    settings = {"search": "lai", "recipe": asdict(recipe), "variant": asdict(variant), "lams": lams, "seeds": seeds}
    settings |= {"stages": stages, **_origin(data)}
    kept = store.get(settings) if store is not None else None
    if kept is not None:
        return pd.DataFrame(kept)
    begin = time.perf_counter()
    seen = scaled(data, recipe)
    trunk, adam = _start(recipe, seen, seeds)
    plain = [Branch(seed) for seed in seeds]
    train_branches(trunk, adam, seen.train, seen.y, recipe, plain, range(stages[0]), stages=stages)
    arms = [Branch(seed, lam) for seed in seeds for lam in (None, *lams)]
    networks, adam = trunk.branch(adam, [i for i in range(len(seeds)) for _ in (None, *lams)])
    if recipe.fresh_adam:
        adam = _adam(networks, recipe.lr)
    later = range(stages[0], sum(stages))
    train_branches(networks, adam, seen.train, seen.y, recipe, arms, later, variant=variant, stages=stages)
    rows = []
    base = {"recipe": recipe.name, "variant": variant.name}
    for arm, row in zip(arms, _read(networks, seen, data, recipe), strict=True):
        lam = arm.lam if isinstance(arm.lam, float) else math.nan
        rows.append({**base, "arm": lai_arm(arm.lam), "lam": lam, "seed": arm.seed, **row})
    table = pd.DataFrame(rows).assign(seconds=(time.perf_counter() - begin) / len(arms))
    if store is not None:
        store.put(settings, table.to_dict("list"))
    return table


def search(
    data: Housing,
    *,
    seeds: Sequence[int] = range(3),
    fresh_seeds: Sequence[int] = range(3, 8),
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The whole search: every recipe on MSE, the best again with fresh seeds, and the variants on the one chosen.

    Only MSE figures choose. Stage "search" trains ``RECIPES`` on ``seeds``. The ``FINALISTS`` nearest of those that count as
    near (:func:`evidence.search.reports.both_readouts`) are trained again on ``fresh_seeds``, stage "fresh", and the nearest of
    them there is chosen. It also runs version 1's 500 epochs, stage "v1". All ``VARIANTS`` are then tried on it, and the
    first variant on the other finalists and on recipes whose errors and variances, but not sensitivities, are near.

    Returns
    -------
    (DataFrame, DataFrame)
        From :func:`search_mse`, with the column ``stage``, and from :func:`search_lai`.
    """
    options: dict[str, Any] = {"n_jobs": n_jobs, "store": store, "progress": progress}
    first = search_mse(data, seeds=seeds, **options)
    return search_on(data, first, seeds=seeds, fresh_seeds=fresh_seeds, **options)


def search_on(
    data: Housing, first: pd.DataFrame, *, seeds: Sequence[int], fresh_seeds: Sequence[int], **options: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`search` after its first stage, whose table is ``first``."""
    by_name = {recipe.name: recipe for recipe in RECIPES}
    finalists, rivals = finalists_of(first)
    fresh = search_mse(data, [by_name[name] for name in finalists], seeds=fresh_seeds, **options)
    chosen = chosen_of(first, fresh)
    long = search_mse(data, [by_name[chosen]], seeds=seeds, pretrain_epochs=0, epochs=500, **options)
    stages = {"search": first, "fresh": fresh, "v1": long}
    mse = pd.concat([t.assign(stage=name) for name, t in stages.items()], ignore_index=True)
    others = [name for name in (*finalists, *rivals) if name != chosen]
    pairs = [(chosen, variant) for variant in VARIANTS] + [(name, VARIANTS[0]) for name in others]
    store = options.pop("store", None)
    calls = [(data, by_name[name], v, PAPER_LAMS, list(seeds), (100, 100), store) for name, v in pairs]
    return mse, pd.concat(run_parallel(_lai_cell, calls, **options), ignore_index=True)


FINALISTS = 5


def finalists_of(first: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the recipes that are near the paper's MSE figures, and of those that are but for their sensitivities.

    Parameters
    ----------
    first : DataFrame
        From :func:`search_mse`.

    Returns
    -------
    (list of str, list of str)
        The nearest first; at most ``FINALISTS`` of each.
    """
    ranked = both_readouts(first)
    near, rivals = ranked.index[ranked["near"]], ranked.index[ranked["row"] & ~ranked["near"]]
    return near[:FINALISTS].tolist(), rivals[:FINALISTS].tolist()


def chosen_of(first: pd.DataFrame, fresh: pd.DataFrame) -> str:
    """The finalist that is nearest with its fresh seeds, in the first stage's rulers."""
    last = first[first["epoch"] == first["epoch"].max()]
    ruler = {name: rulers(last, readout=name) for name in READOUTS}
    return str(both_readouts(fresh, ruler=ruler).index[0])


def lai_arm(lam: Lam | None) -> str:
    """How an arm is called in the table of :func:`search_lai`.

    >>> [lai_arm(lam) for lam in (None, 0.1, (0.1, 0.1, 0.001))]
    ['MSE', 'λ = 0.1', 'λ = 0.1, λ₃ = 0.001']
    """
    if not isinstance(lam, tuple):
        return "MSE" if lam is None else f"λ = {lam:g}"
    if len(set(lam[:-1])) == 1:
        return f"λ = {lam[0]:g}, λ{str(len(lam)).translate(_SUBSCRIPTS)} = {lam[-1]:g}"
    return f"λ = ({', '.join(f'{v:g}' for v in lam)})"


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _start(recipe: Recipe, seen: Scaled, seeds: Sequence[int]) -> tuple[Networks, torch.optim.Adam]:
    networks = Networks(recipe, len(seen.train), seeds)
    return networks, _adam(networks, recipe.lr)


def _check(seeds: Iterable[int], names: Sequence[str], what: str) -> list[int]:
    chosen = [check_count("seed", seed) for seed in seeds]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"seeds = {chosen}: give at least one, and none twice")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{what} = {list(names)}: give at least one, and no name twice")
    return chosen


def _origin(data: Housing) -> dict[str, str]:
    split = hashlib.sha256(data.val.x.numpy().tobytes()).hexdigest()[:16]
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return {"data": data.sha256, "split": split, "source": source}
