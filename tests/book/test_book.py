"""The built book, page by page: read as files, then in a browser without a network."""

import functools
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import lai
from evidence.figures.sliders import state
from tools.pdf import contents, wait_until

ROOT = Path(__file__).parents[2]


PAGES = contents(ROOT)


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
        figures = re.findall(r'<div class="interactive".*?<script type="application/json">(.*?)</script>', html, re.S)
        self.figures: list[dict[str, Any]] = [json.loads(text) for text in figures]  # the interactive ones
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
def pages(html: Path) -> dict[str, Page]:
    return {name: Page((html / name).read_text(encoding="utf-8")) for name in PAGES}


def test_numbers_in_the_prose_are_finite(executed: dict[str, Any]) -> None:
    for name, chapter in executed.items():
        for output in (output for cell in chapter.cells for output in cell.get("outputs", [])):
            if "scrapbook" in output.get("metadata", {}):
                number = output.data["application/papermill.record/text/plain"]
                assert not re.fullmatch(r"[+-]?(nan|inf)", number), f"{name}: {output.metadata.scrapbook.name}"


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


@functools.cache
def parsed(path: Path) -> Page:
    """A page that is not in the contents, such as a module's source."""
    return Page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_book_lead_somewhere(html: Path, pages: dict[str, Page], name: str) -> None:
    lost = []
    for url in dict.fromkeys(pages[name].links + pages[name].resources):
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            continue
        target = ((html / name).parent / unquote(parts.path)).resolve() if parts.path else html / name
        if not target.exists():
            lost.append(url)
        elif parts.fragment and target.suffix == ".html":
            page = pages.get(str(target.relative_to(html))) or parsed(target)
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
    text = (html / name).read_text(encoding="utf-8")
    if not name.startswith("book/api"):  # where examples show errors as doctests do
        assert "Traceback (most recent call last)" not in text
    assert text.count("<details") == text.count("</details>")  # parts of a fold are written apart


@pytest.mark.parametrize("name", PAGES)
def test_mathematics_is_set_by_the_local_mathjax(html: Path, pages: dict[str, Page], name: str) -> None:
    scripts = [url for url in pages[name].resources if "mathjax" in url.lower()]
    if pages[name].math:
        (script,) = scripts
        folder = ((html / name).parent / urlsplit(script).path).resolve().parent
        assert folder == (html / "_static" / "mathjax").resolve()
        for part in ("tex-svg-full.js", "input/mml.js", "a11y/explorer.js", "sre/mathmaps/base.json"):
            assert (folder / part).exists(), part


def controls(figure: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = figure["layout"]["meta"]["controls"]
    return found


def is_solid(figure: dict[str, Any]) -> bool:
    return any(trace["type"] == "surface" for trace in figure["data"])


def test_the_book_has_interactive_figures(pages: dict[str, Page]) -> None:
    """The factor's curve, the triangle, the surfaces and the fits, whatever pages they are on."""
    found = [figure for page in pages.values() for figure in page.figures]
    assert len(found) >= 4
    assert any(is_solid(figure) for figure in found) and not all(is_solid(figure) for figure in found)
    names = [" ".join(control["name"] for control in controls(figure)) for figure in found]
    for part in ("λ", "slope k", "noise"):
        assert any(part in name for name in names), f"no slider for {part}"


@pytest.mark.parametrize("name", PAGES)
def test_plotly_is_local_and_only_where_it_is_used(html: Path, pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    scripts = [url for url in page.resources if "plotly" in url]
    if not page.figures:
        assert scripts == []
        return
    folders = {((html / name).parent / urlsplit(url).path).resolve().parent for url in scripts}
    assert folders == {(html / "_static").resolve()}
    assert {path.name for path in folders.pop().iterdir()} >= {"plotly.min.js", "offline_plotly.js"}


@pytest.mark.parametrize("name", PAGES)
def test_interactive_figures_have_all_states_a_twin_and_an_alt_text(pages: dict[str, Page], name: str) -> None:
    page = pages[name]
    twins = [image for image in page.images if "static-twin" in (image.get("class") or "").split()]
    assert len(twins) == len(page.figures)
    for figure in page.figures:
        assert len(figure["layout"]["meta"]["alt"].split()) >= 10
        assert controls(figure) and all(len(control["values"]) >= 2 for control in controls(figure))
        ways = itertools.product(*(range(len(control["values"])) for control in controls(figure)))
        assert [frame["name"] for frame in figure["frames"]] == ["-".join(map(str, way)) for way in ways]
        assert len(json.dumps(figure)) <= 1_500_000


def test_the_curves_of_the_factor_are_the_library_s(pages: dict[str, Page]) -> None:
    """Every state of every page that shows the factor over the slope, as the page holds it."""
    names = ["λ", "slope k", "loss"]
    found = [figure for page in pages.values() for figure in page.figures]
    curves = [figure for figure in found if [control["name"] for control in controls(figure)] == names]
    assert curves
    for figure in curves:
        lams, slopes, losses = (control["values"] for control in controls(figure))
        assert sorted(losses) == ["MAE", "MSE"]
        for (i, lam), n, (m, loss) in itertools.product(enumerate(lams), range(len(slopes)), enumerate(losses)):
            for trace in state(figure, i, n, m):
                expected = lai.lai_factor(torch.from_numpy(trace["x"]).double(), lam, base=loss.lower()).numpy()
                assert np.nanmax(np.abs(trace["y"] / expected - 1)) < 1e-6


MOST_SCREENS = 16  # of 800 pixels, on a page 1280 wide
ALL_SCREENS = 243  # of the pages to be read, which are all but those of the part "Reference"
# Pages to look things up in. None of them may grow.
LONGER = {"claims": 19, **dict.fromkeys((Path(name).stem for name in PAGES if name.startswith("book/api")), 20)}
HEIGHT = "document.querySelector('.bd-article').getBoundingClientRect().height / 800"
# 320 pixels are the smallest phones, and a laptop at a zoom of 400 %.
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 320, "height": 800}
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Each in one mode, by turns, and wide before it becomes narrow; `make test-all` opens all in the other mode, narrow from the start.
MODES = ("light", "dark")
OPENED = [pytest.param(name, MODES[i % 2], WIDE) for i, name in enumerate(PAGES)]
OPENED += [pytest.param(name, MODES[(i + 1) % 2], NARROW, marks=pytest.mark.long) for i, name in enumerate(PAGES)]


@pytest.fixture(scope="module")
def screens() -> dict[str, float]:
    """How long pages are with everything folded, as far as a test has opened them."""
    return {}


@pytest.mark.parametrize(("name", "mode", "screen"), OPENED)
def test_in_a_browser(
    browser: Any,
    site: str,
    pages: dict[str, Page],
    screens: dict[str, float],
    name: str,
    mode: str,
    screen: dict[str, int],
) -> None:
    outside: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(viewport=screen)
    context.add_init_script(f"localStorage.setItem('mode', '{mode}'); localStorage.setItem('theme', '{mode}');")
    tab = context.new_page()
    tab.on("request", lambda request: request.url.startswith((site, "data:")) or outside.append(request.url))
    tab.on("response", lambda answer: answer.status >= 400 and complaints.append(f"{answer.status} {answer.url}"))
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(site + name, wait_until="networkidle")

    assert tab.evaluate("document.documentElement.dataset.theme") == mode
    check_mathematics(tab, pages[name])
    if screen == WIDE:
        screens[name] = tab.evaluate(HEIGHT)
        assert screens[name] <= LONGER.get(Path(name).stem, MOST_SCREENS)
    draw_figures(tab, pages[name])
    if screen == WIDE:
        for i, figure in enumerate(pages[name].figures):
            move_sliders(tab, i, figure)
        check_print(tab)
        check_images(tab)
        assert tab.evaluate(TOO_WIDE) <= 0, "the page scrolls sideways"
        tab.set_viewport_size(NARROW)
        wait_until(tab, f"{TOO_WIDE} <= 0")  # figures are drawn again
    check_images(tab)
    assert tab.evaluate(TOO_WIDE) <= 0, "the page scrolls sideways"
    assert outside == [] and complaints == []
    context.close()


def test_the_pages_to_be_read_stay_short(
    browser: Any, site: str, pages: dict[str, Page], screens: dict[str, float]
) -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    (chapters,) = (part["chapters"] for part in toc["parts"] if part["caption"] == "Reference")
    reference = [f"{one['file']}.html" for chapter in chapters for one in (chapter, *chapter.get("sections", ()))]
    read = [name for name in PAGES if name not in reference]
    assert len(read) == len(PAGES) - len(reference)
    tab = browser.new_page(viewport=WIDE)
    for name in read:
        if name not in screens:
            tab.goto(site + name, wait_until="load")
            check_mathematics(tab, pages[name])
            screens[name] = tab.evaluate(HEIGHT)
    tab.close()
    assert sum(screens[name] for name in read) <= ALL_SCREENS


def check_mathematics(tab: Any, page: Page) -> None:
    if page.math:
        wait_until(tab, "!!(window.MathJax && MathJax.startup && MathJax.startup.promise)")
        tab.evaluate("MathJax.startup.promise.then(() => true)")
        assert tab.locator("mjx-container svg").count() >= page.math
        assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0


def check_images(tab: Any) -> None:
    """Every image is loaded and to be seen, but for folded ones and twins of what is drawn."""
    wrong = """[...document.images].filter((image) => {
      if (image.complete && !image.naturalWidth) return true;
      if (!image.closest(".bd-content") || image.closest("details:not([open]), .toggle-hidden")) return false;
      if (image.matches(".static-twin, .only-dark, .only-light")) return false;
      const box = image.getBoundingClientRect();
      return !image.checkVisibility() || box.width < 20 || box.height < 20;
    }).map((image) => image.outerHTML)"""
    assert tab.evaluate(wrong) == []


def draw_figures(tab: Any, page: Page) -> None:
    """Scroll to each interactive figure; it must be drawn, in the place of its twin."""
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    boxes = tab.locator(".interactive")
    assert boxes.count() == len(page.figures)
    for i, figure in enumerate(page.figures):
        boxes.nth(i).evaluate("box => box.parentElement.scrollIntoView()")
        wait_until(tab, f"document.querySelectorAll('.interactive')[{i}].classList.contains('drawn')")
        plot = boxes.nth(i).locator(".interactive-plot")
        size = plot.bounding_box()
        assert size["width"] > 250 and size["height"] > 250
        assert plot.locator("svg, canvas").count() > 0
        assert not boxes.nth(i).evaluate("box => box.parentElement.querySelector('.static-twin').checkVisibility()")
        inputs = boxes.nth(i).locator("input[type=range]")
        assert inputs.count() == len(controls(figure))
        for n, control in enumerate(controls(figure)):
            assert inputs.nth(n).bounding_box()["width"] > 100
            assert inputs.nth(n).get_attribute("aria-label") == control["name"]
            assert inputs.nth(n).get_attribute("aria-valuetext") == control["labels"][control["start"]]
        if is_solid(figure):  # the surface itself, not only its axes
            picture = Image.open(io.BytesIO(plot.screenshot())).convert("RGB").resize((100, 100))
            assert len(picture.getcolors(10_000)) > 300
        check_state(tab, i, figure, [control["start"] for control in controls(figure)])


def move_sliders(tab: Any, i: int, figure: dict[str, Any], most: int | None = None) -> None:
    """Each slider by key to one end, one after the other; the figure must follow with the right numbers."""
    positions = [control["start"] for control in controls(figure)]
    for n, control in enumerate(controls(figure)[:most]):
        before = check_state(tab, i, figure, positions)
        last = len(control["values"]) - 1
        positions[n] = 0 if control["start"] == last else last
        slider = tab.locator(".interactive").nth(i).locator("input").nth(n)
        slider.focus()
        tab.keyboard.press("Home" if positions[n] == 0 else "End")
        assert slider.get_attribute("aria-valuetext") == control["labels"][positions[n]]
        assert check_state(tab, i, figure, positions) != before, f"moving {control['name']} changes nothing"


DRAWN = """(trace) => Object.fromEntries(["name", "x", "y", "z"].filter((key) => trace[key] !== undefined).map(
  (key) => [key, key === "name" ? trace.name : Array.from(trace[key], (row) => row.length ? Array.from(row) : row).flat()]
))"""


# How many pixels each mark of a plane figure is from where the axes say.
OFF_PLACE = r"""(plot) => plot.calcdata.filter(([first]) => first.node3).flatMap((points) => {
  const { xaxis, yaxis } = plot._fullLayout;
  return [...points[0].node3.node().querySelectorAll("path.point")].map((node, n) => {
    const [x, y] = node.getAttribute("transform").match(/-?[\d.]+/g);
    return Math.hypot(x - xaxis.c2p(points[n].x), y - yaxis.c2p(points[n].y));
  });
})"""


def check_state(tab: Any, i: int, figure: dict[str, Any], positions: list[int]) -> Any:
    """What plotly has drawn is the state at these positions; returned as numbers."""
    plot = f"document.querySelectorAll('.interactive-plot')[{i}]"
    wait_until(tab, f"{plot}.dataset.state === '{'-'.join(map(str, positions))}'")
    drawn = tab.evaluate(f"{plot}._fullData.map({DRAWN})")
    assert max(tab.evaluate(f"({OFF_PLACE})({plot})"), default=0) < 1
    expected = state(figure, *positions)
    assert len(drawn) == len(expected)
    for have, want in zip(drawn, expected, strict=True):
        assert have["name"] == want.get("name", have["name"])
        for key in {"x", "y", "z"} & set(want):
            numbers = np.array(have[key], dtype=float)  # JSON has no NaN: a gap is None
            np.testing.assert_array_equal(numbers, np.asarray(want[key], dtype=float).ravel())
    return drawn


def check_print(tab: Any) -> None:
    tab.emulate_media(media="print")
    boxes = tab.locator(".interactive")
    for i in range(boxes.count()):
        assert not boxes.nth(i).is_visible()
        assert boxes.nth(i).evaluate("box => box.parentElement.querySelector('.static-twin').checkVisibility()")
    tab.emulate_media(media="screen")


def with_figure(pages: dict[str, Page], solid: bool) -> str:
    return next(name for name, page in pages.items() if any(is_solid(figure) == solid for figure in page.figures))


@pytest.mark.parametrize("solid", [False, True])
def test_without_javascript_or_webgl_the_twin_stays(
    browser: Any, site: str, pages: dict[str, Page], solid: bool
) -> None:
    name = with_figure(pages, solid)
    context = browser.new_context(java_script_enabled=solid)
    complaints: list[str] = []
    if solid:  # a flat figure needs no WebGL
        off = "const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = "
        off += "function (kind, ...rest) { return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
        context.add_init_script(off)
    tab = context.new_page()
    tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(site + name, wait_until="networkidle")
    for i, figure in enumerate(pages[name].figures):
        box = tab.locator(".interactive").nth(i)
        twin = tab.locator(".static-twin").nth(i)
        if is_solid(figure) == solid:
            twin.scroll_into_view_if_needed()
            tab.wait_for_timeout(300)
            assert twin.is_visible() and not box.is_visible()
    assert complaints == []
    context.close()


def test_the_search_finds_the_boundary(browser: Any, site: str) -> None:
    tab = browser.new_page()
    tab.goto(site + "search.html?q=boundary", wait_until="networkidle")
    tab.wait_for_selector("#search-results li a")
    found = tab.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any("20_lambda" in url for url in found), found
    # Sphinx fetches each page that it found and only then shows the sentences around the word.
    tab.locator("#search-results li .context").filter(has_text=re.compile("boundary", re.I)).first.wait_for()
    tab.close()


@pytest.mark.parametrize("solid", [False, True])
def test_interactive_figures_work_from_the_file_system(
    browser: Any, html: Path, pages: dict[str, Page], solid: bool
) -> None:
    name = with_figure(pages, solid)
    i = next(i for i, figure in enumerate(pages[name].figures) if is_solid(figure) == solid)
    outside: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or outside.append(request.url))
    tab.goto((html / name).as_uri(), wait_until="networkidle")
    tab.locator(".interactive").nth(i).evaluate("box => box.parentElement.scrollIntoView()")
    wait_until(tab, f"document.querySelectorAll('.interactive')[{i}].classList.contains('drawn')")
    move_sliders(tab, i, pages[name].figures[i], most=1)
    assert outside == []
    tab.close()


def test_opens_from_the_file_system(browser: Any, html: Path, pages: dict[str, Page]) -> None:
    """A reader without a server double-clicks index.html."""
    name = max(PAGES, key=lambda page: pages[page].math)
    outside: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or outside.append(request.url))
    tab.goto((html / name).as_uri(), wait_until="networkidle")
    check_mathematics(tab, pages[name])
    assert outside == []
    tab.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_the_ledger_of_claims_can_be_filtered(browser: Any, html: Path, scripts: bool) -> None:
    """From the file system; without JavaScript the whole table is there and no control."""
    context = browser.new_context(java_script_enabled=scripts, viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.goto((html / "book" / "claims.html").as_uri(), wait_until="load")
    rows = tab.locator("table.claims-ledger tbody tr")
    every = rows.count()
    assert every >= 45 and rows.last.is_visible()
    assert tab.locator(".claims-filter").is_visible() == scripts
    evidence = rows.last.locator("details p").last
    assert not evidence.is_visible()
    rows.last.locator("summary").click()
    assert evidence.is_visible()
    if scripts:
        visible = "rows => rows.filter((row) => row.checkVisibility()).length"

        def shown() -> int:
            (number, _, everything, *_) = tab.locator(".claims-shown[aria-live]").inner_text().split()
            assert int(everything) == every and int(number) == rows.evaluate_all(visible)
            return int(number)

        assert shown() == every
        for label, index in (("Verdict", 2), ("Version", 1), ("Chapter", 1)):
            before = shown()
            tab.get_by_label(label, exact=True).select_option(index=index)
            assert 0 < shown() < before
        tab.get_by_label("Words", exact=True).fill("no such words")
        assert shown() == 0
        tab.get_by_role("button", name="Show all").click()
        assert shown() == every
        tab.get_by_label("Words", exact=True).fill("huber")
        assert shown() == 1
        tab.goto((html / "book" / "claims.html").as_uri() + "#claim-range")  # a link to a claim beats the filter
        tab.locator("#claim-range details p").last.wait_for(state="visible")  # with its evidence
        assert not rows.first.locator("details p").last.is_visible()
        tab.emulate_media(media="print")
        assert (
            rows.first.locator("details p").last.is_visible()
            and rows.last.is_visible()
            and not tab.locator(".claims-filter").is_visible()
        )
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_headings_and_table_headers_say_something(html: Path, name: str) -> None:
    text = (html / name).read_text(encoding="utf-8")
    assert text.count("<h1") == 1
    assert "<th></th>" not in text


# --- what a page may load and run -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAGES, "search.html", "genindex.html"])
def test_every_page_has_a_content_policy_before_anything_it_loads(html: Path, name: str) -> None:
    text = (html / name).read_text(encoding="utf-8")
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert text.index(policy) < min(text.index("<script"), text.index("<link"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"] and "'unsafe-inline'" not in rules["script-src"]
    assert ("'unsafe-eval'" in rules["script-src"]) == ('<div class="interactive"' in text)
    assert not any(source.startswith(("http", "*", "//")) for sources in rules.values() for source in sources)


def test_what_the_policy_does_not_name_is_not_run_and_not_fetched(browser: Any, site: str) -> None:
    """That a page's own scripts are not stopped is seen where every page is opened: a violation is an error in the console."""
    tab = browser.new_page()
    failed: dict[str, str] = {}
    tab.on("requestfailed", lambda request: failed.update({request.url: request.failure}))
    tab.goto(site + PAGES[0], wait_until="load")
    tab.evaluate("""() => {
      document.body.insertAdjacentHTML(
        "beforeend", '<img src="missing.png" onerror="window.ran = 1"><img src="https://example.org/a.png">');
      const script = document.createElement("script");
      script.textContent = "window.ran = 1";
      document.body.append(script);
    }""")
    wait_until(tab, "[...document.images].every((image) => image.complete)")
    assert tab.evaluate("window.ran === undefined")
    assert failed == {"https://example.org/a.png": "csp"}
    tab.close()
