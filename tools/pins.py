"""Move the pins: the newest versions of what requirements.txt names directly, and of what those bring with them.

pip resolves them and installs nothing. `make pins` then runs every check with them.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.env import OLDEST
from tools.files import replace_texts
from tools.notebook import ROOT, ToolError, told

PINS = ROOT / "requirements.txt"
BROUGHT = "# brought in by the packages above\n"
# What torch brings on Linux alone, by its own exact versions; a machine that uses PyTorch's CPU builds has none of it.
OF_TORCH = re.compile(r"(nvidia|cuda|triton)\b")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """Versions by name, as requirements.txt has them."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def asked(text: str, project: Path) -> list[str]:
    """What pip is asked for: the first part of the pins without versions, and what pyproject.toml says about them."""
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = declared["optional-dependencies"].values()
    return [*declared["dependencies"], *sum(extras, []), *pinned(text.partition(BROUGHT)[0])]


def resolved(requirements: Iterable[str]) -> dict[str, str]:
    """The newest versions that fit each other, by name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *requirements], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ToolError("pip found no versions that fit each other; its message is above")
    found = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    return {one["name"]: one["version"].partition("+")[0] for one in found}


def rewritten(text: str, versions: Mapping[str, str]) -> str:
    """The pins with other versions: the first part line by line, the second part anew."""
    direct, mark, _ = text.partition(BROUGHT)
    newest = {canonical(name): version for name, version in versions.items()}

    def moved(match: re.Match) -> str:
        return f"{match[1]}=={newest[canonical(match[1])]}"

    direct = re.sub(r"^([\w.-]+)==\S+$", moved, direct, flags=re.MULTILINE)
    known = {canonical(name) for name in pinned(direct)}
    rest = [f"{name}=={version}\n" for name, version in versions.items() if canonical(name) not in known]
    return direct + mark + "".join(sorted((line for line in rest if not OF_TORCH.match(line)), key=str.lower))


def main() -> int:
    def work() -> None:
        if sys.version_info[:2] != OLDEST:
            needed = ".".join(map(str, OLDEST))
            raise ToolError(
                f"pins are moved with Python {needed}, the oldest that they have to fit: remove .venv, then make PYTHON=python{needed} pins"
            )
        before = PINS.read_text(encoding="utf-8")
        after = rewritten(before, resolved(asked(before, ROOT / "pyproject.toml")))
        replace_texts({PINS: after})
        old, new = pinned(before), pinned(after)
        for name in sorted(old.keys() | new.keys(), key=str.lower):
            if old.get(name) != new.get(name):
                print(f"  {name}: {old.get(name, 'new')} -> {new.get(name, 'gone')}")
        if _moved(old, new):
            print("torch or numpy moved: run make reproduce as well", flush=True)

    return told(work, "requirements.txt is as it was")


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether what the committed results were made with has changed."""
    return any(old[name] != new[name] for name in ("torch", "numpy"))


if __name__ == "__main__":
    sys.exit(main())
