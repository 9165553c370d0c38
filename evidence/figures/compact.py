"""The tables of a page of the evidence: what every loss does to error, variance and slope, and to the slope of each feature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evidence.ledger.stats import bootstrap_mean, paired
from evidence.ledger.tables import column

if TYPE_CHECKING:
    import pandas as pd


def compact_table(
    table: pd.DataFrame, paper: Mapping[str, tuple[float, float]], *, evaluation: str = "averaged"
) -> pd.DataFrame:
    """Error, variance and slope of every loss in every protocol.

    Parameters
    ----------
    table : DataFrame
        Saved results of an experiment, a row for each protocol, arm and seed.
    paper : mapping
        Name of an arm to the (RMSE, variance) that the paper prints, see :func:`evidence.ledger.tables.by_arm`; NaN if it does not.
    evaluation : "averaged" or "last step"
        See :data:`evidence.ledger.tables.EVALUATIONS`.

    Returns
    -------
    DataFrame of str
        For MSE the mean and the standard deviation over seeds. For the others the change against MSE in per cent, paired by
        seed, with its 95 % bootstrap interval. The slope is the root mean square over the validation rows; the paper has none.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame({"protocol": "sound", "arm": ["MSE", "MSE", "λ = 0.1", "λ = 0.1"], "seed": [0, 1, 0, 1]})
    >>> runs = runs.assign(rmse=[0.5, 0.6, 0.6, 0.72], variance=1.0, rms_k=[1.0, 1.0, 0.5, 0.5])
    >>> compact_table(runs, {"MSE": (0.5, 0.8), "λ = 0.1": (0.55, 0.4)}).loc["sound", "λ = 0.1"]["RMSE":"variance, paper"].to_list()
    ['+20.0\\xa0% (+20.0\\xa0to\\xa0+20.0)', '+10.0\\xa0%', '+0.0\\xa0% (+0.0\\xa0to\\xa0+0.0)', '-50.0\\xa0%']
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for protocol, runs in table.groupby("protocol", sort=False):
        control = runs[runs["arm"] == "MSE"]
        for arm in map(str, dict.fromkeys(runs["arm"])):
            row = rows[str(protocol), arm] = {}
            for i, (name, metric) in enumerate({"RMSE": "rmse", "variance": "variance", "slope": "rms_k"}.items()):
                metric = column(metric, evaluation)
                row[name] = _value(control[metric], ".3f") if arm == "MSE" else _change(runs, metric, arm)
                if i < 2:  # the paper has no slopes
                    row[f"{name}, paper"] = _printed(paper, arm, i)
    import pandas as pd

    out = pd.DataFrame(rows).T
    out.index.names = ["protocol", "loss"]
    return out


def feature_table(table: pd.DataFrame, names: Sequence[str], *, evaluation: str = "averaged") -> pd.DataFrame:
    """The slope of each feature under every loss in every protocol, as :func:`compact_table` has the slope over all of them.

    Parameters
    ----------
    table : DataFrame
        Saved results of an experiment, a row for each protocol, arm and seed.
    names : sequence of str
        The features, in the order of the columns k_1, k_2 and so on.
    evaluation : "averaged" or "last step"
        See :data:`evidence.ledger.tables.EVALUATIONS`.

    Returns
    -------
    DataFrame of str
        Root mean squares over the validation rows, in the target's unit by the feature's own: for MSE the mean and the standard
        deviation over seeds, for the others the change against MSE in per cent, paired by seed, with its 95 % bootstrap interval.
    """
    import pandas as pd

    rows: dict[tuple[str, str], dict[str, str]] = {}
    for protocol, runs in table.groupby("protocol", sort=False):
        for j, name in enumerate(names, 1):
            metric = column(f"k_{j}", evaluation)
            rows[str(protocol), name] = {
                arm: _value(runs.loc[runs["arm"] == arm, metric], ".2g") if arm == "MSE" else _change(runs, metric, arm)
                for arm in map(str, dict.fromkeys(runs["arm"]))
            }
    out = pd.DataFrame(rows).T.fillna("–")
    out.index.names = ["protocol", "slope of"]
    return out


def _value(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}}\u00a0±\u00a0{values.std(ddof=1):{form}}"


def _change(runs: pd.DataFrame, metric: str, arm: str) -> str:
    mse = runs[runs["arm"] == "MSE"].sort_values("seed")[metric].to_numpy()
    change = bootstrap_mean(100 * paired(runs, metric, arm, "MSE") / mse)
    return "{:+.1f}\u00a0% ({:+.1f}\u00a0to\u00a0{:+.1f})".format(*change)  # breaks before the interval only


def _printed(paper: Mapping[str, tuple[float, float]], arm: str, i: int) -> str:
    if arm not in paper or math.isnan(paper[arm][i]):
        return "–"
    return f"{paper[arm][i]:.3f}" if arm == "MSE" else f"{100 * (paper[arm][i] / paper['MSE'][i] - 1):+.1f}\u00a0%"
