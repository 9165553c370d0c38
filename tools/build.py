"""Build the book: run every notebook, then turn the results into HTML with warnings as errors.

Executed notebooks are kept in _build/cache under a key made of all they depend on, so that a second
build is quick and one after a change to `lai` is never stale. The HTML is built from scratch
in a staging folder, because Sphinx forgets the warnings of pages it does not build again, and takes
the place of the last good book only when everything has succeeded.
"""

import argparse
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat

from tools.chapter import read_values, run_name
from tools.notebook import ROOT, ToolError, absolute_data_setting, run, strip_colours

KEPT = 6  # executions kept per notebook: the default λ, another one, and a few steps of editing


@dataclass(frozen=True)
class Book:
    """The folders of one book: the sources under `root`, and what is built from them at `lam`."""

    root: Path
    lam: str | None = None

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
        return sorted((self.root / "notebooks").glob("*.ipynb"))


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
    packages = sorted((dist.name, dist.version) for dist in importlib.metadata.distributions())
    return digest(
        platform.python_version(),
        packages,
        files_digest((root / "lai").rglob("*"), root),
        files_digest((root / "evidence").rglob("*"), root),
        files_digest((root / "book" / "results").rglob("*"), root),
        files_digest([Path(__file__).with_name("notebook.py")], root),
        setting,
        [files_digest(folder.glob("*.csv"), root) for folder in data],
    )


def execution_key(notebook: Path, values: dict[str, Any], around: str) -> str:
    """A fingerprint of one execution; outputs committed with the notebook do not count."""
    node = nbformat.read(notebook, as_version=4)
    cells = [(cell.cell_type, cell.get("id"), cell.source, cell.metadata) for cell in node.cells]
    return digest(cells, values, around)[:20]


def cached(book: Book, notebook: Path, around: str) -> Path:
    """Where the cache has this notebook, executed at the book's parameters and in these surroundings; it may not exist."""
    key = execution_key(notebook, read_values(notebook, book.lam, ""), around)
    return book.build / "cache" / f"{notebook.stem}-{key}.ipynb"


def execute(notebook: Path, output: Path, values: dict[str, Any]) -> str:
    """Run one notebook into the cache, in a process of its own; the error message, or nothing."""
    partial = output.with_name(f".{output.name}")
    start = time.monotonic()
    try:
        run(notebook, partial, values)
    except ToolError as error:
        return str(error)
    partial.replace(output)
    print(f"  {notebook.name} ({time.monotonic() - start:.0f} s)", flush=True)
    return ""


def execute_all(book: Book) -> dict[Path, Path]:
    """For every notebook the executed copy in the cache, made now if it is not there."""
    around = surroundings(book.root)
    cache = book.build / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for partial in cache.glob(".*.ipynb"):  # left by a run that was interrupted
        partial.unlink()
    done: dict[Path, Path] = {}
    todo: list[tuple[Path, Path, dict[str, Any]]] = []
    for notebook in book.notebooks():
        done[notebook] = cached(book, notebook, around)
        if done[notebook].exists():
            done[notebook].touch()  # the ones used last are kept
        else:
            todo.append((notebook, done[notebook], read_values(notebook, book.lam, "")))
    if todo:
        print(f"running {len(todo)} of {len(done)} notebooks", flush=True)
        workers = min(2, os.cpu_count() or 1, len(todo))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            errors = [error for error in pool.map(execute, *zip(*todo, strict=True)) if error]
        if errors:
            raise ToolError("\n\n".join(errors))
    for notebook in done:
        kept = sorted(cache.glob(f"{notebook.stem}-*.ipynb"), key=lambda path: -path.stat().st_mtime)
        for old in kept[KEPT:]:
            old.unlink()
    return done


def sources(root: Path) -> list[Path]:
    """Everything but the notebooks that the pages are made of."""
    beside = [path for path in (root / "notebooks").rglob("*") if path.suffix != ".ipynb"]
    return [root / "_config.yml", root / "_toc.yml", *(root / "book").rglob("*"), *beside]


def stamp_text(book: Book, executed: dict[Path, Path]) -> str:
    return digest(files_digest(sources(book.root), book.root), sorted(path.name for path in executed.values()))


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
        shutil.copy2(result, copy)
    return staged


def build_html(book: Book, staged: Path) -> Path:
    """The finished HTML in the staging folder; a warning is an error."""
    log = book.stage / "build.log"
    options = ["-W", "-n", "--keep-going", "--path-output", str(book.stage)]
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(staged), *options]
    with log.open("w") as file:
        code = subprocess.call(command, stdout=file, stderr=subprocess.STDOUT)
    lines = strip_colours(log.read_text(errors="replace")).splitlines()
    # Paths in the messages are those of the copies; the reader edits the originals.
    told = [line.replace(f"{staged}{os.sep}", "") for line in lines if "WARNING" in line or "ERROR" in line]
    html = book.stage / "_build" / "html"
    if code or not (html / "index.html").exists():
        reasons = "\n".join(told or lines[-25:])
        raise ToolError(f"the pages have warnings, which count as errors:\n\n{reasons}\n\nThe whole log is in {log}")
    return html


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.build", description=__doc__.split("\n")[0])
    parser.add_argument("--lam", help="λ for every chapter: a number, or a list such as [0.1,0.2]")
    parser.add_argument("--where", action="store_true", help="only print the folder of the HTML")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    book = Book(options.root.resolve(), options.lam)
    if options.where:
        print(book.html)
        return 0
    absolute_data_setting()
    try:
        print(build(book))
    except ToolError as error:
        print(f"\nerror: {error}\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the last good book is untouched", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
