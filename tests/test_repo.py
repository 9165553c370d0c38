"""The house rules of CONTRIBUTING.md: who imports whom, a true map, nothing committed that should not be."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"pandas", "matplotlib", "sklearn", "scipy", "plotly", "joblib"}  # torch itself brings tqdm


def tracked() -> list[str]:
    """What git has or would take, so that the rules hold before a commit as well."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in listed if name and (ROOT / name).exists())


def imports(tree: ast.AST, package: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted names that a module imports, and whether it does so when it is itself imported."""
    at_import = set(map(id, _executed_at_import(tree)))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            # `from lai import data` names a module as well as `from lai.data import x` does
            names = [base] + [f"{base}.{alias.name}" for alias in node.names]
        yield from ((name, id(node) in at_import) for name in names)


def _executed_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed_at_import(node)


def modules(folder: str) -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text()) for path in sorted((ROOT / folder).glob("*.py"))}


def tops(names: Iterator[tuple[str, bool]]) -> set[str]:
    return {name.partition(".")[0] for name, _ in names}


def test_importing_lai_brings_torch_and_numpy_only() -> None:
    code = "import sys, lai; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(loaded.stdout.split()) == set()


def test_the_core_imports_torch_numpy_and_itself() -> None:
    """Whatever `import lai` reaches may use other packages inside functions only."""
    trees = modules("lai")
    reached, todo = set(), ["__init__.py"]
    while todo:
        name = todo.pop()
        if name in reached or name not in trees:
            continue
        reached.add(name)
        for dotted, at_import in imports(trees[name], "lai"):
            if at_import and dotted.startswith("lai"):
                todo.append(f"{dotted.split('.')[1]}.py" if "." in dotted else "__init__.py")
            elif at_import:
                top = dotted.partition(".")[0]
                assert top in {"torch", "numpy"} or top in sys.stdlib_module_names, f"{name} imports {dotted}"
    assert {"factor.py", "loss.py"} <= reached


def test_lai_does_not_know_the_book() -> None:
    elsewhere = {"tools", "tests", "notebooks", "book", "IPython", "myst_nb", "papermill", "nbformat", "nbclient"}
    for name, tree in modules("lai").items():
        assert tops(imports(tree, "lai")) & elsewhere == set(), name
        assert not re.search(r"\bnotebooks/|\bbook/", (ROOT / "lai" / name).read_text()), name


def test_tools_do_not_import_tests_and_notebooks_import_neither() -> None:
    for name, tree in modules("tools").items():
        assert tops(imports(tree, "tools")) & {"tests", "notebooks"} == set(), name
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        code = "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))
        assert tops(imports(ast.parse(code))) & {"tools", "tests", "notebooks"} == set(), path.name


def test_notebooks_hold_no_logic() -> None:
    """A function of more than a few statements, or any class, belongs in lai, where tests reach it."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or cell.source.startswith(("%", "!")):
                continue
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef), f"{path.name}: class {node.name}"
                if isinstance(node, ast.FunctionDef):
                    length = sum(isinstance(part, ast.stmt) for part in ast.walk(node))
                    assert length <= 20, f"{path.name}: {node.name} has {length} statements"


def test_the_map_in_contributing_is_true() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    mapped = {name.rstrip("/") for name in re.findall(r"^\s*(?:[-*]|\|) *`([^`]+)`", text, re.MULTILINE)}
    files = tracked()
    top_level = {name for name in files if "/" not in name}
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    code = {name for name in files if re.fullmatch(r"(lai|tools)/\w+\.py", name) and not name.endswith("/__init__.py")}
    assert sorted((top_level | folders | code) - mapped) == [], "not on the map in CONTRIBUTING.md"
    paths = {name for name in mapped if "/" in name or name in top_level}
    assert sorted(name for name in paths if not list(ROOT.glob(name))) == [], "on the map, but not there"


def test_no_rows_of_data_are_committed() -> None:
    tables = (".csv", ".tsv", ".parquet", ".feather", ".zip", ".gz", ".pkl", ".pt", ".h5", ".xlsx")
    assert [name for name in tracked() if name.endswith(tables) and not name.startswith("book/results/")] == []
    for name in tracked():
        limit = 200_000 if name.endswith(".npz") else 500_000
        assert (ROOT / name).stat().st_size <= limit, f"{name} is too large"


def test_no_machine_paths_or_package_hosts() -> None:
    """Written in pieces, so that this file passes its own test."""
    path = re.compile(r"(?<![\w.:/-])/(?:home|root|work|Users|opt)/\w")
    hosts = re.compile(
        "|".join(["pypi.org" + "/simple", "python" + "hosted", "download.py" + "torch", "index" + "-url"])
    )
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for pattern in (path, hosts):
            found = pattern.search(text)
            assert found is None, f"{name}: {found[0] if found else ''}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(name: str) -> None:
    """Each `make x` in code, and each variable it is given, is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = (ROOT / name).read_text()
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    for command in re.findall(r"(?:^|`)\s*(?:\w+=\S+ +)*make +([^`\n#]*)", code, re.MULTILINE):
        given = re.sub(r"=(\"[^\"]*\"|\S+)", "=", command).split()
        for word in given:
            known = word in targets or re.search(rf"\b{re.escape(word.rstrip('='))}\b", makefile)
            assert known and (word in targets or "=" in word), f"{name}: make {command}: no {word} in the Makefile"


def test_every_target_has_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    described = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert described == set(phony[1].split())


def test_pins_are_exact_and_cover_what_is_declared() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    names = {re.split(r"[\[<>=!~ ]", item)[0].lower() for item in declared}
    assert sorted(name for name in names if re.sub(r"[-_.]+", "-", name) not in pinned) == []


def test_every_notebook_is_in_the_contents() -> None:
    contents = (ROOT / "_toc.yml").read_text()
    assert [
        path.stem for path in (ROOT / "notebooks").glob("*.ipynb") if f"notebooks/{path.stem}\n" not in contents
    ] == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_chapter_ends_with_exercises(path: Path) -> None:
    """Four to six; two or more grade the reader's answer; a solution is folded and runs, unless the question is open."""
    cells = {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}
    prose = "\n".join(cell.source for cell in cells.values() if cell.cell_type == "markdown")
    asked = re.findall(r"^\*\*(\d)\.(?: [^*]*)?\*\*(.*)", prose, re.MULTILINE)
    assert [number for number, _ in asked] == [str(n + 1) for n in range(len(asked))] and 4 <= len(asked) <= 6
    assert sum(f"exercise-{number}-answer" in cells for number, _ in asked) >= 2
    for number, text in asked:
        name = f"exercise-{number}-solution"
        if "(Open" not in text and "Open" not in text:
            assert "hide-cell" in cells[name].metadata.get("tags", []), f"{path.stem}: {name}"


@pytest.mark.parametrize(
    "path", [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")], ids=lambda path: path.name
)
def test_a_dollar_in_prose_is_escaped(path: Path) -> None:
    """Two of "US$" in a paragraph would be read as mathematics."""
    if path.suffix == ".md":
        prose = path.read_text()
    else:
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.findall(r".{0,20}(?<!\\)US\$.{0,20}", prose) == []
