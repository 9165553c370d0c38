"""Runs of the committed tables, trained again and compared: one of two protocols, and (`make test-all`) of every table one
that is fixed and one drawn anew each time.

Rounding differs with the machine and with the company that a run is trained in, and training amplifies it, so tolerances
apply. They come from runs whose initial weights were changed by one part in a million (tools/rounding.py,
book/results/rounding.csv) and are at least twice what that did.
"""

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch

from evidence.data import Housing, load_housing
from evidence.runs import arms
from evidence.runs.arms import MSE, Arm
from evidence.runs.experiments import EXPERIMENTS, with_last
from evidence.runs.protocols import PROTOCOLS
from tools.report import TOLERANCES

RESULTS = Path(__file__).parents[2] / "book" / "results"


class Committed(NamedTuple):
    """A table as it is printed, and its provenance."""

    table: pd.DataFrame
    about: dict[str, Any]

    def row(self, cell: arms.Cell) -> pd.Series:
        of_arm = self.table["alpha"].astype(float).eq(cell.arm.alpha)
        of_arm &= self.table["arm"].str.removesuffix(f", α = {cell.arm.alpha:g}").eq(cell.arm.name)
        found = self.table[of_arm & self.table["protocol"].eq(cell.protocol) & self.table["seed"].eq(str(cell.seed))]
        assert len(found) == 1, cell
        return found.iloc[0]


def misses(measured: dict[str, float], row: pd.Series) -> list[str]:
    """Which figures are not those of the committed row."""
    limits = TOLERANCES[row["protocol"]]
    return [name for name, limit in limits.items() if not abs(measured[name] - float(row[name])) <= limit]


@pytest.fixture(scope="module")
def data() -> Housing:
    """What this machine has."""
    return load_housing("auto")


@pytest.fixture(scope="module")
def committed(data: Housing) -> dict[str, Committed]:
    """The tables made from it."""
    end = "" if data.source == "kaggle" else f"_{data.source}"
    found = {}
    for name in EXPERIMENTS:
        path = RESULTS / f"{name}{end}.csv"
        if path.exists():
            about = json.loads(path.with_suffix(".json").read_text())
            assert data.sha256 in about["data"] and about["split_seed"] == "each seed its own"
            found[name] = Committed(pd.read_csv(path, dtype=str, keep_default_na=False), about)
    assert found
    return found


def run(*cells: arms.Cell) -> dict[arms.Cell, dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = load_housing("auto", split_seed=cells[0].seed)
        return arms._run(arms._Job(data, cells, "cpu", None))
    finally:
        torch.set_num_threads(threads)


FIXED = {
    "strength": ("sound", Arm(1.0, 1.0), 3),
    "sampling": ("corrected", Arm(1e-4, 0.01), 4),
    "smoothness": ("sound", Arm(1e-2, 0.01), 5),
    "sensitivity": ("published", Arm(with_last(0.1, 1e-3), 0.01), 6),
    "lists": ("corrected", Arm(with_last(0.1, 1e-3), 0.1), 7),
}
"""A protocol, an arm and a seed of each table."""

LONG = ("strength", "sampling", "sensitivity", "lists")
"""Of 500 epochs, or like another."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in EXPERIMENTS]
)
def test_a_run_of_the_table_comes_out_again(name: str, committed: dict[str, Committed]) -> None:
    protocol, arm, seed = FIXED[name]
    if name not in committed or protocol not in committed[name].about["arms"]:
        pytest.skip(f"no such run of the table {name} is committed for the data of this machine")
    again(name, arms.Cell(protocol, arm, seed, *length(name)), committed[name])


@pytest.mark.long
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_any_run_of_the_table_comes_out_again(name: str, committed: dict[str, Committed]) -> None:
    if name not in committed:
        pytest.skip(f"no table {name} is committed for the data of this machine")
    drawn_with = random.SystemRandom().randrange(10**6)
    print(f"run drawn with seed {drawn_with}")
    choose, about = random.Random(drawn_with), committed[name].about
    protocol = choose.choice(list(about["arms"]))
    arm = choose.choice([MSE, *EXPERIMENTS[name].arms[protocol]])
    again(name, arms.Cell(protocol, arm, choose.choice(about["seeds"]), *length(name)), committed[name])


def length(name: str) -> tuple[int, int]:
    return EXPERIMENTS[name].pretrain_epochs, EXPERIMENTS[name].epochs


def again(name: str, cell: arms.Cell, table: Committed) -> None:
    assert misses(run(cell)[cell]["measured"], table.row(cell)) == [], f"{name}: {cell}"


# What a wrong library would have trained in place of an arm is another arm of the tables.
MISTAKEN = {
    "λ ignored": ("smoothness", "sound", "λ = 0.001", "sound", "λ = 1"),
    "factor left out": ("smoothness", "sound", "λ = 0.001", "sound", "MSE"),
    "α ten times as large": ("lists", "sound", "λ = 1, λ₈ = 0.1, α = 0.01", "sound", "λ = 1, λ₈ = 0.1, α = 0.1"),
    "list taken as one λ": ("sensitivity", "sound", "λ = 0.1, λ₈ = 0.001", "sound", "λ = 0.1"),
    "slope of the other kind": ("smoothness", "corrected", "λ = 0.001", "published", "λ = 0.001"),
}


@pytest.mark.parametrize("mistake", MISTAKEN)
def test_the_check_notices(mistake: str, committed: dict[str, Committed]) -> None:
    """In every seed, and even within the tolerances."""
    name, protocol, arm, other_protocol, other_arm = MISTAKEN[mistake]
    if name not in committed or not {protocol, other_protocol} <= set(committed[name].about["arms"]):
        pytest.skip("no such runs are committed for the data of this machine")
    table = committed[name].table.set_index(["protocol", "arm", "seed"], drop=False)
    for seed in committed[name].about["seeds"]:
        mistaken = table.loc[(other_protocol, other_arm, str(seed)), "rmse":].astype(float)
        assert misses(dict(mistaken), table.loc[(protocol, arm, str(seed))]), f"{mistake}, seed {seed}"


def test_the_tolerances_are_at_least_twice_what_was_measured() -> None:
    table = pd.read_csv(RESULTS / "rounding.csv")
    assert set(TOLERANCES) == set(PROTOCOLS) == set(table["protocol"])
    for protocol, runs in table.groupby("protocol"):
        for name, limit in TOLERANCES[str(protocol)].items():
            assert 2 * (runs[f"{name}_again"] - runs[name]).abs().max() <= limit, (protocol, name)
