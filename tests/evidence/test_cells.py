"""The store: what is found again, what must not be, and that no file is ever half there."""

import ast
import json
from pathlib import Path

import pytest

from evidence.runs import store as cells
from evidence.runs.store import CellStore, fingerprint


def test_keeps_by_settings(tmp_path: Path) -> None:
    store = CellStore(tmp_path / "new")
    store.put({"seed": 1, "lam": 0.1}, {"rmse": 0.5})
    assert store.get({"lam": 0.1, "seed": 1}) == {"rmse": 0.5}  # the order of keys does not matter
    assert store.get({"seed": 1, "lam": 0.2}) is None


def test_another_version_or_library_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CellStore(tmp_path)
    store.put({"seed": 1}, 1)
    for key in ("torch", "lai"):
        changed = {**fingerprint(), key: "other"}
        with monkeypatch.context() as patch:
            patch.setattr(cells, "fingerprint", lambda changed=changed: changed)
            assert store.get({"seed": 1}) is None
    assert store.get({"seed": 1}) == 1


def test_the_digest_covers_what_a_run_imports() -> None:
    """Every module of the two packages that a run reaches, but for the store itself and the data."""
    root = Path(cells.__file__).parents[2]
    reached, todo = set(), ["evidence/runs/arms.py"]
    while todo:
        name = todo.pop()
        if name in reached:
            continue
        reached.add(name)
        for node in ast.walk(ast.parse((root / name).read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = ".".join(Path(name).parts[: -node.level]) if node.level else ""
                base = ".".join(filter(None, [package, node.module]))
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            for full in names:
                if full.split(".")[0] in ("lai", "evidence"):
                    path = root / full.replace(".", "/")
                    assert full != "lai", f"{name} imports all of lai"
                    todo += [str(path.with_suffix(".py").relative_to(root))] if path.with_suffix(".py").exists() else []
    assert reached - {"evidence/runs/store.py", "evidence/data/housing.py"} == set(cells.IN_RESULTS)


def test_a_failed_write_leaves_nothing_and_a_damaged_file_is_ignored(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    store.put({"seed": 1}, 1)

    class Stop(BaseException):
        pass

    class Unwritable:
        def __str__(self) -> str:
            raise Stop  # as if killed while writing

    with pytest.raises(Stop):
        store.put({"seed": 1}, Unwritable())
    assert store.get({"seed": 1}) == 1 and len(list(tmp_path.iterdir())) == 1
    (file,) = tmp_path.iterdir()
    for text in ("", '{"settings"', json.dumps([1]), "{}"):
        file.write_text(text)
        assert store.get({"seed": 1}) is None
