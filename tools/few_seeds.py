"""How long a single table takes with few seeds: `make reproduce` for each, with no finished run to go on from.

Writes book/results/few_seeds.csv, for the page on reproducibility. The machine should be idle.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evidence.data import load_housing
from evidence.runs.experiments import EXPERIMENTS
from tools.files import replace_texts, table_texts
from tools.reproduce import RESULTS, ROOT, environment, positive


def seconds(table: str, seeds: int) -> float:
    """From the call to the written table, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        options = f"{table} --source kaggle --seeds {seeds} --cells {folder}/cells --out {folder}/out"
        began = time.monotonic()
        subprocess.run(["make", "reproduce", f"ARGS={options}"], cwd=ROOT, check=True)
        return time.monotonic() - began


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.few_seeds", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=positive, default=3, help="how many (default 3)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    data = load_housing("kaggle")
    rows = [
        {"table": name, "seeds": options.seeds, "wall_seconds": seconds(name, options.seeds)} for name in EXPERIMENTS
    ]
    about = {
        "command": f"python -m tools.few_seeds --seeds {options.seeds}",
        "experiment": "wall time of `make reproduce` for one table with few seeds, from no finished run",
        "data": data.provenance,
        **environment(),
    }
    replace_texts(table_texts(options.out, "few_seeds", pd.DataFrame(rows).round(1), about))


if __name__ == "__main__":
    main()
