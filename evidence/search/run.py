"""The search that trains: every recipe on MSE, and every reading of the Lai loss on the recipe that was chosen."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evidence.runs.arms import Arm, check_seeds
from evidence.runs.parallel import run_parallel
from evidence.runs.store import CellStore, digest_of, kept_or_made
from lai.factor import check_lam
from lai.schedule import check_count

from .recipes import PAPER_LAMS, RECIPES, VARIANTS, Lam, Recipe, Variant
from .reports import both_rulers, chosen_of, finalists_of, in_order, readings_of
from .training import Training

if TYPE_CHECKING:
    from evidence.data import Housing


def search_mse(
    data: Housing,
    recipes: Sequence[Recipe] = RECIPES,
    *,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train each recipe on MSE alone and read it out as the paper does, after each of its two stages.

    Parameters
    ----------
    data : Housing
        From :func:`evidence.data.load_housing`.
    recipes : sequence of Recipe
    seeds : ints
        Each sets initial weights and batch order.
    pretrain_epochs, epochs : int
        The paper's MSE column has 100 and 100 epochs in version 2, and 500 without pre-training in version 1.
    n_jobs : int
        Processes, through joblib, a recipe each; results do not depend on it.
    store : CellStore, optional
        Keeps every finished recipe, so that a search that was stopped goes on where it was.
    progress
        Show a progress bar.

    Returns
    -------
    DataFrame
        A row for each recipe, seed and read-out: ``recipe``, ``family``, ``seed``, ``epoch``; ``rmse`` and ``variance``
        with BatchNorm's statistics exact over the training rows, ``rmse_running`` and ``variance_running`` with
        its running ones; ``s_1`` to ``s_d``, the mean absolute change of the output when feature j becomes
        x (1 + ε/2), ε standard normal; ``rms_k``, the root mean square of the slope's norm; ``seconds`` of training.
        All in units of the target, per raw feature. A network that diverged has NaN.

    Raises
    ------
    ValueError
        For names or seeds given twice, or none, before anything is trained.

    Source: ours; the figures to compare with are the paper's, version 2, sections 6.1 and 6.2.

    Examples
    --------
    >>> from evidence.data import load_housing
    >>> table = search_mse(load_housing("surrogate"), RECIPES[:1], seeds=[0], pretrain_epochs=0, epochs=0)  # untrained
    >>> table[["recipe", "seed", "epoch"]].values.tolist()
    [['published', 0, 0]]
    """
    chosen = _check(seeds, "recipes", [r.name for r in recipes], pretrain_epochs, epochs)
    calls = [(data, recipe, chosen, (pretrain_epochs, epochs), store) for recipe in recipes]
    return pd.concat(run_parallel(_mse_cell, calls, n_jobs=n_jobs, progress=progress), ignore_index=True)


def _mse_cell(
    data: Housing, recipe: Recipe, seeds: list[int], stages: tuple[int, int], store: CellStore | None
) -> pd.DataFrame:
    def rows() -> Iterator[dict[str, Any]]:
        for seed in seeds:
            training = Training(data, recipe, seed, stages)
            done = 0
            for end in sorted({stages[0], sum(stages)} - {0}) or [0]:
                training.train(range(done, end))
                about = {"recipe": recipe.name, "family": recipe.family, "seed": seed, "epoch": end}
                yield {**about, **training.read_out()[0]}
                done = end

    settings = {"search": "mse", "recipe": asdict(recipe), "seeds": seeds, "stages": stages}
    return _kept(store, settings, data, lambda: sorted(rows(), key=lambda row: row["epoch"]), len(seeds))


def search_lai(
    data: Housing,
    recipe: Recipe,
    variants: Sequence[Variant] = VARIANTS,
    *,
    lams: Sequence[Lam] = PAPER_LAMS,
    seeds: Iterable[int] = range(3),
    pretrain_epochs: int = 100,
    epochs: int = 100,
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train each variant of a recipe as version 2's section 6 does: MSE first, then an MSE arm and one for each λ.

    Parameters
    ----------
    data, seeds, pretrain_epochs, epochs, n_jobs, store, progress
        As in :func:`search_mse`; a process takes a variant.
    recipe : Recipe
        What the variants are tried with.
    variants : sequence of Variant
    lams : sequence of numbers, or tuples with one for each feature

    Returns
    -------
    DataFrame
        A row for each variant, arm and seed: ``recipe``, ``variant``, ``arm``, ``lam`` (NaN for MSE and for a list), ``seed``, and
        the read-outs of :func:`search_mse` after the last epoch.

    Raises
    ------
    ValueError
        For names or seeds given twice, or none, or a bad λ, before anything is trained.

    Source: ours; version 2, section 6, leaves open what the variants fill in.
    """
    chosen = _check(seeds, "variants", [v.name for v in variants], pretrain_epochs, epochs)
    for lam in lams:
        check_lam(lam, n_features=data.train.x.shape[1])
    calls = [(data, recipe, variant, tuple(lams), chosen, (pretrain_epochs, epochs), store) for variant in variants]
    return pd.concat(run_parallel(_lai_cell, calls, n_jobs=n_jobs, progress=progress), ignore_index=True)


def _lai_cell(
    data: Housing,
    recipe: Recipe,
    variant: Variant,
    lams: Sequence[Lam],
    seeds: list[int],
    stages: tuple[int, int],
    store: CellStore | None,
) -> pd.DataFrame:
    recipe = replace(recipe, **dict(variant.changes))
    arms = (None, *lams)

    def rows() -> Iterator[dict[str, Any]]:
        for seed in seeds:
            training = Training(data, recipe, seed, stages)
            training.train(range(stages[0]))
            training.part(arms)
            training.train(range(stages[0], sum(stages)), variant)
            for lam, row in zip(arms, training.read_out(), strict=True):
                about = {"recipe": recipe.name, "variant": variant.name, "arm": Arm(lam).name}
                yield {**about, "lam": lam if isinstance(lam, float) else math.nan, "seed": seed, **row}

    settings = {"search": "lai", "recipe": asdict(recipe), "variant": asdict(variant), "lams": lams, "seeds": seeds}
    return _kept(store, {**settings, "stages": stages}, data, rows, len(seeds) * len(arms))


def search(
    data: Housing,
    *,
    seeds: Sequence[int] = range(3),
    fresh_seeds: Sequence[int] = range(3, 8),
    lai_seeds: Sequence[int] = range(3, 13),
    n_jobs: int = 1,
    store: CellStore | None = None,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The whole search: every recipe on MSE, the best again with fresh seeds, and the variants on the one chosen.

    Only MSE figures choose. Stage "search" trains ``RECIPES`` on ``seeds``. The nearest of those that count as near
    (:func:`evidence.search.reports.finalists_of`) are trained again on ``fresh_seeds``, stage "fresh", and the nearest of
    them there is chosen. It also runs version 1's 500 epochs, stage "v1". All ``VARIANTS`` are then tried on it, and the
    first variant on the other finalists and on recipes whose errors and variances, but not sensitivities, are near. Variants
    that are in the paper's order (:func:`evidence.search.reports.in_order`) are the best of many, and are trained again on
    ``lai_seeds``, stage "fresh".

    Parameters
    ----------
    data, n_jobs, store, progress
        As in :func:`search_mse`.
    seeds, fresh_seeds, lai_seeds : sequences of int

    Returns
    -------
    (DataFrame, DataFrame)
        From :func:`search_mse` and from :func:`search_lai`, with the column ``stage``.
    """
    options: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress}
    by_name = {recipe.name: recipe for recipe in RECIPES}
    first = search_mse(data, seeds=seeds, store=store, **options)
    finalists, rivals = finalists_of(first)
    fresh = search_mse(data, [by_name[name] for name in finalists], seeds=fresh_seeds, store=store, **options)
    chosen = chosen_of(first, fresh)
    long = search_mse(data, [by_name[chosen]], seeds=seeds, pretrain_epochs=0, epochs=500, store=store, **options)
    stages = {"search": first, "fresh": fresh, "v1": long}
    mse = pd.concat([t.assign(stage=name) for name, t in stages.items()], ignore_index=True)
    others = [name for name in (*finalists, *rivals) if name != chosen]
    pairs = [(chosen, variant) for variant in VARIANTS] + [(name, VARIANTS[0]) for name in others]
    calls = [(data, by_name[name], v, PAPER_LAMS, list(seeds), (100, 100), store) for name, v in pairs]
    tried = pd.concat(run_parallel(_lai_cell, calls, **options), ignore_index=True).assign(stage="search")
    shown = in_order(readings_of(tried[tried["recipe"] == chosen], both_rulers(first)))
    again = [variant for variant in VARIANTS if any(variant.name in names for names in shown.values())]
    if again:
        confirmed = search_lai(data, by_name[chosen], again, seeds=lai_seeds, store=store, **options)
        tried = pd.concat([tried, confirmed.assign(stage="fresh")], ignore_index=True)
    return mse, tried


def _check(seeds: Iterable[int], what: str, names: Sequence[str], pretrain_epochs: int, epochs: int) -> list[int]:
    check_count("pretrain_epochs", pretrain_epochs)
    check_count("epochs", epochs)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{what} = {list(names)}: give at least one, and no name twice")
    return check_seeds(seeds)


def _kept(store: CellStore | None, settings: dict[str, Any], data: Housing, rows: Any, n_networks: int) -> pd.DataFrame:
    """The cell's table as kept, or else made out of ``rows()`` and kept."""
    split = hashlib.sha256(data.val.x.numpy().tobytes()).hexdigest()[:16]
    # The store knows the sources of `lai` and of evidence.runs; recipe and variant are in the settings.
    source = digest_of(Path(__file__).parent / name for name in ("run.py", "recipes.py", "training.py"))
    settings |= {"data": data.sha256, "split": split, "source": source}

    def make() -> dict[Any, Any]:
        began = time.perf_counter()
        table = pd.DataFrame(rows())
        return table.assign(seconds=(time.perf_counter() - began) / n_networks).to_dict("list")

    return pd.DataFrame(kept_or_made(store, settings, make))
