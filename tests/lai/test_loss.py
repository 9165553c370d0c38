"""The loss, and its parts by direction, against their definitions written out, and against torch's own losses."""

import copy
import functools
import itertools
import math
import warnings
from typing import Any

import checks
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lai
from lai import directional_losses
from lai.loss import plain_loss

D = torch.float64


def batch(n: int = 6, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, generator=g, dtype=D),
        torch.randn(n, generator=g, dtype=D),
        2 * torch.randn(n, d, generator=g, dtype=D),
    )


def by_hand(
    y_hat: Tensor, y: Tensor, k: Tensor, lam: list[float], base: str, norm: str, ratio: float, order: str
) -> float:
    """Section 3.1 and 3.2 with nothing but Python floats."""
    n, d = k.shape
    rows = []
    for i in range(n):
        e = y_hat[i].item() - y[i].item()
        row = []
        for j in range(d):
            kij, lj = k[i, j].item(), lam[j]
            if base == "mse":
                row.append(e**2 * max(kij**2, lj) / (1 + kij**2) / min(1, lj))
            else:
                row.append(abs(e) * max(abs(kij), lj) / math.sqrt(1 + kij**2) / min(1, lj))
        rows.append(row)

    def size(v: list[float]) -> float:
        l1, l2 = sum(v), math.sqrt(sum(a * a for a in v))
        return {"l1": l1, "l2": l2, "elastic": ratio * l1 + (1 - ratio) * l2}[norm]

    if order == "sample":
        return sum(map(size, rows)) / n
    return size([sum(r[j] for r in rows) / n for j in range(d)])


@pytest.mark.parametrize(
    ("base", "norm", "order"), list(itertools.product(["mae", "mse"], ["l1", "l2", "elastic"], ["sample", "batch"]))
)
def test_equals_the_definition(base: str, norm: str, order: str) -> None:
    y_hat, y, k = batch()
    lam = [0.1, 1.0, 5.0]
    ratio = 0.3 if norm == "elastic" else None
    options = {"lam": lam, "base": base, "norm": norm, "l1_ratio": ratio, "order": order}
    got = lai.lai_loss(y_hat, y, k, **options)  # type: ignore[arg-type]
    assert got.item() == pytest.approx(by_hand(y_hat, y, k, lam, base, norm, ratio or 0, order), rel=1e-13)
    total = lai.lai_loss(y_hat, y, k, **options, reduction="sum")  # type: ignore[arg-type]
    assert total.item() == pytest.approx(6 * got.item(), rel=1e-13)
    column = lai.lai_loss(y_hat[:, None], y[:, None], k, **options)  # type: ignore[arg-type]
    assert column.item() == pytest.approx(got.item(), rel=1e-15)
    module = lai.LaiLoss(**options)  # type: ignore[arg-type]
    assert module(y_hat, y, k).item() == got.item()


def test_what_is_not_said_is_lam_1_mse_and_l2() -> None:
    y_hat, y, k = batch()
    want = by_hand(y_hat, y, k, [1.0] * 3, "mse", "l2", 0, "sample")
    for loss in (lai.lai_loss, lai.LaiLoss()):
        assert loss(y_hat, y, k).item() == pytest.approx(want, rel=1e-13)
    torch.testing.assert_close(directional_losses(y_hat, y, k), directional_losses(y_hat, y, k, lam=1.0, base="mse"))


def test_reduction_none_keeps_the_shape() -> None:
    y_hat, y, k = batch()
    each = lai.lai_loss(y_hat, y, k, lam=0.5, reduction="none")
    assert each.shape == (6,)
    torch.testing.assert_close(each.mean(), lai.lai_loss(y_hat, y, k, lam=0.5))
    assert lai.lai_loss(y_hat[:, None], y[:, None], k, reduction="none").shape == (6, 1)


def test_batch_order_is_at_most_sample_order_and_equal_for_l1() -> None:
    for seed in range(20):
        y_hat, y, k = batch(seed=seed)
        sample, joint = (lai.lai_loss(y_hat, y, k, lam=0.3, order=o) for o in ("sample", "batch"))
        assert joint < sample
        sample, joint = (lai.lai_loss(y_hat, y, k, lam=0.3, norm="l1", order=o) for o in ("sample", "batch"))
        torch.testing.assert_close(sample, joint)
        row = k[:1].expand_as(k)  # parallel vectors: the two orders meet
        sample, joint = (lai.lai_loss(y_hat, y, row, lam=0.3, order=o) for o in ("sample", "batch"))
        torch.testing.assert_close(sample, joint)


@pytest.mark.parametrize("order", ["sample", "batch"])
@pytest.mark.parametrize("norm", ["l1", "l2", "elastic"])
def test_flat_model_has_root_d_times_its_mse_and_normalize_mends_it(norm: str, order: str) -> None:
    y_hat, y, _ = batch()
    k = torch.zeros(6, 4, dtype=D)
    ratio = 0.25 if norm == "elastic" else None
    mse = torch.nn.functional.mse_loss(y_hat, y).item()
    step = {"l1": 4.0, "l2": 2.0, "elastic": 0.25 * 4 + 0.75 * 2}[norm]
    options = {"lam": 0.1, "norm": norm, "l1_ratio": ratio, "order": order}
    assert lai.lai_loss(y_hat, y, k, **options).item() == pytest.approx(step * mse)  # type: ignore[arg-type]
    assert lai.lai_loss(y_hat, y, k, **options, normalize=True).item() == pytest.approx(mse)  # type: ignore[arg-type]
    mae = torch.nn.functional.l1_loss(y_hat, y).item()
    options["base"] = "mae"
    assert lai.lai_loss(y_hat, y, k, **options, normalize=True).item() == pytest.approx(mae)  # type: ignore[arg-type]


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("order", ["sample", "batch"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_derivatives_against_finite_differences(base: str, norm: str, order: str) -> None:
    loss = functools.partial(lai.lai_loss, lam=0.7, base=base, norm=norm, order=order)  # type: ignore[arg-type]
    checks.derivatives(loss, *batch(4))


@pytest.mark.parametrize("base", ["mae", "mse"])
@pytest.mark.parametrize("order", ["sample", "batch"])
@pytest.mark.parametrize("k_value", [0.0, 0.7, 1e30])
def test_no_nan_at_zero_error_zero_slope_or_a_tie(base: str, order: str, k_value: float) -> None:
    lam = 0.7 if base == "mae" else 0.49
    y_hat, k = torch.tensor([1.0, 2.0]), torch.full((2, 3), k_value)
    for y in (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0])):  # every error zero, then one of them
        loss = lambda y_hat, k, y=y: lai.lai_loss(y_hat, y, k, lam=lam, base=base, order=order)  # type: ignore # noqa: E731
        checks.finite(loss, y_hat, k)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(("order", "reduction"), [("sample", "none"), ("sample", "mean"), ("batch", "mean")])
def test_samples_may_come_in_any_order(norm: Any, order: Any, reduction: Any) -> None:
    checks.alike_in_any_order(functools.partial(lai.lai_loss, norm=norm, order=order, reduction=reduction), *batch())


def test_error_zero_makes_the_slope_free() -> None:
    """The loss is multiplicative: an interpolating model is never smoothed."""
    k = torch.full((2, 1), 50.0, requires_grad=True)
    y = torch.tensor([1.0, 2.0])
    loss = lai.lai_loss(y, y, k, lam=1e-3)
    (pull,) = torch.autograd.grad(loss, k)
    assert loss.item() == 0 and (pull == 0).all()


def test_images_lam_per_pixel_and_one_input() -> None:
    y_hat, y, _ = batch()
    k = torch.randn(6, 2, 5, 5, dtype=D)
    per_channel = torch.tensor([0.1, 2.0], dtype=D).reshape(2, 1, 1)
    full = lai.lai_loss(y_hat, y, k, lam=per_channel)
    flat = lai.lai_loss(y_hat, y, k.reshape(6, 50), lam=per_channel.expand(2, 5, 5).reshape(50))
    torch.testing.assert_close(full, flat)
    one = lai.lai_loss(y_hat, y, k[:, 0, 0, 0], lam=0.1)
    torch.testing.assert_close(one, lai.lai_loss(y_hat, y, k[:, 0, 0, :1], lam=0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    y_hat, y, k = (t.to(dtype) for t in batch())
    y_hat = y_hat + 300  # its square leaves float16
    got = lai.lai_loss(y_hat, y, k * 1000, lam=0.01)
    want = lai.lai_loss(y_hat.float(), y.float(), (k * 1000).float(), lam=0.01)
    assert got.dtype == torch.float32 and torch.isfinite(got)
    torch.testing.assert_close(got, want)


def test_float64_list_does_not_widen_float32() -> None:
    y_hat, y, k = (t.float() for t in batch())
    assert lai.LaiLoss([0.1, 0.2, 0.3])(y_hat, y, k).dtype == torch.float32


def test_lam_buffer_survives_casts_and_state_dicts() -> None:
    module = lai.LaiLoss(1e-8).half()
    assert module.lam.item() == 1e-8  # zero in float16
    other = lai.LaiLoss(1.0)
    other.load_state_dict(module.state_dict())
    assert other.lam.item() == 1e-8
    assert "lam=1e-08" in repr(other) and "norm='l2'" in repr(other)
    assert "l1_ratio=0.5" in repr(lai.LaiLoss(norm="elastic", l1_ratio=0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(6, 1)}, r"target has shape \(6, 1\) and input \(6,\)"),
        ({"input": torch.zeros(6, 2), "target": torch.zeros(6, 2)}, r"grad has shape \(6, 3\).*N = 6, M = 2"),
        ({"input": torch.zeros(0), "target": torch.zeros(0), "grad": torch.zeros(0, 3)}, "input is empty"),
        ({"grad": torch.zeros(5, 3)}, r"grad has shape \(5, 3\).*N = 6"),
        ({"lam": [0.1, 0.2]}, r"lam has shape \(2,\).*features of grad, \(3,\)"),
        ({"lam": torch.ones(6, 3)}, ".*features of grad"),
        ({"lam": 0.0}, "lam = 0.0"),
        ({"base": "rmse"}, "base = 'rmse'"),
        ({"norm": "l3"}, "norm = 'l3'"),
        ({"norm": "elastic"}, "l1_ratio = None"),
        ({"norm": "elastic", "l1_ratio": 1.5}, "l1_ratio = 1.5"),
        ({"norm": "elastic", "l1_ratio": math.nan}, "l1_ratio = nan"),
        ({"l1_ratio": 0.5}, "l1_ratio = 0.5"),
        ({"order": "epoch"}, "order = 'epoch'"),
        ({"order": "batch", "reduction": "none"}, "reduction = 'none'"),
        ({"reduction": "median"}, "reduction = 'median'"),
        ({"base": "quantile"}, "base = 'quantile'"),
        ({"base": ("quantile", 1.0)}, r"base = \('quantile', 1.0\)"),
        ({"base": ("huber", 0.0)}, r"base = \('huber', 0.0\)"),
        ({"base": ("mse", 2.0)}, r"base = \('mse', 2.0\)"),
        ({"base": ["mse"]}, r"base = \['mse'\]"),
        ({"base": lambda input, target: (input - target).square().mean()}, r"base returned \(\)"),
        ({"factor": "huber"}, "factor = 'huber'"),
        ({"weight": torch.ones(5)}, r"weight has shape \(5,\)"),
        ({"lam": 1e-100}, "lam = 1e-100"),
        ({"lam": [1e-100, 1.0, 1.0]}, "lam = 1e-100"),
        ({"input": torch.zeros(6, 2), "target": torch.zeros(6, 2), "grad": torch.zeros(6, 3, 2)}, "grad has shape"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    arguments = {"input": torch.zeros(6), "target": torch.zeros(6), "grad": torch.zeros(6, 3)} | change
    checks.refused(ValueError, message, lai.lai_loss, **arguments)


def test_bad_types_are_named() -> None:
    y = torch.zeros(2)
    checks.refused(TypeError, "target has dtype torch.int64", lai.lai_loss, y, y.long(), y)
    checks.refused(TypeError, "grad is a list", lai.lai_loss, y, y, [0.0, 0.0])
    for loss in (lai.LaiLoss, functools.partial(lai.lai_loss, y, y, y)):
        checks.refused(TypeError, "normalize = 'no'", loss, normalize="no")
    checks.refused(TypeError, r"weight = \[1.0, 1.0\]", lai.lai_loss, y, y, y, weight=[1.0, 1.0])


def test_batch_order_is_refused_where_it_does_not_decompose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    y = torch.zeros(2)
    lai.lai_loss(y, y, y)
    checks.refused(ValueError, "order = 'batch'.*2 processes", lai.lai_loss, y, y, y, order="batch")


def test_tiny_errors_do_not_overflow_the_batch_order() -> None:
    y_hat = torch.full((4,), 1e-20, requires_grad=True)
    loss = lai.lai_loss(y_hat, torch.zeros(4), torch.ones(4, 2, requires_grad=True), order="batch", base="mse")
    (g,) = torch.autograd.grad(loss, y_hat)
    assert torch.isfinite(g).all()


@pytest.mark.parametrize("size", [1e-310, 1e-300, 1.0])
def test_batch_order_pulls_the_same_at_any_size_of_equal_errors(size: float) -> None:
    """MAE has a pull that does not depend on the error, down to errors too small to divide by."""
    k = batch()[2].requires_grad_()
    y_hat = torch.full((6,), size, dtype=D, requires_grad=True)
    loss = lai.lai_loss(y_hat, torch.zeros(6, dtype=D), k, lam=0.3, base="mae", order="batch", norm="l1")
    (pull,) = torch.autograd.grad(loss, y_hat)
    factors = lai.lai_factor(k, 0.3, base="mae").sum(1)
    assert pull.sum().item() == pytest.approx(factors.mean().item(), rel=1e-9)


def test_deferred_initialisation() -> None:
    module = lai.LaiLoss(0.1).to("meta").to_empty(device="cpu")
    assert module.lam.shape == () and module.lam.device.type == "cpu"


def test_lam_beyond_the_precision_or_spoilt_in_place_is_refused() -> None:
    y = torch.ones(2)
    for lam in (1e-100, 1e300):
        checks.refused(ValueError, f"lam = {lam}".replace("+", "."), lai.LaiLoss(lam), y, y, y)
        assert torch.isfinite(lai.LaiLoss(lam)(y.double(), y.double(), y.double()))
    module = lai.LaiLoss([0.1, 2.0])
    k = torch.ones(2, 2)
    module(y, y, k)
    module.lam[1] = -2.0
    checks.refused(ValueError, r"lam\[1\] = -2.0", module, y, y, k)
    checks.refused(ValueError, r"lam\[1\] = -2.0", copy.deepcopy(module), y, y, k)
    module.lam = torch.tensor([math.nan, 1.0])
    checks.refused(ValueError, r"lam\[0\] = nan", module, y, y, k)
    module.lam.fill_(1.0)
    assert module(y, y, k).item() == lai.lai_loss(y, y, k).item()


@pytest.mark.parametrize("loss", [lai.lai_loss, lambda *args, lam, norm="l2": lai.LaiLoss(lam, norm=norm)(*args)])
def test_a_lam_whose_squares_overflow_in_the_norm_is_refused(loss: Any) -> None:
    y, k = torch.ones(4), torch.ones(4, 3)
    for lam in (1e-17, 1e-20, 1e17, [1.0, 1e20, 1.0]):
        checks.refused(ValueError, "lam = .*must be between .* squares that the norm sums", loss, y, 0 * y, k, lam=lam)
        assert torch.isfinite(loss(y.double(), 0 * y.double(), k.double(), lam=lam))
        assert torch.isfinite(loss(y, 0 * y, k, lam=lam, norm="l1"))
    assert torch.isfinite(loss(y, 0 * y, k[:, :1], lam=1e-20)) and torch.isfinite(loss(y, 0 * y, k, lam=1e15))
    wide = torch.zeros(1, 10**6)
    assert torch.isfinite(loss(y[:1], 0 * y[:1], wide, lam=1e15)) and torch.isfinite(
        loss(y[:1], 0 * y[:1], wide, lam=1e-15)
    )


def test_a_lam_written_past_autograd_is_seen() -> None:
    y, module = torch.ones(2), lai.LaiLoss(0.1)
    module(y, y, y)
    module.lam.data.fill_(-1.0)
    checks.refused(ValueError, "lam = -1.0", module, y, y, y)


def test_negative_errors_are_refused() -> None:
    y = torch.ones(2)
    checks.refused(
        ValueError, "base returned an error of -1: errors must be at least 0", lai.lai_loss, y, 2 * y, y, base=torch.sub
    )


def test_slopes_of_several_outputs_are_not_taken_for_features() -> None:
    x, model = torch.randn(8, 3), nn.Linear(3, 2)
    y_hat, k = lai.value_and_input_gradient(model, x)
    for one in (y_hat[:, 0], y_hat[:, :1]):
        checks.refused(
            ValueError, r"grad has shape .*slopes of 2 outputs.*grad\[:, j\]", lai.lai_loss, one, one.detach(), k
        )
        assert (
            lai.lai_loss(one, one.detach() + 1, k[:, 0]) > 0 and lai.lai_loss(one, one.detach() + 1, k.flatten(1)) > 0
        )
    assert lai.lai_loss(y_hat, y_hat.detach() + 1, k) > 0


@pytest.mark.parametrize("bad", [-1.0, 0.0, math.inf, math.nan])
def test_a_bad_lam_is_not_loaded(bad: float) -> None:
    model = nn.ModuleDict({"loss": lai.LaiLoss(0.5)})
    checks.refused(ValueError, f"loss.lam = {bad}", model.load_state_dict, {"loss.lam": torch.tensor(bad)})
    assert model["loss"].lam.item() == 0.5


def test_a_device_without_float64() -> None:
    """Its casts, and that lam stays in float32 where it cannot be wider."""

    def to_mps(t: Tensor) -> Tensor:
        if t.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return t

    assert lai.LaiLoss(0.1)._apply(to_mps).lam.item() == 0.1

    class Narrow(lai.LaiLoss):
        def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
            super().register_buffer(name, tensor.float(), persistent)  # as after a move

    module = Narrow(0.1)
    assert module.lam.dtype == torch.float32
    y_hat, y, k = (t.float() for t in batch())
    torch.testing.assert_close(module(y_hat, y, k), lai.lai_loss(y_hat, y, k, lam=0.1))


# --- other errors, weights, several outputs ----------------------------------------------------------------------


def pinball(y_hat: Tensor, y: Tensor) -> Tensor:
    return torch.where(y > y_hat, 0.9 * (y - y_hat), 0.1 * (y_hat - y))


ERRORS: list[Any] = [
    ("mae", "mae", lambda a, b: (a - b).abs()),
    ("mse", "mse", lambda a, b: (a - b) ** 2),
    ("huber", "mse", functools.partial(torch.nn.functional.huber_loss, reduction="none")),
    (("huber", 0.3), "mse", functools.partial(torch.nn.functional.huber_loss, reduction="none", delta=0.3)),
    (("quantile", 0.9), "mae", pinball),
]


@pytest.mark.parametrize(("base", "factor", "error"), ERRORS)
def test_every_error_is_weighed_by_its_factor(base: Any, factor: Any, error: Any) -> None:
    y_hat, y, k = batch(9)
    e, lam = error(y_hat, y), [0.1, 1.0, 5.0]
    want = e * lai.lai_factor(k, torch.tensor(lam, dtype=D), base=factor).norm(dim=1)
    torch.testing.assert_close(lai.lai_loss(y_hat, y, k, lam=lam, base=base, reduction="none"), want)
    own = lai.lai_loss(y_hat, y, k, lam=lam, base=error, factor=factor, reduction="none")
    torch.testing.assert_close(own, want)
    torch.testing.assert_close(plain_loss(base)(y_hat, y), e.mean())
    torch.testing.assert_close(plain_loss(error)(y_hat, y), e.mean())
    other = "mse" if factor == "mae" else "mae"
    swapped = e[:, None] * lai.lai_factor(k, 0.3, base=other)  # type: ignore[arg-type]
    torch.testing.assert_close(directional_losses(y_hat, y, k, lam=0.3, base=base, factor=other), swapped)
    checks.derivatives(functools.partial(lai.lai_loss, lam=0.7, base=base), y_hat[:4], y[:4], k[:4])


@pytest.mark.parametrize("order", ["sample", "batch"])
def test_a_weight_counts_like_so_many_samples(order: Any) -> None:
    y_hat, y, k = batch()
    weight = torch.tensor([1, 0, 3, 1, 2, 1])
    again = [t.repeat_interleave(weight, 0) for t in (y_hat, y, k)]
    for reduction in ("mean", "sum"):
        loss = functools.partial(lai.lai_loss, lam=0.3, order=order, reduction=reduction)  # type: ignore[arg-type]
        torch.testing.assert_close(loss(y_hat, y, k, weight=weight), loss(*again))
    module = lai.LaiLoss(0.3, order=order)
    torch.testing.assert_close(module(y_hat, y, k, weight), module(*again))


@pytest.mark.parametrize("order", ["sample", "batch"])
@pytest.mark.parametrize("base", ["mse", "mae", ("quantile", 0.2)])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), ()])
def test_every_output_has_its_own_loss(order: Any, base: Any, shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    y_hat, y = torch.randn(2, 7, 4, generator=g, dtype=D)
    k = torch.randn(7, 4, *shape, generator=g, dtype=D)
    weight = torch.rand(7, generator=g, dtype=D)
    loss = functools.partial(lai.lai_loss, lam=0.3, base=base, order=order)
    alone = torch.stack([loss(y_hat[:, m], y[:, m], k[:, m], weight=weight) for m in range(4)])
    torch.testing.assert_close(loss(y_hat, y, k, weight=weight), alone.mean())
    columns = weight[:, None].expand(7, 4)
    torch.testing.assert_close(loss(y_hat, y, k, weight=columns, reduction="sum"), alone.sum() * weight.sum())
    if order == "sample":
        each = [loss(y_hat[:, m], y[:, m], k[:, m], reduction="none") for m in range(4)]
        torch.testing.assert_close(loss(y_hat, y, k, reduction="none"), torch.stack(each, 1))
    directions = directional_losses(y_hat, y, k, base=base)
    torch.testing.assert_close(directions[:, 1], directional_losses(y_hat[:, 1], y[:, 1], k[:, 1], base=base))


def test_outputs_in_other_units_take_their_own_lam() -> None:
    k = torch.randn(7, 2, 3, dtype=D)
    zeros, ones = torch.zeros(7, 2, dtype=D), torch.ones(7, 2, dtype=D)
    got = lai.lai_loss(zeros, ones, k, lam=[[0.1], [2.0]], reduction="none")
    want = [
        lai.lai_loss(zeros[:, m], ones[:, m], k[:, m], lam=lam, reduction="none") for m, lam in ((0, 0.1), (1, 2.0))
    ]
    torch.testing.assert_close(got, torch.stack(want, 1))


def test_a_classifier_by_the_slope_of_its_log_likelihood() -> None:
    model, x, labels = nn.Linear(3, 4).double(), torch.randn(8, 3, dtype=D, requires_grad=True), torch.arange(8) % 4
    cross_entropy = functools.partial(torch.nn.functional.cross_entropy, reduction="none")
    logits = model(x)
    k = lai.input_gradient(cross_entropy(logits, labels), x)
    loss = lai.lai_loss(logits, labels, k, lam=0.1, base=cross_entropy)
    p = logits.softmax(1)
    by_hand = model.weight[labels] - p @ model.weight  # d log p / dx of a linear classifier
    nll = -p[torch.arange(8), labels].log()
    torch.testing.assert_close(loss, (nll * lai.lai_factor(by_hand, 0.1).norm(dim=1)).mean())
    loss.backward()
    assert torch.isfinite(model.weight.grad).all() and (model.weight.grad != 0).any()  # type: ignore[union-attr]


def test_slopes_of_every_class_are_not_taken_for_those_of_the_errors() -> None:
    model, x, labels = nn.Linear(3, 4), torch.randn(8, 3), torch.arange(8) % 4
    cross_entropy = functools.partial(torch.nn.functional.cross_entropy, reduction="none")
    logits, k = lai.value_and_input_gradient(model, x)
    refused = functools.partial(checks.refused, ValueError, r"grad has shape \(8, 4, 3\).*base\(output, target\)")
    refused(lai.lai_loss, logits, labels, k, base=cross_entropy)
    refused(lai.LaiLoss(0.1, base=cross_entropy), logits, labels, k)
    images = torch.randn(8, 4, 5, 5)  # as many channels as classes: flat they are taken
    flat = lai.lai_loss(logits.detach(), labels, images.flatten(1), base=cross_entropy)
    seen = cross_entropy(logits, labels) * lai.lai_factor(images.flatten(1), 1.0).norm(dim=1)
    torch.testing.assert_close(flat, seen.mean().detach())


@pytest.mark.parametrize("loss", [lai.lai_loss, lai.LaiLoss(), directional_losses])
def test_slopes_without_a_graph_are_warned_of_where_they_would_be_trained_on(loss: Any) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    y_hat, y = model(x), torch.zeros(4, 1)
    for k in (lai.input_gradient(y_hat, x, create_graph=False), lai.input_gradient(y_hat, x).detach()):
        with pytest.warns(UserWarning, match="grad carries no graph"):
            loss(y_hat, y, k)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with torch.no_grad():
                loss(y_hat, y, k)
            loss(y_hat.detach(), y, k)
            loss(y_hat, y, lai.input_gradient(y_hat, x))
            torch.func.grad(lambda s, k=k: loss(s * y_hat, y, k).sum())(
                torch.tensor(1.0)
            )  # what is traced has no graph to see
            warnings.filterwarnings("ignore", "grad carries no graph")
            loss(y_hat, y, k)


def test_options_set_later_are_checked() -> None:
    y = torch.ones(2)
    for name, value, kind in (("normalize", "no", TypeError), ("norm", "max", ValueError), ("base", "l2", ValueError)):
        module = lai.LaiLoss(0.1)
        setattr(module, name, value)
        checks.refused(kind, f"{name} = '{value}'", module, y, y, y)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2", "elastic"])
def test_a_padded_batch_is_as_its_samples_without_padding(norm: Any, normalize: bool) -> None:
    y_hat, y, k = batch(6, 4)
    lengths = [4, 1, 2, 3, 4, 2]
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    padded = torch.where(mask, k, math.nan)  # whatever the padding holds
    ratio = 0.3 if norm == "elastic" else None
    options: dict[str, Any] = {"lam": 0.3, "norm": norm, "l1_ratio": ratio, "normalize": normalize}
    loss = functools.partial(lai.lai_loss, y_hat, y, **options)

    k = k.requires_grad_()
    alone = torch.cat(
        [lai.lai_loss(y_hat[[i]], y[[i]], k[[i], :n], reduction="none", **options) for i, n in enumerate(lengths)]
    )
    (want,) = torch.autograd.grad(alone.mean(), k)
    for shape in ((6, 4), (6, 2, 2)):
        leaf = padded.reshape(shape).detach().requires_grad_()
        torch.testing.assert_close(loss(leaf, mask=mask.reshape(shape), reduction="none"), alone)
        (got,) = torch.autograd.grad(loss(leaf, mask=mask.reshape(shape)), leaf)
        torch.testing.assert_close(got.reshape(6, 4), want)
    torch.testing.assert_close(lai.LaiLoss(**options)(y_hat, y, padded, mask=mask), alone.mean())
    torch.testing.assert_close(loss(k, mask=torch.ones(4, dtype=torch.bool)), loss(k), rtol=0, atol=0)
    assert loss(k, mask=torch.tensor(False)).item() == 0.0
    checks.derivatives(lambda k: lai.lai_loss(y_hat, y, k, mask=mask, **options), k)
    two = lai.lai_loss(torch.stack([y_hat, y_hat], 1), torch.stack([y, y], 1), torch.stack([padded, padded], 1),
                       mask=mask[:, None], **options)  # fmt: skip
    torch.testing.assert_close(two, alone.mean())
    checks.refused(ValueError, "order = 'batch'", lai.lai_loss, y_hat, y, k, mask=mask, order="batch")
    checks.refused(ValueError, r"mask has shape \(3,\)", lai.lai_loss, y_hat, y, k, mask=mask[0, :3])
    checks.refused(TypeError, "mask is of torch.float64", lai.lai_loss, y_hat, y, k, mask=mask.double())


def test_compiles_whole_and_maps() -> None:
    """torch.func over networks, and a step in one graph."""
    y_hat, y, k = batch()
    module = lai.LaiLoss([0.1, 1.0, 5.0])
    step = torch.func.grad(lambda k: module(y_hat, y, k))
    want = step(k)
    if torch.__version__ >= (2, 5):  # before, functions with a derivative of their own stay outside
        torch.testing.assert_close(torch.compile(step, fullgraph=True, backend="aot_eager")(k), want)
    lams = torch.tensor([0.1, 2.0], dtype=D)
    by_lam = torch.func.vmap(lambda lam: torch.func.grad(lambda k: lai.lai_loss(y_hat, y, k, lam=lam))(k))(lams)
    for row, lam in zip(by_lam, lams, strict=True):
        torch.testing.assert_close(
            row, torch.func.grad(lambda k, lam=lam: lai.lai_loss(y_hat, y, k, lam=lam.item()))(k)
        )


# --- by direction -----------------------------------------------------------------------------------------------

LISTS: list[Any] = [0.1, 1.0, 7.0, [0.01, 1.0, 30.0]]


@pytest.mark.parametrize("base", ["mse", "mae"])
@pytest.mark.parametrize("lam", LISTS)
def test_directions_against_numpy(base: Any, lam: Any) -> None:
    y_hat, y, k = batch(50)
    theta, weight = np.arctan(np.abs(k.numpy())), np.broadcast_to(np.asarray(lam), 3)
    power = 2 if base == "mse" else 1
    legs = np.maximum(np.sin(theta) ** power, weight * np.cos(theta) ** power) / np.minimum(1, weight)
    expected = np.abs(y_hat.numpy() - y.numpy())[:, None] ** power * legs
    np.testing.assert_allclose(directional_losses(y_hat, y, k, lam=lam, base=base).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("base", ["mse", "mae"])
@pytest.mark.parametrize("lam", LISTS)
def test_norms_of_the_directions_give_the_loss(base: Any, lam: Any) -> None:
    y_hat, y, k = batch(50)
    losses = directional_losses(y_hat, y, k, lam=lam, base=base)
    options: dict[str, Any] = {"lam": lam, "base": base}
    for norm, order in (("l2", 2), ("l1", 1)):
        rows = lai.lai_loss(y_hat, y, k, norm=norm, reduction="none", **options)
        torch.testing.assert_close(losses.norm(p=order, dim=1), rows)
        mean = lai.lai_loss(y_hat, y, k, norm=norm, order="batch", **options)
        torch.testing.assert_close(losses.mean(0).norm(p=order), mean)


def test_directions_have_gradients_shapes_and_dtypes() -> None:
    y_hat, y, k = batch(6, 2)
    checks.derivatives(functools.partial(directional_losses, lam=0.3), y_hat, y, k)
    checks.alike_in_any_order(directional_losses, y_hat, y, k)
    assert directional_losses(y_hat[:, None], y[:, None], k).shape == (6, 2)
    assert directional_losses(y_hat, y, k[:, 0]).shape == (6, 1)
    assert directional_losses(y_hat, y, k.reshape(6, 1, 2)).shape == (6, 2)
    half = directional_losses(y_hat.half(), y.half(), (k * 1e3).half())
    assert half.dtype == torch.float32 and torch.isfinite(half).all()


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"lam": 0.0}, ValueError, "lam = 0.0"),
        ({"lam": [0.1, 0.2]}, ValueError, "lam has shape"),
        ({"base": "rmse"}, ValueError, "base = 'rmse'"),
        ({"target": torch.zeros(50, 1)}, ValueError, "target has shape"),
        ({"grad": torch.zeros(49, 3)}, ValueError, "grad has shape"),
        ({"input": [1.0]}, TypeError, "input is a list"),
    ],
)
def test_directions_refuse_what_the_loss_does(change: dict[str, Any], error: type[Exception], message: str) -> None:
    y_hat, y, k = batch(50)
    checks.refused(error, message, directional_losses, **({"input": y_hat, "target": y, "grad": k} | change))
