"""Rebuild the committed tables of book/results/: long, resumable, and apart from the book's own building.

A finished run (protocol, λ, α, seed) is kept under _runs/cells and not computed again, unless a setting, the data, the
library or a version has changed. Tables share their runs. A table is written only when all of it is there; one with seeds, arms or
epochs of your own goes to _runs/results, so that the book keeps its own.
Give the tables first: make reproduce ARGS="strength sampling --seeds 3". The comparison of Lai loss with other methods, two tables
and an hour, is made when it is named: make reproduce ARGS="relatives --tasks digits". So are row_statistics, a minute's look at what one
row does to BatchNorm, explorer, the sweep over λ, α and protocol that readers explore, six minutes of a core for each seed, and
estimators, half an hour beside scikit-learn's MLPRegressor.
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch

from evidence.data import Housing, load_housing
from evidence.figures.explorer import FEATURE
from evidence.relatives import METHODS, TASKS, relatives_study
from evidence.relatives.choices import choices, fronts
from evidence.relatives.methods import UNITS
from evidence.runs.arms import Arm, Runs, train_arms
from evidence.runs.experiments import EXPERIMENTS, Experiment, planned, run_experiment
from evidence.runs.explorer import KEYS, explorer_sweep
from evidence.runs.protocols import PROTOCOLS
from evidence.runs.row_statistics import row_statistics
from evidence.runs.store import CellStore, fingerprint
from evidence.studies.estimators import OF, estimators_study
from tools.files import replace_texts, table_texts
from tools.values import option, seed_range

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"
CELLS = ROOT / "_runs" / "cells"
OWN = ROOT / "_runs" / "results"
RELATIVES, ROW, EXPLORER, ESTIMATORS = "relatives", "row_statistics", "explorer", "estimators"
"""The tables that are not the paper's."""

OF_TABLES = (
    "source",
    "split_seed",
    "max_occupancy",
    "protocols",
    "lam",
    "alpha",
    "pretrain_epochs",
    "epochs",
    "device",
)
OF_RELATIVES = ("tasks", "methods")
"""Options that only the paper's tables, or only the comparison, can heed."""


def reproduce(options: argparse.Namespace) -> None:
    """The paper's tables that were asked for: first their runs, each once, then the files."""
    split = options.split_seed
    data = load_housing(options.source, split_seed=split or 0, max_occupancy=options.max_occupancy)
    print(data.provenance, flush=True)

    def of_seed(seed: int) -> Housing:
        own = seed if split is None else split
        return load_housing(options.source, split_seed=own, max_occupancy=options.max_occupancy)

    store = CellStore(options.cells.resolve())  # workers may stand elsewhere
    chosen = [EXPERIMENTS[name] for name in options.tables if name in EXPERIMENTS]
    common: dict[str, Any] = {"seeds": options.seeds, "device": options.device, "store": store}
    plans = {
        e.name: planned(e.name, protocols=options.protocols, lams=options.lam, alpha=options.alpha) for e in chosen
    }
    lengths = {e.name: _length(e, options) for e in chosen}
    if options.lam is not None and len(set(options.lam)) < len(options.lam):
        raise ValueError(f"--lam = {options.lam}: give each λ once")
    started = time.monotonic()
    for length in dict.fromkeys(lengths.values()):
        together = [plans[e.name] for e in chosen if lengths[e.name] == length]
        print(
            f"{length[0]} + {length[1]} epochs: {', '.join(n for n, own in lengths.items() if own == length)}",
            flush=True,
        )
        stages: dict[str, Any] = {"pretrain_epochs": length[0], "epochs": length[1]}
        train_arms(of_seed, _union(together), n_jobs=options.jobs, progress=True, **stages, **common)
    wall = round(time.monotonic() - started)
    for e in chosen:
        stages = {"pretrain_epochs": lengths[e.name][0], "epochs": lengths[e.name][1]}
        kept = {**common, "store": _Finished(store.folder)}
        runs = run_experiment(of_seed, e.name, arms=plans[e.name], **stages, **kept)
        # The paper's data and the book's splits have the plain name.
        name = e.name if data.source == "kaggle" else f"{e.name}_{data.source}"
        name += "" if split is None else f"_split{split}"
        name += "" if options.max_occupancy is None else f"_occupancy{options.max_occupancy:g}"
        about = provenance(e, data, plans[e.name], lengths[e.name], options, runs.cost, wall)
        write(options.out, name, runs, about, curves=e.curves)


class _Finished(CellStore):
    """The runs of workers, by now all of them."""

    def get(self, settings: dict[str, Any]) -> Any:
        result = super().get(settings)
        if result is None:
            raise ValueError(f"--cells = {str(self.folder)!r}: a finished run is not there; all workers must share it")
        return result


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
    return {
        "command": options.command,
        "experiment": f"{experiment.name} (paper, {experiment.about})",
        "data": data.provenance.replace(" (chosen by auto)", ""),
        "split_seed": "each seed its own" if options.split_seed is None else options.split_seed,
        "arms": {p: [f"{a.name}, α = {a.alpha:g}" for a in of_protocol] for p, of_protocol in arms.items()},
        "seeds": options.seeds,
        "epochs": f"{length[0]} of MSE, then {length[1]} with each loss",
        **environment(cluster(options)),
        "device": options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu",
        "cpu_seconds": {
            protocol: {
                arm: round(float(s), 1)
                for arm, s in of_protocol.groupby("arm", sort=False)["cpu_seconds"].sum().items()
            }
            for protocol, of_protocol in cost.groupby("protocol", sort=False)
        },
        "peak_mb": int(cost["peak_mb"].max()),
        "wall_seconds_of_last_call": wall,
        "tables_of_last_call": [name for name in options.tables if name in EXPERIMENTS],
    }


def relatives(options: argparse.Namespace) -> None:
    """The comparison: what each method's choices come to (relatives), and all strengths over seeds (relatives_fronts).

    Each has two files, of standardised units and of the others (_units).
    """
    started = time.monotonic()
    trials = relatives_study(
        tasks=options.tasks,
        methods=options.methods,
        seeds=options.seeds,
        n_jobs=options.jobs,
        store=CellStore(options.cells.resolve()),
        progress=True,
    )
    about = {
        "command": options.command,
        "experiment": "methods that lower slopes or errors, at equal budgets; book/relatives_protocol.md",
        "data": {task: TASKS[task].about for task in options.tasks},
        "seeds": options.seeds,
        **environment(cluster(options)),
        "wall_seconds_of_last_call": round(time.monotonic() - started),
    }
    for name, table in ((RELATIVES, choices(trials)), (f"{RELATIVES}_fronts", fronts(trials))):
        plain = table["units"] == UNITS[0]
        for end, rows in (("", plain), ("_units", ~plain)):
            put(options.out, table_texts(options.out, f"{name}{end}", rounded(table[rows]), about))


def row(options: argparse.Namespace) -> None:
    """What the crowded row does by being in BatchNorm's statistics (row_statistics.csv)."""

    def of_seed(seed: int) -> Housing:
        return load_housing("kaggle", split_seed=seed)

    about = {
        "command": options.command,
        "experiment": "MSE networks of the protocol published, trained on all rows for 200 epochs, with two sets of exact statistics",
        "data": of_seed(0).provenance,
        "split_seed": "each seed its own",
        "seeds": options.seeds,
        **environment(cluster(options)),
    }
    table = row_statistics(of_seed, seeds=options.seeds, n_jobs=options.jobs)
    put(options.out, table_texts(options.out, ROW, table, about))


def explorer(options: argparse.Namespace) -> None:
    """The explorer's sweep: every run (explorer.csv), and what was fitted over one feature, averaged over seeds (explorer_curves.csv)."""

    def of_seed(seed: int) -> Housing:
        return load_housing("kaggle", split_seed=seed)

    table, curves = explorer_sweep(
        of_seed,
        seeds=options.seeds,
        feature=FEATURE,
        n_jobs=options.jobs,
        store=CellStore(options.cells.resolve()),
        progress=True,
    )
    about = {
        "command": options.command,
        "experiment": "version 2's smoothness table on a grid of λ and α, and what is fitted over one feature",
        "data": of_seed(0).provenance,
        "split_seed": "each seed its own",
        "seeds": options.seeds,
        "epochs": "100 of MSE, then 100 with each loss",
        "feature": FEATURE,
        "evaluation": "the mean over the last epochs, with exact statistics; the curve: every twelfth test row, after the last step",
        **environment(cluster(options)),
        "cpu_seconds": round(float(table["cpu_seconds"].sum())),
    }
    means = curves.groupby([*KEYS, "x"], dropna=False, sort=False)["output"].mean().reset_index()
    drawn = means.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    texts = {options.out / f"{EXPLORER}_curves.csv": drawn}
    put(options.out, texts | table_texts(options.out, EXPLORER, table.drop(columns="cpu_seconds"), about))


def estimators(options: argparse.Namespace) -> None:
    """LaiRegressor beside MLPRegressor (estimators.csv)."""
    table = estimators_study(
        seeds=options.seeds, n_jobs=options.jobs, store=CellStore(options.cells.resolve()), progress=True
    )
    about = {
        "command": options.command,
        "experiment": "LaiRegressor and scikit-learn's MLPRegressor, on the same rows, eight values of what is tuned",
        "data": {task: OF[task] for task in table["task"].unique()},
        "seeds": options.seeds,
        **environment(cluster(options)),
    }
    put(options.out, table_texts(options.out, ESTIMATORS, rounded(table), about))


def second(rows: str, folder: Path = RESULTS) -> None:
    """What `make test-all` found of the second implementation (second_implementation.csv), given as JSON records."""
    about = {
        "command": "make test-all",
        "experiment": "cells of the five tables against tests/second_implementation.py, which has seeds of its own; Welch's test",
        **environment(),
    }
    table = pd.DataFrame(json.loads(rows)).assign(lam=lambda t: t["lam"].map(json.dumps))
    put(folder, table_texts(folder, "second_implementation", table, about))


STUDIES = {RELATIVES: relatives, ROW: row, EXPLORER: explorer, ESTIMATORS: estimators}


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Errors to four digits, the rest to three: seeds differ in the second or third, and more would be size without information."""

    def digits(name: str) -> int:
        return 3 if name.startswith(("slope", "variance", "loop", "budget", "strength")) else 4

    measured = table.select_dtypes("float")
    return table.assign(**{str(c): [float(f"{v:.{digits(str(c))}g}") for v in measured[c]] for c in measured})


def cluster(options: argparse.Namespace) -> str | None:
    """What kind of cluster it runs on."""
    return "Dask" if options.dask is not None else "Ray" if options.ray is not None else None


def environment(cluster: str | None = None) -> dict[str, Any]:
    """Versions and hardware, with nothing that names a machine or a person.

    Where versions and hardware are the same, results are the same to the last bit. A cluster's hardware is not known.
    """
    told = dict(line.split(":", 1) for line in reversed(_lines("/proc/cpuinfo")) if ":" in line)
    facts = {name.strip(): value.strip() for name, value in told.items()}
    kind = [f"{name.removeprefix('cpu ')} {facts[name]}" for name in ("cpu family", "model") if name in facts]
    cpu = (
        f"{facts.get('model name', platform.machine())} ({', '.join([*kind, torch.backends.cpu.get_cpu_capability()])})"
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    hardware = f"{cpu}, {os.cpu_count()} cores, {gpu}"
    return {
        "versions": {"python": platform.python_version(), "pandas": pd.__version__, **fingerprint()},
        "hardware": hardware if cluster is None else f"a {cluster} cluster, started from {hardware}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def write(folder: Path, name: str, runs: Runs, about: dict[str, Any], *, curves: bool) -> None:
    """The table, its curves averaged over seeds if wanted, and where they come from."""
    texts = {}
    if curves:
        by_epoch = runs.curves.groupby(["protocol", "arm", "epoch"], sort=False)["val_rmse"]
        means = by_epoch.agg(mean="mean", low="min", high="max").reset_index()
        texts[folder / f"{name}_curves.csv"] = means.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    put(folder, texts | table_texts(folder, name, runs.table, about))


def put(folder: Path, texts: dict[Path, str]) -> None:
    """Write files of results and say which; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_texts(texts)
    print(*texts, sep="\n", flush=True)


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
                try:
                    stack.enter_context(Client(options.dask))
                except (ValueError, OSError, TypeError) as error:
                    raise ValueError(f"--dask = {options.dask!r}: no scheduler answers there ({error})") from None
            stack.enter_context(joblib.parallel_config(backend="dask"))
        elif options.ray is not None:
            try:
                ray = importlib.import_module("ray")  # optional, and not pinned: it is large
                register_ray = importlib.import_module("ray.util.joblib").register_ray
                ray_backend = importlib.import_module("ray.util.joblib.ray_backend").RayBackend
            except ImportError:
                raise ValueError("--ray: Ray is not installed here; pip install ray") from None
            ray.init(address=None if options.ray == "local" else options.ray)
            register_ray()
            # It inherits "no results one by one" from joblib's process pools, which Ray's own pool does not need.
            ray_backend.supports_return_generator = True
            stack.enter_context(joblib.parallel_config(backend="ray"))
        else:
            stack.enter_context(joblib.parallel_config(backend="loky", initializer=end_with, initargs=(os.getpid(),)))
        yield


def end_with(parent: int) -> None:
    """A worker ends with the process that it works for, even if that was killed, and does not wait for more to do."""

    def wait() -> None:
        while os.getppid() == parent:  # not so from the start where it was killed before the worker began
            time.sleep(0.5)
        os._exit(1)

    if os.getpid() != parent:
        threading.Thread(target=wait, daemon=True).start()


def parser() -> argparse.ArgumentParser:
    about = argparse.ArgumentParser(prog="make reproduce", description=__doc__, allow_abbrev=False)
    named = ", ".join(EXPERIMENTS)
    about.add_argument("tables", nargs="*", metavar="table", help=f"of {named} (default: these), {', '.join(STUDIES)}")
    about.add_argument("--source", default="auto", help="kaggle, surrogate, california or auto (default)")
    about.add_argument("--split-seed", type=option("split_seed"), help="which rows are held out (default: by seed)")
    about.add_argument(
        "--max-occupancy", type=option("max_occupancy", "float"), help="leave out rows with more people per household"
    )
    about.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), help="default all")
    about.add_argument(
        "--lam", type=option("lam", "float"), nargs="+", help="λ of the Lai losses, instead of the book's"
    )
    about.add_argument("--alpha", type=option("alpha", "float"), help="share of Lai batches, instead of the book's")
    about.add_argument("--seeds", type=seed_range, default="10", help="10 for 0 to 9 (default), 3-5, or 0,7")
    about.add_argument(
        "--pretrain-epochs",
        type=option("pretrain_epochs", comment="0 or more"),
        help="epochs of MSE before the runs part",
    )
    about.add_argument("--epochs", type=option("epochs"), help="epochs with each loss")
    about.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    about.add_argument("--jobs", type=option("n_jobs"), default=os.cpu_count(), help="processes (default: one a core)")
    about.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {RELATIVES}: {', '.join(TASKS)}")
    about.add_argument(
        "--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of {RELATIVES}, MSE always; default all"
    )
    where = about.add_mutually_exclusive_group()
    where.add_argument("--dask", metavar="ADDRESS", help="run on this Dask scheduler, or on a 'local' one")
    where.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster, or on a 'local' one")
    about.add_argument("--cells", type=Path, default=CELLS, help="folder of finished runs, one that all workers share")
    about.add_argument(
        "--out", type=Path, help="folder for the tables (default book/results, for tables of your own _runs/results)"
    )
    return about


def command(arguments: list[str]) -> str:
    """The call as others can make it: without what names a folder or a machine and changes no result."""
    given: list[str] = []
    skip = False
    for argument in arguments:
        own = argument.partition("=")[0] in ("--cells", "--out", "--jobs", "--dask", "--ray")
        if not own and not skip:
            given.append(shlex.quote(argument))
        skip = own and "=" not in argument
    return "make reproduce" + (f' ARGS="{" ".join(given)}"' if given else "")


def folder_for(given: Path | None, *, own: bool) -> Path:
    """Where tables go: as given, or with the book's; those of a reader's ``own`` settings leave the book's alone."""
    return given or (OWN if own else RESULTS)


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    options.command = command(arguments)
    usual = parser().parse_args([])
    own = {name for name in ("seeds", *OF_TABLES, *OF_RELATIVES) if getattr(options, name) != getattr(usual, name)}
    options.out = folder_for(options.out, own=bool(own - {"source", "device"}))
    try:
        options.tables = list(dict.fromkeys(options.tables)) or list(EXPERIMENTS)
        known = (*EXPERIMENTS, *STUDIES)
        if unknown := sorted(set(options.tables) - set(known)):
            raise ValueError(f"table = {unknown[0]!r}: must be one of {', '.join(known)}")
        idle = set() if RELATIVES in options.tables else own.intersection(OF_RELATIVES)
        idle |= set() if set(options.tables) & set(EXPERIMENTS) else own.intersection(OF_TABLES)
        if idle:
            raise ValueError(f"--{min(idle).replace('_', '-')}: is of no use to {', '.join(options.tables)}")
        for flag, folder in (("--cells", options.cells), ("--out", options.out)):
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{flag} = {str(folder)!r}: must be a folder")
        options.tasks = options.tasks or list(TASKS)
        # slopes are told as shares of those of MSE's network
        options.methods = list(dict.fromkeys(["MSE", *(options.methods or METHODS)]))
        with backend(options):
            if set(options.tables) & set(EXPERIMENTS):
                reproduce(options)
            for name, study in STUDIES.items():
                if name in options.tables:
                    study(options)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; finished runs are kept, and the same command goes on from them")


if __name__ == "__main__":
    main(sys.argv[1:])
