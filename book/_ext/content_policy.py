"""A Content-Security-Policy in every finished page: it may use the site's own files, and the scripts that the theme writes into it.

A page's inline scripts and handlers are allowed one by one, by their hashes, so that nothing that gets into a page later runs. `file:`
is for readers who open the pages without a server. Solid figures need WebGL shaders that plotly compiles as functions, hence
`unsafe-eval`, on the pages that have interactive figures and nowhere else. Styles stay open: mathematics and figures are full of them.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from pathlib import Path

from sphinx.application import Sphinx

INLINE = re.compile(r"<script(?![^>]*\b(?:src|type)=)[^>]*>(.*?)</script>", re.DOTALL)
HANDLER = re.compile(r'<\w[^>]*\son\w+="([^"]*)"')
CHARSET = re.compile(r'<meta charset="utf-8"\s*/?>', re.IGNORECASE)
OWN = "'self' file:"
OTHERS = (
    f"default-src 'none'; style-src {OWN} 'unsafe-inline'; img-src {OWN} data: blob:; font-src {OWN} data:; "
    f"connect-src {OWN}; form-action {OWN}; base-uri 'none'"
)


def allowed(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def guard(page: str, handlers: Iterable[str]) -> str:
    """The page with what it may load and run in its head; ``handlers`` are those of all pages, as the search reads in others."""
    scripts = [OWN, "'unsafe-hashes'", *sorted({allowed(script) for script in (*INLINE.findall(page), *handlers)})]
    if '<div class="interactive"' in page:
        scripts.append("'unsafe-eval'")
    policy = f"{OTHERS}; script-src {' '.join(scripts)}"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return CHARSET.sub(lambda found: f"{found[0]}\n    {meta}", page, count=1)


def guard_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    pages = {path: path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")}
    handlers = {html.unescape(handler) for page in pages.values() for handler in HANDLER.findall(page)}
    for path, page in pages.items():
        path.write_text(guard(page, handlers), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", guard_pages, priority=900)  # when nothing is written into the pages any more
    return {"parallel_read_safe": True, "parallel_write_safe": True}
