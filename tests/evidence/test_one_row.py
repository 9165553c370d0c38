"""The same runs with one row of the data and without it: which are compared, how effects differ, which verdicts turn."""

import dataclasses
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from few_rows import few_rows
from ledger_tables import falling, flat, rising, table
from second_implementation import split

from evidence.ledger import one_row
from evidence.ledger.claims import Claim, LedgerError, load_ledger, rewritten
from evidence.ledger.one_row import HELD_OUT, LEFT_OUT, With, Without
from evidence.ledger.queries import QUERIES
from evidence.ledger.stats import bootstrap_mean
from evidence.ledger.verdicts import combine
from evidence.ledger.views import Judgement, MissingResults, Results
from evidence.runs.arms import MSE, Cell, train_cells
from evidence.runs.row_statistics import row_statistics
from lai import rmse, set_exact_statistics

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "book" / "claims.yml"
ROWS, FAR_ROW = 37_137, 18_397
TABLES = ("strength", "sampling", "smoothness", "sensitivity", "lists")


@pytest.fixture(scope="module")
def claim() -> Claim:
    return next(one for one in load_ledger(LEDGER) if one.id == "v2-loss-rises")


def put(folder: Path, **tables: pd.DataFrame) -> None:
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)


def test_as_many_runs_of_the_same_kind_are_compared(tmp_path: Path) -> None:
    own = table(rising, falling)
    few = own[own["protocol"].eq("sound") & own["seed"].lt(4) & own["arm"].ne("λ = 0.1")]
    elsewhere = own[own["protocol"].eq("sound") & own["seed"].lt(6)].assign(seed=lambda t: t["seed"] + 100)
    put(tmp_path, smoothness=own, smoothness_occupancy100=few.assign(rmse=9.0), smoothness_heldout=elsewhere)
    with_row, without = With(tmp_path).table("smoothness"), Without(tmp_path).table("smoothness")
    assert (without["rmse"] == 9).all()
    key = ["protocol", "arm", "seed"]
    assert with_row[key].to_numpy().tolist() == few[key].to_numpy().tolist()
    assert with_row["rmse"].to_numpy() == pytest.approx(few["rmse"].to_numpy())
    others = With(tmp_path, HELD_OUT).table("smoothness")  # no seed in common: as many of the protocol's
    assert set(others["protocol"]) == {"sound"} and set(others["seed"]) == set(range(6))
    for results in (With(tmp_path), Without(tmp_path)):
        with pytest.raises(MissingResults):
            results.table("strength")


def test_an_effect_is_a_share_and_its_difference_is_paired(tmp_path: Path) -> None:
    own = table(rising, falling)
    moved = own.copy()
    smallest = moved["arm"].eq("λ = 0.001")
    control = moved.loc[moved["arm"].eq("MSE"), ["protocol", "seed", "rmse"]].rename(columns={"rmse": "mse"})
    moved.loc[smallest, "rmse"] += 0.1 * moved[smallest].merge(control, on=["protocol", "seed"])["mse"].to_numpy()
    put(tmp_path, smoothness=own, smoothness_occupancy100=moved)
    elsewhere = moved[moved["seed"].lt(6)].assign(seed=lambda t: t["seed"] + 100)
    put(tmp_path, smoothness_heldout=elsewhere[elsewhere["protocol"].ne("corrected")])
    found = one_row.effects(tmp_path)
    assert set(found.index.get_level_values("table")) == {"smoothness"} and (found["seeds", ""] == 10).all()
    error = found.xs("RMSE, λ = 0.001", level="effect")
    shares = [rising(0.001) / rising(None) - 1] * 3
    assert error["with", "mean"].to_numpy() == pytest.approx(shares, abs=2e-3)
    assert error["difference"].to_numpy() == pytest.approx(np.full((3, 3), 0.1))  # every seed by the same share
    held = found["seeds held out", ""].unstack("protocol")
    assert (held[["published", "sound"]] == 6).all(axis=None) and held["corrected"].isna().all()
    assert error["held out", "mean"].dropna().to_numpy() == pytest.approx(
        [share + 0.1 for share in shares[:2]], abs=2e-3
    )
    slope = found.xs("slope, λ = 0.001", level="effect")
    assert (slope["difference"].to_numpy() == 0).all()


def test_a_verdict_that_turns_is_told(tmp_path: Path, claim: Claim) -> None:
    own = table(rising, falling)
    put(tmp_path, smoothness=own)
    assert one_row.judged(claim, tmp_path) is None and one_row.told(claim, tmp_path) == ""
    put(tmp_path, smoothness_occupancy100=own)
    same = one_row.judged(claim, tmp_path)
    assert same is not None and not same.flips and one_row.told(claim, tmp_path) == ""
    put(tmp_path, smoothness_occupancy100=table(lambda lam: -rising(lam), falling))
    turned = one_row.judged(claim, tmp_path)
    assert turned is not None and turned.flips
    assert (turned.trained.verdict, turned.without.verdict) == ("holds", "fails")
    assert (
        one_row.told(claim, tmp_path)
        == "left out, the verdict is “fails” (the same number of runs with it gives “holds”)"
    )
    put(tmp_path, smoothness_heldout=table(flat, falling, noise=0.01).assign(seed=lambda t: t["seed"] + 100))
    assert "; held out, the verdict is “not shown” (the same number of runs" in one_row.told(claim, tmp_path)


def test_a_verdict_that_turns_between_halves_of_the_seeds_is_told_with_that(tmp_path: Path, claim: Claim) -> None:
    own = table(rising, falling)
    late = own["seed"] >= 5
    own.loc[late] = table(lambda lam: -rising(lam), falling)[late]
    put(tmp_path, smoothness=own, smoothness_occupancy100=table(rising, falling))
    assert one_row.halves(claim, tmp_path) == ("holds", "fails")
    said = one_row.told(claim, tmp_path)
    assert said.endswith("; chance may do it too, as half of the seeds gives “holds” and the others “fails”)"), said


def test_too_few_seeds_have_no_say(tmp_path: Path, claim: Claim) -> None:
    few = table(lambda lam: -rising(lam), falling)
    put(tmp_path, smoothness=table(rising, falling), smoothness_occupancy100=few[few["seed"] < 4])
    assert one_row.judged(claim, tmp_path) is None
    put(tmp_path, smoothness_occupancy100=few[few["seed"] < 5])
    assert one_row.told(claim, tmp_path)


def test_one_network_is_read_with_the_row_in_its_statistics_and_without() -> None:
    few = few_rows()
    x = few.train.x.clone()
    x[7, few.feature_names.index("AveOccup")] = 500.0
    crowded = dataclasses.replace(few, train=few.train._replace(x=x))
    found = row_statistics(lambda seed: crowded, seeds=[0, 1], epochs=2)
    errors = found.pivot(index="seed", columns="statistics", values="rmse")
    assert (errors["all rows"] != errors["all but the crowded"]).all()
    for cell, model, *_ in train_cells(crowded, [Cell("published", MSE, seed, 0, 2) for seed in (0, 1)]):
        own = errors.loc[cell.seed]
        assert rmse(model, *few.val) == pytest.approx(own["all rows"])
        set_exact_statistics(model, torch.cat([x[:7], x[8:]]))
        assert rmse(model, *few.val) == pytest.approx(own["all but the crowded"], rel=1e-5)
    same = row_statistics(lambda seed: few, seeds=[0], epochs=1)
    assert same["rmse"].nunique() == same["variance"].nunique() == 1


def test_where_chance_has_no_say_there_is_nothing_to_ask(tmp_path: Path, claim: Claim) -> None:
    put(tmp_path, smoothness=table(rising, falling), smoothness_occupancy100=table(flat, falling))
    assert one_row.judged(dataclasses.replace(claim, seeds=None), tmp_path, LEFT_OUT) is None


def test_the_ledger_keeps_what_turns_and_says_it(tmp_path: Path) -> None:
    file, text = tmp_path / "claims.yml", LEDGER.read_text()
    words = "left out, the verdict is “fails” (the same number of runs with it gives “holds”)"
    file.write_text(rewritten(text, {"trade": Judgement("holds", "", 10, "", words)}))
    (trade,) = (one for one in load_ledger(file) if one.id == "trade")
    assert trade.row == words and trade.reason.endswith(f" With the row of 503 people per household {words}.")
    file.write_text(rewritten(file.read_text(), {"trade": Judgement("holds", "", 10)}))
    (trade,) = (one for one in load_ledger(file) if one.id == "trade")
    assert trade.row == "" and "503" not in trade.reason
    file.write_text(text.replace("  verdict: holds\n", "  verdict: holds\n  rows: many\n", 1))
    with pytest.raises(LedgerError, match="rows"):
        load_ledger(file)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """By ending, the claims that can be judged, and whether they turn: from tables filtered here, and judged as plain results."""
    found: dict[str, dict[str, bool]] = {}
    for ending in (LEFT_OUT, HELD_OUT):
        sides = [tmp_path_factory.mktemp(ending) for _ in range(2)]
        for name in TABLES:
            own, other = (pd.read_csv(ROOT / "book" / "results" / f"{name}{end}.csv") for end in ("", f"_{ending}"))
            assert set(own["protocol"]) == set(other["protocol"]) and set(own["arm"]) == set(other["arm"])
            seeds = sorted(set(own["seed"]))[: other["seed"].nunique()]
            put(sides[0], **{name: own[own["seed"].isin(seeds)]})
            put(sides[1], **{name: other})
        found[ending] = {}
        for claim in load_ledger(LEDGER):
            words = [[QUERIES[query.name](Results(side)).verdict for query in claim.queries] for side in sides]
            if claim.queries and claim.seeds is not None and "not tested" not in sum(words, []):
                found[ending][claim.id] = combine(words[0]) != combine(words[1])
    return found


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The claims that can be judged by seeds 0 to 4 and by seeds 5 to 9 of the book's tables, and those that come out differently."""
    sides = [tmp_path_factory.mktemp("half") for _ in range(2)]
    for name in TABLES:
        own = pd.read_csv(ROOT / "book" / "results" / f"{name}.csv")
        put(sides[0], **{name: own[own["seed"] < 5]})
        put(sides[1], **{name: own[own["seed"] >= 5]})
    judged, differ = set(), set()
    for claim in load_ledger(LEDGER):
        words = [[QUERIES[query.name](Results(side)).verdict for query in claim.queries] for side in sides]
        if claim.queries and claim.seeds is not None and "not tested" not in sum(words, []):
            judged.add(claim.id)
            differ |= {claim.id} if combine(words[0]) != combine(words[1]) else set()
    return judged, differ


def test_the_chapter_counts_the_verdicts_that_turn(
    turned: dict[str, dict[str, bool]], halves: tuple[set[str], set[str]]
) -> None:
    left, held = ({claim for claim, turns in turned[ending].items() if turns} for ending in (LEFT_OUT, HELD_OUT))
    notebook = nbformat.read(ROOT / "notebooks" / "75_robustness.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.id == "row-effects-glue")
    glued = {
        out.metadata["scrapbook"]["name"]: out.data["application/papermill.record/text/plain"] for out in cell.outputs
    }
    counts = [glued[f"row-turned{end}"] for end in ("-left", "-held", "")]
    assert counts == [str(len(claims)) for claims in (left, held, left | held)]
    judged, differ = halves
    assert [glued[f"row-{name}"] for name in ("judged", "halves")] == [str(len(judged)), str(len(differ))]
    assert glued["row-chance"] == str(len(differ & (left | held))) and len(held) <= len(differ)
    assert left ^ held and "`row-turned-left`" in notebook.cells[0].source  # the box has those of the same seeds
    ledger = {claim.id: claim.row for claim in load_ledger(LEDGER)}
    for words, claims in (("left out, the", left), ("held out, the", held)):
        assert {claim for claim, row in ledger.items() if words in row} == claims


def test_the_chapter_names_the_claims_that_are_not_judged_without_the_row(turned: dict[str, dict[str, bool]]) -> None:
    """Of those that queries judge by seeds; and the one whose cell reads a table."""
    asked = {claim.id for claim in load_ledger(LEDGER) if claim.queries and claim.seeds is not None}
    unjudged = asked - turned[LEFT_OUT].keys()
    assert unjudged == asked - turned[HELD_OUT].keys()
    (cell,) = (
        cell
        for cell in nbformat.read(ROOT / "notebooks" / "75_robustness.ipynb", as_version=4).cells
        if "could not be judged in this way" in cell.source
    )
    sentence = re.search(r"(\w+) claims could not be judged in this way: ([^.]*)", cell.source.replace("../", ""))
    assert sentence is not None and sentence[1] == "Five"
    assert set(re.findall(r"\*([a-z0-9-]+)\*", sentence[2])) == unjudged | {"lam-needs-coupling"}


def test_the_splits_that_hold_the_row_out_are_the_first_that_do() -> None:
    held = [seed for seed in range(100) if FAR_ROW not in split(ROWS, seed)[1].tolist()]
    for name in TABLES:
        seeds = sorted(set(pd.read_csv(ROOT / "book" / "results" / f"{name}_heldout.csv")["seed"]))
        assert seeds == held[: 10 if name == "smoothness" else 5]


def test_another_implementations_difference_by_placement_is_in_the_interval() -> None:
    """The chapter on robustness calls it neither shown nor excluded."""
    table = pd.read_csv(ROOT / "book" / "results" / "placement.csv").query("protocol == 'sound' and arm == 'λ = 0.001'")
    wide = table.pivot_table(index="seed", columns="placement", values="rmse")
    found = bootstrap_mean((wide["free"] - wide["spread"]).to_numpy())
    assert found.low < 0.813 - 0.828 < 0 < found.high
