"""The Lai loss, as a function and as a module (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .factor import (
    BASES,
    check_broadcast,
    check_choice,
    check_flag,
    check_kind,
    check_lam,
    check_number,
    check_outputs,
    check_range,
    compute_dtype,
    is_number,
    out_of_sight,
    unchecked_factor,
)
from .factor import Base as Factor

Error = Callable[[Tensor, Tensor], Tensor]
Base = Literal["mae", "mse", "huber"] | tuple[Literal["huber", "quantile"], float] | Error
Norm = Literal["l2", "l1", "elastic"]
Order = Literal["sample", "batch"]
Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


class _Options(NamedTuple):
    """The options of :func:`lai_loss`."""

    base: Base = "mse"
    factor: Factor | None = None
    norm: Norm = "l2"
    l1_ratio: float | None = None
    order: Order = "sample"
    normalize: bool = False
    reduction: Reduction = "mean"

    def checked(self) -> _Options:
        """The options themselves; raises if one is wrong."""
        pointwise_error(self.base)
        if self.factor is not None:
            check_choice("factor", self.factor, BASES)
        check_choice("norm", self.norm, ("l2", "l1", "elastic"))
        check_choice("order", self.order, ("sample", "batch"))
        check_choice("reduction", self.reduction, REDUCTIONS)
        check_flag("normalize", self.normalize)
        if self.norm == "elastic":
            rule = "norm='elastic' needs a number from 0 (L2) to 1 (L1)"
            check_number("l1_ratio", self.l1_ratio, rule, 0, 1, ends=True)
        elif self.l1_ratio is not None:
            raise ValueError(f"l1_ratio = {self.l1_ratio!r}: only norm='elastic' takes it, and norm is {self.norm!r}")
        if self.order == "batch" and self.reduction == "none":
            raise ValueError("reduction = 'none': order='batch' gives one number for the batch; use 'mean' or 'sum'")
        return self


def lai_loss(
    input: Tensor,
    target: Tensor,
    grad: Tensor,
    *,
    lam: Any = 1.0,
    base: Base = "mse",
    factor: Factor | None = None,
    norm: Norm = "l2",
    l1_ratio: float | None = None,
    order: Order = "sample",
    normalize: bool = False,
    reduction: Reduction = "mean",
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""The error of each sample times the norm of its Lai factors.

    With e the error, :math:`F_j = g_\lambda(k_j)` or :math:`f_\lambda(k_j)` the factor of direction j
    (:func:`lai.lai_factor`) and d the number of directions,

    .. math::
        \ell_i = e_i^2\,\lVert F_i\rVert \quad(\text{base "mse"}), \qquad
        \ell_i = |e_i|\,\lVert F_i\rVert \quad(\text{base "mae"}),

    and so for every other pointwise error. A model of M outputs has M such losses for each sample, each with the
    slopes of its own output.

    Parameters
    ----------
    input : Tensor (N,), (N, 1) or (N, M), the predictions
    target : Tensor, same shape as ``input``: (N,) against (N, 1) would broadcast to (N, N) and is refused
    grad : Tensor (N, \*features), or (N, M, \*features) for (N, M) predictions
        The slope of each prediction with respect to each input, from :func:`lai.input_gradient`; (N,) for one input.
        Features may have any shape, as those of images. Slopes without a graph train nothing: where ``input`` has one and
        gradients are on, there is a warning.
    lam : float, or list or Tensor that broadcasts along the features
        λ > 0, which the precision can hold (section 3.3 for a list); its units are those of :func:`lai.lai_factor`.
    base : "mse", "mae", "huber", ("huber", delta), ("quantile", q) or callable
        The pointwise error. "huber" is e²/2 up to \|e\| = δ and δ(\|e\| - δ/2) beyond (δ = 1 if not given);
        "quantile" is q(y - ŷ) above the prediction and (1 - q)(ŷ - y) below, 0 < q < 1. A callable takes (input, target)
        to errors of at least 0, (N,) or (N, M), such as negative log-likelihoods, whose shape and slopes ``grad`` has.
    factor : "mse" or "mae", optional
        Whether g or f weighs the error, and so λ's units. Default: f ("mae") where the error grows as \|e\|, for
        "mae" and "quantile", else g ("mse").
    norm : "l2", "l1" or "elastic"
        How the directions combine (section 3.2). "elastic" is ``l1_ratio * L1 + (1 - l1_ratio) * L2``.
    l1_ratio : float in [0, 1], for "elastic" and only there
    order : "sample" or "batch"
        The paper can be read both ways. "sample": the mean of the samples' norms. "batch": the norm of the vector of
        per-direction means, which is equal for "l1" and at most as large for "l2". It is not a sum over samples, so it
        has no ``reduction="none"`` and is refused under distributed training.
    normalize : bool
        Divide the L2 norm by √d and the L1 norm by d, so that a flat model (λ < 1) has its plain MSE or MAE.
    reduction : "mean", "sum" or "none"
        Over samples and outputs; "mean" divides by the sum of the weights if there are any, each process by its own, as
        ``torch`` does.
    weight : Tensor (N,) or the shape of the errors, optional
        Of each sample, or of each output of it: finite, at least 0, not all 0. Values on a GPU are not asked for.
    mask : bool Tensor that broadcasts to the shape of ``grad``, optional, for ``order="sample"``
        False where a feature of a sample is padding: it has no part in the norm, nor in the d of ``normalize``. A sample
        without any feature has a loss of zero.

    Returns
    -------
    Tensor, a scalar, or the shape of the errors for "none"
        In float32 or wider. The error is a factor outside the norm, so value and gradients are finite where it is zero.

    Source: paper, sections 3.1 to 3.3; ``order`` and ``normalize`` are our readings of what it leaves open. Errors
    beside "mae" and "mse", and several outputs, are ours.

    Examples
    --------
    >>> import torch
    >>> y_hat, y = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])
    >>> k = torch.tensor([[0.0, 0.0], [3.0, 0.0]])  # two samples, two inputs
    >>> lai_loss(y_hat, y, k, lam=0.5, reduction="none")
    tensor([1.4142, 8.2365])
    >>> lai_loss(y_hat, y, k, lam=[0.5, 0.1], norm="elastic", l1_ratio=0.5)
    tensor(5.7127)
    """
    options = _Options(base, factor, norm, l1_ratio, order, normalize, reduction).checked()
    lam = check_lam(lam)
    if all(isinstance(t, Tensor) for t in (input, grad)):
        check_range(lam, compute_dtype(input, grad), squared=_squares(norm, grad), narrow=grad.dtype)
    return _lai_loss(input, target, grad, lam, options, weight, mask)


def _lai_loss(
    input: Tensor, target: Tensor, grad: Tensor, lam: Any, options: _Options, weight: Tensor | None, mask: Tensor | None
) -> Tensor:
    """:func:`lai_loss` with its options checked; looks at shapes only, so it never waits for a GPU."""
    base, factor, norm, l1_ratio, order, normalize, reduction = options
    if order == "batch":
        _refuse_batch_order(mask)
    e, factors, d = _errors_and_factors(input, target, grad, lam, base, factor, mask)
    d = d if normalize else None
    n: float | Tensor = e.numel()
    if weight is not None:
        check_weight(weight, e.shape[:1], e.shape)
        weight = (weight[:, None] if weight.ndim < e.ndim else weight).to(e.dtype).expand_as(e)
        e, n = e * weight, weight.sum()
    if order == "sample":
        loss = e * _combine(factors, norm, l1_ratio, d)
        if reduction == "none":
            return loss
        if weight is None and reduction == "mean":
            return loss.mean()
    else:
        total = e.sum(0)  # of each output
        # Σ e_i F_i = total · (weighted mean of F): the norm is taken of a vector that is never zero.
        some = total > torch.finfo(e.dtype).tiny  # dividing by less overflows in backward
        shares = torch.where(some, e / torch.where(some, total, 1.0), 1.0 / len(e))
        loss = total * _combine((shares[..., None] * factors).sum(0), norm, l1_ratio, d)
    return loss.sum() / n if reduction == "mean" else loss.sum()


def _errors_and_factors(
    input: Tensor, target: Tensor, grad: Tensor, lam: Any, base: Base, factor: Factor | None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Any]:
    """The errors, (N,) or (N, M), their factors, (*errors, d), and d, or what the mask leaves of it."""
    _check_tensors(input, target, grad, callable(base))
    dtype = compute_dtype(input, grad, *([target] if target.dtype.is_floating_point else []))
    error, natural = pointwise_error(base)
    e = error(input.to(dtype), target.to(dtype) if target.dtype.is_floating_point else target)
    if callable(base):
        _check_errors(e, len(input))
    head = e.shape if e.ndim == 2 and e.shape[1] > 1 else e.shape[:1]
    if grad.ndim == 0 or grad.shape[: len(head)] != head or grad.numel() == 0:
        wanted = "(N, M, *features)" if len(head) == 2 else "(N, *features)"
        sizes = ", ".join(f"{name} = {size}" for name, size in zip("NM", head))  # noqa: B905 M only if there is one
        raise ValueError(f"grad has shape {tuple(grad.shape)}: it must be {wanted} with {sizes}")
    outputs = getattr(grad, "of_outputs", 1) if len(head) == 1 else 1
    if len(head) < input.ndim < grad.ndim and input.shape[1] == grad.shape[1]:
        outputs = input.shape[1]
    if outputs > 1:
        raise ValueError(
            f"grad has shape {tuple(grad.shape)}: these seem to be slopes of {outputs} outputs; take those of one, grad[:, j], "
            "or of the errors, lai.input_gradient(base(output, target), x); if they are features, give grad.flatten(1)"
        )
    if isinstance(lam, Tensor):
        check_broadcast(lam, grad.shape[1:], "the features of grad")
    if mask is not None:
        check_kind("mask", mask, Tensor, "a tensor of torch.bool")
        if mask.dtype != torch.bool:
            raise TypeError(f"mask is of {mask.dtype}: it must be of torch.bool")
        check_broadcast(mask, grad.shape, "the shape of grad", name="mask")
        grad = torch.where(mask, grad, 0.0)  # NaN in the padding would reach the gradients, even with a factor of zero
    factors = unchecked_factor(grad.to(dtype), lam, factor or natural).reshape(*e.shape, -1)
    if mask is None:
        return e, factors, factors.shape[-1]
    kept = mask.expand_as(grad).reshape(factors.shape).to(dtype)
    return e, factors * kept, kept.sum(-1).clamp(min=1)


def pointwise_error(base: Base) -> tuple[Error, Factor]:
    """What ``base`` stands for: (input, target) to errors of their shape, and the factor that belongs to it."""
    if callable(base):
        return base, "mse"
    if base == "mae":
        return lambda input, target: (input - target).abs(), "mae"
    if base == "mse":
        return lambda input, target: (input - target).square(), "mse"
    name, parameter = base if isinstance(base, tuple) and len(base) == 2 else (base, 1.0 if base == "huber" else None)
    if name == "huber" and is_number(parameter, 0):
        return partial(nn.functional.huber_loss, reduction="none", delta=parameter), "mse"
    if name == "quantile" and is_number(parameter, 0, 1):
        q: float = parameter
        return lambda input, target: torch.maximum(q * (target - input), (q - 1) * (target - input)), "mae"
    raise ValueError(
        f"base = {base!r}: must be 'mae', 'mse', 'huber', ('huber', delta) with delta > 0, "
        "('quantile', q) with 0 < q < 1, or a callable (input, target) -> errors"
    )


def plain_loss(base: Base) -> Error:
    """The mean error over a batch, which the Lai loss of this base weighs: what the batches without slopes minimise."""
    error = pointwise_error(base)[0]
    return lambda input, target: error(input, target).mean()


class LaiLoss(nn.Module):
    r"""The Lai loss as a module; options, shapes and errors as in :func:`lai.lai_loss`.

    ``lam`` is a buffer: it moves with ``.to(device)``, and a state dict that is loaded replaces it. It stays float64 when
    the module is cast (λ = 1e-8 is zero in float16), or float32 on a device without, and is checked after each change.

    Source: paper, sections 3.1 to 3.3.

    Examples
    --------
    >>> import torch, lai
    >>> criterion = LaiLoss(lam=0.1)
    >>> criterion
    LaiLoss(lam=0.1, base='mse', norm='l2', order='sample', normalize=False, reduction='mean')
    >>> y_hat, k = lai.value_and_input_gradient(lambda x: 3 * x[:, 0], torch.tensor([[1.0], [2.0]]))
    >>> criterion(y_hat, torch.tensor([3.0, 5.0]), k)
    tensor(4.5000, grad_fn=<MeanBackward0>)
    """

    lam: Tensor

    def __init__(
        self,
        lam: Any = 1.0,
        *,
        base: Base = "mse",
        factor: Factor | None = None,
        norm: Norm = "l2",
        l1_ratio: float | None = None,
        order: Order = "sample",
        normalize: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        options = _Options(base, factor, norm, l1_ratio, order, normalize, reduction).checked()
        for name, value in options._asdict().items():
            setattr(self, name, value)
        self.register_buffer("lam", torch.as_tensor(check_lam(lam), dtype=torch.float64).detach().clone())
        self._checked: tuple[Any, ...] = (None,)

    def _apply(self, fn: Any, recurse: bool = True) -> LaiLoss:
        exact = self.lam
        self.lam = exact.float()  # which every device has, and every cast takes
        super()._apply(fn, recurse)
        value = self.lam if exact.is_meta else exact
        try:
            self.lam = value.to(device=self.lam.device, dtype=exact.dtype)
        except (TypeError, RuntimeError):  # no float64 there
            self.lam = value.float().to(device=self.lam.device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if isinstance(state_dict.get(f"{prefix}lam"), Tensor) and not state_dict[f"{prefix}lam"].is_meta:
            check_lam(state_dict[f"{prefix}lam"], name=f"{prefix}lam")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, input: Tensor, target: Tensor, grad: Tensor, weight: Any = None, mask: Any = None) -> Tensor:
        """The loss of ``input`` against ``target`` where the model's slopes are ``grad``."""
        options = self._options()
        if not out_of_sight(self.lam) and isinstance(input, Tensor) and isinstance(grad, Tensor):
            options.checked()  # they may have been set since
            self._check_lam_once(compute_dtype(input, grad), grad.dtype, _squares(options.norm, grad))
        return _lai_loss(input, target, grad, self.lam, options, weight, mask)

    def _options(self) -> _Options:
        return _Options(*(getattr(self, name) for name in _Options._fields))

    def _check_lam_once(self, dtype: torch.dtype, narrow: torch.dtype, squared: bool) -> None:
        if self.lam.is_cpu:
            state: Any = self.lam.tolist()  # what was written into .data has no new version
        else:  # whose values would be waited for
            state = None if self.lam.is_inference() else self.lam._version
        now = self.lam, state, dtype, narrow, squared
        if self._checked[0] is not self.lam or self._checked[1:] != now[1:]:
            check_lam(self.lam)
            check_range(self.lam, dtype, squared=squared, narrow=narrow)
            self._checked = now

    def extra_repr(self) -> str:
        """The options, as in the constructor."""
        given = {"lam": "meta" if self.lam.is_meta else self.lam.tolist(), **self._options()._asdict()}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)


def _squares(norm: Norm, grad: Tensor) -> bool:
    """Whether the norm sums squares: the L1 norm does not, nor does that of one direction."""
    return norm != "l1" and grad.ndim > 1 and grad[:1].numel() > 1


def _combine(factors: Tensor, norm: Norm, l1_ratio: float | None, d: Any) -> Tensor:
    """Factors (..., d) to their norms (...), which ``d`` normalises. Not all factors are zero, so neither norm has a kink here."""
    if norm != "l2":
        l1 = factors.sum(-1) if d is None else factors.sum(-1) / d
        if norm == "l1":
            return l1
    l2 = torch.linalg.vector_norm(factors, dim=-1)
    l2 = l2 if d is None else l2 / d**0.5
    if norm == "l2" or l1_ratio is None:
        return l2
    return l1_ratio * l1 + (1 - l1_ratio) * l2


def _check_tensors(input: Tensor, target: Tensor, grad: Tensor, any_shape: bool) -> None:
    for name, t in (("input", input), ("target", target), ("grad", grad)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: it must be a tensor")
        if not t.dtype.is_floating_point and not (any_shape and name == "target"):  # a class is an integer
            raise TypeError(f"{name} has dtype {t.dtype}: it must be floating point")
    if not any_shape:
        check_outputs("input", input)
    if not any_shape and target.shape != input.shape:
        raise ValueError(f"target has shape {tuple(target.shape)} and input {tuple(input.shape)}: must be the same")
    if input.ndim == 0 or len(input) == 0:
        raise ValueError("input is empty: N must be at least 1")
    if not out_of_sight(input) and torch.is_grad_enabled() and input.requires_grad and not grad.requires_grad:
        warnings.warn(
            "grad carries no graph, so it trains nothing: take the slopes with create_graph=True, or the loss under no_grad()",
            stacklevel=5,
        )


def _check_errors(e: Any, n: int) -> None:
    if not isinstance(e, Tensor) or not e.dtype.is_floating_point or e.ndim not in (1, 2) or len(e) != n:
        what = tuple(e.shape) if isinstance(e, Tensor) else type(e).__name__
        raise ValueError(f"base returned {what}: it must return errors (N,) or (N, M) with N = {n}, not their mean")
    if e.is_cpu and not out_of_sight(e) and (e < 0).any():  # a GPU would be waited for
        raise ValueError(f"base returned an error of {e.min():g}: errors must be at least 0")


def check_weight(weight: Tensor, *shapes: torch.Size) -> None:
    """Raise unless it has one of the shapes and weighs; its values are asked for on the CPU only, as a GPU would be waited for."""
    check_kind("weight", weight, Tensor, "a tensor of real numbers")
    rule = f"must be real, finite, at least 0, not all 0 and of shape {' or '.join(str(tuple(s)) for s in shapes)}"
    if weight.dtype.is_complex or weight.shape not in shapes:
        raise ValueError(f"weight has shape {tuple(weight.shape)} and dtype {weight.dtype}: it {rule}")
    seen = weight.is_cpu and not out_of_sight(weight)
    if seen and not (torch.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError(f"weight has shape {tuple(weight.shape)}, from {weight.min()} to {weight.max()}: it {rule}")


def _refuse_batch_order(mask: Tensor | None) -> None:
    if mask is not None:
        raise ValueError("order = 'batch': a mask leaves each sample its own features; use order='sample'")
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        n = dist.get_world_size()
        raise ValueError(f"order = 'batch': the average over {n} processes is not its gradient; use order='sample'")


def directional_losses(
    input: Tensor, target: Tensor, grad: Tensor, *, lam: Any = 1.0, base: Base = "mse", factor: Factor | None = None
) -> Tensor:
    r"""The Lai loss of every sample in every direction, before any norm combines the directions.

    The norm of row i is what :func:`lai.lai_loss` returns for sample i. Train on one number by that function, as the norm
    of a row of zeros has no gradient here; the d means ``.mean(0)`` can be optimised as a vector.

    Parameters
    ----------
    input, target, grad, lam, base, factor : as in :func:`lai.lai_loss`

    Returns
    -------
    Tensor (N, d), or (N, M, d) for M outputs
        In the units of the error; d is the number of features. dtype and errors as in :func:`lai.lai_loss`.

    Source: paper, section 3.2, "a vector comprised of individual losses along each direction".

    Examples
    --------
    >>> import torch
    >>> k = torch.tensor([[0.0, 0.0], [3.0, 0.0]])  # two samples, two inputs
    >>> directional_losses(torch.tensor([1.0, 2.0]), torch.zeros(2), k, lam=0.5)
    tensor([[1.0000, 1.0000],
            [7.2000, 4.0000]])
    """
    _Options(base, factor).checked()
    lam = check_lam(lam)
    e, factors, _ = _errors_and_factors(input, target, grad, lam, base, factor)
    check_range(lam, factors.dtype, narrow=grad.dtype)
    return e[..., None] * factors if e.shape[1:] != (1,) else e * factors[:, 0]
