"""The three measures against closed forms."""

import math

import checks
import pytest
import torch
from torch import Tensor, nn

import lai


def test_rmse_and_variance_in_eval_mode_restoring_each_modules_own_mode() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(2).eval(), nn.Flatten(0))
    x, y = torch.randn(4, 2), torch.randn(8)
    want = (model[1](x).flatten() - y).square().mean().sqrt().item()
    assert lai.rmse(model, x, y) == pytest.approx(want, rel=1e-6)
    assert lai.output_variance(model, x) == pytest.approx(model[1](x).var(correction=0).item(), rel=1e-5)
    assert model.training and model[0].training and not model[1].training
    checks.refused(ValueError, r"y has shape \(8, 1\)", lai.rmse, model, x, y[:, None])


def test_complex_outputs_are_refused() -> None:
    x = torch.ones(4, 1)
    for measure in (lai.output_variance, lai.sensitivity, lambda model, x: lai.rmse(model, x, x)):
        checks.refused(TypeError, ".*torch.complex64", measure, lambda x: 1j * x, x)


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
        ({"noise": 1.0, "relative_noise": 0.5}, "relative_noise = 0.5 and noise = 1.0: give one of them"),
        ({"noise": -1.0}, "noise = -1.0"),
        ({"noise": [1.0, 2.0, 3.0]}, ".*one number or 2"),
        ({"relative_noise": math.nan}, "relative_noise = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_sensitivity_names_bad_arguments(arguments: dict, message: str) -> None:
    checks.refused(ValueError, message, lai.sensitivity, lambda x: x[:, 0], torch.ones(3, 2), **arguments)
