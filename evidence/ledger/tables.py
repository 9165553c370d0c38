"""Tables and verdicts made from experiments' results: the paper's figures beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evidence.runs.arms import arm_name
from lai.factor import check_choice

from .stats import bootstrap_mean, paired

ADHERES = 0.005
"""How near to MSE's RMSE an arm must be to "adhere" to it, as a share of that RMSE. Our choice: a little less than
the paper's own gap at λ = 1e-2, an arm that it says diverges."""

EVALUATIONS = {"averaged": ("rmse", "variance"), "last step": ("rmse_last", "variance_last")}
"""How a run is evaluated, and the columns that hold its error and variance: averaged over the last epochs of training, with
BatchNorm's exact statistics of all training rows, or as training leaves the network after its last step, with running ones."""

SMOOTHNESS_CLAIMS = {
    "v2-loss-rises": "the error rises as λ falls",
    "v2-var-falls": "the variance falls as λ falls",
    "v2-adheres": f"λ = 0.1 stays within {100 * ADHERES:g} % of MSE's error",
    "slopes-fall": "the slopes fall as λ falls (ours)",
}
"""Version 2, section 6.1, claim by claim, and the claim that "smoothness" should have been about."""


def by_arm(paper: Mapping[Any, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The paper's figures by the names that arms have in our tables.

    Parameters
    ----------
    paper : mapping
        λ, or None for MSE, or (α, λ), to (RMSE, variance): the tables of :mod:`evidence.ledger.paper`.

    Examples
    --------
    >>> from evidence.ledger.paper import V1_SAMPLING
    >>> by_arm(V1_SAMPLING)
    {'λ = 0.001, α = 1': (0.7563, 0.4827), 'λ = 0.0001, α = 0.01': (0.782, 0.4653)}
    """
    names = {key: f"{arm_name(key[1])}, α = {key[0]:g}" if isinstance(key, tuple) else arm_name(key) for key in paper}
    return {names[key]: figures for key, figures in paper.items()}


def column(metric: str, evaluation: str = "averaged") -> str:
    """The column of a metric under an evaluation.

    Raises
    ------
    ValueError
        If there is no such evaluation.

    Examples
    --------
    >>> [column(name, "last step") for name in ("rmse", "rms_k", "s_8", "rmse_train")], column("s_8")
    (['rmse_last', 'rms_k_last', 's_last_8', 'rmse_train_last'], 's_8')
    """
    check_choice("evaluation", evaluation, tuple(EVALUATIONS))
    if evaluation == "averaged":
        return metric
    name, _, number = metric.rpartition("_")
    return f"{name}_last_{number}" if number.isdigit() else f"{metric}_last"


def paper_table(
    table: pd.DataFrame,
    protocol: str,
    paper: Mapping[str, tuple[float, float]],
    *,
    evaluation: str = "averaged",
) -> pd.DataFrame:
    """One protocol's results beside the paper's figures, to be read by people.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.runs.experiments.run_experiment`.
    protocol : str
    paper : mapping
        Name of an arm to (RMSE, variance): :func:`by_arm` of a table of :mod:`evidence.ledger.paper`.
    evaluation : "averaged" or "last step"
        How the runs are evaluated (``EVALUATIONS``).

    Returns
    -------
    DataFrame of str
        A column an arm, as in the paper. "mean ± standard deviation" over seeds of error, variance and root mean square slope
        (``rms_k``), and the differences to MSE paired by seed with their 95 % bootstrap intervals. "–" where there is nothing to print.

    Raises
    ------
    ValueError
        If the protocol is not in the table.

    Examples
    --------
    >>> lam, seed = [np.nan, np.nan, 0.1, 0.1], [0, 1, 0, 1]
    >>> runs = pd.DataFrame({"protocol": "sound", "arm": ["MSE", "MSE", "λ = 0.1", "λ = 0.1"], "lam": lam, "seed": seed})
    >>> runs = runs.assign(rmse=[0.5, 0.6, 0.6, 0.7], variance=[1.0, 1.0, 0.75, 0.75])
    >>> paper_table(runs, "sound", {"MSE": (0.696, 0.7728)})["λ = 0.1"].loc[["RMSE, ours", "Δ variance"]].tolist()
    ['0.6500 ± 0.0707', '-0.2500 (-0.2500 to -0.2500)']
    """
    runs = runs_of(table, protocol)
    columns: dict[str, dict[str, str]] = {}
    for arm, group in runs.groupby("arm", sort=False):
        printed = paper.get(str(arm))
        shown: dict[str, str] = {}
        for i, (name, metric) in enumerate({"RMSE": "rmse", "variance": "variance", "slope": "rms_k"}.items()):
            if (own := column(metric, evaluation)) not in runs:
                continue
            if i < 2:  # the paper has no slopes
                shown[f"{name}, paper"] = "–" if printed is None else f"{printed[i]:.4f}"
            shown[f"{name}, ours"] = _spread(group[own])
            shown[f"Δ {name}"] = "–" if arm == "MSE" else _change(paired(runs, own, str(arm), "MSE"))
        columns[str(arm)] = shown
    out = pd.DataFrame(columns)
    out.columns.name = f"{protocol}, {runs['seed'].nunique()} seeds"
    return out


def sensitivity_table(
    table: pd.DataFrame,
    protocol: str,
    arm: str,
    paper: Mapping[str, Sequence[float]],
    names: Sequence[str],
    *,
    evaluation: str = "averaged",
) -> pd.DataFrame:
    """Sensitivity to noise, feature by feature, of MSE and of one arm, with the paper's Change row and ours.

    Parameters
    ----------
    table : DataFrame
        From :func:`evidence.runs.experiments.run_experiment`.
    protocol, arm : str
    paper : mapping
        "mse" and ``arm`` to the eight figures that the paper prints; an arm that it does not have may be missing.
    names : sequence of str
        The features.

    Returns
    -------
    DataFrame of str
        A row a feature, and one for the RMSE. "mean ± standard deviation" over seeds; the change against MSE in per
        cent of it, paired by seed, with its 95 % bootstrap interval.

    Source: paper, version 2, section 6.2.
    """
    runs = runs_of(table, protocol)
    control, other = (runs[runs["arm"] == name].set_index("seed").sort_index() for name in ("MSE", arm))
    if other.empty:
        raise ValueError(f"arm = {arm!r}: protocol {protocol!r} has {list(dict.fromkeys(runs['arm']))}")
    rows: dict[str, dict[str, str]] = {}
    for j, name in enumerate([*names, "RMSE"], 1):
        own = column("rmse" if name == "RMSE" else f"s_{j}", evaluation)
        printed = [paper[key][j - 1] if key in paper and j <= len(paper[key]) else None for key in ("mse", arm)]
        change = "–" if None in printed else f"{100 * (printed[1] / printed[0] - 1):+.1f} %"  # type: ignore[operator]
        ours = 100 * (other[own] / control[own].loc[other.index] - 1).to_numpy()
        rows[name] = {
            "MSE, paper": "–" if printed[0] is None else f"{printed[0]:.4g}",
            "MSE, ours": _spread(control[own]),
            f"{arm}, ours": _spread(other[own]),
            "change, paper": change,
            "change, ours": f"{ours.mean():+.1f} %",
            "95 %": "–" if len(ours) < 2 else "{1:+.1f} to {2:+.1f} %".format(*bootstrap_mean(ours)),
        }
    out = pd.DataFrame(rows).T
    out.columns.name = f"{protocol}, {arm}, {runs['seed'].nunique()} seeds"
    return out


def reach(
    table: pd.DataFrame, protocol: str, *, feature: int, budgets: Sequence[float], evaluation: str = "averaged"
) -> pd.DataFrame:
    """How far a feature's sensitivity falls for a given increase of the error: the tuning study, read off between its arms.

    The arms that differ from MSE are taken along increasing mean error; between neighbours on the lower envelope (no
    arm is beaten by one that is cheaper) the changes are joined linearly. MSE stands among them, at no cost; an arm with less
    error than MSE comes before it, or in its place if it lowers the sensitivity as well.

    Parameters
    ----------
    feature : int
        From 1.
    budgets : sequence of float
        Increases of the RMSE, as shares of MSE's.

    Returns
    -------
    DataFrame
        A row a budget: ``budget``; ``own``, the relative change of the feature's sensitivity; ``others``, the mean
        relative change of the other features'; NaN beyond the dearest arm of that envelope. Changes are means over seeds of paired ratios.

    Source: ours, for the remark on tuning at the end of the paper's section 6.2.
    """
    runs = runs_of(table, protocol)
    features = [c for c in map(str, runs) if c.startswith("s_") and c[2:].isdigit()]
    columns = [column(name, evaluation) for name in ("rmse", *features)]
    control = runs[runs["arm"] == "MSE"].set_index("seed")[columns]
    others = (group.set_index("seed")[columns] for name, group in runs.groupby("arm", sort=False) if name != "MSE")
    changes = along_envelope(np.array([(other / control - 1).mean() for other in others]), feature, budgets)
    mean = np.delete(changes, feature - 1, axis=1).mean(1)
    return pd.DataFrame({"budget": np.asarray(budgets, dtype=float), "own": changes[:, feature - 1], "others": mean})


def along_envelope(means: np.ndarray, feature: int, budgets: Sequence[float] | np.ndarray) -> np.ndarray:
    """Relative changes of all features (budgets, features) from those of error and features (arms, 1 + features), read off
    between the arms that are on the lower envelope for one feature; MSE is the start."""
    points = np.vstack([np.zeros(means.shape[1]), means])
    points = points[np.lexsort((points[:, feature], points[:, 0]))]
    lowest = np.minimum.accumulate(points[:, feature])
    points = points[np.r_[True, lowest[1:] < lowest[:-1]]]
    return np.stack(
        [np.interp(budgets, points[:, 0], points[:, j], left=np.nan, right=np.nan) for j in range(1, points.shape[1])],
        axis=1,
    )


def lam_with_effect(table: pd.DataFrame, protocol: str, variance_ratio: float) -> float:
    """The λ at which an arm's variance is a given share of MSE's, read off between the λ that were run.

    Linear in log λ between neighbours; NaN if no two of the λ enclose it.

    Parameters
    ----------
    variance_ratio : float
        Mean variance of the arm over that of MSE; the paper's for λ = 1e-3 is 0.6604 / 0.7728.
    """
    runs = runs_of(table, protocol)
    means = runs.groupby("lam", dropna=True)["variance"].mean() / runs.loc[runs["lam"].isna(), "variance"].mean()
    points = sorted(zip(means.index.to_numpy(float), means.to_numpy(float), strict=True), reverse=True)
    for (high, a), (low, b) in zip(points, points[1:], strict=False):
        if min(a, b) <= variance_ratio <= max(a, b):
            share = (a - variance_ratio) / (a - b) if a != b else 0.0
            return float(np.exp(np.log(high) + share * (np.log(low) - np.log(high))))
    return math.nan


def shrunken_rmse(
    rmse: float | np.ndarray,
    variance: float | np.ndarray,
    c: float | np.ndarray,
    covariance: float | np.ndarray = 0.0,
) -> float | np.ndarray:
    """The RMSE of a model whose outputs are drawn towards their mean, to ``c`` times their distance from it.

    Every slope is then c times what it was, and the variance of the outputs c² times. No training is needed for this: it is
    the price at which any lower variance of the outputs can be had.

    Parameters
    ----------
    rmse, variance : float or array
        Of the model as it is, and of its outputs, on the same rows; in units of the target, and squared.
    c : float or array
        0 or more; above 1 the outputs are stretched, and the formula is the same.
    covariance : float or array
        Of outputs and residuals y - ŷ on these rows. 0 after least squares on the training rows; above 0 for a model whose
        outputs vary less than they should.

    Returns
    -------
    float or array
        sqrt(rmse² + (1 - c)² variance + 2 (1 - c) covariance)

    Raises
    ------
    ValueError
        If a variance or c is negative.

    Source: ours, to have something to compare the paper's trade with (version 1, section 4; version 2, section 6.1).

    Examples
    --------
    >>> shrunken_rmse(1.2, 1.0, 0.5)
    1.3
    >>> shrunken_rmse(np.array([0.6, 0.8]), 1.0, [1.0, 0.4]).tolist()
    [0.6, 1.0]
    """
    spread, share = np.asarray(variance, dtype=float), np.asarray(c, dtype=float)
    if not (spread >= 0).all() or not (share >= 0).all():
        raise ValueError(f"variance = {variance!r}, c = {c!r}: must be 0 or more")
    out = np.sqrt(np.square(rmse) + np.square(1 - share) * spread + 2 * (1 - share) * np.asarray(covariance))
    return out if out.ndim else float(out)


def runs_of(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One protocol's rows of a table; ``ValueError`` if it has none."""
    runs = table[table["protocol"] == protocol]
    if runs.empty:
        raise ValueError(f"protocol = {protocol!r}: the table has {sorted(set(table['protocol']))}")
    return runs


def _spread(values: Sequence[float] | pd.Series) -> str:
    sample = np.asarray(values, dtype=float)
    return f"{sample.mean():.4f} ± {sample.std(ddof=1):.4f}" if len(sample) > 1 else f"{sample[0]:.4f}"


def _change(differences: np.ndarray) -> str:
    if len(differences) < 2:
        return f"{differences[0]:+.4f}"
    mean, low, high = bootstrap_mean(differences)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
