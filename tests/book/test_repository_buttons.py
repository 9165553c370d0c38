"""book/_ext/repository.py with the settings of _config.yml: buttons if there is an address, and neither buttons nor trouble if not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from jupyter_book.config import get_final_config
from nbformat.v4 import new_markdown_cell
from small_books import build_book, notebook

ROOT = Path(__file__).parents[2]
URL = "https://github.com/someone/the-book"


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], BeautifulSoup]:
    """A chapter with the theme's options as Jupyter Book makes them of _config.yml and an address."""

    def run(url: str) -> BeautifulSoup:
        config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        config["repository"]["url"] = url
        made, _ = get_final_config(user_yaml=config, cli_config={"latex_individualpages": False})
        source, out = tmp_path / "source", tmp_path / "html"
        (source / "notebooks").mkdir(parents=True)
        (source / "index.md").write_text("# Front\n\n```{toctree}\nnotebooks/20_tiny\n```\n")
        (source / "notebooks" / "20_tiny.ipynb").write_text(notebook(new_markdown_cell("# Tiny")))
        extensions, options = ["myst_nb", "sphinx_book_theme", "repository"], made["html_theme_options"]
        settings = {"extensions": extensions, "html_theme": "sphinx_book_theme", "html_theme_options": options}
        assert build_book(source, out, **settings) == ""
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
