"""The rows of book/results/cost.csv: every part of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks import losses
from benchmarks.clock import Ratio, peak_mb, ratios, saved_mb
from benchmarks.losses import Loss, Step, step_of
from benchmarks.networks import ACTIVATIONS, BASE, LIPSCHITZ, Case, Transformer, around, differentiable
from evidence.runs.protocols import PROTOCOLS
from evidence.studies.products import count_elements, count_products
from lai import FixedStatistics, lai_loss

Row = dict[str, Any]

EACH = 100
"""Steps of which one takes the Lai loss: α = 1 %."""

WAYS: dict[str, Loss] = {
    "Lai loss": losses.lai_mse,
    "input noise": losses.mse_with_noise,
    "slope penalty": losses.slope_penalty,
    "finite differences": losses.penalty_by_differences,
    "double backpropagation": losses.double_backpropagation,
    "Lai loss, vmap(grad)": losses.by_vmap_of_grad,
    "Lai loss, vmap(jacrev)": losses.by_jacrev,
    "Lai loss, finite differences": losses.by_finite_differences,
}


def _row(part: str, case: Any, way: str, measure: str, found: Ratio, **more: Any) -> Row:
    settings = case._asdict() if isinstance(case, Case) else {"network": case}
    return {"part": part, "way": way, "measure": measure, **settings, **found._asdict(), **more}


def share_of(lai: Step, plain: Step) -> tuple[Step, Step]:
    """``EACH`` plain steps, and as many with one Lai step among them."""

    def all_plain() -> None:
        for _ in range(EACH):
            plain()

    def one_lai() -> None:
        for _ in range(EACH - 1):
            plain()
        lai()

    return all_plain, one_lai


def grid(cases: list[Case], seconds: float) -> Iterator[Row]:
    """A Lai step relative to an MSE step, one factor varied at a time."""
    for case in cases:
        found = ratios(case.step(losses.mse), {"Lai loss": case.step(losses.lai_mse)}, seconds=seconds)
        yield _row("grid", case, "Lai loss", "time", found["Lai loss"])


def share(case: Case, seconds: float) -> Iterator[Row]:
    """α = 1 %, in runs of ``EACH`` steps."""
    plain, one = share_of(case.step(losses.lai_mse), case.step(losses.mse))
    found = ratios(plain, {"one": one}, seconds=seconds)["one"]
    yield _row("share", case, f"Lai loss, {1 / EACH:.0%} of the batches", "time", found)


def others(case: Case, seconds: float) -> Iterator[Row]:
    """Other losses that see the slope, other ways to the slope, and networks whose slope is bounded by their layers."""
    steps = {name: case.step(loss) for name, loss in WAYS.items()}
    steps |= {f"MSE, Lipschitz layers ({library})": case.step(losses.mse, library) for library in LIPSCHITZ}
    found = ratios(case.step(losses.mse), steps, seconds=seconds * len(steps))
    for name, one in found.items():
        yield _row("others", case, name, "time", one)
    many = case._replace(outputs=10)
    ways = {"Lai loss": losses.lai_mse, "Jacobian penalty, one projection": losses.projected_jacobian}
    found = ratios(many.step(losses.mse), {n: many.step(loss) for n, loss in ways.items()}, seconds=seconds)
    for name, one in found.items():
        yield _row("others", many, name, "time", one)


def where(timed: list[Case], kept: list[Case], seconds: float) -> Iterator[Row]:
    """Where a Lai step's time goes, and what it keeps in memory for its backward passes."""
    for case in timed:
        steps = {name: case.step(loss) for name, loss in losses.STAGES.items()}
        steps[losses.WEIGHTS_ONLY] = case.step(losses.lai_mse, data=False)
        for name, one in ratios(case.step(losses.mse), steps, seconds=seconds * len(steps)).items():
            yield _row("where", case, name, "time", one)
    for case in kept:
        few, many = (saved_mb(loss, case.model(), *case.data()) for loss in (losses.mse, losses.lai_mse))
        yield _row("where", case, "Lai loss", "saved", Ratio(many / few, many / few, many / few, 1, few))


def compiled(cases: list[Case], seconds: float, backend: str = "inductor") -> Iterator[Row]:
    """The same with the loss of each compiled as a whole, relative to a compiled and to an eager MSE step."""
    for case in cases:
        eager = case.step(losses.mse)
        plain, lai = (
            case.step(torch.compile(loss, fullgraph=True, dynamic=False, backend=backend))
            for loss in (losses.mse, losses.lai_mse)
        )
        found = ratios(plain, {"Lai loss, both compiled": lai, "MSE, eager": eager}, seconds=seconds)
        for name, one in found.items():
            yield _row("compiled", case, name, "time", one)


def loss_alone(n: int, d: int, seconds: float) -> Iterator[Row]:
    """Forward and backward of the loss on slopes (n, d), relative to the formula written with k²."""
    y_hat, y, k = torch.randn(n, requires_grad=True), torch.randn(n), torch.randn(n, d, requires_grad=True)

    def step_of_loss(loss: Callable[..., torch.Tensor]) -> Step:
        def step() -> None:
            y_hat.grad = k.grad = None
            loss(y_hat, y, k).backward()

        return step

    lai = step_of_loss(lambda y_hat, y, k: lai_loss(y_hat, y, k, lam=losses.LAM))
    formula, case = step_of_loss(losses.naive_factor_loss), Case(batch=n, inputs=d, width=0, depth=0)
    found = ratios(formula, {"Lai loss": lai}, seconds=seconds, least=25)
    yield _row("loss alone", case, "Lai loss", "time", found["Lai loss"])
    few, many = (count_elements(step) / (n * d) for step in (formula, lai))
    yield _row("loss alone", case, "Lai loss", "passes", Ratio(many / few, many / few, many / few, 1, few))


def memory(cases: list[Case], repeats: int = 3) -> Iterator[Row]:
    """What two steps add to the largest memory of a fresh process."""
    for case in cases:
        pairs = [[peak_mb(Case.step, case, loss) for loss in (losses.mse, losses.lai_mse)] for _ in range(repeats)]
        base, own = torch.tensor(pairs, dtype=torch.float64).clamp(min=1e-3).unbind(1)
        low, ratio, high = (own / base).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
        yield _row("memory", case, "Lai loss", "memory", Ratio(ratio, low, high, repeats, float(base.median())))


def transformer(seconds: float, batch: int = 32, length: int = 16, **sizes: int) -> Iterator[Row]:
    """A step of a small encoder, and α = 1 % of the batches; MSE with torch's fused attention, the Lai loss without."""
    model = Transformer(**sizes)
    x, y = torch.randn(batch, length, model.embed.in_features), torch.randn(batch, 1)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    plain, math, lai = (
        step_of(loss, model, optimizer, x, y)
        for loss in (losses.mse, differentiable(losses.mse), differentiable(losses.lai_mse))
    )
    size = sum(p.numel() for p in model.parameters())
    name = f"encoder of {len(model.encoder.layers)} layers, {size / 1e6:.1f} M parameters"
    about = {"batch": batch, "inputs": x[0].numel()}
    found = ratios(plain, {"Lai loss": lai, "MSE, plain attention": math}, seconds=seconds)
    for way, one in found.items():
        yield _row("transformer", name, way, "time", one, **about)
    base, one_lai = share_of(lai, plain)
    found = ratios(base, {"one": one_lai}, seconds=6 * seconds)
    yield _row("transformer", name, f"Lai loss, {1 / EACH:.0%} of the batches", "time", found["one"], **about)


def protocol_step(name: str, way: str, x: torch.Tensor, y: torch.Tensor) -> Step:
    """A step of a protocol's network, as a loop of one's own takes it."""
    recipe = PROTOCOLS[name]
    model = recipe.model(x, 0).train()
    sloped = FixedStatistics(model) if recipe.norm == "batch" and recipe.slope == "own" else model
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    if way == "plain":
        return step_of(losses.mse, model, optimizer, x, y)
    return step_of(losses.lai_mse, sloped, optimizer, x, y)


def protocols(seconds: float) -> Iterator[Row]:
    """The networks of the experiments: the products of a step, which are the same everywhere, and its time."""
    for name in PROTOCOLS:
        x, y = torch.randn(512, 8), torch.randn(512)
        plain, lai = (protocol_step(name, way, x, y) for way in ("plain", "Lai"))
        found = ratios(plain, {"Lai loss": lai}, seconds=seconds)["Lai loss"]
        yield _row("protocols", name, "Lai loss", "time", found)
        few, many = count_products(plain), count_products(lai)
        yield _row("protocols", name, "Lai loss", "products", Ratio(many / few, many / few, many / few, 1, few))


def products(cases: list[Case]) -> Iterator[Row]:
    """The products of a Lai step relative to those of an MSE step: what the algebra says."""
    for case in cases:
        plain, lai = (case.step(loss) for loss in (losses.mse, losses.lai_mse))
        lai()  # the first call also searches the graph
        few, many = count_products(plain), count_products(lai)
        yield _row("grid", case, "Lai loss", "products", Ratio(many / few, many / few, many / few, 1, few))


def parts(seconds: float) -> dict[str, Callable[[], Iterator[Row]]]:
    """Everything, each part a function to its rows, with ``seconds`` for each comparison."""
    cases = around()
    narrow, large, wide = BASE._replace(width=32), BASE._replace(batch=8192), BASE._replace(width=1024, batch=4096)
    small, middle, many = ([case._replace(activation=name) for name in ACTIVATIONS] for case in (narrow, BASE, large))
    kept = [*many, large._replace(depth=8), wide]
    return {
        "loss": lambda: loss_alone(4096, 64, seconds),
        "products": lambda: products(cases),
        "protocols": lambda: protocols(seconds),
        "grid": lambda: grid(cases, seconds),
        "others": lambda: others(BASE, seconds),
        "share": lambda: share(BASE, 8 * seconds),
        "transformer": lambda: transformer(seconds),
        "memory": lambda: memory(kept),
        "where": lambda: where([*small, *middle, BASE._replace(inputs=3072)], kept, seconds),
        "compiled": lambda: compiled([narrow, BASE], seconds),
    }
