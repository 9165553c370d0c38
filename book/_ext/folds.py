"""Fold what is beside the point: the exercises of a chapter, and the rest of a section from ``{fold} summary`` on.

The heading stays where it is, so that contents and links find it; what follows it up to the section's end is in an element that unfolds
without JavaScript. folds.js opens what a link leads into. Where a builder makes no HTML, and on paper, everything is unfolded.
"""

import html
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

EXERCISES = "Exercises"
NUMBER = re.compile(r"\d+\.")
FORM = '<div class="exercise"'


def opening(summary: str, *classes: str, closed: bool = False) -> nodes.raw:
    """Where a fold begins; it is ``closed`` if its end is put in place along with it, else :func:`fold` does so."""
    start = f'<details class="{" ".join(("fold", *classes))}"><summary>{html.escape(summary)}</summary>'
    return nodes.raw("", start, format="html", fold="closed" if closed else "open")


def closing() -> nodes.raw:
    return nodes.raw("", "</details>", format="html")


def folded(summary: str, *inside: nodes.Node) -> list[nodes.Node]:
    return [opening(summary, closed=True), *inside, closing()]


def is_opening(node: nodes.Node) -> bool:
    return isinstance(node, nodes.raw) and "fold" in node


class Fold(SphinxDirective):
    """``{fold} summary``: what follows, up to the end of the section or to the next one of these."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [opening(self.arguments[0])]


def counted(section: nodes.section) -> str:
    """How many exercises there are, and how many of them the page itself grades."""
    paragraphs = [one for one in section.children if isinstance(one, nodes.paragraph)]
    first = [
        next((part for part in one.children if part.astext()), None) for one in paragraphs
    ]  # MyST begins with an empty text
    n = sum(isinstance(one, nodes.strong) and bool(NUMBER.match(one.astext())) for one in first)
    graded = sum(raw.astext().startswith(FORM) for raw in section.findall(nodes.raw))
    return f"{n} exercises, {'all' if graded == n else graded or 'none'} of them graded on this page"


def fold(app: Sphinx, doctree: nodes.document) -> None:
    """Put the exercises of a chapter into a fold, and an end to each fold that a directive has begun."""
    for section in doctree.findall(nodes.section):
        title = section.next_node(nodes.title)
        if title is not None and title.parent is section and title.astext() == EXERCISES:
            section.insert(section.index(title) + 1, opening(counted(section), "exercises"))
    for start in [node for node in doctree.findall(nodes.raw) if node.get("fold") == "open"]:
        around = start.parent
        after = range(around.index(start) + 1, len(around))
        around.insert(next((i for i in after if is_opening(around[i])), len(around)), closing())


def load_script(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if "<details" in context.get("body", ""):
        app.add_js_file("folds.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("fold", Fold)
    app.connect("doctree-read", fold)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
