"""Networks that mix the samples of a batch, and their derivatives by finite differences."""

import functools

import torch
from torch import Tensor, nn

import lai

WIDTHS = 7, 5


def network(*, affine: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """Two BatchNorms with weights that are not 1 and 0; float64, in training mode."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out in zip((3, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, affine=affine), nn.Dropout(dropout), nn.Softplus()]
        if affine:
            nn.init.normal_(layers[-3].weight)
            nn.init.normal_(layers[-3].bias)
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 1), nn.Flatten(0)).double().train()


def slopes(model: nn.Module, x: Tensor) -> Tensor:
    return lai.value_and_input_gradient(model, x, create_graph=False)[1]


def differences(function: functools.partial, x: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of (N,) outputs by every entry of ``x``: (N, N, d)."""
    out = torch.zeros(len(x), *x.shape, dtype=x.dtype)
    for i in range(len(x)):
        for j in range(x.shape[1]):
            up, down = x.clone(), x.clone()
            up[i, j] += step
            down[i, j] -= step
            out[:, i, j] = (function(up) - function(down)).detach() / (2 * step)
    return out
