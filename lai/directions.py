"""The vector of directional losses: one Lai loss for each input direction (paper, section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .factor import BASES, Base, check_choice, check_lam, compute_dtype, unchecked_factor
from .loss import _check_tensors


def directional_losses(input: Tensor, target: Tensor, grad: Tensor, *, lam: Any = 1.0, base: Base = "mse") -> Tensor:
    r"""The Lai loss of every sample in every direction, before any norm combines the directions.

    With e the error and k_j the slope by input j,

    .. math::
        \ell_{ij} = e_i^2\, g_{\lambda_j}(k_{ij}) \quad(\text{base "mse"}), \qquad
        \ell_{ij} = |e_i|\, f_{\lambda_j}(k_{ij}) \quad(\text{base "mae"}).

    Row i is the vector of section 3.2, whose norm is what :func:`lai.lai_loss` returns for sample i. For training on
    one number use that function: it keeps the error outside the norm, whose gradient at a row of zeros is not
    defined. This one is for looking at the directions, and for optimising the d means ``.mean(0)`` as a vector.

    Parameters
    ----------
    input : Tensor (N,) or (N, 1)
        Predictions.
    target : Tensor, same shape as ``input``
    grad : Tensor (N, \*features)
        The slope of each prediction by each input, from :func:`lai.input_gradient`; (N,) for one input.
    lam : float, or list or Tensor that broadcasts along the features
        λ > 0; its units are those of :func:`lai.lai_factor`.
    base : "mse" or "mae"

    Returns
    -------
    Tensor (N, d)
        In the target's units, squared for "mse"; d is the number of features. float32 for half-precision arguments.

    Raises
    ------
    ValueError, TypeError
        As :func:`lai.lai_loss`.

    Source: paper, section 3.2, "a vector comprised of individual losses along each direction".

    Examples
    --------
    >>> import torch
    >>> y_hat, y = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])
    >>> k = torch.tensor([[0.0, 0.0], [3.0, 0.0]])  # two samples, two inputs
    >>> losses = directional_losses(y_hat, y, k, lam=0.5)
    >>> losses
    tensor([[1.0000, 1.0000],
            [7.2000, 4.0000]])
    >>> losses.norm(dim=1)  # lai_loss with norm="l2", reduction="none"
    tensor([1.4142, 8.2365])
    """
    check_choice("base", base, BASES)
    lam = check_lam(lam)
    _check_tensors(input, target, grad, lam)
    dtype = compute_dtype(input, target, grad)
    e = (input.to(dtype) - target.to(dtype)).flatten()
    e = e * e if base == "mse" else e.abs()
    return e[:, None] * unchecked_factor(grad.to(dtype), lam, base).reshape(len(e), -1)
