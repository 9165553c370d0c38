"""Lai Training: minibatch Adam in which a schedule says where the Lai loss applies (paper, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from .factor import BASES, check_choice, compute_dtype
from .gradient import assert_independent_samples, input_gradient
from .metrics import rmse
from .schedule import LaiSchedule, check_count

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]
Data = tuple[Tensor, Tensor]


def fit(
    model: nn.Module,
    train: Data,
    *,
    val: Data | None = None,
    criterion: Criterion | None = None,
    schedule: LaiSchedule | None = None,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    device: str | torch.device = "auto",
    progress: bool = False,
    drop_last: bool = False,
    first_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    allow_coupling: bool = False,
) -> dict[str, list[float]]:
    r"""Train a model with Adam, the Lai loss taking the batches or points that the schedule gives it.

    Parameters
    ----------
    model : Module from (N, \*features) to (N,) or (N, 1)
        Trained in place, moved to ``device`` and left there, in training mode.
    train : (x, y), Tensors (N, \*features) and the shape of the model's output
    val : (x, y), optional
        Its RMSE is recorded after every epoch.
    criterion : LaiLoss with reduction "mean", or any callable (input, target, grad) -> mean loss, optional
        None is plain MSE. Where the schedule does not apply it, the loss is plain: MAE for a criterion whose
        ``base`` is "mae", else MSE.
    schedule : LaiSchedule, optional
        None applies ``criterion`` everywhere from the start (α = 1, no pre-training). Without a
        criterion it selects nothing.
    epochs, batch_size : int
    lr : float
        Adam's step size.
    seed : int
        Of the batch order (drawn per epoch, on the CPU) and of the model's own randomness, such as dropout.
        Arms trained with one seed see identical batches, whatever their loss.
    device : "auto", "cpu", "cuda" or a torch device
        "auto" is CUDA where there is one.
    progress
        Show a progress bar (needs tqdm).
    drop_last
        Leave out the last batch of an epoch where it is short.
    first_epoch : int
        The number of the first epoch, to continue an earlier run with the same order and schedule.
    optimizer
        To continue with its state; its learning rate becomes ``lr``. It must hold this model's parameters: to branch
        off a copy, use ``copy.deepcopy((model, optimizer))``. Default: a new Adam.
    allow_coupling
        Train although one sample's output depends on another's input. Off, such a model is refused wherever
        the Lai loss would apply (:func:`lai.assert_independent_samples`).

    Returns
    -------
    dict of lists, as ``pandas.DataFrame`` takes it
        An entry an epoch: ``epoch``, ``loss`` (mean training loss), ``lai_share`` (of its points), and ``val_rmse``
        if ``val`` was given.

    Raises
    ------
    FloatingPointError
        At the first loss that is not finite, before it reaches the weights; names epoch, batch, λ and the
        largest \|k\|.
    RuntimeError
        If samples are not independent.
    ModuleNotFoundError
        For a progress bar without tqdm.
    ValueError, TypeError
        For shapes or options that make no sense, before anything is trained.

    Source: paper, section 5 and section 6.1; optimiser settings are the caller's, as the paper states none.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.rand(256, 1, generator=torch.Generator().manual_seed(0))
    >>> y = 3 * x[:, 0] + 4
    >>> model = lai.MLP(1, (8,), seed=0)
    >>> history = lai.fit(model, (x, y), criterion=lai.LaiLoss(lam=0.5), device="cpu",
    ...                   schedule=lai.LaiSchedule(0.25, pretrain_epochs=2),
    ...                   epochs=4, batch_size=32, lr=0.01, seed=0)
    >>> history["lai_share"]
    [0.0, 0.0, 0.25, 0.25]
    """
    x, y = check_data("train", train)
    for name, value in (("epochs", epochs), ("first_epoch", first_epoch), ("seed", seed)):
        check_count(name, value)
    if check_count("batch_size", batch_size, least=1) > len(x) and drop_last:
        raise ValueError(f"batch_size = {batch_size}: with drop_last it must not exceed the {len(x)} samples")
    check_positive("lr", lr)
    where = resolve_device(device)
    model.to(where)
    x, y = x.to(where), y.to(where)
    held_out = None if val is None else tuple(t.to(where) for t in check_data("val", val))
    plain = _check_criterion(criterion, schedule, allow_coupling)
    if isinstance(criterion, nn.Module):
        criterion.to(where)
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    _check_optimizer(optimizer, model)
    for group in optimizer.param_groups:
        group["lr"] = lr
    model.train()
    starts = batch_starts(len(x), batch_size, drop_last=drop_last)
    sizes = [min(batch_size, len(x) - s) for s in starts]
    history: dict[str, list[float]] = {name: [] for name in ("epoch", "loss", "lai_share")}
    if held_out is not None:
        history["val_rmse"] = []
    cuda = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.enable_grad():
        _rehearse(model, x, y, held_out, criterion)
        if criterion is not None and not allow_coupling and len(x) > 1:
            assert_independent_samples(model, x)
        for epoch in _with_bar(range(first_epoch, first_epoch + epochs), progress):
            own_seed, order = batch_order(seed, epoch, len(x))
            _seed(own_seed, where)
            order = order.to(where)
            batches = zip(x[order].split(batch_size), y[order].split(batch_size), strict=True)
            plan = [range(0)] * len(sizes) if criterion is None else lai_points(schedule, epoch, sizes)
            total = torch.zeros((), dtype=compute_dtype(y), device=where)
            for b, ((xb, yb), chosen) in enumerate(zip(batches, plan)):  # noqa: B905 drop_last leaves one batch out
                loss, k = _batch_loss(model, xb, yb, criterion, plain, chosen)
                if not torch.isfinite(loss):
                    _refuse_loss(loss, epoch, b, criterion, k)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(xb)
            history["epoch"].append(epoch)
            history["loss"].append(float(total) / sum(sizes))
            history["lai_share"].append(sum(map(len, plan)) / sum(sizes))
            if held_out is not None:
                history["val_rmse"].append(rmse(model, *held_out))
    return history


def batch_starts(n: int, batch_size: int, *, drop_last: bool) -> range:
    """Where the batches of an epoch over ``n`` samples begin."""
    return range(0, n - (batch_size - 1 if drop_last else 0), batch_size)


def batch_order(seed: int, epoch: int, n: int) -> tuple[int, Tensor]:
    """A seed for the model's own randomness, and the order of the samples: (n,) indices, on the CPU.

    They depend on ``seed`` and the epoch's number alone, so that arms with different losses see the same batches.
    """
    rng = np.random.default_rng([seed, epoch])
    return int(rng.integers(2**63)), torch.from_numpy(rng.permutation(n))


def resolve_device(device: str | torch.device) -> torch.device:
    """A torch device; "auto" is CUDA where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device = {device!r}: must be 'auto', 'cpu', 'cuda' or a torch device") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = {device!r}: torch sees no CUDA device here; use 'auto' or 'cpu'")
    return where


def _with_bar(epochs: range, progress: bool) -> Iterable[int]:
    if not progress:
        return epochs
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress = True: the bar needs tqdm; install it, or leave progress off") from error
    return tqdm(epochs, unit="epoch")


def lai_points(schedule: LaiSchedule | None, epoch: int, sizes: list[int]) -> list[range | Tensor]:
    """The Lai points of each batch: all of them (a range), none, or some (indices)."""
    if schedule is None:
        return [range(n) for n in sizes]
    if schedule.sampling == "points":
        return list(schedule.points(epoch, sizes))
    return [range(n if lai else 0) for n, lai in zip(sizes, schedule.batches(epoch, len(sizes)), strict=True)]


def _batch_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    criterion: Criterion | None,
    plain: Callable[[Tensor, Tensor], Tensor],
    chosen: range | Tensor,
) -> tuple[Tensor, Tensor | None]:
    """The batch's mean loss, and the slopes that went into it."""
    if criterion is None or len(chosen) == 0:
        return plain(model(x), y), None
    if len(chosen) == len(x):
        return _lai_batch(model, x, y, criterion)
    assert isinstance(chosen, Tensor)
    # The sampled points have a pass of their own: only they pay for the second derivative.
    rest = torch.ones(len(x), dtype=torch.bool)
    rest[chosen] = False
    inside, outside = chosen.to(x.device), rest.nonzero().flatten().to(x.device)
    lai, k = _lai_batch(model, x[inside], y[inside], criterion)
    other = plain(model(x[outside]), y[outside])
    share = len(chosen) / len(x)
    return share * lai + (1 - share) * other, k


def _lai_batch(model: nn.Module, x: Tensor, y: Tensor, criterion: Criterion) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    output = model(x)
    k = input_gradient(output, x, create_graph=True)
    return criterion(output, y, k), k.detach()


def plain_loss(base: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss, over a batch, that the Lai loss of this base weighs."""
    check_choice("base", base, BASES)
    return nn.functional.l1_loss if base == "mae" else nn.functional.mse_loss


def check_positive(name: str, value: float) -> float:
    """``value`` if it is a finite number greater than 0, else ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} = {value!r}: must be finite and greater than 0")
    return value


def check_data(name: str, data: Data) -> Data:
    try:
        x, y = data
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a pair of tensors (x, y)") from None
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError(f"{name} must be a pair of tensors, not {type(x).__name__} and {type(y).__name__}")
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise ValueError(f"{name}: x has shape {tuple(x.shape)} and y {tuple(y.shape)}: same N, at least 1, is needed")
    for part, t in (("x", x), ("y", y)):
        if not torch.isfinite(t).all():
            raise ValueError(f"{name}: {part} holds NaN or infinity; clean the data first")
    return x.detach(), y.detach()


def _check_criterion(
    criterion: Criterion | None, schedule: LaiSchedule | None, allow_coupling: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """The plain loss that goes with ``criterion``, or an error if it cannot be averaged over a batch."""
    base = getattr(criterion, "base", "mse")
    check_choice("criterion.base", base, BASES)
    check_choice("criterion.reduction", getattr(criterion, "reduction", "mean"), ("mean",))
    if criterion is not None and allow_coupling and schedule is not None and schedule.sampling == "points":
        raise ValueError(
            "schedule.sampling = 'points': the sampled points take a pass of their own, so with allow_coupling they "
            "would be mixed among themselves; use sampling='batches'"
        )
    return plain_loss(base)


def _check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not all(id(p) in held for p in model.parameters() if p.requires_grad):
        raise ValueError(
            "optimizer does not hold this model's parameters, so nothing would be trained; "
            "copy both in one call: copy.deepcopy((model, optimizer))"
        )


def _rehearse(
    model: nn.Module, x: Tensor, y: Tensor, val: tuple[Tensor, ...] | None, criterion: Criterion | None
) -> None:
    """One small batch of everything that training will do, so that what cannot work fails before it begins."""
    before = [b.clone() for b in model.buffers()]
    parts = {"train": (x, y)} if val is None else {"train": (x, y), "val": (val[0], val[1])}
    for name, (inputs, target) in parts.items():
        if inputs.shape[1:] != x.shape[1:]:
            raise ValueError(f"{name}: x is (N, *{tuple(inputs.shape[1:])}), in train (N, *{tuple(x.shape[1:])})")
        shape = model(inputs[:2]).shape
        if shape != target[:2].shape:
            raise ValueError(
                f"{name}: the model returns shape (N, *{tuple(shape[1:])}) and y is (N, *{tuple(target.shape[1:])}): "
                "they must be the same, as (N,) against (N, 1) would broadcast"
            )
    if criterion is not None:
        loss, _ = _lai_batch(model, x[:2], y[:2], criterion)
        if loss.ndim != 0:
            raise ValueError(f"criterion returned shape {tuple(loss.shape)}: it must return one number, the mean")
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)  # a rehearsal must not move running statistics


def _seed(seed: int, where: torch.device) -> None:
    """Seed the CPU and the device in use, and no other: torch.manual_seed would reseed every GPU."""
    torch.default_generator.manual_seed(seed)
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(seed)


def _refuse_loss(loss: Tensor, epoch: int, batch: int, criterion: Criterion | None, k: Tensor | None) -> None:
    lam = getattr(criterion, "lam", None)
    shown = lam.tolist() if isinstance(lam, Tensor) else lam
    if criterion is None:
        about = "plain MSE"
    elif k is None:
        about = f"a plain batch, λ = {shown} elsewhere"
    else:
        about = f"λ = {shown}, largest |k| = {float(k.abs().max()):.3g}"
    raise FloatingPointError(
        f"the loss became {loss.item()} at epoch {epoch}, batch {batch} ({about}); "
        "the weights are as before that batch. Try a smaller lr, a λ nearer to 1, or scaled inputs."
    )
