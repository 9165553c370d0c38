"""Mend what the theme, Sphinx and pandas leave in the finished pages, so that a screen reader finds its way.

- A corner cell of a table that pandas made is a header of nothing, so it becomes an ordinary cell.
- The theme writes the title once more, for print; it keeps its look there and is no heading.
- The sidebar is a landmark, in which a chapter's fold of pages is named after it; buttons and what folds away are called by the words that are seen.
- The lines of a long signature are no list of definitions without terms, and references are items of their list.
"""

import re
from pathlib import Path

from sphinx.application import Sphinx

MENDED = (
    (re.compile(r"<th(?: [^>]*)?>\s*(?:<p>\s*</p>)?\s*</th>"), "<td></td>"),
    (
        re.compile(r'(id="jb-print-docs-body"[^>]*>\s*)<h1>(.*?)</h1>', re.DOTALL),
        r'\1<p class="printed-title">\2</p>',
    ),
    (
        re.compile(r'<div (id="pst-primary-sidebar" class="[^"]*")>'),
        r'<div \1 role="complementary" aria-label="The book">',
    ),
    (re.compile(r'<summary aria-label="Toggle hidden content">'), "<summary>"),
    (re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"'), r"\1"),
    (re.compile(r'(<i class="theme-switch[^>]*?) title="[^"]*"'), r"\1"),
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
    (
        re.compile(r'(<li class="[^"]*\bhas-children\b[^"]*"><a [^>]*>)([^<"]+)(</a><details[^>]*><summary)>'),
        r'\1\2\3 aria-label="Pages of: \2">',
    ),
)
SIGNATURE = re.compile(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>")


def mend(html: str) -> str:
    for wrong, right in MENDED:
        html = wrong.sub(right, html)
    return SIGNATURE.sub(
        lambda found: found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>"), html
    )


def mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            html = path.read_text(encoding="utf-8")
            if (mended := mend(html)) != html:
                path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
