"""How a recipe is trained: its network, its scalings, its batches, and what each reading minimises."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from evidence.runs.readout import measure
from lai import batchnorm
from lai.batchnorm import Moments
from lai.loss import lai_loss
from lai.models import MLP, Standardize
from lai.schedule import LaiSchedule
from lai.sweep import WORTH_COMPILING, Network, Objective, Part, Sweep
from lai.training import batch_order, batch_starts, lai_points

from .recipes import Lam, Recipe, Variant

if TYPE_CHECKING:
    from evidence.data import Housing


class Training:
    """Networks of one recipe and seed in training: one at first, and side by side once the arms part.

    Parameters
    ----------
    data : Housing
    recipe : Recipe
    seed : int
        Of the initial weights, the order of the batches and the schedule.
    stages : (int, int)
        Epochs before and after the arms part.
    """

    def __init__(self, data: Housing, recipe: Recipe, seed: int, stages: tuple[int, int]) -> None:
        self.data, self.recipe, self.seed, self.stages = data, recipe, seed, stages
        self.inputs, self.target = scaling(data.train.x, recipe.scale), scaling(data.train.y, recipe.scale_y)
        self.x, self.y = self.inputs(data.train.x), self.target(data.train.y)
        self.lams: tuple[Lam | None, ...] = (None,)
        self.batch_size = min(recipe.batch_size, len(self.x))
        # Every kind of step is compiled, or none: a rare kind costs its ten seconds as well.
        compile = sum(stages) * (len(self.x) // self.batch_size) >= WORTH_COMPILING
        models = [network(recipe, self.x.shape[1], seed)]
        self.sweep = Sweep(models, lr=recipe.lr, device="cpu", compile=compile)

    def part(self, lams: Sequence[Lam | None]) -> None:
        """A copy of the network for each λ, None for MSE, with Adam's state."""
        self.lams = tuple(lams)
        self.sweep = self.sweep.branch([0] * len(lams))

    def train(self, epochs: range, variant: Variant | None = None) -> None:
        """The epochs of these numbers; those with a λ by ``variant``, whose ``changes`` are the recipe's already."""
        if self.recipe.fresh_adam and epochs.start == self.stages[0] > 0:
            self.sweep = Sweep(self.sweep.models(), lr=self.recipe.lr, device="cpu", compile=self.sweep.compile)
        plan = _Plan(self.lams, variant)
        for epoch in epochs:
            self.sweep.set_lr(self.recipe.lr_at(epoch, self.stages))
            for rows, marked in self.batches(epoch, variant):
                self.sweep.step(*plan.parts(self.x[rows], self.y[rows], marked))

    def batches(self, epoch: int, variant: Variant | None) -> list[tuple[Tensor, Sequence[int] | Tensor]]:
        """An epoch's batches: their rows, and which places in them take the Lai loss."""
        order, apart = batch_order(self.seed, epoch, len(self.x))[1], None
        if variant is not None and variant.sampling == "subset":
            share = round(variant.alpha * len(order))
            picks = np.random.default_rng([self.seed, 0xF1D]).choice(len(order), share, replace=False)
            picked = torch.isin(order, torch.from_numpy(picks))
            order, apart = order[~picked], order[picked]
        size = min(self.batch_size, len(order))
        starts = batch_starts(len(order), size, drop_last=self.recipe.drop_last)
        rows = [order[start : start + size] for start in starts]
        if variant is None or apart is not None:
            result: list[Any] = [(of_batch, ()) for of_batch in rows]
            if apart is not None and len(apart) > 1:
                place = int(np.random.default_rng([epoch, 0x9AB]).integers(len(starts)))
                result.insert(place, (apart, range(len(apart))))
            return result
        schedule = LaiSchedule(
            variant.alpha,
            pretrain_epochs=self.stages[0],
            sampling="batches" if variant.sampling == "batches" else "points",
            seed=self.seed,
        )
        return list(zip(rows, lai_points(schedule, epoch, [len(r) for r in rows]), strict=True))

    def read_out(self) -> list[dict[str, float]]:
        """What the paper prints about each network, in raw units; see :func:`evidence.search.run.search_mse`."""
        names = ["rmse", "variance", *(f"s_{j + 1}" for j in range(self.x.shape[1])), "rms_k"]
        rows = []
        for model in self.sweep.models():
            exact, running = measure(InRawUnits(self.inputs, model, self.target), self.data)
            of_running = {f"{name}_running": running[name] for name in ("rmse", "variance")}
            rows.append(of_running | {name: exact[name] for name in names})
        return rows


def network(recipe: Recipe, n_features: int, seed: int) -> nn.Sequential:
    """A recipe's network from (N, n_features) to (N,), with the initial weights of ``lai.MLP(..., seed=seed)``.

    >>> from evidence.search.recipes import Recipe
    >>> [type(layer).__name__ for layer in network(Recipe("a", "b", norm="after", hidden=(4,)), 2, 0)]
    ['Linear', 'ReLU', 'BatchNorm1d', 'Linear', 'Flatten']
    """
    *hidden, last, flatten = MLP(n_features, recipe.hidden, activation=recipe.activation, seed=seed)
    layers: list[nn.Module] = [nn.BatchNorm1d(n_features)] if "input" in recipe.norm else []
    for layer in hidden:
        layers.append(layer)
        if isinstance(layer, nn.Linear):
            width = layer.out_features
            if recipe.norm in ("batch", "input+batch"):
                layers.append(nn.BatchNorm1d(width))
            elif recipe.norm == "layer":
                layers.append(nn.LayerNorm(width))
        elif recipe.norm == "after":
            layers.append(nn.BatchNorm1d(width))
    return nn.Sequential(*layers, last, flatten)


def scaling(x: Tensor, kind: str) -> Standardize:
    r"""A scaling of the columns of ``x`` (N, \*columns), ``kind`` of ``SCALES``, as a layer; constant columns are only shifted."""
    wide = x.double()
    if kind == "raw":
        shift, scale = torch.zeros_like(wide[0]), torch.ones_like(wide[0])
    elif kind == "standard":
        shift, scale = wide.mean(0), wide.std(0, correction=0)
    elif kind == "minmax":
        shift, scale = wide.amin(0), wide.amax(0) - wide.amin(0)
    else:
        low, shift, high = torch.from_numpy(np.quantile(wide.numpy(), [0.25, 0.5, 0.75], axis=0))
        scale = high - low
    return Standardize(shift.to(x.dtype), scale.to(x.dtype))


class InRawUnits(nn.Module):
    """A network of scaled features and target as a function from raw features (N, d) to the raw target (N,)."""

    def __init__(self, inputs: Standardize, model: nn.Module, target: Standardize) -> None:
        super().__init__()
        self.inputs, self.model, self.target = inputs, model, target

    def forward(self, x: Tensor) -> Tensor:
        """Tensor (N, d) to (N,)."""
        return self.model(self.inputs(x)) * self.target.std + self.target.mean


class _Plan:
    """What each network minimises: the one without λ the MSE, the others the Lai loss where a batch is marked."""

    def __init__(self, lams: Sequence[Lam | None], variant: Variant | None) -> None:
        given = [torch.as_tensor(lam, dtype=torch.float64) for lam in lams if lam is not None]
        d = max((lam.numel() for lam in given), default=1)
        self.lam = torch.stack([lam.expand(d) for lam in given]) if given else torch.zeros(0)
        self.takers = torch.tensor([i for i, lam in enumerate(lams) if lam is not None], dtype=torch.long)
        self.rest = torch.tensor([i for i, lam in enumerate(lams) if lam is None], dtype=torch.long)
        self.losses = None if variant is None else losses(variant)

    def parts(self, x: Tensor, y: Tensor, marked: Sequence[int] | Tensor) -> list[Part]:
        """Of a step on the batch ``x`` (B, d), ``y`` (B,), whose places ``marked`` take the Lai loss."""
        if self.losses is None or len(marked) == 0 or not len(self.takers):
            return [Part(plain, (x, y), (False, False))]
        if len(marked) == len(x):
            args: tuple[Tensor, ...] = (x, y)
            of_takers, of_rest = self.losses.whole, plain
        else:
            inside = torch.zeros(len(x), dtype=torch.bool)
            inside[marked] = True
            args = (x[inside], y[inside], x[~inside], y[~inside])
            of_takers, of_rest = self.losses.mixed, self.losses.plain_mixed
        shared = (False,) * len(args)
        parts = [Part(of_takers, (*args, self.lam), (*shared, True), self.takers)]
        return parts + ([Part(of_rest, args, shared, self.rest)] if len(self.rest) else [])


class Losses(NamedTuple):
    """What a variant minimises, as :class:`lai.sweep.Sweep` takes it: functions of a Network and of ...

    Attributes
    ----------
    whole
        ... a batch (x, y) and λ: the Lai loss.
    mixed
        ... marked samples, the other samples (x, y each) and λ: the mean over both of Lai loss and squared error.
    plain_mixed
        ... the same but for λ: the MSE over passes like those of ``mixed``, so that the arms differ in the loss alone.
    """

    whole: Objective
    mixed: Objective
    plain_mixed: Objective


def plain(net: Network, x: Tensor, y: Tensor) -> Tensor:
    """The MSE of a batch, x (B, d) and y (B,), as an objective of a sweep."""
    return mse_loss(net(x), y)


@cache  # a sweep knows a program that was traced already by its objective
def losses(variant: Variant) -> Losses:
    """The objectives of a variant; marked samples share the batch's one pass if its sampling is "marked"."""
    options: dict[str, Any] = {"norm": variant.norm, "normalize": variant.normalize, "order": variant.order}

    def whole(net: Network, x: Tensor, y: Tensor, lam: Tensor) -> Tensor:
        value, k = value_and_reading(net, x, y, variant.slope)
        return lai_loss(value, y, k, lam=lam, **options)

    def together(net: Network, x: Tensor, y: Tensor, x_rest: Tensor, y_rest: Tensor, lam: Tensor) -> Tensor:
        n, every = len(x), torch.cat([y, y_rest])
        value, k = value_and_reading(net, torch.cat([x, x_rest]), every, variant.slope)
        marked = lai_loss(value[:n], y, k[:n], lam=lam, reduction="sum", **options)
        return (marked + mse_loss(value[n:], y_rest, reduction="sum")) / len(every)

    def plain_together(net: Network, x: Tensor, y: Tensor, x_rest: Tensor, y_rest: Tensor) -> Tensor:
        return plain(net, torch.cat([x, x_rest]), torch.cat([y, y_rest]))

    def apart(net: Network, x: Tensor, y: Tensor, x_rest: Tensor, y_rest: Tensor, *lam: Tensor) -> Tensor:
        share, before = len(x) / (len(x) + len(x_rest)), net.left
        marked = whole(net, x, y, *lam) if lam else plain(net, x, y)
        between = net.left
        rest = plain(net, x_rest, y_rest)
        # A pass starts from the step's statistics: what the first one moved is put back under the second.
        net.left = {
            name: Moments(
                *(e + (1 - MOMENTUM) * (b - a) for a, b, e in zip(before[name], between[name], end, strict=True))
            )
            for name, end in net.left.items()
        }
        return share * marked + (1 - share) * rest

    if variant.sampling == "points":
        return Losses(whole, apart, apart)
    return Losses(whole, together, plain_together)


MOMENTUM = 0.1
"""Of BatchNorm's running statistics: torch's default, which every recipe has."""


def value_and_reading(net: Network, x: Tensor, y: Tensor, slope: str) -> tuple[Tensor, Tensor]:
    """Outputs (B,), and what stands for k, (B, d), in the reading ``slope`` of ``SLOPES``."""
    if slope in batchnorm.SLOPES:
        return net.value_and_slope(x, slope)  # type: ignore[arg-type]

    def whole(z: Tensor) -> Any:
        value = net(z)
        of = value.mean() if slope == "mean" else mse_loss(value, y, reduction="mean" if slope == "loss" else "sum")
        return of, (value, net.left)

    # The statistics must leave by the same door as the value, or they would still belong to this derivative.
    k, (value, net.left) = torch.func.grad(whole, has_aux=True)(x)
    return value, k
