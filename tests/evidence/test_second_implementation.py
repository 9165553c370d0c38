"""The book's tables against a second implementation, which was written from the page on reproducibility alone.

Each trains with seeds of its own, so that only distributions can agree: of every cell the means over seeds are compared by Welch's
test, all comparisons together at the level `LEVEL` (Bonferroni).
"""

import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from second_implementation import Network, batch_loss, lai_loss, read, slopes, split, train

from tools.report import LEVEL

RESULTS = Path(__file__).parents[2] / "book" / "results"
ROWS, FAR_ROW = 37_137, 18_397
# From 100 on, those whose split trains on `FAR_ROW`, as each of the book's ten does. Its AveOccup is 185 standard deviations from
# the mean: in validation, where a fifth of all splits have it, this one row's error of about 26 raises the RMSE of *sound* from 0.63 to 0.70.
SEEDS = [seed for seed in range(100, 110) if FAR_ROW in split(ROWS, seed)[1].tolist()][:5]
POWER = 0.8
MEASURES = ["rmse", "variance", "rms_k", "s_8", "rmse_last"]
LAST_SMALLER = [0.1] * 7 + [0.001]
ONE_SMALLER = [1.0] * 7 + [0.01]
# Table, protocol, λ, α.
CELLS = [
    ("smoothness", "sound", None, 0.0),
    ("smoothness", "sound", 0.1, 0.01),
    ("smoothness", "sound", 0.001, 0.01),
    ("sensitivity", "sound", LAST_SMALLER, 0.01),
    ("lists", "sound", ONE_SMALLER, 0.1),
    ("smoothness", "published", None, 0.0),
    ("smoothness", "published", 0.001, 0.01),
    ("smoothness", "corrected", 0.01, 0.01),
    ("sensitivity", "corrected", LAST_SMALLER, 0.01),
    ("lists", "published", LAST_SMALLER, 0.1),
    ("strength", "sound", None, 0.0),
    ("strength", "sound", 0.001, 1.0),
    ("sampling", "sound", 0.0001, 0.01),
    ("strength", "published", None, 0.0),
    ("strength", "published", 0.001, 1.0),
    ("sampling", "corrected", 0.0001, 0.01),
]


def trained_together(cell: tuple) -> tuple[bool, tuple[int, int]]:
    """Neighbours in `CELLS` that share their pre-training: the kind of network, and the epochs before the arms part and after."""
    table, protocol, *_ = cell
    return protocol == "sound", (0, 500) if table in ("strength", "sampling") else (100, 100)


def book(table: str, protocol: str, lam: float | list[float] | None, alpha: float) -> pd.DataFrame:
    """The book's seeds of an arm."""
    runs = pd.read_csv(RESULTS / f"{table}.csv")
    runs = runs[(runs["protocol"] == protocol) & np.isclose(runs["alpha"], alpha)]
    if lam is None:
        return runs[runs["lam"].isna()]
    first, last = (lam[0], lam[-1]) if isinstance(lam, list) else (lam, lam)
    return runs[np.isclose(runs["lam"], first) & np.isclose(runs["lam_8"], last)]


def welch(ours: pd.Series, theirs: pd.Series, level: float) -> dict[str, float]:
    """Both means and spreads, t and p, and the `detectable` difference: one that the test at `level` finds with probability `POWER`."""
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    error = math.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
    detectable = (stats.t.isf(level / 2, test.df) + stats.t.ppf(POWER, test.df)) * error
    return {
        "book": theirs.mean(),
        "sd": theirs.std(),
        "second": ours.mean(),
        "sd2": ours.std(),
        "t": test.statistic,
        "p": test.pvalue,
        "detectable": detectable,
    }


def test_the_loss_is_its_formula() -> None:
    """One row by hand: F = (4/5, 1/10 / 1.01 / 0.1) for k = (2, 0.1) and λ = (1, 0.1), the rest 0 with λ = 2."""
    k = torch.tensor([[2.0, 0.1] + [0.0] * 6])
    lam = torch.tensor([1.0, 0.1] + [2.0] * 6)
    factors = [4 / 5, 1 / 1.01] + [2.0] * 6
    expected = 9 * math.sqrt(sum(f**2 for f in factors))
    assert lai_loss(torch.tensor([3.0]), k, lam).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("protocol", ["sound", "published", "corrected"])
def test_slopes_and_the_step_are_those_of_finite_differences(protocol: str) -> None:
    """Slopes against differences of outputs, and the loss's gradient by a weight against differences of losses."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, y = torch.randn(6, 8).double() * 3 + 1, torch.randn(6).double()
        network = Network(x, protocol == "sound").double()
    network.running = [(m.double(), v.double()) for m, v in network.running]
    lam, h = torch.tensor(0.01).double(), 1e-6
    fixed = network(x)[1] if protocol == "corrected" else None
    k = slopes(network, x, fixed, graph=False)
    for i, j in [(0, 0), (3, 5), (5, 7)]:
        moved = [x.clone(), x.clone()]
        moved[0][i, j] += h
        moved[1][i, j] -= h
        # Through BatchNorm the other rows' outputs move too; with statistics held, only row i's does.
        up, down = (network(rows, fixed)[0] for rows in moved)
        assert ((up - down).sum() / (2 * h)).item() == pytest.approx(k[i, j].item(), abs=1e-6)
        assert protocol == "published" or torch.equal(up[:i], down[:i])
    batch_loss(network, x, y, lam, protocol).backward()
    weight = network.linears[0].weight
    gradient, losses = weight.grad[4, 2].item(), []
    for step in (h, -2 * h):
        with torch.no_grad():
            weight[4, 2] += step
        losses.append(batch_loss(network, x, y, lam, protocol).item())
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(gradient, rel=1e-4, abs=1e-7)


def test_the_written_out_batchnorm_is_torchs() -> None:
    x, y = torch.randn(20, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(20)
    network = Network(x, sound=False)
    layers = network.linears
    norms = torch.nn.BatchNorm1d(64), torch.nn.BatchNorm1d(32)
    torchs = torch.nn.Sequential(layers[0], norms[0], torch.nn.ReLU(), layers[1], norms[1], torch.nn.ReLU(), layers[2])
    torch.testing.assert_close(network(x)[0], torchs(x).squeeze(1))
    batch_loss(network, x, y, None, "published")
    torch.testing.assert_close(network(x, network.running)[0], torchs.eval()(x).squeeze(1))


def test_the_books_seeds_train_on_the_far_row() -> None:
    """What `SEEDS` takes for granted."""
    assert all(FAR_ROW in split(ROWS, seed)[1].tolist() for seed in range(10))


def test_the_page_says_which_seeds_it_has() -> None:
    """Five; and of the first version's, 100 to 103, two held the row out."""
    assert len(SEEDS) == 5 and sum(FAR_ROW in split(ROWS, seed)[0].tolist() for seed in range(100, 104)) == 2
    page = (RESULTS.parent / "reproducibility.md").read_text(encoding="utf-8")
    assert f"is {100 * LEVEL:g} % for all {len(CELLS) * len(MEASURES)} comparisons together" in page
    assert "the first five from 100 on whose splits train on the row" in page and "two of four splits held" in page


@pytest.mark.parametrize(
    ("protocol", "lam", "other"), [("sound", 0.1, 0.001), ("sound", 0.1, 0.01), ("corrected", 0.01, 0.001)]
)
def test_five_seeds_of_another_strength_are_told_apart(protocol: str, lam: float, other: float) -> None:
    ours, theirs = book("smoothness", protocol, lam, 0.01)[: len(SEEDS)], book("smoothness", protocol, other, 0.01)
    level = LEVEL / (len(CELLS) * len(MEASURES))
    assert welch(ours["rms_k"], theirs["rms_k"], level)["p"] < level


def test_the_comparison_that_is_kept_is_with_the_tables_as_they_are() -> None:
    kept = pd.read_csv(RESULTS / "second_implementation.csv")
    rows = kept.groupby(["table", "protocol", "lam", "alpha"], sort=False, dropna=False)
    assert len(kept) == len(CELLS) * len(MEASURES) and len(rows) == len(CELLS)
    for cell, (_, found) in zip(CELLS, rows, strict=True):
        theirs = book(*cell)[list(found["measure"])]
        assert found["book"].to_numpy() == pytest.approx(theirs.mean().to_numpy(), rel=1e-5)
        assert found["sd"].to_numpy() == pytest.approx(theirs.std().to_numpy(), rel=1e-5)
    assert (kept["p"] > LEVEL / len(kept)).all()


@pytest.mark.long
def test_the_second_implementation_agrees_with_the_book(record_property: Callable[[str, object], None]) -> None:
    folder = Path(os.environ.get("LAI_DATA", "none"))
    if not (folder / "train.csv").is_file():
        pytest.skip("needs the Kaggle files: LAI_DATA names their folder")
    source = read(folder)
    assert len(source[0]) == ROWS and source[0][:, 5].argmax() == FAR_ROW
    groups = [(epochs, [cell[1:] for cell in cells]) for (_, epochs), cells in groupby(CELLS, trained_together)]
    calls = [(arms, seed, source, *epochs) for seed in SEEDS for epochs, arms in groups]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        results = [result for trained in pool.map(train, *zip(*calls, strict=True)) for result in trained]
    runs = [results[i :: len(CELLS)] for i in range(len(CELLS))]
    level = LEVEL / (len(CELLS) * len(MEASURES))
    rows = []
    for cell, run in zip(CELLS, runs, strict=True):
        ours, theirs = pd.DataFrame(run), book(*cell)
        assert len(ours) == len(SEEDS) and len(theirs) == 10
        about = dict(zip(("table", "protocol", "lam", "alpha"), cell, strict=True))
        rows += [about | {"measure": name} | welch(ours[name], theirs[name], level) for name in MEASURES]
    found = pd.DataFrame(rows)
    record_property("comparison", found.to_json(orient="records"))
    print(found.round(4).to_string())
    assert (found["p"] > level).all(), found[found["p"] <= level].to_string()
    # Agreement says something only where a mistake would be seen: what λ does to the error is more than what could be found.
    rmse = found[found["measure"] == "rmse"].assign(lam=lambda t: t["lam"].map(str))
    rmse = rmse.set_index(["table", "protocol", "lam"])
    for cell, control in [
        (("smoothness", "sound", "0.001"), ("smoothness", "sound")),
        (("smoothness", "corrected", "0.01"), ("smoothness", "published")),
        (("strength", "sound", "0.001"), ("strength", "sound")),
        (("sampling", "sound", "0.0001"), ("strength", "sound")),
    ]:
        assert (
            rmse.loc[cell, "detectable"].item()
            < rmse.loc[cell, "book"].item() - book(*control, None, 0.0)["rmse"].mean()
        )
