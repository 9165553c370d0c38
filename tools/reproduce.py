"""Rebuild the committed tables of book/results/: long, resumable, and apart from the book's own building.

A finished (protocol, seed) is kept under _runs/cells and not computed again, unless a setting, the data, the library or
a version has changed. The tables are written only when everything is there.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lai.cells import CellStore, fingerprint
from lai.data import load_housing
from lai.experiments import PROTOCOLS, Runs, smoothness

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"
# The sound protocol also runs the paper's λ; 1 is there because its effect begins below that.
LAMS = {"published": [1e-1, 1e-2, 1e-3], "sound": [1.0, 1e-1, 1e-2, 1e-3]}


def reproduce_smoothness(options: argparse.Namespace) -> None:
    """Version 2, section 6.1, both protocols."""
    data = load_housing(options.source, split_seed=options.split_seed)
    print(data.provenance, flush=True)
    lams = {p: options.lam or LAMS[p] for p in options.protocols}
    started = time.monotonic()
    runs = smoothness(
        data,
        protocols=options.protocols,
        lams=lams,
        alpha=options.alpha,
        seeds=range(options.seeds),
        n_jobs=options.jobs,
        store=CellStore(ROOT / "_runs" / "cells"),
        progress=True,
    )
    provenance = {
        "command": "make reproduce" + (f' ARGS="{" ".join(options.given)}"' if options.given else ""),
        "experiment": "smoothness (paper v2, section 6.1)",
        "data": data.provenance.replace(" (chosen by auto)", ""),
        "split_seed": options.split_seed,
        "lams": lams,
        "alpha": options.alpha,
        "seeds": options.seeds,
        "epochs": "100 of MSE, then 100 in each arm",
        **environment(),
        "wall_seconds_of_last_call": round(time.monotonic() - started),
    }
    # The tables of the paper's data have the plain name; others say what they are made of.
    write(options.out, "smoothness" if data.source == "kaggle" else f"smoothness_{data.source}", runs, provenance)


def environment() -> dict[str, Any]:
    """Versions and hardware, with nothing that names a machine or a person."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "versions": {"python": platform.python_version(), "pandas": pd.__version__, **fingerprint()},
        "hardware": f"{cpu}, {os.cpu_count()} cores, {'CUDA' if torch.cuda.is_available() else 'no GPU'}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def write(folder: Path, name: str, runs: Runs, provenance: dict[str, Any]) -> None:
    """The table, its curves averaged over seeds, and where they come from; each file whole or not at all."""
    curves = (
        runs.curves.groupby(["protocol", "arm", "epoch"], sort=False)["val_rmse"]
        .agg(mean="mean", low="min", high="max")
        .reset_index()
    )
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        f"{name}.csv": runs.table.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        f"{name}_curves.csv": curves.to_csv(index=False, float_format="%.5g", lineterminator="\n"),
        f"{name}.json": json.dumps(provenance, indent=1, ensure_ascii=False) + "\n",
    }
    for file, text in texts.items():
        partial = folder / f"{file}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / file)
        print(folder / file)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="make reproduce", description=__doc__)
    parser.add_argument("--source", default="auto", help="kaggle, surrogate, california or auto (default)")
    parser.add_argument("--split-seed", type=int, default=0, help="which rows are held out (default 0)")
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument("--lam", type=float, nargs="+", help="λ of the Lai arms, instead of the book's")
    parser.add_argument("--alpha", type=float, default=0.01, help="share of Lai batches (default 0.01)")
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 (default 10)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables (default book/results)")
    options = parser.parse_args(arguments)
    options.given = arguments
    try:
        reproduce_smoothness(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
