"""A device that has no float64, as MPS: what is measured and chosen there is widened on the CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lai


class Narrow(Tensor):
    """A tensor on such a device: it stays there in every operation but ``cpu()``, and never becomes float64."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            return args[0].as_subclass(Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        for t in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(t, Narrow) and t.dtype == torch.float64:
                raise TypeError(
                    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"
                )
        return found


def there(t: Tensor) -> Tensor:
    return t.as_subclass(Narrow)


X = torch.linspace(-1, 1, 60).reshape(30, 2)
Y = (3 * X).sin().sum(1)


def net() -> nn.Module:
    return lai.MLP(2, (4,), seed=0)


def test_the_stand_in_has_no_float64() -> None:
    with pytest.raises(TypeError, match="MPS"):
        there(X).double()
    assert type(there(X) + 1) is Narrow and type((there(X) + 1).cpu().double()) is Tensor


def test_measures_are_those_of_the_cpu() -> None:
    model = net()
    assert lai.rmse(model, there(X), there(Y)) == lai.rmse(model, X, Y)
    assert lai.output_variance(model, there(X)) == lai.output_variance(model, X)
    assert torch.equal(lai.sensitivity(model, there(X)), lai.sensitivity(model, X))
    layer = lai.Standardize.from_data(there(X))
    assert torch.equal(layer.std.cpu(), lai.Standardize.from_data(X).std)
    scaled = lai.rescale_lam(0.5, x_scale=there(X).std(0))
    torch.testing.assert_close(scaled, lai.rescale_lam(0.5, x_scale=X.std(0)))


def test_fit_with_weights_is_that_of_the_cpu() -> None:
    settings: dict[str, Any] = {"criterion": lai.LaiLoss(0.1), "epochs": 2, "batch_size": 10, "lr": 0.01, "seed": 0}
    weight = torch.linspace(0, 1, 30)
    here = lai.fit(net(), (X, Y), val=(X, Y), weight=weight, device="cpu", **settings)
    data = there(X), there(Y)
    away = lai.fit(net(), data, val=data, weight=there(weight), device="cpu", **settings)
    assert away == here


def test_choose_lam_is_that_of_the_cpu() -> None:
    settings: dict[str, Any] = {"max_slope": 0.9, "lams": [1.0, 0.01], "epochs": 2, "batch_size": 10, "lr": 0.01}
    choose = lambda val: lai.choose_lam(net(), (X, Y), val, seed=0, device="cpu", **settings)  # noqa: E731
    assert choose((there(X), there(Y))) == choose((X, Y))


def test_rows_are_repeated_as_on_the_cpu() -> None:
    repeated = pytest.importorskip("lai.sklearn")._repeated
    weight = torch.arange(30.0)
    for here, away in zip(repeated(X, Y, weight), repeated(there(X), there(Y), there(weight)), strict=True):
        assert torch.equal(here, away.cpu())
