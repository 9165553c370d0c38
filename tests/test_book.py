"""The built book, page by page: read as files, then in a browser without a network."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def toc_pages() -> list[str]:
    def files(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from files(item)

    return [f"{Path(name).with_suffix('')}.html" for name in files(yaml.safe_load((ROOT / "_toc.yml").read_text()))]


PAGES = toc_pages()


class Page(HTMLParser):
    """What the checks below ask about a page."""

    VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

    def __init__(self, html: str):
        super().__init__()
        self.resources: list[str] = []  # fetched when the page is opened
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.prose = ""  # text outside mathematics, code and scripts
        self.cells: list[str] = []  # text of table cells
        self.math = 0
        self._open: list[tuple[str, bool]] = []  # tags, and whether their text is not prose
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        classes = (values.get("class") or "").split()
        self.ids.update(value for key in ("id", "name") if (value := values.get(key)))
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag == "link":
            if not {"next", "prev", "search", "index", "canonical"} & set((values.get("rel") or "").split()):
                self.resources.append(values.get("href") or "")
        elif src := values.get("src") or values.get("data"):
            self.resources.append(src)
        if tag == "img":
            self.images.append(values)
        if tag == "td":
            self.cells.append("")
        is_math = "math" in classes and tag in ("span", "div")
        self.math += is_math
        if tag not in self.VOID:
            hidden = tag in ("script", "style", "pre", "code", "title", "template") or is_math
            self._open.append((tag, hidden))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, text: str) -> None:
        if any(hidden for _, hidden in self._open):
            return
        self.prose += text
        if any(tag == "td" for tag, _ in self._open):
            self.cells[-1] += text


@pytest.fixture(scope="session")
def html() -> Path:
    """The book as `make book` leaves it, from whatever data this machine has."""
    done = subprocess.run([sys.executable, "-m", "tools.build"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.strip().splitlines()[-1]).parent


@pytest.fixture(scope="session")
def pages(html: Path) -> dict[str, Page]:
    return {name: Page((html / name).read_text(encoding="utf-8")) for name in PAGES}


def test_every_page_of_the_contents_is_built(html: Path) -> None:
    assert len(PAGES) >= 2
    assert [name for name in [*PAGES, "index.html", "search.html"] if not (html / name).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_fetched_from_elsewhere(html: Path, pages: dict[str, Page], name: str) -> None:
    assert pages[name].resources
    assert [
        url for url in pages[name].resources if urlsplit(url).scheme not in ("", "data") or url.startswith("//")
    ] == []
    for url in pages[name].resources:
        if url.split("?")[0].endswith(".css"):
            css = ((html / name).parent / unquote(urlsplit(url).path)).read_text(encoding="utf-8")
            assert re.findall(r"(?:@import\s*|url\()[\"']?(?:https?:)?//[^\"')]+", css) == [], url


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_book_lead_somewhere(html: Path, pages: dict[str, Page], name: str) -> None:
    lost = []
    for url in pages[name].links + pages[name].resources:
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = ((html / name).parent / unquote(parts.path)).resolve() if parts.path else html / name
        if not target.exists():
            lost.append(url)
        elif parts.fragment and target.suffix == ".html":
            page = pages.get(str(target.relative_to(html))) or Page(target.read_text(encoding="utf-8"))
            if unquote(parts.fragment) not in page.ids:
                lost.append(url)
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_says_what_it_shows(pages: dict[str, Page], name: str) -> None:
    """An alt text that ends like a file name is Sphinx's stand-in for a missing one."""
    bad = [image for image in pages[name].images if not re.search(r"\w+ \w+", image.get("alt") or "")]
    bad += [image for image in pages[name].images if re.search(r"\.(png|svg|jpe?g)$", image.get("alt") or "")]
    assert bad == []


@pytest.mark.parametrize("name", PAGES)
def test_no_raw_markup_and_no_placeholders(html: Path, pages: dict[str, Page], name: str) -> None:
    prose = pages[name].prose
    assert len(prose.split()) > 5
    raw = ["{glue:", "{eq}", "{cite", "{numref}", "{doc}", "{ref}", "$$", "\\begin{", "\\lambda", "```", ":::"]
    assert [mark for mark in raw if mark in prose] == []
    assert re.findall(r".{0,30}\b(?:nan|NaT|undefined)\b.{0,30}", prose) == []
    assert [cell for cell in pages[name].cells if cell.strip() in ("NaN", "None", "inf")] == []
    assert "Traceback (most recent call last)" not in (html / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_mathematics_is_set_by_the_local_mathjax(html: Path, pages: dict[str, Page], name: str) -> None:
    scripts = [url for url in pages[name].resources if "mathjax" in url.lower()]
    if pages[name].math:
        (script,) = scripts
        folder = ((html / name).parent / urlsplit(script).path).resolve().parent
        assert folder == (html / "_static" / "mathjax").resolve()
        for part in ("tex-svg-full.js", "input/mml.js", "a11y/explorer.js", "sre/mathmaps/base.json"):
            assert (folder / part).exists(), part


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH; Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_in_a_browser(browser: Any, site: str, pages: dict[str, Page], name: str, width: int, mode: str) -> None:
    outside: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 844})
    context.add_init_script(f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}');")
    tab = context.new_page()
    tab.on("request", lambda request: request.url.startswith((site, "data:")) or outside.append(request.url))
    tab.on("response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.status} {answer.url}"))
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(site + name, wait_until="networkidle")

    assert tab.evaluate("document.documentElement.dataset.theme") == mode
    if pages[name].math:
        tab.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        tab.evaluate("MathJax.startup.promise.then(() => true)")
        assert tab.locator("mjx-container svg").count() >= pages[name].math
        assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.evaluate(too_wide) <= 0, "the page scrolls sideways"
    broken = "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
    assert tab.evaluate(broken) == []
    assert outside == [] and complaints == []
    context.close()


def test_opens_from_the_file_system(browser: Any, html: Path, pages: dict[str, Page]) -> None:
    """A reader without a server double-clicks index.html."""
    name = max(PAGES, key=lambda page: pages[page].math)
    outside: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or outside.append(request.url))
    tab.goto((html / name).as_uri(), wait_until="networkidle")
    if pages[name].math:
        tab.evaluate("MathJax.startup.promise.then(() => true)")
        assert tab.locator("mjx-container svg").count() >= pages[name].math
    assert outside == []
    tab.close()
