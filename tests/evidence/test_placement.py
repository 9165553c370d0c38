"""The study of placement: arms of a seed differ in which batches take the Lai loss, and moments know how far the last one is."""

import pytest
import torch

from evidence.data import Housing, Split, load_housing
from evidence.runs.placement import placement_study
from lai.schedule import LaiSchedule


def few(seed: int) -> Housing:
    data = load_housing("surrogate", split_seed=seed)
    parts = {name: Split(*(t[:2048] for t in getattr(data, name))) for name in ("train", "val")}
    return type(data)(**{**vars(data), **parts})


OPTIONS = {"protocols": ["sound"], "lams": [0.01], "seeds": [1], "pretrain_epochs": 1, "epochs": 6, "last": 4}


def test_the_control_is_the_same_in_both_placements_and_the_arms_are_not() -> None:
    table = placement_study(few, alpha=0.3, **OPTIONS)  # type: ignore[arg-type]
    assert table["epoch"].unique().tolist() == [3, 4, 5, 6]
    wide = table.pivot(index=["arm", "epoch"], columns="placement", values="rmse")
    assert wide.loc["MSE", "spread"].tolist() == pytest.approx(wide.loc["MSE", "free"].tolist(), rel=1e-4)
    assert (wide.loc["λ = 0.01", "spread"] != wide.loc["λ = 0.01", "free"]).all()


@pytest.mark.parametrize("placement", ["spread", "free"])
def test_since_counts_the_steps_after_the_last_lai_batch(placement: str) -> None:
    table = placement_study(few, alpha=0.3, **OPTIONS).query("placement == @placement and arm == 'MSE'")  # type: ignore[arg-type]
    free = {"placement": "free", "epochs": 6} if placement == "free" else {}
    schedule = LaiSchedule(0.3, pretrain_epochs=1, seed=1, **free)  # type: ignore[arg-type]
    for row in table.itertuples():
        plan = torch.cat([schedule.batches(epoch, 4) for epoch in range(int(row.epoch) + 1)])
        assert row.since == len(plan) - 1 - int(plan.nonzero().max())


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="protocol"):
        placement_study(few, protocols=["best"])
