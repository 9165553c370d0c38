"""Interactive figures from the book itself: plotly's script and ours, on pages that have a figure and only there.

A cell that ends with a figure of `evidence.figures.interactive` has two outputs, the figure and the image that matplotlib drew: its
static twin. The two become one figure with one caption. Web pages get both, and offline_plotly.js hides the image once
the other is drawn; paper, e-books and readers without JavaScript or WebGL see the image.
"""

import html
import importlib.util
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

PLOTLY = "application/vnd.plotly.v1+json"
MARK = '<div class="interactive"'
LOGGER = logging.getLogger(__name__)


def plotly_script() -> Path:
    package = importlib.util.find_spec("plotly")
    if package is None or package.origin is None:
        raise ExtensionError("the package plotly is not installed; `make env` installs it")
    return Path(package.origin).parent / "package_data" / "plotly.min.js"


def as_html(figure: dict[str, Any]) -> str:
    """The figure as an element that offline_plotly.js fills; nothing in it can end the script element."""
    layout = {name: value for name, value in figure["layout"].items() if name not in ("sliders", "updatemenus")}
    kept = {"data": figure["data"], "layout": layout, "frames": figure.get("frames", [])}
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    alt = html.escape(layout["meta"]["alt"])
    return (
        f'{MARK} role="group" aria-label="Interactive figure">'
        f'<div class="interactive-plot" role="figure" aria-label="{alt}"></div>'
        f'<script type="application/json">{text}</script></div>'
    )


def join_twins(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make one output, in several formats, of an interactive figure and the image of its cell."""
    if not str(app.env.doc2path(docname)).endswith(".ipynb") or PLOTLY not in source[0]:
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        figures = [output for output in outputs if PLOTLY in output.get("data", {})]
        images = [output for output in outputs if any("image/" in kind for kind in output.get("data", {}))]
        if not figures:
            continue
        where = f"cell {cell.get('id', '')!r}"
        if len(figures) > 1 or len(images) != 1:
            found = f"{len(figures)} interactive figures and {len(images)} images"
            LOGGER.warning("%s has %s; it must have one of each", where, found, location=docname)
        meta = figures[0]["data"][PLOTLY].get("layout", {}).get("meta", {})
        if not meta.get("alt", "").strip() or "controls" not in meta:
            LOGGER.warning(
                "%s has a plotly figure that evidence.figures.interactive did not make", where, location=docname
            )
            figures[0]["data"][PLOTLY]["layout"]["meta"] = {"alt": "", "controls": [], **meta}
        into = images[0] if images else figures[0]
        into["data"]["text/html"] = as_html(figures[0]["data"][PLOTLY])
        cell["outputs"] = [output for output in outputs if output is into or output not in figures]
        for output in figures:
            output["data"].pop(PLOTLY)
    source[0] = json.dumps(notebook)


def is_figure(node: nodes.Node) -> bool:
    return isinstance(node, nodes.raw) and node.astext().startswith(MARK)


class PlaceTwins(SphinxPostTransform):
    """Web pages get the figure followed by its image; everything else the image alone."""

    default_priority = 3  # myst-nb chooses one format of each output at 4

    def run(self, **kwargs: Any) -> None:
        for raw in [node for node in self.document.findall(nodes.raw) if is_figure(node)]:
            bundle = raw.parent.parent
            images = list(bundle.findall(nodes.image))
            if not images:
                continue
            if self.app.builder.name in ("html", "dirhtml", "singlehtml"):
                raw["classes"] = []
                for image in images:
                    image["classes"].append("static-twin")
                bundle.replace_self([raw, *images])
            else:
                bundle.remove(raw.parent)


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if doctree is not None and any(is_figure(node) for node in doctree.findall(nodes.raw)):
        app.add_js_file("offline_plotly.js", loading_method="defer")
        app.add_css_file("offline_plotly.css")


def copy_plotly(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    (Path(app.outdir) / "_static" / plotly_script().name).write_bytes(plotly_script().read_bytes())


def setup(app: Sphinx) -> dict[str, bool]:
    plotly_script()  # fail at the start of a build, not at its end
    app.connect("source-read", join_twins)
    app.add_post_transform(PlaceTwins)
    app.connect("html-page-context", load_scripts)
    app.connect("build-finished", copy_plotly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
