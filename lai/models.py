"""Small networks whose slopes are measured in the data's own units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from .factor import check_choice, check_kind, wide
from .schedule import check_count

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "softplus": nn.Softplus, "tanh": nn.Tanh}


class Standardize(nn.Module):
    r"""(x - mean) / std, as a fixed first layer.

    With the scaling inside the model, k stays in units of the target per unit of the raw input (k' = k σ for an input
    that was standardised before), and with ``Standardize.from_data(y).inverse()`` as the last layer the target is raw too.

    Parameters
    ----------
    mean, std : Tensor (\*features), finite, std >= 0, in the units of the input; a std of 0 is taken as 1

    Source: ours (the paper does not state its scaling); the chapter on high dimension has the algebra.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    >>> Standardize.from_data(x)(x)
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            check_kind(name, value, Tensor, "a tensor; torch.as_tensor makes one")
        if mean.shape != std.shape:
            raise ValueError(f"mean has shape {tuple(mean.shape)} and std {tuple(std.shape)}: must be the same")
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std >= 0).all()):
            raise ValueError("mean and std must be finite, and std not negative")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", torch.where(std > 0, std, torch.ones_like(std)).detach())

    @classmethod
    def from_data(cls, x: Tensor) -> Standardize:
        r"""From the mean and population standard deviation of a sample (N, \*features)."""
        exact = wide(x)
        like = x if x.is_floating_point() else x.float()
        return cls(exact.mean(0).to(like), exact.std(0, correction=0).to(like))

    def inverse(self) -> Standardize:
        """x · std + mean, as a last layer."""
        return Standardize(-self.mean / self.std, 1 / self.std)

    def forward(self, x: Tensor) -> Tensor:
        r"""Tensor (N, \*features) to the same shape."""
        return (x - self.mean) / self.std


class MLP(nn.Sequential):
    """A multilayer perceptron from (N, n_features) to (N,), with torch's default initialisation.

    Parameters
    ----------
    n_features : int
    hidden : sequence of int, the width of each hidden layer
    activation : "silu", "softplus", "tanh" or "relu"
        Use a smooth one: where a ReLU switches on or off, the slope k jumps, and autograd cannot see the jump.
    norm : None, "layer" or "batch", between each hidden linear layer and its activation
        "batch" couples the samples in training mode, so slopes from the summed outputs are wrong. It is offered to show this.
    standardize : Tensor (N, n_features), optional
        Usually the training inputs: the first layer is then :meth:`Standardize.from_data` of them.
    seed : int, optional, of the initial weights; the global random state is left alone

    Source: paper, section 6 ("a simple neural network"); width and depth are our reading.

    Examples
    --------
    >>> MLP(2, (4,), seed=0)
    MLP(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): SiLU()
      (2): Linear(in_features=4, out_features=1, bias=True)
      (3): Flatten(start_dim=0, end_dim=-1)
    )
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int] = (64, 32),
        *,
        activation: str = "silu",
        norm: Literal["layer", "batch"] | None = None,
        standardize: Tensor | None = None,
        seed: int | None = None,
    ) -> None:
        check_kind("hidden", hidden, Iterable, "a sequence of widths, such as (64, 32)")
        widths = [check_count("n_features", n_features, least=1), *(check_count("hidden", n, least=1) for n in hidden)]
        check_choice("activation", activation, tuple(ACTIVATIONS))
        if norm is not None:
            check_choice("norm", norm, ("layer", "batch"))
        check_kind("standardize", standardize, Tensor | None, "a tensor; torch.as_tensor makes one")
        if standardize is not None and standardize.shape[1:] != (n_features,):
            raise ValueError(f"standardize has shape {tuple(standardize.shape)}: it must be (N, {n_features})")
        layers: list[nn.Module] = [] if standardize is None else [Standardize.from_data(standardize)]
        with torch.random.fork_rng(enabled=seed is not None, devices=[]):
            if seed is not None:
                torch.default_generator.manual_seed(check_count("seed", seed))  # the CPU's alone
            for below, width in pairwise(widths):
                layers.append(nn.Linear(below, width))
                if norm is not None:
                    layers.append(nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width))
                layers.append(ACTIVATIONS[activation]())
            layers.append(nn.Linear(widths[-1], 1))
        layers.append(nn.Flatten(0))
        super().__init__(*layers)
