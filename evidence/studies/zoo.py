"""One small model for each layer or habit of which users ask whether it mixes the samples of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from lai.batchnorm import FixedStatistics

WIDTH = 16


class Apply(nn.Module):
    """A function of tensors as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class WeightStandardised(nn.Module):
    """A parametrisation: each unit's weights less their mean, over their spread."""

    def forward(self, weight: Tensor) -> Tensor:
        return (weight - weight.mean(1, keepdim=True)) / (weight.std(1, keepdim=True) + 1e-5)


def attention(x: Tensor) -> Tensor:
    """Softmax attention of the rows of ``x`` (..., rows, features) to each other, without weights of its own."""
    return (x @ x.mT / x.shape[-1] ** 0.5).softmax(-1) @ x


def layer_zoo(n_features: int, *, seed: int = 0) -> dict[str, nn.Module]:
    """Small models from (N, n_features) to (N, 1), named by what is special in each of them.

    Each is in the mode that its name says, else in training mode.

    Examples
    --------
    >>> list(layer_zoo(8))[:3]
    ['BatchNorm, training', 'BatchNorm, eval', 'BatchNorm without running statistics, eval']
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        first, square = nn.Linear(n_features, WIDTH), nn.Linear(WIDTH, WIDTH)

        def model(layer: nn.Module) -> nn.Module:
            return nn.Sequential(nn.Linear(n_features, WIDTH), layer, nn.SiLU(), nn.Linear(WIDTH, 1)).train()

        parametrize.register_parametrization(first, "weight", WeightStandardised())
        return {
            "BatchNorm, training": model(nn.BatchNorm1d(WIDTH)),
            "BatchNorm, eval": model(nn.BatchNorm1d(WIDTH)).eval(),
            "BatchNorm without running statistics, eval": model(
                nn.BatchNorm1d(WIDTH, track_running_stats=False)
            ).eval(),
            "BatchNorm in FixedStatistics": FixedStatistics(model(nn.BatchNorm1d(WIDTH))).train(),
            "LayerNorm": model(nn.LayerNorm(WIDTH)),
            "GroupNorm": model(nn.GroupNorm(4, WIDTH)),
            "attention over the batch": model(Apply(attention)),
            "attention within a sample": model(Apply(lambda h: attention(h.unflatten(1, (4, -1))).flatten(1))),
            "minus the batch's mean": model(Apply(lambda h: h - h.mean(0))),
            "minus its mean, detached": model(Apply(lambda h: h - h.mean(0).detach())),
            "dropout": model(nn.Dropout(0.5)),
            "spectral norm": model(spectral_norm(square)),
            "weight standardisation": nn.Sequential(first, nn.SiLU(), nn.Linear(WIDTH, 1)).train(),
        }


def values_depend_on_batch(model: nn.Module, x: Tensor, *, seed: int = 0) -> bool:
    """Whether the first sample's output changes when the other samples are replaced, by more than rounding.

    Both passes draw the same random numbers; buffers are left as they were.

    Examples
    --------
    >>> x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    >>> zoo = layer_zoo(3)
    >>> values_depend_on_batch(zoo["BatchNorm in FixedStatistics"], x), values_depend_on_batch(zoo["dropout"], x)
    (True, False)
    """
    before = [(b, b.detach().clone()) for b in model.buffers()]
    outputs = []
    for batch in (x, torch.cat([x[:1], 2 * x[1:] + 1])):
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.default_generator.manual_seed(seed)
            outputs.append(model(batch.detach().clone().requires_grad_())[0].detach())
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)
    return not torch.allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-6)
