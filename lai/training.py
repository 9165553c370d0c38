"""Lai Training: minibatch Adam in which a schedule says where the Lai loss applies (paper, section 5)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .factor import check_choice, check_flag, check_kind, check_positive, compute_dtype, wide
from .gradient import Inputs, WithSlopes, arguments, assert_independent_samples, call, each_tensor, unchanged
from .loss import Error, LaiLoss, check_weight, pointwise_error
from .metrics import evaluating, kept_mode_on_error, only_tensor, rmse
from .obstacles import CALMER, TOO_SHORT, explained
from .schedule import LaiSchedule, check_count

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]


def fit(
    model: nn.Module,
    train: tuple[Inputs, Tensor],
    *,
    val: tuple[Inputs, Tensor] | None = None,
    criterion: Criterion | None = None,
    schedule: LaiSchedule | None = None,
    epochs: int,
    batch_size: int,
    lr: float | None = None,
    seed: int,
    device: str | torch.device = "auto",
    progress: bool = False,
    drop_last: bool = False,
    first_epoch: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    each_epoch: Callable[[dict[str, float]], object] | None = None,
    weight: Tensor | None = None,
    allow_coupling: bool = False,
) -> dict[str, list[float]]:
    r"""Train a model with Adam, the Lai loss taking the batches or points that the schedule gives it.

    Parameters
    ----------
    model : Module from (N, \*features) to (N,) or (N, 1)
        Trained in place, moved to ``device`` and left there, in training mode. :class:`lai.WithSlopes` of it, compiled
        or not, where it is to be said which inputs or features have slopes.
    train : (x, y), Tensors (N, \*features) and the shape of the model's output
        x may also be a tuple or dict of tensors: the model's positional or keyword arguments.
    val : (x, y), optional, whose RMSE is recorded after every epoch
    criterion : LaiLoss with reduction "mean", or any callable (input, target, grad) -> mean loss; default: plain MSE
        Where the schedule does not apply it, the loss is the mean of the pointwise error that the criterion's ``base``
        names, and MSE, with a warning, for a criterion without one.
    schedule : LaiSchedule, optional, where ``criterion`` applies; default: everywhere from the start
    epochs, batch_size : int
    lr : float, of Adam, or of all groups of ``optimizer``, which keep their own where there is none; not with ``scheduler``
    seed : int
        Of the batch order and of the model's own randomness, such as dropout: arms trained with one seed see identical
        batches, whatever their loss.
    device : "auto" (CUDA where there is one), "cpu", "cuda" or a torch device
    progress : bool, show a progress bar (needs tqdm)
    drop_last : bool, leave out the last batch of an epoch where it is short
    first_epoch : int, the number of the first epoch, to continue an earlier run with the same order and schedule
    optimizer : torch.optim.Optimizer of this model's parameters, LBFGS too; default: a new Adam
        Its state is kept: to branch off a copy, use ``copy.deepcopy((model, optimizer))``.
    scheduler : torch learning-rate scheduler of ``optimizer``, optional
        Takes a step after every epoch; ReduceLROnPlateau sees the epoch's ``val_rmse``, or ``loss`` without ``val``.
    each_epoch : callable (row), called after every epoch; True ends the training
        ``row`` is the epoch's entry of each list that is returned, such as ``row["val_rmse"]``. True may be numpy's or torch's.
    weight : Tensor (N,), at least 0, optional, for a :class:`lai.LaiLoss` as criterion, or none
        Each sample's loss is multiplied by its weight over their mean.
    allow_coupling : bool
        Train although one sample's output depends on another's input (:func:`lai.assert_independent_samples`), which is
        otherwise refused wherever the Lai loss would apply.

    Returns
    -------
    dict of lists, as ``pandas.DataFrame`` takes it
        An entry an epoch: ``epoch``, ``loss`` (mean training loss, weights included), ``lai_share`` (of its points), and
        ``val_rmse`` if ``val`` was given.

    Raises
    ------
    FloatingPointError
        At the first loss that is not finite, before it reaches the weights; names epoch, batch, λ and the largest \|k\|.
    RuntimeError
        If samples are not independent, or the model cannot be differentiated twice (:func:`lai.input_gradient`).

    Source: paper, section 5 and section 6.1; optimiser settings are the caller's, as the paper states none.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.rand(256, 1)
    >>> history = lai.fit(lai.MLP(1, (8,)), (x, 3 * x[:, 0] + 4), criterion=lai.LaiLoss(lam=0.5), device="cpu",
    ...                   schedule=lai.LaiSchedule(0.25, pretrain_epochs=2), epochs=4, batch_size=32, lr=0.01, seed=0)
    >>> history["lai_share"]
    [0.0, 0.0, 0.25, 0.25]
    """
    x, y = check_data("train", train, several=True)
    check_kind("model", model, nn.Module, "a Module; wrap a function in one, whose parameters are trained")
    check_kind("schedule", schedule, LaiSchedule | None, "a lai.LaiSchedule, or None")
    check_kind("each_epoch", each_epoch, Callable | None, "a function of what an epoch measured, or None")
    for name, flag in (("progress", progress), ("allow_coupling", allow_coupling)):
        check_flag(name, flag)
    sizes = batch_sizes(len(y), batch_size, epochs, seed=seed, first_epoch=first_epoch, drop_last=drop_last)
    schedule = LaiSchedule(0.0) if criterion is None else schedule or LaiSchedule(1.0)
    plain = _check_criterion(criterion, schedule, allow_coupling, weight is not None)
    where = resolve_device(device)
    model.to(where)
    if isinstance(criterion, nn.Module):
        criterion.to(where)
    held_out = None if val is None else check_data("val", val, several=True)
    share = None if weight is None else _shares(weight, y)
    x, y, share, held_out = each_tensor(lambda t: t.to(where), (x, y, share, held_out))
    losses = _Losses(model, criterion, plain)
    optimizer = _optimizer(model, optimizer, lr, scheduler)
    history: dict[str, list[float]] = {name: [] for name in ("epoch", "loss", "lai_share")}
    if held_out is not None:
        history["val_rmse"] = []
    cuda = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.enable_grad():
        with kept_mode_on_error(model):
            model.train()
            losses.rehearse((x, y, share), held_out, min(2, *sizes))
            if criterion is not None and not allow_coupling and len(y) > 1:
                assert_independent_samples(getattr(model, "_orig_mod", model), x)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] if lr is None else lr
        for epoch in _with_bar(range(first_epoch, first_epoch + epochs), progress):
            own_seed, order = batch_order(seed, epoch, len(y))
            _seed(own_seed, where)
            in_order = _rows((x, y, share), order.to(where))
            plan = lai_points(schedule, epoch, sizes)
            total = torch.zeros((), dtype=compute_dtype(y), device=where)
            for b, chosen in enumerate(plan):
                batch = _rows(in_order, slice(b * batch_size, (b + 1) * batch_size))
                loss = _step(optimizer, partial(losses.of_batch, batch, chosen, (epoch, b)), slopes=len(chosen) > 0)
                total += loss * sizes[b]
            row = {"epoch": epoch, "loss": float(total) / sum(sizes), "lai_share": sum(map(len, plan)) / sum(sizes)}
            if held_out is not None:
                row["val_rmse"] = rmse(losses.sloped.model, *held_out)
            for name, value in row.items():
                history[name].append(value)
            if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                scheduler.step(row.get("val_rmse", row["loss"]))
            elif scheduler is not None:
                scheduler.step()
            done = each_epoch is not None and is_true(each_epoch(row))
            model.train()  # whatever was called may have evaluated
            if done:
                break
    return history


def is_true(answer: object) -> bool:
    """Whether it is True, numpy's and torch's included; what else a callback may return means nothing."""
    if isinstance(answer, Tensor) and answer.dtype == torch.bool and answer.numel() == 1:
        return bool(answer)
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def batch_sizes(n: int, batch_size: int, epochs: int, *, seed: int, first_epoch: int, drop_last: bool) -> list[int]:
    """The sizes of an epoch's batches over ``n`` samples, or what is wrong with the numbers."""
    for name, value in (("epochs", epochs), ("first_epoch", first_epoch), ("seed", seed)):
        check_count(name, value)
    check_flag("drop_last", drop_last)
    if check_count("batch_size", batch_size, least=1) > n and drop_last:
        raise ValueError(f"batch_size = {batch_size}: with drop_last it must not exceed the {n} samples")
    return [min(batch_size, n - start) for start in batch_starts(n, batch_size, drop_last=drop_last)]


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
    """The epochs, with a bar if it is wanted."""
    if not progress:
        return epochs
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress = True: the bar needs tqdm; install it, or leave progress off") from error
    return tqdm(epochs, unit="epoch")


def lai_points(schedule: LaiSchedule, epoch: int, sizes: list[int]) -> list[range | Tensor]:
    """The Lai points of each batch: all of them (a range), none, or some (indices)."""
    if schedule.sampling == "points":
        return list(schedule.points(epoch, sizes))
    return [range(n if lai else 0) for n, lai in zip(sizes, schedule.batches(epoch, len(sizes)), strict=True)]


def _rows(x: Any, rows: Any) -> Any:
    return each_tensor(lambda t: t[rows], x)


def _step(optimizer: torch.optim.Optimizer, loss_of: Callable[..., Tensor], *, slopes: bool) -> Tensor:
    """One step of any optimiser; returns the loss before it."""
    losses: list[Tensor] = []
    # Slopes need data that require a gradient, which is not wanted itself: with many features a sixth of the products.
    wanted = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad] if slopes else None

    def closure() -> Tensor:
        # Autocast keeps its copies of the weights until it ends, and this may all be inside.
        torch.clear_autocast_cache()
        loss = loss_of(moved=bool(losses))
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=wanted)
        losses.append(loss.detach())
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    torch.clear_autocast_cache()
    return losses[0]


class _Losses:
    """What a batch minimises: the plain error, the Lai loss, or each of them on a part of the samples."""

    def __init__(self, model: nn.Module, criterion: Criterion | None, error: Error) -> None:
        inner = getattr(model, "_orig_mod", model)  # of a compiled model
        self.sloped: Any = model if isinstance(inner, WithSlopes) else WithSlopes(model)
        self.criterion: Any = criterion
        self.error = error

    def plain(self, x: Inputs, y: Tensor, weight: Tensor | None = None) -> Tensor:
        errors = self.error(call(self.sloped.model, arguments(x)), y)
        return (errors if weight is None else errors * weight.reshape(-1, *[1] * (errors.ndim - 1))).mean()

    def lai(self, x: Inputs, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss, and the slopes."""
        output, k = call(self.sloped, arguments(x))
        if weight is None:
            return self.criterion(output, y, k), k.detach()
        # The criterion divides by the weights of the batch, which may all be 0; weights of all samples have mean one.
        return self.criterion(output, y, k, weight + (weight.sum() == 0)) * weight.mean(), k.detach()

    def of_batch(self, batch: Any, chosen: range | Tensor, at: tuple[int, int], *, moved: bool = False) -> Tensor:
        """The mean loss of a batch (x, y, weight), which is finite.

        ``at`` are its epoch and number; the optimiser may have ``moved`` the weights since the batch began, as LBFGS does.
        """
        k = None
        if len(chosen) == 0:
            loss = self.plain(*batch)
        elif len(chosen) == len(batch[1]):
            loss, k = self.lai(*batch)
        else:
            # The sampled points have a pass of their own: only they pay for the second derivative.
            inside, outside = inside_and_outside(chosen, batch[1])
            lai, k = self.lai(*_rows(batch, inside))
            share = len(chosen) / len(batch[1])
            loss = share * lai + (1 - share) * self.plain(*_rows(batch, outside))
        if not torch.isfinite(loss):
            lam = getattr(self.criterion, "lam", None)
            lam = lam.tolist() if isinstance(lam, Tensor) else lam
            what = "plain MSE" if self.criterion is None else f"a plain batch, λ = {lam} elsewhere"
            if k is not None:
                what = f"λ = {lam}, largest |k| = {k.abs().max():.3g}"
            kept = "" if moved else "the weights are as before that batch; "
            raise FloatingPointError(
                f"the loss became {loss.item()} at epoch {at[0]}, batch {at[1]} ({what}); {kept}{CALMER}"
            )
        return loss

    def rehearse(self, train: Any, val: tuple[Inputs, Tensor] | None, n: int) -> None:
        """A batch of ``n`` of everything that training will do, so that what cannot work fails before anything is trained."""
        parameters = list(self.sloped.parameters())
        gradients = [p.grad for p in parameters]
        try:
            with unchanged(self.sloped):
                check_shapes(self.sloped.model, train[:2], val, n)
                few = _rows(train, slice(n))
                losses = [self.plain(*few)]
                if self.criterion is not None:
                    with explained():
                        # Not compiled at first, as only then the graph is searched for what cannot be trained on.
                        call(getattr(self.sloped, "_orig_mod", self.sloped), arguments(few[0]))
                        losses.append(self.lai(*few)[0])
                check_kind("criterion's result", losses[-1], Tensor, "one number, the mean, in a tensor")
                if losses[-1].ndim != 0:
                    shape = tuple(losses[-1].shape)
                    raise ValueError(f"criterion returned shape {shape}: it must return one number, the mean")
                for loss in losses:
                    for p in parameters:
                        p.grad = None
                    if loss.requires_grad:
                        with explained():
                            loss.backward()
                    if all(p.grad is None for p in parameters):
                        what = "look for detach() or no_grad in its forward"
                        raise ValueError(f"model: no parameter receives a gradient from the loss; {what}")
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(f"batch_size leaves a batch of {n} sample, {TOO_SHORT}") from error
        finally:
            for p, before in zip(parameters, gradients, strict=True):
                p.grad = before


def inside_and_outside(chosen: Any, y: Tensor) -> tuple[Tensor, Tensor]:
    """The places of a batch that are chosen, and the others: indices, where ``y`` is."""
    rest = torch.ones(len(y), dtype=torch.bool)
    rest[chosen] = False
    return chosen.to(y.device), rest.nonzero().flatten().to(y.device)


def check_shapes(model: Callable[..., Tensor], train: Any, val: Any, n: int) -> None:
    """Raise unless both have the same features, and the model returns the targets' shape; tried with ``n`` samples."""
    expected = [str(tuple(t.shape[1:])) for t in arguments(train[0]).values()]
    for name, data in {"train": train, "val": val}.items():
        if data is None:
            continue
        x, y = _rows(data, slice(n))
        found = [str(tuple(t.shape[1:])) for t in arguments(x).values()]
        if found != expected:
            raise ValueError(f"{name}: x is (N, *{', '.join(found)}), in train (N, *{', '.join(expected)})")
        with evaluating(model) if name == "val" else nullcontext(), _dtypes_told(name, model, x):
            output = only_tensor(call(model, arguments(x)))
        if output.shape != y.shape:
            raise ValueError(
                f"{name}: the model returns shape (N, *{tuple(output.shape[1:])}) and y is (N, *{tuple(y.shape[1:])}): they must be the "
                "same, as (N,) against (N, 1) would broadcast; classes need a loop of your own, with the slopes of each error"
            )


@contextmanager
def _dtypes_told(name: str, model: Any, x: Any) -> Iterator[None]:
    """Torch's error where the data are of another precision than the weights, in words."""
    try:
        yield
    except RuntimeError as error:
        weights = {p.dtype for p in model.parameters()} if isinstance(model, nn.Module) else set()
        found = {t.dtype for t in arguments(x).values() if t.is_floating_point()}
        if "dtype" in str(error) and found - weights and weights:
            said = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in (*found, *weights)))
            raise TypeError(
                f"{name}: x and the model's weights are {said}; use x.float(), or model.double()"
            ) from error
        raise


def _shares(weight: Tensor, y: Tensor) -> Tensor:
    """The weights over their mean."""
    weight = weight.cpu() if isinstance(weight, Tensor) else weight
    check_weight(weight, y.shape[:1])
    return (weight / wide(weight).mean()).to(compute_dtype(y)).to(y.device)


def check_data(name: str, data: tuple[Any, Tensor], *, several: bool = False) -> tuple[Any, Tensor]:
    """The pair (x, y), detached; ``several`` allows x to be a tuple or dict of tensors."""
    try:
        x, y = data
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a pair of tensors (x, y)") from None
    parts = [*arguments(x).values()] if several else [x]
    if not parts or not all(isinstance(t, Tensor) for t in (*parts, y)):
        kinds = ", ".join(type(t).__name__ for t in parts)
        raise TypeError(f"{name} must be a pair of tensors, not {kinds} and {type(y).__name__}; use torch.as_tensor")
    shapes = ", ".join(str(tuple(t.shape)) for t in parts)
    if y.ndim == 0 or len(y) == 0 or any(t.ndim == 0 or len(t) != len(y) for t in parts):
        raise ValueError(f"{name}: x has shape {shapes} and y {tuple(y.shape)}: same N, at least 1, is needed")
    for part, t in (*(("x", t) for t in parts), ("y", y)):
        if not torch.isfinite(t).all():
            raise ValueError(f"{name}: {part} holds NaN or infinity; clean the data first")
    return each_tensor(lambda t: t.detach(), (x, y))


def _check_criterion(criterion: Criterion | None, schedule: LaiSchedule, allow_coupling: bool, weighted: bool) -> Error:
    """The plain error that goes with ``criterion``, or an error if it cannot be averaged over a batch."""
    if criterion is None:
        return pointwise_error("mse")[0]
    if not callable(criterion) or isinstance(criterion, (type, nn.modules.loss._Loss)):
        raise TypeError(f"criterion = {criterion!r}: must take (output, target, slopes) as LaiLoss does, or be None")
    if weighted and not isinstance(criterion, LaiLoss):
        raise ValueError(f"weight: {type(criterion).__name__} takes none; use a lai.LaiLoss, or weigh inside")
    check_choice("criterion.reduction", getattr(criterion, "reduction", "mean"), ("mean",))
    if allow_coupling and schedule.sampling == "points":
        what = "with allow_coupling the points, which take a pass of their own, would mix among themselves"
        raise ValueError(f"schedule.sampling = 'points': {what}; use 'batches'")
    if not hasattr(criterion, "base") and schedule.alpha < 1:
        what = "set criterion.base to the error that it weighs, such as 'mae'"
        warnings.warn(f"criterion has no base: plain batches minimise the mean squared error; {what}", stacklevel=3)
    return pointwise_error(getattr(criterion, "base", "mse"))[0]


def _optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, lr: float | None, scheduler: Any
) -> torch.optim.Optimizer:
    """The optimiser of the training, which holds all of the model's parameters and has its step size."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("model has no parameter that requires a gradient, so nothing would be trained; unfreeze some")
    check_kind("optimizer", optimizer, torch.optim.Optimizer | None, "a torch.optim.Optimizer of the model's weights")
    if lr is not None or optimizer is None:
        check_positive("lr", lr)
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)  # type: ignore[arg-type]
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not all(id(p) in held for p in trained):
        what = "copy both in one call: copy.deepcopy((model, optimizer))"
        raise ValueError(f"optimizer does not hold this model's parameters, so nothing would be trained; {what}")
    if scheduler is not None and getattr(scheduler, "optimizer", None) is not optimizer:
        raise ValueError("scheduler is not one of optimizer: give as optimizer the one that it was made of")
    if scheduler is not None and lr is not None:
        raise ValueError(f"lr = {lr}: the scheduler has the learning rate; set it in the optimizer, and leave lr out")
    return optimizer


def _seed(seed: int, where: torch.device) -> None:
    """Seed the CPU and the device in use, and no other: torch.manual_seed would reseed every GPU."""
    torch.default_generator.manual_seed(seed)
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(seed)
