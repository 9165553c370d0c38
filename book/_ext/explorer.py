"""``{explorer}``: the saved sweep over λ, α and protocol with two sliders and a choice.

The page has all numbers in it and explorer.js draws them, so that nothing is computed or fetched there. Without JavaScript and on
paper the static figure that stands above it says the same.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from evidence.figures.explorer import explorer_data

MARK = '<div class="explorer"'


def as_html(data: dict[str, Any]) -> str:
    """The element that explorer.js fills; nothing in the data can end the script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'{MARK} role="group" aria-label="Explorer of the saved sweep">'
        '<p class="explorer-without">The sliders need JavaScript. The figure above and the table below have the same results.</p>'
        f'<script type="application/json">{text}</script></div>'
    )


def read(results: Path) -> dict[str, Any]:
    return explorer_data(pd.read_csv(results / "explorer.csv"), pd.read_csv(results / "explorer_curves.csv"))


class Explorer(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        results = Path(self.env.srcdir) / "book" / "results"
        for name in ("explorer.csv", "explorer_curves.csv"):
            self.env.note_dependency(str(results / name))
        return [nodes.raw("", as_html(read(results)), format="html")]


def load_script(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is not None and any(node.astext().startswith(MARK) for node in doctree.findall(nodes.raw)):
        app.add_js_file("explorer.js", loading_method="defer")
        app.add_css_file("explorer.css")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
