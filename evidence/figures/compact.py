"""The table that opens a page of the evidence: what every loss does to error, variance and slope, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping
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
        Name of an arm to the (RMSE, variance) that the paper prints, see :func:`evidence.ledger.tables.by_arm`.
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
    ['+20.0 % (+20.0\\xa0to\\xa0+20.0)', '+10.0 %', '+0.0 % (+0.0\\xa0to\\xa0+0.0)', '-50.0 %']
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for protocol, runs in table.groupby("protocol", sort=False):
        control = runs[runs["arm"] == "MSE"].set_index("seed").sort_index()
        for arm in map(str, dict.fromkeys(runs["arm"])):
            row = rows[str(protocol), arm] = {}
            for i, (name, metric) in enumerate({"RMSE": "rmse", "variance": "variance", "slope": "rms_k"}.items()):
                metric = column(metric, evaluation)
                mse = control[metric].to_numpy()
                if arm == "MSE":
                    row[name] = f"{mse.mean():.3f} ± {mse.std(ddof=1):.3f}"
                else:
                    change = bootstrap_mean(100 * paired(runs, metric, arm, "MSE") / mse)
                    row[name] = "{:+.1f} % ({:+.1f}\u00a0to\u00a0{:+.1f})".format(
                        *change
                    )  # breaks before the interval only
                if i < 2:  # the paper has no slopes
                    row[f"{name}, paper"] = _printed(paper, arm, i)
    import pandas as pd

    out = pd.DataFrame(rows).T
    out.index.names = ["protocol", "loss"]
    return out


def _printed(paper: Mapping[str, tuple[float, float]], arm: str, i: int) -> str:
    if arm not in paper:
        return "–"
    return f"{paper[arm][i]:.3f}" if arm == "MSE" else f"{100 * (paper[arm][i] / paper['MSE'][i] - 1):+.1f} %"
