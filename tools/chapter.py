"""Rerun one chapter with other parameters: `make chapter NAME=lambda LAM=0.3`.

Everything that can be wrong with the request is refused before a kernel starts. The executed
notebook goes to _runs/ under a name that tells its parameters; nothing else is built.
"""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.notebook import NOTEBOOKS, ROOT, ToolError, check_data, find, run, told
from tools.values import read_values


def run_name(stem: str, values: dict[str, Any]) -> str:
    """A file name that tells the parameters: 20_lambda__lam-0.3."""
    parts = [stem] + [f"{name}-{value}" for name, value in values.items()]
    name = re.sub(r"[^\w.,+-]", "", "__".join(parts))
    if len(name) > 120:  # file systems stop at 255 bytes
        name = f"{name[:110]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def rerun(notebook: Path, values: dict[str, Any], folder: Path) -> Path:
    """Execute into `folder`; an earlier good run is replaced only by a good one."""
    name = run_name(notebook.stem, values)
    done, failed = folder / f"{name}.ipynb", folder / f"{name}.failed.ipynb"
    partial = folder / f".{name}.ipynb"
    try:
        run(notebook, partial, values)
    except ToolError as error:
        if not partial.exists():
            raise
        partial.replace(failed)
        raise ToolError(f"{error}\n\nWhat ran before it is in {_shown(failed)}") from None
    except BaseException:  # interrupted, or a full disk
        partial.unlink(missing_ok=True)
        raise
    failed.unlink(missing_ok=True)
    return partial.replace(done)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.chapter", description=__doc__.split("\n")[0])
    parser.add_argument("--name", required=True, help="lambda, or 20_lambda")
    parser.add_argument("--lam", help="λ: a number; where a chapter takes several, also a list such as [0.1,0.2]")
    parser.add_argument("--params", default="", help='others: "seeds=5 source=surrogate"')
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=Path, default=ROOT / "_runs", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    def work() -> None:
        notebook = find(options.name, options.notebooks)
        values = read_values(notebook, options.lam, options.params)
        check_data(notebook, values)
        said = ", ".join(f"{name} = {value}" for name, value in values.items())
        print(f"running {notebook.name} with {said or 'its own parameters'}", flush=True)
        start = time.monotonic()
        done = rerun(notebook, values, options.runs)
        print(f"{_shown(done)} ({time.monotonic() - start:.0f} s)")

    return told(work, "an earlier run of the chapter is untouched")


if __name__ == "__main__":
    sys.exit(main())
