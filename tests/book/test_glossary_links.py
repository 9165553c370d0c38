"""book/_ext/glossary_links.py: a page's first use of a word of the glossary is a link, and nothing else is changed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from small_books import build_book, notebook

BOOK = Path(__file__).parents[2] / "book"
GLOSSARY = """# Glossary

Here a slope is no link.

```{glossary}
alpha, α
  A share.

input gradient
  A vector of slopes.

kink
  A bend.

MAP
  A maximum.

order
  Of a norm.

slope
  A derivative.

verdict
  A result.
```
"""
PAGE = """# The slope of a page

:::{admonition} In short
:class: tip
Two Slopes and an input
gradient.
:::

A slope again. A slopeless, slope-like map of `alpha` in some order, $slope$ and alpha.

Another word for it is α. [A verdict](https://example.org) and **kink**.

> A kink of others.

They say "a kink is smooth", and a kink it is; another kink is none.

- MAP is one item; *verdicts* too.

| kink | slope |
|---|---|
| kink | MAP |

Input gradients are no longer new.

## More MAP
"""
BY_HAND = "# Other\n\nA slope, a kink.\n\nMuch later a {term}`bend <kink>` and the {term}`Slope`; order.\n"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Build the pages with a builder; their text by name. There are no warnings."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Front\n\n```{toctree}\npage\nother\nglossary\napi\n```\n")
    printed = new_output("display_data", data={"text/markdown": "A verdict printed."})
    cell = new_code_cell("slope = 'verdict'", id="cell", outputs=[printed], execution_count=1)
    (source / "page.ipynb").write_text(notebook(new_markdown_cell(PAGE, id="title"), cell))
    (source / "other.md").write_text(BY_HAND)
    (source / "glossary.md").write_text(GLOSSARY)
    (source / "api.md").write_text("# API\n\nA slope.\n")

    def run(builder: str = "html", ending: str = "html", parallel: int = 1) -> dict[str, str]:
        settings = {
            "extensions": ["myst_nb", "glossary_links"],
            "myst_enable_extensions": ["colon_fence", "dollarmath"],
            "nitpicky": True,
        }
        out = tmp_path / builder
        warnings = build_book(source, out, builder, parallel=parallel, **settings)
        assert [line for line in warnings.splitlines() if "mime" not in line and "epub" not in line.lower()] == []
        return {file.stem: file.read_text(encoding="utf-8") for file in out.glob(f"*.{ending}")}

    return run


def links(page: str) -> list[tuple[str, str]]:
    """The words that are links to the glossary, and where to."""
    found = BeautifulSoup(page, "html.parser").select("a:has(> .std-term)")
    return [(" ".join(link.get_text().split()), str(link["href"])) for link in found]


@pytest.mark.parametrize("parallel", [1, 2])
def test_first_uses_are_links(build: Callable[..., dict[str, str]], parallel: int) -> None:
    pages = build(parallel=parallel)
    assert links(pages["page"]) == [
        ("Slopes", "glossary.html#term-slope"),
        ("input gradient", "glossary.html#term-input-gradient"),
        ("alpha", "glossary.html#term-alpha"),
        ("kink", "glossary.html#term-kink"),
        ("MAP", "glossary.html#term-MAP"),
        ("verdicts", "glossary.html#term-verdict"),
    ]
    assert links(pages["glossary"]) == links(pages["api"]) == links(pages["index"]) == []


def test_only_running_text_is_changed(build: Callable[..., dict[str, str]]) -> None:
    page = BeautifulSoup(build()["page"], "html.parser")
    places = "h1, h2, code, pre, strong, blockquote, table, .math, .cell, a.external"
    assert page.select(":is(" + places + ") .std-term") == []
    (kink,) = (link for link in page.select(".std-term") if link.get_text() == "kink")
    assert '"a kink is smooth", and a ' in re.sub("[“”]", '"', kink.find_previous(string=True))
    said = BeautifulSoup(str(page.select_one("article, .body")), "html.parser").get_text()
    assert "A slope again. A slopeless, slope-like map of alpha in some order" in " ".join(said.split())


def test_a_link_by_hand_is_the_only_one_of_its_page(build: Callable[..., dict[str, str]]) -> None:
    expected = [("bend", "glossary.html#term-kink"), ("Slope", "glossary.html#term-slope")]
    assert links(build()["other"]) == expected


@pytest.mark.parametrize(("builder", "ending"), [("singlehtml", "html"), ("epub", "xhtml"), ("latex", "tex")])
def test_other_builders_have_the_first_uses_of_each_page(
    build: Callable[..., dict[str, str]], builder: str, ending: str
) -> None:
    text = "".join(build(builder, ending).values())
    latex = re.findall(r"\\sphinxtermref\{\\DUrole\{[^}]*\}\{(.*?)\}", text, re.S)
    found = latex or [word for word, _ in links(text)]
    expected = ["Slopes", "input gradient", "alpha", "kink", "MAP", "verdicts", "bend", "Slope"]
    assert [" ".join(word.split()) for word in found] == expected


def test_in_plain_text_they_look_like_those_by_hand(build: Callable[..., dict[str, str]]) -> None:
    assert "Two *Slopes* and an *input gradient*." in " ".join(build("text", "txt")["page"].split())
