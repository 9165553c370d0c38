"""The training loop against one written out by hand, and what it promises about arms, errors and devices."""

import copy
import math
import sys
import warnings
from typing import Any

import checks
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lai


def wave(n: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=g) * 4 - 2
    return x, torch.sin(2 * x[:, 0]) + 0.3 * x[:, 1] + 0.1 * torch.randn(n, generator=g)


def model(seed: int = 0) -> lai.MLP:
    return lai.MLP(2, (8,), activation="tanh", seed=seed)


OPTIONS = {"batch_size": 32, "lr": 0.01, "seed": 0, "device": "cpu"}


def weights(m: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in m.parameters()])


def test_a_step_differentiates_by_the_data_once_for_the_slopes() -> None:
    """The pass into the weights would do so again, as the data require a gradient, and nothing would use it."""
    taken: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(taken.append)

    x, y = wave(64)
    counts = []
    for epochs in (1, 2):
        m = model()
        m.register_forward_pre_hook(watch)
        lai.fit(m, (x, y), criterion=lai.LaiLoss(0.1), epochs=epochs, **OPTIONS)
        counts.append(len(taken))
        taken.clear()
    assert counts[1] - counts[0] == 2  # the steps of an epoch


@pytest.mark.parametrize("sampling", ["batches", "points"])
def test_equals_a_loop_written_out(sampling: str) -> None:
    x, y = wave()
    criterion = lai.LaiLoss(0.05)
    schedule = lai.LaiSchedule(0.4, pretrain_epochs=1, sampling=sampling, seed=3)  # type: ignore[arg-type]
    fitted = model()
    history = lai.fit(fitted, (x, y), criterion=criterion, schedule=schedule, epochs=3, **OPTIONS)

    m = model()
    adam = torch.optim.Adam(m.parameters(), lr=0.01)
    losses, shares = [], []
    for epoch in range(3):
        rng = np.random.default_rng([0, epoch])
        rng.integers(2**63)
        parts = torch.from_numpy(rng.permutation(200)).split(32)
        sizes = [len(p) for p in parts]
        if sampling == "batches":
            plan = [
                torch.arange(n if lai_batch else 0)
                for n, lai_batch in zip(sizes, schedule.batches(epoch, 7), strict=True)
            ]
        else:
            plan = schedule.points(epoch, sizes)
        total = 0.0
        for part, chosen in zip(parts, plan, strict=True):
            is_lai = torch.zeros(len(part), dtype=torch.bool)
            is_lai[chosen] = True
            xb = x[part].requires_grad_()
            out = m(xb)
            k = torch.autograd.grad(out.sum(), xb, create_graph=True)[0]
            f = (torch.maximum(k**2, torch.tensor(0.05)) / (1 + k**2) / 0.05).square().sum(1).sqrt()
            each = (out - y[part]) ** 2 * torch.where(is_lai, f, torch.tensor(1.0))
            adam.zero_grad()
            each.mean().backward()
            adam.step()
            total += each.sum().item()
        losses.append(total / 200)
        shares.append(sum(map(len, plan)) / 200)
    torch.testing.assert_close(weights(fitted), weights(m), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(history["lai_share"], shares)


def test_plain_fit_is_mse_and_lai_mae_falls_back_to_mae() -> None:
    x, y = wave()
    plain, never = model(), model()
    lai.fit(plain, (x, y), epochs=2, **OPTIONS)
    lai.fit(never, (x, y), criterion=lai.LaiLoss(0.1), schedule=lai.LaiSchedule(0), epochs=2, **OPTIONS)
    assert torch.equal(weights(plain), weights(never))
    mae = model()
    lai.fit(mae, (x, y), criterion=lai.LaiLoss(0.1, base="mae"), schedule=lai.LaiSchedule(0), epochs=2, **OPTIONS)
    assert not torch.equal(weights(plain), weights(mae))
    m = model()
    out = nn.functional.l1_loss(m(x), y).item()
    whole = lai.fit(
        model(),
        (x, y),
        criterion=lai.LaiLoss(0.1, base="mae"),
        schedule=lai.LaiSchedule(0),
        epochs=1,
        **OPTIONS | {"batch_size": 200},
    )
    assert whole["loss"][0] == pytest.approx(out, rel=1e-6)


def test_arms_with_one_seed_see_identical_batches() -> None:
    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = model(), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.detach().clone())
            return self.inner(x)

    runs = []
    for criterion in (None, lai.LaiLoss(0.1)):
        torch.manual_seed(len(runs))  # the global state must not matter
        recorder = Recorder()
        schedule = lai.LaiSchedule(0.3, seed=8)
        lai.fit(recorder, wave(), criterion=criterion, schedule=schedule, epochs=2, **OPTIONS)
        runs.append([x for x in recorder.seen if len(x) not in (2, 16)])  # less the probes before training
    assert len(runs[0]) == len(runs[1]) == 14
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_deterministic_and_polite_to_global_random_state() -> None:
    before = torch.get_rng_state()
    results = []
    for _ in range(2):
        m = nn.Sequential(nn.Dropout(0.2), model())
        lai.fit(m, wave(), criterion=lai.LaiLoss(0.1), epochs=2, **OPTIONS)
        results.append(weights(m))
        torch.rand(3)
    assert torch.equal(*results)
    torch.set_rng_state(before)


def test_continues_where_it_stopped() -> None:
    schedule, criterion = lai.LaiSchedule(0.3, pretrain_epochs=1), lai.LaiLoss(0.1)
    kw = {"criterion": criterion, "schedule": schedule, **OPTIONS}
    whole = model()
    lai.fit(whole, wave(), epochs=4, **kw)
    m = model()
    adam = torch.optim.Adam(m.parameters(), lr=0.01, fused=True)
    lai.fit(m, wave(), epochs=2, optimizer=adam, **kw)
    m, adam = copy.deepcopy((m, adam))  # an arm branches off with its optimiser's state
    history = lai.fit(m, wave(), epochs=2, first_epoch=2, optimizer=adam, **kw)
    assert torch.equal(weights(m), weights(whole)) and history["epoch"] == [2, 3]


def test_history_and_short_batches() -> None:
    sizes = []
    m = model()
    m.register_forward_hook(lambda _, args, out: sizes.append(len(args[0])) if m.training else None)
    history = lai.fit(m, wave(70), val=wave(20, 1), epochs=1, **OPTIONS)
    assert sizes[-3:] == [32, 32, 6] and list(history) == ["epoch", "loss", "lai_share", "val_rmse"]
    assert history["val_rmse"][0] == pytest.approx(lai.rmse(m, *wave(20, 1)))
    lai.fit(m, wave(70), epochs=1, drop_last=True, **OPTIONS)
    assert sizes[-2:] == [32, 32]
    assert lai.fit(m, wave(), epochs=0, **OPTIONS) == {"epoch": [], "loss": [], "lai_share": []}


def test_lower_lam_flattens_the_model() -> None:
    """What it is all for; a factor of 1 or a λ that is not passed on fails here."""
    x, y = wave()
    slopes = []
    for lam in (10.0, 1e-1, 1e-3):
        m = model()
        lai.fit(m, (x, y), criterion=lai.LaiLoss(lam), epochs=60, **OPTIONS | {"lr": 0.02, "batch_size": 200})
        slopes.append(lai.value_and_input_gradient(m, x)[1].square().mean().sqrt().item())
    assert slopes[0] > 1.3 * slopes[1] > 1.3 * 1.3 * slopes[2]


def test_stops_at_the_first_loss_that_is_not_finite() -> None:
    class Bomb(lai.LaiLoss):
        calls = 0

        def forward(self, input: Tensor, target: Tensor, grad: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(input, target, grad) * (math.nan if self.calls == 11 else 1)

    m, criterion = model(), Bomb(0.25)
    with pytest.raises(FloatingPointError, match=r"nan at epoch 1, batch 2 \(λ = 0.25, largest \|k\| = \d"):
        lai.fit(m, wave(), criterion=criterion, epochs=3, **OPTIONS)
    assert torch.isfinite(weights(m)).all()
    hot = model()
    with pytest.raises(FloatingPointError, match=r"epoch \d+, batch \d+ \(plain MSE\)"):
        lai.fit(hot, (wave()[0], wave()[1] * 1e30), epochs=5, **OPTIONS)


def test_models_whose_samples_mix_are_refused_before_training() -> None:
    m = lai.MLP(2, (8,), norm="batch", seed=0)
    with checks.untouched(m):
        settings = {"criterion": lai.LaiLoss(0.1), "epochs": 1, **OPTIONS}
        checks.refused(RuntimeError, "samples are not independent.*BatchNorm", lai.fit, m, wave(), **settings)
    lai.fit(m, wave(), epochs=1, **OPTIONS)  # plain MSE has no slope to spoil
    lai.fit(m, wave(), criterion=lai.LaiLoss(0.1), epochs=1, allow_coupling=True, **OPTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs = -1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 300, "drop_last": True}, "batch_size = 300"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"lr": math.nan}, "lr = nan"),
        ({"lr": None}, "lr = None"),
        ({"first_epoch": -1}, "first_epoch = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"device": "tpu9"}, "device = 'tpu9'"),
        ({"train": (torch.zeros(3, 2), torch.zeros(4))}, r"train: x has shape \(3, 2\) and y \(4,\)"),
        ({"train": (torch.full((3, 2), math.nan), torch.zeros(3))}, "train: x holds NaN"),
        ({"train": (torch.zeros(3, 2), torch.zeros(3, 1))}, "would broadcast"),
        ({"val": (torch.zeros(3, 2), torch.tensor([0.0, math.inf, 0.0]))}, "val: y holds NaN or infinity"),
    ],
)
def test_bad_arguments_are_named(change: dict, message: str) -> None:
    arguments = {"train": wave(), "epochs": 1, **OPTIONS} | change
    m = model()
    with checks.untouched(m):
        checks.refused(ValueError, f".*{message}", lai.fit, m, arguments.pop("train"), **arguments)


@pytest.mark.parametrize(
    ("criterion", "change", "message"),
    [
        (lai.LaiLoss([0.1, 0.2, 0.3]), {}, r"lam has shape \(3,\)"),
        (lai.LaiLoss(0.1, reduction="sum"), {}, "criterion.reduction = 'sum'"),
        (lai.LaiLoss(0.1, reduction="none"), {}, "criterion.reduction = 'none'"),
        (lambda input, target, grad: input - target, {}, r"criterion returned shape \(2,\)"),
        (None, {"val": (torch.zeros(3, 2), torch.zeros(3, 1))}, "val: .*would broadcast"),
        (None, {"val": (torch.zeros(3, 5), torch.zeros(3))}, r"val: x is \(N, \*\(5,\)\)"),
    ],
)
def test_what_would_fail_late_fails_before_training(criterion: object, change: dict, message: str) -> None:
    """With pre-training these would otherwise show at the first Lai batch or the first validation."""
    m = model()
    settings = {"criterion": criterion, "schedule": lai.LaiSchedule(0.5, pretrain_epochs=100), "epochs": 101, **OPTIONS}
    with checks.untouched(m):
        checks.refused(ValueError, message, lai.fit, m, wave(), **settings | change)


def test_evaluation_and_weights_are_rehearsed_too() -> None:
    class OtherShape(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if self.training else self.inner(x)[:, None]

    class Unweighted(lai.LaiLoss):
        def forward(self, input: Tensor, target: Tensor, grad: Tensor) -> Tensor:
            return super().forward(input, target, grad)

    late = {"schedule": lai.LaiSchedule(0.5, pretrain_epochs=3), "epochs": 4, "val": wave(20, 1), **OPTIONS}
    m: nn.Module = OtherShape()
    with checks.untouched(m):
        checks.refused(ValueError, r"val: the model returns shape \(N, \*\(1,\)\)", lai.fit, m, wave(), **late)
    m = model()
    with checks.untouched(m), pytest.raises(TypeError, match="positional arguments"):
        lai.fit(m, wave(), criterion=Unweighted(0.1), weight=torch.ones(200), **late)


def test_a_batch_without_weight_moves_nothing() -> None:
    x, y = wave(64)
    weight = torch.zeros(64)
    weight[torch.from_numpy(np.random.default_rng([0, 0]).permutation(64))[:1]] = 1.0  # whichever batch it is in
    m = model()
    history = lai.fit(m, (x, y), criterion=lai.LaiLoss(0.1), weight=weight, epochs=1, **OPTIONS)
    assert math.isfinite(history["loss"][0]) and torch.isfinite(weights(m)).all()


def test_classes_are_refused_with_the_way_out() -> None:
    m = nn.Linear(2, 4)
    base = lambda logits, labels: nn.functional.cross_entropy(logits, labels, reduction="none")  # noqa: E731
    settings = {"criterion": lai.LaiLoss(0.1, base=base), "epochs": 1, **OPTIONS}
    message = r"train: .*returns shape \(N, \*\(4,\)\) and y is \(N, \*\(\)\).*classes"
    checks.refused(ValueError, message, lai.fit, m, (wave(8)[0], torch.arange(8) % 4), **settings)


def test_an_optimizer_of_another_model_is_refused() -> None:
    m = model()
    adam = torch.optim.Adam(m.parameters())
    with pytest.raises(ValueError, match=r"copy.deepcopy\(\(model, optimizer\)\)"):
        lai.fit(copy.deepcopy(m), wave(), optimizer=adam, epochs=1, **OPTIONS)


def test_a_model_that_would_not_be_trained_is_refused() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model()

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    for m, message in ((model().requires_grad_(False), "model has no parameter"), (Detached(), "model: no parameter")):
        with checks.untouched(m):
            checks.refused(ValueError, message, lai.fit, m, wave(), epochs=1, **OPTIONS)


def test_the_rehearsal_leaves_no_trace() -> None:
    m = nn.Sequential(nn.BatchNorm1d(2), model())
    before = [torch.ones_like(p) for p in m.parameters()]
    for p, g in zip(m.parameters(), before, strict=True):
        p.grad = g
    adam = torch.optim.Adam(m.parameters())
    state = checks.state(m)
    settings = {"criterion": lai.LaiLoss(0.1), "optimizer": adam, "allow_coupling": True, **OPTIONS}
    lai.fit(m, wave(), epochs=0, **settings)
    checks.same(m, state)
    assert all(p.grad is g and (g == 1).all() for p, g in zip(m.parameters(), before, strict=True))
    assert not adam.state


def test_one_row_is_enough() -> None:
    m = model()
    history = lai.fit(m, wave(1), criterion=lai.LaiLoss(0.1), epochs=50, **OPTIONS | {"lr": 0.05})
    assert history["loss"][-1] < 0.1 * history["loss"][0]


def test_any_optimizer_with_its_own_rates_and_a_scheduler() -> None:
    x, y = wave(32)
    fitted, by_hand = model(), model()
    for m in (fitted, by_hand):
        first, *others = m.parameters()
        sgd = torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": others}], lr=0.01, momentum=0.9)
        halved = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.5)
        if m is fitted:
            settings = {"epochs": 3, "optimizer": sgd, "scheduler": halved, **OPTIONS} | {"lr": None}
            lai.fit(m, (x, y), criterion=lai.LaiLoss(0.1), **settings)
            continue
        for _ in range(3):
            y_hat, k = lai.value_and_input_gradient(m, x)
            sgd.zero_grad()
            lai.lai_loss(y_hat, y, k, lam=0.1).backward()
            sgd.step()
            halved.step()
    checks.same(fitted, by_hand, rtol=1e-4, atol=1e-6)
    assert [group["lr"] for group in sgd.param_groups] == [0.0125, 0.00125]
    checks.refused(
        ValueError, "scheduler is not one of optimizer", lai.fit, fitted, (x, y), scheduler=halved, epochs=1, **OPTIONS
    )
    checks.refused(
        ValueError, "lr = 0.01: the scheduler", lai.fit, m, (x, y), scheduler=halved, optimizer=sgd, epochs=1, **OPTIONS
    )


def test_lbfgs_and_a_scheduler_that_looks_at_the_loss() -> None:
    m = model()
    lbfgs = torch.optim.LBFGS(m.parameters(), lr=0.5, line_search_fn="strong_wolfe")
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(lbfgs, factor=0.1, patience=0, threshold=1e9)
    settings = OPTIONS | {"lr": None, "batch_size": 200}
    history = lai.fit(m, wave(), criterion=lai.LaiLoss(0.1), epochs=3, optimizer=lbfgs, scheduler=plateau, **settings)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert lbfgs.param_groups[0]["lr"] < 0.5


def test_a_call_after_every_epoch_may_end_the_training() -> None:
    m, seen = model(), []

    def each_epoch(row: dict[str, float]) -> bool:
        seen.append(row)
        m.eval()  # must not last
        return row["epoch"] == 4

    val = wave(20, 1)
    history = lai.fit(m, wave(), val=val, epochs=10, first_epoch=2, each_epoch=each_epoch, **OPTIONS)
    assert history["epoch"] == [2, 3, 4] and m.training and list(history)[-1] == "val_rmse"
    assert {name: [row[name] for row in seen] for name in seen[0]} == history
    same = model()
    lai.fit(same, wave(), epochs=3, first_epoch=2, **OPTIONS)
    checks.same(m, same)


def test_points_of_a_coupled_model_are_refused() -> None:
    m = lai.MLP(2, (8,), norm="batch", seed=0)
    points = lai.LaiSchedule(0.1, sampling="points")
    with pytest.raises(ValueError, match="sampling = 'points'"):
        lai.fit(m, wave(), criterion=lai.LaiLoss(0.1), schedule=points, epochs=1, allow_coupling=True, **OPTIONS)


def test_data_with_a_graph_and_no_grad_do_not_matter() -> None:
    x, y = wave()
    plain, other = model(), model()
    lai.fit(plain, (x, y), criterion=lai.LaiLoss(0.1), epochs=1, **OPTIONS)
    with torch.no_grad():
        lai.fit(other, (x.clone().requires_grad_(), y), criterion=lai.LaiLoss(0.1), epochs=1, **OPTIONS)
    assert torch.equal(weights(plain), weights(other))


def test_plain_training_takes_whole_numbers() -> None:
    """Rows of a table to look up have no slope, and need none."""
    m = nn.Sequential(nn.Embedding(3, 1), nn.Flatten(0))
    history = lai.fit(m, (torch.arange(3).repeat(40), torch.arange(3.0).repeat(40)), epochs=20, **OPTIONS | {"lr": 0.1})
    assert history["loss"][-1] < 0.01 * history["loss"][0]


def test_train_must_be_a_pair() -> None:
    for data in (torch.zeros(3), (torch.zeros(3, 2), [0.0] * 3), None):
        checks.refused(TypeError, "train must be a pair", lai.fit, model(), data, epochs=1, **OPTIONS)


def test_progress_bar_is_off_unless_asked_for(capsys: pytest.CaptureFixture) -> None:
    lai.fit(model(), wave(), epochs=1, **OPTIONS)
    assert capsys.readouterr().err == ""
    lai.fit(model(), wave(), epochs=1, progress=True, **OPTIONS)
    assert "epoch" in capsys.readouterr().err


def test_a_bar_without_tqdm_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    m = model()
    with checks.untouched(m), pytest.raises(ModuleNotFoundError, match="progress = True: .*needs tqdm"):
        lai.fit(m, wave(), epochs=1, progress=True, **OPTIONS)


@pytest.mark.parametrize("base", ["mse", "huber"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_whole_weights_are_copies_of_rows(base: Any, alpha: float) -> None:
    """Where a batch is all rows, of which the order does not matter."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 2, generator=generator).double(), torch.randn(12, generator=generator).double()
    times = torch.tensor([0, 1, 2, 3] * 3)
    ends = []
    for data, weight in (((x, y), times.double()), ((x.repeat_interleave(times, 0), y.repeat_interleave(times)), None)):
        model = lai.MLP(2, (5,), seed=1).double()
        history = lai.fit(
            model,
            data,
            criterion=lai.LaiLoss(0.1, base=base),
            schedule=lai.LaiSchedule(alpha),
            weight=weight,
            epochs=4,
            batch_size=40,
            lr=0.02,
            seed=0,
            device="cpu",
        )
        ends.append((history["loss"], model(x).tolist()))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-9) and ends[0][1] == pytest.approx(ends[1][1], rel=1e-9)


@pytest.mark.parametrize(
    "weight", [torch.ones(3), torch.tensor([1.0, -1.0, 1.0, 1.0]), torch.zeros(4), torch.full((4,), torch.nan)]
)
def test_weights_that_make_no_sense_are_refused(weight: torch.Tensor) -> None:
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 4, "lr": 0.1, "seed": 0, "device": "cpu"}
    data = torch.ones(4, 1), torch.ones(4)
    checks.refused(ValueError, "weight has shape", lai.fit, lai.MLP(1, (2,)), data, weight=weight, **settings)
    mean = {"criterion": lambda output, y, k: (output - y).square().mean(), "weight": torch.ones(4)}
    checks.refused(ValueError, "weight: function takes none", lai.fit, lai.MLP(1, (2,)), data, **mean, **settings)


def test_a_batch_of_one_row_under_batchnorm_is_refused_before_anything_is_trained() -> None:
    x, y = wave(33)
    normed = nn.Sequential(nn.Linear(x.shape[1], 4), nn.BatchNorm1d(4), nn.Linear(4, 1), nn.Flatten(0))
    before = copy.deepcopy(normed.state_dict())
    options = OPTIONS | {"epochs": 1, "batch_size": 16}
    with pytest.raises(ValueError, match="batch of 1 sample, which BatchNorm cannot normalise; use drop_last=True"):
        lai.fit(normed, (x, y), **options)
    torch.testing.assert_close(normed.state_dict(), before)
    lai.fit(normed, (x, y), drop_last=True, **options)


def test_a_criterion_that_does_not_name_its_error_is_told_what_plain_batches_minimise() -> None:
    def absolute(y_hat: Tensor, y: Tensor, k: Tensor) -> Tensor:
        return lai.lai_loss(y_hat, y, k, lam=0.1, base="mae")

    options = OPTIONS | {"epochs": 1, "criterion": absolute}
    with pytest.warns(UserWarning, match="minimise the mean squared error; set criterion.base"):
        lai.fit(model(), wave(), schedule=lai.LaiSchedule(0.5), **options)
    absolute.base = "mae"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lai.fit(model(), wave(), schedule=lai.LaiSchedule(0.5), **options)


def test_a_refused_training_leaves_mode_and_rate() -> None:
    m = model().eval()
    sgd = torch.optim.SGD(m.parameters(), lr=0.3)
    x, y = wave()
    with checks.untouched(m):
        checks.refused(
            ValueError, "train: the model returns", lai.fit, m, (x, y[:, None]), optimizer=sgd, epochs=1, **OPTIONS
        )
    assert sgd.param_groups[0]["lr"] == 0.3


def test_a_loss_that_overflows_within_lbfgs_is_not_said_to_have_kept_the_weights() -> None:
    m = model()
    far = torch.optim.LBFGS(m.parameters(), lr=1e30)
    with pytest.raises(FloatingPointError) as caught:
        lai.fit(m, wave(), criterion=lai.LaiLoss(1e-3), optimizer=far, epochs=9, **OPTIONS | {"lr": None})
    assert "weights are as before" not in str(caught.value)


def test_weights_of_whole_number_targets_are_not_rounded() -> None:
    x, _ = wave()
    y = torch.arange(len(x)) % 3
    share = torch.linspace(0.1, 2.0, len(x))
    losses = [lai.fit(model(), (x, t), weight=share, epochs=1, **OPTIONS)["loss"] for t in (y, y.float())]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("answer", [True, np.True_, torch.tensor(True)], ids=repr)
def test_any_true_ends_the_training_and_nothing_else_does(answer: Any) -> None:
    settings = {"criterion": lai.LaiLoss(0.1), "epochs": 3, **OPTIONS}
    assert len(lai.fit(model(), wave(), each_epoch=lambda _: answer, **settings)["loss"]) == 1
    assert len(lai.fit(model(), wave(), each_epoch=lambda _: np.float64(1.0), **settings)["loss"]) == 3


class Pair(lai.MLP):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def test_what_a_loop_would_trip_over_is_told_in_words() -> None:
    x, y = wave()
    for call in (lai.fit, lambda m, data, **_: lai.rmse(m, *data)):
        checks.refused(TypeError, "the model's output = .*must be a tensor", call, Pair(2), (x, y), epochs=1, **OPTIONS)
    nothing = {"criterion": lambda output, target, slopes: None, "epochs": 1}
    checks.refused(TypeError, "criterion's result = None", lai.fit, model(), (x, y), **nothing, **OPTIONS)
    with pytest.raises(TypeError, match="train: x and the model's weights are float32 and float64; use x.float"):
        lai.fit(model(), (x.double(), y.double()), epochs=1, **OPTIONS)
