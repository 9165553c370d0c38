"""The queries of the ledger of claims: each reads tables of results and says in a word what they show.

The tables are those of :mod:`evidence.runs.experiments`; :mod:`evidence.ledger.views` says how they are read. Each file here has the
queries on one subject, and importing the package enters them all into ``QUERIES``.
"""

from ..verdicts import all_of, within
from ..views import QUERIES, Results
from . import formulas, printed, sensitivity, smoothness, trade
from .smoothness import SIMILAR
from .trade import STABLE

__all__ = [
    "QUERIES",
    "SIMILAR",
    "STABLE",
    "Results",
    "all_of",
    "formulas",
    "printed",
    "sensitivity",
    "smoothness",
    "trade",
    "within",
]
