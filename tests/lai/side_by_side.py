"""Networks trained side by side by a Sweep, and each of them alone by lai.fit."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import checks
import pytest
import torch
from torch import Tensor, nn

import lai

LAMS: list[Any] = [None, 0.5, [0.02, 2.0]]
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "seed": 3}
PART = lai.LaiSchedule(0.4, seed=5)
POINTS = lai.LaiSchedule(0.25, sampling="points")


def wave(n: int = 38, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 2, generator=g, dtype=torch.float64) * 4 - 2
    y = torch.sin(2 * x[:, 0]) + 0.3 * x[:, 1] + 0.1 * torch.randn(n, generator=g, dtype=torch.float64)
    return x.to(dtype), y.to(dtype)


def networks(
    norm: Any = None, dtype: torch.dtype = torch.float64, n: int = 3, hidden: Sequence[int] = (5, 4)
) -> list[nn.Module]:
    """Of different weights, and the last with another scale of its inputs."""
    x = wave()[0]
    models = [lai.MLP(2, hidden, norm=norm, standardize=x * (i + 1 if i == n - 1 else 1), seed=i) for i in range(n)]
    for model in models:
        for below, above in itertools.pairwise(model):
            if isinstance(above, nn.BatchNorm1d):  # which takes the bias away: its gradient is rounding alone, and
                below.bias.requires_grad_(False)  # type: ignore[union-attr] # Adam would make whole steps of it
    return [model.to(dtype) for model in models]


def sweep_of(models: Sequence[nn.Module], lr: float = 1e-3, compile: Any = False) -> lai.Sweep:
    return lai.Sweep(models, lr=lr, device="cpu", compile=compile)


def alone(
    model: nn.Module, data: Any, lam: Any, *, slope: str = "own", base: Any = "mse", **kw: Any
) -> tuple[Any, Any]:
    """The network and history that lai.fit gives."""
    fitted = copy.deepcopy(model)
    loss = {name: kw.pop(name) for name in ("norm", "l1_ratio", "order", "normalize") if name in kw}
    criterion: Any = lai.LaiLoss(1.0 if lam is None else lam, base=base, **loss)
    if lam is None:  # plain, of the same base: never the Lai loss
        kw["schedule"] = lai.LaiSchedule(0)
        criterion = None if base == "mse" else criterion
    wrapped = fitted
    if slope == "summed":
        kw["allow_coupling"] = True
    elif any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        wrapped = lai.FixedStatistics(fitted, "batch" if slope == "own" else "running")
    settings = {"lr": 1e-3, "device": "cpu", **SETTINGS, **kw}
    return fitted, lai.fit(wrapped, data, criterion=criterion, **settings)


def each_equals_fit(models: list[nn.Module], lams: Sequence[Any] = LAMS, data: Any = None, **kw: Any) -> lai.Sweep:
    """Weights, buffers and history of every network; to rounding of float64."""
    data = wave() if data is None else data
    sweep = sweep_of(models)
    history = sweep.fit(data, lams=lams, **(SETTINGS | kw))
    for i, (trained, model, lam) in enumerate(zip(sweep.models(), models, lams, strict=True)):
        fitted, expected = alone(model, data, lam, **kw)
        checks.same(trained, fitted, rtol=1e-9, atol=1e-9)
        rows = [row for row, network in enumerate(history["network"]) if network == i]
        assert sorted(history) == sorted([*expected, "network"])
        for name, values in expected.items():
            assert [history[name][row] for row in rows] == pytest.approx(values, rel=1e-10)
    return sweep
