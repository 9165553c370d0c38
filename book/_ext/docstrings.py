"""Make the API page out of our docstrings as they are, with help for napoleon where it would misread them.

numpydoc's sections end at the next heading only, so a "Source: ..." line would be read as one more exception or return
value: it becomes a section of its own before napoleon sees it. What napoleon makes of the text under a constant is
undone: it takes whatever stands before a colon for a type. And a named tuple's fields are told in its own docstring;
Python's "Alias for field number 0" tells nothing.
"""

from typing import Any

from sphinx.application import Sphinx

_constants: dict[str, list[str]] = {}


def before_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "data":
        _constants[name] = list(lines)
    for i, line in enumerate(lines):
        if line.startswith("Source: "):
            text = line.removeprefix("Source: ")
            lines[i : i + 1] = ["Source", "------", text[0].upper() + text[1:]]
            return


def after_napoleon(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "data":
        lines[:] = _constants.pop(name, lines)


def without_aliases(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)  # napoleon's own is 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
