"""book/_ext/folds.py: what is beside the point is folded, opens by keyboard and by links, and is nowhere lost."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from small_books import build_book, notebook

from evidence.exercises import MIME
from tools.notebook import NOTEBOOKS

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
QUESTION = {"label": "Answer", "cases": [[1.0, 0.1, "Right."]], "otherwise": "", "unread": "", "outside": ""}
FORM = new_output("display_data", data={MIME: [QUESTION], "text/plain": "a form"})
PAGE = (
    "# Page\n\n## Aside\n\nBefore.\n\n```{fold} More & <less>\n```\n\nFirst.\n\n```{fold} Even more\n```\n\nSecond.\n\n### Below\n\n"
    "Third.\n\n## Next\n\nAfter.\n\n## Exercises\n\n(anchor)=\n**1. One.** What is it?"
)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Build a page with folds in one kind of output; what it says, and the warnings."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Front\n\n```{toctree}\npage\n```\n")
    cells = [new_markdown_cell(PAGE, id="title")]
    cells.append(new_code_cell("exercise_1", id="exercise-1-answer", outputs=[FORM], execution_count=1))
    cells.append(new_markdown_cell("**2.** (Open.) And this?\n\n**Note** that it is no exercise.", id="exercise-2"))
    (source / "page.ipynb").write_text(notebook(*cells))

    def run(builder: str, ending: str) -> tuple[str, str]:
        out = tmp_path / builder
        warnings = build_book(source, out, builder, extensions=["myst_nb", "exercises", "folds"])
        name = "*" if builder == "latex" else "page"
        return "\n".join(file.read_text() for file in out.glob(f"{name}.{ending}")), warnings

    return run


def test_a_fold_reaches_to_the_next_or_to_the_end_of_its_section(build: Callable[..., tuple[str, str]]) -> None:
    page, warnings = build("html", "html")
    assert warnings == "" and 'src="_static/folds.js' in page
    soup = BeautifulSoup(page, "html.parser")
    folds = soup.select("section > details.fold")
    said = [fold.get_text(" ", strip=True) for fold in folds]
    assert [fold.summary.get_text() for fold in folds] == [
        "More & <less>",
        "Even more",
        "2 exercises, 1 of them graded on this page",
    ]
    assert "First." in said[0] and "Second." not in said[0] and "Before." not in said[0]
    assert "Second." in said[1] and "Third." in said[1] and "After." not in "".join(said)
    assert folds[2].select(".exercise") and folds[2].select("#anchor") and "no exercise" in said[2]
    assert [heading.find_parent("details") for heading in soup.select("h2")] == [None] * 3
    assert soup.select('a[href="#exercises"]')


@pytest.mark.parametrize(("builder", "ending"), [("latex", "tex"), ("text", "txt"), ("epub", "xhtml")])
def test_elsewhere_everything_is_there(build: Callable[..., tuple[str, str]], builder: str, ending: str) -> None:
    text, warnings = build(builder, ending)
    assert all("mime_priority" in line for line in warnings.splitlines() if "page.ipynb" in line)  # of the form
    assert all(
        word in text for word in ("Before.", "First.", "Second.", "Third.", "After.", "What is it?", "And this?")
    )
    assert ("details" in text) == (builder == "epub")


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercises_are_folded_and_counted(html: Path, executed: dict[str, Any], name: str) -> None:
    page = BeautifulSoup((html / "notebooks" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    (section,) = page.select("section#exercises")
    (fold,) = section.select(":scope > details.exercises")
    assert [child.name for child in section.find_all(recursive=False)] == ["h2", "details"]
    assert page.select('.bd-sidebar-secondary a[href="#exercises"]')
    cells = executed[name].cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown").split("## Exercises")[1]
    n = len(re.findall(r"^\*\*\d\.", text, re.MULTILINE))
    forms = sum(MIME in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    graded = "all" if forms == n else forms
    assert fold.summary.get_text() == f"{n} exercises, {graded} of them graded on this page"
    assert len(fold.select(".exercise")) == forms == len(page.select(".exercise"))


@pytest.mark.parametrize("scripts", [True, False])
def test_a_fold_opens_by_keyboard(browser: Any, html: Path, scripts: bool) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    tab = context.new_page()
    tab.goto((html / "notebooks" / "75_robustness.html").as_uri(), wait_until="domcontentloaded")
    first = tab.locator("#exercises p").first
    assert tab.locator("#exercises h2").is_visible() and not first.is_visible()
    tab.locator("details.exercises > summary").focus()
    tab.keyboard.press("Enter")
    assert first.is_visible()
    context.close()


def test_a_link_opens_what_it_leads_into(browser: Any, site: str) -> None:
    """At once, and from within the page; a link within a link's fold, too."""
    tab = browser.new_page()
    complaints: list[str] = []
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    page = f"{site}notebooks/50_limitations.html"
    tab.goto(f"{page}#cell-verdict-excess", wait_until="load")
    cell = tab.locator("#cell-verdict-excess")
    cell.wait_for(state="visible")
    assert abs(cell.bounding_box()["y"]) < tab.viewport_size["height"]
    assert not tab.locator("#cell-exercise-1-answer").is_visible()
    tab.evaluate("location.hash = '#cell-exercise-1-answer'")
    tab.locator("#cell-exercise-1-answer").wait_for(state="visible")
    tab.evaluate("location.hash = '#nowhere'")
    assert complaints == []
    tab.close()


def test_our_own_script_opens_it_where_the_browser_does_not(browser: Any, site: str) -> None:
    """Chromium opens folds by itself: here the script finds one that was closed again."""
    tab = browser.new_page()
    tab.goto(f"{site}notebooks/50_limitations.html#cell-verdict-excess", wait_until="load")
    cell = tab.locator("#cell-verdict-excess")
    cell.wait_for(state="visible")
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
    assert not cell.is_visible()
    tab.evaluate("window.dispatchEvent(new HashChangeEvent('hashchange'))")
    assert cell.is_visible()
    tab.close()


def test_on_paper_folds_are_open(browser: Any, site: str) -> None:
    tab = browser.new_page()
    tab.goto(f"{site}notebooks/75_robustness.html", wait_until="load")
    tab.emulate_media(media="print")
    assert tab.locator("#exercises p").first.is_visible()
    assert not tab.locator("details.exercises > summary").is_visible()
    tab.close()
