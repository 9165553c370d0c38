"""Training with the curvature penalty, against single networks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import lai
from evidence.runs.old.stack import Stack
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
def test_a_stack_trains_as_single_networks_do(d: int) -> None:
    """Every network against a loop written out with the library's own loss."""
    arms: list[tuple[float | None, float]] = [(None, 0.0), (0.5, 0.0), (4.0, 1e-2)]
    models = [lai.MLP(d, (6,), activation="tanh", seed=i).double() for i in range(3)]
    x, y = wave(3, d=d)
    stack = Stack(models)
    options = {"lam": [a for a, _ in arms], "weight": [b for _, b in arms], "steps": 8, "pretrain_steps": 3}
    last = fit_curved(stack, x, y, **options)  # type: ignore[arg-type]
    for i, ((lam, weight), model) in enumerate(zip(arms, models, strict=True)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(8):
            inputs = x[i].clone().requires_grad_()
            output = model(inputs)
            loss = (output - y[i]).square().mean()
            if step >= 3 and lam is not None:
                k = lai.input_gradient(output, inputs, create_graph=True)
                loss = lai.lai_loss(output, y[i], k, lam=lam, normalize=True)
                loss = loss + weight * curvature_penalty(output, inputs, grad=k)
            optimizer.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / 8)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert last[i].item() == pytest.approx(loss.item(), rel=1e-6)
        for mine, theirs in zip(stack.models()[i].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_a_large_weight_straightens() -> None:
    stack = Stack([lai.MLP(1, (12,), activation="tanh", seed=0).double()] * 2)
    x, y = wave(2)
    fit_curved(stack, x, y, lam=[1.0, 1.0], weight=[0.0, 1.0], steps=200)
    probe = x[0].clone().requires_grad_()
    free, straight = (curvature_penalty(m(probe), probe).item() for m in stack.models())
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
    stack = Stack([lai.MLP(1, (4,), seed=0).double()] * 2)
    x, y = wave(2)
    options: dict[str, Any] = {"x": x, "y": y, "lam": [1.0, None], "weight": [0.0, 0.1], "steps": 2} | change
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_curved(stack, options.pop("x"), options.pop("y"), **options)


def test_training_stops_at_a_loss_that_is_not_finite() -> None:
    stack = Stack([lai.MLP(1, (4,), seed=0).double()] * 2)
    x, y = wave(2)
    with pytest.raises(FloatingPointError, match="not finite"):
        fit_curved(stack, x, y * math.inf, lam=[None, None], weight=[0.0, 0.0], steps=2)
