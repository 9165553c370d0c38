"""Exercises in the built pages: forms that grade from the keyboard, without a network, as the notebooks do."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from evidence.exercises import MIME, RIGHT
from tools.notebook import NOTEBOOKS

CHAPTERS = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
TYPED = ("10_linear_geometry", "40_high_dimension", "61_strength_map")
"""Chapters in whose forms the gate types every answer. One script grades them all; `make test-all` types into the rest."""


def asked(chapter: Any) -> dict[str, list[dict[str, Any]]]:
    """The questions of a chapter's exercises as its run left them, by cell."""
    return {
        cell.id: output.data[MIME]
        for cell in chapter.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    }


def test_solutions_are_right_and_every_hint_can_be_reached(executed: dict[str, Any]) -> None:
    for name, chapter in executed.items():
        cells = {cell.id: cell for cell in chapter.cells}
        forms = asked(chapter)
        assert len([cell for cell in cells if re.fullmatch(r"exercise-\d-answer", cell)]) >= 2 and forms, name
        for cell, questions in forms.items():
            texts = [output.get("text", "") for output in cells[cell.replace("answer", "solution")].outputs]
            assert RIGHT in "".join(texts) and "Not yet" not in "".join(texts), f"{name}: {cell}"
            for question in (question for question in questions if "cases" in question):
                for value, _, said in question["cases"]:
                    first = next(text for v, tolerance, text in question["cases"] if abs(v - value) <= tolerance)
                    assert first == said, f"{name}: {cell}: {value}"


def open_page(browser: Any, html: Path, chapter: str, **options: Any) -> Any:
    """A page from the file system, and a list of what it asks for elsewhere or complains of."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, **options)
    tab = context.new_page()
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or pytest.fail(request.url))
    tab.on("pageerror", lambda error: pytest.fail(str(error)))
    tab.goto((html / "notebooks" / f"{chapter}.html").as_uri(), wait_until="domcontentloaded")
    tab.locator("details.exercises > summary").focus()
    tab.keyboard.press("Enter")
    return tab


def type_into(tab: Any, fields: Any, texts: list[str]) -> list[str]:
    """By keyboard alone: from the first field with the tabulator to the last, and Enter; what is said of each."""
    fields.first.focus()
    for n, text in enumerate(texts):
        if n:
            tab.keyboard.press("Tab")
        tab.keyboard.press("Control+A")
        tab.keyboard.press("Delete")
        tab.keyboard.insert_text(text)
    tab.keyboard.press("Enter")
    return fields.first.locator("xpath=ancestor::form").locator("output[role=status][aria-live]").all_inner_texts()


def choose(tab: Any, form: Any, n: int) -> str:
    """By keyboard alone: from one radio button to the next, then the button."""
    form.get_by_role("radio").first.focus()
    tab.keyboard.press("Space")
    for _ in range(n):
        tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "BUTTON"
    tab.keyboard.press("Space")
    return str(form.get_by_role("status").inner_text())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in TYPED else pytest.mark.long) for name in CHAPTERS]
)
def test_forms_grade_as_the_notebook_does(browser: Any, html: Path, executed: dict[str, Any], name: str) -> None:
    tab = open_page(browser, html, name)
    forms = asked(executed[name])
    assert tab.locator(".exercise form").count() == len(forms)
    for cell, questions in forms.items():
        form = tab.get_by_role("form", name=" ".join(cell.split("-")[:2]).capitalize(), exact=True)
        assert form.bounding_box()["width"] <= 390
        if "options" in questions[0]:
            (question,) = questions
            form.get_by_role("button").press("Enter")
            assert form.get_by_role("status").inner_text() == question["unread"]
            for n, said in enumerate(question["said"]):
                assert choose(tab, form, n) == said
            continue
        fields = form.get_by_role("textbox")
        for question, field in zip(questions, fields.all(), strict=True):
            assert field.evaluate("field => field.labels[0].innerText").strip() == question["label"]
        names = [f"{question['label']}: " if len(questions) > 1 else "" for question in questions]
        rights = [repr(question["cases"][0][0]) for question in questions]
        assert type_into(tab, fields, rights) == [f"{label}{RIGHT}" for label in names]
        for n, question in enumerate(questions):
            answers = {repr(value): said for value, _, said in question["cases"]}
            answers |= {nonsense: question["unread"] for nonsense in ("", "ten", "1/0", "1/2/3", "0x10")}
            value = question["cases"][0][0]
            answers |= {f"{value:.17f}".replace(".", ","): RIGHT, f" {value * 3!r} / 3 ": RIGHT}
            if question["least"] == 0:
                answers["−1"] = question["outside"]
            for text, said in answers.items():
                assert type_into(tab, fields, [*rights[:n], text, *rights[n + 1 :]])[n] == names[n] + said, text
    tab.context.close()


def test_answers_cannot_be_read_at_a_glance(html: Path, executed: dict[str, Any]) -> None:
    for name, chapter in executed.items():
        page = (html / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        for question in itertools.chain(*asked(chapter).values()):
            hints = question.get("said") or [question["otherwise"], *(said for _, _, said in question["cases"])]
            assert [hint for hint in hints if hint in page and hint not in (RIGHT, "Not yet.")] == [], name


def test_without_javascript_the_question_and_its_folded_solution_stay(browser: Any, html: Path) -> None:
    tab = open_page(browser, html, CHAPTERS[1], java_script_enabled=False)
    assert tab.locator(".exercise").count() >= 1
    assert tab.locator(".exercise form, .exercise :text('Check')").count() == 0
    solution = tab.locator("details.hide", has_text="Solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    tab.context.close()
