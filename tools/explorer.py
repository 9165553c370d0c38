"""The sweep over λ, α and protocol behind the explorer of the chapter on choosing them.

Writes book/results/explorer.csv (every run) and explorer_curves.csv (what was fitted, averaged over seeds). Some five minutes of
one core; what a protocol and seed come to is kept under _runs/cells and not computed again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence.data import Housing, load_housing
from evidence.runs.explorer import ALPHAS, KEYS, LAMS, explorer_sweep
from evidence.runs.store import CellStore
from tools.files import replace_texts, table_texts
from tools.reproduce import CELLS, RESULTS, command, environment, positive, seed_range

FEATURE = "MedInc"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.explorer", description=__doc__.split("\n")[0])
    parser.add_argument("--source", default="kaggle", help="kaggle (default), surrogate or california")
    parser.add_argument("--seeds", type=seed_range, default="1", help="as for make reproduce (default 1)")
    parser.add_argument("--lam", type=float, nargs="+", default=LAMS)
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS)
    parser.add_argument("--epochs", type=positive, default=100, help="of MSE, and of each arm after it (default 100)")
    parser.add_argument("--jobs", type=positive, default=1, help="processes (default 1)")
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)

    def of_seed(seed: int) -> Housing:
        return load_housing(options.source, split_seed=seed)

    table, curves = explorer_sweep(
        of_seed,
        lams=options.lam,
        alphas=options.alpha,
        seeds=options.seeds,
        pretrain_epochs=options.epochs,
        epochs=options.epochs,
        feature=FEATURE,
        n_jobs=options.jobs,
        store=CellStore(options.cells.resolve()),
        progress=True,
    )
    about = {
        "command": command(list(arguments or ())).replace("reproduce", "explorer", 1),
        "experiment": "version 2's smoothness table on a grid of λ and α, and what is fitted over one feature",
        "data": of_seed(0).provenance,
        "split_seed": "each seed its own",
        "seeds": options.seeds,
        "epochs": f"{options.epochs} of MSE, then {options.epochs} in each arm",
        "feature": FEATURE,
        "evaluation": "the mean over the last epochs, with exact statistics; the curve: every twelfth test row, after the last step",
        **environment(),
        "cpu_seconds": round(float(table["cpu_seconds"].sum())),
    }
    means = curves.groupby([*KEYS, "x"], dropna=False, sort=False)["output"].mean().reset_index()
    drawn = means.to_csv(index=False, float_format="%.4g", lineterminator="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    texts = table_texts(options.out, "explorer", table.drop(columns="cpu_seconds"), about)
    replace_texts({options.out / "explorer_curves.csv": drawn, **texts})


if __name__ == "__main__":
    main(sys.argv[1:])
