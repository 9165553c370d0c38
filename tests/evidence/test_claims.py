"""The ledger of claims: its verdicts are those of the evidence, and nothing false gets past it."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evidence.ledger.claims import (
    Claim,
    LedgerError,
    Sources,
    disagreements,
    judge,
    load_ledger,
    orphans,
    rewritten,
    verdict_lines,
)
from evidence.ledger.paper import V1_SAMPLING, V1_SMOOTHNESS, V2_LIST_RMSE, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.ledger.queries import QUERIES, STABLE
from evidence.ledger.tables import ADHERES
from evidence.ledger.views import Judgement, Results
from tools import ledger

ROOT = Path(__file__).parents[2]
FILE = ROOT / "book" / "claims.yml"
SOURCES = Sources(ROOT / "notebooks", ROOT / "book" / "results")
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    return load_ledger(FILE)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The ledger with its notebooks and results, to be spoilt."""
    for folder in ("notebooks", "book/results"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(FILE, tmp_path / "book" / "claims.yml")
    return tmp_path


def test_figures_in_the_claims_are_printed_in_the_paper(claims: list[Claim]) -> None:
    tables = (V1_SMOOTHNESS, V1_SAMPLING, V2_SMOOTHNESS, V2_SENSITIVITY)
    printed = {f"{number:.4f}" for table in tables for figures in table.values() for number in figures}
    printed.add(f"{V2_LIST_RMSE:.4f}")
    for claim in claims:
        assert set(re.findall(r"\d\.\d{4}\b", claim.claim)) - printed == set(), claim.id


def test_bounds_in_the_rules_are_those_of_the_queries(claims: list[Claim]) -> None:
    rules = {claim.id: claim.rule for claim in claims}
    assert f"{100 * STABLE:g} %" in rules["stable"] and f"{100 * STABLE:g} %" in rules["trade"]
    narrow = ("v1-adheres", "v2-adheres", "v1-converged", "max-accuracy", "pretrain-stable")
    assert all(f"{100 * ADHERES:g} %" in rules[name] for name in narrow)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- id: geometry-max\n", "- id: geometry-legs\n", "there twice"),
        ("  rule: the slopes k and -k have one loss\n", "", "rule missing"),
        ("  verdict: holds\n", "  verdict: true enough\n", "must be one of"),
        ("  where: [v1 2, v2 2]\n", "  where: [v3 2]\n", "must be a list such as"),
        ("query: trade\n", "query: no_such_query\n", "no query"),
        ("      means: fails\n", "      means: perhaps\n", "must be one of"),
    ],
)
def test_a_ledger_of_the_wrong_form_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = FILE.read_text()
    assert old in text
    (tmp_path / "claims.yml").write_text(text.replace(old, new, 1))
    with pytest.raises(LedgerError, match=message):
        load_ledger(tmp_path / "claims.yml")


def test_ledger_and_evidence_agree(capsys: pytest.CaptureFixture) -> None:
    """If this fails: look at what changed, then `python -m tools.ledger --write`, and read the reasons again."""
    assert ledger.main(["--check"]) == 0, capsys.readouterr().out


def test_verdicts_from_tables_rest_on_ten_seeds(claims: list[Claim]) -> None:
    assert [claim.id for claim in claims if claim.queries and claim.seeds is not None and claim.seeds < 10] == [
        "one-seed"  # asks what happens with one seed, twice
    ]


def test_a_tuned_list_that_does_what_the_papers_does_not_is_named(claims: list[Claim]) -> None:
    (claim,) = (one for one in claims if one.id == "noise-list")
    found = judge(claim, SOURCES).numbers
    assert claim.verdict == "holds" or ("tuning study" in claim.reason) == (not found.endswith("that do it: none."))
    for protocol in ("published", "corrected", "sound"):
        assert (f" {protocol}" in claim.because["fails"]) <= (f"{protocol}" in found.rpartition("that do it: ")[2])


def test_every_verdict_that_is_flipped_is_noticed(claims: list[Claim]) -> None:
    flipped = [dataclasses.replace(one, verdict="fails" if one.verdict != "fails" else "holds") for one in claims]
    found = disagreements(flipped, SOURCES)
    assert [claim.id for claim in claims] == [line.split(":")[0] for line in found if "the evidence" in line]


def test_a_flipped_verdict_fails_and_is_put_right(copy: Path, capsys: pytest.CaptureFixture) -> None:
    file = copy / "book" / "claims.yml"
    right = file.read_text()
    file.write_text(right.replace("verdict: holds under conditions", "verdict: holds"))
    assert ledger.main(["--check", "--root", str(copy)]) == 1
    assert "boundary-lambda: the ledger says 'holds'" in capsys.readouterr().out
    assert ledger.main(["--write", "--root", str(copy)]) == 0
    assert file.read_text() == right  # comments and order included


def test_a_condition_that_is_another_claim_does_not_hold_as_stated(claims: list[Claim]) -> None:
    """`means` is for a line that holds under conditions; it does not hide that a line holds, or fails."""
    (claim,) = (one for one in claims if one.id == "intro-l2")
    (evidence,) = claim.evidence
    assert (evidence.means, judge(claim, SOURCES).verdict) == ("fails as stated", "fails as stated")
    plain = dataclasses.replace(claim, evidence=(dataclasses.replace(evidence, means=""),))
    assert judge(plain, SOURCES).verdict == "holds under conditions"
    holding = dataclasses.replace(evidence, name="10_linear_geometry#verdict-legs", means="fails as stated")
    assert judge(dataclasses.replace(claim, id="geometry-legs", evidence=(holding,)), SOURCES).verdict == "holds"


def test_a_claim_of_the_paper_has_words_for_every_verdict_that_its_tables_may_give(claims: list[Claim]) -> None:
    for claim in claims:
        if claim.queries and claim.seeds == 10:
            assert "" in claim.because or {"holds", "fails", "not shown"} <= set(claim.because), claim.id


def test_a_doctored_table_fails(copy: Path, capsys: pytest.CaptureFixture) -> None:
    """The paper's largest and smallest λ exchange their errors."""
    file = copy / "book" / "results" / "smoothness.csv"
    table = pd.read_csv(file)
    large, small = (np.flatnonzero(np.isclose(table["lam"], lam)) for lam in (0.1, 0.001))
    for column in [name for name in ("rmse", "rmse_last") if name in table]:
        values = table[column].to_numpy().copy()
        values[large], values[small] = values[small].copy(), values[large].copy()
        table[column] = values
    table.to_csv(file, index=False)
    assert ledger.main(["--check", "--root", str(copy)]) == 1
    found = capsys.readouterr().out
    assert "v2-loss-rises: the ledger says 'holds under conditions', the evidence 'fails'" in found


def test_fewer_seeds_in_a_table_are_noticed(copy: Path, capsys: pytest.CaptureFixture) -> None:
    results = copy / "book" / "results"
    file = results / "smoothness.csv"
    table = pd.read_csv(file)
    table[table["seed"] > 0].to_csv(file, index=False)
    assert ledger.main(["--check", "--root", str(copy)]) == 1
    assert "seeds, the table has" in capsys.readouterr().out


def single_lines(claims: list[Claim]) -> dict[str, tuple[Claim, str]]:
    """For each chapter a claim that rests on one line, and the line."""
    found: dict[str, tuple[Claim, str]] = {}
    for path in CHAPTERS:
        lines = verdict_lines(path)
        for claim in claims:
            own = [line.text for line in lines if line.id == claim.id]
            first = claim.evidence[0]
            if len(own) == len(claim.evidence) == 1 and (first.kind, first.place[0]) == ("cell", path.stem):
                found.setdefault(path.stem, (claim, own[0]))
    return found


@pytest.mark.parametrize("stem", sorted(single_lines(load_ledger(FILE))))
def test_a_doctored_output_fails(copy: Path, claims: list[Claim], stem: str) -> None:
    claim, line = single_lines(claims)[stem]
    file = copy / "notebooks" / f"{stem}.ipynb"
    notebook = json.loads(file.read_text())
    other = "fails" if claim.verdict != "fails" else "holds"
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if line in "".join(output.get("text", "")):
                output["text"] = "".join(output["text"]).replace(line, f"{claim.id}: {other}")
    file.write_text(json.dumps(notebook))
    assert judge(claim, Sources(file.parent, copy / "book" / "results")).verdict == other != claim.verdict


def test_a_chapter_that_prints_another_verdict_than_the_query_is_a_disagreement(
    copy: Path, claims: list[Claim], capsys: pytest.CaptureFixture
) -> None:
    file = copy / "notebooks" / "70_experiments_smoothness.ipynb"
    (claim,) = (one for one in claims if one.id == "slopes-fall")
    assert any(line.id == claim.id for line in verdict_lines(file))
    text = file.read_text()
    file.write_text(re.sub(r"(slopes-fall, [^:]*): \w[\w ]*", r"\1: fails", text))
    found = disagreements([claim], Sources(file.parent, copy / "book" / "results"))
    said = [line for line in found if line.startswith("slopes-fall: 70_experiments_smoothness#verdicts prints 'fails'")]
    assert len(said) == (QUERIES["slopes_fall"](Results(copy / "book" / "results")).verdict != "fails")


def test_no_verdict_of_a_chapter_is_without_a_claim(claims: list[Claim]) -> None:
    assert list(orphans(claims, SOURCES)) == []
    without = [claim for claim in claims if claim.id != "tangent"]
    assert [(stem, line.id) for stem, line in orphans(without, SOURCES)] == [("30_nonlinear", "tangent")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "20_lambda#no-such-cell"}, "has no verdict cell"),
        ({"name": "20_lamdba#verdict-one"}, "there is no notebook"),
        ({"line": "no such line"}, "prints no verdict"),
    ],
)
def test_evidence_that_is_not_there_is_a_disagreement(
    claims: list[Claim], change: dict[str, str], message: str
) -> None:
    (claim,) = (one for one in claims if one.id == "boundary-one")
    spoilt = dataclasses.replace(claim, evidence=(dataclasses.replace(claim.evidence[0], **change),))
    assert any(message in line for line in disagreements([spoilt], SOURCES))


def test_a_verdict_without_a_reason_is_a_disagreement(claims: list[Claim]) -> None:
    (claim,) = (one for one in claims if one.id == "trade")
    bare = dataclasses.replace(claim, because={"not tested": "No table."})
    assert any("no reason" in line for line in disagreements([bare], SOURCES))


def test_rewriting_touches_verdicts_and_seeds_only() -> None:
    text = FILE.read_text()
    with_views = rewritten(text, {"trade": Judgement("fails", "", 7, "fails in every view")})
    (at,) = (text.index(f"- id: {name}\n") for name in ("trade",))
    assert with_views[:at] == text[:at]
    entry = re.search(r"- id: trade\n.*?(?=\n- id: )", with_views, re.DOTALL)
    assert entry and "\n  seeds: 7\n  verdict: fails\n  views: fails in every view\n" in entry[0]
    assert entry[0].count("  views: ") == 1
    assert with_views.endswith(text[text.index("\n- id: ", at) :])
    without = rewritten(with_views, {"trade": Judgement("holds", "", 7)})
    assert without.count("\n  views: ") == with_views.count("\n  views: ") - 1
    assert rewritten(with_views, {}) == with_views
