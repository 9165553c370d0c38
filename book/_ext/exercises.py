"""Forms for the exercises that grade: what `evidence.exercises` put into a cell's output becomes a place that exercises.js fills.

Without JavaScript, and on paper, nothing is there: the question stands above and its solution is folded below. What a form needs to
grade is in the page, in a code that nobody reads by accident; nothing is sent anywhere.
"""

import base64
import json
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from evidence.exercises import MIME

MARK = '<div class="exercise"'


def as_html(questions: list[dict[str, Any]], cell: str) -> str:
    """A cell's questions as an element; ``cell`` is the cell's id, such as exercise-2-answer."""
    code = base64.b64encode(json.dumps(questions).encode()).decode()
    name = " ".join(cell.split("-")[:2]).capitalize()
    return f'{MARK} data-name="{name}" data-questions="{code}"></div>'


def make_forms(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give each exercise its form's place, in the notebook as it is read."""
    if not str(app.env.doc2path(docname)).endswith(".ipynb") or MIME not in source[0]:
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if questions := output.get("data", {}).get(MIME):
                output["data"] = {"text/html": as_html(questions, cell["id"])}
    source[0] = json.dumps(notebook)


def load_script(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if MARK in context.get("body", ""):
        app.add_js_file("exercises.js", loading_method="defer")
        app.add_css_file("exercises.css")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", make_forms)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
