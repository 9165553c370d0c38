"""Sweep against lai.fit of each network alone, which it must equal, and what it refuses."""

import copy
from typing import Any

import checks
import pytest
import torch
from side_by_side import LAMS, PART, POINTS, SETTINGS, alone, each_equals_fit, networks, sweep_of, wave
from torch import Tensor, nn

import lai
from lai.program import program
from lai.sweep import Part, Sweep

# --- as lai.fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [None, PART, POINTS], ids=["all", "batches", "points"])
@pytest.mark.parametrize("norm", [None, "layer"])
def test_equals_fit_where_samples_stand_alone(norm: Any, schedule: Any) -> None:
    each_equals_fit(networks(norm), schedule=schedule, val=wave(20))


@pytest.mark.parametrize("schedule", [None, PART], ids=["all", "batches"])
@pytest.mark.parametrize("slope", ["summed", "own", "running"])
def test_equals_fit_with_every_slope_through_batchnorm(slope: Any, schedule: Any) -> None:
    """Short last batch and running statistics included."""
    each_equals_fit(networks("batch"), schedule=schedule, slope=slope, val=wave(20))


@pytest.mark.parametrize(
    "options",
    [
        {"base": "mae"},
        {"norm": "elastic", "l1_ratio": 0.3, "normalize": True},
        {"order": "batch", "norm": "l2"},
        {"base": "mae", "norm": "l1", "drop_last": True, "first_epoch": 4, "schedule": PART},
    ],
    ids=str,
)
def test_equals_fit_with_the_options_of_the_loss(options: dict[str, Any]) -> None:
    each_equals_fit(networks(), epochs=1, **options)


@pytest.mark.parametrize(
    "lams", [[None, None], [0.5, 0.1], [[0.1, 0.2], [0.3, 0.4]], [0.1, None], [1e-50, None]], ids=str
)
def test_equals_fit_whatever_lams_are_mixed(lams: list[Any]) -> None:
    each_equals_fit(networks(n=2), lams, epochs=1, schedule=PART)


def test_equals_fit_sample_by_sample() -> None:
    each_equals_fit(networks(), LAMS, wave(5), epochs=1, batch_size=1)


def test_one_input_without_an_axis_columns_and_images() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(32, 1, 3, 3, generator=g, dtype=torch.float64)
    torch.manual_seed(0)
    images = nn.Sequential(
        nn.Conv2d(1, 2, 2, bias=False), nn.BatchNorm2d(2, affine=False), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)
    )
    column = x.sum((1, 2, 3))[:, None]
    each_equals_fit([images.double()] * 2, [0.1, 0.5 + torch.rand(1, 3, 3)], (x, column), epochs=1)
    line = nn.Sequential(nn.Unflatten(0, (-1, 1)), nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    each_equals_fit([line] * 2, [0.1, 0.3], (x[:, 0, 0, 0], column[:, 0]), epochs=1)


def test_a_list_of_lams_that_is_no_image_is_refused_as_by_fit() -> None:
    x = torch.rand(8, 1, 3, 3, dtype=torch.float64)
    images, flat = nn.Sequential(nn.Flatten(), nn.Linear(9, 1), nn.Flatten(0)).double(), [0.1] * 9
    checks.refused(
        ValueError,
        r"lams\[1\] has shape \(9,\)",
        sweep_of([images] * 2).fit,
        (x, x.sum((1, 2, 3))),
        lams=[None, flat],
        **SETTINGS,
    )
    with pytest.raises(ValueError, match=r"lam has shape \(9,\)"):
        alone(images, (x, x.sum((1, 2, 3))), flat)
    each_equals_fit([images], [[0.1, 0.2, 0.3]], (x, x.sum((1, 2, 3))), epochs=1)


def test_a_model_that_is_a_batchnorm_layer() -> None:
    x = wave()[0][:, :1]
    each_equals_fit([nn.BatchNorm1d(1).double()], [0.1], (x, x + 1), epochs=1)


def attention(heads: int) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, heads, 4, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Linear(2, 4), layer, nn.Linear(4, 1), nn.Flatten(0)).double()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_settings_that_layers_do_not_print_count() -> None:
    for heads in (1, 2):  # the second may not take the first one's program
        each_equals_fit([attention(heads)], [None], epochs=1)
    checks.refused(ValueError, "models differ in architecture", sweep_of, [attention(1), attention(2)])


def test_frozen_weights_stay() -> None:
    models = networks()
    for model in models:
        model[1].weight.requires_grad_(False)  # type: ignore[index]
    sweep = each_equals_fit(models, epochs=1)
    for trained, model in zip(sweep.models(), models, strict=True):
        assert torch.equal(trained[1].weight, model[1].weight)  # type: ignore[index]
        assert not trained[1].weight.requires_grad  # type: ignore[index]


def test_float32_is_near_and_stays_float32() -> None:
    models = networks(dtype=torch.float32)
    sweep = sweep_of(models)
    sweep.fit(wave(dtype=torch.float32), lams=LAMS, **SETTINGS)
    for trained, model, lam in zip(sweep.models(), models, LAMS, strict=True):
        checks.same(trained, alone(model, wave(dtype=torch.float32), lam)[0], rtol=1e-4, atol=1e-6)
        assert next(trained.parameters()).dtype == torch.float32


def test_neighbours_do_not_matter() -> None:
    models = networks()
    together, single = sweep_of(models), sweep_of(models[2:])
    together.fit(wave(), lams=LAMS, schedule=PART, **SETTINGS)
    single.fit(wave(), lams=LAMS[2:], schedule=PART, **SETTINGS)
    checks.same(together.models()[2], single.models()[0], rtol=1e-9, atol=1e-9)


# --- in pieces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "batch"])
def test_arms_that_branch_from_a_trunk_go_on_as_fit_does(norm: Any) -> None:
    """Adam's moments and count of steps, running statistics and step size go along."""
    models, lr = networks(norm, n=2), 4e-4
    trunk = sweep_of(models)
    trunk.fit(wave(), lams=[None, 0.5], **SETTINGS)
    trunk.set_lr(lr)
    arms = trunk.branch([1, 0, 1])
    with checks.untouched(*trunk.models()):
        arms.fit(wave(), lams=[0.1, 0.1, None], first_epoch=2, **SETTINGS)
    assert len(trunk) == 2 and len(arms) == 3
    trunk.fit(wave(), lams=[None, None], first_epoch=2, **SETTINGS)  # the trunk is not disturbed by its arms
    for trained, at, first, then in [
        (arms.models()[0], 1, 0.5, 0.1),
        (arms.models()[1], 0, None, 0.1),
        (arms.models()[2], 1, 0.5, None),
        (trunk.models()[0], 0, None, None),
    ]:
        fitted = copy.deepcopy(models[at])
        adam = torch.optim.Adam(fitted.parameters())
        wrapped = fitted if norm is None else lai.FixedStatistics(fitted)
        for lam, rate, epoch in ((first, 1e-3, 0), (then, lr, 2)):
            criterion = None if lam is None else lai.LaiLoss(lam)
            options = {"optimizer": adam, "first_epoch": epoch, "lr": rate, "device": "cpu", **SETTINGS}
            lai.fit(wrapped, wave(), criterion=criterion, **options)
        checks.same(trained, fitted, rtol=1e-9, atol=1e-9)


def test_two_calls_are_one() -> None:
    whole, pieces = sweep_of(networks()), sweep_of(networks())
    whole.fit(wave(), lams=LAMS, schedule=PART, **SETTINGS)
    for epoch in (0, 1):
        pieces.fit(wave(), lams=LAMS, schedule=PART, first_epoch=epoch, **SETTINGS | {"epochs": 1})
    for one, other in zip(whole.models(), pieces.models(), strict=True):
        checks.same(one, other, rtol=1e-12, atol=1e-12)


def test_validation_and_the_callback_come_when_asked_for() -> None:
    sweep, val, seen = sweep_of(networks(n=2)), wave(20), []
    each = lambda row: seen.append((row, [lai.rmse(m, *val) for m in sweep.models()]))  # noqa: E731
    options = SETTINGS | {"epochs": 4, "val": val, "validate_every": 3, "first_epoch": 5, "each_epoch": each}
    history = sweep.fit(wave(), lams=[None, 0.1], **options)
    assert [row["epoch"] for row, _ in seen] == [5, 6, 7, 8]
    assert [row["val_rmse"] for row, _ in seen[2:]] == [errors for _, errors in seen[2:]]
    assert [loss for row, _ in seen for loss in row["loss"]] == history["loss"]
    assert history["epoch"] == [5, 5, 6, 6, 7, 7, 8, 8] and history["network"] == [0, 1] * 4
    assert history["val_rmse"] == [None] * 4 + seen[2][1] + seen[3][1]
    assert sweep.fit(wave(), lams=[None, 0.1], **SETTINGS | {"epochs": 0}) == {
        name: [] for name in ("epoch", "network", "loss", "lai_share")
    }


def test_the_callback_ends_the_training_by_true() -> None:
    stopped, short = sweep_of(networks(n=2)), sweep_of(networks(n=2))
    history = stopped.fit(
        wave(), lams=[None, 0.1], **SETTINGS | {"epochs": 5, "each_epoch": lambda row: row["epoch"] == 1}
    )
    assert history == short.fit(wave(), lams=[None, 0.1], **SETTINGS | {"epochs": 2})
    for one, other in zip(stopped.models(), short.models(), strict=True):
        checks.same(one, other, rtol=0, atol=0)


def test_models_and_modes_around_it_stay_as_they_are() -> None:
    models = networks("batch")
    models[0].eval()
    with checks.untouched(*models), torch.no_grad():
        sweep = sweep_of(models)
        sweep.fit(wave(), lams=LAMS, **SETTINGS)
    trained = sweep.models()
    assert all(part.training for part in trained[0].modules())
    with torch.no_grad():
        next(trained[0].parameters()).zero_()  # a copy: the sweep's own are not touched
    assert next(sweep.models()[0].parameters()).abs().max() > 0


def test_a_step_of_ones_own_objective() -> None:
    """A weight of each network's own, and one that all share, with Adam written out."""
    models = networks(n=2)
    x, y = wave(16)
    weight, shift = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)

    def objective(network: Any, x: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        value, k = network.value_and_slope(x)
        return (network(x) - value + shift).square().mean() + weight * k.square().mean()

    sweep = sweep_of(models)
    losses = [sweep.step(Part(objective, (x, weight, shift), (False, True, False))) for _ in range(3)]
    for i, model in enumerate(models):
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        for step in range(3):
            k = lai.value_and_input_gradient(model, x)[1]
            loss = shift**2 + weight[i] * k.square().mean()
            torch.testing.assert_close(losses[step][i], loss.detach(), rtol=1e-9, atol=0)
            adam.zero_grad()
            loss.backward()
            adam.step()
        checks.same(sweep.models()[i], model, rtol=1e-9, atol=1e-9)


def test_says_how_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """With "auto" what is worth its time is compiled, each loss by the number of its own steps, in whichever call."""
    monkeypatch.setattr("lai.sweep.WORTH_COMPILING", 10)
    monkeypatch.setattr("lai.sweep.compiled", lambda step, arguments: (step, "compiled"))
    monkeypatch.setattr("lai.sweep.traced", lambda kind, *given, again: program(*given[:3]))  # as it is

    def how(sweep: Sweep, **change: Any) -> str:
        sweep.fit(wave(70), **{"lams": [0.5] * 3, **SETTINGS, **change})  # five steps an epoch
        return sweep.how

    assert sweep_of(networks()).how == "eager: nothing was trained yet"
    assert how(sweep_of(networks()), epochs=3) == "eager: compile is False"
    assert how(sweep_of(networks(), compile=True), epochs=1) == "compiled"
    auto = sweep_of(networks(), compile="auto")
    assert how(auto, epochs=1) == "eager: few steps"
    assert how(auto, epochs=2) == "compiled"
    fresh = lambda: sweep_of(networks(), compile="auto")  # noqa: E731
    assert how(fresh(), epochs=2, lams=[None] * 3) == "compiled"
    assert how(fresh(), epochs=2, lams=[None] * 3, schedule=lai.LaiSchedule(1.0)) == "compiled"
    assert how(fresh(), epochs=4, lams=[0.5] * 3, schedule=lai.LaiSchedule(1.0)) == "compiled"
    assert how(fresh(), epochs=2, schedule=POINTS) == "compiled"
    seldom = lai.LaiSchedule(0.2, pretrain_epochs=1)  # from the second epoch on, one batch in five
    arms = fresh()
    assert how(arms, epochs=1, schedule=seldom) == "eager: few steps"
    assert (
        how(arms, epochs=2, schedule=seldom, first_epoch=1) == "compiled and eager: few steps"
    )  # ten plain, two of Lai loss


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs = -1"),
        ({"first_epoch": -1}, "first_epoch = -1"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 39, "drop_last": True}, "batch_size = 39: with drop_last .* 38 samples"),
        ({"validate_every": 0}, "validate_every = 0"),
        ({"slope": "mean"}, "slope = 'mean'"),
        ({"lams": [0.1, 0.2]}, "lams has 2 entries: .* 3 networks"),
        ({"lams": [None, 0.1, 0.0]}, r"lams\[2\] = 0.0"),
        ({"lams": [None, 0.1, [0.1, -2.0]]}, r"lams\[2\]\[1\] = -2.0"),
        ({"lams": [None, 0.1, [0.1, 0.2, 0.3]]}, r"lams\[2\] has shape \(3,\)"),
        ({"reduction": "sum"}, "reduction = 'sum': training minimises the mean"),
        ({"norm": "l3"}, "norm = 'l3'"),
        ({"base": "rmse"}, "base = 'rmse'"),
        ({"norm": "elastic"}, "l1_ratio = None"),
        ({"train": (torch.zeros(3, 2), torch.zeros(4))}, r"train: x has shape \(3, 2\) and y \(4,\)"),
        (
            {"train": (wave()[0], wave()[1][:, None])},
            r"train: the model returns shape \(N, \*\(\)\) .* y is \(N, \*\(1,\)\)",
        ),
        ({"val": (wave()[0], wave()[1] * torch.inf)}, "val: y holds NaN or infinity"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    sweep = sweep_of(networks())
    before = [checks.state(m) for m in sweep.models()]
    arguments: dict[str, Any] = {"train": wave(), "lams": LAMS, **SETTINGS, "epochs": 3} | change
    checks.refused(ValueError, message, sweep.fit, arguments.pop("train"), **arguments)
    for model, weights in zip(sweep.models(), before, strict=True):
        checks.same(model, weights)


def test_batchnorm_refuses_what_would_mix() -> None:
    sweep = sweep_of(networks("batch"))
    checks.refused(
        ValueError, "schedule.sampling = 'points'", sweep.fit, wave(), lams=LAMS, schedule=POINTS, **SETTINGS
    )
    checks.refused(
        ValueError, "batch_size = 1: .* BatchNorm", sweep.fit, wave(), lams=LAMS, **SETTINGS | {"batch_size": 1}
    )
    sweep.fit(wave(), lams=[None] * 3, schedule=POINTS, **SETTINGS | {"epochs": 1})  # nobody takes the points


def test_samples_that_mix_are_refused_where_the_lai_loss_needs_slopes() -> None:
    class Centre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    mixing = nn.Sequential(nn.Linear(2, 3), Centre(), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0)).double()
    sweep = sweep_of([mixing] * 2)
    checks.refused(RuntimeError, "samples are not independent", sweep.fit, wave(), lams=[None, 0.1], **SETTINGS)
    checks.same(sweep.models()[1], mixing)
    each_equals_fit([mixing] * 2, [None, None], epochs=1)
    each_equals_fit([mixing] * 2, [None, 0.1], epochs=1, slope="summed")


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 1))


def tied() -> nn.Module:
    one = nn.Linear(2, 2)
    other = nn.Linear(2, 2)
    other.weight = one.weight
    return nn.Sequential(one, other)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "models is empty"),
        ([lai.MLP(2, (4,)), lai.MLP(2, (5,))], "models differ in architecture"),
        ([nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.1))], "models: 1 is dropout"),
        ([nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=None))], "models: 1 is BatchNorm without"),
        ([without_statistics()], "models: 1 is BatchNorm without"),
        ([tied()], "models: two layers share a weight"),
    ],
)
def test_models_it_does_not_take(models: list[nn.Module], message: str) -> None:
    checks.refused(ValueError, message, sweep_of, models)


def test_dropout_of_nothing_and_bad_settings() -> None:
    sweep = sweep_of([nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.0))])
    checks.refused(ValueError, "lr = 0: must be finite and greater than 0", sweep.set_lr, 0)
    checks.refused(ValueError, "lr = -1.0", sweep_of, networks(), lr=-1.0)
    checks.refused(ValueError, "device = 'tpu9'", Sweep, networks(), lr=0.1, device="tpu9")
    checks.refused(ValueError, "compile = 'yes'", sweep_of, networks(), compile="yes")


def test_a_layer_used_twice_and_a_short_batch_of_batchnorm() -> None:
    layer = nn.BatchNorm1d(2)
    twice = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(2, 1), nn.Flatten(0)).double()
    with pytest.raises(ValueError, match="share a weight|used twice"):
        sweep_of([twice]).fit(wave(), lams=[0.1], **SETTINGS)
    with pytest.raises(ValueError, match="batch of one"):
        sweep_of(networks("batch")).fit(wave(65), lams=LAMS, **SETTINGS)


def test_a_loss_that_is_not_finite_names_network_and_epoch() -> None:
    models = networks()
    with torch.no_grad():
        models[1][1].weight.fill_(1e200)  # type: ignore[index]
    sweep = sweep_of(models)
    message = r"the loss of network 1 \(λ = 0.5\) was not finite in epoch 7"
    checks.refused(FloatingPointError, message, sweep.fit, wave(), lams=LAMS, base="mse", first_epoch=7, **SETTINGS)


def test_parts_that_leave_a_network_out_are_refused() -> None:
    sweep, (x, y) = sweep_of(networks()), wave(16)

    def plain(network: Any, x: Tensor, y: Tensor) -> Tensor:
        return (network(x) - y).square().mean()

    part = lambda *rows: Part(plain, (x, y), (False, False), torch.tensor(rows))  # noqa: E731
    everyone = Part(plain, (x, y), (False, False))
    for parts in ([part(0, 1)], [part(0, 1), part(1, 2)], [part(0), part(1)], [everyone, part(0, 1, 2)]):
        checks.refused(ValueError, "parts have rows .* each of the 3 networks once", sweep.step, *parts)
    losses = sweep.step(part(2, 0), part(1))
    again = sweep_of(networks())
    torch.testing.assert_close(losses, again.step(everyone))
    for one, other in zip(sweep.models(), again.models(), strict=True):
        checks.same(one, other, rtol=1e-12, atol=1e-12)


class Narrow(lai.MLP):
    """Does not show its width, by which it differs from another."""

    def __repr__(self) -> str:
        return "Narrow()"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([Narrow(2, (3,)), Narrow(2, (4,))], "models differ in architecture"),
        ([lai.MLP(2, (3,)), lai.MLP(2, (3,)).double()], "models differ in .*dtype"),
        ([lai.MLP(2, (3,)), lai.MLP(2, (3,)).requires_grad_(False)], "models differ in .*which weights are trained"),
        ([lai.MLP(2, (3,)).requires_grad_(False)], "models: none of their weights requires a gradient"),
    ],
)
def test_models_that_only_look_alike(models: list[nn.Module], message: str) -> None:
    checks.refused(ValueError, message, sweep_of, models)


@pytest.mark.parametrize(
    ("norm", "change", "message"),
    [
        (None, {"val": (wave()[0], wave()[1][:, None])}, "val: the model returns shape"),
        (None, {"val": (wave()[0][:, :1], wave()[1])}, r"val: x is \(N, \*\(1,\)\), in train \(N, \*\(2,\)\)"),
        ("batch", {"batch_size": 37}, "batch_size = 37: leaves a batch of one sample"),
    ],
)
def test_nothing_is_trained_before_it_is_refused(norm: Any, change: dict[str, Any], message: str) -> None:
    sweep = sweep_of(networks(norm))
    before = sweep.models()
    checks.refused(ValueError, message, sweep.fit, wave(), lams=LAMS, **SETTINGS | change)
    for model, old in zip(sweep.models(), before, strict=True):
        checks.same(model, old)


class Times(nn.Module):
    """By a number of its own, and by a buffer that a state dict leaves out."""

    def __init__(self, by: float, inner: nn.Module, buffer: float = 1.0) -> None:
        super().__init__()
        self.by, self.inner = by, inner
        self.register_buffer("scale", torch.tensor(buffer, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.by * self.scale * x)


def test_each_network_has_its_own_buffers_and_settings_or_is_refused() -> None:
    inner = networks(n=2)
    each_equals_fit([Times(1.0, model, buffer) for model, buffer in zip(inner, (1.0, 3.0), strict=True)], [0.1, 0.1])
    assert [m.scale.item() for m in sweep_of([Times(1.0, inner[0], b) for b in (1.0, 3.0)]).models()] == [1.0, 3.0]
    checks.refused(ValueError, "models differ", sweep_of, [Times(by, inner[0]) for by in (1.0, 3.0)])


def test_statistics_that_a_sweep_says_otherwise_are_refused() -> None:
    batchnorm = networks("batch")[0]
    each_equals_fit([lai.FixedStatistics(batchnorm)], [0.1])
    running = lai.FixedStatistics(batchnorm, "running")
    checks.refused(ValueError, r"models\[0\] .*slope='running'", sweep_of, [running])


@pytest.mark.parametrize("lams", [[None], [0.1]], ids=str)
def test_what_draws_is_refused_before_anything_is_trained(lams: list[Any]) -> None:
    class Noisy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x)[:, 0])

    model = Noisy(2, 1).double()
    sweep = sweep_of([model])
    with pytest.raises(RuntimeError, match="models draw random numbers, which a sweep does not take"):
        sweep.fit(wave(), lams=lams, **SETTINGS)
    checks.same(sweep.models()[0], model)
