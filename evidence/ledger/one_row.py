"""What one row of the data does to the tables and to the ledger: the same runs with it and without it.

One of the paper's rows has 503 people a household, the next has 41. Tables whose runs never saw it stand beside the book's own,
under the same names with an ending: of the same seeds and splits, less the row (``LEFT_OUT``), and of seeds whose splits
hold it out (``HELD_OUT``). They have fewer protocols or seeds, so each is compared with as many of the book's own runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .queries import QUERIES
from .stats import paired, student_mean
from .tables import runs_of
from .verdicts import combine
from .views import Judgement, MissingResults, Results

if TYPE_CHECKING:
    import pandas as pd

    from .claims import Claim

LEFT_OUT, HELD_OUT = "occupancy100", "heldout"

FEWEST = 5
"""Seeds that a table needs to have a say in a verdict: with fewer the ledger's intervals exclude zero too often
(:func:`evidence.ledger.stats.bootstrap_mean`)."""


@dataclass(frozen=True)
class Without(Results):
    """Tables of runs that did not train on the row.

    Attributes
    ----------
    ending : LEFT_OUT or HELD_OUT
    least : int
        Tables with fewer seeds count as not there.
    """

    ending: str = LEFT_OUT
    least: int = 1

    def content(self, name: str) -> bytes:
        content = super().content(f"{name}_{self.ending}")
        return content if content and _seeds(content) >= self.least else b""


@dataclass(frozen=True)
class With(Without):
    """The book's own runs of the same protocols and arms, and of the same seeds, or as many where they share none."""

    def content(self, name: str) -> bytes:
        own, others = Results(self.folder).content(name), super().content(name)
        return _matched(own, others) if own and others else b""


@dataclass(frozen=True)
class Half(Without):
    """The book's own runs of the same protocols and arms, of the first or the second half of its seeds: all with the row."""

    second: bool = False

    def content(self, name: str) -> bytes:
        own, others = Results(self.folder).content(name), super().content(name)
        return _halved(own, others, self.second) if own and others else b""


@lru_cache(maxsize=16)
def _seeds(content: bytes) -> int:
    import pandas as pd

    return int(pd.read_csv(BytesIO(content))["seed"].nunique())


@lru_cache(maxsize=16)
def _matched(own: bytes, others: bytes) -> bytes:
    import pandas as pd

    table, wanted = (pd.read_csv(BytesIO(content)) for content in (own, others))
    key = ["protocol", "arm", "seed"]
    if not set(table["seed"]) & set(wanted["seed"]):
        table, key = table[table["seed"].isin(sorted(set(table["seed"]))[: wanted["seed"].nunique()])], key[:2]
    kept = table.merge(wanted[key].drop_duplicates(), on=key)  # keeps the table's order
    return kept.to_csv(index=False).encode()


@lru_cache(maxsize=16)
def _halved(own: bytes, others: bytes, second: bool) -> bytes:
    import pandas as pd

    table, wanted = (pd.read_csv(BytesIO(content)) for content in (own, others))
    seeds = sorted(set(table["seed"]))
    half = seeds[len(seeds) // 2 :] if second else seeds[: len(seeds) // 2]
    kept = table[table["seed"].isin(half)].merge(wanted[["protocol", "arm"]].drop_duplicates(), on=["protocol", "arm"])
    return kept.to_csv(index=False).encode()


class Effect(NamedTuple):
    """One thing that a table says: by what share of the other's a measure of one arm differs from that of another.

    ``arm`` is one for each protocol.
    """

    table: str
    about: str
    metric: str
    arm: Mapping[str, str]
    control: str = "MSE"

    def of(self, table: pd.DataFrame, protocol: str) -> pd.Series:
        """The effect in one protocol's runs, by seed."""
        runs = runs_of(table, protocol)
        change = paired(runs, self.metric, self.arm[protocol], self.control)
        base = runs[runs["arm"] == self.control].set_index("seed")[self.metric].sort_index()
        return change / base


def _each(arm: str) -> dict[str, str]:
    return dict.fromkeys(("published", "corrected", "sound"), arm)


_FEW, _ALL = "λ = 0.0001, α = 0.01", "λ = 0.001, α = 1"
_LISTS = _each("λ = 0.1, λ₈ = 0.0001, α = 0.1") | {"sound": "λ = 1, λ₈ = 0.001, α = 0.1"}

EFFECTS = (
    Effect("strength", "RMSE, λ = 0.001", "rmse", _each("λ = 0.001")),
    Effect("sampling", "RMSE, one batch in 100 against all", "rmse", _each(_FEW), _ALL),
    Effect("smoothness", "RMSE, λ = 0.001", "rmse", _each("λ = 0.001")),
    Effect("smoothness", "slope, λ = 0.001", "rms_k", _each("λ = 0.001")),
    Effect("sensitivity", "sensitivity to X₈, λ₈ = 0.001", "s_8", _each("λ = 0.1, λ₈ = 0.001")),
    Effect("lists", "sensitivity to X₈, the smallest λ₈", "s_8", _LISTS),
)
"""What stands for each table."""


def _held_out(folder: Path, table: str) -> pd.DataFrame:
    """The table's runs of splits that hold the row out, which may be none."""
    import pandas as pd

    try:
        return Without(folder, HELD_OUT).table(table)
    except MissingResults:
        return pd.DataFrame(columns=["protocol"])


def effects(folder: Path) -> pd.DataFrame:
    """``EFFECTS`` with the row, without it, and how they differ; and where a split holds it out.

    Parameters
    ----------
    folder : path
        Of the book's tables and those with the two endings. A table whose runs are not there without the row is left out.

    Returns
    -------
    DataFrame
        Index ``table``, ``effect``, ``protocol``; columns ``seeds`` and ``seeds held out``, and ``mean``, ``low`` and
        ``high`` (95 %, Student's, as seeds are few) of each of ``with``, ``without``, ``difference`` (without less with, paired
        by seed and split) and ``held out`` (of other seeds; NaN where a protocol has no such runs), as a second level.
    """
    import pandas as pd

    rows = {}
    for effect in EFFECTS:
        try:
            trained, left = (kind(folder).table(effect.table) for kind in (With, Without))
        except MissingResults:
            continue
        elsewhere = _held_out(folder, effect.table)
        for protocol in effect.arm:
            one, two = effect.of(trained, protocol), effect.of(left, protocol)
            row: dict[tuple[str, str], float] = {("seeds", ""): len(two)}
            samples = {"with": one, "without": two, "difference": two - one}
            if protocol in set(elsewhere["protocol"]):
                samples["held out"] = effect.of(elsewhere, protocol)
                row["seeds held out", ""] = len(samples["held out"])
            for name, sample in samples.items():
                row |= {(name, part): value for part, value in student_mean(sample.to_numpy())._asdict().items()}
            rows[effect.table, effect.about, protocol] = row
    found = pd.DataFrame(rows).T
    found.index.names = ["table", "effect", "protocol"]
    return found


class Flip(NamedTuple):
    """What a claim's queries say of the same runs with the row and without it."""

    trained: Judgement
    without: Judgement

    @property
    def flips(self) -> bool:
        return self.trained.verdict != self.without.verdict


def judged(claim: Claim, folder: Path, ending: str = LEFT_OUT) -> Flip | None:
    """The claim's queries on the runs with the row and without it; None if one of them cannot be asked, or chance has no say in it."""
    if claim.seeds is None or not claim.queries:
        return None
    sides = [_on(claim, results) for results in (With(folder, ending, FEWEST), Without(folder, ending, FEWEST))]
    return None if None in sides else Flip(*sides)  # type: ignore[arg-type]


def halves(claim: Claim, folder: Path, ending: str = LEFT_OUT) -> tuple[str, str]:
    """The verdicts on the two halves of the seeds, all with the row: where they differ, a verdict may turn without its doing."""
    found = (_on(claim, Half(folder, ending, FEWEST, second)) for second in (False, True))
    one, two = ("not tested" if of is None else of.verdict for of in found)
    return one, two


def _on(claim: Claim, results: Results) -> Judgement | None:
    """What the claim's queries say together of these results; None if one of them cannot be asked."""
    found = [QUERIES[one.name](results) for one in claim.queries]
    if any(one.verdict == "not tested" for one in found):
        return None
    views = found[0].views if len(found) == 1 else ""
    return Judgement(combine(one.verdict for one in found), "", found[0].seeds, views)


def told(claim: Claim, folder: Path) -> str:
    """In words what the row turns in the verdict on a claim; empty if nothing."""
    parts = []
    for ending, where in ((LEFT_OUT, "left out"), (HELD_OUT, "held out")):
        found = judged(claim, folder, ending)
        if found is not None and found.flips:
            one, two = halves(claim, folder, ending)
            alone = (
                f"; chance may do it too, as half of the seeds gives “{one}” and the others “{two}”"
                if one != two
                else ""
            )
            parts.append(
                f"{where}, the verdict is “{found.without.verdict}” (the same number of runs with it gives "
                f"“{found.trained.verdict}”{alone})"
            )
    return "; ".join(parts)
