"""Rebuild the search for the paper's recipe, or the tuning of the sound protocol: two sets of tables in book/results.

``python -m tools.search recipes`` takes 50 minutes on two cores, ``python -m tools.search tuning`` some minutes. What is
finished is kept under _runs/cells and not computed again.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evidence.data import load_housing
from evidence.runs.store import CellStore
from evidence.search.recipes import TUNING
from evidence.search.run import search, search_mse
from tools.files import replace_texts, table_texts
from tools.reproduce import CELLS, RESULTS, environment
from tools.values import option


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.search", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("recipes", "tuning"))
    parser.add_argument("--jobs", type=option("n_jobs"), default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)  # before the hour, not after it
    data = load_housing("kaggle")
    started = time.monotonic()
    store = CellStore(CELLS)
    tables: dict[str, pd.DataFrame] = {}
    if options.what == "recipes":
        tables["recipes_mse"], tables["recipes_lai"] = search(data, n_jobs=options.jobs, store=store, progress=True)
        seeds, experiment = (
            "0 to 2; finalists also 3 to 7; readings in the paper's order also 3 to 12",
            "the search for what the paper leaves open",
        )
    else:
        tables["tuning"] = search_mse(data, TUNING, n_jobs=options.jobs, store=store, progress=True)
        seeds, experiment = "0 to 2", "activations and step sizes for the sound protocol, on MSE"
    about = {
        "command": f"python -m tools.search {options.what}",
        "experiment": experiment,
        "data": data.provenance,
        "split_seed": 0,
        "seeds": seeds,
        "epochs": "200, read out after 100 and 200" + ("; stage v1: 500" if options.what == "recipes" else ""),
        **environment(),
        "wall_seconds": round(time.monotonic() - started),
    }
    for name, table in tables.items():
        replace_texts(table_texts(options.out, name, table, about))


if __name__ == "__main__":
    main(sys.argv[1:])
