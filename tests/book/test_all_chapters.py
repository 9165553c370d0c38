"""What is asked of every chapter: it follows λ, refuses a wrong one, glues what its prose asks for."""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from chapter_run import CHAPTERS, QUICK, ROOT, Run, small

from evidence.exercises import RIGHT, Exercise
from evidence.limits import LAM_ENDS
from tools import chapter

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


# Those whose two runs are quick, and those that train for longer than the gate should wait.
QUICKEST = ("00", "10", "20", "30", "40")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith(QUICKEST) else pytest.mark.long) for name in CHAPTERS]
)
def test_chapter_follows_lam_and_has_every_number_that_its_prose_asks_for(name: str) -> None:
    low, high = here(name, "0.05"), here(name, "3")
    assert low.keys() <= high.keys()
    changed = [key for key in low if without_lam(low[key]) != without_lam(high[key]) and not TIMED.fullmatch(key)]
    assert len(changed) >= 2, "λ should do more than be checked"
    assert [key for key, text in (*low.items(), *high.items()) if text == "nan"] == []
    small(name, "0.05").assert_every_inserted_number_is_there()


# Those that run at λ = 3 for their own tests already.
AT_THREE = (*QUICKEST, "70", "71", "72", "73")


@pytest.mark.parametrize(
    ("name", "lam"),
    [
        pytest.param(name, lam, marks=() if name.startswith(quick) else pytest.mark.long)
        for lam, quick in (("0.05", QUICKEST), ("3", AT_THREE))
        for name in CHAPTERS
    ],
)
def test_every_exercise_accepts_its_own_solution(name: str, lam: str) -> None:
    names = small(name, lam).names
    exercises = {key: value for key, value in names.items() if isinstance(value, Exercise)}
    assert exercises
    for key, exercise in exercises.items():
        solution = names[key.replace("exercise", "solution")]
        assert exercise(*(solution if isinstance(solution, tuple) else [solution])) == RIGHT, key


@pytest.mark.long
@pytest.mark.parametrize("lam", [f"{end:g}" for end in LAM_ENDS])
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_computes_at_both_ends_of_lam(name: str, lam: str) -> None:
    found = here(name, lam)
    assert [key for key, text in found.items() if text == "nan"] == []
    small(name, lam).assert_every_inserted_number_is_there()


def test_the_two_ways_to_run_a_chapter_differ_in_nothing_else(tmp_path: Path) -> None:
    """Which makes the runs of this file, that need no kernel, speak for those of `make chapter`."""
    kernel = rerun(CHAPTERS[1], "3", tmp_path)
    assert {key: kernel[key] for key in here(CHAPTERS[1], "3")} == here(CHAPTERS[1], "3")


@pytest.mark.parametrize(("name", "lam"), list(zip(CHAPTERS, itertools.cycle([-1.0, math.nan, 1e-300]))))
def test_a_wrong_lam_stops_a_chapter_before_anything_is_computed(name: str, lam: float) -> None:
    Run(name, lam=lam).assert_refused(r".*lam.*λ must be")


def test_papermills_own_command(tmp_path: Path) -> None:
    source, output = ROOT / "notebooks" / f"{CHAPTERS[0]}.ipynb", tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(source), str(output), "-p", "lam", "-1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "λ must be" in done.stderr and "lam" in done.stderr
