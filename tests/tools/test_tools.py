"""The commands behind make, run on notebooks of a few lines."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import build, chapter, notebook, refresh, values

ROOT = Path(__file__).parents[2]
PARAMETERS = """\
lam: float = 0.5  # λ, greater than 0
lams: list[float] = [0.1, 1.0]  # several λ
seeds: int = 2  # repetitions
source: str = "auto"  # where the data come from
fast: bool = False  # fewer steps"""


def write(folder: Path, name: str = "20_tiny", code: str = "print(lam, seeds)", parameters: str = PARAMETERS) -> Path:
    """A notebook as `make refresh` leaves it, its outputs aside."""
    cells = [
        new_markdown_cell("# Tiny\n\nλ is $\\lambda$.", id="title"),
        new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}, execution_count=1),
        new_code_cell(code, id="work", execution_count=2),
    ]
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(new_notebook(cells=cells, metadata=refresh.METADATA)) + "\n")
    return path


def edit(path: Path, change: Callable[[nbformat.NotebookNode], object]) -> None:
    node = nbformat.read(path, as_version=4)
    change(node)
    path.write_text(nbformat.writes(node) + "\n")


@pytest.fixture
def rerun(tmp_path: Path) -> Callable[..., int]:
    """`python -m tools.chapter` on one tiny notebook; kernels must not start unless asked for."""
    write(tmp_path / "notebooks")
    folders = ["--notebooks", str(tmp_path / "notebooks"), "--runs", str(tmp_path / "_runs")]
    return lambda *arguments: chapter.main([*folders, *arguments])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--name", "nope"], "no such chapter; the chapters are tiny"),
        (["--name", ""], "NAME=(empty)"),
        (
            ["--name", "tiny", "--params", "colour=red"],
            "20_tiny: colour: there is no such parameter; it has lam, lams, seeds, source, fast",
        ),
        (["--name", "tiny", "--params", "seeds"], "not of the form name=value"),
        (["--name", "tiny", "--params", "seeds=2 seeds=3"], "given twice"),
        (["--name", "tiny", "--params", "source='auto"], "PARAMS: No closing quotation"),
        (["--name", "tiny", "--params", "seeds=2.5"], "seeds=2.5: a whole number is needed"),
        (["--name", "tiny", "--params", "seeds=[2]"], "seeds=[2]: one value is needed"),
        (["--name", "tiny", "--params", "fast=maybe"], "fast=maybe: true or false is needed"),
        (["--name", "tiny", "--params", "lams=x"], "lams=x: a number is needed"),
        (["--name", "tiny", "--params", "lams="], "a list such as [0.1,0.2] is needed"),
        (["--name", "tiny", "--params", "lams=[]"], "at least one value"),
        (["--name", "tiny", "--params", "lams=0.1,1"], "a list such as [0.1,0.2] is needed"),
        (["--name", "tiny", "--params", "lams=[0.1,0.1]"], "give each value once"),
        (["--name", "tiny", "--params", "lams=[0.1,-1]"], "λ must be from 1e-12 to 1e+12"),
        (["--name", "tiny", "--lam", ""], "lam=(empty): a number is needed"),
        (["--name", "tiny", "--lam", "x"], "lam=x: a number is needed"),
        (["--name", "tiny", "--lam", "0"], "λ must be from 1e-12 to 1e+12"),
        (["--name", "tiny", "--lam=-0.1"], "λ must be from 1e-12 to 1e+12"),
        (["--name", "tiny", "--lam", "nan"], "λ must be from 1e-12 to 1e+12"),
        (["--name", "tiny", "--lam", "inf"], "λ must be from 1e-12 to 1e+12"),
    ],
)
def test_chapter_refuses_before_computing(
    rerun: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(chapter, "run", lambda *_: pytest.fail("a kernel was started"))
    assert rerun(*arguments) == 1
    assert message in capsys.readouterr().err


def test_chapter_runs_with_typed_values(rerun: Callable[..., int], tmp_path: Path) -> None:
    write(tmp_path / "notebooks", code="print(lam, lams, seeds + 1, source, not fast)")
    params = "lams=[1e-3,2] seeds=5 source=surrogate fast=true"
    assert rerun("--name", "tiny", "--lam", "1e-3", "--params", params) == 0
    (done,) = (tmp_path / "_runs").iterdir()
    assert done.name == "20_tiny__lam-0.001__lams-0.001,2.0__seeds-5__source-surrogate__fast-True.ipynb"
    assert "0.001 [0.001, 2.0] 6 surrogate False" in done.read_text()


def test_chapter_keeps_the_partial_notebook_of_a_failure(
    rerun: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "notebooks")
    assert rerun("--name", "tiny", "--lam", "0.3") == 0
    good = (tmp_path / "_runs" / "20_tiny__lam-0.3.ipynb").read_text()
    edit(path, lambda node: node.cells[2].update(source="print('before')\n1 / 0"))
    assert rerun("--name", "tiny", "--lam", "0.3") == 1
    error = capsys.readouterr().err
    assert "20_tiny.ipynb, code cell 3 failed" in error and "    1 / 0" in error
    assert "ZeroDivisionError: division by zero" in error and "Traceback" not in error
    assert "before" in (tmp_path / "_runs" / "20_tiny__lam-0.3.failed.ipynb").read_text()
    assert (tmp_path / "_runs" / "20_tiny__lam-0.3.ipynb").read_text() == good
    assert len(list((tmp_path / "_runs").iterdir())) == 2


def test_chapter_keeps_what_a_dead_kernel_had_printed(
    rerun: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "notebooks", code="print('was', 'here')")
    edit(path, lambda node: node.cells.append(new_code_cell("import os\nos._exit(1)", id="end")))
    assert rerun("--name", "tiny") == 1
    error = capsys.readouterr().err
    assert "20_tiny.ipynb, the kernel ended with status 1, in the cell" in error and "os._exit(1)" in error
    assert "was here" in (tmp_path / "_runs" / "20_tiny.failed.ipynb").read_text()


def test_names_of_runs_stay_short_and_plain() -> None:
    assert chapter.run_name("20_lambda", {"lam": [0.1, 0.2]}) == "20_lambda__lam-0.1,0.2"
    assert chapter.run_name("20_lambda", {"source": "../../x y"}) == "20_lambda__source-....xy"
    assert len(chapter.run_name("20_lambda", {"lams": [0.1] * 99})) < 130


def test_make_chapter_passes_values_on() -> None:
    command = ["make", "chapter", "NAME=nope; exit 0", "LAM=1", "PARAMS=$$(exit 0)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "no such chapter" in done.stderr, done.stdout + done.stderr


def test_make_tells_an_empty_lam_from_none() -> None:
    def recipe(*arguments: str) -> str:
        return subprocess.run(["make", "-n", "book", *arguments], cwd=ROOT, capture_output=True, text=True).stdout

    environment_has_lam = "LAM" in os.environ
    assert "--lam" in recipe("LAM=") and ("--lam" in recipe()) == environment_has_lam


def test_parameters_are_read_from_source(tmp_path: Path) -> None:
    path = write(
        tmp_path, parameters="lam: float | None = None  # λ\nplain = 3\nlong: str = (\n    'x'\n)  # two lines"
    )
    found = notebook.parameters(nbformat.read(path, as_version=4))
    assert list(found) == ["lam", "plain", "long"]
    assert found["lam"] == notebook.Parameter("lam", "float | None", "λ", None)
    assert found["plain"].annotation == "" and found["long"].comment == "two lines"
    assert values.parse(found["lam"], "None") is None and values.parse(found["lam"], "2") == 2.0
    several = notebook.Parameter("lam", "list[float]", "λ")
    assert values.parse(several, "2") == [2.0] and values.parse(several, "[1e-3, 2]") == [0.001, 2.0]
    words = notebook.Parameter("protocols", "list", "", ["sound"])
    assert values.parse(words, "sound") == ["sound"] and values.parse(words, "[sound, published]") == [
        "sound",
        "published",
    ]


def output(**data: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data={key.replace("_", "/"): text for key, text in data.items()})


def plotly_output() -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data={"application/vnd.plotly.v1+json": {"data": [], "layout": {}}})


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


DEFECTS: list[tuple[str, Callable[[nbformat.NotebookNode], object]]] = [
    ("not 1 to 2 in order", lambda node: node.cells[2].update(execution_count=7)),
    ("timing metadata (papermill)", lambda node: node.cells[2].metadata.update(papermill={"duration": 1.0})),
    ("timing metadata (execution)", lambda node: node.cells[2].metadata.update(execution={"iopub.status": ""})),
    ("notebook metadata", lambda node: node.metadata.update(papermill={})),
    ("machine path", lambda node: node.cells[2].update(source="open('/" + "home/reader/x.csv')")),
    ("machine path", lambda node: node.cells[2].outputs.append(stream("/" + "tmp/x"))),
    ("machine path", lambda node: node.cells[0].update(source="In C:" + "\\data")),
    ("memory address", lambda node: node.cells[2].outputs.append(stream("<Line2D at 0x7f0123456789>"))),
    ("bytes of output", lambda node: node.cells[2].outputs.append(stream("x" * 21_000))),
    ("writes to stderr", lambda node: node.cells[2].outputs.append(stream("careful", "stderr"))),
    (
        "stopped with KeyError",
        lambda node: node.cells[2].outputs.append(nbformat.v4.new_output("error", ename="KeyError")),
    ),
    ("has a figure", lambda node: node.cells[2].outputs.append(output(image_png="aGk="))),
    ("has a figure", lambda node: node.cells[2].outputs.append(plotly_output())),
    (
        "without alt text",
        lambda node: node.cells[2].outputs.append(output(text_plain="<Figure size 640x480 with 1 Axes>")),
    ),
    ("without alt text", lambda node: node.cells[2].metadata.update(mystnb={"figure": {"name": "fig-x"}})),
    ("without alt text", lambda node: node.cells[2].update(source="interactive.triangle(k, e)")),
    ("0 cells are tagged parameters", lambda node: node.cells[1].metadata.clear()),
    ("2 cells are tagged parameters", lambda node: node.cells[2].metadata.update(tags=["parameters"])),
    ("has no lam", lambda node: node.cells[1].update(source="seeds: int = 1  # repetitions")),
    ("lam has no type", lambda node: node.cells[1].update(source="lam = 0.5  # λ")),
    ("lam has no comment", lambda node: node.cells[1].update(source="lam: float = 0.5")),
    ("an id in words", lambda node: node.cells[2].update(id="0f3a9c1e")),
]


@pytest.mark.parametrize("message, spoil", DEFECTS)
def test_refresh_check_catches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], message: str, spoil: Callable[[nbformat.NotebookNode], object]
) -> None:
    path = write(tmp_path)
    assert refresh.main(["--check", "--notebooks", str(tmp_path)]) == 0, capsys.readouterr().out
    edit(path, spoil)
    assert refresh.main(["--check", "--notebooks", str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_refresh_check_catches_another_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("\n ", "\n  "))
    assert refresh.main(["--check", "--notebooks", str(tmp_path)]) == 1
    assert "not in the form that refresh writes" in capsys.readouterr().out


def test_refresh_writes_what_its_check_accepts_and_is_stable(tmp_path: Path) -> None:
    code = (
        "import os\nimport sys\nimport matplotlib.pyplot as plt\n"
        "print(os.environ['LAI_DATA'], flush=True)\nprint('second')\nfig, ax = plt.subplots();"
    )
    path = write(tmp_path, code=code)
    edit(path, lambda node: node.cells[2].metadata.update(mystnb={"image": {"alt": "Empty axes"}}))
    edit(path, lambda node: node.cells[2].update(execution_count=9))
    assert refresh.main(["--notebooks", str(tmp_path)]) == 0
    assert refresh.check(path) == []
    outputs = nbformat.read(path, as_version=4).cells[2].outputs
    assert [item.output_type for item in outputs] == ["stream", "display_data"]
    assert outputs[0].text == "none\nsecond\n" and list(outputs[1].data) == ["text/plain"]
    before = path.read_bytes()
    assert refresh.main(["--notebooks", str(tmp_path)]) == 0
    assert path.read_bytes() == before


def test_refresh_strips_interactive_figures_with_their_twins(tmp_path: Path) -> None:
    code = (
        "import matplotlib.pyplot as plt\nfrom evidence.figures import interactive\n"
        "fig, ax = plt.subplots()\nprint('drawn')\ninteractive.triangle(1.0, 2.0)"
    )
    path = write(tmp_path, code=code)
    edit(path, lambda node: node.cells[2].metadata.update(mystnb={"image": {"alt": "A triangle"}}))
    executed = tmp_path / "executed.ipynb"
    notebook.run(path, executed, {})
    outputs = nbformat.read(executed, as_version=4).cells[2].outputs
    kinds = [kind for item in outputs for kind in item.get("data", {})]
    assert "application/vnd.plotly.v1+json" in kinds and "image/png" in kinds
    assert "text/html" not in kinds  # would bring plotly from elsewhere
    cleaned = refresh.clean(nbformat.read(executed, as_version=4)).cells[2].outputs
    assert {kind for item in cleaned for kind in item.get("data", {})} <= {"text/plain"}
    assert cleaned[0].text == "drawn\n"


def test_refresh_leaves_a_failing_notebook_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, code="undefined")
    before = path.read_bytes()
    assert refresh.main(["--notebooks", str(tmp_path)]) == 1
    assert "NameError" in capsys.readouterr().err and path.read_bytes() == before


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of two pages with this one's configuration."""
    shutil.copytree(ROOT / "book" / "_ext", tmp_path / "book" / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_static", "references.bib", "references.md"):
        copy = shutil.copytree if (ROOT / "book" / name).is_dir() else shutil.copy
        copy(ROOT / "book" / name, tmp_path / "book" / name)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "book" / "intro.md").write_text("# Front\n\nHello.\n")
    chapters = "  - file: notebooks/20_tiny\n  - file: book/references\n"
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nchapters:\n{chapters}")
    write(tmp_path / "notebooks", code="print('lam is', lam)")
    return tmp_path


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.build", "--root", str(root), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.long
def test_build_from_first_page_to_failure_and_back(book: Path) -> None:
    first = make(book)
    assert first.returncode == 0, first.stdout + first.stderr
    index = book / "_build" / "html" / "index.html"
    assert first.stdout.strip().splitlines()[-1] == str(index) and index.exists()
    page = book / "_build" / "html" / "notebooks" / "20_tiny.html"
    assert "lam is 0.5" in page.read_text()
    written = page.stat().st_mtime_ns

    again = make(book)
    assert again.stdout.strip() == str(index) and page.stat().st_mtime_ns == written

    # A warning fails the build, and fails it again; the last good book stays.
    intro = book / "book" / "intro.md"
    intro.write_text("# Front\n\nSee {eq}`nowhere`.\n")
    for _ in range(2):
        warned = make(book)
        assert warned.returncode == 1 and "book/intro.md:3: WARNING: equation not found: nowhere" in warned.stderr
        assert page.stat().st_mtime_ns == written
    intro.write_text("# Front\n\nHello.\n")

    # So does a failing cell.
    notebook_path = write(book / "notebooks", code="raise RuntimeError('no luck')")
    failed = make(book)
    assert failed.returncode == 1 and "RuntimeError: no luck" in failed.stderr and "20_tiny.ipynb" in failed.stderr
    assert page.stat().st_mtime_ns == written and "lam is 0.5" in page.read_text()

    # Another λ goes beside the book, not into it.
    write(book / "notebooks", code="print('lam is', lam)")
    assert make(book, "--lam=-1").returncode == 1
    other = make(book, "--lam", "0.05")
    assert other.returncode == 0, other.stderr
    assert "lam is 0.05" in (book / "_build" / "lam-0.05" / "html" / "notebooks" / "20_tiny.html").read_text()
    assert page.stat().st_mtime_ns == written
    assert notebook_path.exists() and make(book).stdout.strip() == str(index)


def test_what_nbval_executed_is_what_the_book_is_built_of(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One execution of each notebook; but not of one that fails, or whose verdict is not the committed one."""
    monkeypatch.setenv("LAI_DATA", "none")
    shutil.copy(ROOT / "notebooks" / "conftest.py", book / "notebooks")
    command = [sys.executable, "-m", "pytest", "--rootdir", str(book), "--nbval-lax", "--nbval-current-env"]
    command += ["-p", "no:cacheprovider", str(book / "notebooks")]

    def nbval() -> int:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).returncode

    path = write(book / "notebooks", code="print('lam is', lam)")
    edit(path, lambda node: node.cells[2].metadata.update(tags=["nbval-check-output"]))
    edit(path, lambda node: node.cells[2].update(outputs=[stream("lam is 0.7\n")]))
    assert nbval() == 1 and not (book / "_build").exists()
    edit(path, lambda node: node.cells[2].update(outputs=[stream("lam is 0.5\n")]))
    assert nbval() == 0
    (kept,) = build.execute_all(build.Book(book)).values()
    assert "running" not in capsys.readouterr().out and "lam is 0.5" in kept.read_text()
    beside = {".seconds", ".megabytes"} if Path("/proc/self/status").exists() else {".seconds"}
    assert {path for path in kept.parent.iterdir()} == {kept, *(kept.with_suffix(suffix) for suffix in beside)}
    assert all((build.kept_number(kept.with_suffix(suffix)) or 0) > 0 for suffix in beside)


def test_executions_are_keyed_by_all_they_depend_on(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache must never serve numbers from before a change."""
    monkeypatch.setenv("LAI_DATA", "none")
    (book / "lai").mkdir()
    module = book / "lai" / "factor.py"
    module.write_text("x = 1\n")
    path = book / "notebooks" / "20_tiny.ipynb"

    def key(**values: float) -> str:
        return build.execution_key(path, values, build.surroundings(book))

    seen = [key(), key(lam=0.1)]
    module.write_text("x = 2\n")
    seen.append(key())
    (book / "book" / "results").mkdir()
    (book / "book" / "results" / "table.csv").write_text("1\n")
    seen.append(key())
    data = book / "elsewhere"
    data.mkdir()
    monkeypatch.setenv("LAI_DATA", str(data))
    seen.append(key())
    (data / "train.csv").write_text("1\n")
    seen.append(key())
    vendored = book / "vendor" / "zipp-1.0.dist-info"
    vendored.mkdir(parents=True)
    (vendored / "METADATA").write_text("Name: zipp\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(vendored.parent)  # as importing setuptools does, in the middle of a run
    assert key() == seen[-1]
    monkeypatch.setattr(build.importlib.metadata, "distributions", lambda path: [])
    seen.append(key())
    edit(path, lambda node: node.cells[2].update(source="print(1)"))
    seen.append(key())
    assert len(set(seen)) == len(seen)
    edit(path, lambda node: node.cells[2].update(outputs=[stream("committed")], execution_count=4))
    assert key() == seen[-1]


def test_pages_are_built_anew_after_a_change_of_what_they_show(book: Path) -> None:
    """The pins, of which the licences are, and the notebooks as they are downloaded."""
    seen = [build.stamp_text(build.Book(book), {})]
    (book / "requirements.txt").write_text("numpy==2.0\n")
    seen.append(build.stamp_text(build.Book(book), {}))
    edit(book / "notebooks" / "20_tiny.ipynb", lambda node: node.cells[2].update(outputs=[stream("committed")]))
    seen.append(build.stamp_text(build.Book(book), {}))
    assert len(set(seen)) == 3


def test_a_source_that_changes_during_a_run_leaves_nothing_in_the_cache(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAI_DATA", "none")

    def run(todo: Sequence[build.Task], of: int) -> None:
        (book / "lai").mkdir()
        (book / "lai" / "factor.py").write_text("x = 1\n")
        for path, output, _ in todo:
            shutil.copy(path, output)

    monkeypatch.setattr(build, "execute_side_by_side", run)
    with pytest.raises(notebook.ToolError, match="a source changed while notebooks ran"):
        build.execute_all(build.Book(book))
    assert list((book / "_build" / "cache").iterdir()) == []


def test_environment_refuses_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import env

    for version in ((3, 10), (3, 14), (2, 7)):
        monkeypatch.setattr(env.sys, "version_info", (*version, 0))
        with pytest.raises(SystemExit, match=r"Python 3.11 to 3.13 is needed; .* is \d"):
            env.check_version()
