"""The study of shrinking: on the networks of the tables up to rounding, and its figures give the error of outputs that are in fact shrunk."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from few_rows import few_rows

from evidence.ledger.tables import shrunken_rmse
from evidence.runs.arms import train_arms
from evidence.runs.experiments import EXPERIMENTS
from tools import shrinking
from tools.report import TOLERANCES

RESULTS = Path(__file__).parents[2] / "book" / "results"


@pytest.mark.parametrize("name", ["smoothness", "strength"])
def test_the_networks_are_those_of_the_tables(name: str) -> None:
    study, table = (pd.read_csv(RESULTS / f"{file}.csv", dtype=str) for file in ("shrinking", name))
    about, same = (json.loads((RESULTS / f"{file}.json").read_text()) for file in ("shrinking", name))
    assert about["seeds"] == same["seeds"]
    epochs = str(EXPERIMENTS[name].pretrain_epochs + EXPERIMENTS[name].epochs)
    for readout, end in (("recomputed", ""), ("running", "_running")):
        own = study[(study["epochs"] == epochs) & (study["readout"] == readout)].set_index(["protocol", "seed"])
        mse = table[table["arm"] == "MSE"].set_index(["protocol", "seed"])
        assert len(own) == len(mse) == 3 * len(about["seeds"])
        for metric in ("rmse", "variance"):
            apart = (own[metric].astype(float) - mse.loc[own.index, f"{metric}{end}"].astype(float)).abs()
            limits = own.index.get_level_values("protocol").map(lambda protocol, m=metric: TOLERANCES[protocol][m])
            assert (apart <= limits).mean() > 0.9, metric


def test_a_run_of_the_study_is_a_run_of_the_experiment() -> None:
    data = few_rows()
    options = {"pretrain_epochs": 1, "epochs": 1, "device": "cpu"}
    table = train_arms(data, {"published": [], "sound": []}, seeds=[0, 3], **options).table  # type: ignore[arg-type]
    for protocol in ("published", "sound"):
        study = shrinking.study(data, protocol, 2, [0, 3])
        runs = table[table["protocol"] == protocol]
        for readout, end in (("recomputed", ""), ("running", "_running")):
            own = study[study["readout"] == readout]
            for metric in ("rmse", "variance"):
                np.testing.assert_array_equal(own[metric], runs[f"{metric}{end}"])


def test_the_error_of_a_networks_shrunken_outputs() -> None:
    """Against outputs that are shrunk; a network with BatchNorm, little trained, so that residuals and outputs correlate."""
    import torch

    from evidence.runs.protocols import PROTOCOLS

    data = few_rows()
    model = PROTOCOLS["published"].model(data.train.x, 0).eval()
    found = shrinking.measured(model, data)
    assert abs(found["covariance"]) > 1e-3
    with torch.no_grad():
        output = model(data.val.x).double()
    for c in (1.0, 0.7, 0.2):
        drawn = output.mean() + c * (output - output.mean())
        error = (drawn - data.val.y).square().mean().sqrt().item()
        assert shrunken_rmse(found["rmse"], found["variance_val"], c, found["covariance"]) == pytest.approx(error)
