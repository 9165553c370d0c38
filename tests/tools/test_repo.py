"""The house rules of CONTRIBUTING.md: who imports whom, nothing committed that should not be."""

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from tools import pins

ROOT = Path(__file__).parents[2]
HEAVY = {"pandas", "matplotlib", "sklearn", "scipy", "plotly", "joblib"}  # torch itself brings tqdm


def tracked() -> list[str]:
    """What git has or would take, so that the rules hold before a commit as well."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in listed if name and (ROOT / name).exists())


def imports(tree: ast.AST, package: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted names that a module of a package imports, and whether it does so inside a function."""
    inside = {
        id(part)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for part in ast.walk(function)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [start, node.module or ""]))
            # `from lai import factor` names a module as well as `from lai.factor import x` does
            names = [base] + [f"{base}.{alias.name}" for alias in node.names]
        yield from ((name, id(node) in inside) for name in names)


def for_types_alone(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from node.body


def runs(tree: ast.Module) -> ast.Module:
    """The module without what only a type checker reads."""
    left_out = set(map(id, for_types_alone(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            node.body = [part for part in node.body if id(part) not in left_out] or [ast.Pass()]
    return tree


def modules(folder: str) -> dict[str, ast.Module]:
    """By path from the root: what of a package's modules is executed."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): runs(ast.parse(path.read_text())) for path in paths}


def package_of(name: str) -> str:
    return ".".join(Path(name).parts[:-1])


def tops(names: Iterator[tuple[str, bool]]) -> set[str]:
    return {name.partition(".")[0] for name, _ in names}


def test_importing_lai_brings_torch_and_numpy_only() -> None:
    code = "import sys, lai; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(loaded.stdout.split()) == set()


def test_lai_imports_torch_numpy_and_itself() -> None:
    """Inside functions as well; but lai.fit may draw a bar and choose_lam a picture, and one module is scikit-learn's."""
    more = {"lai/training.py": {"tqdm"}, "lai/choose.py": {"matplotlib"}}
    for name, tree in modules("lai").items():
        for dotted, inside in imports(tree, "lai"):
            top = dotted.partition(".")[0]
            own = top in {"lai", "torch", "numpy"} or top in sys.stdlib_module_names
            extra = (inside and top in more.get(name, ())) or (name == "lai/sklearn.py" and top == "sklearn")
            assert own or extra, f"{name} imports {dotted}"


ABOVE = {"tools", "tests", "notebooks", "book", "IPython", "myst_nb", "papermill", "nbformat", "nbclient"}


@pytest.mark.parametrize(
    "package, above", [("lai", ABOVE | {"evidence", "benchmarks"}), ("evidence", ABOVE | {"benchmarks"})]
)
def test_a_package_does_not_know_what_is_built_on_it(package: str, above: set[str]) -> None:
    for name, tree in modules(package).items():
        assert tops(imports(tree, package_of(name))) & above == set(), name
        if package == "lai":
            assert not re.search(r"\bnotebooks/|\bbook/|\bevidence[./]", (ROOT / name).read_text()), name


@pytest.mark.parametrize("package", ["lai", "evidence"])
def test_no_import_leads_back(package: str) -> None:
    """No circle among the modules of a package, whether they import at the top or inside a function."""
    trees = modules(package)
    names = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in trees}
    arrows = {
        dotted: {
            target
            for target, _ in imports(trees[name], package_of(name))
            # a package's own modules run its __init__ before they run, and import it for nothing else
            if target in names and target != dotted and not dotted.startswith(f"{target}.")
        }
        for dotted, name in names.items()
    }
    list(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError, which names the circle


def test_tools_do_not_import_tests_and_notebooks_import_neither() -> None:
    for name, tree in modules("tools").items():
        assert tops(imports(tree, "tools")) & {"tests", "notebooks"} == set(), name
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        code = "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))
        assert tops(imports(ast.parse(code))) & {"tools", "tests", "notebooks"} == set(), path.name


def test_notebooks_hold_no_logic() -> None:
    """A function of more than a few statements, or any class, belongs in a package, where tests reach it."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code" or cell.source.startswith(("%", "!")):
                continue
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef), f"{path.name}: class {node.name}"
                if isinstance(node, ast.FunctionDef):
                    length = sum(isinstance(part, ast.stmt) for part in ast.walk(node))
                    assert length <= 20, f"{path.name}: {node.name} has {length} statements"


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
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
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
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
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


def test_pins_are_moved_in_both_parts_and_nothing_else_is() -> None:
    text = pins.PINS.read_text()
    versions = pins.pinned(text)
    assert pins.rewritten(text, versions) == text
    names = [re.split(r"[\[<>=!~]", item)[0] for item in pins.asked(text, ROOT / "pyproject.toml")]
    assert {"torch", "jupyter-book", "Sphinx"} <= set(names) and "zipp" not in names
    kept = {name: version for name, version in versions.items() if name not in ("torch", "zict", "zipp")}
    changed = {"torch": "9.0", "Zict": "9.2"}
    moved = pins.rewritten(text, kept | changed | {"nvidia-nccl": "1", "triton": "1"})
    assert pins.pinned(moved) == kept | changed


def test_workflows_run_what_exists_with_actions_of_one_version_and_few_rights() -> None:
    makefile = (ROOT / "Makefile").read_text()
    paths = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert paths
    for path in paths:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for name, job in workflow["jobs"].items():
            assert job["timeout-minutes"] <= 180, f"{path.name}: {name}"
            for step in job["steps"]:
                assert re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", step.get("uses", "actions/x@v1.0.0")), step
                for target in re.findall(r"\bmake ([a-z-]+)(?= |$)", step.get("run", ""), re.MULTILINE):
                    assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), f"{path.name}: make {target}"


def test_nothing_loads_what_could_run_code() -> None:
    """What ruff has no rule for."""
    loads = re.compile(r"\b(torch|joblib|pickle|dill|cloudpickle)\.loads?\(|allow_pickle=True|\.read_pickle\(")
    ours = [ROOT / path for path in tracked() if path.endswith((".py", ".ipynb")) and not path.startswith("tests/")]
    assert len(ours) > 50 and [path for path in ours if loads.search(path.read_text(encoding="utf-8"))] == []


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
