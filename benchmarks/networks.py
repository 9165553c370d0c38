"""The networks and batches on which costs are compared."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.losses import Loss, Step, step_of

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


class Case(NamedTuple):
    """A network with ``depth`` hidden layers of ``width`` units, and the batch it is trained on."""

    activation: str = "silu"
    width: int = 256
    depth: int = 2
    batch: int = 512
    inputs: int = 8
    outputs: int = 1

    def model(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        n = self.inputs
        for _ in range(self.depth):
            layers += [nn.Linear(n, self.width), ACTIVATIONS[self.activation]()]
            n = self.width
        return nn.Sequential(*layers, nn.Linear(n, self.outputs))

    def data(self) -> tuple[Tensor, Tensor]:
        return torch.randn(self.batch, self.inputs), torch.randn(self.batch, self.outputs)

    def step(self, loss: Loss) -> Step:
        """With a network and Adam of its own."""
        model = self.model()
        return step_of(loss, model, torch.optim.Adam(model.parameters(), fused=True), *self.data())


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
