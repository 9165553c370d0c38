"""Find the chapters' notebooks, read their parameters, run one of them.

What `chapter`, `build` and `refresh` have in common. A parameters cell is read from its source
rather than with papermill's pattern, which misses annotations such as `float | None`.
"""

import ast
import functools
import io
import os
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
ENGINE = "saved-once"


class ToolError(Exception):
    """A message for the reader, without a traceback."""


@dataclass(frozen=True)
class Parameter:
    name: str
    annotation: str
    comment: str


def find(name: str, folder: Path = NOTEBOOKS) -> Path:
    """The notebook called `lambda`, `20_lambda` or `notebooks/20_lambda.ipynb`."""
    paths = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    wanted = Path(name).name.removesuffix(".ipynb")
    for stem, path in paths.items():
        if wanted in (stem, stem.partition("_")[2]):
            return path
    chapters = ", ".join(stem.partition("_")[2] or stem for stem in paths)
    raise ToolError(f"NAME={name or '(empty)'}: no such chapter; the chapters are {chapters}")


def parameter_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def parameters(notebook: nbformat.NotebookNode) -> dict[str, Parameter]:
    """Every name assigned in the parameters cell, with its annotation and comment."""
    found: dict[str, Parameter] = {}
    for cell in parameter_cells(notebook):
        tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
        comments = {t.start[0]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT}
        for node in ast.parse(cell.source).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            if isinstance(target, ast.Name):
                comment = comments.get(node.end_lineno or node.lineno, "")
                found[target.id] = Parameter(target.id, kind, comment)
    return found


def absolute_data_setting() -> None:
    """Make a relative LAI_DATA absolute: kernels start in notebooks/, not where the user is."""
    setting = os.environ.get("LAI_DATA", "").strip()
    if setting and setting.lower() != "none":
        os.environ["LAI_DATA"] = str(Path(setting).expanduser().resolve())


def run(source: Path, output: Path, values: dict[str, Any]) -> None:
    """Execute `source` through papermill into `output`; ToolError says which cell failed.

    The working directory is the notebook's own folder, as in Jupyter. What was computed up to a
    failure is in `output`.
    """
    # Slow to import, and not needed to refuse a wrong parameter.
    import papermill

    _register_engine()

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    absolute_data_setting()
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
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
        raise ToolError(_describe(source, error)) from None
    except Exception as error:  # a kernel that died or never started, a file that is no notebook
        raise ToolError(f"{source.name} could not be run: {type(error).__name__}: {error}") from None


@functools.cache
def _register_engine() -> None:
    from papermill.engines import NBClientEngine, papermill_engines

    class SavedOnce(NBClientEngine):
        """Writes the notebook when it ends, for whatever reason; papermill's own writes it twice for every cell, which
        takes longer than computing them where figures are large."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
            save, nb_man.save = nb_man.save, lambda **_: None
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **options)
            finally:
                nb_man.save = save
                save()

    papermill_engines.register(ENGINE, SavedOnce)


def _describe(source: Path, error: Any) -> str:
    """One block: notebook, cell, the cell's code, the error."""
    # papermill counts cells of its own copy, so the reader is given the cell by its code.
    code = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[:12])
    last = strip_colours(str(error.evalue)).strip()
    return f"{source.name}, code cell {error.exec_count} failed:\n\n{code}\n\n{error.ename}: {last}"


def strip_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
