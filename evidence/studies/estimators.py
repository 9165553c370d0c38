"""LaiRegressor beside scikit-learn's MLPRegressor: the same rows, and eight values of what is tuned.

All that is measured goes through ``predict`` alone, so that neither library measures itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evidence.relatives.tasks import TASKS, Task, data_of
from evidence.runs.arms import check_seeds
from evidence.runs.parallel import run_parallel
from evidence.runs.store import CellStore, digest_of, kept_or_made
from lai.factor import check_choice
from lai.schedule import check_count

ROOT = Path(__file__).parents[2]
SOURCES = [
    Path(__file__),
    *(ROOT / name for name in ("evidence/relatives/tasks.py", "lai/choose.py", "lai/sklearn.py")),
]
"""What a result is computed with, beside what the store knows."""

HIDDEN, BATCH, LR = (64, 32), 128, 0.005
STEP = 1e-3
"""Of the central differences that slopes are measured by, in standard deviations of a feature."""

NOISE, N_ROWS = 0.3, 500
"""Of the noise on the inputs, in standard deviations; and how many test rows are measured."""


def _mlp(epochs: int, seed: int, *, early: bool = False) -> Any:
    """MLPRegressor on standardised inputs and targets, with the layers, steps and activation of the others."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        activation="tanh",
        batch_size=BATCH,
        learning_rate_init=LR,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=10 if early else epochs,
        early_stopping=early,
        random_state=seed,
    )
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())


def _lai(epochs: int, seed: int, **options: Any) -> Any:
    from lai.sklearn import LaiRegressor

    return LaiRegressor(
        HIDDEN,
        activation="tanh",
        lam_units="standardised",
        batch_size=BATCH,
        lr=LR,
        epochs=epochs,
        random_state=seed,
        device="cpu",
        **options,
    )


def _alphas(trials: int) -> dict[str, Any]:
    return {"regressor__mlpregressor__alpha": np.logspace(-4, 2, trials)}


def _lams(trials: int) -> list[float]:
    return [float(v) for v in np.logspace(0, -2.5, trials)]


SHARE = 0.5
"""Of the slopes of the untuned network, for those that are asked for half."""


@dataclass
class Made:
    """An estimator, the grid of what is tuned, and whether it is chosen among those of small slopes."""

    model: Any
    grid: dict[str, Any] | None = None
    by_slope: bool = False


def _auto(epochs: int, seed: int, trials: int) -> Made:
    return Made(_lai(epochs, seed, lam="auto", budget={"max_slope": SHARE, "lams": _lams(trials)}))


ESTIMATORS: dict[str, Callable[[int, int, int], Made]] = {
    "MLPRegressor": lambda epochs, seed, trials: Made(_mlp(epochs, seed)),
    "MLPRegressor, early stopping": lambda epochs, seed, trials: Made(_mlp(epochs, seed, early=True)),
    "MLPRegressor, alpha tuned": lambda epochs, seed, trials: Made(_mlp(epochs, seed), _alphas(trials)),
    "MLPRegressor, half the slope": lambda epochs, seed, trials: Made(
        _mlp(epochs, seed), _alphas(trials), by_slope=True
    ),
    "LaiRegressor, MSE": lambda epochs, seed, trials: Made(_lai(epochs, seed, lam=None)),
    "LaiRegressor, λ tuned": lambda epochs, seed, trials: Made(_lai(epochs, seed), {"lam": [None, *_lams(trials - 1)]}),
    "LaiRegressor, half the slope": _auto,
}
"""From names to estimators and, where something is tuned, a grid of ``trials`` values of it, MSE among those of λ.

LaiRegressor finds the λ of half the slope by itself, on a tenth of the rows and with three networks for each λ.
"""

OF = {
    "diabetes": "a disease's progress, 242 patients",
    "housing 500": "the paper's housing data, 500 rows",
    "housing 2000": "the paper's housing data, 2000 rows",
}
"""The tasks of the comparison of methods that are its data."""


def estimators_study(
    *,
    tasks: Sequence[str] = tuple(OF),
    estimators: Sequence[str] = tuple(ESTIMATORS),
    seeds: Iterable[int] = range(10),
    trials: int = 8,
    epochs: int = 100,
    n_jobs: int | None = None,
    store: CellStore | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Fit every estimator for each task and seed, and measure its predictions on rows that it has not seen.

    Parameters
    ----------
    tasks : names from ``evidence.relatives.TASKS``
    estimators : names from ``ESTIMATORS``
    seeds : ints
        Each with rows and initial weights of its own. Estimators share the rows.
    trials : int
        Values of what is tuned, spaced evenly in the logarithm. They are chosen on the task's validation rows, and the
        chosen one is trained again on these and the training rows.
    epochs : int
        Of every network.
    n_jobs : int, optional
        Processes, an estimator, task and seed each; the results do not depend on it.
    store : CellStore, optional
        Where finished pieces are kept and found.

    Returns
    -------
    DataFrame
        A row for each task, seed and estimator: ``rmse``; ``noisy``, the RMSE with noise of ``NOISE`` on every input; ``slope``,
        the mean norm of the slope; all in standard deviations of the training rows. ``chosen`` is the tuned value.

    Source: ours.

    Examples
    --------
    >>> table = estimators_study(tasks=["diabetes"], estimators=["LaiRegressor, MSE"], seeds=[0], epochs=1)
    >>> table[["task", "seed", "estimator"]].values.tolist()
    [['diabetes', 0, 'LaiRegressor, MSE']]
    """
    for task in tasks:
        check_choice("task", task, tuple(TASKS))
    for name in estimators:
        check_choice("estimator", name, tuple(ESTIMATORS))
    check_count("trials", trials, least=1)
    check_count("epochs", epochs, least=1)
    calls = [
        (TASKS[task], name, seed, trials, epochs, store)
        for task in tasks
        for seed in check_seeds(seeds)
        for name in estimators
    ]
    return pd.DataFrame(run_parallel(_one, calls, n_jobs=n_jobs, progress=progress))


def _one(task: Task, name: str, seed: int, trials: int, epochs: int, store: CellStore | None) -> dict[str, Any]:
    settings = {"study": "estimators", "task": task.name, "estimator": name, "seed": seed, "trials": trials}
    settings |= {"epochs": epochs, "sources": digest_of(SOURCES), "scikit-learn": version("scikit-learn")}
    settings["data"] = data_of(task, (seed,))
    measured = kept_or_made(store, settings, lambda: _measured(task, name, seed, trials, epochs))
    return {"task": task.name, "seed": seed, "estimator": name, **measured}


def _measured(task: Task, name: str, seed: int, trials: int, epochs: int) -> dict[str, Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, PredefinedSplit

    drawn = task.draw(seed)
    (x, y), (x_val, y_val), (x_test, y_test) = (
        tuple(t.double().numpy() for t in part) for part in (drawn.train, drawn.val, drawn.test)
    )
    made, chosen = ESTIMATORS[name](epochs, seed, trials), np.nan
    model = made.model
    with warnings.catch_warnings():
        # All networks train for as long, and one that could go on is no fault.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if made.by_slope:
            chosen = _flat_enough(made, (x, y), (x_val, y_val))
            model.set_params(**{key: chosen for key in made.grid or {}})
        elif made.grid is not None:
            held = PredefinedSplit(np.r_[np.full(len(x), -1), np.zeros(len(x_val))])
            model = GridSearchCV(model, made.grid, cv=held, scoring="neg_root_mean_squared_error")
        model.fit(np.r_[x, x_val], np.r_[y, y_val])
    if isinstance(model, GridSearchCV):
        (chosen,) = (np.nan if value is None else value for value in model.best_params_.values())
    return {**measures(model.predict, x_test[:N_ROWS], y_test[:N_ROWS], x.std(0), y.std()), "chosen": chosen}


def _flat_enough(made: Made, train: tuple[Any, Any], val: tuple[Any, Any]) -> float:
    """Of the values whose slopes are at most ``SHARE`` of the untuned network's, on validation rows, the one of least error."""
    from sklearn.base import clone

    ((key, values),) = (made.grid or {}).items()
    (x, y), scales = train, (train[0].std(0), train[1].std())
    limit = SHARE * measures(clone(made.model).fit(x, y).predict, *val, *scales)["slope"]
    found = [measures(clone(made.model).set_params(**{key: v}).fit(x, y).predict, *val, *scales) for v in values]
    kept = [(m["rmse"], v) for m, v in zip(found, values, strict=True) if m["slope"] <= limit]
    return float(min(kept)[1] if kept else values[-1])


def measures(
    predict: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray, x_sd: np.ndarray, y_sd: float
) -> dict[str, float]:
    """``rmse``, ``noisy`` and ``slope`` of any predictor from (N, d) to (N,), in standard deviations.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((50, 2))
    >>> found = measures(lambda x: x @ [3.0, 4.0], x, x @ [3.0, 4.0], np.ones(2), 1.0)
    >>> round(found["rmse"], 6), round(found["slope"], 6)
    (0.0, 5.0)
    """

    def rmse(at: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(predict(at) - y))) / y_sd)

    noise = np.random.default_rng(0).standard_normal(x.shape)
    moves = STEP * np.diag(x_sd)
    k = np.stack([(predict(x + move) - predict(x - move)) / (2 * STEP * y_sd) for move in moves], 1)
    return {"rmse": rmse(x), "noisy": rmse(x + NOISE * noise * x_sd), "slope": float(np.linalg.norm(k, axis=1).mean())}
