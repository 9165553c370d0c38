"""Lai loss: a pointwise error times max(sin θ, λ cos θ), where tan θ = k is the slope of the model.

Needs torch and numpy only. Bad input gets a ValueError or TypeError that names the parameter, the value and the rule, before
anything is computed; docstrings name the errors beside these.
"""

from .batchnorm import FixedStatistics, set_exact_statistics
from .choose import LamChoice, choose_lam
from .factor import check_lam, lai_factor, rescale_lam
from .gradient import WithSlopes, assert_independent_samples, input_gradient, value_and_input_gradient
from .loss import LaiLoss, directional_losses, lai_loss
from .metrics import output_variance, rmse, sensitivity
from .models import MLP, Standardize
from .penalty import curvature_penalty
from .schedule import LaiSchedule
from .sweep import Sweep
from .training import fit

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "FixedStatistics",
    "LaiLoss",
    "LaiSchedule",
    "LamChoice",
    "Standardize",
    "Sweep",
    "WithSlopes",
    "assert_independent_samples",
    "check_lam",
    "choose_lam",
    "curvature_penalty",
    "directional_losses",
    "fit",
    "input_gradient",
    "lai_factor",
    "lai_loss",
    "output_variance",
    "rescale_lam",
    "rmse",
    "sensitivity",
    "set_exact_statistics",
    "value_and_input_gradient",
]
