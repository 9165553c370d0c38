"""Tables of results made for the ledger's queries, with and without an effect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evidence.ledger.queries import QUERIES
from evidence.ledger.tables import column
from evidence.ledger.views import Results

LAMS = (0.1, 0.01, 0.001)
KEYS = ("protocol", "lam", "lam_8", "alpha", "seed", "arm")


def table(
    rmse: Callable[[float | None], float],
    variance: Callable[[float | None], float],
    *,
    protocols: tuple[str, ...] = ("published", "corrected", "sound"),
    alpha: float = 0.01,
    lams: tuple[float, ...] = LAMS,
    noise: float = 1e-4,
    spread: float = 0.01,
    covariance: float = 0.0,
) -> pd.DataFrame:
    """Ten seeds of each arm, with a shift of its own for each seed, of this spread, and little noise besides."""
    rows = []
    rng = np.random.default_rng(0)

    def centred(scale: float) -> np.ndarray:
        """Ten numbers that sum to zero, so that nothing differs by chance."""
        drawn = rng.normal(0, scale, 10)
        return drawn - drawn.mean()

    for protocol in protocols:
        shifts = centred(spread)
        for lam in (None, *lams):
            errors, variances = centred(noise), centred(noise)
            for seed, shift in enumerate(shifts):
                row: dict[str, Any] = {"protocol": protocol, "lam": lam, "lam_8": lam, "alpha": alpha, "seed": seed}
                row["arm"] = "MSE" if lam is None else f"λ = {lam:g}"
                row["rmse"] = rmse(lam) + shift + errors[seed]
                row["variance"] = variance(lam) + shift + variances[seed]
                row["rmse_train"] = row["rmse"] - 0.1
                row["variance_val"], row["covariance"] = falling(None), covariance
                row["rms_k"] = variance(lam) + shift
                for j in range(1, 9):
                    row[f"k_{j}"] = row[f"s_{j}"] = (8.0 if j == 8 else 1.0) + shift
                for name in [name for name in row if name not in KEYS]:
                    extra = 0.0005 if name in ("rmse", "variance", "rmse_train") and protocol != "sound" else 0.0
                    row[column(name, "last step")] = row[name] + extra
                rows.append(row)
    return pd.DataFrame(rows).astype({"lam": float, "lam_8": float})


def falling(lam: float | None) -> float:
    return {None: 0.80, 0.1: 0.79, 0.01: 0.75, 0.001: 0.65, 0.0001: 0.4}[lam]


def rising(lam: float | None) -> float:
    return {None: 0.700, 0.1: 0.7005, 0.01: 0.71, 0.001: 0.72, 0.0001: 0.9}[lam]


def flat(lam: float | None) -> float:
    return 0.7


def ask(tmp_path: Path, name: str, **tables: pd.DataFrame) -> str:
    for file, frame in tables.items():
        frame.to_csv(tmp_path / f"{file}.csv", index=False)
    judgement = QUERIES[name](Results(tmp_path))
    assert judgement.numbers.endswith(".")
    return judgement.verdict


def with_list(cut: float = 0.6, other: float = 1.0, cost: float = 1.0, lam: float = 0.0) -> pd.DataFrame:
    """A list arm, made of the MSE arm; λ = 0.1 gets sensitivities times 1 + lam."""
    frame = table(rising, falling)
    sensitivities = [name for name in map(str, frame) if name.startswith("s_")]
    frame.loc[np.isclose(frame["lam"], 0.1), sensitivities] *= 1 + lam
    arm = frame[frame["lam"].isna()].assign(lam=0.1, lam_8=0.001, arm="λ = 0.1, λ₈ = 0.001")
    arm[sensitivities] *= other
    arm[["s_8", "s_last_8"]] *= cut / other
    arm[["rmse", "rmse_last"]] *= cost
    return pd.concat([frame, arm])
