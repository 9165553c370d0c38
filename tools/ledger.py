"""The ledger of claims: recompute every verdict from its evidence, and compare or write.

With --check it says where ledger and evidence differ, and fails if they do. With --write it puts the verdicts, and the
seeds that tables tell, into the ledger; comments and order stay. Where a new verdict has no reason yet, write one by hand.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence.ledger import one_row
from evidence.ledger.claims import LedgerError, Sources, counts, disagreements, judge, load_ledger, rewritten
from evidence.ledger.views import Judgement
from tools.files import replace_texts

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.ledger", description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="fail if ledger and evidence differ")
    what.add_argument("--write", action="store_true", help="write the verdicts that the evidence gives")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    ledger = options.root / "book" / "claims.yml"
    sources = Sources(options.root / "notebooks", options.root / "book" / "results")
    try:
        if options.write:
            write(ledger, sources)
        claims = load_ledger(ledger)
        found = disagreements(claims, sources)
    except (LedgerError, ValueError) as error:  # the latter for a table that cannot be paired
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(found))
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts(one for one in claims if not one.ours).items())
    print(f"{len(claims)} claims, {sum(one.ours for one in claims)} of them ours; the paper's: {said}")
    return 1 if found else 0


def write(ledger: Path, sources: Sources) -> None:
    """Put the verdicts into the file, and say what changed."""
    judgements: dict[str, Judgement] = {}
    for claim in load_ledger(ledger):
        try:
            judgement = judge(claim, sources)._replace(row=one_row.told(claim, sources.results))
        except LedgerError:  # evidence that is not there is told by the comparison; the others are written
            continue
        judgements[claim.id] = judgement
        if judgement.verdict != claim.verdict:
            print(f"{claim.id}: {claim.verdict} -> {judgement.verdict}")
    before = ledger.read_text(encoding="utf-8")
    after = rewritten(before, judgements)
    if after != before:
        replace_texts({ledger: after})


if __name__ == "__main__":
    sys.exit(main())
