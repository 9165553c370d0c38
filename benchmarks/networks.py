"""The networks and batches on which costs are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import monotonicnetworks
import torch
from deel import torchlip
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import spectral_norm

from benchmarks.losses import Loss, Step, step_of

ACTIVATIONS = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}

Layers = tuple[Callable[[int, int], nn.Module], Callable[[int], nn.Module]]
"""A linear layer by the units before it and its own, and an activation by its units."""

LIPSCHITZ: dict[str, Layers] = {
    "monotonicnetworks": (
        lambda n, m: monotonicnetworks.LipschitzLinear(n, m, kind="inf"),
        lambda n: monotonicnetworks.GroupSort(n // 2),
    ),
    "deel-torchlip": (torchlip.SpectralLinear, lambda _: torchlip.GroupSort2()),
    "torch's spectral_norm": (lambda n, m: spectral_norm(nn.Linear(n, m)), lambda _: nn.ReLU()),
}
"""By library: layers and activations through which no slope, nor the norm of several, is more than 1.

Of monotonicnetworks the bound on the sum of |weights| into each unit, which holds for layers behind one another. Its
default, on single weights, is for a first layer.
"""


class Case(NamedTuple):
    """A network with ``depth`` hidden layers of ``width`` units, and the batch it is trained on."""

    activation: str = "silu"
    width: int = 256
    depth: int = 2
    batch: int = 512
    inputs: int = 8
    outputs: int = 1

    def model(self, lipschitz: str | None = None) -> nn.Sequential:
        """With plain layers, or those of ``LIPSCHITZ``."""
        plain: Layers = nn.Linear, lambda _: ACTIVATIONS[self.activation]()
        linear, activation = plain if lipschitz is None else LIPSCHITZ[lipschitz]
        layers: list[nn.Module] = []
        n = self.inputs
        for _ in range(self.depth):
            layers += [linear(n, self.width), activation(self.width)]
            n = self.width
        return nn.Sequential(*layers, linear(n, self.outputs))

    def data(self) -> tuple[Tensor, Tensor]:
        return torch.randn(self.batch, self.inputs), torch.randn(self.batch, self.outputs)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the inputs, of each hidden layer, and of the outputs."""
        return (self.inputs, *[self.width] * self.depth, self.outputs)

    def step(self, loss: Loss, lipschitz: str | None = None, *, data: bool = True) -> Step:
        """With a network and Adam of its own; ``data`` as in :func:`step_of`."""
        model = self.model(lipschitz)
        return step_of(loss, model, torch.optim.Adam(model.parameters(), fused=True), *self.data(), data=data)


BASE = Case()
FACTORS = {
    "activation": ("relu", "tanh"),
    "width": (32, 64, 128, 512, 1024, 2048),
    "depth": (3, 4, 6, 8),
    "batch": (32, 128, 2048, 8192),
    "inputs": (32, 128, 784, 3072),
}
"""What is varied around ``BASE``, one factor at a time."""


def around(base: Case = BASE, factors: dict[str, tuple] = FACTORS) -> list[Case]:
    """``base`` and its neighbours."""
    return [base, *(base._replace(**{name: value}) for name, values in factors.items() for value in values)]


class Transformer(nn.Module):
    """A small encoder from sequences (N, T, d) to one number each.

    Fused attention has no second derivative, so a Lai step runs the plain implementation (``differentiable``).
    """

    def __init__(self, inputs: int = 8, width: int = 128, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.embed = nn.Linear(inputs, width)
        self.encoder = nn.TransformerEncoder(one, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


def differentiable(loss: Loss) -> Loss:
    """The loss with attention that has a second derivative."""

    def of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return loss(model, x, y)

    return of
