"""Training with the curvature penalty, against single networks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import lai
from evidence.studies.curvature import fit_curved
from lai import curvature_penalty


@pytest.fixture(autouse=True)
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def wave(n_networks: int, n: int = 24, d: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, d, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return x.expand(n_networks, n, d), torch.sin(3 * x).sum(1).expand(n_networks, n)


@pytest.mark.parametrize("d", [1, 2])
def test_together_is_as_alone(d: int) -> None:
    """Every network against a loop written out with the library's own loss."""
    arms: list[tuple[float | None, float]] = [(None, 0.0), (4.0, 1e-2), (0.5, 0.0), (None, 1e-2)]
    models = [lai.MLP(d, (6,), activation="tanh", seed=i).double() for i in range(4)]
    x, y = wave(4, d=d)
    options = {"lam": [a for a, _ in arms], "weight": [b for _, b in arms], "steps": 8, "pretrain_steps": 3}
    trained = fit_curved(models, x, y, **options)  # type: ignore[arg-type]
    for i, ((lam, weight), model) in enumerate(zip(arms, models, strict=True)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(8):
            inputs = x[i].clone().requires_grad_()
            output = model(inputs)
            loss = (output - y[i]).square().mean()
            if step >= 3:
                k = lai.input_gradient(output, inputs, create_graph=True)
                if lam is not None:
                    loss = lai.lai_loss(output, y[i], k, lam=lam, normalize=True)
                loss = loss + weight * curvature_penalty(output, inputs, grad=k)
            optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 8)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for mine, theirs in zip(trained[i].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_hutchinson_is_the_penalty_along_random_signs() -> None:
    """Against a loop with lai.curvature_penalty and the same draws."""
    model = lai.MLP(2, (6,), activation="tanh", seed=0).double()
    x, y = wave(1, d=2)
    (trained,) = fit_curved([model], x, y, lam=[0.5], weight=[0.1], steps=4, method="hutchinson")
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(4):
        inputs = x[0].clone().requires_grad_()
        output = model(inputs)
        k = lai.input_gradient(output, inputs)
        penalty = curvature_penalty(output, inputs, grad=k, method="hutchinson", generator=generator)
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 4)) / 2
        optimizer.zero_grad()
        (lai.lai_loss(output, y[0], k, lam=0.5, normalize=True) + 0.1 * penalty).backward()
        optimizer.step()
    for mine, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_a_large_weight_straightens() -> None:
    models = [lai.MLP(1, (12,), activation="tanh", seed=0).double()] * 2
    x, y = wave(2)
    trained = fit_curved(models, x, y, lam=[1.0, 1.0], weight=[0.0, 1.0], steps=200)
    probe = x[0].clone().requires_grad_()
    free, straight = (curvature_penalty(m(probe), probe).item() for m in trained)
    assert straight < 0.1 * free


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": torch.zeros(3, 24, 1)}, "x has shape"),
        ({"y": torch.zeros(2, 23)}, "x has shape"),
        ({"lam": [1.0]}, "lam has 1 entries"),
        ({"lam": [1.0, -1.0]}, "lam = -1.0"),
        ({"weight": [0.0, -1.0]}, "weight = -1.0"),
        ({"steps": 0}, "steps = 0"),
        ({"method": "both"}, "method = 'both'"),
    ],
)
def test_training_refusals(change: dict[str, Any], message: str) -> None:
    models = [lai.MLP(1, (4,), seed=0).double()] * 2
    x, y = wave(2)
    options: dict[str, Any] = {"x": x, "y": y, "lam": [1.0, None], "weight": [0.0, 0.1], "steps": 2} | change
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_curved(models, options.pop("x"), options.pop("y"), **options)


def test_training_stops_at_a_loss_that_is_not_finite() -> None:
    models = [lai.MLP(1, (4,), seed=0).double()] * 2
    x, y = wave(2)
    with pytest.raises(FloatingPointError, match="network 0 became inf at step 0"):
        fit_curved(models, x, y * math.inf, lam=[None, None], weight=[0.0, 0.0], steps=2)
