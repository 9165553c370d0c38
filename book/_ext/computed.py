"""``{computed} name``: a part of a page that `tools.health` computes when the book is built."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from tools import health


class Computed(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # it depends on more than files
        return self.parse_text_to_nodes(health.page(self.arguments[0], Path(self.env.srcdir) / "book"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("computed", Computed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
