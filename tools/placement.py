"""Where the Lai batches fall and when a network is read: the study behind the chapter on Lai Training and the one on robustness.

Writes book/results/placement.csv. Some ten minutes on two cores.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence.data import Housing, load_housing
from evidence.runs.placement import placement_study
from tools.files import replace_texts, table_texts
from tools.reproduce import RESULTS, environment, positive, seed_range


def of_seed(seed: int) -> Housing:
    """Every seed has a split of its own."""
    return load_housing("kaggle", split_seed=seed)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.placement", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=seed_range, default="10", help="as for make reproduce (default 10)")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    table = placement_study(of_seed, seeds=options.seeds, n_jobs=options.jobs)
    about = {
        "command": "make placement",
        "experiment": "arms of version 2's smoothness table after each of their last epochs, with both placements of the Lai batches",
        "data": of_seed(0).provenance,
        "split_seed": "each seed its own",
        "seeds": options.seeds,
        **environment(),
    }
    replace_texts(table_texts(options.out, "placement", table, about))


if __name__ == "__main__":
    main(sys.argv[1:])
