"""LaiRegressor beside MLPRegressor: what is measured, what is chosen, and that all see the same rows."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from evidence.relatives import TASKS
from evidence.runs.store import CellStore
from evidence.studies import estimators
from evidence.studies.estimators import ESTIMATORS, estimators_study, measures

SHORT = {"tasks": ["diabetes"], "trials": 2, "epochs": 2}


def test_slopes_and_errors_under_noise_are_those_of_a_known_function() -> None:
    """In standard deviations: y = x₀² / 2 + 3 x₁ in x with spreads 2 and 5, y's own taken as 10."""
    x = np.random.default_rng(1).standard_normal((20_000, 2)) * [2.0, 5.0]

    def predict(at: np.ndarray) -> np.ndarray:
        return at[:, 0] ** 2 / 2 + 3 * at[:, 1]

    found = measures(predict, x, predict(x), np.array([2.0, 5.0]), 10.0)
    assert found["rmse"] == 0
    assert found["slope"] == pytest.approx(np.hypot(x[:, 0] * 2 / 10, 3 * 5 / 10).mean(), rel=1e-6)
    # 0.3 · 3 · 5 from the second input; from the first x₀ε + ε²/2, with ε of 0.6: 2²·0.6² + 3·0.6⁴/4
    expected = math.sqrt((0.3 * 15) ** 2 + 4 * 0.36 + 0.75 * 0.6**4) / 10
    assert found["noisy"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("seed", "of_mse"), [(3, True), (6, False)])
def test_the_chosen_value_has_the_least_error_on_the_validation_rows(seed: int, of_mse: bool) -> None:
    """MSE, a grid's λ of None, where it has the least error: the table has no number for it."""
    table = estimators_study(
        estimators=["LaiRegressor, λ tuned"], seeds=[seed], tasks=["diabetes"], trials=3, epochs=15
    )
    drawn = TASKS["diabetes"].draw(seed)
    (x, y), (x_val, y_val) = ([t.double().numpy() for t in part] for part in (drawn.train, drawn.val))
    made = ESTIMATORS["LaiRegressor, λ tuned"](15, seed, 3)
    assert made.grid is not None
    errors = {}
    for lam in made.grid["lam"]:
        fitted = made.model.set_params(lam=lam).fit(x, y)
        errors[lam] = np.mean(np.square(fitted.predict(x_val) - y_val))
    best = min(errors, key=errors.__getitem__)
    assert (best is None) == of_mse
    np.testing.assert_equal(table["chosen"].item(), np.nan if best is None else best)


def test_half_the_slope_is_the_least_error_among_the_flat_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors of known slope: w times the best line, whose slope and error are known for every w."""

    class Shrunk(LinearRegression):
        def __init__(self, w: float = 1.0) -> None:
            super().__init__()
            self.w = w

        def predict(self, X: np.ndarray) -> np.ndarray:
            return self.w * super().predict(X)

    made = estimators.Made(Shrunk(), {"w": [0.9, 0.45, 0.3, 0.1]}, by_slope=True)
    monkeypatch.setattr(estimators, "ESTIMATORS", {"shrunk": lambda *_: made})
    assert estimators_study(estimators=["shrunk"], seeds=[0], **SHORT)["chosen"].item() == 0.45
    made.grid = {"w": [0.9, 0.8]}  # none is flat enough: the last and strongest
    assert estimators_study(estimators=["shrunk"], seeds=[0], **SHORT)["chosen"].item() == 0.8


def test_every_estimator_sees_the_rows_of_its_seed_and_is_measured_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    class Watched(LinearRegression):
        def fit(self, X: np.ndarray, y: np.ndarray) -> "Watched":
            seen.append(X)
            return super().fit(X, y)

    monkeypatch.setattr(
        estimators, "ESTIMATORS", {name: lambda *_: estimators.Made(Watched()) for name in ("one", "other")}
    )
    table = estimators_study(estimators=["one", "other"], seeds=[0, 1], **SHORT)
    assert (seen[0] == seen[1]).all() and (seen[2] == seen[3]).all() and not (seen[0] == seen[2]).all()
    assert (table.groupby("seed")["rmse"].nunique() == 1).all()
    test = {row.tobytes() for row in TASKS["diabetes"].draw(0).test[0].double().numpy()}
    assert not test & {row.tobytes() for row in seen[0]}


def test_the_result_depends_on_neither_the_processes_nor_the_store(tmp_path: Path) -> None:
    names = ["MLPRegressor", "LaiRegressor, MSE"]
    alone = estimators_study(estimators=names, seeds=[0, 1], **SHORT)
    store = CellStore(tmp_path)
    assert estimators_study(estimators=names, seeds=[0, 1], n_jobs=2, store=store, **SHORT).equals(alone)
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert estimators_study(estimators=names, seeds=[0, 1], store=store, **SHORT).equals(alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["paris"]}, "task = 'paris'"),
        ({"estimators": ["forest"]}, "estimator = 'forest'"),
        ({"trials": 0}, "trials = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"seeds": [-1]}, "seed"),
    ],
)
def test_bad_input_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimators_study(**{"seeds": [0], **SHORT, **change})


def test_the_committed_table_is_whole() -> None:
    table = pd.read_csv(Path(__file__).parents[2] / "book" / "results" / "estimators.csv")
    assert (
        len(table)
        == len(estimators.OF) * 10 * len(ESTIMATORS)
        == len(table.drop_duplicates(["task", "seed", "estimator"]))
    )
    for name, chosen in table.groupby("estimator")["chosen"]:
        made = ESTIMATORS[str(name)](1, 0, 8)
        values = [] if made.grid is None else next(iter(made.grid.values()))
        grid = [np.nan if v is None else float(f"{v:.4g}") for v in values]  # as the table has them
        assert set(chosen.fillna(-1)) <= set(pd.Series(grid or [np.nan], dtype=float).fillna(-1)), name
