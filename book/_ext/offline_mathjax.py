"""Serve MathJax from the book itself, as SVG, so that a page asks the network for nothing.

The files come from the package sphinx-mathjax-offline. Loaded as an extension, that package would
copy all of its 24 MB; these are the parts that a page with SVG output can ask for.
"""

import importlib.util
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# All but the first belong to MathJax's own menu: accessibility, and "show math as MathML". Beside mml3.js is its mml3.sef.json, which
# only Node reads, and which has paths of its author's machine: that stays out.
PARTS = [
    "tex-svg-full.js",
    "input/mml.js",
    "input/mml/extensions/mml3.js",
    "a11y",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
]


def source() -> Path:
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("the package sphinx-mathjax-offline is not installed; `make env` installs it")
    return Path(package.origin).parent / "static" / "mathjax"


def copy_parts(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in PARTS:
        origin = source() / part
        files = [path for path in origin.rglob("*") if path.is_file()] if origin.is_dir() else [origin]
        for file in files:
            copy = target / file.relative_to(source())
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())


def setup(app: Sphinx) -> dict[str, bool]:
    source()  # fail at the start of a build, not at its end
    app.connect("config-inited", lambda app, config: setattr(config, "mathjax_path", "mathjax/tex-svg-full.js"))
    app.connect("build-finished", copy_parts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
