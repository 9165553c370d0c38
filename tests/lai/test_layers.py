"""A Lai step of one layer after another against the slopes of single samples by torch.func.jacrev, in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations

import lai

D = torch.float64
N, LAM = 4, 0.2


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(2, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=False):
            return self.head(self.rnn(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.net = nn.Embedding(3, 2), nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return self.net(torch.cat([x, self.table(rows)], 1))


def around(layer: nn.Module, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), layer, nn.Tanh(), nn.Linear(width, 1))


def convolution(pool: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), pool, nn.Flatten(), nn.Linear(12, 1))


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv2d, AvgPool2d": (lambda: convolution(nn.AvgPool2d(2)), (1, 6, 6)),
    "Conv2d, MaxPool2d": (lambda: convolution(nn.MaxPool2d(2)), (1, 6, 6)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (3, 2)),
    "GRU": (lambda: Recurrent(nn.GRU), (3, 2)),
    "GroupNorm": (lambda: around(nn.GroupNorm(2, 4)), (2,)),
    "spectral_norm": (lambda: around(parametrizations.spectral_norm(nn.Linear(4, 3)), 3), (2,)),
    "weight_norm": (lambda: around(parametrizations.weight_norm(nn.Linear(4, 3)), 3), (2,)),
    "MultiheadAttention": (Attending, (3, 4)),
    "Embedding": (Mixed, (2,)),
}
if hasattr(nn, "RMSNorm"):
    LAYERS["RMSNorm"] = (lambda: around(nn.RMSNorm(4)), (2,))


@pytest.mark.parametrize("name", LAYERS)
def test_a_lai_step_is_that_of_each_samples_own_jacobian(name: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    model = make().to(D).eval()  # in training mode spectral_norm changes its estimate in every pass
    x, y = torch.randn(N, *shape, dtype=D), torch.randn(N, 1, dtype=D)
    others: tuple[Any, ...] = (torch.arange(N) % 3,) if name == "Embedding" else ()
    weights = dict(model.named_parameters())

    y_hat, k = lai.value_and_input_gradient(model, (x, *others), wrt=0)
    loss = lai.lai_loss(y_hat, y, k, lam=LAM)
    got = torch.autograd.grad(loss, list(weights.values()))

    each = []
    for i in range(N):

        def own(z: Tensor, i: int = i) -> Tensor:
            return functional_call(model, weights, (z[None], *(t[i : i + 1] for t in others)))[0, 0]

        slope = jacrev(own)(x[i])
        torch.testing.assert_close(k[i], slope)
        factor = torch.maximum(slope**2, torch.tensor(LAM, dtype=D)) / (1 + slope**2) / LAM
        each.append((own(x[i]) - y[i, 0]) ** 2 * factor.square().sum().sqrt())
    want = torch.stack(each).mean()
    torch.testing.assert_close(loss, want)
    torch.testing.assert_close(got, torch.autograd.grad(want, list(weights.values())))
