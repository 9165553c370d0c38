"""The plane of α and λ: every arm is what `lai.fit` makes of its pair, beside its own control."""

import math

import pytest

import lai
from evidence.data import Housing, load_housing
from evidence.runs.experiments import PROTOCOLS
from evidence.runs.strength import strength_plane

SMALL = {"rows": 512, "batch_size": 128, "pretrain_epochs": 2, "epochs": 2, "seeds": [1], "device": "cpu"}


@pytest.fixture(scope="module")
def data() -> Housing:
    return load_housing("surrogate")


def test_one_row_for_each_arm(data: Housing) -> None:
    options = {"samplings": ["batches", "points"], "pretrained": [True, False]}
    plane = strength_plane(data, lams=[1.0, 0.1], alphas=[0.25, 1.0], **options, **SMALL)
    arms = plane[plane["lam"].notna()]
    assert len(arms) == 2 * 2 * 2 * 2 and plane["lam"].isna().sum() == 1
    assert not arms.duplicated(["alpha", "lam", "sampling", "pretrained"]).any()
    assert plane[["rmse", "variance", "rms_k"]].map(math.isfinite).all(axis=None)
    share = arms.set_index(["pretrained", "alpha"])["lai_share"]
    assert (share[True, 0.25] == 0.125).all() and (share[False, 1.0] == 1).all()
    every = arms[arms["alpha"] == 1].pivot(index=["lam", "pretrained"], columns="sampling", values="rmse")
    assert every["batches"].to_numpy() == pytest.approx(
        every["points"].to_numpy(), rel=1e-4
    )  # all points of all batches


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("sampling", ["batches", "points"])
def test_equals_a_run_written_with_fit(data: Housing, pretrained: bool, sampling: str) -> None:
    given = {"lams": [0.05], "alphas": [0.5], "samplings": [sampling], "pretrained": [pretrained]}
    plane = strength_plane(data, **given, **SMALL)
    train = (data.train.x[:512], data.train.y[:512])
    for row in plane.itertuples():
        model = PROTOCOLS["sound"].model(train[0], 1)
        schedule = lai.LaiSchedule(0.5, pretrain_epochs=2 if pretrained else 0, sampling=sampling, seed=1)
        criterion = None if math.isnan(row.lam) else lai.LaiLoss(0.05)
        common = {"epochs": 4, "batch_size": 128, "lr": 3e-3, "seed": 1, "device": "cpu"}
        lai.fit(model, train, criterion=criterion, schedule=schedule, **common)
        assert row.rmse == pytest.approx(lai.rmse(model, *data.val), rel=1e-4)
        assert row.variance == pytest.approx(lai.output_variance(model, data.test.x), rel=1e-3)


def test_an_evaluation_is_the_mean_over_the_last_epochs(data: Housing) -> None:
    """Of fifteen epochs the last three, of which every second; beside it the last step."""
    long = {**SMALL, "epochs": 15}
    (row,) = strength_plane(data, lams=[0.05], alphas=[0.5], **long).dropna(subset="lam").itertuples()
    model, taken = PROTOCOLS["sound"].model(data.train.x[:512], 1), {}

    def read(row: dict[str, float]) -> None:
        taken[row["epoch"]] = lai.rmse(model, *data.val)

    lai.fit(
        model,
        (data.train.x[:512], data.train.y[:512]),
        criterion=lai.LaiLoss(0.05),
        schedule=lai.LaiSchedule(0.5, pretrain_epochs=2, seed=1),
        each_epoch=read,
        **{"epochs": 17, "batch_size": 128, "lr": 3e-3, "seed": 1, "device": "cpu"},
    )
    assert row.rmse == pytest.approx((taken[14] + taken[16]) / 2, rel=1e-4)
    assert row.rmse_last == pytest.approx(taken[16], rel=1e-4) and taken[14] != pytest.approx(taken[16], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lams": [-1.0]}, "lams = -1.0"),
        ({"lams": [[0.1, 0.2]]}, "each arm takes one number"),
        ({"alphas": [1.5]}, "alpha = 1.5"),
        ({"samplings": ["rows"]}, "sampling = 'rows'"),
        ({"rows": 64}, "batch_size = 128: must not exceed the number of rows, 64"),
        ({"epochs": 0}, "epochs = 0"),
        ({"seeds": [-1]}, "seed = -1"),
    ],
)
def test_bad_arguments_are_named_before_training(data: Housing, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strength_plane(data, **{**SMALL, **change})
