"""Small books for the tests of book/_ext: a few pages, built with some of the extensions."""

import io
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_notebook
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

BOOK = Path(__file__).parents[2] / "book"


def notebook(*cells: nbformat.NotebookNode) -> str:
    """The file of a notebook."""
    return nbformat.writes(new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}))


def build_book(source: Path, out: Path, builder: str = "html", *, parallel: int = 1, **settings: Any) -> str:
    """Build the pages in ``source`` with these settings of Sphinx; the warnings."""
    settings = {"html_static_path": [str(BOOK / "_static")], "nb_execution_mode": "off", **settings}
    trees, warnings = out.with_name(f"{out.name}-trees"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, patch_docutils(), docutils_namespace():
        patch.syspath_prepend(str(BOOK / "_ext"))
        patch.setattr(sys, "dont_write_bytecode", True)
        Sphinx(source, None, out, trees, builder, settings, None, warnings, parallel=parallel).build()
    return warnings.getvalue()
