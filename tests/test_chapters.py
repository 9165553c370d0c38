"""Every chapter rerun with another λ gives other results, and a wrong λ stops it at once."""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from chapter_run import Run

from tools import chapter

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
# Chapters that train, with parameters that make the same cells run in seconds.
QUICK = {
    "00_losses_and_regularization": "seeds=4 worlds=50",
    "30_nonlinear": "seeds=3 pretrain_steps=60 steps=15",
    "40_high_dimension": "rows=200 seeds=2 list_steps=5 vector_steps=5",
    "51_coupled_samples": "seeds=2 pretrain_epochs=1 epochs=1",
    "50_limitations": "starts=20 seeds=2 steps=20",
    "60_lai_training": "lams=[0.1] alphas=[0.25,1.0] seeds=2 worlds=2 pretrain_epochs=4 epochs=4",
    "61_strength_map": "seeds=2 rows=512 pretrain_epochs=2 epochs=2 n_jobs=1",
    "70_experiments_smoothness": "seeds=2 pretrain_epochs=2 epochs=2 n_jobs=1",
    "71_experiments_sensitivity": "seeds=2 pretrain_epochs=2 epochs=2 n_jobs=1",
    "72_experiments_strength": "seeds=1 epochs=1 n_jobs=1",
    "73_experiments_sampling": "seeds=2 epochs=1 n_jobs=1",
    "74_protocol_search": "pretrain_epochs=1 epochs=1 n_jobs=1",
}

pytestmark = pytest.mark.usefixtures("surrogate")


def results(path: Path) -> dict[str, str]:
    """What a kernel printed by cell, every number that it glued by name, and the entries of the tables that cells end with."""
    found: dict[str, str] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            found[cell.id] = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
            assert not any(output.get("name") == "stderr" for output in cell.outputs), cell.outputs
            for output in cell.outputs:
                if "scrapbook" in output.get("metadata", {}):
                    found[output.metadata.scrapbook.name] = output.data["application/papermill.record/text/plain"]
                elif output.output_type == "execute_result" and "<table" in output.data.get("text/html", ""):
                    found |= entries(cell.id, output.data["text/html"])
    return found


def entries(cell: str, html: str) -> dict[str, str]:
    """What stands in a table, by place."""
    texts = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", html, re.DOTALL)
    return {f"{cell}, entry {i}": text for i, text in enumerate(texts)}


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_follows_lam(name: str, tmp_path: Path) -> None:
    """A rerun at one λ, through papermill, differs from one at another, in this process, and not in all."""
    assert chapter.main(["--name", name, "--lam", "3", "--params", QUICK.get(name, ""), "--runs", str(tmp_path)]) == 0
    (done,) = tmp_path.iterdir()
    large = results(done)
    values = chapter.read_values(ROOT / "notebooks" / f"{name}.ipynb", "0.05", QUICK.get(name, ""))
    run = Run(name, **values).all()
    small = run.printed | {key: repr(value) for key, value in run.glued.items()}
    for cell, html in run.tables.items():
        small |= entries(cell, html)
    assert small.keys() <= large.keys()
    changed = [key for key in small if small[key] != large[key]]
    assert len(changed) >= 2, "λ should do more than be checked"
    assert len(changed) < len(small) - 2, "the two are not comparable"
    assert [key for key, text in (*small.items(), *large.items()) if text == "nan"] == []


@pytest.mark.parametrize(("name", "lam"), list(zip(CHAPTERS, itertools.cycle([-1.0, math.nan]))))
def test_a_wrong_lam_stops_a_chapter_before_anything_is_computed(name: str, lam: float) -> None:
    run = Run(name, lam=lam)
    with pytest.raises((ValueError, TypeError), match=r"lam.*λ must be"):
        run.all()
    assert list(run.printed) in (["parameters"], ["imports", "parameters"]) and not run.glued


def test_papermills_own_command(tmp_path: Path) -> None:
    source, output = ROOT / "notebooks" / f"{CHAPTERS[0]}.ipynb", tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(output), "-p", "lam", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "λ must be" in done.stderr and "lam" in done.stderr
