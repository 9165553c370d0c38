"""Lai loss: a pointwise error times max(sin θ, λ cos θ), where tan θ = k is the slope of the model.

The core, re-exported here, needs torch and numpy only. ``lai.data``, ``lai.experiments``, ``lai.plotting``,
``lai.stats`` and ``lai.paper`` are imported by name.
"""

from .factor import check_lam, lai_factor
from .gradient import assert_independent_samples, input_gradient, value_and_input_gradient
from .loss import LaiLoss, lai_loss
from .metrics import output_variance, rmse, sensitivity
from .models import MLP, Standardize
from .schedule import LaiSchedule
from .training import fit

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "LaiLoss",
    "LaiSchedule",
    "Standardize",
    "assert_independent_samples",
    "check_lam",
    "fit",
    "input_gradient",
    "lai_factor",
    "lai_loss",
    "output_variance",
    "rmse",
    "sensitivity",
    "value_and_input_gradient",
]
