"""Build the book: run every notebook, then turn the results into HTML with warnings as errors.

Executed notebooks are kept in _build/cache under a key made of all they depend on, so that a second
build is quick and one after a change to `lai` is never stale. The HTML is built from scratch
in a staging folder, because Sphinx forgets the warnings of pages it does not build again, and takes
the place of the last good book only when everything has succeeded.
"""

import argparse
import fcntl
import functools
import hashlib
import http.server
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from tools.chapter import run_name
from tools.env import trouble
from tools.notebook import (
    ROOT,
    Parameter,
    ToolError,
    absolute_data_setting,
    check_data,
    oom_kills,
    parameters,
    read,
    run,
    strip_colours,
    told,
)
from tools.values import parse, read_values, shortened

KEPT = 6  # executions kept per notebook: the default λ, another one, and a few steps of editing
SILENT = 10.0  # seconds between two lines while pages are built


@dataclass(frozen=True)
class Book:
    """The folders of one book: the sources under `root`, and what is built from them at `lam`."""

    root: Path
    lam: float | None = None

    @property
    def build(self) -> Path:
        return self.root / "_build"

    @property
    def home(self) -> Path:
        """_build, or _build/lam-0.05 for the book at another λ."""
        return self.build if self.lam is None else self.build / run_name("", {"lam": self.lam}).strip("_")

    @property
    def html(self) -> Path:
        return self.home / "html"

    @property
    def stage(self) -> Path:
        return self.home / "stage"

    def notebooks(self) -> list[Path]:
        """Those in the contents; a reader may keep others beside them."""
        contents = set(re.findall(r"\bnotebooks/[^\s#]+", (self.root / "_toc.yml").read_text(encoding="utf-8")))
        paths = sorted((self.root / "notebooks").glob("*.ipynb"))
        return [path for path in paths if {f"notebooks/{path.stem}", f"notebooks/{path.name}"} & contents]

    def values(self, notebook: Path) -> dict[str, Any]:
        """The book's λ for a notebook that has one."""
        if self.lam is None or "lam" not in parameters(read(notebook), notebook.name):
            return {}
        return read_values(notebook, f"{self.lam!r}", "")


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """A fingerprint of the files' names and bytes."""
    files = sorted(path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    return digest([(os.path.relpath(path, root), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])


def surroundings(root: Path) -> str:
    """A fingerprint of all that a notebook's results depend on besides itself and its parameters."""
    setting = os.environ.get("LAI_DATA", "").strip()
    data = [] if setting.lower() == "none" else [Path(setting)] if setting else []
    if not setting:  # where evidence.data looks by itself
        data = [base / "data" / "playground-series-s3e1" for base in (root, root / "notebooks")]
    # of the environment alone: importing setuptools, as compiling does, puts a folder of packages on sys.path
    installed = importlib.metadata.distributions(path=sorted({sysconfig.get_path(p) for p in ("purelib", "platlib")}))
    packages = sorted((dist.name, dist.version) for dist in installed)
    return digest(
        platform.python_version(),
        packages,
        files_digest((root / "lai").rglob("*"), root),
        files_digest((root / "evidence").rglob("*"), root),
        files_digest((root / "book" / "results").rglob("*"), root),
        files_digest([Path(__file__).with_name("notebook.py")], root),
        setting,
        os.environ.get("OMP_NUM_THREADS", ""),
        [files_digest(folder.glob("*.csv"), root) for folder in data],
    )


def execution_key(notebook: Path, values: dict[str, Any], around: str) -> str:
    """A fingerprint of one execution; outputs committed with the notebook do not count."""
    node = read(notebook)
    cells = [(cell.cell_type, cell.get("id"), cell.source, cell.metadata) for cell in node.cells]
    return digest(cells, values, around)[:20]


def cached(book: Book, notebook: Path, around: str) -> Path:
    """Where the cache has this notebook, executed at the book's parameters and in these surroundings; it may not exist."""
    key = execution_key(notebook, book.values(notebook), around)
    return book.build / "cache" / f"{notebook.stem}-{key}.ipynb"


def execute(notebook: Path, output: Path, values: dict[str, Any]) -> tuple[str, float]:
    """Run one notebook into the cache, in a process of its own; the error message, or nothing, and the seconds it took."""
    partial = output.with_name(f".{output.name}")
    start = time.monotonic()
    try:
        megabytes = run(notebook, partial, values)
        seconds = time.monotonic() - start
        keep(partial, output, seconds, megabytes)
    except ToolError as error:
        return str(error), 0.0
    except OSError as error:
        return f"{notebook.name}: {trouble(error, output)}", 0.0
    return "", seconds


def keep(partial: Path, output: Path, seconds: float, megabytes: float | None) -> None:
    """Put an executed notebook in its place in the cache, and beside it what it took, each file whole or not there."""
    partial.replace(output)
    for suffix, number in (("seconds", seconds), ("megabytes", megabytes)):
        if number is not None:
            partial = output.with_name(f".{output.stem}.{suffix}")
            partial.write_text(f"{number:.1f}\n")
            partial.replace(output.with_suffix(f".{suffix}"))


def kept_number(file: Path) -> float | None:
    """What was kept beside a notebook; None if it was not, or is broken: that must not keep a book from being built."""
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None


def end_with_parent() -> None:
    """Nothing goes on for a build that was killed: a worker ends with it, and a kernel with its worker."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


Task = tuple[Path, Path, dict[str, Any]]


def execute_all(book: Book) -> dict[Path, Path]:
    """For every notebook the executed copy in the cache, made now if it is not there."""
    around = surroundings(book.root)
    cache = book.build / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for partial in cache.glob(".*"):  # left by a run that was interrupted
        if partial.is_file():
            partial.unlink()
    done = {notebook: cached(book, notebook, around) for notebook in book.notebooks()}
    todo: list[Task] = []
    for notebook, output in done.items():
        if output.exists() and is_whole(output):
            output.touch()  # the ones used last are kept
        else:
            check_data(notebook, {})
            todo.append((notebook, output, book.values(notebook)))
    if todo:
        for path in sorted(set((book.root / "notebooks").glob("*.ipynb")) - set(done)):
            print(f"{path.name} is not in _toc.yml, so it is not run and gets no page")
        execute_side_by_side(todo, len(done))
        if surroundings(book.root) != around:  # which source each of them saw, nobody knows
            for _, output, _ in todo:
                output.unlink(missing_ok=True)
            raise ToolError("a source changed while notebooks ran; run the command again")
    for notebook in done:
        kept = sorted(cache.glob(f"{notebook.stem}-*.ipynb"), key=lambda path: -path.stat().st_mtime)
        for old in kept[KEPT:]:
            for file in (old, old.with_suffix(".seconds"), old.with_suffix(".megabytes")):
                file.unlink(missing_ok=True)
    return done


def is_whole(output: Path) -> bool:
    """Whether a cached notebook can be read; one that a crash of the machine has cut off is removed, to be run again."""
    try:
        read(output)
    except ToolError:
        output.unlink()
        return False
    return True


def execute_side_by_side(todo: Sequence[Task], of: int) -> None:
    """Run notebooks on two cores, and tell what runs, what is done and how long the rest may take."""
    workers = min(2, os.cpu_count() or 1, len(todo))
    left = {notebook: expected_seconds(notebook, output.parent) for notebook, output, _ in todo}
    print(f"running {len(todo)} of {of} notebooks{time_left(left.values(), 0, 0, workers)}:", flush=True)
    names = ", ".join(notebook.stem for notebook in left)
    print(textwrap.fill(names, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False), flush=True)
    start, before, errors = time.monotonic(), oom_kills(), []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
        running = {pool.submit(execute, *task): task[0] for task in todo}
        try:
            for n, future in enumerate(as_completed(running), 1):
                notebook = running[future]
                error, seconds = future.result()
                errors += [error] if error else []
                del left[notebook]
                said = "failed" if error else f"{seconds:.0f} s"
                rest = time_left(left.values(), time.monotonic() - start, n, workers)
                print(f"  {n} of {len(todo)}: {notebook.name} ({said}){rest}", flush=True)
        except BrokenProcessPool:
            why = "memory ran out" if oom_kills() > before else "usually because memory ran out"
            names = ", ".join(notebook.name for notebook in left)
            raise ToolError(f"a process that runs notebooks was killed, {why}; not finished: {names}") from None
    if errors:
        raise ToolError("\n\n".join(errors))


def expected_seconds(notebook: Path, cache: Path) -> float | None:
    """What a notebook took when it was last run here."""
    files = sorted(cache.glob(f"{notebook.stem}-*.seconds"), key=lambda path: -path.stat().st_mtime)
    return next((seconds for file in files if (seconds := kept_number(file)) is not None), None)


def time_left(left: Collection[float | None], spent: float, finished: int, workers: int) -> str:
    """In words; a notebook that was never run here counts as the mean of those that have finished, or else of those that are known."""
    known = [one / workers for one in left if one is not None]
    guess = spent / finished if finished else sum(known) / max(1, len(known))
    seconds = sum(known) + guess * sum(one is None for one in left)
    if not seconds:
        return ""
    return f"; about {seconds:.0f} s left" if seconds < 90 else f"; about {seconds / 60:.0f} min left"


def sources(root: Path) -> list[Path]:
    """Everything but the notebooks that the pages are made of."""
    beside = [path for path in (root / "notebooks").rglob("*") if path.suffix != ".ipynb"]
    return [root / "_config.yml", root / "_toc.yml", *(root / "book").rglob("*"), *beside]


def stamp_text(book: Book, executed: dict[Path, Path]) -> str:
    """A fingerprint of all that the pages are made of: sources, what was executed, the notebooks to download, and our programs."""
    programs = [*Path(__file__).parent.glob("*.py"), book.root / "requirements.txt"]
    made_of = files_digest([*sources(book.root), *book.notebooks(), *programs], book.root)
    return digest(made_of, sorted(path.name for path in executed.values()))


def is_built(book: Book, stamp: str) -> bool:
    """Whether the HTML is the one that this program made from exactly these sources."""
    file = book.html / ".built"
    return file.exists() and file.read_text() == f"{stamp} {_written(book.html)}"


def _written(html: Path) -> int:
    """When the pages were written: `jupyter-book build .` by hand writes to the same folder."""
    index = html / "searchindex.js"
    return index.stat().st_mtime_ns if index.exists() else 0


def fill_stage(book: Book, executed: dict[Path, Path]) -> Path:
    """Copy the sources, with the executed notebooks for the committed ones."""
    shutil.rmtree(book.stage, ignore_errors=True)
    staged = book.stage / "src"
    for path in sources(book.root):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = staged / path.relative_to(book.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    for notebook, result in executed.items():
        copy = staged / notebook.relative_to(book.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(nbformat.writes(without_traces(read(result))), encoding="utf-8")
    took = {
        path.stem: {what: kept_number(result.with_suffix(f".{what}")) for what in ("seconds", "megabytes")}
        for path, result in executed.items()
    }
    (staged / "book").mkdir(exist_ok=True)
    (staged / "book" / "execution.json").write_text(json.dumps(took))  # for the page on the book's health
    return staged


def without_traces(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The executed notebook without papermill's notes, which hold this machine's paths and times."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    return notebook


def build_html(book: Book, staged: Path) -> Path:
    """The finished HTML in the staging folder; a warning is an error."""
    log = book.stage / "build.log"
    options = ["-W", "-n", "--keep-going", "--path-output", str(book.stage)]
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(staged), *options]
    with log.open("w", encoding="utf-8") as file:
        code = run_and_tell(command, file)
    lines = strip_colours(log.read_text(encoding="utf-8", errors="replace")).splitlines()
    # Paths in the messages are those of the copies; the reader edits the originals.
    complaints = [line.replace(f"{staged}{os.sep}", "") for line in lines if "WARNING" in line or "ERROR" in line]
    html = book.stage / "_build" / "html"
    if code or not (html / "index.html").exists():
        reasons = "\n".join(complaints or lines[-25:])
        raise ToolError(f"the pages have warnings, which count as errors:\n\n{reasons}\n\nThe whole log is in {log}")
    lighten(html, book.root)
    return html


def run_and_tell(command: Sequence[str], log: Any) -> int:
    """Run Jupyter Book into a log, with a line about where it is every few seconds; its exit status."""
    start, at = time.monotonic(), "starting Sphinx"
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(SILENT):  # Sphinx itself is silent while it works on one long page
            print(f"  {at} ({time.monotonic() - start:.0f} s)", flush=True)

    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    )
    assert process.stdout
    threading.Thread(target=tell, daemon=True).start()
    try:
        for line in process.stdout:
            log.write(line)
            found = re.search(
                r"(reading sources|writing output|highlighting module code)\.\.\. *\[ *(\d+%)", strip_colours(line)
            )
            if found:
                at = f"{found[1]}: {found[2]}"
    except BaseException:
        process.terminate()
        raise
    finally:
        code = process.wait()
        ended.set()
    return code


def lighten(html: Path, root: Path) -> None:
    """Take out of the site what no reader asks for: maps of others' scripts, and in downloads the figures, which pages have their own."""
    for path in html.rglob("*.map"):
        path.unlink()
    for path in (path for kind in ("*.js", "*.css") for path in html.rglob(kind)):
        text = path.read_bytes()
        # A browser's inspector would ask for the map by this comment.
        plain = re.sub(rb"\n?(//|/\*)[#@] sourceMappingURL=[^\s*]+(?: ?\*/)?", b"", text)
        if plain != text:
            path.write_bytes(plain)
    url = repository_url(root)
    for path in (html / "_sources").rglob("*.ipynb"):  # the download is the chapter as it is committed
        original = root / path.relative_to(html / "_sources")
        if original.exists():
            path.write_text(nbformat.writes(to_take_away(read(original), url)) + "\n", encoding="utf-8")


def repository_url(root: Path) -> str:
    """Where the book can be cloned from, as _config.yml says; empty if it does not."""
    config = root / "_config.yml"
    settings = (yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else None) or {}
    return str((settings.get("repository") or {}).get("url") or "")


HOME = """\
# This cell is in the download only. The notebook needs the packages `lai` and `evidence` of the book's repository.
# In a checkout of it, once `make env` has run there, with the Python of .venv, this cell does nothing.
"""
LOCATE = """\
try:
    import evidence
except ModuleNotFoundError:
    raise SystemExit({message!r}) from None
"""
FETCH = """\
# Elsewhere, as on Colab, it fetches and installs them; that takes some minutes.
try:
    import evidence
except ModuleNotFoundError:
    import os, sys

    if not os.path.exists("lai-loss"):
        !git clone --depth 1 {url} lai-loss
    !"{{sys.executable}}" -m pip install -q "./lai-loss[book]"
    sys.path.insert(0, "lai-loss")
"""
NOT_HERE = "This notebook runs in a checkout of the book's repository: run `make env` there, then open the notebook with the Python of .venv."
NOT_FETCHED = "The book's repository could not be fetched and installed; what git and pip say is above."


def to_take_away(notebook: nbformat.NotebookNode, url: str) -> nbformat.NotebookNode:
    """The notebook with a first cell for readers who run it outside a checkout, where nothing has `evidence`."""
    code = HOME + (FETCH.format(url=url) if url else "") + LOCATE.format(message=NOT_FETCHED if url else NOT_HERE)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(code.rstrip(), id="outside-a-checkout"))
    return notebook


def put_in_place(book: Book, html: Path, stamp: str) -> None:
    """Swap folders by renaming, so that there is never half a book."""
    (html / ".built").write_text(f"{stamp} {_written(html)}")
    old = book.home / "html.old"
    shutil.rmtree(old, ignore_errors=True)
    if book.html.exists():
        book.html.rename(old)
    html.rename(book.html)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(book.stage)


@contextmanager
def locked(book: Book) -> Iterator[None]:
    """One build at a time in this checkout; another waits."""
    book.build.mkdir(parents=True, exist_ok=True)
    with (book.build / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another build to finish", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(book: Book) -> Path:
    """Bring the book up to date and return its first page."""
    with locked(book):
        executed = execute_all(book)
        stamp = stamp_text(book, executed)
        if not is_built(book, stamp):
            print("building the pages", flush=True)
            put_in_place(book, build_html(book, fill_stage(book, executed)), stamp)
    return book.html / "index.html"


def one_lam(text: str | None) -> float | None:
    """The λ of every chapter, or a ToolError: a list is what a few of them take."""
    if text is None:
        return None
    value: float = parse(Parameter("lam", "float", "the λ of every chapter"), text)
    return value


def listen(port: str) -> http.server.ThreadingHTTPServer:
    """A server on this machine that answers once the book is built, so that a port in use is known before."""
    if not (port.isascii() and port.isdecimal() and len(port) <= 9 and 1 <= int(port) <= 65535):
        raise ToolError(f"PORT={shortened(port) or '(empty)'}: must be a whole number from 1 to 65535")
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), http.server.SimpleHTTPRequestHandler)
    except OSError as error:
        raise ToolError(f"PORT={port}: {error.strerror}; give another, as in make serve PORT=8001") from None


def serve(server: http.server.ThreadingHTTPServer, folder: Path) -> None:
    server.RequestHandlerClass = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C stops)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.build", description=__doc__.split("\n")[0])
    parser.add_argument("--lam", help="λ for every chapter: one number")
    parser.add_argument("--serve", metavar="PORT", help="then serve the book on this machine")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    def work() -> None:
        book = Book(options.root.resolve(), one_lam(options.lam))
        absolute_data_setting()
        server = None if options.serve is None else listen(options.serve)
        print(build(book), flush=True)
        if server:
            serve(server, book.html)

    return told(work, "the last good book is untouched")


if __name__ == "__main__":
    sys.exit(main())
