"""What happens to the commands on a machine that is not as it should be: each kind of trouble is told in a line or two."""

import ast
import errno
import importlib.metadata
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_notebook
from packaging.specifiers import SpecifierSet

from tools import build, chapter, env, notebook, refresh

ROOT = Path(__file__).parents[2]


def write(folder: Path, code: str = "print(lam)", name: str = "20_tiny") -> Path:
    cells = [
        new_code_cell("lam: float = 0.5  # λ", id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(code, id="work"),
    ]
    path = folder / f"{name}.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(new_notebook(cells=cells, metadata=refresh.METADATA)) + "\n")
    return path


def contents(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "_toc.yml").write_text("chapters:\n" + "".join(f"  - file: notebooks/{name}\n" for name in names))
    return root


@pytest.fixture
def rerun(tmp_path: Path) -> Callable[..., int]:
    write(tmp_path / "notebooks")
    folders = ["--notebooks", str(tmp_path / "notebooks"), "--runs", str(tmp_path / "_runs")]
    return lambda *arguments: chapter.main([*folders, "--name", "tiny", *arguments])


BROKEN = {
    "conflict": b"<<<<<<< HEAD\n{}\n",
    "empty": b"",
    "cut off": b'{"cells": [',
    "no text": b"\xff\xfe\x00",
    "another JSON": b"[]",
    "no cells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_notebook_is_named(
    rerun: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "notebooks" / "20_tiny.ipynb"
    path.write_bytes(content)
    contents(tmp_path, "20_tiny")
    commands: list[Callable[[], int]] = [
        lambda: rerun("--lam", "0.3"),
        lambda: build.main(["--root", str(tmp_path)]),
        lambda: refresh.main(["--check", "--notebooks", str(path.parent)]),
    ]
    for command in commands:
        assert command() == 1
        assert re.match(r"\nerror: 20_tiny.ipynb is not a notebook: [^\n]+\n\n$", capsys.readouterr().err)


def test_parameters_that_are_not_python_are_named(
    rerun: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notebooks" / "20_tiny.ipynb"
    path.write_text(path.read_text().replace("lam: float = 0.5", "lam: float = ("))
    assert rerun("--lam", "0.3") == 1
    assert "20_tiny.ipynb: the parameters cell is not Python" in capsys.readouterr().err


def stop_with(error: BaseException, half: str = "") -> Callable[..., None]:
    def run(_: Path, output: Path, values: dict[str, Any]) -> None:
        if half:
            output.parent.mkdir(exist_ok=True)
            output.write_text(half)
        raise error

    return run


def test_an_interrupted_chapter_leaves_nothing(
    rerun: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chapter, "run", stop_with(KeyboardInterrupt(), half='{"cells": ['))
    assert rerun() == 130
    assert list((tmp_path / "_runs").iterdir()) == [] and "interrupted" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_notebook(
    rerun: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("papermill.execute_notebook", lambda _, output, *__, **___: stop_with(full, "{")(_, output, {}))
    assert rerun() == 1
    error = capsys.readouterr().err
    said = f"20_tiny.ipynb could not be run: {tmp_path}/_runs/.20_tiny.ipynb could not be written because the disk is full; free"
    assert (
        error.startswith(f"\nerror: {said}") and error.count("\n") == 3 and list((tmp_path / "_runs").iterdir()) == []
    )


def test_a_folder_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents(tmp_path)
    (tmp_path / "_build").write_text("a file where a folder should be")
    assert build.main(["--root", str(tmp_path)]) == 1
    assert re.match(rf"\nerror: {tmp_path}/_build: [^\n]+\n\n$", capsys.readouterr().err)


def test_a_readers_own_notebook_is_not_the_books(tmp_path: Path) -> None:
    root = contents(tmp_path, "20_tiny", "30_plain.ipynb")
    tiny, mine = write(root / "notebooks"), write(root / "notebooks", name="85_mine")
    plain = write(root / "notebooks", name="30_plain")
    plain.write_text(plain.read_text().replace("lam: float", "size: float"))
    book = build.Book(root, 0.3)
    assert book.notebooks() == [tiny, plain] and mine.exists()
    assert [book.values(path) for path in book.notebooks()] == [{"lam": 0.3}, {}]
    assert book.home == root / "_build" / "lam-0.3"


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> build.Book:
    """A book of one chapter, which is executed by copying it, in this process."""
    monkeypatch.setenv("LAI_DATA", "none")
    write(contents(tmp_path, "20_tiny") / "notebooks")

    def run(source: Path, output: Path, values: dict[str, Any]) -> float | None:
        shutil.copy(source, output)
        return None

    monkeypatch.setattr(build, "run", run)
    monkeypatch.setattr(build, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    return build.Book(tmp_path)


def test_a_broken_cache_repairs_itself(book: build.Book, capsys: pytest.CaptureFixture[str]) -> None:
    """After a crash of the machine a file may be empty or cut off."""
    (cached,) = build.execute_all(book).values()
    whole = cached.read_text()
    for text in ("", whole[: len(whole) // 2]):
        cached.write_text(text)
        capsys.readouterr()
        assert list(build.execute_all(book).values()) == [cached]
        assert cached.read_text() == whole and "running 1 of 1 notebooks" in capsys.readouterr().out
    for text in ("", "1.2.3", "\0\0"):
        cached.with_suffix(".seconds").write_text(text)
        cached.with_suffix(".megabytes").write_text(text)
        assert build.expected_seconds(book.root / "notebooks" / "20_tiny.ipynb", cached.parent) is None
        (book.root / "_config.yml").touch()
        staged = build.fill_stage(book, build.execute_all(book))
        took = json.loads((staged / "book" / "execution.json").read_text())
        assert took == {"20_tiny": {"seconds": None, "megabytes": None}}


def test_what_was_left_half_written_in_the_cache_is_removed(book: build.Book) -> None:
    (cached,) = build.execute_all(book).values()
    kept = {cached, cached.with_suffix(".seconds")}
    for name in (f".{cached.name}", f".{cached.stem}.seconds", f".{cached.stem}.megabytes"):
        (cached.parent / name).write_text("")
    (cached.parent / ".ipynb_checkpoints").mkdir()  # Jupyter's, where somebody has looked into the cache
    build.execute_all(book)
    assert {path for path in cached.parent.iterdir() if path.is_file()} == kept


def test_a_full_disk_in_a_build_is_told_with_the_chapter(
    book: build.Book, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build, "keep", full)
    assert build.main(["--root", str(book.root)]) == 1
    error = capsys.readouterr().err
    assert "error: 20_tiny.ipynb" in error and str(book.build / "cache") in error and "the disk is full; free" in error


def test_a_build_says_first_what_it_runs_and_how_long_it_may_take(
    book: build.Book, capsys: pytest.CaptureFixture[str]
) -> None:
    path = contents(book.root, "20_tiny", "30_other") / "notebooks" / "30_other.ipynb"
    write(path.parent, name=path.stem)
    build.execute_all(book)
    first = capsys.readouterr().out.splitlines()
    assert first[:2] == ["running 2 of 2 notebooks:", "  20_tiny, 30_other"]
    (cache,) = {file.parent for file in build.execute_all(book).values()}
    for file in cache.glob("20_tiny-*.seconds"):
        file.write_text("60.0\n")
    write(path.parent, "print(lam, 'again')")
    build.execute_all(book)
    again = capsys.readouterr().out.splitlines()
    assert again[:2] == ["running 1 of 2 notebooks; about 60 s left:", "  20_tiny"]


def test_a_silent_sphinx_is_not_a_silent_build(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "SILENT", 0.05)
    log = io.StringIO()
    code = "print('reading sources... [ 42%] book/intro', flush=True); import sys, time; time.sleep(2)"
    assert build.run_and_tell([sys.executable, "-c", code], log) == 0
    said = capsys.readouterr().out
    assert "  reading sources: 42% (" in said and "[ 42%] book/intro" in log.getvalue()


def test_the_memory_of_a_kernel_is_kept_where_the_system_tells_it(tmp_path: Path) -> None:
    path = write(tmp_path / "notebooks", "held = bytearray(300_000_000)")
    megabytes = notebook.run(path, tmp_path / "done.ipynb", {})
    if Path("/proc/self/status").exists():
        assert megabytes is not None and 300 < megabytes < 3000
    else:
        assert megabytes is None
    gone = subprocess.Popen(["true"])
    gone.wait()
    for process in (gone, None):
        assert notebook.peak_memory(SimpleNamespace(provisioner=SimpleNamespace(process=process))) is None


def test_time_left_goes_by_earlier_runs() -> None:
    assert build.time_left([None, None], spent=0, finished=0, workers=2) == ""
    assert build.time_left([60.0, None], spent=0, finished=0, workers=2) == "; about 60 s left"
    assert build.time_left([], spent=10, finished=2, workers=2) == ""
    assert build.time_left([60.0, 40.0], spent=10, finished=2, workers=2) == "; about 50 s left"
    assert build.time_left([None, None, 590.0], spent=10, finished=2, workers=1) == "; about 10 min left"


def test_the_site_has_no_source_maps_and_small_downloads(tmp_path: Path) -> None:
    html = tmp_path / "html"
    committed = write(tmp_path / "notebooks")
    executed = notebook.read(committed)
    executed.metadata["papermill"] = {"input_path": "/" + "home/reader/x.ipynb"}
    executed.cells[1].metadata["papermill"] = {"duration": 1.0}
    staged = nbformat.writes(build.without_traces(executed))
    assert "papermill" not in staged and "input_path" not in staged
    for name, text in {
        "a.js": "x\n//# sourceMappingURL=a.js.map",
        "a.js.map": "{}",
        "b.css": "y{}\n/*# sourceMappingURL=b.css.map */",
        "_sources/notebooks/20_tiny.ipynb": "large",
    }.items():
        (html / name).parent.mkdir(parents=True, exist_ok=True)
        (html / name).write_text(text)
    build.lighten(html, tmp_path)
    assert (html / "a.js").read_text() == "x" and (html / "b.css").read_text() == "y{}"
    assert list(html.rglob("*.map")) == []
    first, *rest = notebook.read(html / "_sources/notebooks/20_tiny.ipynb").cells
    assert first.id == "outside-a-checkout" and rest == notebook.read(committed).cells


def first_cell(root: Path, url: str) -> str:
    """The cell that a downloaded chapter begins with, where _config.yml has this address; its notebook is one."""
    committed, copy = write(root / "notebooks"), root / "html" / "_sources" / "notebooks" / "20_tiny.ipynb"
    (root / "_config.yml").write_text(f'repository:\n  url: "{url}"\n')
    copy.parent.mkdir(parents=True)
    copy.touch()
    before = committed.read_bytes()
    build.lighten(root / "html", root)
    text = copy.read_text(encoding="utf-8")
    assert committed.read_bytes() == before and not refresh.MACHINE_PATH.search(text) and str(root) not in text
    node = nbformat.reads(text, as_version=4)
    nbformat.validate(node)
    return str(TransformerManager().transform_cell(node.cells[0].source))


def run_elsewhere(code: str, path: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with one folder of modules, without those that are installed."""
    shell = "import os, subprocess\nclass get_ipython:\n    def system(self, line): subprocess.run(line, shell=True)\n"
    return subprocess.run(
        [sys.executable, "-S", "-c", shell + code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("url", ["", "https://example.org/someone/the-book"])
def test_in_a_checkout_the_first_cell_of_a_download_does_nothing(tmp_path: Path, url: str) -> None:
    code = first_cell(tmp_path, url)
    done = run_elsewhere(code, str(ROOT), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "lai-loss").exists()


def test_elsewhere_it_says_where_the_notebook_runs(tmp_path: Path) -> None:
    code = first_cell(tmp_path, "")
    assert "git" not in code and "pip" not in code
    done = run_elsewhere(code, "", tmp_path)
    assert (
        done.returncode == 1
        and done.stderr.count("\n") == 1
        and "in a checkout of the book's repository" in done.stderr
    )


def test_elsewhere_it_fetches_the_repository_if_there_is_one(tmp_path: Path) -> None:
    """A repository on this machine, and no pip: what is fetched is importable all the same."""
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "evidence").mkdir(parents=True)
    (there / "evidence" / "__init__.py").touch()
    here.mkdir()
    git = ["git", "-C", str(there), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run([*git, *command], check=True)
    url = "https://example.org/someone/the-book"
    code = first_cell(tmp_path, url)
    assert f"git clone --depth 1 {url} lai-loss" in code and "./lai-loss[book]" in code
    done = run_elsewhere(code.replace(url, there.as_uri()) + "print(evidence.__file__)\n", "", here)
    assert done.returncode == 0 and Path(done.stdout.strip()).parts[-3:] == ("lai-loss", "evidence", "__init__.py")

    done = run_elsewhere(code.replace(url, (tmp_path / "nowhere").as_uri()), "", tmp_path)
    assert done.returncode == 1 and "could not be fetched" in done.stderr.splitlines()[-1]


def gone(processes: list[psutil.Process], seconds: float = 60) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.mark.parametrize("sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_killed_build_leaves_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    root = contents(tmp_path, "20_tiny", "30_other")
    for name in ("20_tiny", "30_other"):
        write(root / "notebooks", "import pathlib, time\npathlib.Path(f'at-work-{lam}').touch()\ntime.sleep(600)", name)
    command = [sys.executable, "-m", "tools.build", "--root", str(root)]
    parent = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    try:
        end = time.monotonic() + 120
        while not (root / "notebooks" / "at-work-0.5").exists() and time.monotonic() < end:
            time.sleep(0.2)
        children = parent.children(recursive=True)
        assert len(children) >= 4  # two workers, a tracker and a kernel at least
        parent.send_signal(sent)
        parent.wait()
        assert gone(children)
    finally:
        for process in [parent, *children]:
            if process.is_running():
                process.kill()


def test_a_killed_kernel_is_told_with_its_cell(
    rerun: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "notebooks", "import os\nos.kill(os.getpid(), 9)")
    assert rerun() == 1
    error = capsys.readouterr().err
    assert "20_tiny.ipynb, the kernel was killed" in error and "memory ran out" in error
    assert "    os.kill(os.getpid(), 9)" in error and "20_tiny.failed.ipynb" in error and "Traceback" not in error


def test_how_a_kernel_died() -> None:
    assert "OOM killer" in notebook.how_it_died(-9, out_of_memory=True)
    assert "usually" in notebook.how_it_died(-9) and "SIGSEGV" in notebook.how_it_died(-11)
    assert "memory" not in notebook.how_it_died(1, out_of_memory=True) + notebook.how_it_died(None)


def test_an_environment_that_may_not_be_read_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(type(tmp_path)):  # type: ignore[misc]
        def exists(self, **_: Any) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(env, "PYTHON", Foreign(tmp_path / "bin" / "python"))
    monkeypatch.setattr(env, "STAMP", tmp_path / "stamp")
    assert not env.is_current() and not env.works()


def test_an_environment_half_installed_or_of_another_interpreter_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    for name, value in {"PYTHON": python, "STAMP": tmp_path / "stamp", "VENV": tmp_path, "works": lambda: True}.items():
        monkeypatch.setattr(env, name, value)
    monkeypatch.setattr(env, "install", lambda: None)
    env.update()
    assert env.is_current()
    python.unlink()
    python.symlink_to("/bin/true")
    assert not env.is_current()
    monkeypatch.setattr(env, "install", lambda: sys.exit("pip died"))
    env.STAMP.write_text(env.wanted())
    monkeypatch.setattr(env, "is_current", lambda: False)
    with pytest.raises(SystemExit, match="pip died"):
        env.update()
    monkeypatch.undo()
    assert (tmp_path / "stamp").read_text() == f"{env.ROOT}\n"  # the place, by which a moved checkout is known


def test_an_environment_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def update() -> None:
        raise OSError(errno.EROFS, "Read-only file system", ".venv.lock")

    monkeypatch.setattr(env, "is_current", lambda: False)
    monkeypatch.setattr(env, "update", update)
    with pytest.raises(
        SystemExit, match=r"error: .venv.lock could not be written .* read-only place; clone the repository"
    ):
        env.main()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "read-only place; clone the repository"),
        (errno.EACCES, "by this user; give yourself the permission"),
        (errno.EPERM, "by this user; give yourself the permission"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("file", ["some/file", None])
def test_what_the_system_refuses_is_told_with_the_file_and_what_to_do(
    capsys: pytest.CaptureFixture[str], number: int, remedy: str, file: str | None
) -> None:
    def work() -> None:
        raise OSError(number, os.strerror(number), file)

    assert notebook.told(work, "") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"\nerror: {file or ROOT}") and remedy in error and error.count("\n") == 3


def test_git_is_recommended_for_what_it_knows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    path = tmp_path / "notebooks" / "20_tiny.ipynb"
    path.parent.mkdir()
    path.write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def said() -> str:
        with pytest.raises(notebook.ToolError) as caught:
            notebook.read(path)
        return str(caught.value)

    assert "is not a notebook" in said() and "git" not in said()
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert "git" not in said()
    subprocess.run(["git", "add", "notebooks"], check=True)
    assert said().endswith("; `git diff notebooks/20_tiny.ipynb` shows what changed")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git" not in said()


def test_pins_take_the_oldest_python_of_a_current_distribution() -> None:
    """Debian 12 has 3.11.2; what is installed here says which Pythons its version takes."""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if "==" not in line:
            continue
        name, _, version = line.partition("==")
        dist = importlib.metadata.distribution(name)
        if dist.version.partition("+")[0] == version:  # else .venv is older than the pins
            assert SpecifierSet(dist.metadata.get("Requires-Python") or "").contains("3.11.2"), line


def test_line_ends_do_not_depend_on_a_readers_git(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    names = [".ci/run", "Makefile", "tools/build.py", "notebooks/20_lambda.ipynb", "requirements.txt"]
    command = ["git", "-c", "core.autocrlf=true", "check-attr", "eol", "--", *names]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{name}: eol: lf" for name in names]


TRICKS = ["$(touch pwned)", "$(shell touch pwned)", "`touch pwned`", "'; touch pwned; '", '"; touch pwned; "']


@pytest.mark.parametrize(
    "variable, target",
    [
        ("PYTHON", "env"),
        ("PYTHON", "doctor"),
        ("PORT", "serve"),
        ("ARGS", "reproduce"),
        ("OMP_NUM_THREADS", "doctor"),
        ("GLIBC_TUNABLES", "doctor"),
    ],
)
def test_make_runs_nothing_that_a_variable_says(tmp_path: Path, variable: str, target: str) -> None:
    """Neither make nor its shell; with a stand-in for the interpreter, which does nothing."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nprintf "%s" "${variable}" > said\n')
    python.chmod(0o755)
    for trick in TRICKS:
        given = [] if variable == "PYTHON" else [f"PYTHON={python}"]
        subprocess.run(["make", target, *given, f"{variable}={trick}"], cwd=tmp_path, capture_output=True)
        assert not (tmp_path / "pwned").exists(), trick
        if variable != "PYTHON":
            assert (tmp_path / "said").read_text() == trick


@pytest.mark.parametrize("text", ["words", "", "0", "-1", "1.5", "1,2", "99999999999"])
def test_a_number_of_threads_is_a_whole_number(tmp_path: Path, text: str) -> None:
    """Or nothing is run; `make doctor` runs, and tells it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    told = subprocess.run(
        ["make", "--no-print-directory", "env", f"OMP_NUM_THREADS={text}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode and told.stdout == ""
    assert told.stderr.startswith(f"error: OMP_NUM_THREADS={text}: must be a whole number from 1 to 999\n")
    code = "import doctor; print(*doctor.threads())"
    around = {**os.environ, "OMP_NUM_THREADS": text, "PYTHONPATH": str(ROOT / "tools")}
    said = subprocess.check_output([sys.executable, "-c", code], env=around, text=True)
    assert said.endswith("set a whole number from 1 to 999, or none for 1\n")


@pytest.mark.parametrize("target", ["env", "doctor"])
def test_a_python_that_is_not_there_is_named(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    told = subprocess.run(["make", target, "PYTHON=nope"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode and "error: PYTHON=nope is not installed; Python 3.11 to 3.13 is needed" in told.stderr
    assert "not found" not in told.stderr


@pytest.mark.parametrize("name", ["env", "doctor"])
def test_an_old_python_reaches_the_sentence_about_its_version(name: str) -> None:
    """Nothing that Python 3.6 cannot parse, nor what runs in later ones only."""
    text = (ROOT / "tools" / f"{name}.py").read_text()
    ast.parse(text, feature_version=(3, 6))
    assert re.findall(r"\b(?:tuple|list|dict|set)\[|capture_output|text=True|removeprefix|\w \| None", text) == []


@pytest.mark.parametrize("home", [None, "/dev/null/nowhere"])
def test_a_chapter_needs_no_home(tmp_path: Path, home: str | None) -> None:
    """Neither one that is known nor one that can be written."""
    write(tmp_path / "notebooks")
    around = {
        name: text
        for name, text in os.environ.items()
        if name != "HOME" and not name.startswith(("XDG_", "IPYTHON", "JUPYTER", "MPL"))
    }
    around |= {} if home is None else {"HOME": home}
    places = ["--notebooks", str(tmp_path / "notebooks"), "--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "tools.chapter", "--name", "tiny", *places]
    done = subprocess.run(command, cwd=ROOT, env=around, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["20_tiny.ipynb"]


def test_tools_hold_what_the_makefile_calls() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = set(re.findall(r"tools[./](\w+)", makefile)) | set(re.findall(r"\$\(TOOL\) (\w+)", makefile))
    sources = {path.stem: path.read_text() for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__"}
    imported = {name for text in sources.values() for name in re.findall(r"^\s*from tools\.(\w+) import", text, re.M)}
    assert set(sources) - called - imported == set() and called - {"py"} <= set(sources)


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    """From a checkout without an environment, with data that are not there and nothing on the path."""
    for name in ("tools", "requirements.txt", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    around = {"PATH": str(tmp_path), "LAI_DATA": str(tmp_path / "nowhere")}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tools" / "doctor.py")], env=around, capture_output=True, text=True
    )
    said = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert done.returncode == 1 and done.stderr == ""
    assert said[".venv"].startswith("FAIL") and said[".venv"].endswith("; run make env")
    assert said["data"].startswith("FAIL") and "LAI_DATA=none" in said["data"]
    for name in ("Python", "git", "cores", "threads", "memory", "disk", "home", "compiler", "browser"):
        assert said[name].startswith("OK"), said[name]
