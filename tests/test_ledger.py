"""The ledger of claims: complete, its verdicts those of the evidence, and nothing false gets past it."""

import dataclasses
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from lai.claim_queries import QUERIES, STABLE, Judgement, Results, combine
from lai.claims import (
    VERDICTS,
    Claim,
    LedgerError,
    Sources,
    counts,
    disagreements,
    judge,
    load_ledger,
    orphans,
    rewritten,
    verdict_lines,
)
from lai.paper import V1_SMOOTHNESS, V2_SENSITIVITY, V2_SMOOTHNESS
from lai.reports import ADHERES
from tools import ledger

ROOT = Path(__file__).parent.parent
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


# --- what is in it ---------------------------------------------------------------------------------------------


def test_the_papers_claims_are_there(claims: list[Claim]) -> None:
    assert sum(not claim.ours for claim in claims) >= 45
    known = """geometry-legs geometry-max geometry-chebyshev geometry-negative nonsmooth nonconvex boundary-one boundary-lambda
        vanishing range tangent smoothness both-sides lai-mae lai-mse norms list list-l1 vector-loss symmetry second-order
        pretrain shared-optima sampling no-memorising alpha-lambda cost equivalence v1-adheres v1-loss-rises v1-var-falls
        v2-adheres v2-loss-rises v2-var-falls noise-most noise-list noise-spill app-one app-half-two app-tiny app-basin
        app-mse excess generalise large-models"""
    assert set(known.split()) - {claim.id for claim in claims} == set()
    assert {version for claim in claims for version in claim.versions} == {"v1", "v2"}


def test_every_claim_says_what_and_why(claims: list[Claim]) -> None:
    for claim in claims:
        assert 5 <= len(claim.claim.split()) <= 35 and claim.claim.endswith("."), claim.id
        assert claim.reason and claim.rule and not claim.rule.endswith("."), claim.id
        assert (ROOT / "notebooks" / f"{claim.chapter}.ipynb").exists(), claim.id
        assert claim.ours == (not claim.where), claim.id


def test_figures_in_the_claims_are_printed_in_the_paper(claims: list[Claim]) -> None:
    printed = {f"{number:.4f}" for pair in [*V1_SMOOTHNESS.values(), *V2_SMOOTHNESS.values()] for number in pair}
    printed |= {f"{number:.4f}" for row in V2_SENSITIVITY.values() for number in row}
    for claim in claims:
        assert set(re.findall(r"\d\.\d{4}\b", claim.claim)) - printed == set(), claim.id


def test_bounds_in_the_rules_are_those_of_the_queries(claims: list[Claim]) -> None:
    rules = {claim.id: claim.rule for claim in claims}
    assert f"{100 * STABLE:g} %" in rules["stable"] and f"{100 * STABLE:g} %" in rules["trade"]
    assert all(f"{100 * ADHERES:g} %" in rules[name] for name in ("v1-adheres", "v2-adheres", "v1-converged"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_lists_its_claims(path: Path) -> None:
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert re.findall(r"^```\{claims\} (\S+)$", prose, re.MULTILINE) == [path.stem]


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


# --- ledger and evidence ---------------------------------------------------------------------------------------


def test_ledger_and_evidence_agree(capsys: pytest.CaptureFixture) -> None:
    """If this fails: look at what changed, then `python -m tools.ledger --write`, and read the reasons again."""
    assert ledger.main(["--check"]) == 0, capsys.readouterr().out


def test_verdicts_from_tables_rest_on_ten_seeds(claims: list[Claim]) -> None:
    assert [claim.id for claim in claims if claim.queries and claim.seeds is not None and claim.seeds < 10] == []


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


def test_a_doctored_table_fails(copy: Path, capsys: pytest.CaptureFixture) -> None:
    """The paper's largest and smallest λ exchange their errors."""
    file = copy / "book" / "results" / "smoothness.csv"
    table = pd.read_csv(file)
    large, small = (np.flatnonzero(np.isclose(table["lam"], lam)) for lam in (0.1, 0.001))
    for column in ("rmse", "rmse_running"):
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


def test_chapters_with_doctored_outputs_are_many(claims: list[Claim]) -> None:
    assert len(single_lines(claims)) >= 7


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
    assert sum(len(verdict_lines(path)) for path in CHAPTERS) >= 45
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
    bare = dataclasses.replace(claim, because={"not testable": "No table."})
    assert any("no reason" in line for line in disagreements([bare], SOURCES))


def test_rewriting_touches_verdicts_and_seeds_only() -> None:
    text = FILE.read_text()
    changed = rewritten(text, {"trade": Judgement("fails", "", 7)}).splitlines()
    differing = [(a, b) for a, b in zip(text.splitlines(), changed, strict=True) if a != b]
    assert [b for _, b in differing] == ["  seeds: 7", "  verdict: fails"]


# --- the queries, on tables made for them ----------------------------------------------------------------------

LAMS = (0.1, 0.01, 0.001)


def table(
    rmse: Callable[[float | None], float],
    variance: Callable[[float | None], float],
    *,
    protocols: tuple[str, ...] = ("published", "corrected", "sound"),
    alpha: float = 0.01,
    lams: tuple[float, ...] = LAMS,
    noise: float = 1e-4,
) -> pd.DataFrame:
    """Ten seeds of each arm, with a shift of its own for each seed and little noise besides."""
    rows = []
    rng = np.random.default_rng(0)

    def centred(scale: float) -> np.ndarray:
        """Ten numbers that sum to zero, so that nothing differs by chance."""
        drawn = rng.normal(0, scale, 10)
        return drawn - drawn.mean()

    for protocol in protocols:
        shifts = centred(0.01)
        for lam in (None, *lams):
            errors, variances = centred(noise), centred(noise)
            for seed, shift in enumerate(shifts):
                row: dict[str, Any] = {"protocol": protocol, "lam": lam, "lam_8": lam, "alpha": alpha, "seed": seed}
                row["arm"] = "MSE" if lam is None else f"λ = {lam:g}"
                row["rmse"] = rmse(lam) + shift + errors[seed]
                row["variance"] = variance(lam) + shift + variances[seed]
                extra = 0.0 if protocol == "sound" else 0.003  # the running statistics differ
                row["rmse_running"], row["variance_running"] = row["rmse"] + extra, row["variance"] + extra
                row["rms_k"] = variance(lam) + shift
                for j in range(1, 9):
                    row[f"k_{j}"] = row[f"s_{j}"] = row[f"s_running_{j}"] = (8.0 if j == 8 else 1.0) + shift
                rows.append(row)
    return pd.DataFrame(rows).astype({"lam": float, "lam_8": float})


def falling(lam: float | None) -> float:
    return {None: 0.80, 0.1: 0.79, 0.01: 0.75, 0.001: 0.65, 0.0001: 0.4}[lam]


def rising(lam: float | None) -> float:
    return {None: 0.700, 0.1: 0.7005, 0.01: 0.71, 0.001: 0.72, 0.0001: 0.9}[lam]


def flat(lam: float | None) -> float:
    return 0.7


def ask(tmp_path: Path, name: str, **tables: pd.DataFrame) -> str:
    for file, frame in tables.items():
        frame.to_csv(tmp_path / f"{file}.csv", index=False)
    judgement = QUERIES[name](Results(tmp_path))
    assert judgement.numbers.endswith(".")
    return judgement.verdict


@pytest.mark.parametrize(
    ("name", "with_effect", "without"),
    [
        ("loss_rises", "holds", "fails"),
        ("var_falls", "holds", "fails"),
        ("adheres", "holds", "holds"),
        ("beats", "fails", "fails"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_queries_on_error_and_variance(tmp_path: Path, version: int, name: str, with_effect: str, without: str) -> None:
    lams = (*LAMS, 1e-4) if version == 1 else LAMS
    options = {"alpha": 1.0 if version == 1 else 0.01, "lams": lams}
    query = f"v{version}_{name}"
    name = "strength" if version == 1 else "smoothness"
    assert ask(tmp_path, query, **{name: table(rising, falling, **options)}) == with_effect
    assert ask(tmp_path, query, **{name: table(flat, flat, noise=0.001, **options)}) == without


def test_a_query_judges_every_protocol_and_read_out_by_itself(tmp_path: Path) -> None:
    good = table(rising, falling, protocols=("sound",))
    bad = table(flat, lambda lam: -falling(lam), protocols=("published",))
    assert ask(tmp_path, "v2_var_falls", smoothness=pd.concat([good, bad])) == "holds under conditions"
    said = QUERIES["v2_var_falls"](Results(tmp_path))
    assert said.seeds == 10 and "Sound: holds" in said.numbers
    assert "Published, recomputed: fails" in said.numbers and "Published, running: fails" in said.numbers


@pytest.mark.parametrize(
    ("name", "with_effect", "without"),
    [
        ("trade", "holds", "fails"),
        ("max_accuracy", "fails", "holds"),
        ("stable", "holds", "holds"),
        ("generalise", "fails", "fails"),
        ("variance_measures", "holds", "fails"),
        ("one_seed", "holds", "holds under conditions"),
        ("slopes_fall", "holds", "fails"),
    ],
)
def test_queries_on_the_trade(tmp_path: Path, name: str, with_effect: str, without: str) -> None:
    assert ask(tmp_path, name, smoothness=table(rising, falling)) == with_effect
    assert ask(tmp_path, name, smoothness=table(flat, flat, noise=0.001)) == without


def test_generalise_and_beats_hold_where_the_error_falls(tmp_path: Path) -> None:
    better = table(lambda lam: 1.4 - rising(lam), falling)
    assert [ask(tmp_path, name, smoothness=better) for name in ("generalise", "v2_beats")] == ["holds"] * 2


def test_an_unstable_arm(tmp_path: Path) -> None:
    collapsed = table(lambda lam: 0.9 if lam == 0.001 else 0.7, falling)
    assert ask(tmp_path, "stable", smoothness=collapsed) == "fails"


def test_figures_are_those_of_the_published_protocol(tmp_path: Path) -> None:
    near = table(lambda lam: V2_SMOOTHNESS[lam][0], lambda lam: V2_SMOOTHNESS[lam][1])
    assert ask(tmp_path, "v2_figures", smoothness=near) == "holds"
    far = table(lambda lam: 2.0, lambda lam: V2_SMOOTHNESS[lam][1])
    assert ask(tmp_path, "v2_figures", smoothness=far) == "holds under conditions"
    assert ask(tmp_path, "v2_figures", smoothness=near.query("protocol == 'sound'")) == "not testable"
    ten = table(lambda lam: V1_SMOOTHNESS[lam][0], lambda lam: V1_SMOOTHNESS[lam][1], alpha=1.0, lams=(*LAMS, 1e-4))
    assert ask(tmp_path, "v1_figures", strength=ten) == "holds"


@pytest.mark.parametrize(("factor", "verdict"), [(1.03, "holds"), (1.3, "fails")])
def test_equivalence_of_two_pairs(tmp_path: Path, factor: float, verdict: str) -> None:
    full = table(rising, falling, alpha=1.0, lams=(*LAMS, 1e-4))
    few = full[np.isclose(full["lam"], 1e-3)].assign(lam=1e-4, lam_8=1e-4, alpha=0.01)
    columns = ["rmse", "rmse_running", "variance", "variance_running"]
    few[columns] *= factor
    assert ask(tmp_path, "equivalence", sampling=pd.concat([full, few])) == verdict
    assert ask(tmp_path, "v1_loss_rises", strength=pd.concat([full, few])) == "holds"  # the other α does not disturb


@pytest.mark.parametrize(("drop", "verdict"), [(0.0, "holds"), (0.001, "fails")])
def test_convergence_from_the_curves(tmp_path: Path, drop: float, verdict: str) -> None:
    epochs = np.arange(500)
    curves = pd.DataFrame({"protocol": "sound", "arm": "MSE", "epoch": epochs, "mean": 1.0 - drop * epochs})
    assert ask(tmp_path, "v1_converged", strength_curves=curves) == verdict


def with_list(cut: float = 0.6, other: float = 1.0, cost: float = 1.0, lam: float = 0.0) -> pd.DataFrame:
    """A list arm, made of the MSE arm; λ = 0.1 gets sensitivities times 1 + lam."""
    frame = table(rising, falling)
    sensitivities = [name for name in frame if name.startswith("s_")]
    frame.loc[np.isclose(frame["lam"], 0.1), sensitivities] *= 1 + lam
    arm = frame[frame["lam"].isna()].assign(lam=0.1, lam_8=0.001, arm="λ = 0.1, λ₈ = 0.001")
    arm[sensitivities] *= other
    arm[["s_8", "s_running_8"]] *= cut / other
    arm[["rmse", "rmse_running"]] *= cost
    return pd.concat([frame, arm])


@pytest.mark.parametrize(
    ("name", "holding", "failing"),
    [
        ("noise_most", {"lam": -0.05}, {"lam": +0.05}),
        ("noise_list", {"cut": 0.6}, {"cut": 0.95}),
        ("noise_list", {"cost": 1.02}, {"cost": 1.2}),
        ("noise_spill", {"other": 0.8}, {"other": 1.0}),
        ("noise_tuning", {"other": 1.01}, {"other": 0.8}),
        ("noise_moderate", {"cost": 1.001}, {"cost": 1.1}),
        ("list_performance", {"cost": 0.95}, {"cost": 1.05}),
        ("list_others", {"cost": 1.2}, {"cost": 1.01}),
    ],
)
def test_queries_on_sensitivity(
    tmp_path: Path, name: str, holding: dict[str, float], failing: dict[str, float]
) -> None:
    file = "lists" if name in ("noise_tuning", "noise_moderate", "list_performance") else "sensitivity"
    assert ask(tmp_path, name, **{file: with_list(**holding)}) == "holds"
    assert ask(tmp_path, name, **{file: with_list(**failing)}) == "fails"


def test_the_most_sensitive_feature(tmp_path: Path) -> None:
    frame = with_list()
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "holds"
    frame[["s_1", "s_running_1"]] *= 20
    assert ask(tmp_path, "noise_last", sensitivity=frame) == "fails"


def test_sensitivities_as_printed(tmp_path: Path) -> None:
    frame = with_list()
    for j, printed in enumerate(V2_SENSITIVITY["mse"], start=1):
        frame[f"s_{j}"] = frame[f"s_running_{j}"] = printed + 0.01 * np.cos(frame["seed"])
    assert ask(tmp_path, "noise_figures", sensitivity=frame) == "holds"
    frame[["s_3", "s_running_3"]] += 1
    assert ask(tmp_path, "noise_figures", sensitivity=frame) == "holds under conditions"


def test_without_its_table_a_query_says_so(tmp_path: Path) -> None:
    for name in ("v1_adheres", "v1_converged", "noise_list"):
        judgement = QUERIES[name](Results(tmp_path))
        assert judgement.verdict == "not testable" and ".csv is not among the results" in judgement.numbers


def test_two_runs_of_one_seed_are_an_error(tmp_path: Path) -> None:
    frame = table(rising, falling)
    with pytest.raises(ValueError, match="more than once"):
        ask(tmp_path, "v2_adheres", smoothness=pd.concat([frame, frame.assign(rmse=frame["rmse"] + 1)]))


def test_combining_does_not_depend_on_order() -> None:
    words = ["holds", "fails", "not shown"]
    assert combine(words) == combine(reversed(words)) == "holds under conditions"
    assert combine(["not shown", "not shown"]) == "fails"


# --- the page --------------------------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, str]]:
    """The page and one chapter, with a ledger that may have been changed; the folder and the warnings."""
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(ledger_text: str) -> tuple[Path, str]:
        source, out = tmp_path / "source", tmp_path / "html"
        shutil.copytree(ROOT / "book" / "results", source / "book" / "results")
        shutil.copytree(ROOT / "notebooks", source / "notebooks")
        (source / "book" / "claims.yml").write_text(ledger_text)
        directives = "```{claims-counts}\n```\n\n```{claims-table}\n```\n"
        (source / "book" / "claims.md").write_text(f"# Ledger\n\n{directives}")
        pages = "\n".join(f"notebooks/{path.stem}" for path in CHAPTERS)
        (source / "index.md").write_text(f"# Front\n\n```{{toctree}}\nbook/claims\n{pages}\n```\n")
        for path in (source / "notebooks").glob("*.ipynb"):  # what the page needs of them: titles, cells, the list
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                if cell.cell_type == "markdown" and "{claims}" not in cell.source:
                    cell.source = cell.source.splitlines()[0] if cell.source.startswith("# ") else ""
            nbformat.write(notebook, path)
        settings = {
            "extensions": ["myst_nb", "claims_ledger"],
            "nb_execution_mode": "off",
            "nitpicky": True,
            "numfig": True,
        }
        settings["nb_output_stderr"] = "remove"
        warnings = io.StringIO()
        with patch_docutils(), docutils_namespace():
            app = Sphinx(source, None, out, tmp_path / "trees", "html", settings, None, warnings)
            app.build()
        return out, warnings.getvalue()

    return run


def test_the_page_shows_the_ledger(build: Callable[[str], tuple[Path, str]], claims: list[Claim]) -> None:
    out, warnings = build(FILE.read_text())
    assert [line for line in warnings.splitlines() if re.search(r"the ledger|no claim|'claims'", line)] == []
    page = (out / "book" / "claims.html").read_text()
    sums, table = re.findall(r'<table class="[^"]*claims.*?</table>', page, re.DOTALL)

    text = re.sub(r"<[^>]+>", " ", sums)
    for verdict, number in counts(claim for claim in claims if not claim.ours).items():
        assert re.search(rf"\b{verdict}\s+{number}\s", text), verdict
    assert re.search(rf"together\s+{sum(not claim.ours for claim in claims)}\s", text)

    rows = dict(re.findall(r'<tr class="[^"]*" id="claim-([\w-]+)">(.*?)</tr>', table, re.DOTALL))
    assert list(rows) == [claim.id for claim in claims]
    for claim in claims:
        plain = " ".join(re.sub(r"<[^>]+>", "", rows[claim.id]).split())
        assert f"verdict-{claim.verdict.replace(' ', '-')}" in rows[claim.id]
        assert re.search(rf"\S {claim.verdict}\b", plain)  # a sign and the word, not colour alone
        assert "holds when: " in plain and "because: " in plain and "evidence: " in plain
        links = re.findall(r'href="([^"]+)"', rows[claim.id])
        assert links, claim.id
        for link in links:
            file, _, anchor = link.partition("#")
            target = (out / "book" / file).resolve()
            assert target.exists() and (not anchor or f'id="{anchor}"' in target.read_text()), link
    assert not re.search(r"(?:href|src)=\"https?://", table)

    assert page.count("claims_ledger.js") == 1 and (out / "_static" / "claims" / "claims_ledger.js").exists()
    chapter = (out / "notebooks" / "20_lambda.html").read_text()
    assert "claims_ledger.js" not in chapter and "claims_ledger.css" in chapter
    listed = re.findall(r'href="\.\./book/claims\.html#claim-([\w-]+)"', chapter)
    assert listed == [claim.id for claim in claims if claim.chapter == "20_lambda"]
    assert "the book's own parameters" in chapter.replace("’", "'")


def test_a_verdict_that_the_tables_do_not_give_breaks_the_build(build: Callable[[str], tuple[Path, str]]) -> None:
    text = FILE.read_text()
    start = text.index("- id: v2-figures")
    at = text.index("  verdict: ", start)
    wrong = next(verdict for verdict in VERDICTS if not text[at:].startswith(f"  verdict: {verdict}\n"))
    wrong = "fails" if not text[at:].startswith("  verdict: fails") else wrong
    _, warnings = build(text[:at] + f"  verdict: {wrong}\n" + text[text.index("\n", at) + 1 :])
    assert f"v2-figures: the ledger says '{wrong}'" in warnings
