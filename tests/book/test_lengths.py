"""Limits of what a reader has to scroll past: visible code in a cell and words of a chapter; test_book.py has screens."""

import re
import statistics
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BOXED = [
    path for path in sorted((ROOT / "book").glob("*.md")) if "{admonition} In short" in path.read_text(encoding="utf-8")
]
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
LINES = 15  # of one visible cell
MEDIAN = 11  # of the visible cells of a chapter
LOOPS = {("60_lai_training", "loop-by-hand")}  # a training loop is shown as a whole
WORDS = 4000  # of a chapter's prose
SENTENCES = 3  # of the box at the head of a page, not counting what a program puts there


def visible(path: Path) -> dict[str, int]:
    """Lines of code by cell, of the cells that are not folded; the parameters are not counted."""
    cells = nbformat.read(path, as_version=4).cells
    return {
        cell.id: len(cell.source.splitlines())
        for cell in cells
        if cell.cell_type == "code" and not {*FOLDED, "parameters"} & set(cell.metadata.get("tags", []))
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_visible_cells_are_short(path: Path) -> None:
    lines = visible(path)
    assert {name: n for name, n in lines.items() if n > LINES and (path.stem, name) not in LOOPS} == {}
    assert statistics.median(lines.values() or [0]) <= MEDIAN


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_begins_with_its_answer_and_its_first_visible_code_is_no_machinery(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    title = cells[0].source
    assert title.split("\n")[2] == ":::{admonition} In short"
    assert len(title.split(":::")[1].split()) <= 130
    first = next(iter(visible(path)), None)
    source = next((cell.source for cell in cells if cell.get("id") == first), "")
    assert not source.startswith(("import ", "from ")) and "glue(" not in source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_can_be_read_in_one_sitting(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown") <= WORDS


def sentences(text: str) -> int:
    """What stands in the box of a page's head, typed or generated, ends in so many full stops, question or exclamation marks."""
    box = text.split("{admonition} In short\n:class: tip\n")[1].split("\n:::")[0]
    said = re.sub(r"<!--.*?-->|```.*?```", "", box, flags=re.DOTALL)
    return len(re.findall(r"[.?!](?=\s|$)", said))


@pytest.mark.parametrize("path", NOTEBOOKS + BOXED, ids=lambda path: path.stem)
def test_the_answer_at_the_head_of_a_page_is_of_three_sentences_at_most(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert sentences(nbformat.reads(text, 4).cells[0].source if path in NOTEBOOKS else text) <= SENTENCES


def test_a_decimal_point_ends_no_sentence() -> None:
    box = "# Title\n\n:::{admonition} In short\n:class: tip\nOf 2.5 {glue:text}`x:.3f` is `lai.fit`. One\nmore.\n\n"
    box += "<!-- advice -->\n\nA. B. C.\n\n<!-- end advice -->\n\n:::\nText. Text."
    assert sentences(box) == 5
