"""The Lai factor: how much a slope weighs the error (paper, sections 2.2 and 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Base = Literal["mae", "mse"]
BASES = ("mae", "mse")


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(map(repr, allowed))}")


def check_lam(lam: Any, *, n_features: int | None = None, name: str = "lam") -> float | Tensor:
    """Return λ as a float, or as a tensor if it is a list, or say what is wrong with it.

    Parameters
    ----------
    lam
        A number, or a list, array or tensor of numbers (one per feature; paper, section 3.3).
    n_features
        If given, a list must have exactly this many entries.
    name
        What to call the parameter in an error.

    Raises
    ------
    TypeError
        If ``lam`` is not made of real numbers.
    ValueError
        If any entry is not finite and greater than 0, or the length is wrong.

    Examples
    --------
    >>> check_lam(0.1)
    0.1
    >>> check_lam(-1.0)
    Traceback (most recent call last):
        ...
    ValueError: lam = -1.0: λ must be finite and greater than 0
    >>> check_lam([0.1, 0.2], n_features=3)
    Traceback (most recent call last):
        ...
    ValueError: lam has 2 entries: it must be one number or have 3, one per feature
    """
    if type(lam) in (int, float):  # the usual case: nothing but a comparison
        if not 0 < lam < math.inf:
            raise ValueError(f"{name} = {lam}: λ must be finite and greater than 0")
        return float(lam)
    if isinstance(lam, Tensor):
        if lam.dtype == torch.bool or lam.dtype.is_complex:
            raise TypeError(f"{name} has dtype {lam.dtype}: λ must be a real number")
        if _out_of_sight(lam):
            return lam
        values = lam.detach()
    else:
        try:
            array = np.asarray(lam)
        except ValueError:
            raise TypeError(f"{name} = {lam!r}: λ must be a number or a flat list of numbers") from None
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name} = {lam!r}: λ must be a number or a list of numbers")
        values = torch.from_numpy(array.astype(np.float64))
    if values.numel() == 0:
        raise ValueError(f"{name} = {lam!r}: λ must not be empty")
    bad = ~(torch.isfinite(values) & (values > 0))
    if bad.any():
        where = "" if values.ndim == 0 else f"[{int(bad.flatten().nonzero()[0])}]"
        value = values.flatten()[bad.flatten()][0].item()
        raise ValueError(f"{name}{where} = {value}: λ must be finite and greater than 0")
    if n_features is not None and values.ndim > 0 and values.numel() != n_features:
        raise ValueError(
            f"{name} has {values.numel()} entries: it must be one number or have {n_features}, one per feature"
        )
    if isinstance(lam, Tensor):
        return lam
    return float(values) if values.ndim == 0 else values


def _out_of_sight(t: Tensor) -> bool:
    """Whether torch.func or torch.compile is looking at ``t``, so that its values cannot be asked for."""
    return torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(t)


def lai_factor(k: Tensor | float, lam: float | Tensor, *, base: Base = "mse") -> Tensor:
    r"""The factor by which the Lai loss multiplies the pointwise error.

    With :math:`k = \tan\theta`,

    .. math::
        f_\lambda(k) = \frac{\max(\sin\theta, \lambda\cos\theta)}{\min(1, \lambda)}
                     = \frac{\max(|k|, \lambda)}{\sqrt{1 + k^2}\,\min(1, \lambda)}
        \qquad
        g_\lambda(k) = \frac{\max(k^2, \lambda)}{(1 + k^2)\,\min(1, \lambda)} = f_{\sqrt\lambda}(k)^2

    for ``base="mae"`` and ``base="mse"``: both cases of section 3.1 in one expression.

    Parameters
    ----------
    k : Tensor of any shape, or float
        The slope, in units of the target per unit of the input.
    lam : float, or Tensor that broadcasts to the shape of ``k``
        λ > 0, in the units of ``k`` for "mae" and of ``k`` squared for "mse": the factor is least at
        \|k\| = λ for "mae" and at \|k\| = √λ for "mse".
    base : "mae" or "mse"

    Returns
    -------
    Tensor
        Shape and dtype of ``k``. Computed in float32 or wider, and without forming k², so it is finite for
        every k if its largest value, max(λ, 1/λ), is representable; NaN gives NaN. At \|k\| = boundary the two branches tie and autograd averages their slopes.

    Raises
    ------
    ValueError, TypeError
        For a λ that is not positive and finite or does not broadcast, or an unknown base.

    Source: paper, section 2.2 (λ and its normalisation) and section 3.1 (the two formulas).

    Examples
    --------
    >>> import torch
    >>> k = torch.tensor([0.0, 0.5, 1.0, 1e30])
    >>> lai_factor(k, 0.5, base="mae")
    tensor([1.0000, 0.8944, 1.4142, 2.0000])
    >>> lai_factor(k, 0.25, base="mse")  # the square of the line above
    tensor([1.0000, 0.8000, 2.0000, 4.0000])
    """
    check_choice("base", base, BASES)
    lam = check_lam(lam)
    k = torch.as_tensor(k)
    if k.dtype.is_complex or k.dtype == torch.bool:
        raise TypeError(f"k has dtype {k.dtype}: a slope is a real number")
    if not k.dtype.is_floating_point:
        k = k.to(torch.get_default_dtype())
    if isinstance(lam, Tensor):
        check_broadcast(lam, k.shape, "the shape of k")
    return unchecked_factor(k.to(compute_dtype(k)), lam, base).to(k.dtype)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype among the tensors, and at least float32 (k² leaves float16 at k = 256)."""
    dtype = torch.float32
    for t in tensors:
        dtype = torch.promote_types(dtype, t.dtype)
    return dtype


def check_broadcast(lam: Tensor, shape: torch.Size | tuple[int, ...], what: str) -> None:
    """Raise ``ValueError`` unless ``lam`` broadcasts to exactly ``shape``."""
    try:
        fits = torch.broadcast_shapes(lam.shape, shape) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"lam has shape {tuple(lam.shape)}: it must broadcast to {what}, {tuple(shape)}")


def unchecked_factor(k: Tensor, lam: float | Tensor, base: Base) -> Tensor:
    """:func:`lai_factor` for arguments that were checked, with ``k`` already in float32 or wider."""
    bound: float | Tensor
    low: float | Tensor
    if isinstance(lam, Tensor):
        # The root is taken in the wider of the two precisions, then brought to k's: 1-D float64 λ would widen the rest.
        lam = lam.to(torch.promote_types(lam.dtype, k.dtype))
        bound = (lam.sqrt() if base == "mse" else lam).to(device=k.device, dtype=k.dtype)
        low = bound.clamp(max=1.0)
    else:
        bound = math.sqrt(lam) if base == "mse" else float(lam)
        low = min(1.0, bound)
        limits = torch.finfo(k.dtype)
        if not limits.tiny <= bound <= limits.max:
            raise ValueError(f"lam = {lam}: its boundary, {bound:g}, cannot be represented in {k.dtype}")
    sin, cos = sin_cos(k)
    f = torch.maximum(sin, bound * cos) / low
    return f * f if base == "mse" else f


def sin_cos(k: Tensor) -> tuple[Tensor, Tensor]:
    """(sin θ, cos θ) for θ = arctan |k|, accurate with their derivatives for every k.

    |k|/√(1+k²) loses its derivative, 1/(1+k²)^(3/2), to cancellation once |k| is large, and k² overflows. For
    |k| > 1 the same triangle is drawn with its legs exchanged, u = 1/|k|, where neither happens.
    """
    a = k.abs()
    steep = a > 1
    u = torch.where(steep, 1 / torch.where(steep, a, 1.0), a)  # the inner where keeps 1/0 out of backward
    cos = torch.rsqrt(1 + u * u)  # u <= 1: no overflow, and both derivatives are bounded
    sin = u * cos
    return torch.where(steep, cos, sin), torch.where(steep, sin, cos)
