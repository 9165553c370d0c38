"""Rerun one chapter with other parameters: `make chapter NAME=lambda LAM=0.3`.

Everything that can be wrong with the request is refused before a kernel starts. The executed
notebook goes to _runs/ under a name that tells its parameters; nothing else is built.
"""

import argparse
import hashlib
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from tools.notebook import NOTEBOOKS, ROOT, Parameter, ToolError, find, parameters, run


def parse(parameter: Parameter, text: str) -> Any:
    """The value of `text` in the type that the parameter is annotated with."""
    kinds = {kind.strip() for kind in parameter.annotation.split("|")} or {"str"}
    listed = next((kind for kind in kinds if re.match(r"(list|tuple)\b", kind)), None)
    text = text.strip()
    if text == "None" and "None" in kinds:
        return None
    if text.startswith("["):
        if listed is None:
            raise _refuse(parameter, text, "one value is needed, not a list")
        inner = re.search(r"\[(\w+)", listed)
        items = _items(parameter, text)
        kinds = {inner[1]} if inner else {"float", "str"}  # a plain `list` may be of either
        return [_scalar(parameter, str(item), kinds) for item in items]
    if listed and kinds <= {listed, "None"}:
        if not text:
            raise _refuse(parameter, text, "a list such as [0.1,0.2] is needed")
        return parse(parameter, f"[{text}]")  # one value: `make book LAM=0.05` reaches every chapter
    return _scalar(parameter, text, kinds)


def _items(parameter: Parameter, text: str) -> list[Any]:
    try:
        items = yaml.safe_load(text)
    except yaml.YAMLError:
        items = None
    if not isinstance(items, list) or not items:
        raise _refuse(parameter, text, "a list needs at least one value, as in [0.1,0.2]")
    return items


def _scalar(parameter: Parameter, text: str, kinds: set[str]) -> Any:
    if "bool" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        if kind.__name__ in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if "str" in kinds and text:
        return text
    rules = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
    rule = " or ".join(rules[kind] for kind in rules if kind in kinds)
    raise _refuse(parameter, text, f"{rule or parameter.annotation} is needed")


def _refuse(parameter: Parameter, text: str, rule: str) -> ToolError:
    about = f" ({parameter.comment})" if parameter.comment else ""
    return ToolError(f"{parameter.name}={text or '(empty)'}: {rule}{about}")


def read_values(notebook: Path, lam: str | None, params: str) -> dict[str, Any]:
    """Typed values for the notebook's parameters, λ among them, or a ToolError."""
    known = parameters(nbformat.read(notebook, as_version=4))
    given = {} if lam is None else {"lam": lam}
    for word in _words(params):
        name, equals, text = word.partition("=")
        if not equals:
            raise ToolError(f"PARAMS: {word!r} is not of the form name=value")
        if name in given:
            raise ToolError(f"{name} is given twice")
        given[name] = text
    for name in given:
        if name not in known:
            raise ToolError(f"{name}: {notebook.name} has no such parameter; it has {', '.join(known)}")
    values = {name: parse(known[name], text) for name, text in given.items()}
    for name, value in values.items():
        if name.startswith("lam"):
            check(name, value)
    return values


def _words(params: str) -> list[str]:
    try:
        return shlex.split(params)
    except ValueError as error:
        raise ToolError(f"PARAMS: {error} in {params!r}") from None


def check(name: str, value: Any) -> None:
    """Refuse a λ that the library would refuse, before a kernel starts."""
    from lai import check_lam  # brings torch with it: only when there is a λ to check

    try:
        check_lam(value, name=name)
    except (TypeError, ValueError) as error:
        raise ToolError(str(error)) from None


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
    failed.unlink(missing_ok=True)
    return partial.replace(done)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.chapter", description=__doc__.split("\n")[0])
    parser.add_argument("--name", required=True, help="lambda, or 20_lambda")
    parser.add_argument("--lam", help="λ: a number, or a list such as [0.1,0.2]")
    parser.add_argument("--params", default="", help='others: "seeds=5 source=surrogate"')
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=Path, default=ROOT / "_runs", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        notebook = find(options.name, options.notebooks)
        values = read_values(notebook, options.lam, options.params)
        told = ", ".join(f"{name} = {value}" for name, value in values.items())
        print(f"running {notebook.name} with {told or 'its own parameters'}", flush=True)
        start = time.monotonic()
        done = rerun(notebook, values, options.runs)
    except ToolError as error:
        print(f"\nerror: {error}\n", file=sys.stderr)
        return 1
    print(f"{_shown(done)} ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
