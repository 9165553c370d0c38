"""Which noise the paper may have added to its features, and what a list of λ buys against that noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lai.schedule import check_count

from .paper import V2_SENSITIVITY
from .stats import bootstrap_mean
from .tables import along_envelope, column, runs_of


def compare_noises(
    study: pd.DataFrame, protocol: str, printed: Sequence[float] = V2_SENSITIVITY["mse"]
) -> pd.DataFrame:
    """How near every kind of noise can come to a printed row of sensitivities, its scale being free.

    Parameters
    ----------
    study : DataFrame
        From :func:`evidence.runs.noise.noise_study`.
    protocol : str
    printed : d positive numbers

    Returns
    -------
    DataFrame
        A row a kind, the nearest first: ``scale``, the c that comes nearest; ``factor``, 1 or more, by which a feature's mean
        over seeds is typically off there (the root mean square of the logarithms of the ratios); and ``ratio_1`` …
        ``ratio_d``, ours over the printed figures.

    Raises
    ------
    ValueError
        If the protocol is not in the study.

    Examples
    --------
    >>> rows = [{"kind": "a", "scale": c, "s_1": 2 * c, "s_2": 2 * c} for c in (1.0, 2.0)]
    >>> found = compare_noises(pd.DataFrame(rows).assign(protocol="sound", seed=0), "sound", (4.0, 1.0))
    >>> found[["scale", "factor"]].to_numpy().tolist()  # 2 for 4 and 1: each off by 2
    [[1.0, 2.0]]
    """
    runs = runs_of(study, protocol)
    columns = [f"s_{j}" for j in range(1, len(printed) + 1)]
    ratios: pd.DataFrame = runs.groupby(["kind", "scale"])[columns].mean().div(list(printed), axis=1)
    ratios.columns = pd.Index([f"ratio_{j}" for j in range(1, len(printed) + 1)])
    logs = np.log(ratios.to_numpy())
    factors = pd.Series(np.exp(np.sqrt(np.square(logs).mean(axis=1))), index=ratios.index)
    best = factors.groupby(level="kind").idxmin()
    found = ratios.loc[best].reset_index("scale")
    found.insert(1, "factor", factors.loc[best].to_numpy())
    return found.sort_values("factor")


def sensitivity_changes(table: pd.DataFrame, protocol: str, arm: str, *, evaluation: str = "averaged") -> pd.DataFrame:
    """Relative change of every sensitivity, and of the error, of one arm against MSE, paired by seed.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.runs.experiments.run_experiment`.
    protocol, arm : str
    evaluation : "averaged" or "last step"

    Returns
    -------
    DataFrame
        A row a feature (index 1 … d) and the row "RMSE": ``change``, the mean over seeds of the paired ratio less 1, and
        ``low`` and ``high``, its 95 % bootstrap interval (NaN from one seed).

    Raises
    ------
    ValueError
        If the protocol or the arm is not in the table.

    Examples
    --------
    >>> runs = [{"arm": "MSE", "rmse": 1.0, "s_1": 2.0}, {"arm": "λ = 0.1", "rmse": 1.5, "s_1": 1.0}]
    >>> table = pd.DataFrame([{**run, "seed": seed, "protocol": "sound"} for run in runs for seed in (0, 1)])
    >>> sensitivity_changes(table, "sound", "λ = 0.1")["change"].to_dict()
    {1: -0.5, 'RMSE': 0.5}
    """
    control, other = _pair(table, protocol, arm, evaluation)
    shares = other / control - 1
    rows = {}
    for j, name in enumerate(shares):
        mean = bootstrap_mean(shares[name].to_numpy())
        bounds = (mean.low, mean.high) if len(shares) > 1 else (math.nan, math.nan)
        rows["RMSE" if j == 0 else j] = {"change": mean.mean, "low": bounds[0], "high": bounds[1]}
    out = pd.DataFrame(rows).T
    return out.loc[[*out.index[1:], "RMSE"]]


def change_table(
    table: pd.DataFrame,
    columns: Mapping[str, tuple[str, str, str]],
    paper: tuple[Sequence[float], Sequence[float]] | None,
    names: Sequence[str],
) -> pd.DataFrame:
    """The Change row of several protocols and evaluations side by side, to be read by people.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.runs.experiments.run_experiment`.
    columns : mapping
        Heading to (protocol, arm, evaluation).
    paper : (MSE's, the arm's) printed figures, features first and then the error; or None
    names : sequence of str
        The features.

    Returns
    -------
    DataFrame of str
        A row a feature and one for the RMSE: per cent of MSE, with the 95 % interval in brackets; a decimal below 10 only.
    """
    out: dict[str, list[str]] = {}
    if paper is not None:
        out["paper"] = [f"{100 * (new / old - 1):+.1f}" for old, new in zip(*paper, strict=True)]
    for heading, (protocol, arm, evaluation) in columns.items():
        found = sensitivity_changes(table, protocol, arm, evaluation=evaluation)
        out[heading] = [
            _short(change) + ("" if math.isnan(low) else f" [{_short(low)},\N{NO-BREAK SPACE}{_short(high)}]")
            for change, low, high in found.itertuples(index=False)
        ]
    shown = pd.DataFrame(out, index=[*names, "RMSE"])
    shown.columns.name = f"change in %, {table['seed'].nunique()} seeds"
    return shown


def price_of_calm(
    table: pd.DataFrame,
    protocol: str,
    *,
    feature: int,
    budgets: Sequence[float],
    evaluation: str = "averaged",
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What :func:`evidence.ledger.tables.reach` reads off, for every feature by itself and with intervals over seeds.

    Seeds are drawn with replacement, the same for all arms, and the whole reading is done anew for each draw: which
    arms make up the lower envelope is then part of what is uncertain.

    Parameters
    ----------
    table, protocol, feature, budgets, evaluation
        As in :func:`evidence.ledger.tables.reach`.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        A row for each budget and feature: ``budget``, ``feature`` (from 1), ``change`` (relative, of its sensitivity),
        ``low`` and ``high`` (95 % percentile interval). NaN beyond the dearest arm; the interval is NaN where more than
        one draw in forty does not get that far, or there is one seed.

    Source: ours.

    Examples
    --------
    >>> runs = [{"arm": "MSE", "rmse": 1.0, "s_1": 1.0, "s_2": 1.0}, {"arm": "list", "rmse": 1.02, "s_1": 1.1, "s_2": 0.6}]
    >>> table = pd.DataFrame([{**run, "seed": seed, "protocol": "sound"} for run in runs for seed in (0, 1)])
    >>> price_of_calm(table, "sound", feature=2, budgets=[0.01])["change"].round(6).tolist()
    [0.05, -0.2]
    """
    check_count("resamples", resamples, least=1)
    runs = runs_of(table, protocol)
    d = _features(runs)
    check_count("feature", feature, least=1)
    if feature > d:
        raise ValueError(f"feature = {feature}: there are {d}")
    names = [str(arm) for arm in dict.fromkeys(runs["arm"]) if arm != "MSE"]
    if not names:
        raise ValueError(f"protocol {protocol!r}: there is no arm besides MSE")
    pairs = [_pair(table, protocol, arm, evaluation) for arm in names]
    # (arms, seeds, error and features)
    changes = np.stack([(other / control - 1).to_numpy() for control, other in pairs])
    wanted = np.asarray(budgets, dtype=float)
    n = changes.shape[1]
    whole = along_envelope(changes.mean(1), feature, wanted)
    rng = np.random.default_rng(check_count("seed", seed))
    draws = np.stack(
        [along_envelope(changes[:, rng.integers(n, size=n)].mean(1), feature, wanted) for _ in range(resamples)]
    )
    short = np.isnan(draws).mean(0) > 1 / 40
    safe = np.where(np.isnan(draws).all(axis=0), 0.0, draws)
    low, high = np.where(short | (n < 2), np.nan, np.nanquantile(safe, [0.025, 0.975], axis=0))
    return pd.DataFrame(
        {
            "budget": np.repeat(wanted, d),
            "feature": np.tile(np.arange(1, d + 1), len(wanted)),
            "change": whole.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
    )


def _short(share: float) -> str:
    percent = 100 * share
    return f"{percent:+.0f}" if abs(percent) >= 9.95 else f"{percent:+.1f}"


def _features(table: pd.DataFrame) -> int:
    return sum(name.startswith("s_") and name[2:].isdigit() for name in map(str, table))


def _pair(table: pd.DataFrame, protocol: str, arm: str, evaluation: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """MSE and an arm: the error and every sensitivity, by seed."""
    runs = runs_of(table, protocol)
    columns = [column(name, evaluation) for name in ("rmse", *(f"s_{j}" for j in range(1, _features(runs) + 1)))]
    control, other = (runs[runs["arm"] == name].set_index("seed").sort_index()[columns] for name in ("MSE", arm))
    if other.empty or not other.index.equals(control.index):
        raise ValueError(
            f"arm = {arm!r}: protocol {protocol!r} has {list(dict.fromkeys(runs['arm']))}, with the same seeds"
        )
    return control, other
