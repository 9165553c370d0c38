"""Finished pieces of a long computation, kept on disk so that nothing is computed twice or mixed up."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

# What a run is computed with, from the repository's root. The data's values have a digest of their own in a cell's settings.
IN_RESULTS = (
    "evidence/runs/arms.py",
    "evidence/runs/parallel.py",
    "evidence/runs/protocols.py",
    "evidence/runs/readout.py",
    "lai/batchnorm.py",
    "lai/factor.py",
    "lai/gradient.py",
    "lai/loss.py",
    "lai/metrics.py",
    "lai/models.py",
    "lai/obstacles.py",
    "lai/program.py",
    "lai/schedule.py",
    "lai/sweep.py",
    "lai/training.py",
)


class CellStore:
    """A folder with one JSON file for each finished cell, named by a digest of all that determines it.

    The digest covers the cell's settings, the versions of torch and numpy, and the sources that computed it, so a
    changed setting or a changed source finds nothing and computes anew. A file appears whole or not at all.

    Parameters
    ----------
    folder : path
        Created when the first cell is kept.

    Examples
    --------
    >>> import tempfile
    >>> store = CellStore(tempfile.mkdtemp())
    >>> store.get({"seed": 0}) is None
    True
    >>> store.put({"seed": 0}, [0.5])
    >>> store.get({"seed": 0})
    [0.5]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, settings: dict[str, Any]) -> Any:
        """The kept result, or None if there is none (or its file is damaged: it is then computed again)."""
        try:
            kept = json.loads(self._path(settings).read_text(encoding="utf-8"))
            return kept["result"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, settings: dict[str, Any], result: Any) -> None:
        """Keep a result that JSON can hold."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".partial")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"settings": settings, "result": result}, file, default=str)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path(settings))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _path(self, settings: dict[str, Any]) -> Path:
        text = json.dumps({**settings, **fingerprint()}, sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def kept_or_made(store: CellStore | None, settings: dict[str, Any], make: Callable[[], Any]) -> Any:
    """The kept result of these settings; if there is none, that of ``make``, which is then kept.

    Examples
    --------
    >>> kept_or_made(None, {"seed": 0}, lambda: [0.5])
    [0.5]
    """
    if store is not None and (kept := store.get(settings)) is not None:
        return kept
    result = make()
    if store is not None:
        store.put(settings, result)
    return result


@cache
def fingerprint() -> dict[str, str]:
    """What a result depends on besides its settings: versions, and a digest of the sources that computed it."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[2]
    for name in IN_RESULTS:
        digest.update(what_computes((root / name).read_text(encoding="utf-8")).encode())
    others = {name: version(name).split("+")[0] for name in ("torch", "numpy")}
    return {**others, "lai": digest.hexdigest()[:16]}


def digest_of(paths: Iterable[Path]) -> str:
    """What a piece's settings hold of the sources that computed it, beside those that the store knows."""
    texts = [what_computes(path.read_text(encoding="utf-8")) for path in paths]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def what_computes(source: str) -> str:
    """A module without its comments, docstrings and layout, which change no result."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)
