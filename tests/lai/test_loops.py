"""Slopes in other people's loops: wrapped, compiled, in half precision, with several inputs; right, or refused with the way out."""

import copy
import functools
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import checks
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, grad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import lai

D = torch.float64
WHOLE = torch.__version__ >= (2, 5)
"""Torch 2.4 compiles value and slope in one graph, but not a function with a derivative of its own, as the loss is."""
SHARDED = torch.__version__ >= (2, 6)
"""Since when ``fully_shard`` is public, and runs without a GPU."""


def sample(n: int = 16, d: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g, dtype=dtype), torch.randn(n, generator=g, dtype=dtype)


def model() -> lai.MLP:
    return lai.MLP(3, (16,), activation="tanh", seed=0)


def lai_gradients(sloped: Callable, m: nn.Module, x: Any, y: Tensor) -> list[Tensor]:
    """Of the Lai loss by the weights of ``m``."""
    y_hat, k = sloped(x)
    return list(torch.autograd.grad(lai.lai_loss(y_hat, y, k, lam=0.1), list(m.parameters()), allow_unused=True))


# --- several processes ---------------------------------------------------------------------------------------


def process(rank: int, port: int, kinds: list[str], out: Any) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    for kind in kinds:
        try:
            worst: Any = largest_error(kind, rank)
        except RuntimeError as error:
            worst = str(error)
        out.put((kind, rank, worst))
    torch.distributed.destroy_process_group()


def largest_error(kind: str, rank: int) -> float:
    """Of the gradients of two halves in two processes against those of the whole in one; in two steps."""
    m = lai.MLP(3, (16, 16), activation="tanh", seed=0).to(D)
    alone, criterion = copy.deepcopy(m), lai.LaiLoss(0.1)
    x, y = sample(64, dtype=D)
    inside, method = kind.split()
    wrapped: Any = lai.WithSlopes(m) if inside == "with" else m
    if method in ("fsdp", "layers"):
        from torch.distributed.fsdp import fully_shard

        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        for layer in (p for p in m.modules() if method == "layers" and isinstance(p, nn.Linear)):
            fully_shard(layer, mesh=mesh)
        wrapped = fully_shard(wrapped, mesh=mesh)
    else:
        wrapped = DistributedDataParallel(wrapped, static_graph=method == "static")
    sloped = wrapped if inside == "with" else lambda x: lai.value_and_input_gradient(wrapped, x)
    weight = torch.linspace(0.1, 3.0, len(x), dtype=D).square() if method == "weighted" else None
    worst = 0.0
    for _ in range(2):
        m.zero_grad()
        alone.zero_grad()
        for part in range(2 if method == "no_sync" else 1):
            rows = slice(rank, None, 2) if method != "no_sync" else slice(rank + 2 * part, None, 4)
            with wrapped.no_sync() if method == "no_sync" and part == 0 else nullcontext():
                y_hat, k = sloped(x[rows])
                if weight is not None:  # as the page on loops has it
                    total = weight[rows].sum()
                    torch.distributed.all_reduce(total)
                    loss = lai.LaiLoss(lam=0.1, reduction="sum")(y_hat, y[rows], k, weight[rows])
                    (loss * torch.distributed.get_world_size() / total).backward()
                    continue
                (criterion(y_hat, y[rows], k) / (2 if method == "no_sync" else 1)).backward()
        y_hat, k = lai.value_and_input_gradient(alone, x)
        criterion(y_hat, y, k, weight).backward()
        for p, q in zip(m.parameters(), alone.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None
            found = p.grad.full_tensor() if method in ("fsdp", "layers") else p.grad  # type: ignore[operator]
            worst = max(worst, float((found - q.grad).abs().max()))
    return worst


RIGHT = ["bare plain", "bare no_sync", "with plain", "with static", "with no_sync", "with weighted"]
REFUSED = {"bare static": "static_graph"}
if SHARDED:
    RIGHT += ["with fsdp"]
    REFUSED |= {"bare fsdp": "fully_shard", "with layers": "on no layer inside"}


def test_two_processes_have_the_gradients_of_one_or_are_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = torch.multiprocessing.get_context("fork").SimpleQueue()  # children that need not import torch
    kinds = [*RIGHT, *REFUSED]
    torch.multiprocessing.start_processes(process, (port, kinds, out), 2, start_method="fork")
    found = {}
    for _ in range(2 * len(kinds)):
        kind, rank, worst = out.get()
        found[kind, rank] = worst
    for rank in range(2):
        for kind in RIGHT:
            assert isinstance(found[kind, rank], float) and found[kind, rank] < 1e-12, (kind, found[kind, rank])
        for kind, way_out in REFUSED.items():
            assert isinstance(found[kind, rank], str), kind
            assert "WithSlopes" in found[kind, rank] and way_out in found[kind, rank], (kind, found[kind, rank])


# --- compiled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["features", "step"])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_compiled_in_one_graph_equals_eager(how: str, backend: str) -> None:
    x, y = sample()
    m = model()
    options: dict[str, Any] = {"features": [0, 2]} if how == "features" else {}
    eager = lai.WithSlopes(m, **options)
    if how == "step":
        criterion = lai.LaiLoss(0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            y_hat, k = lai.value_and_input_gradient(m, x)
            return criterion(y_hat, y, k)

        loss = torch.compile(step, fullgraph=WHOLE, backend=backend)(x, y)
        got = list(torch.autograd.grad(loss, list(m.parameters())))
    else:
        compiled = torch.compile(eager, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(x), eager(x))
        got = lai_gradients(compiled, m, x, y)
    torch.testing.assert_close(got, lai_gradients(eager, m, x, y))


def test_fit_takes_a_compiled_model_with_slopes() -> None:
    eager, compiled = model(), model()
    settings: dict[str, Any] = {"criterion": lai.LaiLoss(0.1), "epochs": 2, "batch_size": 8, "lr": 0.01, "seed": 0}
    lai.fit(eager, sample(), device="cpu", **settings)
    program = torch.compile(lai.WithSlopes(compiled), backend="aot_eager", dynamic=False)
    lai.fit(program, sample(), device="cpu", **settings)
    checks.same(eager, compiled, rtol=1e-4, atol=1e-6)


def test_inside_a_transform_of_torch_func() -> None:
    m, (x, y) = model(), sample()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        y_hat, k = lai.value_and_input_gradient(lambda z: functional_call(m, weights, (z,)), x)
        return lai.lai_loss(y_hat, y, k, lam=0.1)

    got = grad(loss)(dict(m.named_parameters()))
    torch.testing.assert_close(list(got.values()), lai_gradients(lai.WithSlopes(m), m, x, y))


def test_several_outputs_inside_a_transform() -> None:
    m, (x, _) = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), sample()
    inside = torch.func.functionalize(lambda x: lai.value_and_input_gradient(m, x)[1])(x)
    torch.testing.assert_close(inside, lai.value_and_input_gradient(m, x)[1])


# --- what cannot be differentiated twice ---------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.out = nn.Linear(1, 12), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(x[..., None]).unflatten(-1, (3, 4)).unbind(2)
        h = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return self.out(h[:, 0].mean(1))[:, 0]


class Reentrant(nn.Module):
    def __init__(self, use_reentrant: bool = True) -> None:
        super().__init__()
        self.inner, self.use_reentrant = model(), use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.use_reentrant)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g * ctx.saved_tensors[0]


class Cut(Square):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g.detach() * ctx.saved_tensors[0].detach()


class Once(nn.Module):
    """Torch alone says nothing here: the second derivative by the first layer is silently left out."""

    def __init__(self, square: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.inner, self.square = model(), square

    def forward(self, x: Tensor) -> Tensor:
        return self.square.apply(self.inner(x))  # type: ignore[no-untyped-call]


class Residual(Once):
    """One way is cut, and another is not."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner[0](x)  # type: ignore[operator, index]
        return (h + self.square.apply(h)).sum(1)  # type: ignore[no-untyped-call]


DEAD_ENDS: list[tuple[Callable[[], nn.Module], str]] = [
    (Attention, "sdpa_kernel"),
    (Reentrant, "use_reentrant=False"),
    (lambda: torch.compile(model(), backend="aot_eager"), "WithSlopes"),  # type: ignore[list-item, return-value]
    (lambda: Once(Square), "differentiable operations"),
    (lambda: Once(Cut), "differentiable operations"),
    (lambda: Residual(Cut), "differentiable operations"),
]


@pytest.mark.parametrize(("make", "way_out"), DEAD_ENDS)
def test_what_has_no_second_derivative_is_refused_at_the_slope(make: Callable, way_out: str) -> None:
    x, _ = sample()
    m = make()
    checks.refused(RuntimeError, f"the slopes cannot be trained on: .*{way_out}", lai.value_and_input_gradient, m, x)


@pytest.mark.parametrize(("make", "way_out"), DEAD_ENDS)
def test_fit_refuses_it_before_the_pretraining(make: Callable, way_out: str) -> None:
    m = make()
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 8, "lr": 0.01, "seed": 0, "device": "cpu"}
    late = {"criterion": lai.LaiLoss(0.1), "schedule": lai.LaiSchedule(0.5, pretrain_epochs=3)}
    with checks.untouched(m):
        checks.refused(RuntimeError, f".*{way_out}", lai.fit, m, sample(), **settings, **late)
    if make is Reentrant:  # on inputs without a gradient it gives none to the weights either
        checks.refused(ValueError, "model: no parameter receives a gradient", lai.fit, m, sample(), **settings)
    else:
        lai.fit(m, sample(), **settings)  # plain training needs no slope


@pytest.mark.parametrize("make", [Attention, lambda: Once(Square), lambda: Once(Cut)])
def test_what_is_compiled_or_swept_is_searched_before_it_is_trained(make: Callable) -> None:
    """Compiled, the last one would be silently wrong."""
    m, (x, y) = make(), sample()
    late: dict[str, Any] = {"epochs": 4, "batch_size": 8, "seed": 0}
    compiled = torch.compile(lai.WithSlopes(m), backend="aot_eager")
    refused = functools.partial(checks.refused, RuntimeError, "the slopes cannot be trained on: .*")
    with checks.untouched(m):
        schedule = lai.LaiSchedule(0.5, pretrain_epochs=3)
        refused(lai.fit, compiled, (x, y), criterion=lai.LaiLoss(0.1), schedule=schedule, lr=0.01, device="cpu", **late)
        refused(lai.choose_lam, m, (x, y), (x, y), max_error=0.1, lr=0.01, device="cpu", **late)


def test_fused_attention_inside_a_transform_is_refused_at_the_slope() -> None:
    m, (x, _) = Attention(), sample()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return lai.value_and_input_gradient(lambda z: functional_call(m, weights, (z,)), x)[1].sum()

    checks.refused(
        RuntimeError, "the slopes cannot be trained on: .*sdpa_kernel", grad(loss), dict(m.named_parameters())
    )
    with sdpa_kernel(SDPBackend.MATH):
        assert all(torch.isfinite(g).all() for g in grad(loss)(dict(m.named_parameters())).values())


def test_the_ways_out_are_ways_out() -> None:
    x, y = sample()
    attention = Attention()
    with sdpa_kernel(SDPBackend.MATH):
        got = lai_gradients(lai.WithSlopes(attention), attention, x, y)

    class ByHand(Attention):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.into(x[..., None]).unflatten(-1, (3, 4)).unbind(2)
            return self.out((torch.softmax(q @ k.transpose(1, 2) / 2, -1) @ v).mean(1))[:, 0]

    by_hand = ByHand()
    torch.testing.assert_close(got, lai_gradients(lai.WithSlopes(by_hand), by_hand, x, y), rtol=1e-4, atol=1e-5)
    saving = Reentrant(use_reentrant=False)
    got = lai_gradients(lai.WithSlopes(saving), saving, x, y)
    torch.testing.assert_close(got, lai_gradients(lai.WithSlopes(saving.inner), saving, x, y))


def test_a_model_is_searched_once_in_each_mode_and_a_function_always(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[Any] = []
    monkeypatch.setattr("lai.gradient.refuse_dead_ends", lambda *graph: searched.append(graph))
    (x, _), m = sample(), model()
    for training in (True, True, False, False):
        lai.value_and_input_gradient(m.train(training), x)
    assert len(searched) == 2
    function = lambda x: m(x)  # noqa: E731 it may hold another model by the next call
    for _ in range(2):
        lai.value_and_input_gradient(function, x)
    assert len(searched) == 4


def test_slopes_only_to_look_at_need_no_second_derivative() -> None:
    x, _ = sample()
    _, k = lai.value_and_input_gradient(Once(Square), x, create_graph=False)
    m = Once(Square).inner
    y_hat, inner = lai.value_and_input_gradient(m, x)
    torch.testing.assert_close(k, (2 * y_hat[:, None] * inner).detach())


# --- half precision ------------------------------------------------------------------------------------------


def steep() -> nn.Sequential:
    """Near zero its slopes leave float16, and its outputs do not."""
    m = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    for p in m.parameters():
        nn.init.constant_(p, 300.0 if p.ndim == 2 else 0.0)
    return m


def test_a_scale_keeps_the_slopes_within_float16() -> None:
    x, m = 1e-3 * sample()[0], steep()
    exact = lai.value_and_input_gradient(m, x, create_graph=False)[1]
    with torch.autocast("cpu", torch.float16):
        checks.refused(FloatingPointError, "scale = None", lai.value_and_input_gradient, m, x)
        _, k = lai.value_and_input_gradient(m, x, scale=2.0**-8)
    assert k.dtype == torch.float32 and torch.isfinite(k).all()
    torch.testing.assert_close(k.detach(), exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))


def test_one_slope_that_leaves_float16_is_one_too_many() -> None:
    by, x = torch.tensor([256.0, 1.0]).half(), torch.full((2, 1), 1e-4).half()
    steep_for_one = lambda t: t[:, 0] * by * 512  # noqa: E731
    checks.refused(FloatingPointError, "scale = None", lai.value_and_input_gradient, steep_for_one, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaled_gradients_under_autocast_are_those_of_float32(dtype: torch.dtype) -> None:
    m, (x, y) = model(), sample()
    want = lai_gradients(lai.WithSlopes(m), m, x, y)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with torch.autocast("cpu", dtype):
        y_hat, k = lai.value_and_input_gradient(m, x, scale=scaler)
    scaler.scale(lai.lai_loss(y_hat, y, k, lam=0.1)).backward()
    for p, g in zip(m.parameters(), want, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad / 1024, g, rtol=0, atol=0.03 * max(float(t.abs().max()) for t in want))


def test_a_scale_keeps_small_slopes_from_vanishing() -> None:
    m = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    for layer in m:
        nn.init.constant_(layer.weight, 1e-4)  # type: ignore[arg-type]
    for scale, want in ((None, 0.0), (1024.0, 1e-8)):
        with torch.autocast("cpu", torch.float16):
            _, k = lai.value_and_input_gradient(m, torch.ones(4, 1), scale=scale, create_graph=False)
        assert float(k[0, 0]) == pytest.approx(want, rel=0.01)


# --- several inputs ------------------------------------------------------------------------------------------


class Mixed(nn.Module):
    """Continuous columns beside a table's rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.inner = nn.Embedding(4, 1), model()

    def forward(self, x: Tensor, rows: Tensor, shift: Tensor | None = None) -> Tensor:
        y = self.inner(torch.cat([x, self.table(rows)], 1))
        return y if shift is None else y * shift


def test_tuples_dicts_and_closures_are_one() -> None:
    m, (x, _) = Mixed(), sample(d=2)
    rows, shift = torch.arange(16) % 4, torch.rand(16)
    want = lai.value_and_input_gradient(lambda x: m(x, rows), x)
    for inputs in ((x, rows), [x, rows], {"rows": rows, "x": x}):
        torch.testing.assert_close(lai.value_and_input_gradient(m, inputs), want)
        lai.assert_independent_samples(m, inputs)
    torch.testing.assert_close(lai.WithSlopes(m)(x, rows=rows), want)
    lai.assert_independent_samples(lambda x: m(x, rows), x)

    inputs = {"x": x, "rows": rows, "shift": shift}
    y_hat, k = lai.value_and_input_gradient(m, inputs, wrt="shift")
    torch.testing.assert_close(k, y_hat / shift)
    _, both = lai.value_and_input_gradient(m, inputs, wrt=("shift", "x"))
    torch.testing.assert_close(both, torch.cat([k[:, None], want[1] * shift[:, None]], 1))
    checks.refused(ValueError, "wrt = None", lai.value_and_input_gradient, m, inputs)
    checks.refused(ValueError, "wrt = 'z'", lai.value_and_input_gradient, m, inputs, wrt="z")
    checks.refused(TypeError, "wrt = 'rows'", lai.value_and_input_gradient, m, inputs, wrt="rows")
    checks.refused(TypeError, "inputs are of torch.int64", lai.value_and_input_gradient, m.table, rows)
    assert not x.requires_grad and not shift.requires_grad


def test_inference_mode_with_several_inputs() -> None:
    m = Mixed()
    with torch.inference_mode():
        inputs = torch.rand(4, 2), torch.arange(4)
        _, k = lai.value_and_input_gradient(m, inputs)
    torch.testing.assert_close(k, lai.value_and_input_gradient(m, tuple(t.clone() for t in inputs))[1].detach())


def test_samples_that_mix_through_one_of_several_inputs_are_found() -> None:
    x = torch.rand(6, 2)
    for f in (lambda a, b: (a - a.mean(0) + b).sum(1), lambda a, b: (a + b - b.mean(0)).sum(1)):
        with pytest.raises(RuntimeError, match="not independent"):
            lai.assert_independent_samples(f, (x, x))


def test_features_are_chosen_by_number_or_mask() -> None:
    x = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))

    def f(x: Tensor) -> Tensor:
        return (x**2).sum((1, 2))

    mask = torch.tensor([[True, False, False], [False, True, True]])
    want = 2 * x[:, mask]
    for features in (mask, mask.numpy(), mask.tolist(), [0, 4, 5], torch.tensor([0, 4, 5])):
        torch.testing.assert_close(lai.value_and_input_gradient(f, x, features=features, create_graph=False)[1], want)
    two = lai.value_and_input_gradient(lambda x: torch.stack([f(x), -f(x)], 1), x, features=mask)[1]
    torch.testing.assert_close(two.detach(), torch.stack([want, -want], 1))
    for features in ([6], [-1], [], [True, False], mask & False, [0.5], "x"):
        checks.refused(ValueError, "features = ", lai.value_and_input_gradient, f, x, features=features)


@pytest.mark.parametrize("form", ["tuple", "dict"])
@pytest.mark.parametrize("sampling", ["batches", "points"])
def test_fit_with_several_inputs_equals_fit_with_one(form: str, sampling: str) -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.inner(torch.cat([a, b], 1))

    (x, y), one, split = sample(), model(), Split()
    a, b = x[:, :1], x[:, 1:]
    inputs = (a, b) if form == "tuple" else {"b": b, "a": a}
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 8, "lr": 0.01, "seed": 0, "device": "cpu"}
    settings |= {"criterion": lai.LaiLoss(0.1), "schedule": lai.LaiSchedule(0.5, sampling=sampling)}  # type: ignore[arg-type]
    want = lai.fit(one, (x, y), val=(x, y), **settings)
    wrt = (0, 1) if form == "tuple" else ("a", "b")
    got = lai.fit(lai.WithSlopes(split, wrt=wrt), (inputs, y), val=(inputs, y), **settings)
    checks.same(split.inner, one, rtol=1e-5, atol=1e-6)
    assert got["val_rmse"] == pytest.approx(want["val_rmse"], rel=1e-5)
    checks.refused(ValueError, "wrt = None", lai.fit, split, (inputs, y), **settings)


def test_a_new_gradscaler_has_a_scale_that_float16_does_not_hold() -> None:
    x = torch.linspace(-1, 1, 8)[:, None].half()
    _, k = lai.value_and_input_gradient(lambda t: t[:, 0] / 2, x, scale=torch.amp.GradScaler("cpu"))
    assert k.dtype == torch.float32 and torch.equal(k, torch.full((8, 1), 0.5))


def test_a_fit_inside_autocast_moves_the_weights_that_it_sees() -> None:
    """Autocast keeps copies of the weights until it ends."""
    x, y = sample(64)
    settings = {"epochs": 5, "batch_size": 16, "lr": 0.01, "seed": 0, "device": "cpu", "val": (x, y)}
    exact = lai.fit(model(), (x, y), criterion=lai.LaiLoss(0.1), **settings)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = lai.fit(model(), (x, y), criterion=lai.LaiLoss(0.1), **settings)
    for name in ("loss", "val_rmse"):
        assert narrow[name] == pytest.approx(exact[name], rel=0.02), name
        assert exact[name][-1] < 0.95 * exact[name][0]
