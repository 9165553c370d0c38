"""What it would cost to shrink the outputs of the networks trained with MSE, instead of training them with the Lai loss.

Writes book/results/shrinking.csv: for the MSE runs of the committed tables, trained again, what the error of their shrunken
outputs depends on (evidence.ledger.tables.shrunken_rmse). About two minutes on two cores.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from evidence.data import Housing, load_housing
from evidence.runs.arms import MSE, Cell, plain_twin, train_cells
from evidence.runs.parallel import run_parallel
from evidence.runs.protocols import PROTOCOLS
from evidence.runs.readout import set_precise_statistics
from lai.metrics import output_variance, rmse
from tools.files import replace_texts, table_texts
from tools.reproduce import RESULTS, environment, positive, seed_range

LENGTHS = (200, 500)
"""Epochs in all, of version 2's tables and of version 1's."""


def study(data: Housing, protocol: str, epochs: int, seeds: Sequence[int]) -> pd.DataFrame:
    """A row for each seed and read-out."""
    rows = []
    for cell, model, _, _ in train_cells(data, [Cell(protocol, MSE, seed, 0, epochs) for seed in seeds]):
        key = {"protocol": protocol, "epochs": epochs, "seed": cell.seed}
        rows.append({**key, "readout": "running", **measured(model, data)})
        set_precise_statistics(model, data.train.x, PROTOCOLS[protocol].batch_size)
        rows.append({**key, "readout": "recomputed", **measured(model, data)})
    return pd.DataFrame(rows)


def measured(model: nn.Module, data: Housing) -> dict[str, float]:
    """RMSE, and variance of outputs for the test rows, as in the tables; on the validation rows the variance of the outputs
    and their covariance with the residuals y - ŷ."""
    model.eval()
    with torch.no_grad():
        output = model(data.val.x).double()
    spread = output - output.mean()
    return {
        "rmse": rmse(model, *data.val),
        "variance": output_variance(model, data.test.x),
        "variance_val": spread.square().mean().item(),
        "covariance": (spread * (data.val.y.double() - output)).mean().item(),
    }


def for_every_protocol(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of all protocols, of those that have been trained; some train the same networks with MSE."""
    parts = [runs[runs["protocol"] == plain_twin(protocol)].assign(protocol=protocol) for protocol in PROTOCOLS]
    return pd.concat(parts).sort_values(["epochs"], kind="stable", ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.shrinking", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=seed_range, default="10", help="as for make reproduce (default 10)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes (default 2)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    data = load_housing("kaggle")
    trained = dict.fromkeys(plain_twin(protocol) for protocol in PROTOCOLS)
    calls = [(data, protocol, epochs, options.seeds) for epochs in LENGTHS[::-1] for protocol in trained]
    runs = pd.concat(run_parallel(study, calls, n_jobs=options.jobs, progress=True))
    table = for_every_protocol(runs)
    about = {
        "command": f"python -m tools.shrinking --seeds {len(options.seeds)}",
        "experiment": "the MSE runs of the tables: what shrinking their outputs costs",
        "data": data.provenance,
        "seeds": options.seeds,
        **environment(),
    }
    replace_texts(table_texts(options.out, "shrinking", table, about))


if __name__ == "__main__":
    main(sys.argv[1:])
