"""book/_ext/repository.py with the settings of _config.yml: buttons if there is an address, and neither buttons nor trouble if not."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_book.config import get_final_config
from nbformat.v4 import new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

ROOT = Path(__file__).parents[2]
URL = "https://github.com/someone/the-book"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], BeautifulSoup]:
    """A chapter with the theme's options as Jupyter Book makes them of _config.yml and an address."""
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(url: str) -> BeautifulSoup:
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        config["repository"]["url"] = url
        made, _ = get_final_config(user_yaml=config, cli_config={"latex_individualpages": False})
        source, out = tmp_path / "source", tmp_path / "html"
        (source / "notebooks").mkdir(parents=True)
        (source / "index.md").write_text("# Front\n\n```{toctree}\nnotebooks/20_tiny\n```\n")
        notebook = new_notebook(cells=[new_markdown_cell("# Tiny")], metadata={"language_info": {"name": "python"}})
        (source / "notebooks" / "20_tiny.ipynb").write_text(nbformat.writes(notebook))
        settings = {
            "extensions": ["myst_nb", "sphinx_book_theme", "repository"],
            "html_theme": "sphinx_book_theme",
            "html_theme_options": made["html_theme_options"],
            "nb_execution_mode": "off",
        }
        warnings = io.StringIO()
        with patch_docutils(), docutils_namespace():
            Sphinx(source, None, out, tmp_path / "trees", "html", settings, None, warnings).build()
        assert warnings.getvalue() == ""
        return BeautifulSoup((out / "notebooks" / "20_tiny.html").read_text(encoding="utf-8"), "html.parser")

    return run


def test_without_an_address_there_is_no_button(build: Callable[[str], BeautifulSoup]) -> None:
    page = build("")
    assert page.select(".btn-source-repository-button, .dropdown-launch-buttons") == []
    links = [str(link.get("href")) for link in page.select("a")]
    assert not any("mybinder" in link or "None" in link or "github.com//" in link for link in links)
    assert page.select(".btn-download-source-button")


def test_with_an_address_there_are_both(build: Callable[[str], BeautifulSoup]) -> None:
    page = build(URL)
    (source,) = page.select("a.btn-source-repository-button")
    assert source["href"] == URL
    (launch,) = page.select(".dropdown-launch-buttons a")
    binder = "https://mybinder.org/v2/gh/someone/the-book/main?urlpath=tree/notebooks/20_tiny.ipynb"
    assert launch["href"] == binder
