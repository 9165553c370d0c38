"""Small regressions, many at once: networks side by side, each with its own data and its own λ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from lai.factor import BASES, Base, check_choice, check_lam
from lai.gradient import value_and_input_gradient
from lai.loss import lai_loss, plain_loss
from lai.models import MLP
from lai.schedule import check_count
from lai.sweep import Network, Objective, Part, Sweep


def curves(models: Sweep | Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes of every network at the same points, without graph.

    Parameters
    ----------
    models : Sweep or iterable of E Modules from (N, d) to (N,)
    x : Tensor (N, d), or (N,) for networks of one input

    Returns
    -------
    value, slope : Tensor (E, N), Tensor (E, N, d) or (E, N) like ``x``
        In units of y, and of y per x.

    Source: paper, section 3 (the tangent at a point of the curve).

    Examples
    --------
    >>> value, slope = curves([MLP(1, (4,), seed=seed) for seed in range(3)], torch.linspace(-1, 1, 5))
    >>> value.shape, slope.shape
    (torch.Size([3, 5]), torch.Size([3, 5]))
    """
    if x.ndim not in (1, 2):
        raise ValueError(f"x has shape {tuple(x.shape)}: it must be (N,) or (N, d)")
    points = x[:, None] if x.ndim == 1 else x
    networks = models.models() if isinstance(models, Sweep) else models
    found = [value_and_input_gradient(model, points, create_graph=False) for model in networks]
    value, slope = (torch.stack(part) for part in zip(*found, strict=True))
    return value, slope.reshape(len(value), *x.shape)


def fit_curves(
    models: Sequence[MLP],
    x: Tensor,
    y: Tensor,
    lams: Sequence[float | None],
    *,
    base: Base = "mse",
    steps: int,
    lr: float = 0.01,
) -> Sweep:
    """Train networks of one input, each on its own Lai loss, by Adam on all of its points.

    Each takes the path that it would take alone.

    Parameters
    ----------
    models : sequence of E MLPs
        Of one architecture, without normalisation. They are copied and stay as they are.
    x, y : Tensor (N,) or (E, N)
        Data for all of them, or a row for each.
    lams : sequence of E entries
        λ of each network, in the units of :func:`lai.lai_factor`; None is the plain loss.
    base : "mse" or "mae"
    steps : int
    lr : float
        Adam's step size.

    Returns
    -------
    Sweep
        The trained networks; ``.models()`` takes it apart.

    Raises
    ------
    ValueError, TypeError
        For a wrong λ, shape or option, before anything is trained.
    FloatingPointError
        If the loss of a network stops being finite.

    Source: paper, sections 3 and 3.1; the optimiser is ours.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 20)
    >>> sweep = fit_curves([MLP(1, (8,), seed=0)] * 2, x, 2 * x, [None, 0.1], steps=300)
    >>> plain, lai = curves(sweep, x)[1].mean(1)
    >>> bool(lai < plain)
    True
    """
    check_choice("base", base, BASES)
    check_count("steps", steps)
    if len(lams) != len(models):
        raise ValueError(f"lams has {len(lams)} entries for {len(models)} models: give one each")
    lams = [None if lam is None else float(check_lam(lam, n_features=1, name="lams")) for lam in lams]
    x, y = _rows("x", x, len(models)), _rows("y", y, len(models))
    if x.shape != y.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: they must be the same")
    sweep = Sweep(models, lr=lr, device="cpu", compile=False)
    parts = _parts(x[..., None], y, lams, base)
    for step in range(steps):
        check_finite(sweep.step(*parts), step)
    return sweep


def check_finite(loss: Tensor, step: int) -> None:
    """Raise FloatingPointError if the loss (E,) of a network is not finite."""
    if not torch.isfinite(loss).all():
        at = int((~torch.isfinite(loss)).nonzero()[0])
        raise FloatingPointError(f"the loss of network {at} became {loss[at].item()} at step {step}; try a smaller lr")


def _parts(x: Tensor, y: Tensor, lams: Sequence[float | None], base: Base) -> list[Part]:
    """Networks with a λ take the Lai loss; the others need no slopes, and do not pay for them."""
    plain, lai = _objectives(base)
    takers = torch.tensor([i for i, lam in enumerate(lams) if lam is not None], dtype=torch.long)
    rest = torch.tensor([i for i, lam in enumerate(lams) if lam is None], dtype=torch.long)
    lam = torch.tensor([lam for lam in lams if lam is not None], dtype=x.dtype)
    parts = []
    if len(takers):
        parts.append(Part(lai, (x[takers], y[takers], lam), (True, True, True), takers))
    if len(rest):
        parts.append(Part(plain, (x[rest], y[rest]), (True, True), rest))
    return parts


@cache
def _objectives(base: Base) -> tuple[Objective, Objective]:
    error = plain_loss(base)

    def plain(network: Network, x: Tensor, y: Tensor) -> Tensor:
        return error(network(x), y)

    def lai(network: Network, x: Tensor, y: Tensor, lam: Tensor) -> Tensor:
        value, slope = network.value_and_slope(x)
        return lai_loss(value, y, slope, lam=lam, base=base)

    return plain, lai


def _rows(name: str, t: Tensor, n: int) -> Tensor:
    if t.ndim == 1:
        t = t.expand(n, -1)
    if t.ndim != 2 or t.shape[0] != n or t.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(t.shape)}: it must be (N,) or ({n}, N)")
    return t
