"""The whole book as one document, and as a PDF."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from tools import pdf
from tools.notebook import ToolError

ROOT = Path(__file__).parents[2]
PAGES = pdf.contents(ROOT)


def titles(html: Path) -> list[str]:
    """The heading of every page, without its number and the sign of its link."""
    found = []
    for page in PAGES:
        (text,) = re.findall(r"<h1>.*?</h1>", (html / page).read_text(encoding="utf-8"), re.DOTALL)
        heading = BeautifulSoup(text, "html.parser")
        for extra in heading.select(".section-number, .headerlink"):
            extra.decompose()
        found.append(heading.get_text(" ", strip=True))
    return found


def entries(outline: Sequence[Any]) -> Iterator[str]:
    """The headings of a PDF's outline, of every depth."""
    for entry in outline:
        if isinstance(entry, list):
            yield from entries(entry)
        else:
            yield entry.title


@pytest.fixture(scope="module")
def document(html: Path) -> BeautifulSoup:
    return BeautifulSoup(pdf.whole(html, PAGES), "html.parser")


def test_one_document_has_every_page_once_in_order(html: Path, document: BeautifulSoup) -> None:
    assert [article["id"] for article in document.select("article.bd-article")] == PAGES
    text = [heading.get_text(" ", strip=True) for heading in document.select("article h1")]
    assert len(text) == len(PAGES) and all(title in have for title, have in zip(titles(html), text, strict=True))


def test_ids_are_unique_and_links_lead_to_them(document: BeautifulSoup) -> None:
    ids = [node["id"] for node in document.select("article, article [id]")]
    assert len(set(ids)) == len(ids)
    links = [link["href"] for link in document.select("article a[href]")]
    within = [link[1:] for link in links if link.startswith("#")]
    assert len(within) > 500 and set(within) <= set(ids)
    assert [link for link in links if not link.startswith(("#", "http", "mailto:"))] == []


def test_solutions_are_unfolded_and_what_needs_a_screen_is_left_out(document: BeautifulSoup) -> None:
    folded = document.select("article details.hide")
    assert len(folded) > 50 and all("open" in details.attrs for details in folded)
    beside = document.select("article details.fold")
    assert len(beside) > 50 and all("open" in details.attrs for details in beside)
    (cell,) = document.select("[id$='70_experiments_smoothness.html--cell-feature-table']")
    assert cell.select("table") and "Longitude" in cell.get_text() and "The slope of each feature" in cell.get_text()
    assert not cell.select("details, .cell_input")
    evidence = document.select("article table.claims-ledger details")
    assert len(evidence) > 50 and all("open" in details.attrs for details in evidence)
    assert document.select("article .interactive, article .exercise, article script, article button") == []
    assert len(document.select("article img.static-twin")) >= 4


def test_without_a_browser_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match="needs Chromium"):
        pdf.browser()


def test_a_browser_that_does_not_start_is_one_sentence_and_the_last_pdf_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.pdf").write_text("the last")
    (tmp_path / pdf.WHOLE).parent.mkdir(exist_ok=True)
    monkeypatch.setattr(pdf, "browser", lambda: "/bin/false")
    monkeypatch.setattr(pdf, "whole", lambda *_: "")
    with pytest.raises(ToolError, match="^/bin/false could not print: [^\n]+$"):
        pdf.print_book(tmp_path, [], tmp_path / "book.pdf")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["book.pdf"]
    assert (tmp_path / "book.pdf").read_text() == "the last"


@pytest.mark.long
@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="no Chromium or Chrome on the PATH")
def test_the_pdf_has_every_chapter(html: Path) -> None:
    command, environment = [sys.executable, "-m", "tools.pdf"], {**os.environ, "LAI_DATA": "none"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (html / pdf.WHOLE).exists()
    reader = PdfReader(done.stdout.splitlines()[-1])
    assert len(reader.pages) > 100
    outline = ["".join(entry.split()) for entry in entries(reader.outline)]
    assert [title for title in titles(html) if not any("".join(title.split()) in entry for entry in outline)] == []
    links = [note.get_object() for page in reader.pages for note in page.get("/Annots", [])]
    assert [link for link in links if "file:" in str(link.get("/A", {}).get("/URI", ""))] == []
