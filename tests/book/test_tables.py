"""book/_ext/tables.py: tables that cells end with have a numbered caption, and none that a reader meets is without one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from small_books import build_book, notebook

from tools.notebook import NOTEBOOKS

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
TABLE = new_output(
    "execute_result",
    data={"text/html": '<table class="dataframe"><tr><td>7</td></tr></table>', "text/plain": "7"},
    execution_count=1,
)
PRINTED = new_output("stream", name="stdout", text="printed\n")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Build a numbered chapter with three tables, the first two with captions, in one kind of output; what it says, and the warnings."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Front\n\n```{toctree}\n:numbered:\npage\n```\n")

    def run(builder: str, ending: str, first: list[Any]) -> tuple[str, str]:
        about: list[dict[str, Any]] = [{"caption": "The <first>.", "name": "tab-one"}, {"caption": "The second."}]
        cells = [new_markdown_cell("# Page\n\nSee {numref}`tab-one`.", id="title")]
        for i, (outputs, metadata) in enumerate(
            [(first, {"mystnb": {"table": about[0]}}), ([TABLE], {"mystnb": {"table": about[1]}}), ([TABLE], {})]
        ):
            cells.append(new_code_cell("x", id=f"cell-{i}", outputs=outputs, metadata=metadata, execution_count=1))
        (source / "page.ipynb").write_text(notebook(*cells))
        out = tmp_path / builder
        warnings = build_book(source, out, builder, extensions=["myst_nb", "tables"], numfig=True, nitpicky=True)
        name = "*" if builder == "latex" else "page"
        return "\n".join(file.read_text() for file in out.glob(f"{name}.{ending}")), warnings

    return run


def test_tables_are_numbered_by_chapter_and_can_be_referred_to(build: Callable[..., tuple[str, str]]) -> None:
    page, warnings = build("html", "html", [PRINTED, TABLE])
    assert warnings == ""
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.select("table.dataframe")) == 3
    figures = soup.select("figure.captioned-table")
    assert [re.sub(r"\s+|[¶#]$", " ", figure.figcaption.get_text()).strip() for figure in figures] == [
        "Table 1.1 The <first>.",
        "Table 1.2 The second.",
    ]
    for figure in figures:
        assert [child.name for child in figure.find_all(recursive=False)][0] == "figcaption"  # above the table
        assert len(figure.select("table")) == 1 and "printed" not in figure.get_text()
    (link,) = soup.select("a[href='#tab-one']:not(.headerlink)")
    assert link.get_text() == "Table 1.1" and figures[0]["id"] == "tab-one"


@pytest.mark.parametrize(("builder", "ending"), [("latex", "tex"), ("text", "txt"), ("epub", "xhtml")])
def test_elsewhere_the_caption_is_there(build: Callable[..., tuple[str, str]], builder: str, ending: str) -> None:
    text, _ = build(builder, ending, [TABLE])
    assert "first" in text and "The second." in text and text.count("7") >= 3


@pytest.mark.parametrize("outputs", [[], [PRINTED], [TABLE, TABLE]])
def test_a_caption_belongs_to_one_table(build: Callable[..., tuple[str, str]], outputs: list[Any]) -> None:
    with pytest.raises(Exception, match=rf"'The <first>.' has {outputs.count(TABLE)} tables"):
        build("html", "html", outputs)


def open_tables(name: str) -> dict[str, dict[str, Any]]:
    """Metadata of the cells that end with a table which is not folded, by the cell's name."""
    found, folded = {}, False
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():  # a fold reaches to the end of its section
                folded = line.startswith("```{fold}") or (folded and not line.startswith("#"))
        elif not folded and not {"hide-cell", "hide-output", "remove-cell", "remove-output"} & {
            *cell.metadata.get("tags", [])
        }:
            if any("<table" in output.get("data", {}).get("text/html", "") for output in cell.get("outputs", [])):
                found[cell.id] = cell.metadata
    return found


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_open_table_has_a_caption(name: str) -> None:
    captions = {
        cell: metadata.get("mystnb", {}).get("table", {}).get("caption", "")
        for cell, metadata in open_tables(name).items()
    }
    assert [cell for cell, caption in captions.items() if not caption.endswith(".")] == []
    assert len(set(captions.values())) == len(captions)
    assert captions or name < "70"
