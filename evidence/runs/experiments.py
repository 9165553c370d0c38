"""The paper's tables, each as a function that returns tidy results, and the arms that this book runs for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lai.factor import check_choice

from .arms import MSE, Arm, Runs, arm_name, train_arms
from .protocols import PROTOCOLS, Protocol
from .store import CellStore

if TYPE_CHECKING:
    from evidence.data import Housing

__all__ = [
    "EXPERIMENTS",
    "MSE",
    "PROTOCOLS",
    "Arm",
    "Experiment",
    "Protocol",
    "Runs",
    "arm_name",
    "planned",
    "run_experiment",
    "with_last",
]

N_FEATURES = 8
"""Of the housing data."""


def with_last(lam: float, last: float, n_features: int = N_FEATURES) -> tuple[float, ...]:
    """A list of λ that differs in the last feature.

    >>> with_last(0.1, 0.001, 3)
    (0.1, 0.1, 0.001)
    """
    return (lam,) * (n_features - 1) + (last,)


def _arms(lams: Iterable[float | tuple[float, ...]], alpha: float) -> tuple[Arm, ...]:
    return tuple(Arm(lam, alpha) for lam in lams)


@dataclass(frozen=True)
class Experiment:
    """One table of the paper as this book runs it.

    Attributes
    ----------
    name, about : str
    pretrain_epochs, epochs : int
        Of MSE, and of the arms after it.
    arms : mapping from protocol to arms
        Besides MSE. The sound protocol has other λ as well: those where it acts.
    curves : bool
        Whether the book keeps the RMSE by epoch as well as the table.
    """

    name: str
    about: str
    pretrain_epochs: int
    epochs: int
    arms: Mapping[str, tuple[Arm, ...]]
    curves: bool = False


_TENTHS = (1e-1, 1e-2, 1e-3)
_SOUND = (1.0, *_TENTHS)
_V1 = _arms((*_TENTHS, 1e-4), 1.0)
_SAMPLING = (Arm(1e-3, 1.0), Arm(1e-4, 0.01))
_V2 = _arms(_TENTHS, 0.01)
_LIST = (Arm(0.1, 0.01), Arm(with_last(0.1, 1e-3), 0.01))
# The tuning study: one λ for seven features, the last feature's and α are tuned.
_LISTS = tuple(Arm(with_last(0.1, last), alpha) for alpha in (0.01, 0.1) for last in (1e-2, 1e-3, 1e-4))
_SOUND_LISTS = tuple(Arm(with_last(1.0, last), alpha) for alpha in (0.01, 0.1) for last in (1e-1, 1e-2, 1e-3))

EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment(
            "strength",
            "version 1, section 4: α = 1 and a falling λ",
            0,
            500,
            {"published": _V1, "corrected": _V1, "sound": _arms(_SOUND, 1.0)},
            curves=True,
        ),
        Experiment(
            "sampling",
            "version 1, section 5: every batch against one in a hundred",
            0,
            500,
            {
                "published": _SAMPLING,
                "corrected": _SAMPLING,
                "sound": (*_SAMPLING, Arm(1e-1, 1.0), Arm(1e-2, 0.01)),
            },
        ),
        Experiment(
            "smoothness",
            "version 2, section 6.1: pre-training, then α = 0.01 and a falling λ",
            100,
            100,
            {"published": _V2, "corrected": _V2, "sound": _arms(_SOUND, 0.01)},
            curves=True,
        ),
        Experiment(
            "sensitivity",
            "version 2, section 6.2: noise on one feature at a time; λ = 0.1, then a list",
            100,
            100,
            {"published": _LIST, "corrected": _LIST, "sound": (*_LIST, Arm(with_last(1.0, 1e-2), 0.01))},
        ),
        Experiment(
            "lists",
            "version 2, section 6.2, and a tuning study of the list",
            100,
            100,
            {"published": _LISTS, "corrected": _LISTS, "sound": _SOUND_LISTS},
        ),
    )
}


def planned(
    name: str,
    *,
    protocols: Sequence[str] | None = None,
    arms: Mapping[str, Sequence[Arm]] | None = None,
    lams: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    alpha: float | None = None,
) -> dict[str, tuple[Arm, ...]]:
    """The arms that :func:`run_experiment` trains, by protocol and without MSE; parameters and errors as there.

    Examples
    --------
    >>> [arm.name for arm in planned("smoothness")["sound"]]
    ['λ = 1', 'λ = 0.1', 'λ = 0.01', 'λ = 0.001']
    """
    check_choice("experiment", name, tuple(EXPERIMENTS))
    default = EXPERIMENTS[name].arms
    if arms is not None and lams is not None:
        raise ValueError("arms and lams: give one of them, not both")
    given = arms if arms is not None else lams if isinstance(lams, Mapping) else default
    plan: dict[str, tuple[Arm, ...]] = {}
    for protocol in given if protocols is None else protocols:
        check_choice("protocol", protocol, tuple(PROTOCOLS))
        if protocol not in given:
            raise ValueError(f"protocol = {protocol!r}: nothing is given for it")
        if lams is not None:
            values = list(lams[protocol] if isinstance(lams, Mapping) else lams)
            if not values:
                raise ValueError(f"lams = {values!r}: give at least one λ")
            plan[protocol] = tuple(Arm(lam, default[protocol][0].alpha if alpha is None else alpha) for lam in values)
        else:
            own = default[protocol] if arms is None else arms[protocol]
            plan[protocol] = tuple(arm if alpha is None else Arm(arm.lam, alpha) for arm in own)
            if alpha is not None:  # arms that differed in α alone are now the same
                plan[protocol] = tuple(dict.fromkeys(plan[protocol]))
    return plan


def run_experiment(
    data: Housing | Callable[[int], Housing],
    name: str,
    *,
    protocols: Sequence[str] | None = None,
    arms: Mapping[str, Sequence[Arm]] | None = None,
    lams: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    alpha: float | None = None,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int | None = None,
    epochs: int | None = None,
    device: str = "auto",
    n_jobs: int | None = None,
    store: CellStore | None = None,
    progress: bool = False,
) -> Runs:
    """Run one of ``EXPERIMENTS``, as it stands or with other arms.

    Parameters
    ----------
    data : Housing, or callable from a seed to one
        From :func:`evidence.data.load_housing`.
    name : a key of ``EXPERIMENTS``
    protocols : names from ``PROTOCOLS``, optional
        All of the experiment's by default.
    arms : mapping from protocol to arms, optional
        In place of the experiment's.
    lams : list, or mapping from protocol to list, optional
        Arms with these λ instead, at ``alpha``.
    alpha : float, optional
        Share of Lai batches of every arm. Default: each arm's own; for ``lams``, that of the experiment's first arm.
    seeds, pretrain_epochs, epochs, device, n_jobs, store, progress
        As in :func:`evidence.runs.arms.train_arms`.

    Returns
    -------
    Runs
        One row of ``table`` for each protocol, arm (MSE first) and seed.

    Raises
    ------
    ValueError
        For an unknown name or protocol, no λ, ``arms`` beside ``lams``, and as :func:`evidence.runs.arms.train_arms`, before
        anything is trained.

    Source: paper, version 1, sections 4 and 5, and version 2, section 6.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> data = load_housing("surrogate")
    >>> options = {"seeds": [0], "pretrain_epochs": 0, "epochs": 0}  # untrained
    >>> run_experiment(data, "smoothness", protocols=["sound"], lams=[0.1], **options).table["arm"].tolist()
    ['MSE', 'λ = 0.1']
    """
    chosen = planned(name, protocols=protocols, arms=arms, lams=lams, alpha=alpha)
    settings: dict[str, Any] = {
        "pretrain_epochs": EXPERIMENTS[name].pretrain_epochs if pretrain_epochs is None else pretrain_epochs,
        "epochs": EXPERIMENTS[name].epochs if epochs is None else epochs,
    }
    return train_arms(
        data, chosen, seeds=seeds, device=device, n_jobs=n_jobs, store=store, progress=progress, **settings
    )
