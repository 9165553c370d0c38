"""What a step costs: products by a formula of their own, steps that are steps of the loss, and the clock's order."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

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

    For the corrected protocol a pass more to the statistics of the last BatchNorm, and back from there.
    """
    x, y = batch()
    work = {n: count_products(s) for n, s in training_steps(PROTOCOLS[protocol], x, y, 0.1).items()}
    layers = [2 * 64 * a * b for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)]
    plain = 3 * sum(layers) - layers[0]  # no gradient by the data
    statistics = plain - 2 * layers[-1] if protocol == "corrected" else 0
    assert work["plain"] == plain
    assert work["Lai"] == pytest.approx(6 * sum(layers) + statistics, rel=0.01)


def test_products_are_those_of_torchs_own_counter() -> None:
    def step() -> None:
        torch.baddbmm(torch.ones(2, 3, 5), torch.ones(2, 3, 4), torch.ones(2, 4, 5)).sum()
        torch.nn.functional.conv1d(torch.ones(1, 2, 9), torch.ones(3, 2, 4))

    with FlopCounterMode(display=False) as counter:
        step()
    assert count_products(step) == counter.get_total_flops() > 0


def weights_of(step: Any) -> list[torch.Tensor]:
    """What a step trains, but for the biases, which BatchNorm takes out again."""
    cells = dict(zip(step.__code__.co_freevars, step.__closure__ or (), strict=True))
    groups = cells["optimizer"].cell_contents.param_groups
    return [p for group in groups for p in group["params"] if p.ndim == 2]


@pytest.mark.parametrize("way", ["plain", "Lai"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_steps_are_those_of_the_experiments(protocol: str, way: str) -> None:
    """Against the sweep that the kept runs are trained with."""
    x, y = batch()
    recipe = PROTOCOLS[protocol]
    step = training_steps(recipe, x, y, 0.1)[way]
    sweep = lai.Sweep([recipe.model(x, 0)], lr=recipe.lr, device="cpu", compile=False)
    sweep.fit((x, y), lams=[{"plain": None, "Lai": 0.1}[way]], epochs=3, batch_size=64, seed=0, slope=recipe.slope)
    for _ in range(3):
        step()
    (model,) = sweep.models()
    for mine, theirs in zip(weights_of(step), (p for p in model.parameters() if p.ndim == 2), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_steps_take_turns() -> None:
    turns: list[str] = []
    times = seconds_per_step({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, n=3)
    assert turns == ["a", "b"] * 5 and set(times) == {"a", "b"} and min(times.values()) >= 0
    with pytest.raises(ValueError, match="n = 0"):
        seconds_per_step({}, n=0)
    with pytest.raises(ValueError, match="λ must be"):
        training_steps(PROTOCOLS["sound"], *batch(), lam=-1.0)
