"""What a step costs: products by a formula of their own, steps that are steps of the loss, and the clock's order."""

from typing import Any

import pytest
import torch

import lai
from evidence.runs.experiments import PROTOCOLS
from evidence.studies.step_cost import count_products, seconds_per_step, training_steps

WIDTHS = (8, 64, 32, 1)


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 8, generator=generator), torch.randn(n, generator=generator)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_products_by_formula(protocol: str) -> None:
    """2 n a b for each product of a layer; the number of products is three a layer, or six.

    The first BatchNorm adds the covariance of the features, and its product with the weights and back.
    """
    x, y = batch()
    recipe = PROTOCOLS[protocol]
    work = {n: count_products(s) for n, s in training_steps(recipe, x, y, 0.1).items()}
    layers = [2 * 64 * a * b for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)]
    covariance = 2 * (64 * 8 * 8 + 2 * 64 * 8 * 8) if recipe.norm == "batch" else 0
    assert work["plain"] == 3 * sum(layers) - layers[0] + covariance  # no gradient by the data
    assert work["double backward"] == pytest.approx(6 * sum(layers), rel=0.01)
    assert 1.9 < work["written out"] / work["plain"] < 2.3


def weights_of(step: Any) -> list[torch.Tensor]:
    """What a step trains, but for the biases, which BatchNorm takes out again."""
    cells = dict(zip(step.__code__.co_freevars, step.__closure__ or (), strict=True))
    groups = cells["optimizer"].cell_contents.param_groups
    return [p for group in groups for p in group["params"] if p.ndim == 3]


@pytest.mark.parametrize("protocol", ["published", "sound"])
def test_both_ways_make_the_same_step(protocol: str) -> None:
    x, y = batch()
    after = {}
    for way in ("double backward", "written out"):
        step = training_steps(PROTOCOLS[protocol], x, y, 0.1)[way]
        for _ in range(3):
            step()
        after[way] = [w.detach().clone() for w in weights_of(step)]
    for one, two in zip(*after.values(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["double backward", "written out"])
def test_the_step_is_that_of_the_loss(way: str) -> None:
    """Its gradients are those of the library's own functions for the network by itself."""
    x, y = batch()
    model = PROTOCOLS["sound"].model(x, 0)
    output, k = lai.value_and_input_gradient(model, x)
    lai.lai_loss(output, y, k, lam=0.1).backward()
    step = training_steps(PROTOCOLS["sound"], x, y, 0.1)[way]
    step()
    for expected, weights in zip((p for p in model.parameters() if p.ndim == 2), weights_of(step), strict=True):
        torch.testing.assert_close(weights.grad[0], expected.grad)


def test_steps_take_turns() -> None:
    turns: list[str] = []
    times = seconds_per_step({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, n=3)
    assert turns == ["a", "b"] * 5 and set(times) == {"a", "b"} and min(times.values()) >= 0
    with pytest.raises(ValueError, match="n = 0"):
        seconds_per_step({}, n=0)
    with pytest.raises(ValueError, match="λ must be"):
        training_steps(PROTOCOLS["sound"], *batch(), lam=-1.0)
