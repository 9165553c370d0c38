"""Run a tool with the words of ARGS, parted as a shell would but by none: `python -m tools.words reproduce`."""

import importlib
import os
import shlex
import sys

from tools.notebook import ToolError, told


def main(tool: str) -> None:
    given = os.environ.get("ARGS", "")
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise ToolError(f"ARGS: {error} in {given!r}") from None
    importlib.import_module(f"tools.{tool}").main(words)


if __name__ == "__main__":
    sys.exit(told(lambda: main(sys.argv[1]), "what is finished is kept"))
