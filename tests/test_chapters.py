"""Every chapter rerun through papermill: another λ gives other results, a wrong one stops at once."""

import itertools
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

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


def results(path: Path) -> list[str]:
    """The text of every output, by cell."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return ["".join(str(output) for output in cell.outputs) for cell in cells]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_follows_lam(name: str, tmp_path: Path) -> None:
    def rerun(lam: str) -> list[str]:
        options = ["--params", QUICK.get(name, ""), "--runs", str(tmp_path / lam)]
        assert chapter.main(["--name", name, "--lam", lam, *options]) == 0
        (done,) = (tmp_path / lam).iterdir()
        return results(done)

    small, large = rerun("0.05"), rerun("3")
    changed = sum(one != other for one, other in zip(small, large, strict=True))
    assert changed >= 2, "λ should do more than be checked"
    assert [text for text in small + large if "': 'nan'" in text or "stderr" in text] == []


@pytest.mark.parametrize(("name", "lam"), zip(CHAPTERS, itertools.cycle(["-1", "nan"])))
def test_plain_papermill_stops_at_a_wrong_lam(name: str, lam: str, tmp_path: Path) -> None:
    source, output = ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "out.ipynb"
    with pytest.raises(PapermillExecutionError) as stopped:
        papermill.execute_notebook(source, output, {"lam": float(lam)}, cwd=ROOT, progress_bar=False)
    assert "λ must be" in stopped.value.evalue and "lam" in stopped.value.evalue
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    failed = next(n for n, cell in enumerate(cells) if any(item.output_type == "error" for item in cell.outputs))
    tags = [cell.metadata.get("tags", []) for cell in cells]
    assert failed <= tags.index(["injected-parameters"]) + 2, "something was computed before λ was checked"


def test_papermills_own_command(tmp_path: Path) -> None:
    source, output = ROOT / "notebooks" / f"{CHAPTERS[0]}.ipynb", tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(output), "-p", "lam", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "λ must be" in done.stderr and "lam" in done.stderr
