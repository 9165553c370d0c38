"""One run of every committed table, drawn anew each time, trained again and compared.

Where versions, library and hardware are those of the table's provenance the figures agree in every printed digit. Elsewhere
rounding differs, training amplifies it, and tolerances apply. They come from runs whose initial weights were changed by
one part in a million (tools/rounding.py, book/results/rounding.csv) and are at least twice what that did.
"""

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from evidence.data import Housing, load_housing
from evidence.runs import arms
from evidence.runs.arms import MSE
from evidence.runs.experiments import EXPERIMENTS
from evidence.runs.protocols import PROTOCOLS
from tools.report import TOLERANCES
from tools.reproduce import environment

RESULTS = Path(__file__).parents[2] / "book" / "results"


class Committed(NamedTuple):
    """A table as it is printed, and its provenance."""

    table: pd.DataFrame
    about: dict[str, Any]

    @property
    def exact(self) -> bool:
        here = environment()
        return self.about["device"] == "cpu" and all(self.about[key] == here[key] for key in here)

    def row(self, cell: arms.Cell) -> pd.Series:
        of_arm = self.table["alpha"].astype(float).eq(cell.arm.alpha)
        of_arm &= self.table["arm"].str.removesuffix(f", α = {cell.arm.alpha:g}").eq(cell.arm.name)
        found = self.table[of_arm & self.table["protocol"].eq(cell.protocol) & self.table["seed"].eq(str(cell.seed))]
        assert len(found) == 1, cell
        return found.iloc[0]


def misses(measured: dict[str, float], row: pd.Series, *, exact: bool) -> list[str]:
    """Which figures are not those of the committed row."""
    if exact:
        return [name for name, value in measured.items() if f"{value:.6g}" != row[name]]
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
            assert data.sha256 in about["data"] and about["split_seed"] == 0
            found[name] = Committed(pd.read_csv(path, dtype=str, keep_default_na=False), about)
    assert found
    return found


@pytest.fixture(scope="module")
def drawn(data: Housing, committed: dict[str, Committed]) -> dict[str, tuple[arms.Cell, dict[str, float]]]:
    """A run of each table and what it measures now."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"runs drawn with seed {seed}")
    choose = random.Random(seed)
    chosen = {}
    for name, table in committed.items():
        experiment = EXPERIMENTS[name]
        protocol = choose.choice(list(table.about["arms"]))
        arm = choose.choice([MSE, *experiment.arms[protocol]])
        drawn_seed = choose.choice(table.about["seeds"])
        chosen[name] = arms.Cell(protocol, arm, drawn_seed, experiment.pretrain_epochs, experiment.epochs)
    return {name: (cell, run(data, cell)[cell]["measured"]) for name, cell in chosen.items()}


def run(data: Housing, *cells: arms.Cell) -> dict[arms.Cell, dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return arms._run(arms._Job(data, cells, "cpu", None))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_run_of_the_table_comes_out_again(name: str, drawn: dict, committed: dict[str, Committed]) -> None:
    if name not in committed:
        pytest.skip(f"no table {name} is committed for the data of this machine")
    cell, measured = drawn[name]
    table = committed[name]
    assert misses(measured, table.row(cell), exact=table.exact) == [], f"{cell}, exact: {table.exact}"
    assert misses(measured, table.row(cell), exact=False) == []


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
        assert misses(dict(mistaken), table.loc[(protocol, arm, str(seed))], exact=False), f"{mistake}, seed {seed}"


def test_the_tolerances_are_at_least_twice_what_was_measured() -> None:
    table = pd.read_csv(RESULTS / "rounding.csv")
    assert set(TOLERANCES) == set(PROTOCOLS) == set(table["protocol"])
    for protocol, runs in table.groupby("protocol"):
        for name, limit in TOLERANCES[str(protocol)].items():
            assert 2 * (runs[f"{name}_again"] - runs[name]).abs().max() <= limit, (protocol, name)


@pytest.mark.parametrize(
    ("epochs", "names"), [("200", ("smoothness", "sensitivity", "lists")), ("500", ("strength", "sampling"))]
)
def test_rounding_was_measured_on_runs_of_the_tables(epochs: str, names: tuple[str, ...]) -> None:
    study, about = pd.read_csv(RESULTS / "rounding.csv", dtype=str), json.loads((RESULTS / "rounding.json").read_text())
    study = study[study["epochs"] == epochs]
    known = {}
    for name in names:
        same = json.loads((RESULTS / f"{name}.json").read_text())
        for key in ("versions", "hardware"):
            assert about[key] == same[key], f"{key}: run `python -m tools.rounding` after `make reproduce`"
        for run in pd.read_csv(RESULTS / f"{name}.csv", dtype=str).itertuples():
            arm = str(run.arm).removesuffix(f", α = {run.alpha}")
            known[run.protocol, arm, run.alpha, run.seed] = run.rmse, run.variance, run.rms_k
    assert set(study["protocol"]) == set(PROTOCOLS) and study["seed"].nunique() >= 2
    for run in study.itertuples():
        arm = str(run.arm).removesuffix(f", α = {run.alpha}")
        assert known[run.protocol, arm, run.alpha, run.seed] == (run.rmse, run.variance, run.rms_k), run


def test_few_runs_went_further_in_another_program() -> None:
    """The pairs are of the committed tables, all their runs; on another machine one draw in fifty may miss, not more."""
    pairs = pd.read_csv(RESULTS / "two_programs.csv")
    for name, own in pairs.groupby("table"):
        table = pd.read_csv(RESULTS / f"{name}.csv")
        key = ["protocol", "arm", "alpha", "seed"]
        both = own.merge(table, on=key, suffixes=("_before", ""), validate="1:1")
        assert len(both) == len(table) and all((both[f"{m}_again"] == both[m]).all() for m in TOLERANCES["sound"])
    assert set(pairs["table"]) == set(EXPERIMENTS)
    limits = pairs["protocol"].map(TOLERANCES)
    beyond = [
        abs(run[f"{m}_again"] - run[m]) > limit[m]
        for (_, run), limit in zip(pairs.iterrows(), limits, strict=True)
        for m in limit
    ]
    assert np.reshape(beyond, (len(pairs), -1)).any(axis=1).mean() < 0.02
