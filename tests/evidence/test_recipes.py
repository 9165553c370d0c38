"""The search's training against the same training written out; its read-outs; what ranks and chooses; errors."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import evidence.search.run
import lai
from evidence.data import HeldOut, Housing, Split, load_housing
from evidence.ledger.paper import V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.runs.arms import Arm
from evidence.runs.store import CellStore
from evidence.search.recipes import NORMS, PAPER_LIST, RECIPES, SAMPLINGS, SCALES, VARIANTS, Recipe, Variant
from evidence.search.reports import READOUTS, judge_row, lai_steps, pattern, rank_recipes, rank_variants, rulers
from evidence.search.run import search_lai, search_mse
from evidence.search.training import Training, network
from lai.schedule import LaiSchedule

SMALL = Recipe("small", "test", norm="batch", hidden=(6, 5), lr=1e-2, batch_size=32)


def first_rows(dtype: torch.dtype) -> Housing:
    """The surrogate's first rows, with features brought to one scale so that a few steps do something."""
    full = load_housing("surrogate")
    mean, std = full.train.x.mean(0), full.train.x.std(0)

    def some(part: Any, n: int) -> tuple[Tensor, Tensor]:
        return ((part.x[:n] - mean) / std).to(dtype), part.y[:n].to(dtype)

    return replace(
        full, train=Split(*some(full.train, 200)), val=Split(*some(full.val, 60)), test=HeldOut(*some(full.test, 80))
    )


@pytest.fixture(scope="module")
def data() -> Housing:
    return first_rows(torch.float32)


@pytest.fixture
def exact() -> Iterator[Housing]:
    """The same in float64, and networks too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield first_rows(torch.float64)
    torch.set_default_dtype(before)


def reading(model: nn.Module, x: Tensor, y: Tensor, slope: str) -> tuple[Tensor, Tensor]:
    """Outputs, and k as the variant defines it, by plain autograd."""
    statistics: Any = {"own": "batch", "running": "running"}.get(slope)
    z = x.clone().requires_grad_()
    value = (model if statistics is None else lai.FixedStatistics(model, statistics))(z)
    of = {"mean": value.mean(), "loss": mse_loss(value, y), "squares": (value - y).square().sum()}.get(
        slope, value.sum()
    )
    return value, torch.autograd.grad(of, z, create_graph=True)[0]


def written_out(model: nn.Module, x: Tensor, y: Tensor, marked: Any, lam: Any, variant: Variant) -> Tensor:
    """The loss of one network on one batch, of which the places ``marked`` take the Lai loss."""
    options: dict[str, Any] = {"norm": variant.norm, "normalize": variant.normalize, "order": variant.order, "lam": lam}
    inside = torch.zeros(len(x), dtype=torch.bool)
    inside[torch.tensor(list(marked), dtype=torch.long)] = True
    if variant.sampling == "points" and 0 < inside.sum() < len(x):
        parts = [
            written_out(model, x[at], y[at], where, lam, variant)
            for at, where in ((inside, range(int(inside.sum()))), (~inside, ()))
        ]
        share = inside.double().mean()
        return share * parts[0] + (1 - share) * parts[1]
    if lam is None or not inside.any():
        return mse_loss(model(x), y)
    value, k = reading(model, x, y, variant.slope)
    if inside.all():
        return lai.lai_loss(value, y, k, **options)
    each = (value - y).square()
    each[inside] = lai.lai_loss(value[inside], y[inside], k[inside], reduction="none", **options)
    return each.mean()


@pytest.mark.parametrize(
    ("norm", "variant"),
    [("batch", v) for v in VARIANTS if not v.changes]
    + [(norm, VARIANTS[0]) for norm in NORMS if norm != "batch"]
    + [("none", v) for v in VARIANTS if v.sampling != "batches"],
    ids=lambda v: getattr(v, "name", v),
)
def test_training_is_as_written_out(norm: str, variant: Variant, exact: Housing) -> None:
    """MSE, one λ and a list side by side for an epoch: each network's path alone, weights and BatchNorm's statistics."""
    recipe, often = replace(SMALL, norm=norm, activation="silu"), replace(variant, alpha=0.4)
    lams = (None, 0.05, PAPER_LIST)
    training = Training(exact, recipe, 3, (0, 1))
    training.part(lams)
    training.train(range(1), often)
    seldom = [0 < len(marked) for _, marked in training.batches(0, often)]
    assert any(seldom)
    for lam, trained in zip(lams, training.sweep.models(), strict=True):
        model = network(recipe, 8, 3).train()
        adam = torch.optim.Adam(model.parameters(), lr=recipe.lr)
        for rows, marked in training.batches(0, often):
            adam.zero_grad()
            written_out(model, exact.train.x[rows], exact.train.y[rows], marked, lam, often).backward()
            adam.step()
        for (name, expected), got in zip(model.state_dict().items(), trained.state_dict().values(), strict=True):
            # BatchNorm takes a bias before it out again: its gradient is rounding, which Adam brings to size.
            idle = "batch" in norm and name.endswith("bias") and isinstance(model[int(name[0])], nn.Linear)
            if "num_batches" not in name and not idle:  # passes by torch's count, steps by the sweep's
                torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7, msg=lambda m, at=name: f"{at}: {m}")


@pytest.mark.parametrize("norm", NORMS)
def test_networks_begin_with_the_weights_of_the_librarys(norm: str) -> None:
    recipe = replace(SMALL, norm=norm, activation="tanh")
    layers = network(recipe, 3, 4)
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for one, other in zip(linear, [m for m in lai.MLP(3, (6, 5), seed=4) if isinstance(m, nn.Linear)], strict=True):
        assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
    kinds = "".join({"BatchNorm1d": "B", "LayerNorm": "N"}.get(type(m).__name__, type(m).__name__[0]) for m in layers)
    assert (
        kinds
        == {
            "none": "LTLTLF",
            "batch": "LBTLBTLF",
            "after": "LTBLTBLF",
            "layer": "LNTLNTLF",
            "input": "BLTLTLF",
            "input+batch": "BLBTLBTLF",
        }[norm]
    )


def plan(sampling: str, epoch: int = 1, alpha: float = 0.1) -> list[tuple[Tensor, Any]]:
    data = first_rows(torch.float32)
    some = replace(data, train=Split(data.train.x[:100], data.train.y[:100]))
    variant = None if sampling == "plain" else Variant("v", sampling=sampling, alpha=alpha)
    return Training(some, replace(SMALL, batch_size=20), 7, (1, 9)).batches(epoch, variant)


@pytest.mark.parametrize("sampling", ["plain", *SAMPLINGS])
def test_plans(sampling: str) -> None:
    """Every row once an epoch, the stated share marked, and the schedule of `lai.fit` where it has one."""
    steps = plan(sampling)
    rows = torch.cat([of_batch for of_batch, _ in steps])
    assert rows.unique().numel() == rows.numel() >= 80
    taken = [of_batch[torch.tensor(list(marked))] for of_batch, marked in steps if len(marked)]
    if sampling == "plain":
        assert not taken
    elif sampling == "batches":
        wanted = LaiSchedule(0.1, pretrain_epochs=1, seed=7)
        for epoch in range(1, 5):
            marks = [len(marked) == 20 for _, marked in plan("batches", epoch)]
            assert marks == wanted.batches(epoch, 5).tolist()
    elif sampling in ("points", "marked"):
        points = LaiSchedule(0.1, pretrain_epochs=1, sampling="points", seed=7).points(1, [20] * 5)
        assert [list(marked) for _, marked in steps] == [p.tolist() for p in points]
    else:
        (apart,) = taken
        later = [of_batch for of_batch, marked in plan(sampling, 2) if len(marked)]
        assert len(apart) == 10 and set(apart.tolist()) == set(later[0].tolist())  # the same in every epoch


def test_the_table_is_what_the_library_measures(data: Housing) -> None:
    """MSE and Lai batches of the published recipe, against `lai.fit` and the library's measures on one network."""
    recipe = replace(RECIPES[0], batch_size=32, lr=1e-3)
    table = search_lai(data, recipe, VARIANTS[:1], lams=[0.05], seeds=[5], pretrain_epochs=1, epochs=2)
    common: dict[str, Any] = {"batch_size": 32, "lr": 1e-3, "seed": 5, "drop_last": True, "device": "cpu"}
    model = lai.MLP(8, activation="relu", norm="batch", seed=5)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    lai.fit(model, data.train, epochs=1, optimizer=adam, **common)
    for arm, criterion in (("MSE", None), ("λ = 0.05", lai.LaiLoss(0.05))):
        branch, state = copy.deepcopy((model, adam))
        schedule = LaiSchedule(0.01, pretrain_epochs=1, seed=5)
        more: dict[str, Any] = {"first_epoch": 1, "optimizer": state, "allow_coupling": True}
        lai.fit(branch, data.train, criterion=criterion, schedule=schedule, epochs=2, **common, **more)
        (row,) = table[table["arm"] == arm].to_dict("records")
        assert row["rmse_running"] == pytest.approx(lai.rmse(branch, *data.val), rel=1e-3)
        lai.set_exact_statistics(branch, data.train.x)
        branch.eval()
        assert row["rmse"] == pytest.approx(lai.rmse(branch, *data.val), rel=1e-3)
        assert row["variance"] == pytest.approx(lai.output_variance(branch, data.test.x), rel=1e-3)
        _, k = lai.value_and_input_gradient(branch, data.val.x, create_graph=False)
        assert row["rms_k"] == pytest.approx(k.square().sum(1).mean().sqrt().item(), rel=1e-3)
        s = lai.sensitivity(branch, data.test.x).tolist()
        assert [row[f"s_{j}"] for j in range(1, 9)] == pytest.approx(s, rel=1e-2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("scale_y", ["raw", "standard"])
def test_scalings_are_undone_in_what_is_read(scale: str, scale_y: str, data: Housing) -> None:
    """An untrained network's read-outs in raw units, from a function of the raw features; trained in the scaled."""
    recipe = replace(SMALL, norm="none", scale=scale, scale_y=scale_y)
    table = search_mse(data, [recipe], seeds=[1], pretrain_epochs=0, epochs=0)
    x, y = data.train.x.double().numpy(), data.train.y.double().numpy()
    columns = {
        "raw": (np.zeros(8), np.ones(8)),
        "standard": (x.mean(0), x.std(0)),
        "minmax": (x.min(0), x.max(0) - x.min(0)),
        "robust": (np.median(x, 0), np.quantile(x, 0.75, 0) - np.quantile(x, 0.25, 0)),
    }[scale]
    shift, size = (torch.tensor(v, dtype=torch.float32) for v in columns)
    of_y = (y.mean(), y.std()) if scale_y == "standard" else (0.0, 1.0)
    model = network(recipe, 8, 1)

    def raw(inputs: Tensor) -> Tensor:
        return model((inputs - shift) / size) * of_y[1] + of_y[0]

    (row,) = table.to_dict("records")
    assert row["rmse"] == row["rmse_running"] == pytest.approx(lai.rmse(raw, *data.val), rel=1e-5)
    assert row["variance"] == pytest.approx(lai.output_variance(raw, data.test.x), rel=1e-4)
    assert [row[f"s_{j}"] for j in range(1, 9)] == pytest.approx(lai.sensitivity(raw, data.test.x).tolist(), rel=1e-3)
    leaf = data.val.x.clone().requires_grad_()
    (k,) = torch.autograd.grad(raw(leaf).sum(), leaf)
    assert row["rms_k"] == pytest.approx(k.square().sum(1).mean().sqrt().item(), rel=1e-4)
    training = Training(data, recipe, 1, (1, 1))
    torch.testing.assert_close(training.x, (data.train.x - shift) / size)
    torch.testing.assert_close(training.y, (data.train.y - of_y[0]) / of_y[1])


def test_learning_rates(data: Housing) -> None:
    """The recipe's rate in each epoch; and that training takes it."""
    rate = Recipe.lr_at
    assert [rate(replace(SMALL, schedule="constant"), e, (2, 2)) for e in (0, 3)] == [0.01, 0.01]
    assert [rate(replace(SMALL, schedule="tenth"), e, (2, 2)) for e in (1, 2)] == [0.01, 0.001]
    cosine = [rate(replace(SMALL, schedule="cosine"), e, (2, 2)) for e in range(4)]
    assert cosine == pytest.approx([0.01 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)])
    tenth = Training(data, replace(SMALL, schedule="tenth"), 0, (0, 1))  # the second stage is all there is
    slower = Training(data, replace(SMALL, lr=1e-3), 0, (0, 1))
    for training in (tenth, slower):
        training.train(range(1))
    assert tenth.read_out() == slower.read_out()


def test_fresh_adam_forgets(data: Housing) -> None:
    """The same until the second stage begins, different after it."""
    old, new = (
        search_mse(data, [replace(SMALL, fresh_adam=fresh)], seeds=[0], pretrain_epochs=2, epochs=2)
        for fresh in (False, True)
    )
    same = old["rmse"].to_numpy() == new["rmse"].to_numpy()
    assert same.tolist() == [True, False] and old["epoch"].tolist() == [2, 4]


def test_arms_of_an_untouched_run_are_copies(data: Housing) -> None:
    """No epoch after the arms part: all of a seed are equal, those of two seeds are not."""
    table = search_lai(data, SMALL, VARIANTS[:1], seeds=[0, 1], pretrain_epochs=1, epochs=0)
    assert table.groupby("seed")["rmse"].nunique().tolist() == [1, 1]
    assert table["rmse"].nunique() == 2
    assert table["arm"].unique().tolist() == ["MSE", "λ = 0.1", "λ = 0.01", "λ = 0.001"]


def test_a_network_that_diverged_has_nan(data: Housing) -> None:
    table = search_mse(data, [replace(SMALL, norm="none", lr=1e30)], seeds=[0], pretrain_epochs=1, epochs=0)
    assert table[["rmse", "variance", "s_1", "rms_k"]].isna().all(axis=None)


def test_a_changed_recipe_is_the_one_that_is_trained(data: Housing) -> None:
    """A variant's changes: the same table as with a recipe that has them."""
    options: dict[str, Any] = {"seeds": [0], "lams": [0.1], "pretrain_epochs": 1, "epochs": 1}
    changed = search_lai(data, SMALL, [Variant("v", changes=(("scale_y", "standard"),))], **options)
    direct = search_lai(data, replace(SMALL, scale_y="standard"), [Variant("v")], **options)
    pd.testing.assert_frame_equal(changed.drop(columns="seconds"), direct.drop(columns="seconds"))


def test_a_search_that_stopped_goes_on(data: Housing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"seeds": [0], "pretrain_epochs": 1, "epochs": 0, "store": CellStore(tmp_path)}
    first = search_mse(data, [SMALL], **options), search_lai(data, SMALL, VARIANTS[:1], **options)

    def trained(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Training, "train", trained)
    again = search_mse(data, [SMALL], **options), search_lai(data, SMALL, VARIANTS[:1], **options)
    for one, other in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    with pytest.raises(AssertionError, match="trained again"):
        search_mse(data, [replace(SMALL, lr=2e-2)], **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: replace(SMALL, scale="unit"), "scale = 'unit'"),
        (lambda d: replace(SMALL, scale_y="log"), "scale_y = 'log'"),
        (lambda d: replace(SMALL, norm="group"), "norm = 'group'"),
        (lambda d: replace(SMALL, activation="elu"), "activation = 'elu'"),
        (lambda d: replace(SMALL, schedule="warm"), "schedule = 'warm'"),
        (lambda d: replace(SMALL, lr=0), "lr = 0"),
        (lambda d: replace(SMALL, hidden=(0,)), "hidden = 0"),
        (lambda d: replace(SMALL, batch_size=1), "batch_size = 1"),
        (lambda d: Variant("v", slope="eval"), "slope = 'eval'"),
        (lambda d: Variant("v", order="row"), "order = 'row'"),
        (lambda d: Variant("v", norm="elastic"), "norm = 'elastic'"),
        (lambda d: Variant("v", sampling="some"), "sampling = 'some'"),
        (lambda d: Variant("v", alpha=2), "alpha = 2"),
        (lambda d: Variant("v", order="batch", sampling="marked"), "order = 'batch'"),
        (lambda d: search_mse(d, [SMALL, SMALL]), "recipes = "),
        (lambda d: search_mse(d, []), "recipes = "),
        (lambda d: search_mse(d, [SMALL], seeds=[0, 0]), "seeds = "),
        (lambda d: search_mse(d, [SMALL], epochs=-1), "epochs = -1"),
        (lambda d: search_lai(d, SMALL, lams=[-1.0]), "λ must be"),
        (lambda d: search_lai(d, SMALL, lams=[(0.1, 0.2)]), "2 entries"),
        (lambda d: search_lai(d, SMALL, []), "variants = "),
        (lambda d: search_lai(d, SMALL, pretrain_epochs=-1), "pretrain_epochs = -1"),
    ],
)
def test_bad_input(make: Any, message: str, data: Housing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "train", None)  # nothing may be trained first
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(")):
        make(data)


def test_no_recipe_or_variant_is_there_twice() -> None:
    assert len({r.name for r in RECIPES}) == len(RECIPES) and len({v.name for v in VARIANTS}) == len(VARIANTS)
    assert len({replace(r, name="", family="") for r in RECIPES}) == len(RECIPES)
    assert len({replace(v, name="") for v in VARIANTS}) == len(VARIANTS)


def found(**rows: tuple[list[float], list[float]]) -> pd.DataFrame:
    """A table of the search out of RMSE and variance by seed, with the paper's sensitivities doubled."""
    s = {f"s_{j}": 2 * v for j, v in enumerate(V2_SENSITIVITY["mse"], 1)}
    return pd.DataFrame(
        {
            "recipe": name,
            "family": "f",
            "seed": seed,
            "epoch": 200,
            "rmse": r,
            "variance": v,
            "rmse_running": r + 1,
            "variance_running": v,
            **s,
        }
        for name, pairs in rows.items()
        for seed, (r, v) in enumerate(zip(*pairs, strict=True))
    )


def test_ranking() -> None:
    """A distance computed by hand; the pattern forgives a common factor; what diverged comes last and is not near."""
    rmse, variance = V2_SMOOTHNESS[None]
    table = found(
        far=([rmse + 0.5, rmse + 0.52], [variance, variance + 0.1]),
        lost=([math.nan, rmse], [variance, variance + 0.1]),
        near=([rmse + 0.01, rmse + 0.03], [variance - 0.1, variance]),
    )
    ruler = rulers(table)
    assert ruler == pytest.approx((0.02 / math.sqrt(2), 0.1 / math.sqrt(2)))
    ranked = rank_recipes(table)
    assert ranked.index.tolist() == ["near", "far", "lost"]
    by_hand = math.sqrt(((0.02 / ruler[0]) ** 2 + (0.05 / ruler[1]) ** 2) / 2)
    assert ranked.loc["near", "distance"] == pytest.approx(by_hand)
    assert ranked["near"].tolist() == [True, False, False]
    assert ranked.loc["near", "pattern"] == pytest.approx(1)
    table.loc[table["recipe"] == "near", "s_8"] *= 100
    assert not rank_recipes(table).loc["near", "near"]
    assert rank_recipes(table, readout="running").loc["near", "rmse"] == pytest.approx(rmse + 1.02)
    with pytest.raises(ValueError, match="epoch = 3"):
        rank_recipes(table, epoch=3)


@pytest.mark.parametrize(
    ("spread", "off", "word"), [(0.001, 0, "holds"), (0.05, 0, "not shown"), (0.001, 0.02, "fails")]
)
@pytest.mark.parametrize("column", ["rmse", "variance", "rmse_running", "variance_running"])
def test_a_printed_row_is_judged_by_every_figure_and_not_passed_by_noise(
    spread: float, off: float, word: str, column: str
) -> None:
    """The range of the printed errors is 0.026, and that of the variances 0.11."""
    wave = np.array([-1, -0.5, 0, 0.5, 1])
    target = V2_SMOOTHNESS[None]
    runs = pd.DataFrame(
        {name: value + 0.001 * wave for pair in READOUTS.values() for name, value in zip(pair, target, strict=True)}
    )
    assert judge_row(runs, target) == "holds"
    runs[column] += (spread - 0.001) * wave + off
    assert judge_row(runs, target, tests=20) == word


def test_pattern_of_the_papers_own_rows() -> None:
    """λ = 0.1 leaves the paper's pattern as it is; the list changes it by less than what counts as the same."""
    mse, one, listed = V2_SENSITIVITY.values()
    assert pattern(one, mse)[0] < 1.02
    assert 1.1 < pattern(listed, mse)[0] < 1.5


def trained(rise: float, fall: float, noise: float = 0.0) -> pd.DataFrame:
    rows = []
    for seed, sign in enumerate((-1, 1, -1, 1)):
        for lam, (r, v) in V2_SMOOTHNESS.items():
            step = 0 if lam is None else -math.log10(lam)
            rows.append({"variant": "v", "arm": Arm(lam).name, "lam": math.nan if lam is None else lam, "seed": seed})
            rows[-1] |= {
                "rmse": r + rise * step + noise * sign * step,
                "variance": v - fall * step,
                "s_7": 4.0,
                "s_8": 8.0,
            }
        rows.append(
            {
                **rows[-1],
                "arm": Arm(PAPER_LIST).name,
                "lam": math.nan,
                "rmse": 2 * V2_SMOOTHNESS[None][0],
                "s_8": 2.0,
            }
        )
    return pd.DataFrame(rows).assign(rmse_running=1.0, variance_running=1.0)


def test_lai_orderings_and_distances() -> None:
    """The paper's own figures have its order and distance 0; with steps turned round they fail; the list is relative."""
    same = {"v2-loss-rises": "holds", "v2-var-falls": "holds", "rises": "yes", "falls": "yes"}
    assert lai_steps(trained(0, 0), "v") == same
    turned = {"v2-loss-rises": "fails", "v2-var-falls": "fails", "rises": "no", "falls": "no"}
    assert lai_steps(trained(-1, -1), "v") == turned
    assert lai_steps(trained(0.001, 0, noise=0.1), "v")["v2-loss-rises"] == "not shown"
    (row,) = rank_variants(trained(0, 0), (0.01, 0.05)).to_dict("records")
    assert row["distance"] == pytest.approx(0, abs=1e-9) == row["distance_changes"]
    assert (row["list_rmse"], row["list_s_7"], row["list_s_8"]) == pytest.approx((1, 0, -0.75))
    (row,) = rank_variants(trained(0.01, 0), (0.01, 0.05)).to_dict("records")
    assert row["distance"] == pytest.approx(math.sqrt((1 + 4 + 9) / 6))
    with pytest.raises(ValueError, match="variant = 'w'"):
        lai_steps(trained(0, 0), "w")
    with pytest.raises(ValueError, match="λ = 0.1"):
        rank_variants(trained(0, 0).query("lam != 0.1"), (1, 1))


def test_the_whole_search_chooses_by_mse_alone(data: Housing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finalists from the first seeds, the chosen one from the fresh, and every variant on that one only."""
    rmse, variance = V2_SMOOTHNESS[None]
    first = found(
        **{
            "published": ([rmse - 0.01, rmse + 0.01], [variance - 0.1, variance + 0.1]),
            "published, SiLU": ([rmse, rmse + 0.02], [variance - 0.1, variance + 0.1]),
            "raw": ([rmse + 1, rmse + 1.02], [variance - 0.1, variance + 0.1]),
            "raw, LayerNorm": ([rmse, rmse + 0.02], [variance - 0.1, variance + 0.1]),
        }
    ).assign(rmse_running=lambda t: t["rmse"])
    first.loc[first["recipe"] == "raw, LayerNorm", "s_8"] *= 100
    asked: list[Any] = []

    def search_again(data: Housing, recipes: Any = RECIPES, **options: Any) -> pd.DataFrame:
        asked.append(([r.name for r in recipes], list(options["seeds"]), options.get("epochs", 100)))
        if len(asked) == 1:
            return first
        # With fresh seeds the second of the first stage is the nearer one.
        return first.assign(rmse=first["rmse"] + 0.02 * (first["recipe"] == "published"))[
            first["recipe"].isin([r.name for r in recipes])
        ].assign(rmse_running=lambda t: t["rmse"])

    monkeypatch.setattr(evidence.search.run, "search_mse", search_again)

    def as_printed_or_turned(recipe: str, variant: str) -> pd.DataFrame:
        steps = (0.0, 0.0) if variant == "cosine" else (-1.0, -1.0)
        table = trained(*steps).assign(recipe=recipe, variant=variant)
        return table.assign(rmse_running=table["rmse"], variance_running=table["variance"])

    monkeypatch.setattr(
        evidence.search.run,
        "run_parallel",
        lambda f, calls, **_: [as_printed_or_turned(c[1].name, c[2].name) for c in calls],
    )
    confirmed: list[Any] = []

    def search_lai(data: Housing, recipe: Any, variants: Any, **options: Any) -> pd.DataFrame:
        confirmed.append((recipe.name, [v.name for v in variants], list(options["seeds"])))
        return as_printed_or_turned(recipe.name, variants[0].name)

    monkeypatch.setattr(evidence.search.run, "search_lai", search_lai)
    mse, variants = evidence.search.run.search(data)
    assert confirmed == [("published, SiLU", ["cosine"], list(range(3, 13)))]
    assert set(variants.loc[variants["stage"] == "fresh", "variant"]) == {"cosine"}
    variants = variants[variants["stage"] == "search"][["recipe", "variant"]].drop_duplicates()
    variants.columns = pd.Index(["r", "v"])
    assert asked[0][0] == [r.name for r in RECIPES] and asked[0][1] == [0, 1, 2]
    assert asked[1] == (["published", "published, SiLU"], [3, 4, 5, 6, 7], 100)
    assert asked[2] == (["published, SiLU"], [0, 1, 2], 500)
    assert mse["stage"].unique().tolist() == ["search", "fresh", "v1"]
    assert variants["v"][variants["r"] == "published, SiLU"].tolist() == [v.name for v in VARIANTS]
    others = variants[variants["r"] != "published, SiLU"]
    assert others.to_numpy().tolist() == [["published", VARIANTS[0].name], ["raw, LayerNorm", VARIANTS[0].name]]
