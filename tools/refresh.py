"""Re-execute the committed notebooks and write them back clean, or check that they are clean.

Committed outputs come from the surrogate (LAI_DATA=none) and hold no figures, timings, machine
paths or anything else that would change from one machine to the next without reason.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.files import replace_texts
from tools.notebook import NOTEBOOKS, find, parameter_cells, parameters, read, run, told

MAX_OUTPUT = 20_000  # bytes of output in one cell
METADATA = {
    # A version of Python in here would change with every reader's machine.
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Written so that this line is not itself a machine path.
# With each lookbehind after the first letter, which is four times as fast: the whole site is searched as well.
MACHINE_PATH = re.compile(r"/(?<![\w.]/)(?:home|root|work|tmp|Users)/|[A-Z](?<!\w[A-Z]):\\\\?\w")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
FIGURE = re.compile(r"^<Figure size ")
INTERACTIVE = re.compile(r"\binteractive\.(?!state\b)\w+\(")


def clean(notebook: NotebookNode) -> NotebookNode:
    """The same notebook with stable metadata, counts from 1, merged streams and no figures."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for cell in notebook.cells:
        for key in ("papermill", "execution", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if cell.metadata.get("tags") == []:
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = list(_clean_outputs(cell.outputs, count))
    return notebook


def _clean_outputs(outputs: list[NotebookNode], count: int) -> Iterator[NotebookNode]:
    stream: NotebookNode | None = None
    for output in outputs:
        if output.output_type == "stream":
            # Where a long print is cut into messages depends on timing.
            if stream is not None and stream.name == output.name:
                stream.text += output.text
                continue
            stream = output
        else:
            stream = None
        if "data" in output:
            output.data = {kind: value for kind, value in output.data.items() if not _is_figure(kind)}
            for kind in [kind for kind in output.metadata if _is_figure(kind)]:
                del output.metadata[kind]
            if not output.data:
                continue
        if output.output_type == "execute_result":
            output.execution_count = count
        yield output


def problems(notebook: NotebookNode) -> Iterator[str]:
    """What a reviewer would send this notebook back for, one line each."""
    yield from _parameter_problems(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, not 1 to {len(counts)} in order"
    if dict(notebook.metadata) != METADATA:
        yield f"notebook metadata holds {sorted(notebook.metadata)}, and not just what refresh writes"
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) < len(ids):
        yield f"cell ids repeat: {sorted({str(name) for name in ids if ids.count(name) > 1})}"
    for index, cell in enumerate(notebook.cells):
        for problem in _cell_problems(cell):
            yield f"cell {index} ({cell.get('id', 'no id')}): {problem}"


def _parameter_problems(notebook: NotebookNode) -> Iterator[str]:
    cells = parameter_cells(notebook)
    if len(cells) != 1:
        yield f"{len(cells)} cells are tagged parameters; there must be exactly one"
        return
    known = parameters(notebook)
    if "lam" not in known:
        yield "the parameters cell has no lam"
    for parameter in known.values():
        if not parameter.annotation:
            yield f"parameter {parameter.name} has no type annotation"
        if not parameter.comment:
            yield f"parameter {parameter.name} has no comment on its line"


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    name = cell.get("id", "")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or re.fullmatch(r"[0-9a-f]{8}", name):
        yield "needs an id in words, such as lam-check"
    for key in ("papermill", "execution", "ExecuteTime"):
        if key in cell.metadata:
            yield f"has timing metadata ({key})"
    outputs = cell.get("outputs", [])
    written = cell.source + json.dumps(outputs, ensure_ascii=False)
    if found := MACHINE_PATH.search(written):
        yield f"has a machine path near {written[found.start() : found.start() + 30]!r}"
    if found := ADDRESS.search(written):
        yield f"has a memory address{found[0]!r}; end the cell with a semicolon or print the value"
    size = sum(len(str(output).encode()) for output in outputs)
    if size > MAX_OUTPUT:
        yield f"has {size} bytes of output; at most {MAX_OUTPUT} are allowed"
    for output in outputs:
        if output.output_type == "error":
            yield f"stopped with {output.ename}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text.strip()[:60]!r}"
        if any(_is_figure(kind) for kind in output.get("data", {})):
            yield "has a figure in its outputs"
    if _draws(cell) and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip():
        yield 'draws a figure without alt text; metadata needs {"mystnb": {"image": {"alt": ...}}}'


def _is_figure(kind: str) -> bool:
    """Whether a MIME type is an image, plotly's, or that of an exercise, which pages draw as well."""
    return "image/" in kind or kind.startswith(("application/vnd.plotly.", "application/vnd.lai-"))


def _draws(cell: NotebookNode) -> bool:
    if "figure" in cell.metadata.get("mystnb", {}):
        return True
    if cell.cell_type == "code" and INTERACTIVE.search(cell.source):
        return True
    texts = [output.get("data", {}).get("text/plain", "") for output in cell.get("outputs", [])]
    return any(FIGURE.match(text) for text in texts)


def refresh(path: Path) -> bool:
    """Execute and rewrite one notebook; whether that changed it. A failure leaves it alone."""
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / path.name
        run(path, executed, {})
        notebook = clean(nbformat.read(executed, as_version=4))
    text = nbformat.writes(notebook)  # indented by one, keys sorted
    text = text.rstrip("\n") + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    replace_texts({path: text})
    return True


def check(path: Path) -> list[str]:
    notebook = read(path)
    text = path.read_text(encoding="utf-8")
    found = list(problems(notebook))
    if text != nbformat.writes(notebook).rstrip("\n") + "\n":
        found.append("is not in the form that refresh writes (sorted keys, one space, final newline)")
    return [f"{path.name}: {problem}" for problem in found]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.refresh", description=__doc__.split("\n")[0])
    parser.add_argument("--name", help="one chapter only")
    parser.add_argument("--check", action="store_true", help="only say what is not clean")
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    found: list[str] = []

    def work() -> None:
        everything = sorted(options.notebooks.glob("*.ipynb"))
        paths = [find(options.name, options.notebooks)] if options.name is not None else everything
        if options.check:
            found.extend(problem for path in paths for problem in check(path))
            print("\n".join(found) if found else f"{len(paths)} notebooks are clean")
            return
        os.environ["LAI_DATA"] = "none"
        for path in paths:
            print(f"{path.name}: {'rewritten' if refresh(path) else 'unchanged'}", flush=True)

    return told(work, "the notebook that was running is untouched") or (1 if found else 0)


if __name__ == "__main__":
    sys.exit(main())
