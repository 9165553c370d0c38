"""What Binder installs (.binder): files that are there, a Python that the pins are for, and packages that a chapter can import."""

import os
import re
import subprocess
import venv
from pathlib import Path

from tools.env import NEWEST, OLDEST

ROOT = Path(__file__).parents[2]
BINDER = ROOT / ".binder"


def test_it_installs_the_pins_of_this_repository_and_nothing_else() -> None:
    lines = [line for line in (BINDER / "requirements.txt").read_text(encoding="utf-8").splitlines() if line]
    named = [re.fullmatch(r"-r (\S+)", line) for line in lines]
    assert [(BINDER / match[1]).resolve() for match in named if match] == [ROOT / "requirements.txt"]
    assert all(named)


def test_its_python_is_one_that_the_pins_support() -> None:
    version = re.fullmatch(r"python-(\d+)\.(\d+)\n", (BINDER / "runtime.txt").read_text(encoding="utf-8"))
    assert version and OLDEST <= (int(version[1]), int(version[2])) <= NEWEST


def test_after_its_last_step_the_packages_of_the_checkout_are_found_from_anywhere(tmp_path: Path) -> None:
    """As Binder does it: the file is run from the root of the checkout, with the new environment's Python first."""
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    venv.create(tmp_path / "env", symlinks=True)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    bare["PATH"] = f"{tmp_path / 'env' / 'bin'}{os.pathsep}{bare['PATH']}"
    subprocess.run([script], cwd=ROOT, env=bare, check=True)
    ask = "import importlib.util as u; print(*(u.find_spec(name).origin for name in ('lai', 'evidence')))"
    found = subprocess.run(["python", "-c", ask], cwd=tmp_path, env=bare, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(ROOT / name / "__init__.py") for name in ("lai", "evidence")]
