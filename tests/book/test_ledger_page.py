"""The ledger's page: it shows every claim, its links lead somewhere, and a false verdict breaks the build."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from small_books import build_book

from evidence.ledger.claims import (
    VERDICTS,
    Claim,
    counts,
    load_ledger,
)

ROOT = Path(__file__).parents[2]
FILE = ROOT / "book" / "claims.yml"
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    return load_ledger(FILE)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_lists_its_claims(path: Path) -> None:
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert re.findall(r"^```\{claims\} (\S+)$", prose, re.MULTILINE) == [path.stem]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """The page, and the chapters if they are wanted, with a ledger that may have been changed; the folder and the warnings."""

    def bare(path: Path) -> dict[str, Any]:
        """What the page needs of a chapter: titles, cells, the list."""
        notebook: dict[str, Any] = json.loads(path.read_text())
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                cell["source"], cell["outputs"] = "1", []
            elif "{claims}" not in source:
                cell["source"] = source.splitlines()[0] if source.startswith("# ") else ""
        return notebook

    def run(ledger_text: str, *, chapters: bool = True) -> tuple[Path, str]:
        source, out = tmp_path / "source", tmp_path / "html"
        shutil.copytree(ROOT / "book" / "results", source / "book" / "results")
        (source / "notebooks").mkdir()
        for path in CHAPTERS:
            (source / "notebooks" / path.name).write_text(json.dumps(bare(path)))
        (source / "book" / "claims.yml").write_text(ledger_text)
        directives = "```{claims-counts}\n```\n\n```{claims-table}\n```\n"
        (source / "book" / "claims.md").write_text(f"# Ledger\n\n{directives}")
        pages = "\n".join(f"notebooks/{path.stem}" for path in CHAPTERS) if chapters else ""
        (source / "index.md").write_text(f"# Front\n\n```{{toctree}}\nbook/claims\n{pages}\n```\n")
        settings = {
            "extensions": ["myst_nb", "claims_ledger"],
            "nitpicky": True,
            "numfig": True,
            "exclude_patterns": [] if chapters else ["notebooks"],
        }
        return out, build_book(source, out, nb_output_stderr="remove", **settings)

    return run


def test_the_page_shows_the_ledger(build: Callable[..., tuple[Path, str]], claims: list[Claim]) -> None:
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

    assert page.count("claims_ledger.js") == 1 and (out / "_static" / "claims_ledger.js").exists()
    chapter = (out / "notebooks" / "20_lambda.html").read_text()
    assert "claims_ledger.js" not in chapter and "claims_ledger.css" in chapter
    listed = re.findall(r'href="\.\./book/claims\.html#claim-([\w-]+)"', chapter)
    own = [claim for claim in claims if claim.chapter == "20_lambda"]
    assert listed == [claim.id for claim in own]
    (summary,) = re.findall(r'<details class="fold"><summary>(.*?)</summary>', chapter)
    assert summary.startswith(f"{len(own)} claims: {sum(claim.verdict == 'holds' for claim in own)} hold")
    assert sum(map(int, re.findall(r"\d+", summary.split(":")[1]))) == len(own)
    assert "the book's own parameters" in chapter.replace("’", "'")


def test_a_verdict_that_the_tables_do_not_give_breaks_the_build(build: Callable[..., tuple[Path, str]]) -> None:
    text = FILE.read_text()
    start = text.index("- id: v2-figures")
    at = text.index("  verdict: ", start)
    wrong = next(verdict for verdict in VERDICTS if not text[at:].startswith(f"  verdict: {verdict}\n"))
    wrong = "fails" if not text[at:].startswith("  verdict: fails") else wrong
    _, warnings = build(text[:at] + f"  verdict: {wrong}\n" + text[text.index("\n", at) + 1 :], chapters=False)
    assert f"v2-figures: the ledger says '{wrong}'" in warnings
