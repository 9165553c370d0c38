"""Many small networks as one: the same layers with weights of their own, so that a loss trains all of them at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 32)


class Networks(nn.Module):
    """E networks d → 64 → 32 → 1 with SiLU. Each has its own weights and its own rows; none feels another.

    Parameters
    ----------
    n_features : int
        d.
    seeds : E ints
        Of the initial weights, drawn as ``torch.nn.Linear`` draws them; networks of one seed begin alike.
    """

    def __init__(self, n_features: int, seeds: list[int]) -> None:
        super().__init__()
        sizes = (n_features, *WIDTHS, 1)
        drawn = {seed: _linear_layers(sizes, seed) for seed in set(seeds)}
        self.weights = nn.ParameterList(
            torch.stack([drawn[seed][i].weight.detach().T for seed in seeds]) for i in range(len(sizes) - 1)
        )
        self.biases = nn.ParameterList(
            torch.stack([drawn[seed][i].bias.detach()[None] for seed in seeds]) for i in range(len(sizes) - 1)
        )

    def forward(self, x: Tensor, *, drop: Tensor | None = None) -> Tensor:
        """Outputs (E, N) for rows ``x`` (E, N, d); ``drop`` (E,) is each network's share of hidden units left out."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, self.matrix(weight))
            if i < len(WIDTHS):
                x = self.activation(x)
                if drop is not None:
                    keep = 1 - drop[:, None, None]
                    x = x * (torch.rand_like(x) < keep) / keep
        return x.squeeze(2)

    def activation(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def matrix(self, weight: Tensor) -> Tensor:
        """The matrices (E, in, out) that a layer multiplies by."""
        return weight


class LipschitzNetworks(Networks):
    """The same, with slopes that cannot exceed a bound: normalised matrices and an activation that sorts pairs.

    Every matrix is divided by its spectral norm where that exceeds 1, and sorting keeps lengths, so that a network's
    slope has a Euclidean norm of at most 1 (Anil, Lucas and Grosse, 2019); the caller multiplies by the bound.
    """

    def activation(self, x: Tensor) -> Tensor:
        low, high = x[..., ::2], x[..., 1::2]
        return torch.cat([torch.minimum(low, high), torch.maximum(low, high)], -1)

    def matrix(self, weight: Tensor) -> Tensor:
        norm = torch.linalg.matrix_norm(weight, ord=2)[:, None, None]
        return weight / norm.clamp(min=1)


class CentredNetworks(Networks):
    """The same, with centralised gradients (Yong and others, 2020): each unit's weights keep their mean.

    What is subtracted and added is one and the same number, but the gradient passes through one of the two alone.
    """

    def matrix(self, weight: Tensor) -> Tensor:
        mean = weight.mean(1, keepdim=True)
        return weight - mean + mean.detach()


def _linear_layers(sizes: tuple[int, ...], seed: int) -> list[nn.Linear]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [nn.Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
