"""The explorer in a page and in a browser: what it shows at each position of its controls is what the saved table says."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_books import build_book

ROOT = Path(__file__).parents[2]
TABLE = pd.read_csv(ROOT / "book" / "results" / "explorer.csv")
LAMS, ALPHAS = sorted(TABLE["lam"].dropna().unique()), sorted(set(TABLE["alpha"]) - {0.0})
PROTOCOLS = list(dict.fromkeys(TABLE["protocol"]))
START = {"protocol": "sound", "alpha": 0.01, "lam": 0.1}


def build(folder: Path, builder: str = "html") -> Path:
    """A book of a page with the explorer and one without; both without a warning."""
    source = folder / "source"
    if not source.exists():
        (source / "book").mkdir(parents=True)
        shutil.copytree(ROOT / "book" / "results", source / "book" / "results")
        (source / "index.md").write_text("# Front\n\nNothing here.\n\n```{toctree}\npage\n```\n")
        (source / "page.md").write_text("# Page\n\nBefore.\n\n```{explorer}\n```\n\nAfter.\n")
    out = folder / builder
    assert build_book(source, out, builder, extensions=["myst_nb", "explorer"]) == ""
    return out


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("book"))


def test_a_page_has_the_script_only_where_the_explorer_is(book: Path) -> None:
    page, front = (book / "page.html").read_text(), (book / "index.html").read_text()
    for name in ("explorer.js", "explorer.css"):
        assert f"_static/{name}" in page and (book / "_static" / name).exists()
        assert name not in front
    (text,) = re.findall(r'<div class="explorer".*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert set(json.loads(text)["cells"]) == set(PROTOCOLS)


def test_on_paper_there_is_no_explorer(tmp_path: Path) -> None:
    text = (build(tmp_path, "text") / "page.txt").read_text()
    assert "Before." in text and "After." in text and "cells" not in text


@pytest.fixture
def tab(browser: Any, book: Path) -> Iterator[Any]:
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith("file:") or complaints.append(request.url))
    page.goto((book / "page.html").as_uri())
    yield page
    context.close()
    assert complaints == []


def number(text: str) -> float:
    return float(text.replace("−", "-").rstrip("\u00a0 %"))


def check(tab: Any, at: dict[str, Any]) -> None:
    """The page shows, in words and in numbers, what the saved table has for these values."""
    told = tab.locator(".explorer [aria-live=polite]").inner_text()
    assert told.startswith(f"{at['protocol']}, λ = {at['lam']:g}, α = {100 * at['alpha']:g} %: ")
    own = TABLE[(TABLE["protocol"] == at["protocol"])].set_index("seed")
    plain, own = own[own["lam"].isna()], own[(own["lam"] == at["lam"]) & (own["alpha"] == at["alpha"])]
    assert len(own) == len(plain) > 0
    for name in ("rmse", "variance", "rms_k"):
        cells = tab.locator(f".explorer tr[data-measure={name}] td").all_inner_texts()
        change = (100 * (own[name] / plain[name] - 1)).mean()
        assert number(cells[0]) == pytest.approx(plain[name].mean(), abs=0.000501)
        assert number(cells[1]) == pytest.approx(own[name].mean(), abs=0.000501)
        assert number(cells[2]) == pytest.approx(change, abs=0.0501)
        assert cells[2] in told
    shares = tab.locator(".explorer .explorer-share").all_inner_texts()
    expected = [100 * own[f"k_{j}"].mean() / plain[f"k_{j}"].mean() for j in range(1, 9)]
    assert [number(text) for text in shares] == pytest.approx(expected, abs=0.501)


def test_the_sliders_follow_the_keyboard_and_show_the_saved_numbers(tab: Any) -> None:
    at: dict[str, Any] = dict(START)
    check(tab, at)
    lam, alpha = tab.get_by_label("λ", exact=True), tab.get_by_label("α, share of Lai batches")
    lam.focus()
    tab.keyboard.press("Home")
    for value in LAMS:
        at["lam"] = value
        assert lam.get_attribute("aria-valuetext") == f"{value:g}"
        check(tab, at)
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Tab")
    assert alpha.evaluate("slider => slider === document.activeElement")
    for value in ALPHAS:
        at["alpha"] = value
        assert alpha.get_attribute("aria-valuetext") == f"{100 * value:g} %"
        check(tab, at)
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Tab")
    for _ in PROTOCOLS:  # the arrows go round
        tab.keyboard.press("ArrowUp")
        at["protocol"] = PROTOCOLS[PROTOCOLS.index(at["protocol"]) - 1]
        assert tab.get_by_label(at["protocol"], exact=True).is_checked()
        check(tab, at)


def test_the_marks_are_where_the_numbers_are(tab: Any) -> None:
    """Higher in every drawing over λ where the change is larger, and the ring at the value of the sliders."""
    heights = tab.locator(".explorer-panel svg:has(circle.run)").evaluate_all(
        "drawings => drawings.map((one) => [...one.querySelectorAll('circle.run')].map((mark) => Number(mark.getAttribute('cy'))))"
    )
    rings = tab.locator(".explorer-panel circle.here").evaluate_all(
        "rings => rings.map((ring) => Number(ring.getAttribute('cy')))"
    )
    plain = TABLE[TABLE["lam"].isna()].query("protocol == 'sound'").set_index("seed")
    for name, places, ring in zip(("rmse", "variance", "rms_k"), heights, rings, strict=True):
        runs = TABLE.query("protocol == 'sound' and alpha == 0.01").pivot(index="seed", columns="lam", values=name)
        changes = runs.div(plain[name], axis=0).sub(1).mean().sort_index()
        assert list(pd.Series(places).rank(ascending=False)) == list(changes.rank())
        assert ring == places[LAMS.index(0.1)]


def test_the_papers_figures_stand_beside_its_own_pairs(tab: Any) -> None:
    """Version 2 prints 0.6955 and 0.6960 for λ = 0.1 and MSE; it has no λ = 0.03."""
    paper = tab.locator(".explorer tr[data-measure=rmse] td").last
    assert number(paper.inner_text()) == pytest.approx(100 * (0.6955 / 0.6960 - 1), abs=0.0501)
    assert tab.locator(".explorer-panel path.paper").count() > 0
    tab.get_by_label("λ", exact=True).focus()
    tab.keyboard.press("ArrowLeft")
    assert paper.inner_text() == "–"


def test_on_a_narrow_screen_nothing_is_cut_off_and_in_print_the_static_figure_is_alone(tab: Any) -> None:
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    sizes = tab.locator(".explorer svg").evaluate_all(
        "all => all.map((one) => 12 * one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
    )
    assert min(sizes) >= 9  # pixels of the text in a drawing
    tab.emulate_media(media="print")
    assert not tab.locator(".explorer").is_visible()


def test_without_javascript_the_page_says_where_the_results_are(browser: Any, book: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((book / "page.html").as_uri())
    assert tab.get_by_text("The sliders need JavaScript.").is_visible()
    assert tab.locator(".explorer input").count() == 0
    context.close()
