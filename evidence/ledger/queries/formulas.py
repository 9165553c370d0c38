"""Queries that need no table: they compute what the formulas, the schedule and the optimiser do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from evidence.studies import lines
from evidence.studies.products import count_products
from lai.factor import lai_factor
from lai.gradient import value_and_input_gradient
from lai.loss import lai_loss
from lai.schedule import LaiSchedule

from ..views import Judgement, Results, query


@query
def evenly(results: Results) -> Judgement:
    """Every point meets the Lai loss equally often in one run of 100 epochs at α = 0.01: fewer than one in a hundred never does."""
    plan, met = LaiSchedule(0.01, seed=0), np.zeros(58 * 512, dtype=int)
    for epoch in range(100):
        order = np.random.default_rng([0, epoch]).permutation(met.size).reshape(58, 512)
        met[order[plan.batches(epoch, 58).numpy()].ravel()] += 1
    never = float((met == 0).mean())
    return Judgement(
        "holds" if never < 0.01 else "fails",
        f"In one run {never:.0%} of the points never meet it, and one meets it {met.max()} times.",
    )


@query
def novelty(results: Results) -> Judgement:
    """Before the Lai loss no regularisation multiplied error and slope: double backpropagation of squared errors does not."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    y, strength = torch.sin(3 * x.detach()) + 0.5, 0.1
    error = (x**3 - x - y).square()
    (of_loss,) = torch.autograd.grad(error.sum(), x)
    k = 3 * x.detach() ** 2 - 1
    penalised, product = error + strength * of_loss.square(), error * (1 + 4 * strength * k.square())
    same = bool(torch.allclose(penalised, product, rtol=1e-12, atol=0))
    steep = float(lai_factor(torch.tensor([1e6], dtype=torch.float64), 0.1, base="mse"))
    return Judgement(
        "fails as stated" if same else "holds",
        f"Squared errors with the penalty of double backpropagation are e² (1 + 4 β k²), of one form with e² times the Lai factor: "
        f"{same}, to 1e-12. That factor has no limit; the Lai factor at λ = 0.1 has one, {steep:.3g}, and a kink.",
    )


@query
def large_models(results: Results) -> Judgement:
    """At α = 1 % the Lai loss adds less than 3 % to the products of training, and less than half to the memory of a batch, at every
    width of a network."""
    widths, extra, memory = (64, 256, 1024), [], []
    for width in widths:
        model = torch.nn.Sequential(
            torch.nn.Linear(8, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, 1),
        )
        x, y = torch.ones(32, 8), torch.ones(32)

        def plain(model: torch.nn.Module = model, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            return torch.nn.functional.mse_loss(model(x).squeeze(1), y)

        def lai(model: torch.nn.Module = model, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            value, k = value_and_input_gradient(lambda z: model(z).squeeze(1), x)
            return lai_loss(value, y, k, lam=0.1)

        few, many = (count_products(_backward(loss)) for loss in (plain, lai))
        extra.append(0.01 * (many / few - 1))
        weights = {weight.data_ptr() for weight in model.parameters()}
        memory.append(_kept(lai, weights) / _kept(plain, weights))
    cheap, slim = max(extra) < 0.03, max(memory) < 1.5
    word = "holds" if cheap and slim else "holds under conditions" if cheap or slim else "fails"
    told = [", ".join(one) for one in ([f"{e:.1%}" for e in extra], [f"{m:.1f}" for m in memory])]
    return Judgement(
        word,
        f"At widths {', '.join(map(str, widths))} products rise by {told[0]}; a Lai batch keeps {told[1]} times the memory of a plain one.",
    )


def _backward(loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    return lambda: loss().backward()


def _kept(loss: Callable[[], torch.Tensor], weights: set[int]) -> int:
    """Numbers that autograd keeps for a loss's backward pass, besides the weights."""
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return sum(tensor.numel() for tensor in kept.values())


@query
def learning_rate(results: Results) -> Judgement:
    """One gradient a thousand times as large moves an Adam step by less than twenty learning rates, nor a later step, and
    no plain step is small for long after it."""
    weight = torch.zeros(1, requires_grad=True)
    adam, moved = torch.optim.Adam([weight], lr=1.0), []
    for step in range(1200):
        before = weight.item()
        weight.grad = torch.full((1,), 1000.0 if step == 1000 else 1.0)
        adam.step()
        moved.append(abs(before - weight.item()))
    no_jump, slowed = max(moved) < 20, moved[-1] < 0.5
    word = "fails" if not no_jump else "holds under conditions" if slowed else "holds"
    return Judgement(
        word,
        f"The step is {moved[1000]:.1f} learning rates, the next ones up to {max(moved):.1f}; 199 steps later plain steps "
        f"are {moved[-1]:.2f} of one.",
    )


@query
def larger_lam(results: Results) -> Judgement:
    """A larger λ raises what a steep slope costs, relative to a flat one's."""
    k = torch.tensor([0.0, 10.0], dtype=torch.float64)

    def cost(lam: float) -> float:
        flat, steep = lai_factor(k, lam, base="mse").tolist()
        return float(steep / flat)

    lams = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    rises = [cost(high) > cost(low) for low, high in zip(lams, lams[1:], strict=False)]
    word = "holds" if all(rises) else "holds under conditions" if any(rises) else "fails"
    numbers = ", ".join(f"{cost(lam):.3g}" for lam in lams)
    return Judgement(word, f"Cost of slope 10 over that of slope 0, λ = 0.0001 to 10: {numbers}.")


@query
def iterative(results: Results) -> Judgement:
    """The minimum of the loss of a line is not written down directly, with squared errors either.

    With the best intercept the mean squared error is a polynomial q of degree two in the slope. Below the boundary the loss
    is λ q / (1 + k²), above it k² q / (1 + k²), up to one constant factor: where their derivatives vanish is told by a polynomial of
    degree two and one of degree four. The minimum is at one of their roots or at a boundary.
    """
    k = torch.linspace(-30, 30, 60001, dtype=torch.float64)
    found = []
    for width in (0.1, 1.0, 10.0):
        x, y = (part.double() for part in lines.line_data(width))
        x, y = x - x.mean(), y - y.mean()
        a, b, c = (float(v) for v in ((x * x).mean(), -2 * (x * y).mean(), (y * y).mean()))
        for lam in (0.01, 0.5, 1.0, 2.0, 36.0):

            def loss(k: torch.Tensor, lam: float = lam, q: tuple[float, ...] = (a, b, c)) -> torch.Tensor:
                return (q[0] * k**2 + q[1] * k + q[2]) * lai_factor(k, lam, base="mse")

            roots = np.concatenate([np.roots([-b, 2 * (a - c), b]), np.roots([2 * a, b, 4 * a, 3 * b, 2 * c])])
            real = [*roots[np.isreal(roots)].real, lam**0.5, -(lam**0.5), 0.0]
            best = float(loss(torch.tensor(real, dtype=torch.float64)).min())
            found.append(best <= float(loss(k).min()) * (1 + 1e-9))
    word = "fails as stated" if any(found) else "holds"
    return Judgement(
        word,
        f"With squared errors the minimum for a line is among two boundaries and the roots of two polynomials, in {sum(found)} of "
        f"{len(found)} cases tried.",
    )


@query
def convex(results: Results) -> Judgement:
    """The Lai MSE of a line is convex in its slope, for λ = 36 and little or much noise; how many minima it has is told."""
    found = []
    k = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for width in (0.1, 1.0, 10.0):
        x, y = lines.line_data(width)
        x, y = x.double(), y.double()
        intercept = (y[:, None] - k * x[:, None]).mean(0)
        errors = k * x[:, None] + intercept - y[:, None]
        loss = errors.square().mean(0) * lai_factor(k, 36.0, base="mse")
        bends = loss.diff().diff()
        minima = int(((loss[1:-1] < loss[:-2]) & (loss[1:-1] < loss[2:])).sum())
        found.append((bool((bends >= -1e-9).all()), minima))
    word = (
        "holds" if all(flat for flat, _ in found) else "holds under conditions" if any(f for f, _ in found) else "fails"
    )
    return Judgement(
        word, f"Minima in the slope, for little, some and much noise: {', '.join(str(n) for _, n in found)}."
    )
