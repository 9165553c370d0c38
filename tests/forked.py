"""A process that has everything loaded and forks: `make reproduce` on few rows, begun anew within milliseconds.

Reads a JSON list, "reproduce" and the tool's arguments, or "write" or "keep" and a folder to write tables or runs to for ever,
and starts a child that does it; then a line that says "kill" or "wait". Prints the child's process id and, when it is over, its exit status.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import tqdm
from few_rows import few_rows

from evidence.data import Housing
from evidence.runs.arms import Arm, train_arms
from evidence.runs.experiments import Runs
from evidence.runs.store import CellStore, fingerprint
from tools import reproduce


def versions() -> list[Runs]:
    """Two tables of one shape; every file made from one differs from its twin all over."""
    arms = {"protocol": "sound", "arm": "MSE", "seed": np.arange(2000)}
    return [
        Runs(
            pd.DataFrame({**arms, "rmse": float(n)}),
            pd.DataFrame({**arms, "epoch": np.arange(2000), "val_rmse": float(n)}),
            pd.DataFrame(),
        )
        for n in (1, 2)
    ]


def write_tables(folder: Path) -> None:
    for n in itertools.cycle((1, 2)):
        reproduce.write(folder, "table", versions()[n - 1], {"seeds": [n] * 2000}, curves=True)


def keep_runs(folder: Path) -> None:
    for n in itertools.cycle((1, 2)):
        CellStore(folder).put({"seed": 0}, [n] * 20_000)


def warm_up(data: Housing) -> None:
    """Import and keep all that a first run would."""
    # Its default lock is shared with forked children: one killed with it in hand would stop all that come after.
    tqdm.tqdm.set_lock(threading.RLock())
    fingerprint()
    arms = {"published": [Arm(0.1)], "sound": []}
    runs = train_arms(data, arms, seeds=[0], pretrain_epochs=1, epochs=1, device="cpu")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        reproduce.write(Path(folder), "table", runs, {}, curves=True)


def main() -> None:
    data = few_rows()
    reproduce.load_housing = lambda source, **options: data  # type: ignore[assignment]
    warm_up(data)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            if what == "reproduce":
                reproduce.main(arguments)
            else:
                {"write": write_tables, "keep": keep_runs}[what](Path(arguments[0]))
            os._exit(0)
        print(json.dumps({"child": child}), flush=True)
        if sys.stdin.readline() == "kill\n":  # not reaped yet, so the process id is still its own
            os.kill(child, signal.SIGKILL)
        print(json.dumps({"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)


if __name__ == "__main__":
    main()
