"""Where the Lai batches fall, when a network is read, and how its training ends: the studies behind the chapters on Lai Training and robustness.

Writes placement.csv and endings.csv in book/results. Some fifteen minutes on two cores.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from evidence.data import Housing, load_housing
from evidence.runs.endings import endings_study
from evidence.runs.placement import placement_study
from tools.files import replace_texts, table_texts
from tools.reproduce import environment, folder_for
from tools.values import option, seed_range

STUDIES: dict[str, tuple[Callable[..., pd.DataFrame], str]] = {
    "placement": (
        placement_study,
        "arms of version 2's smoothness table after each of their last epochs, with both placements of the Lai batches",
    ),
    "endings": (endings_study, "the sound arms of version 2's smoothness table, with trainings that end in four ways"),
}


def of_seed(seed: int) -> Housing:
    """Every seed has a split of its own."""
    return load_housing("kaggle", split_seed=seed)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.placement", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=seed_range, default="10", help="as for make reproduce (default 10)")
    parser.add_argument("--jobs", type=option("n_jobs"), default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, help="a folder; default: book/results, with --seeds _runs/results")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    out = folder_for(options.out, own=any(word.startswith("--seeds") for word in given))
    out.mkdir(parents=True, exist_ok=True)  # before the minutes, not after them
    about = {
        "command": " ".join(["python -m tools.placement", *given]),
        "data": of_seed(0).provenance,
        "split_seed": "each seed its own",
        "seeds": options.seeds,
        **environment(),
    }
    for name, (study, experiment) in STUDIES.items():
        table = study(of_seed, seeds=options.seeds, n_jobs=options.jobs)
        replace_texts(table_texts(out, name, table, about | {"experiment": experiment}))


if __name__ == "__main__":
    main(sys.argv[1:])
