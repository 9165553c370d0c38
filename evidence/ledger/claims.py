"""A ledger of claims: what a text claims, where the evidence is, and the verdict that the evidence gives.

Nobody writes a verdict. Evidence is a line that a verdict cell of a notebook has printed, or a query of
:mod:`evidence.ledger.queries` that reads tables of results, or, where nothing can be measured, the reason why. Each piece gives a
word; :func:`evidence.ledger.verdicts.combine` makes one verdict of several. The ledger's file keeps the verdicts so that they can be read and
compared, and :func:`disagreements` says where file and evidence differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from . import one_row
from .queries import QUERIES
from .verdicts import VERDICTS, combine
from .views import Judgement, Results

VERSIONS = ("v1", "v2")
"""Of the paper."""

_KEYS = ("id", "claim", "where", "chapter", "evidence", "rule", "seeds", "verdict", "because")
_MAY = {"ours", "views", "row"}
_PLACE = re.compile(r"v[12] (abstract|\d(\.\d)?|A)")
_LINE = re.compile(r"\s*([a-z0-9]+(?:-[a-z0-9]+)*)((?: \([^)]*\)|, [^:]*)?): (.+)")
_STARTS = ("holds", "fails", "not shown", "not seen here", "not needed", "not tested", "open", "True", "False")


class LedgerError(ValueError):
    """The ledger cannot be read, or points at evidence that does not exist."""


class VerdictLine(NamedTuple):
    """A line of a verdict cell: the cell, the claim's id, what is said, and the word it comes to."""

    cell: str
    id: str
    text: str
    word: str


@dataclass(frozen=True)
class Evidence:
    """One piece of evidence.

    Attributes
    ----------
    kind : "cell", "query" or "reason"
    name : str
        ``notebook#cell``, the name of a query, or the reason in words.
    line : str
        For a cell: what its line starts with; empty for the claim's own id.
    means : str
        For a cell: the verdict of a line that is said in other words, or of a claim's own line if it "holds under conditions":
        where the condition is another claim, or says nothing, that comes to less.
    table : str
        For a query: ``notebook#cell`` where the numbers are shown. If it is a verdict cell that names the claim, what it
        prints has to be what the query says.
    """

    kind: str
    name: str
    line: str = ""
    means: str = ""
    table: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Notebook and cell to look at, both empty if there is none."""
        notebook, _, cell = (self.name if self.kind == "cell" else self.table).partition("#")
        return notebook, cell


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger.

    Attributes
    ----------
    id, claim : str
        A short name, and the claim in one sentence.
    where : tuple of str
        Version and section, as in "v2 6.1".
    chapter : str
        Stem of the notebook's file.
    evidence : tuple of Evidence
    rule : str
        When the claim holds.
    seeds : int or None
        How many the evidence rests on; None where chance has no say.
    verdict : str
        One of ``VERDICTS``.
    because : dict from verdict to str
        The condition or the reason, and for "fails as stated" what holds instead. The key "" stands for whatever verdict.
    ours : bool
        Whether the claim is not the paper's.
    views : str
        Where it holds and where it does not, as the evidence says (:func:`evidence.ledger.views.told`); empty if it has no views.
    row : str
        What one row of the data turns in the verdict (:func:`evidence.ledger.one_row.told`); empty if nothing.
    """

    id: str
    claim: str
    where: tuple[str, ...]
    chapter: str
    evidence: tuple[Evidence, ...]
    rule: str
    seeds: int | None
    verdict: str
    because: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False
    views: str = ""
    row: str = ""

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of the paper that make the claim."""
        return tuple(v for v in VERSIONS if any(place.startswith(v) for place in self.where))

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, beginning with where the claim holds; empty if the ledger has no words for this verdict."""
        text = self.because.get(self.verdict, self.because.get("", ""))
        if text and self.row:
            text += f" With the row of 503 people per household {self.row}."
        it = "; ".join(f"it {part}" for part in self.views.split("; "))
        return f"I{it[1:]}. {text}" if text and self.views else text

    @property
    def queries(self) -> tuple[Evidence, ...]:
        """The evidence that is computed from results."""
        return tuple(one for one in self.evidence if one.kind == "query")


@dataclass(frozen=True)
class Sources:
    """Where the evidence lies: the folder of the committed notebooks and that of the tables of results."""

    notebooks: Path
    results: Path


def load_ledger(path: str | Path) -> list[Claim]:
    """Read a ledger and check its form.

    Raises
    ------
    LedgerError
        If an entry lacks a field or has one that is not known, an id is there twice, or a verdict, place or query is none.
    """
    return list(_claims(str(path), Path(path).read_text(encoding="utf-8")))


@lru_cache(maxsize=4)  # every chapter of a built book asks for the ledger, which takes a second to parse
def _claims(path: str, text: str) -> tuple[Claim, ...]:
    import yaml

    entries = yaml.safe_load(text)
    if not isinstance(entries, list):
        raise LedgerError(f"{path}: a list of claims is needed")
    claims = tuple(_claim(entry) for entry in entries)
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise LedgerError(f"{claim.id}: is there twice")
        seen.add(claim.id)
    return claims


def _claim(entry: Mapping[str, Any]) -> Claim:
    name = entry.get("id", "an entry without id") if isinstance(entry, dict) else repr(entry)
    if not isinstance(entry, dict) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(name)):
        raise LedgerError(f"{name}: an entry needs an id such as boundary-one")
    wrong = sorted(set(_KEYS) ^ (set(entry) - _MAY))
    if wrong:
        raise LedgerError(f"{name}: {', '.join(wrong)} missing or not known; the fields are {', '.join(_KEYS)}")
    where = entry["where"] if isinstance(entry["where"], list) else []
    ours = entry.get("ours", False)
    if not ours and not where or any(not _PLACE.fullmatch(str(place)) for place in where):
        raise LedgerError(f"{name}: where = {entry['where']!r} must be a list such as [v1 4, v2 6.1]")
    if entry["verdict"] not in VERDICTS:
        raise LedgerError(f"{name}: verdict = {entry['verdict']!r} must be one of {', '.join(VERDICTS)}")
    if not (entry["seeds"] is None or isinstance(entry["seeds"], int)):
        raise LedgerError(f"{name}: seeds = {entry['seeds']!r} must be a number, or nothing")
    for key in ("claim", "chapter", "rule"):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise LedgerError(f"{name}: {key} must be a text")
    because = entry["because"]
    because = {"": because} if isinstance(because, str) else because
    if not isinstance(because, dict) or set(because) - {"", *VERDICTS} or not all(map(str, because.values())):
        raise LedgerError(f"{name}: because must be a text, or one for each verdict")
    if not isinstance(entry["evidence"], list) or not entry["evidence"]:
        raise LedgerError(f"{name}: no evidence")
    return Claim(
        id=str(name),
        claim=_one_line(entry["claim"]),
        where=tuple(where),
        chapter=entry["chapter"],
        evidence=tuple(_evidence(str(name), one) for one in entry["evidence"]),
        rule=_one_line(entry["rule"]),
        seeds=entry["seeds"],
        verdict=entry["verdict"],
        because={verdict: _one_line(text) for verdict, text in because.items()},
        ours=bool(ours),
        views=_one_line(entry.get("views", "")),
        row=_one_line(entry.get("row", "")),
    )


def _evidence(claim: str, entry: Mapping[str, str]) -> Evidence:
    kinds = [kind for kind in ("cell", "query", "reason") if kind in entry]
    if len(kinds) != 1:
        raise LedgerError(f"{claim}: evidence {dict(entry)!r} must be one of cell, query, reason")
    (kind,) = kinds
    allowed = {"cell": {"line", "means"}, "query": {"table"}, "reason": set()}[kind]
    if set(entry) - allowed - {kind}:
        raise LedgerError(f"{claim}: evidence {dict(entry)!r} may add {sorted(allowed)} only")
    one = Evidence(kind, _one_line(entry[kind]), **{k: _one_line(v) for k, v in entry.items() if k != kind})
    if kind == "query" and one.name not in QUERIES:
        raise LedgerError(f"{claim}: no query {one.name!r}; there are {', '.join(sorted(QUERIES))}")
    if kind == "cell" and not all(one.place):
        raise LedgerError(f"{claim}: cell = {one.name!r} must be notebook#cell")
    if one.means and one.means not in VERDICTS:
        raise LedgerError(f"{claim}: means = {one.means!r} must be one of {', '.join(VERDICTS)}")
    return one


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def verdict_word(text: str) -> str:
    """What a verdict in a chapter's words comes to in the ledger's; empty for a text that is no verdict.

    Examples
    --------
    >>> verdict_word("holds under stated conditions"), verdict_word("holds, trapped without")
    ('holds under conditions', 'holds')
    >>> verdict_word("fails with noise, holds where every error is zero")
    'holds under conditions'
    >>> verdict_word("fails, but the move is smaller for a smaller α"), verdict_word("not seen here")
    ('fails', 'not shown')
    >>> verdict_word("fails as stated"), verdict_word("0.25")
    ('fails as stated', '')
    """
    text = text.strip()
    if not text.startswith(_STARTS):
        return ""
    if text.startswith("fails as stated"):
        return "fails as stated"
    words = set(re.findall(r"[a-zA-Z]+", text))
    if text.startswith("holds under") or {"holds", "fails"} <= words:
        return "holds under conditions"
    if text.startswith(("holds", "True")):
        return "holds"
    if text.startswith(("fails", "False")):
        return "fails"
    return "not tested" if text.startswith("not tested") else "not shown"


def printed(notebook: Path) -> dict[str, list[str]]:
    """The lines that a notebook's verdict cells, those that carry the tag nbval-check-output, have printed."""
    return _read(notebook)[1]


def _read(notebook: Path) -> tuple[frozenset[str], dict[str, list[str]]]:
    """The ids of a notebook's code cells, and what its verdict cells have printed."""
    state = notebook.stat()
    return _read_once(notebook, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _read_once(notebook: Path, *state: int) -> tuple[frozenset[str], dict[str, list[str]]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    lines = {
        cell["id"]: "".join("".join(output.get("text", "")) for output in cell["outputs"]).splitlines()
        for cell in code
        if "nbval-check-output" in cell.get("metadata", {}).get("tags", [])
    }
    return frozenset(cell["id"] for cell in code), lines


def verdict_lines(notebook: Path) -> list[VerdictLine]:
    """Every line of a notebook's verdict cells that judges a claim: a short name, a colon, a verdict."""
    found = []
    for cell, lines in printed(notebook).items():
        for line in lines:
            match = _LINE.fullmatch(line)
            word = verdict_word(match[3]) if match else ""
            if match and word and (match[3].split()[0] not in ("True", "False")):
                found.append(VerdictLine(cell, match[1], line.strip(), word))
    return found


def judge(claim: Claim, sources: Sources) -> Judgement:
    """The verdict that the evidence gives, what it rests on in words, the number of seeds where a table says it, and the views
    if each piece has some.

    Raises
    ------
    LedgerError
        If a notebook, cell or line is not there.
    """
    judgements = [_judge(claim, one, sources) for one in claim.evidence]
    seeds = next((one.seeds for one in judgements if one.seeds is not None), None)
    numbers = " ".join(one.numbers for one in judgements if one.numbers)
    where = [one.views for one in judgements]
    views = "; ".join(where) if all(where) else ""
    return Judgement(combine(one.verdict for one in judgements), numbers, seeds, views)


def _judge(claim: Claim, evidence: Evidence, sources: Sources) -> Judgement:
    if evidence.kind == "reason":
        return Judgement("not tested", evidence.name)
    notebook, cell = evidence.place
    path = sources.notebooks / f"{notebook}.ipynb"
    if notebook and not path.exists():
        raise LedgerError(f"{claim.id}: there is no notebook {notebook}")
    if evidence.kind == "query":
        if notebook and cell not in _read(path)[0]:
            raise LedgerError(f"{claim.id}: {notebook} has no code cell {cell}")
        return QUERIES[evidence.name](Results(sources.results))
    if cell not in printed(path):
        raise LedgerError(f"{claim.id}: {notebook} has no verdict cell {cell}")
    if evidence.line:
        lines = [line.strip() for line in printed(path)[cell] if line.strip().startswith(evidence.line)]
        words = [evidence.means or verdict_word(line.rpartition(": ")[2]) for line in lines]
    else:
        own = [line for line in verdict_lines(path) if (line.cell, line.id) == (cell, claim.id)]
        lines = [line.text for line in own]
        words = [evidence.means if evidence.means and "conditions" in line.word else line.word for line in own]
    if not lines or not all(words):
        raise LedgerError(
            f"{claim.id}: {notebook}#{cell} prints no verdict that starts with {evidence.line or claim.id!r}"
        )
    return Judgement(combine(words), f"{'; '.join(lines)}.")


def disagreements(claims: Sequence[Claim], sources: Sources) -> list[str]:
    """Where ledger and evidence differ, one line each: verdicts, views, what one row turns, what a cell prints of a query, seeds,
    missing reasons, verdicts that no claim uses."""
    found = []
    for claim in claims:
        try:
            judgement = judge(claim, sources)
        except LedgerError as error:
            found.append(str(error))
            continue
        if judgement.verdict != claim.verdict:
            found.append(f"{claim.id}: the ledger says {claim.verdict!r}, the evidence {judgement.verdict!r}")
        elif not claim.reason:
            found.append(f"{claim.id}: the ledger has no reason for {claim.verdict!r}")
        elif judgement.views != claim.views:
            found.append(f"{claim.id}: the ledger says that it {claim.views!r}, the evidence {judgement.views!r}")
        elif (row := one_row.told(claim, sources.results)) != claim.row:
            found.append(f"{claim.id}: the ledger says of one row {claim.row!r}, the evidence {row!r}")
        for one in claim.queries:
            verdict, shown = _judge(claim, one, sources).verdict, _shown(claim, one, sources)
            if shown not in ("", verdict):
                found.append(f"{claim.id}: {one.table} prints {shown!r}, the query says {verdict!r}")
        if judgement.seeds not in (None, claim.seeds):
            found.append(f"{claim.id}: the ledger says {claim.seeds} seeds, the table has {judgement.seeds}")
    return found + [f"{stem}#{line.cell}: no claim uses {line.text!r}" for stem, line in orphans(claims, sources)]


def _shown(claim: Claim, query: Evidence, sources: Sources) -> str:
    """The verdict on a claim that the cell named as a query's table prints; empty if it prints none."""
    stem, cell = query.place
    lines = verdict_lines(sources.notebooks / f"{stem}.ipynb") if stem else []
    words = [line.word for line in lines if (line.cell, line.id) == (cell, claim.id)]
    return combine(words) if words else ""


def orphans(claims: Iterable[Claim], sources: Sources) -> Iterator[tuple[str, VerdictLine]]:
    """Verdicts that a notebook prints and the ledger does not use, as (stem, line)."""
    used = [(one.place, one.line, claim.id) for claim in claims for one in claim.evidence]
    for path in sorted(sources.notebooks.glob("*.ipynb")):
        for found in verdict_lines(path):
            here = [(line, name) for place, line, name in used if place == (path.stem, found.cell)]
            if not any(found.text.startswith(line) if line else found.id == name for line, name in here):
                yield path.stem, found


def counts(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims have each verdict, all of ``VERDICTS`` in their order."""
    found = [claim.verdict for claim in claims]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def rewritten(text: str, judgements: Mapping[str, Judgement]) -> str:
    """A ledger's text with the verdicts, views and rows, and the seeds that tables tell, of these judgements; all else stays as it is.

    Examples
    --------
    >>> judgement = Judgement("fails", "", 10, "fails in every view")
    >>> print(rewritten("- id: a  # first\\n  seeds: 3\\n  verdict: holds", {"a": judgement}))
    - id: a  # first
      seeds: 10
      verdict: fails
      views: fails in every view
    """
    current: Judgement | None = None
    lines = []
    for line in text.split("\n"):
        if match := re.match(r"- id: ([\w-]+)", line):
            current = judgements.get(match[1])
        elif current is not None and re.match(r"  verdict:( |$)", line):
            line = f"  verdict: {current.verdict}"
            line += f"\n  views: {current.views}" if current.views else ""
            line += f"\n  row: {current.row}" if current.row else ""
        elif current is not None and line.startswith(("  views: ", "  row: ")):
            continue
        elif current is not None and current.seeds is not None and re.match(r"  seeds:( |$)", line):
            line = f"  seeds: {current.seeds}"
        lines.append(line)
    return "\n".join(lines)
