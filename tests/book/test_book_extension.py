"""book/_ext/offline_plotly.py on a book of two pages, in every kind of output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from small_books import build_book, notebook

from evidence.figures import interactive

PLOTLY = "application/vnd.plotly.v1+json"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
NASTY = 'A triangle </script><b>"bold"</b> & more.'


def figure(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(interactive.triangle(1.0, 2.0, alt=NASTY).to_json())
    plain["layout"] |= changes
    return plain


def display(**data: Any) -> Any:
    return new_output("display_data", data={kind.replace("_", "/"): value for kind, value in data.items()})


TWIN = [
    new_output("stream", name="stdout", text="drawn\n"),
    new_output("display_data", data={PLOTLY: figure()}),
    display(text_plain="<Figure>", image_png=PNG),
]
METADATA = {"mystnb": {"figure": {"caption": "The caption.", "name": "fig-t"}, "image": {"alt": "The twin's alt."}}}


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Build the two pages with a builder; the folder and the warnings."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# Front\n\nNo figure.\n\n```{toctree}\npage\n```\n")

    def run(outputs: list[Any], builder: str = "html") -> tuple[Path, str]:
        cell = new_code_cell("draw()", id="cell", outputs=outputs, metadata=METADATA, execution_count=1)
        text = new_markdown_cell("# Page\n\nSee {numref}`fig-t`.", id="title")
        (source / "page.ipynb").write_text(notebook(text, cell))
        out, extensions = tmp_path / builder, ["myst_nb", "offline_plotly"]
        return out, build_book(source, out, builder, extensions=extensions, numfig=True, nitpicky=True)

    return run


def test_web_pages_have_the_figure_with_its_twin_and_one_caption(build: Callable[..., tuple[Path, str]]) -> None:
    out, warnings = build(TWIN)
    assert warnings == ""
    page = (out / "page.html").read_text()
    inside = page[page.index("<figure") : page.index("</figure>")]
    assert page.count("<figure") == 1 and inside.count("<figcaption") == 1 and 'id="fig-t"' in inside
    assert inside.count('<div class="interactive"') == 1
    assert inside.count("<img") == 1 and 'alt="The twin\'s alt."' in inside and "static-twin" in inside
    assert inside.index("interactive") < inside.index("<img")  # the style sheet hides what comes after it
    assert "drawn" in page  # what the cell printed stays

    assert inside.count("</script>") == 1 and "<b>" not in inside  # the alt text ends no element
    assert 'aria-label="A triangle &lt;/script&gt;&lt;b&gt;&quot;bold&quot;&lt;/b&gt; &amp; more."' in inside
    written = inside[inside.index("json") + len('json">') : inside.index("</script>")]
    plain = json.loads(written)
    assert plain["layout"]["meta"]["alt"] == NASTY
    assert "sliders" not in plain["layout"]  # the page makes its own
    assert (plain["data"], plain["frames"]) == (figure()["data"], figure()["frames"])


def test_scripts_are_on_pages_with_a_figure_only(build: Callable[..., tuple[Path, str]]) -> None:
    out, _ = build(TWIN)
    page, front = (out / "page.html").read_text(), (out / "index.html").read_text()
    for name in ("offline_plotly.js", "offline_plotly.css"):
        assert f"_static/{name}" in page and (out / "_static" / name).exists()
    assert "plotly" not in front
    script = (out / "_static" / "plotly.min.js").read_text(encoding="utf-8")
    assert script.lstrip().startswith("/**\n* plotly.js v")


def test_a_page_without_figures_brings_nothing(build: Callable[..., tuple[Path, str]]) -> None:
    out, warnings = build([display(text_plain="<Figure>", image_png=PNG)])
    page = (out / "page.html").read_text()
    assert warnings == "" and "plotly" not in page and "static-twin" not in page


@pytest.mark.parametrize(
    "builder, ending, image",
    [("epub", "xhtml", "<img"), ("latex", "tex", "includegraphics"), ("text", "txt", "<Figure>")],
)
def test_elsewhere_the_twin_stands_alone(
    build: Callable[..., tuple[Path, str]], builder: str, ending: str, image: str
) -> None:
    out, warnings = build(TWIN, builder)
    assert "page.ipynb" not in warnings
    text = "\n".join(file.read_text() for file in out.glob(f"*.{ending}"))
    assert image in text and "The caption." in text
    assert "interactive" not in text and "bdata" not in text


@pytest.mark.parametrize(
    "outputs, message",
    [
        (TWIN[:2], "cell 'cell' has 1 interactive figures and 0 images"),
        ([*TWIN, TWIN[1]], "cell 'cell' has 2 interactive figures and 1 images"),
        (
            [new_output("display_data", data={PLOTLY: {"data": [], "layout": {}}}), TWIN[2]],
            "a plotly figure that evidence.figures.interactive did not make",
        ),
    ],
)
def test_a_figure_without_its_twin_or_alt_text_is_a_warning(
    build: Callable[..., tuple[Path, str]], outputs: list[Any], message: str
) -> None:
    _, warnings = build(outputs)
    assert message in warnings and "page" in warnings
