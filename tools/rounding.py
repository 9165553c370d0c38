"""How far rounding carries: runs of the committed tables beside runs whose initial weights differ by one part in a million.

Writes book/results/rounding.csv, from which the tolerances of the page on reproducibility come. A minute or two a seed on one
core; the undisturbed runs are those of `make reproduce`, where they are kept.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from evidence.data import load_housing
from evidence.runs.arms import Arm, train_arms
from evidence.runs.experiments import with_last
from evidence.runs.protocols import PROTOCOLS, Protocol
from evidence.runs.store import CellStore
from lai.models import MLP
from tools.files import replace_texts, table_texts
from tools.reproduce import CELLS, environment, folder_for
from tools.values import seed_range

CHANGE = 1e-6
METRICS = ("rmse", "variance", "rms_k", "rmse_last", "variance_last", "s_8")

SHORT: dict[str, tuple[Arm, ...]] = {
    p: (Arm(1e-3, 0.01), Arm(with_last(0.1, 1e-3), 0.01), Arm(with_last(1.0 if p == "sound" else 0.1, 1e-3), 0.1))
    for p in PROTOCOLS
}
LONG: dict[str, tuple[Arm, ...]] = {p: (Arm(1e-3, 1.0), Arm(1e-4, 0.01)) for p in PROTOCOLS}
ARMS = {(100, 100): SHORT, (0, 500): LONG}
"""By the epochs of MSE and those of each arm: of each kind of table the runs with the smallest λ, and MSE."""


@contextmanager
def disturbed() -> Iterator[None]:
    """Every network begins a little off."""
    plain = Protocol.model

    def model(self: Protocol, x: Tensor, seed: int) -> MLP:
        network = plain(self, x, seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        with torch.no_grad():
            for weights in network.parameters():
                weights.mul_(1 + CHANGE * torch.randn(weights.shape, generator=generator))
        return network

    Protocol.model = model  # type: ignore[method-assign]
    try:
        yield
    finally:
        Protocol.model = plain  # type: ignore[method-assign]


def rounding(
    data: Any, seeds: Sequence[int], arms: Any, length: tuple[int, int], store: CellStore | None
) -> pd.DataFrame:
    """The measures of each run, and with the ending ``_again`` those of its disturbed twin."""
    options: dict[str, Any] = {"pretrain_epochs": length[0], "epochs": length[1], "device": "cpu", "n_jobs": 1}
    key = ["protocol", "arm", "alpha", "seed"]
    plain = train_arms(data, arms, seeds=seeds, store=store, progress=True, **options).table[[*key, *METRICS]]
    with disturbed():
        again = train_arms(data, arms, seeds=seeds, progress=True, **options).table[[*key, *METRICS]]
    return plain.merge(again, on=key, suffixes=("", "_again"), validate="1:1").assign(epochs=sum(length))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.rounding", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=seed_range, default="2", help="as for make reproduce (default 2)")
    parser.add_argument("--out", type=Path, help="a folder; default: book/results, with --seeds _runs/results")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    out = folder_for(options.out, own=any(word.startswith("--seeds") for word in given))
    out.mkdir(parents=True, exist_ok=True)  # before the minutes, not after them
    data = load_housing("kaggle")  # whose split is of no concern: each seed has its own
    store = CellStore(CELLS)
    parts = [
        rounding(lambda seed: load_housing("kaggle", split_seed=seed), options.seeds, arms, length, store)
        for length, arms in ARMS.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    about = {
        "command": " ".join(["python -m tools.rounding", *given]),
        "experiment": f"runs of the tables, and again with initial weights changed by {CHANGE:g} of themselves",
        "data": data.provenance,
        "seeds": options.seeds,
        **environment(),
    }
    replace_texts(table_texts(out, "rounding", table, about))


if __name__ == "__main__":
    main(sys.argv[1:])
