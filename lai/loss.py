"""The Lai loss, as a function and as a module (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from .factor import BASES, Base, check_broadcast, check_choice, check_lam, compute_dtype, unchecked_factor

Norm = Literal["l2", "l1", "elastic"]
Order = Literal["sample", "batch"]
Reduction = Literal["mean", "sum", "none"]


def lai_loss(
    input: Tensor,
    target: Tensor,
    grad: Tensor,
    *,
    lam: Any = 1.0,
    base: Base = "mse",
    norm: Norm = "l2",
    l1_ratio: float | None = None,
    order: Order = "sample",
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""The error of each sample times the norm of its Lai factors.

    With e the error, :math:`F_j = g_\lambda(k_j)` or :math:`f_\lambda(k_j)` the factor of direction j
    (:func:`lai.lai_factor`) and d the number of directions,

    .. math::
        \ell_i = e_i^2\,\lVert F_i\rVert \quad(\text{base "mse"}), \qquad
        \ell_i = |e_i|\,\lVert F_i\rVert \quad(\text{base "mae"}).

    Parameters
    ----------
    input : Tensor (N,) or (N, 1)
        Predictions.
    target : Tensor, same shape as ``input``
    grad : Tensor (N, \*features)
        The slope of each prediction by each input, from :func:`lai.input_gradient`; (N,) for one input.
    lam : float, or list or Tensor that broadcasts along the features
        λ > 0 (section 3.3 for a list); its units are those of :func:`lai.lai_factor`.
    base : "mse" or "mae"
    norm : "l2", "l1" or "elastic"
        How the directions combine (section 3.2). "elastic" is ``l1_ratio * L1 + (1 - l1_ratio) * L2``.
    l1_ratio : float in [0, 1]
        For "elastic", and only there.
    order : "sample" or "batch"
        The paper can be read both ways. "sample": the mean over samples of each sample's norm. "batch": the
        norm of the vector of per-direction means. Equal for "l1"; for "l2" batch <= sample. "batch" is not
        a sum over samples, so it has no ``reduction="none"`` and is refused under distributed training.
    normalize
        Divide the L2 norm by √d and the L1 norm by d, so that a model whose slopes all lie below the boundary
        (λ < 1, k near 0) has its plain MSE or MAE, not √d or d times it.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    Tensor
        A scalar, or the shape of ``input`` for "none"; float32 for half-precision arguments, as the factor is
        computed in at least float32. The error is a factor outside the norm, so value and gradients are finite
        where it is zero.

    Raises
    ------
    ValueError, TypeError
        For an option outside its list, a λ that is not positive and finite, or shapes that do not match:
        (N,) against (N, 1) would broadcast to (N, N) and is refused.

    Source: paper, sections 3.1 to 3.3; ``order`` and ``normalize`` are our readings of what it leaves open.

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
    _check_options(base, norm, l1_ratio, order, reduction)
    return _lai_loss(input, target, grad, check_lam(lam), base, norm, l1_ratio, order, normalize, reduction)


def _lai_loss(
    input: Tensor,
    target: Tensor,
    grad: Tensor,
    lam: float | Tensor,
    base: Base,
    norm: Norm,
    l1_ratio: float | None,
    order: Order,
    normalize: bool,
    reduction: Reduction,
) -> Tensor:
    """:func:`lai_loss` with its options checked; looks at shapes only, so it never waits for a GPU."""
    _check_tensors(input, target, grad, lam)
    if order == "batch":
        _refuse_batch_order()
    dtype = compute_dtype(input, target, grad)
    e = (input.to(dtype) - target.to(dtype)).flatten()
    e = e * e if base == "mse" else e.abs()
    factors = unchecked_factor(grad.to(dtype), lam, base).reshape(len(e), -1)  # (N, d)

    if order == "sample":
        loss = e * _combine(factors, norm, l1_ratio, normalize)
        if reduction == "none":
            return loss.reshape(input.shape)
        return loss.mean() if reduction == "mean" else loss.sum()
    total = e.sum()
    # Σ e_i F_i = total · (weighted mean of F): the norm is taken of a vector that is never zero.
    some = total > torch.finfo(dtype).tiny  # dividing by less overflows in backward
    weights = torch.where(some, e / torch.where(some, total, 1.0), 1.0 / len(e))
    loss = total * _combine((weights @ factors)[None], norm, l1_ratio, normalize)[0]
    return loss / len(e) if reduction == "mean" else loss


class LaiLoss(nn.Module):
    r"""The Lai loss as a module; options and errors as in :func:`lai.lai_loss`.

    ``lam`` is a buffer: it moves with ``.to(device)`` and is saved in the state dict. It keeps float64 when the
    module is cast, since λ = 1e-8 is zero in float16.

    Shape: ``input`` and ``target`` (N,) or (N, 1), ``grad`` (N, \*features); a scalar, or the shape of ``input``.

    Source: paper, sections 3.1 to 3.3.

    Examples
    --------
    >>> import torch, lai
    >>> criterion = LaiLoss(lam=0.1)
    >>> criterion
    LaiLoss(lam=0.1, base='mse', norm='l2', order='sample', normalize=False, reduction='mean')
    >>> x = torch.tensor([[1.0], [2.0]], requires_grad=True)
    >>> y_hat = (3 * x).squeeze(1)
    >>> criterion(y_hat, torch.tensor([3.0, 5.0]), lai.input_gradient(y_hat, x))
    tensor(4.5000, grad_fn=<MeanBackward0>)
    """

    lam: Tensor

    def __init__(
        self,
        lam: Any = 1.0,
        *,
        base: Base = "mse",
        norm: Norm = "l2",
        l1_ratio: float | None = None,
        order: Order = "sample",
        normalize: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_options(base, norm, l1_ratio, order, reduction)
        self.base, self.norm, self.l1_ratio = base, norm, l1_ratio
        self.order, self.normalize, self.reduction = order, normalize, reduction
        self.register_buffer("lam", torch.as_tensor(check_lam(lam), dtype=torch.float64).detach().clone())

    def _apply(self, fn: Any, recurse: bool = True) -> LaiLoss:
        exact = self.lam
        super()._apply(fn, recurse)
        if not exact.is_meta:
            self.lam = exact.to(device=self.lam.device)
        return self

    def forward(self, input: Tensor, target: Tensor, grad: Tensor) -> Tensor:
        """The loss of ``input`` against ``target`` where the model's slopes are ``grad``."""
        return _lai_loss(
            input,
            target,
            grad,
            self.lam,
            self.base,
            self.norm,
            self.l1_ratio,
            self.order,
            self.normalize,
            self.reduction,
        )

    def extra_repr(self) -> str:
        """The options, as in the constructor."""
        ratio = f", l1_ratio={self.l1_ratio}" if self.norm == "elastic" else ""
        return (
            f"lam={self.lam.tolist()}, base={self.base!r}, norm={self.norm!r}{ratio}, order={self.order!r}, "
            f"normalize={self.normalize}, reduction={self.reduction!r}"
        )


def _combine(factors: Tensor, norm: Norm, l1_ratio: float | None, normalize: bool) -> Tensor:
    """(N, d) factors to the N norms. No factor is zero, so neither norm has a kink here."""
    d = factors.shape[1]
    ratio = {"l1": 1.0, "l2": 0.0}.get(norm, l1_ratio)
    assert ratio is not None  # _check_options saw to it
    out = torch.zeros((), dtype=factors.dtype, device=factors.device)
    if ratio > 0:
        out = out + ratio * factors.sum(1) / (d if normalize else 1)
    if ratio < 1:
        out = out + (1 - ratio) * torch.linalg.vector_norm(factors, dim=1) / (d**0.5 if normalize else 1)
    return out


def _check_options(base: str, norm: str, l1_ratio: float | None, order: str, reduction: str) -> None:
    check_choice("base", base, BASES)
    check_choice("norm", norm, ("l2", "l1", "elastic"))
    check_choice("order", order, ("sample", "batch"))
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if norm != "elastic":
        if l1_ratio is not None:
            raise ValueError(f"l1_ratio = {l1_ratio!r}: only norm='elastic' takes it, and norm is {norm!r}")
    elif isinstance(l1_ratio, bool) or not isinstance(l1_ratio, int | float) or not 0 <= l1_ratio <= 1:
        raise ValueError(f"l1_ratio = {l1_ratio!r}: norm='elastic' needs a number from 0 (L2) to 1 (L1)")
    if order == "batch" and reduction == "none":
        raise ValueError("reduction = 'none': order='batch' gives one number for the batch; use 'mean' or 'sum'")


def _check_tensors(input: Tensor, target: Tensor, grad: Tensor, lam: float | Tensor) -> None:
    for name, t in (("input", input), ("target", target), ("grad", grad)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}: it must be a tensor")
        if not t.dtype.is_floating_point:
            raise TypeError(f"{name} has dtype {t.dtype}: it must be floating point")
    if input.ndim not in (1, 2) or (input.ndim == 2 and input.shape[1] != 1):
        raise ValueError(f"input has shape {tuple(input.shape)}: it must be (N,) or (N, 1)")
    if target.shape != input.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)} and input {tuple(input.shape)}: they must be the same"
        )
    if len(input) == 0:
        raise ValueError("input is empty: N must be at least 1")
    if grad.ndim == 0 or grad.shape[0] != input.shape[0] or grad.numel() == 0:
        raise ValueError(f"grad has shape {tuple(grad.shape)}: it must be (N, *features) with N = {input.shape[0]}")
    if isinstance(lam, Tensor):
        check_broadcast(lam, grad.shape[1:], "the features of grad")


def _refuse_batch_order() -> None:
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise ValueError(
            "order = 'batch': the norm of batch means is not a sum over workers, so the averaged gradients of "
            f"{dist.get_world_size()} processes are not its gradient; use order='sample'"
        )


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
