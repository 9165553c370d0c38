"""Networks that differ in λ, trained side by side on the same batches, through :func:`lai.lai_loss` itself."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .batchnorm import SLOPES, FixedStatistics, HandedOut, Moments, Slope
from .factor import check_broadcast, check_choice, check_kind, check_lam, check_positive, compute_dtype
from .gradient import WithSlopes, assert_independent_samples, value_and_input_gradient
from .loss import lai_loss, plain_loss
from .metrics import rmse
from .obstacles import CALMER, TOO_SHORT, explained
from .program import BETAS, Name, Network, Objective, Part, compiled, program, traced
from .schedule import LaiSchedule, check_count
from .training import (
    batch_order,
    batch_sizes,
    check_data,
    check_shapes,
    inside_and_outside,
    is_true,
    lai_points,
    resolve_device,
)

WORTH_COMPILING = 2000
"""Steps of one kind from which "auto" compiles: a graph costs some ten seconds once, and saves a millisecond a step."""

WORTH_TRACING = 120
"""Steps of one kind from which they are traced: that costs a second once, and saves five to twenty milliseconds a step."""


class Sweep:
    r"""Trains copies of networks of one architecture side by side, with Adam in one tensor program.

    The program is ``torch.func.vmap`` of the loss over the networks: up to rounding, each is trained as :func:`lai.fit`
    would train it alone.

    Parameters
    ----------
    models : sequence of E Modules of one architecture from (N, \*features) to (N,) or (N, 1)
        Without dropout or a BatchNorm that averages without a momentum. They stay as they are: :meth:`models` returns the
        trained copies.
    lr : float, Adam's step size
    device : "auto" (a GPU if there is one), "cpu", "cuda" or a torch device
    compile : bool or "auto"
        Whether ``torch.compile`` is used, if there is a working compiler. "auto" is for each kind of step of which a call
        of :meth:`fit` makes at least ``WORTH_COMPILING``.

    Attributes
    ----------
    how : str, "compiled", or "eager" with the reason, for every kind of step since :meth:`fit` was last called

    Source: ours. The paper (version 2, section 6) compares networks that differ in λ alone.

    Examples
    --------
    >>> import torch, lai
    >>> x = torch.rand(256, 1, generator=torch.Generator().manual_seed(0))
    >>> sweep = Sweep([lai.MLP(1, (16,), seed=0)] * 2, lr=0.01, device="cpu")
    >>> history = sweep.fit((x, (6 * x[:, 0]).sin()), lams=[1.0, 0.01], epochs=20, batch_size=64, seed=0)
    >>> large, small = (lai.value_and_input_gradient(m, x)[1].abs().mean().item() for m in sweep.models())
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
        if not isinstance(compile, bool) and compile != "auto":
            raise ValueError(f"compile = {compile!r}: must be True, False or 'auto'")
        _check_models(models)
        self.device = resolve_device(device)
        self.compile: bool | Literal["auto"] = compile
        self._first = copy.deepcopy(models[0]).to(self.device)
        self._template = HandedOut.replacing(copy.deepcopy(self._first)).train()
        norms = sorted(n for n, m in self._template.named_modules() if isinstance(m, HandedOut))
        self._coupled = bool(norms)
        states = [model.state_dict() | _unsaved(model) for model in models]
        stacked = {n: torch.stack([s[n].detach() for s in states]).to(self.device) for n in states[0]}
        trained = [name for name, p in models[0].named_parameters() if p.requires_grad]
        self._rows: dict[Name, Tensor] = {("weight", name): stacked[name].clone() for name in trained}
        for moment in ("first", "second"):
            self._rows |= {(moment, name): torch.zeros_like(stacked[name]) for name in trained}
        for name in norms:
            self._rows |= {(part, name): stacked[_saved_as(part, name)].clone() for part in Moments._fields}
        kept = {_saved_as(*name) for name in self._rows}
        self._counts = {n: t.clone() for n, t in stacked.items() if n.endswith("num_batches_tracked")}
        rest = {n: t for n, t in stacked.items() if n not in kept | self._counts.keys()}
        self._same = {n: t[0] for n, t in rest.items() if (t == t[:1]).all()}  # computed with once, not E times
        self._fixed = {n: t for n, t in rest.items() if n not in self._same}
        self._lr, self._steps = lr, 0
        self._programs: dict[Any, tuple[Callable[..., Any], str]] = {}
        self._planned: dict[Objective, int] = {}
        self._taken: Counter[Any] = Counter()
        self._ways: list[str] = []

    def __len__(self) -> int:
        return len(next(iter(self._rows.values())))

    @property
    def how(self) -> str:
        return " and ".join(self._ways) or "eager: nothing was trained yet"

    def models(self) -> list[nn.Module]:
        """The networks, as copies, in training mode."""
        state = {_saved_as(*name): t for name, t in self._rows.items() if name[0] not in ("first", "second")}
        state |= self._fixed | self._counts
        result = [copy.deepcopy(self._first).train() for _ in range(len(self))]
        for i, model in enumerate(result):
            own = {name: values[i] for name, values in state.items()}
            model.load_state_dict(own, strict=False)
            for name, buffer in _unsaved(model).items():
                buffer.copy_((own | self._same)[name])
        return result

    def branch(self, index: Sequence[int]) -> Sweep:
        """A new sweep with copies of the networks ``index`` (repeats allowed), which continue with Adam's state."""
        models = self.models()
        fresh = Sweep([models[i] for i in index], lr=self._lr, device=self.device, compile=self.compile)
        fresh._rows = {name: values[list(index)] for name, values in self._rows.items()}
        fresh._steps = self._steps
        return fresh

    def set_lr(self, lr: float) -> None:
        """Set Adam's step size from now on."""
        check_positive("lr", lr)
        self._lr = lr

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
        each_epoch: Callable[[dict[str, Any]], object] | None = None,
        **options: Any,
    ) -> dict[str, list[Any]]:
        """Train network i with ``lams[i]``: the Lai loss where the schedule says so, the plain loss elsewhere.

        Parameters
        ----------
        train, schedule, epochs, batch_size, seed, first_epoch, drop_last, each_epoch
            As in :func:`lai.fit`; ``each_epoch`` is given an entry for each network where :func:`lai.fit` has one number.
        lams : E entries, a number or a list (one per feature), or None for the plain loss throughout
        slope : "summed", "own" or "running"
            What stands for k where BatchNorm couples the samples (``lai.batchnorm.SLOPES``).
        val : (x, y), optional, for every network's RMSE after every ``validate_every``-th epoch and the last
        **options : ``base``, ``norm``, ``l1_ratio``, ``order`` and ``normalize`` of :func:`lai.lai_loss`
            What a ``base`` of your own does beside tensor operations is done once for all steps, when it is traced.

        Returns
        -------
        dict of lists, as ``pandas.DataFrame`` takes it
            A row for each epoch and network: ``network`` and, as in :func:`lai.fit`, ``epoch``, ``loss``, ``lai_share`` and
            ``val_rmse`` (None where it was not validated).

        Raises
        ------
        FloatingPointError
            At the end of an epoch in which a network's loss was not finite; names epoch and λ.
        RuntimeError
            As :func:`lai.fit`.

        Source: paper, section 5 and version 2, section 6.1.
        """
        x, y = (t.to(self.device) for t in check_data("train", train))
        check_count("validate_every", validate_every, least=1)
        check_choice("slope", slope, tuple(SLOPES))
        check_kind("schedule", schedule, LaiSchedule | None, "a lai.LaiSchedule, or None")
        check_kind("each_epoch", each_epoch, Callable | None, "a function of what an epoch measured, or None")
        sizes = batch_sizes(len(x), batch_size, epochs, seed=seed, first_epoch=first_epoch, drop_last=drop_last)
        lam, takers, rest = self._takers(lams, x)
        schedule = schedule or LaiSchedule(1.0) if takers.numel() else LaiSchedule(0.0)
        points = schedule.sampling == "points"
        if self._coupled and points:
            raise ValueError("schedule.sampling = 'points': BatchNorm would mix the sampled points; use 'batches'")
        losses = _objectives_of(slope, options)
        if self._coupled and min(sizes) == 1:
            raise ValueError(f"batch_size = {batch_size}: leaves a batch of one sample, {TOO_SHORT}")
        held_out = None if val is None else tuple(t.to(self.device) for t in check_data("val", val))
        few = x[:2], y[:2]
        parts = [Part(losses.plain, few, (False, False))]
        if takers.numel():
            parts.append(Part(losses.whole, (*few, lam), (False, False, True), takers))
        self._rehearse(parts, (x, y), held_out, slope)
        self._ways = []
        steps = epochs * len(sizes)
        lai = round(schedule.alpha * steps)
        self._planned = {losses.plain: steps, losses.whole: lai, losses.part: steps if points else 0}
        history: dict[str, list[Any]] = {name: [] for name in ("epoch", "network", "loss", "lai_share")}
        if held_out is not None:
            history["val_rmse"] = []
        for epoch in range(first_epoch, first_epoch + epochs):
            order = batch_order(seed, epoch, len(x))[1].to(self.device)
            batches = zip(x[order].split(batch_size), y[order].split(batch_size), strict=True)
            plan = lai_points(schedule, epoch, sizes)
            total = torch.zeros(len(self), dtype=compute_dtype(y), device=self.device)
            for batch, chosen in zip(batches, plan):  # noqa: B905 drop_last leaves one batch out
                total += len(batch[0]) * self.step(*_parts(losses, batch, chosen, lam, takers, rest))
            _refuse_nonfinite(total, lams, epoch)
            history["epoch"] += [epoch] * len(self)
            history["network"] += range(len(self))
            history["loss"] += (total / sum(sizes)).tolist()
            took = sum(map(len, plan)) / sum(sizes)
            history["lai_share"] += [0.0 if lam is None else took for lam in lams]
            if held_out is not None:
                due = (epoch + 1 - first_epoch) % validate_every == 0 or epoch + 1 == first_epoch + epochs
                history["val_rmse"] += [rmse(m, *held_out) if due else None for m in self.models()]
            row = {name: values[-len(self) :] for name, values in history.items()} | {"epoch": epoch}
            if each_epoch is not None and is_true(each_epoch(row)):
                break
        return history

    def step(self, *parts: Part) -> Tensor:
        """One step of Adam on what each part says of its networks; returns their losses (E,), before the step."""
        whole = len(parts) == 1 and parts[0].rows is None
        everyone = torch.arange(len(self), device=self.device)
        taken = torch.cat([everyone if part.rows is None else part.rows for part in parts])
        if not whole and sorted(taken.tolist()) != everyone.tolist():
            raise ValueError(f"parts have rows {taken.tolist()}: each of the {len(self)} networks once is needed")
        self._steps += 1
        found = [self._program(part)(*self._arguments(part)) for part in parts]
        for counts in self._counts.values():
            counts += 1
        if whole:
            loss, rows = found[0]
            self._rows = dict(zip(self._rows, rows, strict=True))
            return loss
        back = taken.argsort()
        for i, name in enumerate(self._rows):
            self._rows[name] = torch.cat([rows[i] for _, rows in found])[back]
        return torch.cat([loss for loss, _ in found])[back]

    def _takers(self, lams: Sequence[Any], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """λ of the networks that take the Lai loss, a row each; which these are, and which the others."""
        check_kind("lams", lams, Sequence | Tensor, "a sequence with a number, a list or None for each network")
        if len(lams) != len(self):
            raise ValueError(f"lams has {len(lams)} entries: a sweep of {len(self)} networks needs one for each")
        exact = torch.float64 if self.device.type != "mps" else torch.float32
        values: dict[int, Tensor] = {}
        for i, given in enumerate(lams):
            if given is not None:
                values[i] = torch.as_tensor(check_lam(given, name=f"lams[{i}]"), dtype=exact)
                check_broadcast(values[i], x.shape[1:], "the features of x", name=f"lams[{i}]")
        if any(v.ndim for v in values.values()):  # numbers beside lists become lists
            values = {i: v.expand(x.shape[1:]) for i, v in values.items()}
        rows = list(values), [i for i in range(len(self)) if i not in values]
        lam = torch.stack([*values.values()]) if values else torch.zeros(0)
        takers, rest = (torch.tensor(of, dtype=torch.long, device=self.device) for of in rows)
        return lam.to(self.device), takers, rest

    def _rehearse(self, parts: list[Part], train: Any, val: Any, slope: Slope) -> None:
        """What cannot work fails before any weight moves."""
        model, (x, y) = self.models()[0], train
        if y.shape[1:] not in ((), (1,)):
            raise ValueError(f"train: y has shape {tuple(y.shape)}: a sweep takes (N,) or (N, 1); lai.fit takes more")
        check_shapes(model.eval(), train, val, 2)
        if len(parts) > 1:
            with explained():
                # Outside the program, whose transforms leave no graph to search for what cannot be trained on.
                value_and_input_gradient(FixedStatistics(model.train()), x[:2], create_graph=True)
        if not self._coupled or len(x) > 1:
            for part in parts:
                try:
                    with explained():
                        program(self._template, self._names, part)(*self._arguments(part))
                except RuntimeError as error:
                    if "called random operation" not in str(error):
                        raise
                    what = "models draw random numbers, which a sweep does not take; leave that out, or use lai.fit"
                    raise RuntimeError(what) from error
        if len(parts) > 1:
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

    @property
    def _names(self) -> tuple[list[Any], ...]:
        return list(self._same), list(self._fixed), list(self._rows)

    def _program(self, part: Part) -> Callable[..., Any]:
        """What computes (losses (E,), the networks' new state as in ``_rows``) from :meth:`_arguments`."""
        at = [(t.shape, t.dtype) for t in part.args], None if part.rows is None else len(part.rows)
        step = part.objective, part.own, str(at)
        self._taken[step] += 1
        planned = self._planned.get(part.objective, 0)
        wanted = self.compile is True or (self.compile == "auto" and planned >= WORTH_COMPILING)
        many = max(planned, self._taken[step]) >= WORTH_TRACING
        key = *step, torch.get_num_threads(), wanted, many
        if key not in self._programs:
            # Torch's layers and ours say all of the architecture, those of others may not.
            sure = all(_is_known(m) and not _has_hooks(m) for m in self._first.modules())
            kind = str(_settings(self._first)) if sure else None
            arguments = self._arguments(part)
            graph = traced(kind, self._template, self._names, part, arguments, again=not (wanted or many))
            if wanted and graph is not None:
                self._programs[key] = compiled(graph, arguments)
            else:
                why = "it cannot be traced" if wanted else "few steps" if self.compile else "compile is False"
                self._programs[key] = graph or program(self._template, self._names, part), f"eager: {why}"
        found, how = self._programs[key]
        if how not in self._ways:
            self._ways.append(how)
        return found


def _saved_as(kind: str, name: str) -> str:
    """What a state dict calls a row; a BatchNorm layer may be the model itself."""
    return name if kind == "weight" else f"{name}.running_{kind}".lstrip(".")


def _refuse_nonfinite(losses: Tensor, lams: Sequence[Any], epoch: int) -> None:
    for at in (~torch.isfinite(losses)).nonzero().flatten().tolist():
        raise FloatingPointError(f"the loss of network {at} (λ = {lams[at]}) was not finite in epoch {epoch}; {CALMER}")


class _Objectives(NamedTuple):
    plain: Objective
    whole: Objective  # the Lai loss of all samples of a batch
    part: Objective  # of a part of them, plain for the others


def _objectives_of(slope: Slope, options: dict[str, Any]) -> _Objectives:
    """One object for the same options, as programs are kept by it; of an error of the user's a fresh one, as it may have changed."""
    lai_loss(torch.zeros(1), torch.zeros(1), torch.zeros(1), **options)  # says what is wrong with the options
    make = _objectives.__wrapped__ if callable(options.get("base")) else _objectives
    return make(slope, tuple(sorted(options.items())))


@cache
def _objectives(slope: Slope, options: tuple[tuple[str, Any], ...]) -> _Objectives:
    given = dict(options)
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
        inside, others = inside_and_outside(chosen, x)
        args = x[inside], y[inside], x[others], y[others], lam
        parts = [Part(losses.part, args, (False, False, False, False, True), rows)]
    return parts + ([Part(losses.plain, batch, (False, False), rest)] if rest.numel() else [])


def _is_known(layer: nn.Module) -> bool:
    return type(layer).__module__.split(".")[0] in ("torch", "lai")


def _has_hooks(layer: nn.Module) -> bool:
    return any(vars(layer)[name] for name in vars(layer) if name.endswith("_hooks"))


def _unsaved(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state dict leaves out."""
    saved = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _settings(model: nn.Module) -> list[Any]:
    """Of the weights and buffers what they are, of torch's layers and ours more than they print: the heads, say; of others
    what is plain to compare."""
    held = [*model.named_parameters(), *model.named_buffers()]
    found: list[Any] = [(name, t.shape, t.dtype, t.requires_grad) for name, t in held]
    for name, m in model.named_modules():
        known, plain = _is_known(m), (bool, int, float, str, tuple, type(None))
        public = {
            k: v for k, v in vars(m).items() if k[0] != "_" and k != "training" and (known or isinstance(v, plain))
        }
        found.append((name, type(m).__qualname__, sorted((k, repr(v)) for k, v in public.items())))
    return found


def _check_models(models: Sequence[nn.Module]) -> None:
    check_kind("models", models, Sequence, "a sequence of Modules of one architecture")
    if not models:
        raise ValueError("models is empty: give at least one")
    for i, model in enumerate(models):
        check_kind(f"models[{i}]", model, nn.Module, "a Module")
        if isinstance(model, WithSlopes):
            raise TypeError(f"models[{i}] is a lai.WithSlopes: give the model that it wraps, .model")
        if any(isinstance(m, FixedStatistics) and m.statistics == "running" for m in model.modules()):
            raise ValueError(
                f"models[{i}] has lai.FixedStatistics of 'running': give the model it wraps, and slope='running'"
            )
    if len({str((model, _settings(model))) for model in models}) > 1:
        raise ValueError("models differ in architecture, dtype or which weights are trained: a sweep is of one")
    if not any(p.requires_grad for p in models[0].parameters()):
        raise ValueError("models: none of their weights requires a gradient, so nothing would be trained")
    if len(dict(models[0].named_parameters(remove_duplicate=False))) > len(dict(models[0].named_parameters())):
        raise ValueError("models: two layers share a weight, which a sweep does not take")
    for name, layer in models[0].named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise ValueError(f"models: {name} is dropout, which a sweep does not take; leave it out, or use lai.fit")
        normalises = isinstance(layer, nn.modules.batchnorm._BatchNorm)
        if normalises and (layer.momentum is None or not layer.track_running_stats):
            raise ValueError(f"models: {name} is BatchNorm without running statistics of a fixed momentum")
