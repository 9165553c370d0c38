"""The study of endings: each is what it says, of one and the same training."""

import copy

import pytest
import torch
from few_rows import few_rows

from evidence.runs.endings import endings_study
from evidence.runs.protocols import PROTOCOLS
from lai import LaiLoss, LaiSchedule, fit, rmse

EPOCHS, LAST, PLAIN = 5, 3, 2


def test_each_ending_is_that_of_a_training_by_hand() -> None:
    data = few_rows()
    table = endings_study(
        lambda _: data, lams=[0.1], alpha=0.5, seeds=[2], pretrain_epochs=1, epochs=EPOCHS, last=LAST, plain=PLAIN
    )
    found = table[table["arm"].eq("λ = 0.1")].set_index("ending")["rmse"]
    recipe = PROTOCOLS["sound"]
    model = recipe.model(data.train.x, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    schedule = LaiSchedule(0.5, pretrain_epochs=1, seed=2)
    batch_size = min(recipe.batch_size, len(data.train.x))
    weights, errors = [], []

    def train(first: int, n: int, lai_too: bool) -> None:
        for epoch in range(first, first + n):
            fit(
                model,
                (data.train.x, data.train.y),
                criterion=LaiLoss(0.1) if lai_too else None,
                schedule=schedule if lai_too else None,
                optimizer=optimizer,
                epochs=1,
                first_epoch=epoch,
                batch_size=batch_size,
                seed=2,
                drop_last=True,
                device="cpu",
            )
            weights.append(copy.deepcopy(model.state_dict()))
            errors.append(rmse(model, *data.val))

    train(0, 1, True)
    train(1, EPOCHS, True)
    assert found["last step"] == pytest.approx(errors[-1], rel=1e-4)
    assert found["mean of evaluations"] == pytest.approx(sum(errors[-LAST:]) / LAST, rel=1e-4)
    averaged = copy.deepcopy(model)
    averaged.load_state_dict({name: sum(w[name] for w in weights[-LAST:]) / LAST for name in weights[-1]})
    assert found["averaged weights"] == pytest.approx(rmse(averaged, *data.val), rel=1e-4)
    train(1 + EPOCHS, PLAIN, False)
    assert found["plain epochs"] == pytest.approx(errors[-1], rel=1e-4)
    assert found.nunique() == 4


@pytest.mark.parametrize("name", ["epochs", "last", "plain"])
def test_a_training_without_an_ending_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        endings_study(lambda _: few_rows(), seeds=[0], **{name: 0})  # type: ignore[arg-type]
