"""Typed values for a chapter's parameters, from words on the command line; what no chapter can compute is refused.

The type is the parameter's annotation, the least number of a count is what its comment promises ("2 or more"), and the rest of the
rules go by the parameter's name. Nothing here starts a kernel; a chapter's own first cell checks what parameters mean together.
"""

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from evidence.limits import LAM_ENDS
from tools.notebook import Parameter, ToolError, parameters, read

LARGEST = 1e6
"""For counts, and for numbers that are not λ: sizes beyond it are slips of the keyboard."""
MOST_LAMS = 12
"""In a list, each once: as many arms as a figure can tell apart."""

MOST_JOBS = 1000
"""Processes: more than any machine that trains these small networks has cores."""

FRACTIONS = {"alpha", "alphas", "l1_ratio"}
NOT_ZERO = {"e"}
POSITIVE = {"noise"}
BETWEEN = {"beta": (0.001, 100), "lr": (1e-6, 0.1)}
"""With a larger step Adam leaves what float32 can hold, which is found after minutes."""


def read_values(notebook: Path, lam: str | None, params: str) -> dict[str, Any]:
    """Typed values for the notebook's parameters, λ among them, or a ToolError that names the chapter."""
    known = parameters(read(notebook), notebook.name)
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
            has = f"it has {', '.join(known)}" if known else "it has none at all"
            raise ToolError(f"{notebook.stem}: {shortened(name)}: there is no such parameter; {has}")
    try:
        return {name: parse(known[name], text) for name, text in given.items()}
    except ToolError as error:
        raise ToolError(f"{notebook.stem}: {error}") from None


def option(name: str, annotation: str = "int", comment: str = "") -> Callable[[str], Any]:
    """For argparse: the type of an option that is held to the rules of a chapter's parameter of this name."""

    def typed(text: str) -> Any:
        try:
            return parse(Parameter(name, annotation, comment), text)
        except ToolError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix(f"{name}=")) from None

    return typed


def seed_range(text: str) -> list[int]:
    """``10`` is the seeds 0 to 9, ``3-5`` the seeds 3, 4 and 5, ``0,7`` these two."""
    try:
        ends = [int(part) for part in re.split("[-,]", text)]
        if max(ends) > LARGEST:
            raise argparse.ArgumentTypeError(f"{shortened(text)}: seeds must be from 0 to {LARGEST:,.0f}")
        if "-" in text:
            first, last = ends
            seeds = list(range(first, last + 1))
        else:
            seeds = ends if "," in text else list(range(ends[0]))
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(
            f"{shortened(text)!r}: give a number, a range such as 3-5 or a list such as 0,7"
        )
    return seeds


def _words(params: str) -> list[str]:
    try:
        return shlex.split(params)
    except ValueError as error:
        raise ToolError(f"PARAMS: {error} in {params!r}") from None


def parse(parameter: Parameter, text: str) -> Any:
    """The value of `text` in the type that the parameter is annotated with, if the rules allow it."""
    kinds = {kind.strip() for kind in parameter.annotation.split("|")} or {"str"}
    listed = next((kind for kind in kinds if re.match(r"(list|tuple)\b", kind)), None)
    text = text.strip()
    if text == "None" and "None" in kinds:
        return None
    if listed and (text.startswith("[") or kinds <= {listed, "None"}):
        values = [_scalar(parameter, str(item), {_inner(parameter, listed)}) for item in _items(parameter, text)]
        if rule := _length_rule(values):
            raise _refuse(parameter, text, rule)
        return values
    if text.startswith("["):
        raise _refuse(parameter, text, "one value is needed, not a list")
    return _scalar(parameter, text, kinds)


def _inner(parameter: Parameter, listed: str) -> str:
    """The type of a list's items; that of a plain `list` is seen from the items it has."""
    inner = re.search(r"\[(\w+)", listed)
    if inner:
        return inner[1]
    return "str" if any(isinstance(item, str) for item in parameter.default or ()) else "float"


def _items(parameter: Parameter, text: str) -> list[Any]:
    if not text.startswith("["):  # one value: `make book LAM=0.05` reaches every chapter
        if not text or "," in text:
            raise _refuse(parameter, text, "one value or a list such as [0.1,0.2] is needed")
        return [text]
    try:
        items = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
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
                value: int | float = kind(text)
            except ValueError:
                continue
            if broken := _number_rule(parameter, value):
                raise _refuse(parameter, text, broken)
            return value
    if "str" in kinds and text:
        allowed = _choices(parameter.name)
        if allowed and text not in allowed:
            raise _refuse(parameter, text, f"must be one of {', '.join(allowed)}")
        return text
    rules = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
    rule = " or ".join(rules[kind] for kind in rules if kind in kinds)
    raise _refuse(parameter, text, f"{rule or parameter.annotation} is needed")


def _number_rule(parameter: Parameter, value: int | float) -> str:
    """The rule that a number breaks, or nothing."""
    name = parameter.name
    if isinstance(value, int):
        least = 0 if name.endswith("seed") else _least(parameter.comment)
        most = MOST_JOBS if name == "n_jobs" else LARGEST
        return "" if least <= value <= most else f"must be a whole number from {least} to {most:,.0f}"
    if name.startswith("lam"):
        low, high = LAM_ENDS
        return "" if low <= value <= high else f"λ must be from {low:g} to {high:g}"
    if name in FRACTIONS:
        return "" if value == 0 or 1 / LARGEST <= value <= 1 else f"must be 0 or from {1 / LARGEST:g} to 1"
    if name in BETWEEN:
        low, high = BETWEEN[name]
        return "" if low <= value <= high else f"must be from {low:g} to {high:g}"
    if name in POSITIVE and not value > 0:
        return "must be greater than 0"
    if name in NOT_ZERO and value == 0:
        return "must not be zero"
    small = value != 0 and abs(value) < 1 / LARGEST
    return f"must be between {1 / LARGEST:g} and {LARGEST:g} in size" if small or not abs(value) <= LARGEST else ""


def _least(comment: str) -> int:
    """Of a count, from its comment: "4 or more", "256 (one batch) or more", "at least 2"."""
    found = re.search(r"(\d+)(?: \([^)]*\))? or more|at least (\d+)", comment)
    return int(found[1] or found[2]) if found else 1


def _length_rule(values: list[Any]) -> str:
    """The rule that a list breaks as a whole, or nothing."""
    if len(set(values)) < len(values):
        return "give each value once"
    return f"at most {MOST_LAMS} values can be drawn" if len(values) > MOST_LAMS else ""


def _choices(name: str) -> list[str]:
    """The words that a parameter may be; nothing where any will do."""
    find = _CHOICES.get(name)
    return find() if find else []


def _sources() -> list[str]:
    from evidence.data.housing import SOURCES  # brings torch with it: only when there is a word to check

    return list(SOURCES)


def _features() -> list[str]:
    from evidence.data.housing import FEATURES

    return list(FEATURES)


def _protocols() -> list[str]:
    from evidence.runs.protocols import PROTOCOLS

    return list(PROTOCOLS)


def _devices() -> list[str]:
    import torch

    return ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]


_CHOICES: dict[str, Callable[[], list[str]]] = {
    "source": _sources,
    "feature": _features,
    "protocols": _protocols,
    "device": _devices,
}


def _refuse(parameter: Parameter, text: str, rule: str) -> ToolError:
    about = f" ({parameter.comment})" if parameter.comment else ""
    return ToolError(f"{parameter.name}={shortened(text) or '(empty)'}: {rule}{about}")


def shortened(text: str) -> str:
    """A reader's own text, fit for a line of an error."""
    plain = text if text.isprintable() else repr(text)
    return plain if len(plain) <= 60 else f"{plain[:57]}..."
