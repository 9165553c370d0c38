"""Rebuild the committed tables of book/results/: long, resumable, and apart from the book's own building.

A finished run (protocol, λ, α, seed) is kept under _runs/cells and not computed again, unless a setting, the data, the
library or a version has changed. Tables share their runs. A table is written only when all of it is there.
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch

from lai.arms import Arm, Runs, train_arms
from lai.cells import CellStore, fingerprint
from lai.data import Housing, load_housing
from lai.experiments import EXPERIMENTS, Experiment, planned, run_experiment
from lai.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"
CELLS = ROOT / "_runs" / "cells"


def reproduce(options: argparse.Namespace) -> None:
    """All the tables that were asked for: first their runs, each once, then the files."""
    data = load_housing(options.source, split_seed=options.split_seed)
    print(data.provenance, flush=True)
    store = CellStore(options.cells)
    chosen = [EXPERIMENTS[name] for name in options.tables]
    common: dict[str, Any] = {"seeds": options.seeds, "device": options.device, "store": store}
    plans = {
        e.name: planned(e.name, protocols=options.protocols, lams=options.lam, alpha=options.alpha) for e in chosen
    }
    lengths = {e.name: _length(e, options) for e in chosen}
    started = time.monotonic()
    for length in dict.fromkeys(lengths.values()):
        together = [plans[e.name] for e in chosen if lengths[e.name] == length]
        print(
            f"{length[0]} + {length[1]} epochs: {', '.join(n for n, own in lengths.items() if own == length)}",
            flush=True,
        )
        stages: dict[str, Any] = {"pretrain_epochs": length[0], "epochs": length[1]}
        train_arms(data, _union(together), n_jobs=options.jobs, progress=True, **stages, **common)
    wall = round(time.monotonic() - started)
    for e in chosen:
        stages = {"pretrain_epochs": lengths[e.name][0], "epochs": lengths[e.name][1]}
        runs = run_experiment(data, e.name, arms=plans[e.name], **stages, **common)  # all kept by now
        # The tables of the paper's data have the plain name; others say what they are made of.
        name = e.name if data.source == "kaggle" else f"{e.name}_{data.source}"
        write(options.out, name, runs, provenance(e, data, plans[e.name], lengths[e.name], options, runs.cost, wall))


def _length(experiment: Experiment, options: argparse.Namespace) -> tuple[int, int]:
    before, after = options.pretrain_epochs, options.epochs
    return (
        experiment.pretrain_epochs if before is None else before,
        experiment.epochs if after is None else after,
    )


def _union(plans: list[dict[str, tuple[Arm, ...]]]) -> dict[str, tuple[Arm, ...]]:
    union: dict[str, dict[Arm, None]] = {}
    for plan in plans:
        for protocol, arms in plan.items():
            union.setdefault(protocol, {}).update(dict.fromkeys(arms))
    return {protocol: tuple(arms) for protocol, arms in union.items()}


def provenance(
    experiment: Experiment,
    data: Housing,
    arms: Mapping[str, tuple[Arm, ...]],
    length: tuple[int, int],
    options: argparse.Namespace,
    cost: pd.DataFrame,
    wall: int,
) -> dict[str, Any]:
    """How a table came about, and what it cost."""
    given = f' ARGS="{" ".join(options.given)}"' if options.given else ""
    return {
        "command": f"make reproduce{given}",
        "experiment": f"{experiment.name} (paper, {experiment.about})",
        "data": data.provenance.replace(" (chosen by auto)", ""),
        "split_seed": options.split_seed,
        "arms": {p: [f"{a.name}, α = {a.alpha:g}" for a in of_protocol] for p, of_protocol in arms.items()},
        "seeds": options.seeds,
        "epochs": f"{length[0]} of MSE, then {length[1]} in each arm",
        **environment(),
        "device": options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu",
        "cpu_seconds": {
            p: round(float(s), 1) for p, s in cost.groupby("protocol", sort=False)["cpu_seconds"].sum().items()
        },
        "peak_mb": int(cost["peak_mb"].max()),
        "wall_seconds_of_last_call": wall,
        "tables_of_last_call": options.tables,
    }


def environment() -> dict[str, Any]:
    """Versions and hardware, with nothing that names a machine or a person."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "versions": {"python": platform.python_version(), "pandas": pd.__version__, **fingerprint()},
        "hardware": f"{cpu}, {os.cpu_count()} cores, {gpu}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def write(folder: Path, name: str, runs: Runs, about: dict[str, Any]) -> None:
    """The table, its curves averaged over seeds, and where they come from; each file whole or not at all."""
    curves = (
        runs.curves.groupby(["protocol", "arm", "epoch"], sort=False)["val_rmse"]
        .agg(mean="mean", low="min", high="max")
        .reset_index()
    )
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        f"{name}.csv": runs.table.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        f"{name}_curves.csv": curves.to_csv(index=False, float_format="%.4g", lineterminator="\n"),
        f"{name}.json": json.dumps(about, indent=1, ensure_ascii=False) + "\n",
    }
    for file, text in texts.items():
        partial = folder / f"{file}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / file)
        print(folder / file)


@contextlib.contextmanager
def backend(options: argparse.Namespace) -> Iterator[None]:
    """Where joblib runs: this machine's processes, a Dask cluster or a Ray cluster."""
    with contextlib.ExitStack() as stack:
        if options.dask is not None:
            from dask.distributed import Client, LocalCluster

            if options.dask == "local":
                local = LocalCluster(n_workers=options.jobs, threads_per_worker=1, dashboard_address=None)
                stack.enter_context(Client(stack.enter_context(local)))
            else:
                stack.enter_context(Client(options.dask, timeout=20))
            stack.enter_context(joblib.parallel_config(backend="dask"))
        elif options.ray is not None:
            try:
                ray = importlib.import_module("ray")  # optional, and not pinned: it is large
                register_ray = importlib.import_module("ray.util.joblib").register_ray
            except ImportError:
                raise ValueError("--ray: Ray is not installed here; pip install ray") from None
            ray.init(address=None if options.ray == "local" else options.ray)
            register_ray()
            stack.enter_context(joblib.parallel_config(backend="ray"))
        yield


def seed_range(text: str) -> list[int]:
    """``10`` is the seeds 0 to 9, ``3-5`` the seeds 3, 4 and 5, ``0,7`` these two."""
    try:
        if "-" in text:
            first, last = (int(part) for part in text.split("-"))
            seeds = list(range(first, last + 1))
        else:
            seeds = [int(part) for part in text.split(",")] if "," in text else list(range(int(text)))
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number, a range such as 3-5 or a list such as 0,7")
    return seeds


def parser() -> argparse.ArgumentParser:
    about = argparse.ArgumentParser(prog="make reproduce", description=__doc__)
    about.add_argument("tables", nargs="*", metavar="table", help=f"of {', '.join(EXPERIMENTS)}; default all")
    about.add_argument("--source", default="auto", help="kaggle, surrogate, california or auto (default)")
    about.add_argument("--split-seed", type=int, default=0, help="which rows are held out (default 0)")
    about.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), help="default all")
    about.add_argument("--lam", type=float, nargs="+", help="λ of the Lai arms, instead of the book's")
    about.add_argument("--alpha", type=float, help="share of Lai batches, instead of the book's")
    about.add_argument("--seeds", type=seed_range, default="10", help="10 for 0 to 9 (default), 3-5, or 0,7")
    about.add_argument("--pretrain-epochs", type=int, help="epochs of MSE before the arms part")
    about.add_argument("--epochs", type=int, help="epochs of each arm")
    about.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    about.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    where = about.add_mutually_exclusive_group()
    where.add_argument("--dask", metavar="ADDRESS", help="run on this Dask scheduler, or on a 'local' one")
    where.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster, or on a 'local' one")
    about.add_argument("--cells", type=Path, default=CELLS, help="folder of finished runs (default _runs/cells)")
    about.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables (default book/results)")
    return about


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    elsewhere = {
        a for name in ("--cells", "--out") if name in arguments for a in (name, arguments[arguments.index(name) + 1])
    }
    options.given = [shlex.quote(a) for a in arguments if a not in elsewhere]  # provenance names no folders
    options.tables = options.tables or list(EXPERIMENTS)
    try:
        if unknown := sorted(set(options.tables) - set(EXPERIMENTS)):
            raise ValueError(f"table = {unknown[0]!r}: must be one of {', '.join(EXPERIMENTS)}")
        with backend(options):
            reproduce(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
