"""Make one PDF of the whole book: its pages put behind one another, printed by Chromium.

Pages keep their style and become chapters of one document, whose links lead to each other within it. Solutions of exercises are
unfolded; what else is folded, and what needs a reader at a screen, is left out.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Error, PdfMargins, sync_playwright

from tools.build import Book, build, one_lam
from tools.notebook import ROOT, ToolError, absolute_data_setting, told

WHOLE = "book/whole.html"  # beside the pages, so that their style, scripts and images are where they were
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# In print the theme shows a page's title once, above the page; of this document that would be the first one.
TITLES = ".bd-main .bd-content .bd-article h1:first-of-type { display: block }"
MARGIN = PdfMargins(top="18mm", bottom="18mm", left="16mm", right="16mm")
PATIENCE = 600.0  # seconds
AT_A_SCREEN = ".interactive, .exercise, .headerlink, .claims-filter, .copybtn, script, button"


def contents(root: Path) -> list[str]:
    """The pages in the reading order, such as notebooks/20_lambda.html."""

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from files(item)

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [str(PurePosixPath(name).with_suffix(".html")) for name in files(toc)]


def chapter(page: str, soup: BeautifulSoup, pages: Sequence[str]) -> Tag:
    """What a page says, with ids and links that are unique in the whole book."""
    (article,) = soup.select("article.bd-article")
    for node in article.select(AT_A_SCREEN):
        node.decompose()
    for folded in article.select("details:not([open])"):
        summary = folded.find("summary")
        if "hide" in folded.get_attribute_list("class") and not (summary and "Solution" in summary.get_text()):
            folded.replace_with(*tables_of(folded))  # the code goes
        else:
            folded["open"] = ""  # nobody can unfold paper
    for node in article.select("[id]"):
        node["id"] = f"{page}--{node['id']}"
    for link in article.select("a[href]"):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        at = normpath(str(PurePosixPath(page).parent / unquote(parts.path))) if parts.path else page
        if at in pages:
            link["href"] = f"#{at}--{unquote(parts.fragment)}" if parts.fragment else f"#{at}"
        else:  # a file that is not in the PDF
            del link["href"]
    article["id"] = page
    return article


def tables_of(folded: Tag) -> list[Tag]:
    """The tables and figures of a folded cell, under the words that stood on the fold if they name them."""
    found = folded.select(".cell_output:has(table), .cell_output:has(img)")
    label = folded.select_one("summary .collapsed")
    if not found or label is None or label.get_text().startswith("Show code"):
        return found
    label.attrs = {}
    return [label, *found]


def whole(html: Path, pages: Sequence[str]) -> str:
    """All pages as one, in the frame of the first."""
    soups = {page: BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser") for page in pages}
    frame = BeautifulSoup((html / pages[0]).read_text(encoding="utf-8"), "html.parser")
    (head,) = frame.select("head")
    needed = 'link[rel="stylesheet"], script[src*="mathjax"]'
    parts = {str(part): part for soup in soups.values() for part in soup.select(needed)}
    for part in head.select(needed):
        parts.pop(str(part))
    head.extend(parts.values())
    style = frame.new_tag("style", string=TITLES)
    head.append(style)
    (article,) = frame.select("article.bd-article")
    articles = [chapter(page, soup, pages) for page, soup in soups.items()]
    article.replace_with(*articles)
    for printed in frame.select("#jb-print-docs-body"):
        printed.decompose()
    return str(frame)


def browser() -> str:
    """Chromium's path, or a ToolError."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ToolError("a PDF needs Chromium or Chrome on the PATH; Debian: apt-get install chromium")
    return found


def wait_until(tab: Any, condition: str, seconds: float = 60) -> None:
    """Ask until the page says so. Playwright's `wait_for_function` asks again from within the page, whose policy forbids `eval`."""
    end = time.monotonic() + seconds
    while not tab.evaluate(condition):
        if time.monotonic() > end:
            raise ToolError(f"the page did not come to: {condition}")
        tab.wait_for_timeout(20)


def print_book(html: Path, pages: Sequence[str], output: Path) -> None:
    """Print the built pages into one file."""
    executable = browser()
    file, partial = html / WHOLE, output.with_name(f".{output.name}")
    file.write_text(whole(html, pages), encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            tab = chromium.new_page(color_scheme="light")
            tab.set_default_timeout(1000 * PATIENCE)
            tab.goto(file.as_uri(), wait_until="load")
            tab.evaluate("MathJax.startup.promise.then(() => true)")
            tab.evaluate("for (const image of document.images) image.loading = 'eager'")
            wait_until(tab, "[...document.images].every((image) => image.complete)", PATIENCE)
            output.parent.mkdir(parents=True, exist_ok=True)
            tab.pdf(path=partial, format="A4", margin=MARGIN, outline=True, tagged=True, print_background=True)
            chromium.close()
        partial.replace(output)
    except Error as error:
        raise ToolError(f"{executable} could not print: {error.message.strip().splitlines()[0]}") from error
    finally:
        file.unlink()
        partial.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.pdf", description=__doc__.split("\n")[0])
    parser.add_argument("--lam", help="λ for every chapter: one number")
    options = parser.parse_args(arguments)

    def work() -> None:
        book = Book(ROOT, one_lam(options.lam))
        absolute_data_setting()
        browser()  # known before anything is built
        build(book)
        output = book.home / "lai-loss-book.pdf"
        print("printing", flush=True)
        print_book(book.html, contents(book.root), output)
        print(output)

    return told(work, "the last PDF is untouched")


if __name__ == "__main__":
    sys.exit(main())
