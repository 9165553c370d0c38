"""The pages to look things up in: notation, glossary, errata, library, references, and the map of the book in intro."""

import ast
import builtins
import functools
import importlib
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch
import yaml
from pybtex.database import BibliographyData, parse_file

import lai
from evidence.ledger.paper import V1_SMOOTHNESS, V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.studies import lines

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def page(name: str) -> str:
    return (BOOK / f"{name}.md").read_text(encoding="utf-8")


@functools.cache
def texts() -> dict[str, str]:
    """All that readers see as text: the pages, and the markdown of the chapters."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in BOOK.glob("*.md")}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        found[path.stem] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return found


def roles(text: str, role: str) -> list[str]:
    """What the uses of a role point at: the part in angle brackets, or all of it."""
    text = re.sub(r"```\{?(?!glossary|eval).*?```", "", text, flags=re.DOTALL) if role != "cite" else text
    inner = re.findall(rf"\{{{role}\}}`([^`]+)`", text)
    return [match[1] if (match := re.search(r"<([^<>]+)>$", one)) else one for one in inner]


def exists(doc: str) -> bool:
    target = (BOOK / doc).resolve()
    return any(target.with_name(target.name + suffix).exists() for suffix in (".md", ".ipynb"))


# --- references ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bib() -> BibliographyData:
    return parse_file(str(BOOK / "references.bib"))  # a key that is there twice is an error


def cited() -> dict[str, set[str]]:
    """Keys, and the pages that cite them."""
    where: dict[str, set[str]] = {}
    for name, text in texts().items():
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
            for key in keys.split(","):
                where.setdefault(key.strip(), set()).add(name)
    return where


def test_the_bibliography_has_no_work_that_nobody_cites(bib: BibliographyData) -> None:
    """An uncited one would not be shown: the last list of the page is of works that are cited."""
    assert sorted(set(bib.entries) - set(cited())) == []


# --- errata ----------------------------------------------------------------------------------------------------


class Erratum(NamedTuple):
    label: str
    title: str
    kind: str
    text: str

    def field(self, name: str) -> str:
        match = re.search(rf"\*\*{name}:\*\*\s(.*?)(?=\s\*\*(?:Where|What|Our reading|Shown in):|$)", self.text)
        return match[1] if match else ""


def errata() -> list[Erratum]:
    pattern = r"^\((erratum-[\w-]+)\)=\n### (.+)\n\n\*(\w+)\.\* ((?:.+\n?)+)"
    found = re.findall(pattern, page("errata"), re.MULTILINE)
    return [Erratum(label, title, kind, " ".join(text.split())) for label, title, kind, text in found]


def test_every_heading_of_the_errata_is_an_entry() -> None:
    found = errata()
    assert [one.title for one in found] == re.findall(r"^### (.+)$", page("errata"), re.MULTILINE)
    assert len({one.label for one in found}) == len(found) >= 40
    assert {one.kind for one in found} == {"Slip", "Reading"}


@pytest.mark.parametrize("entry", errata(), ids=lambda entry: entry.label)
def test_an_erratum_says_where_what_and_how_we_read_it(entry: Erratum) -> None:
    for name in ("Where", "What", "Our reading", "Shown in"):
        assert entry.field(name), name
    assert re.search(r"\b(both|v1|v2|A\b|throughout)", entry.field("Where"))
    targets = roles(entry.field("Shown in"), "doc")
    assert targets and [target for target in targets if not exists(target)] == []


def test_numbers_in_the_errata_are_those_of_the_papers_tables() -> None:
    text = {one.label.removeprefix("erratum-"): one.text for one in errata()}
    rise = [
        (V2_SMOOTHNESS[1e-3][0] / V2_SMOOTHNESS[None][0], "by 3.6 %"),
        (V1_SMOOTHNESS[1e-4][0] / V1_SMOOTHNESS[None][0], "by 30 %"),
        (0.7127 / V2_SMOOTHNESS[None][0], "by 2.4 %"),
    ]
    for ratio, words in rise:
        digits = 0 if "30" in words else 1
        assert f"by {100 * (ratio - 1):.{digits}f} %" == words and words in text["max-accuracy"]
    plain, ours = V2_SENSITIVITY["mse"], V2_SENSITIVITY["lam = 1e-1"]
    change = [100 * (b / a - 1) for a, b in zip(plain, ours, strict=True)]
    assert sum(c < 0 for c in change) == 6 and "six of eight" in text["most-features"]
    assert f"{-min(change):.2f}" == "1.74" and "1.74 %" in text["most-features"]
    assert abs(max(change) - 1.78) < 0.05 and "1.78 %" in text["most-features"]  # the paper's own rounding
    assert (57 / 58) ** 58 > 1 / 3 and "more than a third" in text["evenly"]


def test_what_the_errata_say_of_the_appendix_is_so() -> None:
    """Slope 1 with intercept 4 needs much noise and centred x; squaring makes nothing convex."""
    generator = torch.Generator().manual_seed(0)
    x = 10 * torch.rand(2000, generator=generator, dtype=torch.float64)
    noise = 2 * torch.rand(2000, generator=generator, dtype=torch.float64) - 1
    little = lines.best_line(x, 3 * x + 4 + noise, lam=1.0)
    assert abs(little.slope - 3) < 0.1
    much = lines.best_line(x, 3 * x + 4 + 20 * noise, lam=1.0)
    assert math.isclose(much.slope, 1.0) and abs(much.intercept - 14) < 0.6
    x = x - x.mean()
    centred = lines.best_line(x, 3 * x + 4 + 20 * noise, lam=1.0)
    assert math.isclose(centred.slope, 1.0) and abs(centred.intercept - 4) < 0.6
    k = torch.tensor([-6.0, 0.0, 6.0], dtype=torch.float64)
    low, middle, high = lai.lai_factor(k, 36.0, base="mse").tolist()
    assert low == high < middle  # two minima, so not convex


# --- notation --------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    found = [re.split(r" \| ", line.strip("| \n")) for line in page("notation").splitlines() if line.startswith("| ")]
    return [row for row in found if row[0] != "symbol"]


@functools.cache
def names_in_use() -> set[str]:
    """Every name that the library or a chapter gives to something: functions, parameters, attributes, columns."""
    sources = [path.read_text(encoding="utf-8") for name in ("lai", "evidence") for path in (ROOT / name).rglob("*.py")]
    for path in NOTEBOOKS:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        sources.append("\n".join(cell for cell in cells if not cell.startswith(("%", "!"))))
    names: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                names.add(node.value)  # a column such as rms_k
    return names


def test_notation_has_one_row_for_each_symbol() -> None:
    assert len(rows()) >= 35
    assert [row for row in rows() if len(row) != 5 or not all(row)] == []
    symbols = [symbol for row in rows() for symbol in row[0].split(", ") if symbol != "none"]
    assert sorted({symbol for symbol in symbols if symbols.count(symbol) > 1}) == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_names_in_code_are_real(row: list[str]) -> None:
    known = names_in_use() | set(dir(builtins)) | {"math", "sqrt", "model", "parameters", "j"}
    for code in re.findall(r"`([^`]+)`", row[2]):
        bare = re.sub(r"\"[^\"]*\"", "", code)
        used = set(re.findall(r"[A-Za-z_]\w*", bare))
        assert used and used - known == set(), code


# --- library ---------------------------------------------------------------------------------------------------


@functools.cache
def documented() -> set[str]:
    """Dotted names of what the directives of the API pages make; automodule with members takes all with a docstring."""
    names: set[str] = set()
    module = ""
    for line in "".join(page(path.stem) for path in sorted(BOOK.glob("api*.md"))).splitlines():
        if line.strip() == ":members:":
            names |= {f"{module}.{name}" for name in with_docstring(module)}
        directive = re.match(r"\.\. (?:auto)?(\w+):: (\S+)", line)
        if directive and directive[1] in ("module", "currentmodule"):
            module = directive[2]
            names.add(module)
        elif directive:
            names.add(f"{module}.{directive[2]}")
    return names


def with_docstring(module: str) -> Iterator[str]:
    """What autodoc takes of a module: its own functions and classes, or those of __all__, and explained constants."""
    loaded = importlib.import_module(module)
    listed = getattr(loaded, "__all__", None)
    for name in listed or vars(loaded):
        value = getattr(loaded, name)
        own = listed is not None or getattr(value, "__module__", None) == module
        if own and not name.startswith("_") and callable(value) and value.__doc__:
            yield name
    body = ast.parse(Path(str(loaded.__file__)).read_text(encoding="utf-8")).body
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                yield target.id


SLIDERS = ("interactive", "sliders")  # they need plotly


def modules() -> list[str]:
    """The evidence, and what of lai is imported by name: `import lai` re-exports the rest, and the page lists it as lai's."""
    init = ast.parse((ROOT / "lai" / "__init__.py").read_text())
    core = {node.module for node in ast.walk(init) if isinstance(node, ast.ImportFrom) and node.level == 1}
    found = [
        f"lai.{path.stem}"
        for path in sorted((ROOT / "lai").glob("*.py"))
        if path.stem not in core | {"__init__", "__main__"}
    ]
    for path in sorted((ROOT / "evidence").rglob("*.py")):
        whole = path.parent.name in ("data", "figures") and path.stem not in SLIDERS  # the folder says what is public
        if not whole and path.stem != "__init__":
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [*found, "evidence.data", "evidence.figures"]


def test_the_core_is_on_the_page() -> None:
    assert {f"lai.{name}" for name in lai.__all__} - documented() == set()


@pytest.mark.parametrize("module", modules())
def test_every_module_is_on_the_page_and_complete(module: str) -> None:
    if module.rpartition(".")[2] in SLIDERS:
        pytest.importorskip("plotly")
    assert module in documented()
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names = {node.name for node in top if not node.name.startswith("_")}
    assert [node.name for node in top if node.name in names and not ast.get_docstring(node)] == []
    names |= set(getattr(importlib.import_module(module), "__all__", ()))
    assert {f"{module}.{name}" for name in names} - documented() == set()


@pytest.mark.parametrize("index, package", [("api", "lai"), ("api_evidence", "evidence")])
def test_an_index_names_every_page_below_it_and_what_is_there(index: str, package: str) -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {chapter["file"]: chapter for part in toc["parts"] for chapter in part["chapters"]}
    below = [Path(section["file"]).name for section in chapters[f"book/{index}"]["sections"]]
    lines = {line.split("`")[1]: line for line in page(index).splitlines() if line.startswith("| {doc}")}
    assert list(lines) == below
    for name, line in lines.items():
        text = page(name)
        there = re.findall(r"^\.\. automodule:: (\S+)", text, re.MULTILINE)
        if package == "lai":
            there += [f"lai.{one}" for one in re.findall(r"^\.\. auto(?:function|class):: (\w+)", text, re.MULTILINE)]
        named = [one.replace("lai.sklearn", "lai") for one in re.findall(r"\{py:\w+\}`([^`]+)`", line)]
        assert there and sorted(named) == sorted(there)


# --- the book's map --------------------------------------------------------------------------------------------


def test_intro_names_every_chapter_in_reading_order() -> None:
    table = re.search(r"\| chapter \|.*?\n\n", page("intro"), re.DOTALL)
    assert table
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    order = [Path(chapter["file"]).name for part in parts for chapter in part["chapters"]]
    named = [Path(target).name for target in roles(table[0], "doc")]
    assert named == [name for name in order if name in named]
    assert {path.stem for path in NOTEBOOKS} <= set(named)
