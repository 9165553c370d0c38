"""Stop commands at random moments, and see that nothing is lost and that the next call repairs what was left.

    make faults                            # a few moments
    make faults ARGS="--moments 100"       # a quarter of an hour on two idle cores

Each moment has a folder of its own. The command is interrupted (SIGINT to all its processes, as a terminal does), killed
(SIGKILL to itself alone), loses a child (SIGKILL to one of the kernels and workers below it, as when memory runs out), or finds
the disk full (no file of its may grow any more). It may then say that it ended well only if it did. It is called again and left
alone: what it had finished must still be there and whole, none of its processes may go on, and the second call has to end as one
that was never disturbed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.health import FILE, record
from tools.notebook import ROOT
from tools.refresh import METADATA
from tools.values import option

PATIENCE = 120.0  # seconds for processes to end
FAULTS = ("interrupted", "killed", "a child killed", "disk full")


@dataclass(frozen=True)
class Command:
    """A command on a small case: its words in a folder, the files that are whole once they are there, those it ends with."""

    words: Callable[[Path], list[str]]
    kept: str
    ends_with: str


TINY = "--seeds 2 --source surrogate --epochs 1 --pretrain-epochs 1 --protocols sound --lam 0.1 --jobs 2".split()
COMMANDS = {
    "make book": Command(
        lambda at: ["tools.build", "--root", str(at)], "_build/cache/[!.]*.ipynb", "_build/html/notebooks/*.html"
    ),
    "make chapter": Command(
        lambda at: [
            "tools.chapter",
            "--notebooks",
            str(at / "notebooks"),
            "--runs",
            str(at / "runs"),
            "--name",
            "tiny",
        ],
        "runs/20_tiny.ipynb",  # beside which lies what failed, until a run ends well
        "runs/[!.]*.ipynb",
    ),
    "make reproduce": Command(
        lambda at: ["tools.reproduce", "smoothness", *TINY, "--cells", str(at / "cells"), "--out", str(at / "out")],
        "cells/*.json",
        "out/*.csv",
    ),
    "papermill": Command(
        lambda at: ["papermill", str(at / "notebooks" / "20_tiny.ipynb"), str(at / "out.ipynb")],
        "nothing",
        "out.ipynb",
    ),
}


def lay_out(at: Path) -> None:
    """A book of two pages with this one's configuration."""
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, at / "book" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("references.bib", "references.md"):
        shutil.copy(ROOT / "book" / name, at / "book")
    shutil.copy(ROOT / "_config.yml", at)
    (at / "book" / "intro.md").write_text("# Front\n\nHello.\n")
    (at / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n  - file: notebooks/20_tiny\n  - file: book/references\n"
    )
    cells = [
        new_markdown_cell("# Tiny", id="title"),
        new_code_cell("lam: float = 0.5  # λ", id="parameters", metadata={"tags": ["parameters"]}),
        *(new_code_cell(f"print({n} + lam)", id=f"work-{n}") for n in range(3)),
    ]
    (at / "notebooks").mkdir()
    notebook = nbformat.writes(new_notebook(cells=cells, metadata=METADATA))
    (at / "notebooks" / "20_tiny.ipynb").write_text(notebook + "\n")


def start(command: Command, at: Path) -> psutil.Popen:
    environment = {**os.environ, "LAI_DATA": "none", "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return psutil.Popen([sys.executable, "-m", *command.words(at)], cwd=ROOT, env=environment, **quiet)


def contents(at: Path, pattern: str) -> dict[str, str]:
    """Files by name; of a notebook what its cells printed, as it also holds times. One of JSON that is cut off raises ValueError."""
    found = {}
    for path in sorted(at.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".ipynb", ".json"):
            whole = json.loads(text)
            if path.suffix == ".ipynb":
                code = [cell for cell in whole["cells"] if cell["cell_type"] == "code"]
                text = json.dumps([output.get("text") for cell in code for output in cell["outputs"]])
        found[path.name] = text
    return found


def fill_disk(process: psutil.Popen) -> None:
    """From now on no file of a process, its children and theirs takes another byte, as far as the system can be told so."""
    if sys.platform == "linux":
        for one in (process, *process.children(recursive=True)):  # children to come inherit it
            one.rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def disturbed(
    command: Command, at: Path, after: float, fault: str, draw: random.Random, expected: dict[str, str]
) -> str:
    """Stop the command in a fresh folder, then leave it alone; what is wrong with that, or nothing."""
    process = start(command, at)
    time.sleep(after)
    try:
        children = process.children(recursive=True)
        family = [process, *children]
        if fault == "interrupted":
            os.killpg(process.pid, signal.SIGINT)
        elif fault == "killed":
            process.kill()
        elif fault == "disk full":
            fill_disk(process)
        elif children:  # else it has none yet, and goes on
            draw.choice(children).kill()
    except (psutil.NoSuchProcess, ProcessLookupError):  # it ended before
        family = [process]
    if left := psutil.wait_procs(family, timeout=PATIENCE)[1]:
        for one in left:
            one.kill()
        return f"{len(left)} of its processes went on"
    try:
        before = contents(at, command.kept)
        if process.wait() == 0 and contents(at, command.ends_with) != expected:
            return "it says that it ended well"
    except ValueError:
        return "a finished file is cut off"
    if start(command, at).wait():
        return "the next call fails"
    after_all = contents(at, command.kept)
    if lost := [name for name in before if after_all.get(name) != before[name]]:
        return f"lost: {', '.join(lost)}"
    return "" if contents(at, command.ends_with) == expected else "the next call ends otherwise than one left alone"


def left_alone(name: str) -> tuple[float, dict[str, str]]:
    """How long a command takes, and what it ends with."""
    with tempfile.TemporaryDirectory() as folder:
        lay_out(at := Path(folder) / "book")
        began = time.monotonic()
        if start(COMMANDS[name], at).wait() or not contents(at, COMMANDS[name].ends_with):
            sys.exit(f"error: {name} fails when it is left alone")
        return time.monotonic() - began, contents(at, COMMANDS[name].ends_with)


def run(names: Sequence[str], moments: int, seed: int) -> dict[str, list[int]]:
    """How many moments each command survived, of how many; prints those that it did not."""
    pool = ThreadPoolExecutor(os.cpu_count())  # whose threads wait for the processes
    needed = names[:moments]
    undisturbed = dict(zip(needed, pool.map(left_alone, needed), strict=True))  # side by side, as later

    def moment(n: int) -> tuple[str, str]:
        """The command whose turn it is, and what went wrong with it."""
        name, draw = names[n % len(names)], random.Random(f"{seed} {n}")
        length, expected = undisturbed[name]
        after, fault = draw.uniform(0, length), draw.choice(FAULTS)
        with tempfile.TemporaryDirectory() as folder:
            lay_out(at := Path(folder) / "book")
            wrong = disturbed(COMMANDS[name], at, after, fault, draw, expected)
        print(f"  {n + 1} of {moments}: {name}, {fault} after {after:.2f} s: {wrong or 'repaired'}", flush=True)
        return name, wrong

    survived = {name: [0, 0] for name in names}
    for name, wrong in pool.map(moment, range(moments)):
        survived[name][0] += not wrong
        survived[name][1] += 1
    return survived


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools.faults", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--moments", type=option("moments"), default=8, help="how many; default: 8, two of each command"
    )
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), help="default: all")
    parser.add_argument("--seed", type=int, help="of the draw; default: another one each time")
    parser.add_argument("--file", type=Path, default=FILE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"{options.moments} moments, --seed {seed}", flush=True)
    survived = run(options.commands, options.moments, seed)
    for name, (ok, tried) in survived.items():
        if tried:
            record("faults", {"survived": ok, "tried": tried, "seed": seed}, options.file, part=name)
    if any(ok < of for ok, of in survived.values()):
        sys.exit("error: not every moment was survived")


if __name__ == "__main__":
    main()
