"""How a query reads a table, and how words about parts of it become one verdict.

A table has one row for each run: ``protocol`` (published, corrected, sound), ``lam`` (empty for MSE), ``lam_8`` (λ of the
last feature), ``alpha``, ``seed`` and the read-outs, those with BatchNorm's running statistics ending in ``_running``. A view is
one protocol with one read-out. :func:`combine` makes one verdict of all views, so that a claim which stands in some of them only
"holds under conditions", and the text says in which (:func:`told`). Slopes were measured with recomputed statistics alone, so the
others have no say on them.

Intervals are 95 % bootstrap intervals of differences paired by seed (:mod:`evidence.ledger.stats`). Where one λ or one list in one
protocol and read-out would do, they are Student's intervals, widened for the number of those that were looked at (Bonferroni): so
far out ten values have no bootstrap interval worth the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .paper import V1_SMOOTHNESS, V2_SMOOTHNESS
from .stats import Interval, bootstrap_mean, student_mean

if TYPE_CHECKING:
    import pandas as pd


class Judgement(NamedTuple):
    """What evidence comes to: a verdict, what it rests on in words, the number of seeds if a table says it, and where the
    claim holds and where it does not (:func:`told`)."""

    verdict: str
    numbers: str
    seeds: int | None = None
    views: str = ""


class Part(NamedTuple):
    """One protocol and read-out: its name, a word, and its numbers."""

    name: str
    word: str
    numbers: str = ""


def combine(words: Iterable[str]) -> str:
    """One verdict of the words of several protocols, read-outs or cells.

    "holds" if all hold. "holds under conditions" if some do, or one does under conditions. "fails" if none does, be it that
    they fail or that nothing is shown. What could not be tested has no say beside what could.

    Examples
    --------
    >>> combine(["holds", "holds"]), combine(["holds", "not shown"]), combine(["not shown", "fails"])
    ('holds', 'holds under conditions', 'fails')
    >>> combine(["not testable", "holds"]), combine(["not testable"]), combine([])
    ('holds', 'not testable', 'not testable')
    """
    tested = {word for word in words if word != "not testable"}
    if not tested:
        return "not testable"
    if tested == {"holds"}:
        return "holds"
    return "holds under conditions" if tested & {"holds", "holds under conditions"} else "fails"


class MissingResults(Exception):
    """A table or an arm that a query needs is not there."""


@dataclass(frozen=True)
class Results:
    """The tables of one folder."""

    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        """One of them, such as "smoothness"; MissingResults if it is not there."""
        import pandas as pd

        path = self.folder / f"{name}.csv"
        if not path.exists():
            raise MissingResults(f"{name}.csv is not among the results")
        return pd.read_csv(path)


@dataclass(frozen=True)
class _Reading(Results):
    """The same, and the contents of the tables that were asked for, so that an answer is kept until one of them changes."""

    read: dict[str, str]

    def table(self, name: str) -> pd.DataFrame:
        content = self.content(name)
        self.read[name] = sha256(content).hexdigest()
        return _parsed(content) if content else super().table(name)

    def content(self, name: str) -> bytes:
        path = self.folder / f"{name}.csv"
        return path.read_bytes() if path.exists() else b""


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(BytesIO(content))


Query = Callable[[Results], Judgement]

QUERIES: dict[str, Query] = {}
"""All queries by name."""


def query(function: Query) -> Query:
    """Enter a function into ``QUERIES``; without its table it says "not testable" and which table is missing.

    Answers are kept: a query is computed again only if a table that it read has changed.
    """
    kept: dict[tuple[tuple[str, str], ...], Judgement] = {}

    @wraps(function)
    def answer(results: Results) -> Judgement:
        reading = _Reading(results.folder, {})
        for read, known in kept.items():
            if all(sha256(reading.content(name)).hexdigest() == content for name, content in read):
                return known
        try:
            judgement = function(reading)
        except MissingResults as missing:
            judgement = Judgement("not testable", f"{missing}.")
        kept[tuple(reading.read.items())] = judgement
        return judgement

    QUERIES[function.__name__] = answer
    return answer


@dataclass(frozen=True)
class View:
    """One protocol's runs with one read-out; arms are asked for by λ, so that their names do not matter."""

    name: str
    runs: pd.DataFrame
    running: bool
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
        runs = self.runs
        keep = runs["lam"].isna() if lam is None else np.isclose(runs["lam"], lam, rtol=1e-6)
        if lam is not None:
            keep &= runs["lam_8"].isna() if lam_8 is None else np.isclose(runs["lam_8"], lam_8, rtol=1e-6)
            if alpha is not None:
                keep &= np.isclose(runs["alpha"], alpha, rtol=1e-6)
        arm = f"λ = {lam}, λ₈ = {lam_8}, α = {alpha}"
        if not keep.any():
            raise MissingResults(f"the arm {arm} is not in the table")
        column = f"{metric.replace('s_', 's_running_')}" if metric.startswith("s_") else f"{metric}_running"
        column = column if self.running else metric
        if column not in runs:
            raise MissingResults(f"the column {column} is not in the table")
        found = runs.loc[keep, ["seed", column]].drop_duplicates().set_index("seed")[column]
        if found.index.has_duplicates:
            raise ValueError(f"{self.name}: {arm} has a seed more than once")
        return found.sort_index()

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
        runs = self.runs[self.runs["lam_8"].isna() & np.isclose(self.runs["alpha"], alpha, rtol=1e-6)]
        have = runs["lam"].dropna().unique()
        found = sorted((v for v in wanted if v is not None and np.isclose(have, v, rtol=1e-6).any()), reverse=True)
        if len(found) < 2:
            raise MissingResults("the table has no two of the paper's λ")
        return found

    def lists(self) -> list[tuple[float, float, float]]:
        """λ, λ₈ and α of the arms whose last feature has a λ of its own."""
        rows = self.runs.dropna(subset=["lam", "lam_8"])[["lam", "lam_8", "alpha"]].drop_duplicates()
        return [(float(a), float(b), float(c)) for a, b, c in rows.itertuples(index=False)]


def views(table: pd.DataFrame, protocols: Sequence[str] = ()) -> Iterator[View]:
    """Each protocol of a table, and twice if its networks have running statistics that differ."""
    import pandas as pd

    last = table["lam_8"] if "lam_8" in table else pd.Series(np.nan, table.index)
    table = table.assign(lam_8=last.mask(np.isclose(last, table["lam"], rtol=1e-6)))  # only where it differs
    both = {
        protocol: "rmse_running" in runs and not np.allclose(runs["rmse_running"], runs["rmse"])
        for protocol, runs in table.groupby("protocol", sort=False)
    }
    n = len(both) + sum(both.values())
    for protocol, runs in table.groupby("protocol", sort=False):
        if protocols and protocol not in protocols:
            continue
        two = both[protocol]
        yield View(f"{protocol}, recomputed" if two else str(protocol), runs, False, n)
        if two:
            yield View(f"{protocol}, running", runs, True, n)


Judge = Callable[[View], tuple[str, str]]
"""What is asked of each view: a word, and its numbers."""


def parts_of(table: pd.DataFrame, judge: Judge, protocols: Sequence[str] = (), version: str = "") -> list[Part]:
    """Judge each view; those without the arms that are needed have no say."""
    parts, missing = [], "the table has none of these protocols"
    for view in views(table, protocols):
        try:
            parts.append(Part(f"{view.name}, {version}" if version else view.name, *judge(view)))
        except MissingResults as error:
            missing = str(error)
    if not parts:
        raise MissingResults(missing)
    return parts


def over_views(table: pd.DataFrame, judge: Judge, protocols: Sequence[str] = ()) -> Judgement:
    """What all views of a table come to."""
    return together(parts_of(table, judge, protocols), int(table["seed"].nunique()))


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
    protocols: Sequence[str] = (),
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
            parts.append(Part(version.name, "not testable", str(missing)))
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
    for version in have:
        judged = partial(_judge_version, judge=judge, version=version, places=places)
        parts += parts_of(tables[version.name], judged, protocols, version.name)
    return together([*parts, *more], min(int(table["seed"].nunique()) for table in tables.values()))


def _judge_version(
    view: View, judge: Callable[[View, Version, int], tuple[str, str]], version: Version, places: int
) -> tuple[str, str]:
    return judge(view, version, places)


def together(parts: Sequence[Part], seeds: int | None = None) -> Judgement:
    """One judgement of the parts."""
    return Judgement(combine(one.word for one in parts), in_words(parts), seeds, told(parts))


_GROUPS = {
    "holds": "holds in",
    "holds under conditions": "in part in",
    "fails": "fails in",
    "not shown": "not shown in",
}


def told(parts: Sequence[Part]) -> str:
    """Where a claim holds and where it does not; empty if it holds everywhere. What could not be tested is left out.

    >>> told([Part("published, recomputed", "fails"), Part("published, running", "not shown"), Part("sound", "holds")])
    'holds in sound; fails in published (recomputed); not shown in published (running)'
    >>> told([Part("sound, v1", "holds"), Part("sound, v2", "holds"), Part("corrected, running, v2", "fails")])
    'holds in sound; fails in corrected (running, v2)'
    >>> told([Part("published, recomputed", "not shown"), Part("sound", "not shown")])
    'not shown in any view'
    """
    groups = {word: [one.name for one in parts if one.word == word] for word in _GROUPS}
    there = {word: names for word, names in groups.items() if names}
    if set(there) <= {"holds"}:
        return ""
    if len(there) == 1:
        (word,) = there
        return f"{_GROUPS[word]} {'any' if word == 'not shown' else 'every'} view"
    return "; ".join(f"{_GROUPS[word]} {_and(_merged(names))}" for word, names in there.items())


def _merged(names: Iterable[str]) -> list[str]:
    """Names of views, both read-outs or both versions being named as one."""
    found = [tuple(name.split(", ")) for name in names]
    for one, two in (("recomputed", "running"), ("v1", "v2")):
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


def within(sample: Sequence[float] | np.ndarray, room: float, tests: int = 1) -> str:
    """Whether a mean lies within ± ``room``, by its interval; 95 % for ``tests`` such questions together.

    >>> within([0.1, 0.11], 0.5), within([0.1, 0.9], 0.5), within([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    return _between(sample, -room, room, tests)


def below(sample: Sequence[float] | np.ndarray, bound: float, tests: int = 1) -> str:
    """Whether a mean lies below ``bound``, by its interval; 95 % for ``tests`` such questions together.

    >>> below([0.1, 0.11], 0.5), below([0.1, 0.9], 0.5), below([0.8, 0.9], 0.5)
    ('holds', 'not shown', 'fails')
    """
    return _between(sample, -math.inf, bound, tests)


def _between(sample: Sequence[float] | np.ndarray, low: float, high: float, tests: int) -> str:
    """ "holds" if the interval lies between the bounds, "fails" if it lies beyond one of them, else "not shown"."""
    values = np.asarray(sample, dtype=float)
    if len(values) < 2:
        return "not shown"

    interval = _bootstrap(values.tobytes()) if tests == 1 else student_mean(values, level=1 - 0.05 / tests)
    if low < interval.low and interval.high < high:
        return "holds"
    return "fails" if interval.low > high or interval.high < low else "not shown"


@lru_cache(maxsize=4096)
def _bootstrap(values: bytes) -> Interval:
    return bootstrap_mean(np.frombuffer(values))


def all_of(words: Iterable[str]) -> str:
    """ "holds" if all hold, "fails" if one fails, else "not shown". Asks no further once one fails."""
    seen = set()
    for word in words:
        if word == "fails":
            return word
        seen.add(word)
    return "holds" if seen == {"holds"} else "not shown"


def some_of(words: Sequence[str]) -> str:
    """ "holds" if all hold, "holds under conditions" if some do, "fails" if none does and one fails, else "not shown"."""
    if "holds" in words:
        return "holds" if set(words) == {"holds"} else "holds under conditions"
    return "fails" if "fails" in words else "not shown"


def any_of(words: Sequence[str]) -> str:
    """ "holds" if one holds, "fails" if all fail, else "not shown"."""
    if "holds" in words:
        return "holds"
    return "fails" if words and set(words) == {"fails"} else "not shown"


def interval_text(sample: np.ndarray, form: str = "+.1%") -> str:
    """A mean and its 95 % bootstrap interval in words; the mean alone for one seed.

    >>> interval_text(np.array([0.1, 0.1]))
    '+10.0%, +10.0% to +10.0%'
    """
    if len(sample) < 2:
        return f"{sample.mean():{form}}"
    mean = _bootstrap(np.asarray(sample, dtype=float).tobytes())
    return f"{mean.mean:{form}}, {mean.low:{form}} to {mean.high:{form}}"
