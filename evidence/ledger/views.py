"""How a query reads a table.

A table has one row for each run: ``protocol`` (published, corrected, sound), ``lam`` (empty for MSE), ``lam_8`` (λ of the
last feature), ``alpha``, ``seed`` and what was measured, in both evaluations (:data:`evidence.ledger.tables.EVALUATIONS`). A view is
one protocol in one evaluation; a table with one evaluation has one view for each protocol. One verdict is made of all views
(:func:`evidence.ledger.verdicts.combine`), so that a claim which stands in some of them only "holds under conditions", and the text
says in which (:func:`told`).

Intervals are of differences paired by seed (:mod:`evidence.ledger.verdicts`). Where we chose a bound, :func:`at_bounds` tells what half
and twice the bound would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .paper import V1_SMOOTHNESS, V2_SMOOTHNESS
from .tables import EVALUATIONS, column
from .verdicts import VERDICTS, combine

if TYPE_CHECKING:
    import pandas as pd


class Judgement(NamedTuple):
    """What evidence comes to: a verdict, what it rests on in words, the number of seeds if a table says it, where the
    claim holds and where it does not (:func:`told`), and how far one row of the data decides (:func:`evidence.ledger.one_row.told`)."""

    verdict: str
    numbers: str
    seeds: int | None = None
    views: str = ""
    row: str = ""


class Part(NamedTuple):
    """One protocol and evaluation: its name, a word, and its numbers."""

    name: str
    word: str
    numbers: str = ""


class MissingResults(Exception):
    """A table or an arm that a query needs is not there."""


@dataclass(frozen=True)
class Results:
    """The tables of one folder."""

    folder: Path

    def content(self, name: str) -> bytes:
        """The file of a table such as "smoothness"; empty if it is not there."""
        path = self.folder / f"{name}.csv"
        return path.read_bytes() if path.exists() else b""

    def table(self, name: str) -> pd.DataFrame:
        """One of them; MissingResults if it is not there."""
        content = self.content(name)
        if not content:
            raise MissingResults(f"{name}.csv is not among the results")
        return _parsed(content)


@dataclass(frozen=True)
class _Reading(Results):
    """The same, and the contents of the tables that were asked for, so that an answer is kept until one of them changes."""

    of: Results
    read: dict[str, str]

    def content(self, name: str) -> bytes:
        content = self.of.content(name)
        self.read[name] = sha256(content).hexdigest()
        return content


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(BytesIO(content))


Query = Callable[[Results], Judgement]

QUERIES: dict[str, Query] = {}
"""All queries by name."""


def query(function: Query) -> Query:
    """Enter a function into ``QUERIES``; without its table it says "not tested" and which table is missing.

    Answers are kept: a query is computed again only if a table that it read has changed.
    """
    kept: dict[tuple[tuple[str, str], ...], Judgement] = {}

    @wraps(function)
    def answer(results: Results) -> Judgement:
        for read, known in kept.items():
            if all(sha256(results.content(name)).hexdigest() == content for name, content in read):
                return known
        reading = _Reading(results.folder, results, {})
        try:
            judgement = function(reading)
        except MissingResults as missing:
            judgement = Judgement("not tested", f"{missing}.")
        kept[tuple(reading.read.items())] = judgement
        return judgement

    QUERIES[function.__name__] = answer
    return answer


@dataclass(frozen=True)
class View:
    """One protocol's runs in one evaluation; arms are asked for by λ, so that their names do not matter."""

    name: str
    runs: pd.DataFrame
    evaluation: str
    beside: int  # how many views the table has, this one included
    kept: dict[tuple[object, ...], pd.Series] = field(default_factory=dict)  # what was asked for before

    @property
    def protocol(self) -> str:
        """Whose runs they are."""
        return str(self.runs["protocol"].iloc[0])

    def values(
        self, metric: str, lam: float | None, lam_8: float | None = None, alpha: float | None = None
    ) -> pd.Series:
        """A metric of one arm by seed; MSE for λ None. Raises MissingResults if the arm is not there."""
        key = (metric, lam, lam_8, alpha)
        if key not in self.kept:
            self.kept[key] = self._values(*key)
        return self.kept[key]

    def _values(self, metric: str, lam: float | None, lam_8: float | None, alpha: float | None) -> pd.Series:
        import pandas as pd

        keep = self._is("lam", lam)
        if lam is not None:
            keep &= self._is("lam_8", lam_8)
            if alpha is not None:
                keep &= self._is("alpha", alpha)
        arm = f"λ = {lam}, λ₈ = {lam_8}, α = {alpha}"
        if not keep.any():
            raise MissingResults(f"the arm {arm} is not in the table")
        name = column(metric, self.evaluation)
        if name not in self.runs:
            raise MissingResults(f"the column {name} is not in the table")
        # in numpy, as a ledger asks for tens of thousands of arms
        seeds, values = self.runs["seed"].to_numpy()[keep], self.runs[name].to_numpy()[keep]
        order = np.argsort(seeds, kind="stable")
        seeds, values = seeds[order], values[order]
        again = np.append(False, seeds[1:] == seeds[:-1])  # a run may stand in a table twice
        if not np.array_equal(values[again], values[np.flatnonzero(again) - 1], equal_nan=True):
            raise ValueError(f"{self.name}: {arm} has a seed more than once")
        return pd.Series(values[~again], pd.Index(seeds[~again], name="seed"), name=name)

    def _is(self, name: str, wanted: float | None) -> np.ndarray:
        have = self.runs[name].to_numpy(dtype=float)
        return np.isnan(have) if wanted is None else np.abs(have - wanted) <= 1e-6 * abs(wanted)

    def change(self, metric: str, arm: Sequence[float | None], control: Sequence[float | None] = (None,)) -> np.ndarray:
        """One arm less another, seed by seed."""
        one, two = self.values(metric, *arm), self.values(metric, *control)
        if not one.index.equals(two.index):
            raise ValueError(f"{self.name}: {arm} and {control} do not have the same seeds")
        return one.to_numpy() - two.to_numpy()

    def share(self, metric: str, arm: Sequence[float | None], control: Sequence[float | None] = (None,)) -> np.ndarray:
        """The same as a share of the control, seed by seed."""
        return self.change(metric, arm, control) / self.values(metric, *control).to_numpy()

    def lams(self, wanted: Iterable[float | None], alpha: float) -> list[float]:
        """The λ of the paper that this protocol has at this α without a list, from large to small."""
        arms = self._is("lam_8", None) & self._is("alpha", alpha)
        found = sorted((v for v in wanted if v is not None and (arms & self._is("lam", v)).any()), reverse=True)
        if len(found) < 2:
            raise MissingResults("the table has no two of the paper's λ")
        return found

    def lists(self) -> list[tuple[float, float, float]]:
        """λ, λ₈ and α of the arms whose last feature has a λ of its own."""
        rows = self.runs[["lam", "lam_8", "alpha"]].dropna(subset=["lam", "lam_8"]).drop_duplicates()
        return [(float(a), float(b), float(c)) for a, b, c in rows.itertuples(index=False)]


class _Same:
    """A table as a key: the very object, which a query asks for again and again and does not change."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.table is self.table


def views(table: pd.DataFrame) -> tuple[View, ...]:
    """Each protocol of a table, in both evaluations if the table has them; made once, with what was asked of them."""
    return _views(_Same(table))


@lru_cache(maxsize=64)
def _views(of: _Same) -> tuple[View, ...]:
    import pandas as pd

    table = of.table
    last = table["lam_8"] if "lam_8" in table else pd.Series(np.nan, table.index)
    table = table.assign(lam_8=last.mask(np.isclose(last, table["lam"], rtol=1e-6)))  # only where it differs
    evaluations = tuple(EVALUATIONS) if column("rmse", "last step") in table else ("averaged",)
    protocols = [(str(protocol), runs) for protocol, runs in table.groupby("protocol", sort=False)]
    beside = len(protocols) * len(evaluations)
    return tuple(
        View(f"{protocol}, {evaluation}" if len(evaluations) > 1 else protocol, runs, evaluation, beside)
        for protocol, runs in protocols
        for evaluation in evaluations
    )


Judge = Callable[[View], tuple[str, str]]
"""What is asked of each view: a word, and its numbers."""


def parts_of(table: pd.DataFrame, judge: Judge, protocol: str = "", version: str = "") -> list[Part]:
    """Judge each view; those without the arms that are needed have no say."""
    parts, missing = [], f"the table has no protocol {protocol}"
    for view in views(table):
        if protocol not in ("", view.protocol):
            continue
        try:
            parts.append(Part(f"{view.name}, {version}" if version else view.name, *judge(view)))
        except MissingResults as error:
            missing = str(error)
    if not parts:
        raise MissingResults(missing)
    return parts


def over_views(table: pd.DataFrame, judge: Judge, protocol: str = "") -> Judgement:
    """What all views of a table come to, or those of one protocol."""
    return together(parts_of(table, judge, protocol), int(table["seed"].nunique()))


def at_bounds(judge: Callable[..., Judgement], *bounds: tuple[float, str]) -> Judgement:
    """The judgement at bounds that we chose, each with a word for what it is on, and in its numbers what it would be at half and
    at twice each of them, the others being as they are.

    >>> at_bounds(lambda bound: Judgement("holds" if bound > 0.01 else "fails", "RMSE +1.0 %."), (0.02, "RMSE")).numbers
    'RMSE +1.0 %. With another bound on the RMSE than 2 %: at 1 % fails, at 4 % holds.'
    """
    chosen = [bound for bound, _ in bounds]
    found = judge(*chosen)
    numbers = found.numbers
    for i, (bound, about) in enumerate(bounds):
        others = ", ".join(
            f"at {100 * other:g} % {judge(*chosen[:i], other, *chosen[i + 1 :]).verdict}"
            for other in (bound / 2, 2 * bound)
        )
        numbers += f" With another bound on the {about} than {100 * bound:g} %: {others}."
    return found._replace(numbers=numbers)


class Version(NamedTuple):
    """One of the paper's two tables of errors and variances: its name, our table of it, what is printed, and α."""

    name: str
    table: str
    printed: Mapping[float | None, tuple[float, float]]
    alpha: float


TRADES = (Version("v1", "strength", V1_SMOOTHNESS, 1.0), Version("v2", "smoothness", V2_SMOOTHNESS, 0.01))
"""Version 1's section 4 and version 2's section 6.1."""


def over_versions(
    results: Results,
    judge: Callable[[View, Version, int], tuple[str, str]],
    more: Sequence[Part] = (),
) -> Judgement:
    """What the views of both of the paper's tables come to, and ``more`` parts.

    ``judge`` also gets the version, and in how many views and at how many λ of each the claim is looked for, over both tables.
    """
    tables: dict[str, pd.DataFrame] = {}
    parts: list[Part] = []
    for version in TRADES:
        try:
            tables[version.name] = results.table(version.table)
        except MissingResults as missing:
            parts.append(Part(version.name, "not tested", str(missing)))
    have = [version for version in TRADES if version.name in tables]
    if not have:
        raise MissingResults("; ".join(part.numbers for part in parts))

    def count(version: Version) -> int:
        found = 0
        for view in views(tables[version.name]):
            with suppress(MissingResults):  # one without two λ has no say
                found += len(view.lams(version.printed, version.alpha))
        return found

    places = sum(map(count, have))

    def parts_for(version: Version) -> list[Part]:
        return parts_of(tables[version.name], lambda view: judge(view, version, places), version=version.name)

    for version in have:
        parts += parts_for(version)
    return together([*parts, *more], min(int(table["seed"].nunique()) for table in tables.values()))


def together(parts: Sequence[Part], seeds: int | None = None) -> Judgement:
    """One judgement of the parts."""
    return Judgement(combine(one.word for one in parts), in_words(parts), seeds, told(parts))


def told(parts: Sequence[Part]) -> str:
    """Where a claim holds and where it does not; empty if it holds everywhere. What could not be tested is left out.

    >>> told([Part("published, averaged", "fails"), Part("published, last step", "not shown"), Part("sound", "holds")])
    'holds in sound; fails in published (averaged); is not shown in published (last step)'
    >>> told([Part("sound, v1", "holds"), Part("sound, v2", "holds"), Part("corrected, last step, v2", "fails")])
    'holds in sound; fails in corrected (last step, v2)'
    >>> told([Part("published, averaged", "not shown"), Part("sound", "not shown")])
    'is not shown in any view'
    """
    there = {word: names for word in VERDICTS[:-1] if (names := [one.name for one in parts if one.word == word])}
    if set(there) <= {"holds"}:
        return ""
    if len(there) == 1:
        (word,) = there
        return f"{_told(word)} in {'any' if word == 'not shown' else 'every'} view"
    return "; ".join(f"{_told(word)} in {_and(_merged(names))}" for word, names in there.items())


def _told(word: str) -> str:
    return {"holds under conditions": "holds in part", "not shown": "is not shown"}.get(word, word)


def _merged(names: Iterable[str]) -> list[str]:
    """Names of views, both evaluations or both versions being named as one."""
    found = [tuple(name.split(", ")) for name in names]
    for one, two in (tuple(EVALUATIONS), ("v1", "v2")):
        for name in [name for name in found if one in name]:
            twin = tuple(two if word == one else word for word in name)
            if twin in found:
                found[found.index(name)] = tuple(word for word in name if word != one)
                found.remove(twin)
    return [f"{name} ({', '.join(more)})" if more else name for name, *more in found]


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def in_words(parts: Sequence[Part]) -> str:
    """The parts one after the other.

    >>> in_words([Part("published", "fails", "RMSE 0.70, 0.71"), Part("sound", "holds")])
    'Published: fails (RMSE 0.70, 0.71). Sound: holds.'
    """
    return " ".join(
        f"{one.name[:1].upper()}{one.name[1:]}: {one.word}{f' ({one.numbers})' if one.numbers else ''}."
        for one in parts
    )
