"""What the benchmark compares: steps of the same loss, products by a formula of their own, rows that say what they are of."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lai
from benchmarks import losses, table
from benchmarks.clock import peak_mb, ratios, saved_mb
from benchmarks.networks import LIPSCHITZ, Case, around
from evidence.runs.experiments import PROTOCOLS
from evidence.studies.products import KEPT, count_elements, count_products, products_by_widths
from tools import benchmark, report, reproduce

TINY = Case(width=8, batch=16, inputs=3)
WIDTHS = (8, 64, 32, 1)


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 8, generator=generator), torch.randn(n, generator=generator)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_products_by_formula(protocol: str) -> None:
    """2 n a b for each product of a layer; the number of products is three a layer, or six.

    For the corrected protocol a pass more to the statistics of the last BatchNorm, and back from there.
    """
    work = {}
    for way in ("plain", "Lai"):
        step = table.protocol_step(protocol, way, *batch())
        step()  # the first call also searches the graph
        work[way] = count_products(step)
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


@pytest.mark.parametrize("data", [True, False], ids=["all leaves", "weights only"])
@pytest.mark.parametrize("widths", [(5, 7, 3, 1), (3, 4), (6, 1), (9, 4, 4, 4, 2)], ids=str)
def test_the_formula_by_widths_is_what_torchs_own_counter_finds(widths: tuple[int, ...], data: bool) -> None:
    """In a network without modules, with one sample: every product is of a row and a matrix."""
    torch.manual_seed(0)
    weights = [torch.randn(b, a, requires_grad=True) for a, b in pairwise(widths)]

    def network(x: torch.Tensor) -> torch.Tensor:
        for w in weights[:-1]:
            x = torch.tanh(x @ w.T)
        return x @ weights[-1].T

    def mse() -> None:
        network(torch.ones(1, widths[0])).square().sum().backward()

    def with_slopes() -> None:
        x = torch.ones(1, widths[0], requires_grad=True)
        y = network(x)
        rows = torch.eye(widths[-1])[:, None]
        slopes = [torch.autograd.grad(y, x, row, create_graph=True)[0].square().sum() for row in rows]
        (y.square().sum() + sum(slopes)).backward(inputs=None if data else weights)

    counted = []
    for step in (mse, with_slopes):
        with FlopCounterMode(display=False) as counter:
            step()
        counted.append(counter.get_total_flops())
    assert tuple(counted) == products_by_widths(widths, data=data)


@pytest.mark.parametrize("data", [True, False], ids=["all leaves", "weights only"])
@pytest.mark.parametrize("case", [TINY, TINY._replace(depth=1), TINY._replace(inputs=40, depth=3, outputs=3)], ids=str)
def test_the_formula_by_widths_is_what_steps_of_the_benchmark_take(case: Case, data: bool) -> None:
    plain, many = case.step(losses.mse), case.step(losses.lai_mse, data=data)
    many()  # the first call also searches the graph
    formula = products_by_widths(case.widths, data=data)
    assert (count_products(plain), count_products(many)) == tuple(case.batch * each for each in formula)


def test_the_ratio_of_products_in_its_limits() -> None:
    """Two where the first layer is a small part of the network, three where it is nearly all of it; 5 products in place of 6 in that layer."""
    for widths, data, ratio in (
        ((1, *[500] * 9, 1), True, 2),
        ((10**6, 500, 1), True, 3),
        ((10**6, 500, 1), False, 2.5),
    ):
        plain, lai_step = products_by_widths(widths, data=data)
        assert lai_step / plain == pytest.approx(ratio, rel=0.001)


def test_the_tables_products_are_those_of_the_formula() -> None:
    counted = report._grid(report.RESULTS).drop(columns=["ratio", "measure"])
    kept = pd.read_csv(report.RESULTS / "cost.csv").query("part == 'grid' and measure == 'products'")
    both = counted.merge(kept, on=report.NETWORK, validate="1:1")
    assert len(both) == len(kept) == len(around())
    assert both["ratio"].tolist() == pytest.approx(both["predicted"].tolist(), rel=1e-5)


def test_elements_are_those_of_the_largest_tensor_of_each_operation() -> None:
    x, row = torch.ones(4, 5), torch.ones(5)
    assert count_elements(lambda: (x + row).sum()) == 20 + 20
    assert count_elements(lambda: row.expand(4, 5).T) == 0  # views
    assert count_elements(lambda: x @ x.T) == 0  # a product
    assert count_elements(lambda: x.clone().mul_(2)) == 20 + 20


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("activation", KEPT)
def test_tensors_that_are_kept_for_each_layer(activation: str, depth: int) -> None:
    case = Case(activation, width=64, depth=depth)
    for loss, tensors in zip((losses.mse, losses.lai_mse), KEPT[activation], strict=True):
        kept = saved_mb(loss, case.model(), *case.data()) * 1e6 / (4 * case.width * case.batch)
        # beside them the factor of 8 slopes and a few numbers of each sample
        assert 0 <= kept - tensors * depth < 0.4


def test_backward_to_the_weights_alone_trains_the_same() -> None:
    torch.manual_seed(0)
    model, (x, y) = TINY.model(), TINY.data()
    found = []
    for data in (True, False):
        losses.step_of(losses.lai_mse, model, torch.optim.SGD(model.parameters(), lr=0.0), x, y, data=data)()
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("way", ["Lai loss, vmap(grad)", "Lai loss, vmap(jacrev)", "Lai loss, finite differences"])
def test_other_ways_to_the_slope_give_the_same_loss(way: str) -> None:
    torch.manual_seed(0)
    model, (x, y) = TINY.model().double(), (t.double() for t in TINY.data())
    h = 1e-6 if "differences" in way else None
    loss = table.WAYS[way](model, x, y) if h is None else losses.by_finite_differences(model, x, y, h)
    torch.testing.assert_close(loss, losses.lai_mse(model, x, y), rtol=1e-4 if h else 1e-10, atol=0)


def test_the_penalty_by_differences_is_the_penalty() -> None:
    torch.manual_seed(0)
    model, (x, y) = TINY.model().double(), (t.double() for t in TINY.data())
    by_differences = losses.penalty_by_differences(model, x, y, h=1e-6)
    torch.testing.assert_close(by_differences, losses.slope_penalty(model, x, y), rtol=1e-5, atol=0)


def test_the_naive_formula_is_the_loss() -> None:
    torch.manual_seed(0)
    y_hat, y, k = torch.randn(9).double(), torch.randn(9).double(), torch.randn(9, 4).double()
    torch.testing.assert_close(losses.naive_factor_loss(y_hat, y, k), lai.lai_loss(y_hat, y, k, lam=losses.LAM))


def test_the_projection_is_unbiased() -> None:
    """Its mean over many draws is the squared norm of the Jacobian of a linear model, its weights."""
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 4).double(), torch.randn(20_000, 3).double()
    penalty = losses.projected_jacobian(model, x, model(x).detach()) / losses.WEIGHT
    assert penalty.item() == pytest.approx(model.weight.square().sum().item(), rel=0.03)


def test_a_lai_step_in_stages_is_the_lai_loss() -> None:
    torch.manual_seed(0)
    model, (x, y) = TINY.model().double(), (t.double() for t in TINY.data())
    for loss in (losses.naive, losses.lai_of_bare_slopes):
        torch.testing.assert_close(loss(model, x, y), losses.lai_mse(model, x, y))


@pytest.mark.parametrize("library", [None, *LIPSCHITZ])
def test_lipschitz_layers_are_and_plain_ones_are_not(library: str | None) -> None:
    """With weights that ask for more: no slope above 1, nor a difference of outputs above that of the inputs."""
    torch.manual_seed(0)
    model = TINY.model(library)
    with torch.no_grad():
        for p in model.parameters():
            p *= 8
        for _ in range(100):  # norms that are found by iteration
            model(torch.randn(2, TINY.inputs))
        a, b = torch.randn(2, 5000, TINY.inputs)
        steepest = ((model(a) - model(b)).abs()[:, 0] / (a - b).norm(dim=1)).max().item()
    slope = lai.value_and_input_gradient(model, 3 * a)[1].norm(dim=1).max().item()
    assert max(steepest, slope) <= 1 + 1e-5 if library else min(steepest, slope) > 2


def test_steps_take_turns_and_a_step_that_does_twice_the_work_costs_more() -> None:
    turns: list[str] = []
    found = ratios(lambda: turns.append("b"), {"a": lambda: turns.append("a")}, seconds=0, least=4)
    assert sorted(turns[:4]) == ["a", "a", "b", "b"] and "".join(turns[4:]) == "baabbaab"
    assert found["a"].rounds == 4 and 0 < found["a"].low <= found["a"].ratio <= found["a"].high
    assert found["a"].system >= 0


def kept(n_mb: int) -> losses.Step:
    return lambda: torch.ones(n_mb * 250_000).sum() and None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_memory_is_seen() -> None:
    assert peak_mb(kept, 400) == pytest.approx(400, rel=0.1)


def test_one_tiny_run_of_every_part_but_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(seconds: float) -> dict:
        return {
            "loss": lambda: table.loss_alone(16, 3, seconds),
            "share": lambda: table.share(TINY, seconds),
            "grid": lambda: table.grid([TINY], seconds),
            "products": lambda: table.products([TINY]),
            "others": lambda: table.others(TINY, seconds),
            "where": lambda: table.where([TINY], [TINY], seconds),
            "transformer": lambda: table.transformer(seconds, batch=2, length=3, width=8, layers=1, heads=2),
            "compiled": lambda: table.compiled([TINY], seconds, backend="eager"),
        }

    monkeypatch.setattr(benchmark, "parts", tiny)
    benchmark.main(["--seconds", "0", "--out", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "cost.csv")
    timed = rows[rows["measure"] == "time"]
    assert (timed["low"] <= timed["ratio"]).all() and (timed["ratio"] <= timed["high"]).all()
    assert set(rows["way"]) >= {"Lai loss", *table.WAYS, "Jacobian penalty, one projection"}
    assert sum(any(library in way for library in LIPSCHITZ) for way in rows["way"]) == len(LIPSCHITZ)
    assert (rows["rounds"] >= 1).all() and (rows["base"] > 0).all() and not rows["ratio"].isna().any()
    about = json.loads((tmp_path / "cost.json").read_text())
    assert {"command", "versions", "hardware", "setting"} <= set(about)
    (exact,) = rows.loc[rows["measure"] == "products", "ratio"]
    forward = 3 * 8 + 8 * 8 + 8
    assert math.isclose(exact, 6 * forward / (3 * forward - 24), rel_tol=0.02)


def test_some_parts_alone_leave_the_books_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "book")
    monkeypatch.setattr(reproduce, "OWN", tmp_path / "own")
    monkeypatch.setattr(benchmark, "parts", lambda seconds: {"products": lambda: table.products([TINY])})
    benchmark.main(["products"])
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    benchmark.main([])
    assert len(pd.read_csv(tmp_path / "book" / "cost.csv")) == 1


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["everything"])
    assert "part = 'everything'" in capsys.readouterr().err
