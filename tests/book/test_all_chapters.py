"""What is asked of every chapter: it follows λ, refuses a wrong one, glues what its prose asks for, grades its exercises."""

import functools
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

ROOT = Path(__file__).parents[2]
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
    "70_experiments_smoothness": "seeds=2 pretrain_epochs=1 epochs=2 alpha=1 n_jobs=1",
    "71_experiments_sensitivity": "seeds=2 pretrain_epochs=1 epochs=2 alpha=1 n_jobs=1 protocols=published",
    "72_experiments_strength": "seeds=1 epochs=5 n_jobs=1 protocols=published",
    "73_experiments_sampling": "seeds=2 epochs=8 n_jobs=1 protocols=published",
    "75_robustness": "pretrain_epochs=1 epochs=10 alpha=0.3",
    "74_protocol_search": "pretrain_epochs=1 epochs=1 n_jobs=1",
}
TIMED = re.compile(r"cost-\w+|\w+-step")  # ratios of measured seconds, which change by themselves

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


def rerun(name: str, lam: str, folder: Path) -> dict[str, str]:
    """A chapter through papermill, as `make chapter` has it."""
    assert chapter.main(["--name", name, "--lam", lam, "--params", QUICK.get(name, ""), "--runs", str(folder)]) == 0
    (done,) = folder.iterdir()
    return results(done)


@functools.cache
def small(name: str, lam: str) -> Run:
    """A chapter at small sizes in this process, which needs no kernel."""
    return Run(name, **chapter.read_values(ROOT / "notebooks" / f"{name}.ipynb", lam, QUICK.get(name, ""))).all()


def here(name: str, lam: str) -> dict[str, str]:
    """The same results from a run in this process."""
    run = small(name, lam)
    found = run.printed | {key: repr(value) for key, value in run.glued.items()}
    for cell, html in run.tables.items():
        found |= entries(cell, html)
    return found


def without_lam(text: str) -> str:
    """A label that tells λ is no effect of it."""
    return re.sub(r"\b(0\.05|3(\.0)?)\b", "λ", text)


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_follows_lam(name: str, tmp_path: Path) -> None:
    small, large = here(name, "0.05"), rerun(name, "3", tmp_path)
    assert small.keys() <= large.keys()
    changed = [key for key in small if without_lam(small[key]) != without_lam(large[key]) and not TIMED.fullmatch(key)]
    assert len(changed) >= 2, "λ should do more than be checked"
    assert [key for key, text in (*small.items(), *large.items()) if text == "nan"] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_number_that_the_prose_asks_for_is_glued(name: str) -> None:
    small(name, "0.05").assert_every_inserted_number_is_there()


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercises_begin_unanswered_and_their_solutions_are_right(name: str) -> None:
    run = small(name, "0.05")
    answers = [cell.id for cell in run.cells() if re.fullmatch(r"exercise-\d-answer", cell.id)]
    assert len(answers) >= 2
    for cell in answers:
        assert "no answer yet" in run.printed[cell].lower()
        solution = run.printed.get(cell.replace("answer", "solution"), "")
        assert not solution or "Not yet" not in solution


def test_the_two_ways_to_run_a_chapter_differ_in_nothing_else(tmp_path: Path) -> None:
    """Or the test above would find a change without one."""
    kernel = rerun(CHAPTERS[1], "3", tmp_path)
    assert {key: kernel[key] for key in here(CHAPTERS[1], "3")} == here(CHAPTERS[1], "3")


@pytest.mark.parametrize(("name", "lam"), list(zip(CHAPTERS, itertools.cycle([-1.0, math.nan]))))
def test_a_wrong_lam_stops_a_chapter_before_anything_is_computed(name: str, lam: float) -> None:
    Run(name, lam=lam).assert_refused(r".*lam.*λ must be")


def test_papermills_own_command(tmp_path: Path) -> None:
    source, output = ROOT / "notebooks" / f"{CHAPTERS[0]}.ipynb", tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(output), "-p", "lam", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "λ must be" in done.stderr and "lam" in done.stderr
