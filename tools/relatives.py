"""Lai loss and its relatives on equal terms: the study behind the chapter on relatives.

Writes book/results/relatives.csv (what each method's choices come to) and relatives_fronts.csv (all strengths, over seeds). Some
seventy minutes on two cores; finished pieces are kept under _runs/cells and not computed again.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evidence.relatives import METHODS, TASKS, relatives_study
from evidence.relatives.choices import choices, fronts
from evidence.runs.store import CellStore
from tools.files import replace_texts, table_texts
from tools.reproduce import CELLS, RESULTS, environment, positive, seed_range


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.relatives", description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=seed_range, default="10", help="as for make reproduce (default 10)")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
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
        "command": "make relatives",
        "experiment": "methods that lower slopes or errors, at equal budgets; book/relatives_protocol.md",
        "data": {task: TASKS[task].about for task in options.tasks},
        "seeds": options.seeds,
        **environment(),
        "wall_seconds_of_last_call": round(time.monotonic() - started),
    }
    for name, table in (("relatives", choices(trials)), ("relatives_fronts", fronts(trials))):
        replace_texts(table_texts(options.out, name, rounded(table), about))


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Errors to four digits, the rest to three: seeds differ in the second or third, and more would be size without information."""

    def digits(name: str) -> int:
        return 3 if name.startswith(("slope", "variance", "loop", "budget", "strength")) else 4

    measured = table.select_dtypes("float")
    return table.assign(**{str(c): [float(f"{v:.{digits(str(c))}g}") for v in measured[c]] for c in measured})


if __name__ == "__main__":
    main(sys.argv[1:])
