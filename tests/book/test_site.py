"""The files of the built site, whatever they are: nothing of the machine that built it, and nothing that no page asks for."""

from pathlib import Path

import pytest

from tools.refresh import MACHINE_PATH


@pytest.fixture(scope="module")
def texts(html: Path) -> dict[str, str]:
    """By name: what can be read as text; images and fonts cannot."""
    found = {}
    for path in html.rglob("*"):
        try:
            found[path.relative_to(html).as_posix()] = path.read_text(encoding="utf-8") if path.is_file() else ""
        except UnicodeDecodeError:
            pass
    return found


def test_no_file_names_a_place_on_a_machine(html: Path, texts: dict[str, str]) -> None:
    """Neither on the one that built the site nor on those of others."""
    assert {"index.html", "notebooks/20_lambda.html", "_sources/notebooks/20_lambda.ipynb"} <= texts.keys()
    assert {name: match[0] for name, text in texts.items() if (match := MACHINE_PATH.search(text))} == {}
    assert [name for name, text in texts.items() if str(html) in text] == []


def test_no_file_is_a_source_map_or_asks_for_one(html: Path, texts: dict[str, str]) -> None:
    assert list(html.rglob("*.map")) == []
    assert [name for name, text in texts.items() if "# sourceMappingURL=" in text] == []
