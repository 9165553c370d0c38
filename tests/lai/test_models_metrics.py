"""Standardize, MLP and the three measures, against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

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


def test_standardize_constant_feature_and_bad_statistics() -> None:
    assert lai.Standardize.from_data(torch.ones(4, 1))(torch.ones(2, 1)).tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="must be the same"):
        lai.Standardize(torch.zeros(2), torch.ones(3))
    for mean, std in ((math.nan, 1.0), (0.0, -1.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="finite"):
            lai.Standardize(torch.tensor([mean]), torch.tensor([std]))


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
    with pytest.raises(ValueError, match=message):
        lai.MLP(**arguments)


def test_rmse_and_variance_in_eval_mode_restoring_each_modules_own_mode() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(2).eval(), nn.Flatten(0))
    x, y = torch.randn(4, 2), torch.randn(8)
    want = (model[1](x).flatten() - y).square().mean().sqrt().item()
    assert lai.rmse(model, x, y) == pytest.approx(want, rel=1e-6)
    assert lai.output_variance(model, x) == pytest.approx(model[1](x).var(correction=0).item(), rel=1e-5)
    assert model.training and model[0].training and not model[1].training
    with pytest.raises(ValueError, match=r"y has shape \(8, 1\)"):
        lai.rmse(model, x, y[:, None])


def test_sensitivity_of_a_linear_model_in_closed_form() -> None:
    """E|w σ ε| = |w| σ √(2/π), per feature."""
    w = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    x = torch.full((200_000, 3), 2.0, dtype=torch.float64)
    model = lambda x: x @ w  # noqa: E731
    c = math.sqrt(2 / math.pi)
    torch.testing.assert_close(lai.sensitivity(model, x), w.abs() * 2 * 0.5 * c, rtol=0.01, atol=0)
    torch.testing.assert_close(lai.sensitivity(model, x, relative_noise=0.1), w.abs() * 0.2 * c, rtol=0.01, atol=0)
    sigma = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(lai.sensitivity(model, x, noise=sigma.tolist()), w.abs() * sigma * c, rtol=0.01, atol=0)


def test_sensitivity_is_paired_and_seeded() -> None:
    x = torch.randn(50, 2)
    model: Tensor = lai.MLP(2, seed=0)  # type: ignore[assignment]
    a, b, c = (lai.sensitivity(model, x, noise=0.3, seed=s) for s in (0, 0, 1))  # type: ignore[arg-type]
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert (lai.sensitivity(model, x, noise=0.0) == 0).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": 1.0, "relative_noise": 0.5}, "give one of them"),
        ({"noise": -1.0}, "noise = -1.0"),
        ({"noise": [1.0, 2.0, 3.0]}, "one number or 2"),
        ({"relative_noise": math.nan}, "relative_noise = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_sensitivity_names_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lai.sensitivity(lambda x: x[:, 0], torch.ones(3, 2), **arguments)
