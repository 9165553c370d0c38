"""The explorer: what every λ, α and protocol of the saved sweep came to, as one figure for paper and as data for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evidence.data import FEATURES, UNITS
from evidence.ledger.paper import V1_SAMPLING, V1_SMOOTHNESS, V2_SMOOTHNESS
from evidence.runs.protocols import PROTOCOLS

from .style import GREY, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MEASURES: Mapping[str, str] = {"rmse": "RMSE", "variance": "variance", "rms_k": "slope"}
"""The columns that the explorer shows, and what it calls them."""

FEATURE = "MedInc"
"""What the fitted curves are drawn over."""


def sweep_changes(table: pd.DataFrame) -> pd.DataFrame:
    """What λ and α do to error, variance and slope: changes against MSE in per cent, paired by seed.

    Parameters
    ----------
    table : DataFrame
        Of :func:`evidence.runs.explorer.explorer_sweep`.

    Returns
    -------
    DataFrame
        By protocol, α and λ, for each of ``rmse``, ``variance`` and ``rms_k``: the ``mean`` of the seeds' changes, the
        ``low``-est and the ``high``-est of them.

    Examples
    --------
    >>> import pandas as pd
    >>> runs = pd.DataFrame({"protocol": "sound", "lam": [None, 0.1], "alpha": [0.0, 1.0], "seed": 0,
    ...                      "rmse": [0.5, 0.6], "variance": 1.0, "rms_k": [2.0, 1.0]})
    >>> sweep_changes(runs).loc[("sound", 1.0, 0.1), ("rms_k", "mean")]
    np.float64(-50.0)
    """
    names = list(MEASURES)
    own = table[table["lam"].isna()].set_index(["protocol", "seed"])[names]
    runs = table.dropna(subset="lam").set_index(["protocol", "alpha", "lam", "seed"])[names]
    changes = 100 * (runs / own - 1)
    found = changes.groupby(["protocol", "alpha", "lam"], sort=False).agg(["mean", "min", "max"])
    return found.rename(columns={"min": "low", "max": "high"}, level=1)


def paper_changes() -> list[dict[str, Any]]:
    """The figures that the paper prints for pairs of λ and α, as changes against its own MSE in per cent.

    Returns
    -------
    list of dict
        ``version``, ``lam``, ``alpha``, ``rmse`` and ``variance``.

    Source: paper, version 2, section 6.1; version 1, sections 4 and 5.
    """
    printed = [(2, lam, 0.01, pair, V2_SMOOTHNESS[None]) for lam, pair in V2_SMOOTHNESS.items() if lam is not None]
    printed += [(1, lam, 1.0, pair, V1_SMOOTHNESS[None]) for lam, pair in V1_SMOOTHNESS.items() if lam is not None]
    printed += [
        (1, lam, alpha, pair, V1_SMOOTHNESS[None]) for (alpha, lam), pair in V1_SAMPLING.items() if alpha != 1.0
    ]
    return [
        {
            "version": version,
            "lam": lam,
            "alpha": alpha,
            "rmse": 100 * (rmse / own[0] - 1),
            "variance": 100 * (variance / own[1] - 1),
        }
        for version, lam, alpha, (rmse, variance), own in printed
    ]


def explorer_data(table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """Everything that the explorer shows, every number as it stands on the page: the browser computes none.

    Parameters
    ----------
    table : DataFrame
        Of :func:`evidence.runs.explorer.explorer_sweep`.
    curves : DataFrame
        Its curves, averaged over seeds.

    Returns
    -------
    dict that JSON can hold
        ``lams`` and ``alphas`` (rising), ``protocols``, ``features``, ``measures``; ``mse``, by protocol, and ``cells``, by
        protocol, α and λ: for each measure the mean over seeds, the change against MSE in per cent with the ends of the
        seeds, and these as text; ``slopes``, each feature's slope in per cent of MSE's; ``curve``, at the places ``x``;
        ``paper``, from :func:`paper_changes`; ``seeds``, their number; ``start``, the positions shown first.
    """
    lams, alphas = sorted(table["lam"].dropna().unique().tolist()), sorted(set(table["alpha"]) - {0.0})
    protocols = list(dict.fromkeys(table["protocol"]))
    changes, slopes = sweep_changes(table), [f"k_{j}" for j in range(1, len(FEATURES) + 1)]
    means = table.groupby(["protocol", "alpha", "lam"], dropna=False)[[*MEASURES, *slopes]].mean()
    lines = {
        key: own["output"].tolist() for key, own in curves.fillna({"lam": 0.0}).groupby(["protocol", "alpha", "lam"])
    }
    mse, cells = {}, {}
    for protocol in protocols:
        plain = means.loc[(protocol, 0.0)].iloc[0]
        mse[protocol] = {
            **{name: {"value": float(plain[name]), "text": f"{plain[name]:.3f}"} for name in MEASURES},
            "curve": lines[protocol, 0.0, 0.0],
        }
        cells[protocol] = [
            [
                {
                    **{
                        name: _cell(means.loc[(protocol, a, v), name], changes.loc[(protocol, a, v), name])
                        for name in MEASURES
                    },
                    "slopes": [float(s) for s in (100 * means.loc[(protocol, a, v), slopes] / plain[slopes])],
                    "curve": lines[protocol, a, v],
                }
                for v in lams
            ]
            for a in alphas
        ]
    return {
        "lams": lams,
        "alphas": alphas,
        "protocols": [{"name": name, "about": PROTOCOLS[name].about} for name in protocols],
        "features": list(FEATURES),
        "measures": [{"key": key, "name": name} for key, name in MEASURES.items()],
        "mse": mse,
        "cells": cells,
        "x": curves["x"].drop_duplicates().tolist(),
        "x_label": f"{FEATURE} ({UNITS[FEATURE]})",
        "y_label": f"mean output ({UNITS['MedHouseVal']})",
        "paper": [
            {**one, **{f"{name}_text": _signed(one[name]) for name in ("rmse", "variance")}} for one in paper_changes()
        ],
        "seeds": int(table["seed"].nunique()),
        "start": {"protocol": "sound", "alpha": alphas.index(0.01), "lam": lams.index(0.1)},
    }


def _cell(value: float, change: pd.Series) -> dict[str, Any]:
    mean, low, high = (float(change[name]) for name in ("mean", "low", "high"))
    text = [f"{value:.3f}", _signed(mean), f"{_signed(low)} to {_signed(high)}"]
    return {"value": float(value), "change": mean, "low": low, "high": high, "text": text}


def _signed(value: float) -> str:
    return f"{value:+.1f}\u00a0%".replace("-", "−")


def sweep_panels(axes: np.ndarray, table: pd.DataFrame, curves: pd.DataFrame) -> None:
    """All of the explorer at once, for paper: a column for each protocol; error, variance and slope over λ, then the curves.

    ``axes`` has four rows. Lines are the α; open marks are the paper's. The curves are those of the largest α.
    """
    changes, paper = sweep_changes(table), paper_changes()
    alphas = sorted(set(table["alpha"]) - {0.0})
    markers = "os^D"
    for column, protocol in enumerate(dict.fromkeys(table["protocol"])):
        for row, name in enumerate(MEASURES):
            ax: Axes = axes[row, column]
            ax.axhline(0, color=GREY, linewidth=0.8, linestyle="-")
            for i, alpha in enumerate(alphas):
                line = changes.loc[(protocol, alpha), (name, "mean")].sort_index()
                colour, dash = style(i)
                ax.plot(
                    line.index, line, color=colour, linestyle=dash, marker=markers[i], markersize=4, linewidth=1.4,
                    label=f"α = {alpha:g}",
                )  # fmt: skip
                points = [one for one in paper if one["alpha"] == alpha and name in one]
                ax.plot(
                    [one["lam"] for one in points], [one[name] for one in points], markers[i], color=colour,
                    markersize=7, fillstyle="none", markeredgewidth=1.3,
                )  # fmt: skip
            ax.set_xscale("log")
            ax.set_xlim(0.5e-4, 2)
            ax.set_xticks([1e-3, 1e-1])
        axes[0, column].set_title(protocol, fontsize=10)
        axes[2, column].set_xlabel("λ")
        _curves(axes[3, column], curves[curves["protocol"] == protocol], alphas[-1])
    for row, label in enumerate((*(f"{name} (%)" for name in MEASURES.values()), "mean output")):
        axes[row, 0].set_ylabel(label, fontsize=10)


def _curves(ax: Axes, curves: pd.DataFrame, alpha: float) -> None:
    shades = curves[curves["alpha"] == alpha].groupby("lam")
    for i, (_, line) in enumerate(sorted(shades, reverse=True)):
        ax.plot(line["x"], line["output"], color=str(0.35 + 0.45 * i / len(shades)), linestyle="-", linewidth=1.2)
    plain = curves[curves["alpha"] == 0]
    ax.plot(plain["x"], plain["output"], color="black", linestyle="--", linewidth=1.6)
    ax.set_xlabel(FEATURE)
