"""Mend what the theme and pandas leave in the finished pages: table headers without text, and a second heading of the first order.

A corner cell of a table that pandas made is a header of nothing, so it becomes an ordinary cell. The theme writes the title once more,
for print; it keeps its look there and is no heading.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

EMPTY_HEADER = re.compile(r"<th(?: [^>]*)?>\s*(?:<p>\s*</p>)?\s*</th>")
PRINTED_TITLE = re.compile(r'(id="jb-print-docs-body"[^>]*>\s*)<h1>(.*?)</h1>', re.DOTALL)


def mend(html: str) -> str:
    return PRINTED_TITLE.sub(r'\1<p class="printed-title">\2</p>', EMPTY_HEADER.sub("<td></td>", html))


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            html = path.read_text(encoding="utf-8")
            if (mended := mend(html)) != html:
                path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
