"""directional_losses against plain numpy, against lai_loss, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

import lai
from lai import directional_losses

LISTS: list[Any] = [0.1, 1.0, 7.0, [0.01, 1.0, 30.0]]


def example(n: int = 50, d: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    y_hat, y = torch.randn(2, n, generator=g, dtype=torch.float64)
    return y_hat, y, torch.randn(n, d, generator=g, dtype=torch.float64) * 2


@pytest.mark.parametrize("base", ["mse", "mae"])
@pytest.mark.parametrize("lam", LISTS)
def test_against_numpy(base: Any, lam: Any) -> None:
    y_hat, y, k = example()
    theta, weight = np.arctan(np.abs(k.numpy())), np.broadcast_to(np.asarray(lam), 3)
    power = 2 if base == "mse" else 1
    legs = np.maximum(np.sin(theta) ** power, weight * np.cos(theta) ** power) / np.minimum(1, weight)
    expected = np.abs(y_hat.numpy() - y.numpy())[:, None] ** power * legs
    np.testing.assert_allclose(directional_losses(y_hat, y, k, lam=lam, base=base).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("base", ["mse", "mae"])
@pytest.mark.parametrize("lam", LISTS)
def test_norms_give_lai_loss(base: Any, lam: Any) -> None:
    y_hat, y, k = example()
    losses = directional_losses(y_hat, y, k, lam=lam, base=base)
    options: dict[str, Any] = {"lam": lam, "base": base}
    for norm, order in (("l2", 2), ("l1", 1)):
        rows = lai.lai_loss(y_hat, y, k, norm=norm, reduction="none", **options)
        torch.testing.assert_close(losses.norm(p=order, dim=1), rows)
        batch = lai.lai_loss(y_hat, y, k, norm=norm, order="batch", **options)
        torch.testing.assert_close(losses.mean(0).norm(p=order), batch)


def test_gradient_shapes_and_dtypes() -> None:
    y_hat, y, k = example(6, 2)
    y_hat.requires_grad_()
    k.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, s: directional_losses(p, y, s, lam=0.3), (y_hat, k))
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
def test_refusals(change: dict[str, Any], error: type[Exception], message: str) -> None:
    y_hat, y, k = example()
    with pytest.raises(error, match=message):
        directional_losses(**({"input": y_hat, "target": y, "grad": k} | change))
