"""The Lai factor: how much a slope weighs the error (paper, sections 2.2 and 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
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


def check_kind(name: str, value: object, kind: Any, what: str) -> None:
    """Raise ``TypeError`` unless ``value`` is an instance of ``kind``, which ``what`` describes."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} = {repr(value).splitlines()[0]}: must be {what}")


def check_flag(name: str, value: object) -> None:
    """Raise ``TypeError`` unless ``value`` is True or False: "no" would count as true."""
    check_kind(name, value, bool, "True or False")


def check_outputs(name: str, output: Tensor) -> None:
    """Raise unless ``output`` holds real numbers in a shape whose slopes are defined."""
    if not output.dtype.is_floating_point:
        raise TypeError(f"{name} has dtype {output.dtype}: it must be floating point")
    if output.ndim not in (1, 2) or output.shape[1:] == (0,):
        rule = "it must be (N,), (N, 1) or (N, M); end the model with torch.nn.Flatten(1), and flatten the target too"
        raise ValueError(f"{name} has shape {tuple(output.shape)}: {rule}")


def is_number(value: Any, low: float, high: float = math.inf, *, ends: bool = False) -> bool:
    """Whether it is a real number between ``low`` and ``high``; with ``ends`` these too."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and (low < value < high or (ends and value in (low, high)))


def check_number(name: str, value: Any, rule: str, low: float, high: float = math.inf, *, ends: bool = False) -> None:
    """Raise ``ValueError`` with the ``rule`` unless :func:`is_number`."""
    if not is_number(value, low, high, ends=ends):
        raise ValueError(f"{name} = {value!r}: {rule}")


def check_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number greater than 0."""
    check_number(name, value, "must be finite and greater than 0", 0)


def check_lam(lam: Any, *, n_features: int | None = None, name: str = "lam") -> float | Tensor:
    """Return λ as a float, or as a tensor if it is a list.

    ``TypeError`` if it is not made of real numbers, ``ValueError`` if one is not finite and greater than 0 or their number
    is wrong.

    Parameters
    ----------
    lam : a number, or a list, array or tensor of numbers, one per feature
    n_features : int, how many entries a list must have, if given
    name : str, what to call the parameter in an error

    Source: paper, section 3.3 for a list.

    Examples
    --------
    >>> check_lam([0.1, 0.2], n_features=3)
    Traceback (most recent call last):
        ...
    ValueError: lam has 2 entries: must be one number or 3, one per feature
    """
    if type(lam) in (int, float) and 0 < lam < math.inf:  # the usual case: nothing but a comparison
        return float(lam)
    if isinstance(lam, Tensor):
        check_real(name, lam, "λ must be a real number")
        if out_of_sight(lam):
            return lam
        values = lam.detach()
    else:
        try:
            array = np.asarray(lam)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"{name} = {lam!r}: λ must be a number or a list of numbers")
        values = torch.from_numpy(array.astype(np.float64))
    if values.numel() == 0:
        raise ValueError(f"{name} = {lam!r}: λ must not be empty")
    bad = ~(torch.isfinite(values) & (values > 0)).flatten()
    if bad.any():
        first = int(bad.nonzero()[0])
        where = f"[{first}]" if values.ndim else ""
        raise ValueError(f"{name}{where} = {values.flatten()[first].item()}: λ must be finite and greater than 0")
    if n_features is not None and values.ndim > 0 and values.numel() != n_features:
        raise ValueError(f"{name} has {values.numel()} entries: must be one number or {n_features}, one per feature")
    if isinstance(lam, Tensor):
        return lam
    return values if values.ndim else float(values)


def check_real(name: str, t: Tensor, rule: str) -> None:
    """Raise ``TypeError`` with the ``rule`` if ``t`` is complex or of True and False."""
    if t.dtype.is_complex or t.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {t.dtype}: {rule}")


def out_of_sight(t: Tensor) -> bool:
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
    k : Tensor of any shape, or float, the slope in units of the target per unit of the input
    lam : float, or Tensor that broadcasts to the shape of ``k``, λ > 0, which the precision of ``k`` can hold
        The factor is least at the boundary \|k\| = λ for "mae" and \|k\| = √λ for "mse", so λ is in the units of ``k`` or
        of ``k`` squared.
    base : "mae" or "mse"

    Returns
    -------
    Tensor, shape and dtype of ``k``
        Finite for every k, as it is computed in float32 or wider and without k²; NaN gives NaN. At \|k\| = boundary the
        two branches tie and autograd averages their slopes.

    Source: paper, section 2.2 (λ and its normalisation) and section 3.1 (the two formulas).

    Examples
    --------
    >>> import torch
    >>> lai_factor(torch.tensor([0.0, 0.5, 1.0, 1e30]), 0.25)
    tensor([1.0000, 0.8000, 2.0000, 4.0000])
    """
    check_choice("base", base, BASES)
    lam = check_lam(lam)
    k = torch.as_tensor(k)
    check_real("k", k, "a slope is a real number")
    if not k.dtype.is_floating_point:
        k = k.to(torch.get_default_dtype())
    if isinstance(lam, Tensor):
        check_broadcast(lam, k.shape, "the shape of k")
    check_range(lam, k.dtype)
    return unchecked_factor(k.to(compute_dtype(k)), lam, base).to(k.dtype)


def rescale_lam(lam: Any, *, x_scale: Any = 1.0, y_scale: Any = 1.0, base: Base = "mse") -> float | Tensor:
    r"""The λ that has the same boundary after x and y are divided by ``x_scale`` and ``y_scale``.

    Scaling turns a slope k into :math:`k' = k\,s_x/s_y`, so :math:`\lambda'` is :math:`\lambda\,s_x/s_y` for "mae" and
    :math:`\lambda\,(s_x/s_y)^2` for "mse". Only the boundary carries over: 1 + k² changes with the units, so the losses
    differ unless s_x = s_y.

    Parameters
    ----------
    lam : float, or list or Tensor that broadcasts along the features
    x_scale : float, or list or Tensor (\*features) > 0, what the inputs are divided by
    y_scale : float > 0, what the target is divided by; to convert back, give the reciprocals of both
    base : "mae" or "mse", the error whose factor λ belongs to

    Returns
    -------
    float, or Tensor (\*features) in float64 if one λ becomes a list

    Source: ours; the paper does not state its units.

    Examples
    --------
    >>> rescale_lam(0.5, x_scale=[2.0, 10.0], y_scale=4.0, base="mae")
    tensor([0.2500, 1.2500], dtype=torch.float64)
    """
    check_choice("base", base, BASES)
    lam = check_lam(lam)
    scales = []
    for name, value in (("x_scale", x_scale), ("y_scale", y_scale)):
        try:
            scale = wide(value) if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{name} = {value!r}: must be a number or a list of numbers") from None
        if not (torch.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"{name} = {value}: must be finite and greater than 0; give a constant feature 1")
        scales.append(scale)
    moved = (lam.cpu() if isinstance(lam, Tensor) else lam) * (scales[0] / scales[1]) ** (2 if base == "mse" else 1)
    return check_lam(moved if moved.ndim else moved.item())


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype among the tensors, and at least float32 (k² leaves float16 at k = 256)."""
    dtype = torch.float32
    for t in tensors:
        dtype = torch.promote_types(dtype, t.dtype)
    return dtype


def wide(t: Tensor) -> Tensor:
    """In float64 on the CPU, as not every device has it."""
    if t.is_complex():
        raise TypeError(f"output and target must be real numbers, not {t.dtype}")
    return t.cpu().double()


def check_broadcast(lam: Tensor, shape: torch.Size | tuple[int, ...], what: str, *, name: str = "lam") -> None:
    """Raise ``ValueError`` unless ``lam`` broadcasts to exactly ``shape``."""
    try:
        fits = torch.broadcast_shapes(lam.shape, shape) == torch.Size(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {tuple(lam.shape)}: it must broadcast to {what}, {tuple(shape)}")


def check_range(
    lam: float | Tensor, dtype: torch.dtype, *, squared: bool = False, narrow: torch.dtype | None = None
) -> None:
    """Raise ``ValueError`` where λ, and with it the factor's largest value max(λ, 1/λ), leaves ``dtype``.

    ``squared`` where a norm sums the squares of as many as 10⁸ of them; ``narrow`` is the precision of the slopes, to which
    the gradient returns.
    """
    if narrow not in (None, dtype):
        check_range(lam, narrow)
    if isinstance(lam, Tensor) and out_of_sight(lam):
        return
    least, most = (v.item() for v in lam.detach().aminmax()) if isinstance(lam, Tensor) else (lam, lam)
    limits = torch.finfo(dtype)
    low, high, why = limits.tiny, limits.max, f"{dtype} holds no more"
    if squared:
        high = limits.max**0.5 / 1e4
        low, why = 1 / high, f"{dtype} holds no more of the squares that the norm sums"
    if least < low or most > high:
        raise ValueError(
            f"lam = {least if least < low else most}: must be between {low:.3g} and {high:.3g}, as {why}; "
            f"choose another or compute in float64{', or with norm=' + repr('l1') if squared else ''}"
        )


def unchecked_factor(k: Tensor, lam: float | Tensor, base: Base) -> Tensor:
    """:func:`lai_factor` for arguments that were checked, with ``k`` already in float32 or wider."""
    if isinstance(lam, Tensor):
        # The root is taken in the wider of the two precisions, then brought to k's: 1-D float64 λ would widen the rest.
        lam = lam.to(torch.promote_types(lam.dtype, k.dtype))
        bound = (lam.sqrt() if base == "mse" else lam).to(device=k.device, dtype=k.dtype)
    else:
        bound = torch.full((), math.sqrt(lam) if base == "mse" else lam, dtype=k.dtype, device=k.device)
    function = _Factor if torch.compiler.is_compiling() else _ForwardToo
    return function.apply(k, bound, 2 if base == "mse" else 1)


class _Factor(torch.autograd.Function):
    """max(|k|, b) / (√(1+k²) min(1, b)) to the power 1 or 2, where the boundary b > 0 broadcasts to k.

    Its derivative is itself times that of its logarithm, which is bounded by 1 or 1/b where its own powers overflow.
    That is made of differentiable operations, so that it has a derivative too.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(k: Tensor, bound: Tensor, power: int) -> Tensor:
        a = k.abs().clamp(max=torch.finfo(k.dtype).max)  # an infinite slope has the limit, not ∞/∞
        f = torch.maximum(a, bound).div_(torch.hypot(a, a.new_ones(())) * bound.clamp(max=1.0))
        return f.mul_(f) if power == 2 else f

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        k, bound, ctx.power = inputs
        ctx.save_for_backward(k, bound, output)
        ctx.save_for_forward(k, bound, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        k, bound, factor = ctx.saved_tensors
        g = g * factor
        by_k = _times_slope(g, k, bound, ctx.power) if ctx.needs_input_grad[0] else None
        by_bound = _times_slope_by_bound(g, k, bound, ctx.power) if ctx.needs_input_grad[1] else None
        return by_k, None if by_bound is None else by_bound.sum_to_size(bound.shape), None


class _ForwardToo(_Factor):
    """With forward-mode differentiation, which torch.compile does not take in a function of one's own."""

    @staticmethod
    def jvp(ctx: Any, k_t: Tensor | None, bound_t: Tensor | None, _: None) -> Tensor:
        k, bound, factor = ctx.saved_tensors
        moved = torch.zeros_like(factor) if k_t is None else _times_slope(k_t * factor, k, bound, ctx.power)
        return moved if bound_t is None else moved + _times_slope_by_bound(bound_t * factor, k, bound, ctx.power)


def _times_slope(g: Tensor, k: Tensor, bound: Tensor, power: int) -> Tensor:
    """g d ln f^power / dk, where d ln f / dk is cos²θ/k if |k| > b, -k cos²θ if |k| < b, their mean at a tie.

    Signs choose between the two: a comparison and ``torch.where`` take as long as forty products on a CPU.
    """
    k = k.clamp(-torch.finfo(k.dtype).max, torch.finfo(k.dtype).max)
    a = k.abs()
    with torch.no_grad():
        flat = (bound - a).sgn_().mul_(0.5).add_(0.5)  # 1, 0, or ½ at a tie
    way = torch.lerp(torch.sgn(k) / torch.maximum(a, bound), -k, flat)  # 1/k where it is wanted, and never 1/0
    cos = torch.hypot(k, k.new_ones(())).reciprocal()
    return g * cos * way * cos * power


def _times_slope_by_bound(g: Tensor, k: Tensor, bound: Tensor, power: int) -> Tensor:
    """g d ln f^power / db, where d ln f / db is 1/b if |k| < b, less 1/b if b < 1."""
    return 0.5 * power * g * ((torch.sgn(bound - 1) - torch.sgn(k.abs() - bound)) / bound)
