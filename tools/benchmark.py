"""What a Lai step costs, in time, products and memory, beside an MSE step and beside other losses that see slopes.

Writes book/results/cost.csv, which the page on cost reads; some parts alone go to _runs/results. Some eight minutes on one core;
every ratio is of steps that take turns.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.table import parts
from tools.files import replace_texts, table_texts
from tools.reproduce import environment, folder_for


def main(arguments: Sequence[str] | None = None) -> None:
    names = list(parts(0.0))
    parser = argparse.ArgumentParser(prog="tools.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(names)} (default all)")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each comparison (default 3)")
    parser.add_argument(
        "--out", type=Path, help="folder for the table (default book/results, for some parts alone _runs/results)"
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(names)):
        parser.error(f"part = {unknown[0]!r}: must be one of {', '.join(names)}")
    if not 0 <= options.seconds < float("inf"):
        parser.error(f"--seconds = {options.seconds}: must be finite and not negative")
    folder = folder_for(options.out, own=bool(options.parts))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    began, rows = time.monotonic(), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts(options.seconds).items():
        if options.parts and name not in options.parts:
            continue
        rows += list(part())
        seconds = round(time.monotonic() - began)
        print(f"{name}: done after {seconds} s", flush=True)
        # After every part, so that a run that is stopped keeps what it has.
        about = {
            "parts": list(dict.fromkeys(row["part"] for row in rows)),
            "command": f'make benchmark ARGS="{" ".join([*options.parts, f"--seconds {options.seconds:g}"])}"',
            "experiment": "costs relative to an MSE step (in part loss: to the formula written with k squared): median and "
            "quartiles of the ratios within a round, in which the steps take turns",
            "setting": f"one thread, Adam, float32; processor time, {options.seconds:g} s and five rounds or more for each comparison; "
            "memory: what two steps add to the largest resident size of a fresh process",
            "units": "base: seconds, MB, multiplications and additions, or passes over the slopes; system: of the ratio what the "
            "operating system takes",
            **environment(),
            "wall_seconds": seconds,
        }
        replace_texts(table_texts(folder, "cost", pd.DataFrame(rows), about))


if __name__ == "__main__":
    main(sys.argv[1:])
