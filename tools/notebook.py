"""Find the chapters' notebooks, read their parameters, run one of them.

What `chapter`, `build` and `refresh` have in common. A parameters cell is read from its source
rather than with papermill's pattern, which misses annotations such as `float | None`.
"""

import ast
import functools
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from tools.env import trouble

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
ENGINE = "saved-once"


class ToolError(Exception):
    """A message for the reader, without a traceback."""


def told(work: Callable[[], object], interrupted: str) -> int:
    """Do the work and return the exit status: whatever the reader can mend is told in a few lines, without a traceback."""
    try:
        work()
    except ToolError as error:
        print(f"\nerror: {error}\n", file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"\nerror: {trouble(error, ROOT)}\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; {interrupted}", file=sys.stderr)
        return 130
    return 0


@dataclass(frozen=True)
class Parameter:
    name: str
    annotation: str
    comment: str
    default: Any = None


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook in a file, or a ToolError that names the file."""
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except OSError as error:
        raise ToolError(trouble(error, path)) from None
    except Exception as error:  # nbformat has one for each way to be no notebook, Python for each way to be no text
        reason = str(error).strip().splitlines() or [type(error).__name__]
        advice = f"; `git diff {os.path.relpath(path)}` shows what changed" if in_git(path) else ""
        raise ToolError(f"{path.name} is not a notebook: {reason[0][:200]}{advice}") from None
    return notebook


def in_git(path: Path) -> bool:
    """Whether git is here and knows the file."""
    command = ["git", "ls-files", "--error-unmatch", "--", path.name]
    try:
        return subprocess.run(command, cwd=path.parent, capture_output=True).returncode == 0
    except OSError:  # no git
        return False


def find(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook called `lambda`, `20_lambda` or `notebooks/20_lambda.ipynb`."""
    paths = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    wanted = Path(name).name.removesuffix(".ipynb")
    for stem, path in paths.items():
        if wanted in (stem, stem.partition("_")[2]):
            return path
    chapters = ", ".join(stem.partition("_")[2] or stem for stem in paths)
    raise ToolError(f"NAME={name[:60] or '(empty)'}: no such chapter; the chapters are {chapters}")


def parameter_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def parameters(notebook: nbformat.NotebookNode, name: str = "the notebook") -> dict[str, Parameter]:
    """Every name assigned in the parameters cell, with its annotation, comment and value."""
    found: dict[str, Parameter] = {}
    for cell in parameter_cells(notebook):
        try:
            nodes = ast.parse(cell.source).body
            tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
        except (SyntaxError, tokenize.TokenError) as error:
            raise ToolError(f"{name}: the parameters cell is not Python: {error}") from None
        comments = {t.start[0]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT}
        for node in nodes:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            if isinstance(target, ast.Name):
                comment = comments.get(node.end_lineno or node.lineno, "")
                found[target.id] = Parameter(target.id, kind, comment, _literal(node.value))
    return found


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:  # computed
        return None


def absolute_data_setting() -> None:
    """Make a relative LAI_DATA absolute: kernels start in notebooks/, not where the user is."""
    setting = os.environ.get("LAI_DATA", "").strip()
    if setting and setting.lower() != "none":
        try:
            os.environ["LAI_DATA"] = str(Path(setting).expanduser().resolve())
        except RuntimeError:
            raise ToolError(f"LAI_DATA={setting}: no home folder is known for it; give the whole path") from None


def check_data(path: Path, values: dict[str, Any]) -> None:
    """Refuse data that a notebook would not find, before it has computed anything."""
    absolute_data_setting()
    notebook = read(path)
    if not any("load_housing" in cell.source for cell in notebook.cells if cell.cell_type == "code"):
        return
    known = parameters(notebook, path.name)
    source = values.get("source", known["source"].default if "source" in known else "auto")
    if source not in ("auto", "kaggle"):  # the others need no files, or have to fetch them
        return
    from evidence.data import load_housing  # brings torch with it

    try:
        load_housing(source)
    except (OSError, ValueError) as error:
        raise ToolError(f"{path.stem}: {error}") from None


def run(source: Path, output: Path, values: dict[str, Any]) -> float | None:
    """Execute `source` through papermill into `output`; ToolError says which cell failed.

    Returns the most memory that the kernel held, in MB, or None where the system does not tell it.
    The working directory is the notebook's own folder, as in Jupyter. What was computed up to a
    failure is in `output`.
    """
    # Slow to import, and not needed to refuse a wrong parameter.
    import papermill

    _register_engine()

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    absolute_data_setting()
    read(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _without_a_home(folder)
            executed = papermill.execute_notebook(
                source,
                output,
                values,
                engine_name=ENGINE,
                kernel_name="python3",
                progress_bar=False,
                cwd=source.parent,
                extra_arguments=["--IPKernelApp.log_level=50"],  # no notices about ports and shutdown
            )
    except papermill.PapermillExecutionError as error:
        last = strip_colours(str(error.evalue)).strip()
        raise ToolError(
            f"{source.name}, code cell {error.exec_count} failed:\n\n{_quoted(error.source)}\n\n{error.ename}: {last}"
        ) from None
    except ToolError as error:
        raise ToolError(f"{source.name}, {error}") from None
    except OSError as error:  # nothing more can be written; half a notebook is none
        output.unlink(missing_ok=True)
        raise ToolError(f"{source.name} could not be run: {trouble(error, output)}") from None
    except Exception as error:  # a kernel that never started
        raise ToolError(f"{source.name} could not be run: {type(error).__name__}: {error}") from None
    megabytes: float | None = executed.metadata.papermill.get("megabytes")
    return megabytes


def _without_a_home(folder: str) -> None:
    """Send what Jupyter, IPython and matplotlib want to write elsewhere, where there is no home folder to write to."""
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if home is None or not os.access(home, os.W_OK):
        for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            os.environ[name] = folder


@functools.cache
def _register_engine() -> None:
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Client(PapermillNotebookClient):
        """Tells in which cell a kernel died, and of what."""

        def execute_cell(self, cell: Any, cell_index: int, **options: Any) -> Any:
            killed = oom_kills()
            try:
                done = super().execute_cell(cell, cell_index, **options)
                self.nb.metadata.papermill["megabytes"] = peak_memory(self.km)  # while there is a kernel to ask about
                return done
            except DeadKernelError:
                process = self.km.provisioner.process
                code = None if process is None else process.returncode
                raise ToolError(
                    f"{how_it_died(code, oom_kills() > killed)}, in the cell\n\n{_quoted(cell.source)}"
                ) from None

    class SavedOnce(NBClientEngine):
        """Writes the notebook when it ends, for whatever reason; papermill's own writes it twice for every cell, which
        takes longer than computing them where figures are large."""

        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, extra_arguments: Any = (), **options: Any
        ) -> None:
            save, nb_man.save = nb_man.save, lambda **_: None
            try:
                Client(
                    nb_man, kernel_name=kernel_name, startup_timeout=60, extra_arguments=list(extra_arguments)
                ).execute()
            finally:
                nb_man.save = save
                save()

    papermill_engines.register(ENGINE, SavedOnce)


def peak_memory(manager: Any) -> float | None:
    """The most memory that a running kernel has held so far, in MB; None where the system does not tell it."""
    try:
        status = Path(f"/proc/{manager.provisioner.process.pid}/status").read_text()
    except (OSError, AttributeError):  # not Linux; a kernel that is no process of this machine
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def oom_kills() -> int:
    """How many processes Linux has ended since it started because memory ran out; 0 elsewhere."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def how_it_died(code: int | None, out_of_memory: bool = False) -> str:
    """In words, from a process's exit status."""
    if code == -signal.SIGKILL and out_of_memory:
        return "the kernel was killed because memory ran out (Linux's OOM killer)"
    if code == -signal.SIGKILL:
        return "the kernel was killed (signal 9), which is usually because memory ran out"
    if code is not None and code < 0:
        return f"the kernel died of signal {-code} ({signal.Signals(-code).name})"
    return "the kernel died" if code is None else f"the kernel ended with status {code}"


def _quoted(source: str) -> str:
    """The first lines of a cell, by which the reader finds it: papermill counts the cells of its own copy."""
    return "\n".join(f"    {line}" for line in source.strip().splitlines()[:12])


def strip_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
