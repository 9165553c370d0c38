"""axe-core on the built pages, in light and dark, with everything unfolded and drawn; and what it does not look at: narrow screens, print.

Contrast takes axe most of its time, seconds a page: the gate has pages of each kind, and `make test-all` every page.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from test_book import PAGES, Page, draw_figures

KINDS = (
    "book/intro.html",
    "book/claims.html",
    "book/api.html",
    "book/references.html",
    "book/health.html",
    "notebooks/10_linear_geometry.html",
)
# What MathJax draws has a text of its own, and thousands of shapes; axe holds a header that is a formula for empty.
LOOK = """async () => (await axe.run(
  { exclude: [["mjx-container"], ["th:has(mjx-container)"]] },
  { resultTypes: ["violations"],
    rules: { "label-content-name-mismatch": { enabled: true } } },
)).violations.map((rule) => [rule.id, rule.nodes.map((node) => `${node.target}: ${node.html.slice(0, 200)}`)])"""

# Colours fade from one mode into the other, and axe would look at them half-way.
FADED = "() => Promise.allSettled(document.getAnimations().map((one) => one instanceof CSSTransition ? one.finished : null))"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in KINDS else pytest.mark.long) for name in PAGES]
)
def test_axe_finds_nothing(
    browser: Any, site: str, html: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 844})
    tab = context.new_page()
    tab.goto(site + name, wait_until="load")
    draw_figures(tab, Page((html / name).read_text(encoding="utf-8")))
    tab.evaluate(AXE_SCRIPT)
    found = {}
    for mode in ("light", "dark"):
        tab.evaluate(f"document.documentElement.dataset.mode = document.documentElement.dataset.theme = '{mode}'")
        tab.evaluate(FADED)
        found[mode] = tab.evaluate(LOOK)
    context.close()
    record_property("axe", sum(len(nodes) for rules in found.values() for _, nodes in rules))
    assert found == {"light": [], "dark": []}


def test_tables_that_scroll_can_be_reached_from_the_keyboard(browser: Any, site: str) -> None:
    """Open ones and those of a fold, once it is open; and only these, or the tabulator would stop for nothing."""
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto(f"{site}notebooks/74_protocol_search.html", wait_until="load")
    look = """(nodes) => nodes.filter((node) => node.checkVisibility())
      .map((node) => [node.scrollWidth > node.clientWidth, node.tabIndex === 0])"""
    tables = tab.locator(".captioned-table > .output")
    shown = tables.evaluate_all(look)
    assert shown and all(scrolls == reached for scrolls, reached in shown) and any(scrolls for scrolls, _ in shown)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.wait_for_timeout(100)  # the event of a fold comes after it
    unfolded = tables.evaluate_all(look)
    assert sum(scrolls for scrolls, _ in unfolded) > sum(scrolls for scrolls, _ in shown)
    assert all(scrolls == reached for scrolls, reached in unfolded)
    tab.set_viewport_size({"width": 1280, "height": 844})
    tab.wait_for_timeout(100)
    wide = tables.evaluate_all(look)
    assert all(scrolls == reached for scrolls, reached in wide) and not all(reached for _, reached in wide)
    tab.close()


@pytest.mark.parametrize("name", ["notebooks/10_linear_geometry.html", "book/what_it_costs.html"])
def test_on_paper_figures_and_tables_stay_whole_and_nothing_scrolls(browser: Any, site: str, name: str) -> None:
    tab = browser.new_page()
    tab.goto(site + name, wait_until="load")
    tab.emulate_media(media="print")
    whole = tab.locator(".bd-article :is(figure, table, img, div.admonition)")
    assert whole.count() >= 3
    assert set(whole.evaluate_all("nodes => nodes.map((node) => getComputedStyle(node).breakInside)")) == {"avoid"}
    scrolling = """nodes => nodes.filter((node) => node.clientWidth && node.scrollWidth > node.clientWidth + 1
      && ["auto", "scroll", "hidden"].includes(getComputedStyle(node).overflowX)).map((node) => node.outerHTML.slice(0, 200))"""
    tab.set_viewport_size({"width": 680, "height": 1000})  # of an A4 page within its margins
    assert tab.locator(".bd-article *:not(.math, .math *)").evaluate_all(scrolling) == []
    for frame in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article"):
        assert not tab.locator(frame).first.is_visible()
    tab.close()
