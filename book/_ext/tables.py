"""Numbered captions for the tables that cells end with, which MyST-NB gives to pictures only.

A cell says ``"mystnb": {"table": {"caption": "...", "name": "tab-..."}}`` in its metadata; with the name, ``{numref}`` finds the table.
Like figures they are numbered by chapter, through Sphinx's ``numfig``. The caption is plain text and stands above the table.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform


class captioned_table(nodes.figure):  # noqa: N801  # docutils finds the method that writes it by this name, and then by figure's
    """What a cell ends with, under its caption."""


class table_caption(nodes.caption):  # noqa: N801
    """The caption; docutils lets a figure's own caption enclose all that follows it, as its legend."""


def begin_table(writer: Any, node: captioned_table) -> None:
    writer.body.append(writer.starttag(node, "figure"))


def end_table(writer: Any, node: captioned_table) -> None:
    writer.body.append("</figure>\n")


def begin_caption(writer: Any, node: table_caption) -> None:
    writer.body.append("<figcaption>")
    writer.add_fignumber(node.parent)


def end_caption(writer: Any, node: table_caption) -> None:
    writer.body.append("</figcaption>\n")


def is_table(node: nodes.Node) -> bool:
    """Whether it is an output that has a table in one of its forms."""
    if not isinstance(node, nodes.container) or node.get("nb_element") != "mime_bundle":
        return False
    return any("<table" in raw.astext() for raw in node.findall(nodes.raw))


class Captions(SphinxTransform):
    """Put each table of a cell with a caption into a figure of its own kind, before Sphinx collects what can be referred to."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        for cell in list(self.document.findall(nodes.container)):
            about = cell.get("cell_metadata", {}).get("mystnb", {}).get("table")
            if not about:
                continue
            tables = [node for node in cell.findall(is_table)]
            if len(tables) != 1:
                raise ValueError(
                    f"{self.env.docname}: a cell with the caption {about['caption']!r} has {len(tables)} tables"
                )
            (table,) = tables
            figure = captioned_table(classes=["captioned-table"])
            figure.source, figure.line = table.source, table.line
            table.replace_self(figure)
            figure += [table_caption("", about["caption"]), table]
            if "name" in about:
                figure["names"].append(about["name"])
                self.document.note_explicit_target(figure, figure)
            else:  # without an id there is no number
                self.document.set_id(figure, suggested_prefix="table")


def load_script(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if "captioned-table" in context.get("body", ""):
        app.add_js_file("tables.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_enumerable_node(captioned_table, "table", html=(begin_table, end_table))
    app.add_node(table_caption, html=(begin_caption, end_caption))
    app.add_transform(Captions)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
