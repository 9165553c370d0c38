"""Networks that differ in λ, trained side by side on the same batches, through :func:`lai.lai_loss` itself."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .batchnorm import SLOPES, FixedStatistics, HandedOut, Moments, Slope
from .factor import check_choice, check_lam
from .gradient import assert_independent_samples
from .loss import lai_loss
from .metrics import rmse
from .schedule import LaiSchedule, check_count
from .training import batch_order, batch_starts, check_data, check_positive, lai_points, plain_loss, resolve_device

WORTH_COMPILING = 2000
"""Steps of one kind from which "auto" compiles: a graph costs some ten seconds once, and saves a millisecond a step."""


class Network:
    """One network of a sweep, as an objective sees it: its outputs, and its slopes.

    An objective calls one of its two methods once, or more often where there is no BatchNorm.
    """

    def __init__(self, template: nn.Module, weights: dict[str, Tensor], running: dict[str, Moments]) -> None:
        self._template, self._weights, self._running = template, weights, running
        self.left = running
        """BatchNorm's running statistics, as the last pass left them."""

    def __call__(self, x: Tensor) -> Tensor:
        r"""Outputs (N,) or (N, 1) for ``x`` (N, \*features), normalised by the batch where there is BatchNorm."""
        value, seen = self._pass(x)
        self._keep(seen)
        return value

    def value_and_slope(self, x: Tensor, slope: Slope = "own") -> tuple[Tensor, Tensor]:
        """Outputs, and slopes of the shape of ``x``: which, where BatchNorm couples the samples, ``SLOPES`` says."""
        if slope == "summed" or not self._running:
            k, (value, seen) = self._slope(x, None)
            self._keep(seen)
            return value, k
        value, seen = self._pass(x)
        self._keep(seen)
        held = seen if slope == "own" else {n: Moments(*(m.detach() for m in kept)) for n, kept in self.left.items()}
        k, (same, _) = self._slope(x, held)
        return (same if slope == "own" else value), k

    def _pass(self, x: Tensor, held: dict[str, Moments] | None = None) -> tuple[Tensor, dict[str, Moments]]:
        norms = {name: m for name, m in self._template.named_modules() if isinstance(m, HandedOut)}
        for name, norm in norms.items():
            norm.held, norm.seen = (None if held is None else held[name]), None
        value = functional_call(self._template, self._weights, (x,))
        seen = {}
        for name, norm in norms.items():
            if norm.seen is not None:
                seen[name] = norm.seen
            norm.held = norm.seen = None  # nothing of this pass may outlive it
        return value, seen

    def _slope(self, x: Tensor, held: dict[str, Moments] | None) -> Any:
        def summed(z: Tensor) -> Any:
            value, seen = self._pass(z, held)
            return value.sum(), (value, seen)

        return grad(summed, has_aux=True)(x)

    def _keep(self, seen: dict[str, Moments]) -> None:
        self.left = {
            name: self._template.get_submodule(name).moved(kept, seen[name])  # type: ignore[operator]
            for name, kept in self._running.items()
        }


Objective = Callable[..., Tensor]


class Part(NamedTuple):
    """What some networks of a sweep minimise in a step.

    Attributes
    ----------
    objective : callable (network, *args) -> scalar Tensor
        The loss of one :class:`Network`, which is mapped over all of them. Use one and the same object for every step:
        it is traced when it is first seen, so that it must not depend on values.
    args : tuple of Tensor
    own : tuple of bool
        For each of ``args`` whether it has a row for each network that takes part, or is one for all of them.
    rows : Tensor of int, optional
        The networks that take part; all by default.
    """

    objective: Objective
    args: tuple[Tensor, ...]
    own: tuple[bool, ...]
    rows: Tensor | None = None


class Sweep:
    r"""Copies of networks of one architecture, trained side by side with Adam in one tensor program.

    The program is :func:`torch.func.vmap` of the loss over the networks. It is traced once, and compiled where that is
    worth its time and a compiler is there. No network feels another: each takes the path that :func:`lai.fit` gives it
    alone, up to rounding.

    Parameters
    ----------
    models : sequence of E Modules from (N, \*features) to (N,) or (N, 1)
        Of one architecture, without dropout. They stay as they are; :meth:`models` returns the trained copies.
    lr : float
        Adam's step size.
    device : "auto", "cpu", "cuda" or a torch device
    compile : bool or "auto"
        Whether to hand the traced program to :func:`torch.compile`. "auto": where a call of :meth:`fit` makes at least
        ``WORTH_COMPILING`` steps. Where there is no working compiler the traced program is run as it is; ``how`` says
        what happened.

    Attributes
    ----------
    how : str
        "compiled", or "eager" with the reason.

    Raises
    ------
    ValueError
        For no model, models of different architecture, dropout, or a BatchNorm that averages without a momentum.

    Source: ours. The paper's comparisons (version 2, section 6) are of networks that differ in λ alone.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.rand(256, 1, generator=torch.Generator().manual_seed(0))
    >>> y = (6 * x[:, 0]).sin()
    >>> sweep = Sweep([lai.MLP(1, (16,), seed=0)] * 3, lr=0.01, device="cpu")
    >>> history = sweep.fit((x, y), lams=[None, 1.0, 0.01], epochs=20, batch_size=64, seed=0)
    >>> plain, large, small = (lai.value_and_input_gradient(m, x)[1].abs().mean().item() for m in sweep.models())
    >>> small < large
    True
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        *,
        lr: float,
        device: str | torch.device = "auto",
        compile: bool | Literal["auto"] = "auto",
    ) -> None:
        check_positive("lr", lr)
        if compile not in (True, False, "auto"):
            raise ValueError(f"compile = {compile!r}: must be True, False or 'auto'")
        _check_models(models)
        self.device = resolve_device(device)
        self.compile: bool | Literal["auto"] = compile
        self.how = "eager: nothing was trained yet"
        self._first = copy.deepcopy(models[0]).to(self.device)
        self._template = HandedOut.replacing(copy.deepcopy(self._first)).train()
        held = {n for n, m in self._template.named_modules() if isinstance(m, HandedOut)}
        self._coupled = bool(held)
        stacked = {
            name: torch.stack([m.state_dict()[name].detach() for m in models]).to(self.device)
            for name in models[0].state_dict()
        }
        trained = {name: None for name, p in models[0].named_parameters() if p.requires_grad}
        self._rows: dict[_Name, Tensor] = {("weight", name): stacked[name].clone() for name in trained}
        for moment in ("first", "second"):
            self._rows |= {(moment, name): torch.zeros_like(stacked[name]) for name in trained}
        for name in sorted(held):
            self._rows |= {(part, name): stacked[f"{name}.running_{part}"].clone() for part in Moments._fields}
        running = {f"{n}.{part}" for n in held for part in ("running_mean", "running_var", "num_batches_tracked")}
        rest = {n: t for n, t in stacked.items() if n not in trained and n not in running}
        self._same = {n: t[0] for n, t in rest.items() if (t == t[:1]).all()}  # computed with once, not E times
        self._fixed = {n: t for n, t in rest.items() if n not in self._same}
        self._counts = {n: t.clone() for n, t in stacked.items() if n.endswith("num_batches_tracked")}
        self._lr, self._steps = lr, 0
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._planned: dict[Objective, int] = {}

    def __len__(self) -> int:
        return len(next(iter(self._rows.values())))

    def models(self) -> list[nn.Module]:
        """The networks, as copies, in training mode."""
        state = {**self._fixed, **self._counts}
        for (kind, name), values in self._rows.items():
            if kind not in ("first", "second"):
                state[name if kind == "weight" else f"{name}.running_{kind}"] = values
        result = []
        for i in range(len(self)):
            model = copy.deepcopy(self._first)
            model.load_state_dict({name: values[i] for name, values in state.items()}, strict=False)
            result.append(model.train())
        return result

    def branch(self, index: Sequence[int]) -> Sweep:
        """A sweep of copies of the networks ``index`` (repeats allowed), with Adam's state: arms that part from a trunk."""
        models = self.models()
        fresh = Sweep([models[i] for i in index], lr=self._lr, device=self.device, compile=self.compile)
        fresh._rows = {name: values[list(index)] for name, values in self._rows.items()}
        fresh._steps = self._steps
        return fresh

    def set_lr(self, lr: float) -> None:
        """Adam's step size from now on."""
        self._lr = check_positive("lr", lr)

    def fit(
        self,
        train: tuple[Tensor, Tensor],
        *,
        lams: Sequence[Any],
        schedule: LaiSchedule | None = None,
        epochs: int,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        drop_last: bool = False,
        slope: Slope = "own",
        val: tuple[Tensor, Tensor] | None = None,
        validate_every: int = 1,
        each_epoch: Callable[[int], object] | None = None,
        **options: Any,
    ) -> dict[str, list[Any]]:
        """Train network i with ``lams[i]``: the Lai loss where the schedule says so, the plain loss elsewhere.

        Parameters
        ----------
        train, schedule, epochs, batch_size, seed, first_epoch, drop_last
            As in :func:`lai.fit`; all networks see the same batches.
        lams : E entries
            λ of each network, a number or a list (one per feature), or None for the plain loss throughout.
        slope : "summed", "own" or "running"
            What stands for k where BatchNorm couples the samples (``lai.batchnorm.SLOPES``); the same without BatchNorm.
        val : (x, y), optional
            For every network's RMSE, with running statistics, after every ``validate_every``-th epoch and the last.
        each_epoch : callable (epoch), optional
            Called after every epoch.
        **options
            ``base``, ``norm``, ``l1_ratio``, ``order`` and ``normalize`` of :func:`lai.lai_loss`.

        Returns
        -------
        dict of lists, as :class:`pandas.DataFrame` takes it
            A row for each epoch and network: ``epoch``, ``network``, ``loss`` (mean training loss), ``lai_share`` (of its
            points), and ``val_rmse`` (None where it was not validated) if ``val`` was given.

        Raises
        ------
        FloatingPointError
            At the end of an epoch in which a network's loss was not finite; names epoch and λ.
        RuntimeError, ValueError, TypeError
            As :func:`lai.fit`, before anything is trained.

        Source: paper, section 5 and version 2, section 6.1.
        """
        x, y = (t.to(self.device) for t in check_data("train", train))
        for name, value in (("epochs", epochs), ("first_epoch", first_epoch), ("seed", seed)):
            check_count(name, value)
        check_count("validate_every", validate_every, least=1)
        check_choice("slope", slope, tuple(SLOPES))
        if check_count("batch_size", batch_size, least=2 if self._coupled else 1) > len(x) and drop_last:
            raise ValueError(f"batch_size = {batch_size}: with drop_last it must not exceed the {len(x)} samples")
        lam, takers, rest = self._takers(lams, x)
        if self._coupled and schedule is not None and schedule.sampling == "points" and takers.numel():
            raise ValueError("schedule.sampling = 'points': BatchNorm would mix the sampled points; use 'batches'")
        losses = _objectives(slope, tuple(sorted(options.items())))
        self._rehearse(losses.whole, x[:2], y[:2], lam, takers, slope)
        starts = batch_starts(len(x), batch_size, drop_last=drop_last)
        sizes = [min(batch_size, len(x) - start) for start in starts]
        share = 0.0 if not takers.numel() else 1.0 if schedule is None else schedule.alpha
        steps = epochs * len(starts)
        mixed = steps if schedule is not None and schedule.sampling == "points" else 0
        self._planned = {losses.plain: steps, losses.whole: round(share * steps), losses.part: mixed}
        held_out = None if val is None else tuple(t.to(self.device) for t in check_data("val", val))
        history: dict[str, list[Any]] = {name: [] for name in ("epoch", "network", "loss", "lai_share")}
        if held_out is not None:
            history["val_rmse"] = []
        for epoch in range(first_epoch, first_epoch + epochs):
            order = batch_order(seed, epoch, len(x))[1].to(self.device)
            xs, ys = x[order], y[order]
            plan = lai_points(schedule, epoch, sizes) if takers.numel() else [range(0)] * len(sizes)
            total = torch.zeros(len(self), device=self.device)
            for start, size, chosen in zip(starts, sizes, plan, strict=True):
                batch = xs[start : start + size], ys[start : start + size]
                total += size * self.step(*_parts(losses, batch, chosen, lam, takers, rest))
            if not torch.isfinite(total).all():
                at = int((~torch.isfinite(total)).nonzero()[0])
                raise FloatingPointError(
                    f"the loss of network {at} (λ = {lams[at]}) was not finite in epoch {epoch}; try a smaller lr, "
                    "a λ nearer to 1, or scaled inputs"
                )
            history["epoch"] += [epoch] * len(self)
            history["network"] += range(len(self))
            history["loss"] += (total / sum(sizes)).tolist()
            took = sum(map(len, plan)) / sum(sizes)
            history["lai_share"] += [0.0 if lam is None else took for lam in lams]
            if held_out is not None:
                due = (epoch + 1 - first_epoch) % validate_every == 0 or epoch + 1 == first_epoch + epochs
                history["val_rmse"] += [rmse(m, *held_out) if due else None for m in self.models()]
            if each_epoch is not None:
                each_epoch(epoch)
        return history

    def step(self, *parts: Part) -> Tensor:
        """One step of Adam on what each part says of its networks; returns their losses (E,), before the step."""
        self._steps += 1
        found = [self._program(part)(*self._arguments(part)) for part in parts]
        for counts in self._counts.values():
            counts += 1
        if len(parts) == 1 and parts[0].rows is None:
            loss, rows = found[0]
            self._rows = dict(zip(self._rows, rows, strict=True))
            return loss
        taken = torch.cat([part.rows for part in parts if part.rows is not None])
        if sorted(taken.tolist()) != list(range(len(self))):
            raise ValueError(f"parts have rows {taken.tolist()}: each of the {len(self)} networks once is needed")
        back = taken.argsort()
        for i, name in enumerate(self._rows):
            self._rows[name] = torch.cat([rows[i] for _, rows in found])[back]
        return torch.cat([loss for loss, _ in found])[back]

    def _takers(self, lams: Sequence[Any], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """λ of the networks that take the Lai loss, a row each; which these are, and which the others."""
        if len(lams) != len(self):
            raise ValueError(f"lams has {len(lams)} entries: a sweep of {len(self)} networks needs one for each")
        given = [(i, check_lam(v, n_features=x[0].numel(), name="lams")) for i, v in enumerate(lams) if v is not None]
        exact = torch.float64 if self.device.type != "mps" else torch.float32
        values = [torch.as_tensor(v, dtype=exact) for _, v in given]
        if any(v.ndim for v in values):  # numbers beside lists become lists
            values = [v.reshape(x.shape[1:]) if v.ndim else v.expand(x.shape[1:]) for v in values]
        takers = torch.tensor([i for i, _ in given], dtype=torch.long)
        rest = torch.tensor([i for i, v in enumerate(lams) if v is None], dtype=torch.long)
        lam = torch.stack(values) if values else torch.zeros(0)
        return lam.to(self.device), takers.to(self.device), rest.to(self.device)

    def _rehearse(self, lai: Objective, x: Tensor, y: Tensor, lam: Tensor, takers: Tensor, slope: Slope) -> None:
        """What cannot work fails before any weight moves."""
        model = self.models()[0]
        shape = model.eval()(x).shape
        if shape != y.shape:
            raise ValueError(f"train: the model returns shape {tuple(shape)} for two samples and y is {tuple(y.shape)}")
        if takers.numel():
            self._trace(Part(lai, (x, y, lam), (False, False, True), takers))
            if slope != "summed" and len(x) > 1:
                assert_independent_samples(FixedStatistics(model.train()), x)

    def _arguments(self, part: Part) -> list[Tensor]:
        """All that a program reads, flat: Adam's step, what is one for all networks, each one's own, the part's own."""
        like = next(iter(self._rows.values()))
        steps = max(1, self._steps)
        rate = self._lr / (1 - BETAS[0] ** steps), (1 - BETAS[1] ** steps) ** -0.5
        own = [*self._fixed.values(), *self._rows.values()]
        if part.rows is not None:
            own = [values[part.rows] for values in own]
        return [torch.tensor(rate, dtype=like.dtype, device=like.device), *self._same.values(), *own, *part.args]

    def _program(self, part: Part) -> Callable[..., Any]:
        """What computes (losses (E,), the networks' new state as in ``_rows``) from :meth:`_arguments`."""
        at = [(t.shape, t.dtype) for t in part.args], None if part.rows is None else len(part.rows)
        key = part.objective, part.own, str(at), torch.get_num_threads()
        if key not in self._programs:
            traced = self._trace(part)
            worth = self._planned.get(part.objective, 0) >= WORTH_COMPILING
            if self.compile is True or (self.compile == "auto" and worth):
                self._programs[key], self.how = _compiled(traced, self._arguments(part))
            else:
                self._programs[key] = traced
                self.how = f"eager: {'compile is False' if not self.compile else 'few steps'}"
        return self._programs[key]

    def _trace(self, part: Part) -> torch.fx.GraphModule:
        from torch.fx.experimental.proxy_tensor import make_fx  # it takes a second to import

        names: tuple[list[Any], ...] = [*self._same], [*self._fixed], [*self._rows]

        def one(rows: dict[_Name, Tensor], fixed: dict[str, Tensor], same: dict[str, Tensor], *others: Any) -> Any:
            rate, args = others
            running = {n: Moments(rows["mean", n], rows["var", n]) for kind, n in names[2] if kind == "mean"}

            def loss_of(weights: dict[str, Tensor]) -> Any:
                network = Network(self._template, {**same, **fixed, **weights}, running)
                loss = part.objective(network, *args)
                return loss, (loss, network.left)

            weights = {name: value for (kind, name), value in rows.items() if kind == "weight"}
            gradients, (loss, left) = grad(loss_of, has_aux=True)(weights)
            new = {("mean", n): kept.mean for n, kept in left.items()} | {
                ("var", n): kept.var for n, kept in left.items()
            }
            for name, gradient in gradients.items():
                new |= _adam(name, rows, gradient, rate)
            return loss, [new[name] for name in names[2]]

        mapped = vmap(one, in_dims=(0, 0, None, None, [0 if own else None for own in part.own]))

        def flat(rate: Tensor, *tensors: Tensor) -> Any:
            parts: list[dict[Any, Tensor]] = []
            at = 0
            for of_kind in names:
                parts.append(dict(zip(of_kind, tensors[at : at + len(of_kind)], strict=True)))
                at += len(of_kind)
            return mapped(parts[2], parts[1], parts[0], rate, list(tensors[at:]))

        return make_fx(flat)(*self._arguments(part))


_Name = tuple[str, str]
"""Of a tensor with a row for each network: its kind ("weight", Adam's "first" and "second" moment, BatchNorm's running
"mean" and "var"), and the name of the parameter or layer."""

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's, as in :class:`torch.optim.Adam`."""


def _adam(name: str, rows: dict[_Name, Tensor], gradient: Tensor, rate: Tensor) -> dict[_Name, Tensor]:
    """A step of Adam (Kingma and Ba, 2015) in the traced program, where it costs a tenth of what torch's own does beside it.

    ``rate`` is (lr / (1 - β₁ᵗ), 1 / √(1 - β₂ᵗ)).
    """
    first = BETAS[0] * rows["first", name] + (1 - BETAS[0]) * gradient
    second = BETAS[1] * rows["second", name] + (1 - BETAS[1]) * gradient * gradient
    moved = rows["weight", name] - rate[0] * first / (second.sqrt() * rate[1] + EPS)
    return {("weight", name): moved, ("first", name): first, ("second", name): second}


class _Objectives(NamedTuple):
    """The losses of a training: plain, Lai on all samples of a batch, and Lai on a part of them."""

    plain: Objective
    whole: Objective
    part: Objective


@cache
def _objectives(slope: Slope, options: tuple[tuple[str, Any], ...]) -> _Objectives:
    given = dict(options)
    lai_loss(torch.zeros(1), torch.zeros(1), torch.zeros(1), **given)  # says what is wrong with the options
    if given.get("reduction", "mean") != "mean":
        raise ValueError(f"reduction = {given['reduction']!r}: training minimises the mean")
    plain_error = plain_loss(given.get("base", "mse"))

    def plain(network: Network, x: Tensor, y: Tensor) -> Tensor:
        return plain_error(network(x), y)

    def whole(network: Network, x: Tensor, y: Tensor, lam: Tensor) -> Tensor:
        value, k = network.value_and_slope(x, slope)
        return lai_loss(value, y, k, lam=lam, **given)

    def part(network: Network, x: Tensor, y: Tensor, x_rest: Tensor, y_rest: Tensor, lam: Tensor) -> Tensor:
        share = len(x) / (len(x) + len(x_rest))
        return share * whole(network, x, y, lam) + (1 - share) * plain(network, x_rest, y_rest)

    return _Objectives(plain, whole, part)


def _parts(
    losses: _Objectives, batch: tuple[Tensor, Tensor], chosen: Any, lam: Tensor, takers: Tensor, rest: Tensor
) -> list[Part]:
    x, y = batch
    if len(chosen) == 0:
        return [Part(losses.plain, batch, (False, False))]
    rows = takers if rest.numel() else None
    if len(chosen) == len(x):
        parts = [Part(losses.whole, (x, y, lam), (False, False, True), rows)]
    else:
        outside = torch.ones(len(x), dtype=torch.bool)
        outside[chosen] = False
        inside, others = chosen.to(x.device), outside.nonzero().flatten().to(x.device)
        args = x[inside], y[inside], x[others], y[others], lam
        parts = [Part(losses.part, args, (False, False, False, False, True), rows)]
    return parts + ([Part(losses.plain, batch, (False, False), rest)] if rest.numel() else [])


_COMPILED: dict[Any, Callable[..., Any]] = {}
"""Compiled programs, by what was traced: sweeps of the same kind share them."""


def _compiled(traced: torch.fx.GraphModule, arguments: list[Tensor]) -> tuple[Callable[..., Any], str]:
    """The program compiled, or as it is with the reason."""
    like = [(t.shape, t.stride(), t.dtype, t.device) for t in arguments]
    key: Any = traced.code, str(like), torch.get_num_threads()
    if any(node.op == "get_attr" for node in traced.graph.nodes):
        key = traced, key  # it holds constants, which the code does not show
    if key not in _COMPILED:
        program = torch.compile(traced, fullgraph=True, dynamic=False)
        try:
            program(*arguments)
        except Exception as error:  # whatever a missing or broken compiler raises
            reason = f"eager: torch.compile failed ({type(error).__name__})"
            warnings.warn(f"{reason}; the sweep goes on without it: {str(error).splitlines()[0]}", stacklevel=4)
            return traced, reason
        _COMPILED[key] = program
    return _COMPILED[key], "compiled"


def _check_models(models: Sequence[nn.Module]) -> None:
    if not models:
        raise ValueError("models: give at least one")
    if len({str(model) for model in models}) > 1:
        raise ValueError("models differ in architecture: a sweep is of one")
    if len(dict(models[0].named_parameters(remove_duplicate=False))) > len(dict(models[0].named_parameters())):
        raise ValueError("models: two layers share a weight, which a sweep does not take")
    for name, layer in models[0].named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise ValueError(f"models: {name} is dropout, which a sweep does not take; train with lai.fit")
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if layer.momentum is None or not layer.track_running_stats:
                raise ValueError(f"models: {name} is BatchNorm without running statistics of a fixed momentum")
