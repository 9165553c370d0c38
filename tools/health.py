"""What three pages show that is computed when the book is built: how the book is doing, the licences of what it uses, and
how many entries the errata have.

What takes longer than a build (`make test-all`, `make mutants`, `make faults`) is put into book/health.json by those commands.
"""

import datetime
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evidence.ledger.claims import counts, load_ledger
from tools.files import replace_texts
from tools.notebook import ROOT
from tools.pins import OF_TORCH, pinned
from tools.report import markdown

FILE = ROOT / "book" / "health.json"
EXECUTION = "execution.json"  # beside it in the copy that the pages are built from: what each chapter took
VERSIONS = ("torch", "numpy", "pandas", "scikit-learn", "jupyter-book", "Sphinx")


def record(what: str, found: Mapping[str, Any], file: Path = FILE, part: str = "") -> None:
    """Keep what a long command found, with its day and the versions it ran on; of one part alone, beside the other parts."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    about = {**found, "day": today(), "python": platform.python_version(), "torch": version("torch")}
    kept[what] = {**kept.get(what, {}), part: about} if part else about
    replace_texts({file: json.dumps(dict(sorted(kept.items())), indent=1, ensure_ascii=False) + "\n"})


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def version(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]


# --- licences --------------------------------------------------------------------------------------------------


def licence(one: importlib.metadata.Distribution) -> str:
    """In the words of a distribution's metadata, or of the first line of its licence; empty if it states none."""
    about: Any = one.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [text.split(" :: ")[-1] for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    said = "; ".join(classified) or str(about.get("License") or "")
    files = (one.read_text(f"licenses/{name}") or "" for name in about.get_all("License-File", []))
    return (said or next(files, "")).strip().split("\n")[0]


def licences(requirements: str) -> list[list[str]]:
    """Name, version and licence of every pinned package, and of what torch brings on this machine."""
    found = {}
    for one in importlib.metadata.distributions():
        name = one.metadata["Name"]
        if name in pinned(requirements) or OF_TORCH.match(name):
            found[name] = [name, one.version.partition("+")[0], licence(one) or "not stated"]
    return sorted(found.values(), key=lambda row: row[0].lower())


# --- health ----------------------------------------------------------------------------------------------------


def chapters(book: Path) -> str:
    """How long each chapter ran for the pages at hand, and the most memory that its kernel held."""
    file = book / EXECUTION
    if not file.exists():
        return "These pages were built without running the chapters."
    took = json.loads(file.read_text(encoding="utf-8"))

    def whole(number: float | None) -> str:  # none where the system did not tell it, or what was kept is broken
        return "not known" if number is None else f"{number:.0f}"

    rows = [
        [f"{{doc}}`../notebooks/{name}`", whole(of["seconds"]), whole(of["megabytes"])]
        for name, of in sorted(took.items())
    ]
    together = sum(of["seconds"] or 0 for of in took.values())
    return markdown(["chapter", "seconds", "MB"], [*rows, ["together", whole(together), ""]])


def claims(book: Path) -> str:
    """How many have which verdict."""
    found = counts(load_ledger(book / "claims.yml"))
    return markdown(["verdict", "claims"], [[verdict, f"{n}"] for verdict, n in found.items()])


def errata(book: Path) -> str:
    """How many entries of each kind the errata have."""
    kinds = re.findall(r"^\*(Slip|Reading)\.\*", (book / "errata.md").read_text(encoding="utf-8"), re.MULTILINE)
    slips, readings = kinds.count("Slip"), kinds.count("Reading")
    return (
        f"The paper made us stumble in {len(kinds)} places: {slips} are slips, which are wrong as they stand, "
        f"and {readings} are open, overstated or true under conditions only."
    )


def checks(kept: Mapping[str, Any]) -> str:
    """What the long commands found when they last ran."""
    rows = []
    if tests := kept.get("tests"):
        rows += [
            ["tests that passed", f"{tests['passed']:,}", tests],
            ["tests that failed", f"{tests['failed']:,}", tests],
        ]
        rows += [["tests that this machine had to skip", f"{tests['skipped']:,}", tests]]
        rows += [
            [
                "of the tests, wrong inputs to the library that have to get a clear error",
                f"{tests['bad_inputs']:,}",
                tests,
            ]
        ]
    if coverage := kept.get("coverage"):
        rows += [
            [f"statements and branches of `{name}` that the tests run, in %", f"{coverage[name]:g}", coverage]
            for name in ("lai", "evidence")
        ]
    if axe := kept.get("axe"):
        rows.append(
            [f"faults that axe-core found on {axe['pages']} pages, in light and dark", f"{axe['violations']}", axe]
        )
    for module, of in kept.get("mutants", {}).items():
        rows.append([f"faults in `lai/{module}.py` that its tests noticed", f"{of['killed']} of {of['tried']}", of])
    for command, of in kept.get("faults", {}).items():
        rows.append([f"kills of `{command}` after which it repaired itself", f"{of['survived']} of {of['tried']}", of])
    if not rows:
        return "None has been run yet."
    with_versions = [[what, n, about["day"], f"{about['python']}, {about['torch']}"] for what, n, about in rows]
    return markdown(["what", "number", "day", "Python, torch"], with_versions)


def versions() -> str:
    rows = [["Python", platform.python_version()], *([name, version(name)] for name in VERSIONS)]
    return f"Built on {today()} (UTC) with these versions.\n\n" + markdown(["package", "version"], rows)


def page(what: str, book: Path) -> str:
    """One computed part of a page, as Markdown; `book` is the folder of the pages' sources."""
    if what == "licences":
        return markdown(
            ["package", "version", "licence"], licences((ROOT / "requirements.txt").read_text(encoding="utf-8"))
        )
    if what == "checks":
        file = book / FILE.name
        return checks(json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})
    return {"chapters": chapters, "claims": claims, "errata": errata}[what](book) if what != "versions" else versions()
