"""Standardize and MLP, against closed forms."""

import math

import checks
import pytest
import torch
from torch import nn

import lai


def test_standardize_keeps_slopes_in_raw_units() -> None:
    x = torch.randn(500, 2, dtype=torch.float64) * torch.tensor([100.0, 0.01]) + torch.tensor([7.0, -3.0])
    scaled = lai.Standardize.from_data(x)
    z = scaled(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, dtype=z.dtype), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2, dtype=z.dtype))
    linear = nn.Linear(2, 1).double()
    _, k = lai.value_and_input_gradient(nn.Sequential(scaled, linear), x)
    torch.testing.assert_close(k, (linear.weight / scaled.std).expand_as(k).detach())


def test_an_inverse_layer_gives_outputs_and_slopes_in_the_units_of_the_target() -> None:
    torch.manual_seed(0)
    x, y = 50 * torch.randn(40, 2, dtype=torch.float64) + 7, 1e3 * torch.randn(40, dtype=torch.float64) - 200
    net = lai.MLP(2, (4,), seed=0).double()
    scaled, back = lai.Standardize.from_data(x), lai.Standardize.from_data(y).inverse()
    y_hat, k = lai.value_and_input_gradient(nn.Sequential(scaled, net, back), x)
    inner, k_inner = lai.value_and_input_gradient(net, scaled(x))
    torch.testing.assert_close(y_hat, inner * y.std(correction=0) + y.mean())
    torch.testing.assert_close(k, k_inner * y.std(correction=0) / x.std(0, correction=0))


def test_standardize_constant_feature_and_bad_statistics() -> None:
    assert lai.Standardize.from_data(torch.ones(4, 1))(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]
    checks.refused(ValueError, "mean has shape .* must be the same", lai.Standardize, torch.zeros(2), torch.ones(3))
    for mean, std in ((math.nan, 1.0), (0.0, -1.0), (0.0, math.inf)):
        message = "mean and std must be finite"
        checks.refused(ValueError, message, lai.Standardize, torch.tensor([mean]), torch.tensor([std]))


def test_mlp_layers_seed_and_shape() -> None:
    x = torch.randn(10, 3)
    a, b, c = (lai.MLP(3, (6, 4), norm="layer", standardize=x, seed=s) for s in (0, 0, 1))
    assert a(x).shape == (10,) and torch.equal(a(x), b(x)) and not torch.equal(a(x), c(x))
    kinds = [type(m).__name__ for m in a]
    assert kinds == ["Standardize", *["Linear", "LayerNorm", "SiLU"] * 2, "Linear", "Flatten"]
    torch.manual_seed(4)
    want = torch.rand(1)
    torch.manual_seed(4)
    lai.MLP(3, seed=0)
    assert torch.rand(1) == want


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features = 0"),
        ({"n_features": 2, "hidden": (8, 0)}, "hidden = 0"),
        ({"n_features": 2, "activation": "gelu"}, "activation = 'gelu'"),
        ({"n_features": 2, "norm": "group"}, "norm = 'group'"),
        ({"n_features": 2, "standardize": torch.zeros(5, 3)}, r"standardize has shape \(5, 3\)"),
    ],
)
def test_mlp_names_bad_arguments(arguments: dict, message: str) -> None:
    checks.refused(ValueError, message, lai.MLP, **arguments)


def test_statistics_of_whole_numbers_are_not_rounded() -> None:
    x = torch.arange(12).reshape(6, 2)
    torch.testing.assert_close(lai.Standardize.from_data(x)(x), lai.Standardize.from_data(x.float())(x.float()))
