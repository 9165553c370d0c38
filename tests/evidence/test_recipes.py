"""The search's networks, slopes, losses and plans against independent computations; tiny runs; errors."""

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

import evidence.search.recipes
import lai
from evidence.data import HeldOut, Housing, Split, load_housing
from evidence.ledger.paper import V2_SENSITIVITY, V2_SMOOTHNESS
from evidence.runs.store import CellStore
from evidence.search.recipes import (
    NORMS,
    PAPER_LIST,
    RECIPES,
    SAMPLINGS,
    SCALES,
    SLOPES,
    VARIANTS,
    Branch,
    Networks,
    Recipe,
    Variant,
    lai_arm,
    search_lai,
    search_mse,
    train_branches,
)
from evidence.search.reports import (
    lai_steps,
    pattern,
    rank_recipes,
    rank_variants,
    rulers,
    within_spread,
)
from lai import FixedStatistics
from lai.models import ACTIVATIONS
from lai.schedule import LaiSchedule

PUBLISHED = RECIPES[0]
SMALL = Recipe("small", "test", norm="batch", hidden=(6, 5), lr=1e-2, batch_size=32)


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def data() -> Housing:
    """The surrogate's first rows, with features brought to one scale so that a few steps do something."""
    full = load_housing("surrogate")
    mean, std = full.train.x.mean(0), full.train.x.std(0)

    def some(part: Any, n: int) -> tuple[Tensor, Tensor]:
        return (part.x[:n] - mean) / std, part.y[:n]

    return replace(
        full, train=Split(*some(full.train, 200)), val=Split(*some(full.val, 60)), test=HeldOut(*some(full.test, 80))
    )


def alone(recipe: Recipe, seed: int, d: int) -> nn.Sequential:
    """The same network out of torch's own layers."""
    linears = [m for m in lai.MLP(d, recipe.hidden, activation="relu", seed=seed) if isinstance(m, nn.Linear)]
    layers: list[nn.Module] = [nn.BatchNorm1d(d)] if "input" in recipe.norm else []
    for linear in linears[:-1]:
        width = linear.out_features
        layers.append(linear)
        if recipe.norm in ("batch", "input+batch"):
            layers.append(nn.BatchNorm1d(width))
        if recipe.norm == "layer":
            layers.append(nn.LayerNorm(width))
        layers.append(ACTIVATIONS[recipe.activation]())
        if recipe.norm == "after":
            layers.append(nn.BatchNorm1d(width))
    return nn.Sequential(*layers, linears[-1], nn.Flatten(0))


@pytest.mark.parametrize("norm", NORMS)
def test_networks_are_torchs_own(norm: str, double: None) -> None:
    """In training, in what they keep as running statistics, and in eval mode."""
    recipe = replace(SMALL, norm=norm, activation="silu")
    networks, singles = Networks(recipe, 3, [4, 9]), [alone(recipe, seed, 3) for seed in (4, 9)]
    x = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for mode in (True, True, False):
        networks.train(mode)
        expected = [single.train(mode)(xs.T) for single, xs in zip(singles, x, strict=True)]
        torch.testing.assert_close(networks(x), torch.stack(expected))


def test_recomputed_statistics_are_those_of_the_experiments(double: None) -> None:
    recipe = replace(SMALL, norm="batch")
    networks, single = Networks(recipe, 3, [2]), alone(recipe, 2, 3)
    x = torch.randn(41, 3, generator=torch.Generator().manual_seed(0))
    networks.recompute(x.T, 8)
    torch.optim.swa_utils.update_bn([part for part in x.split(8) if len(part) > 1], single)
    torch.testing.assert_close(networks.eval()(x.T[None])[0], single.eval()(x))


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_slopes_and_what_training_takes_from_them(slope: str, norm: str, double: None) -> None:
    """Value, k, and the weights' gradient of a loss of both, against single networks and definitions."""
    recipe = replace(SMALL, norm=norm, activation="tanh")
    networks, seeds = Networks(recipe, 3, [0, 1]), (0, 1)
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 3, 16, generator=draw) * 2, torch.randn(2, 16, generator=draw)
    networks.train()
    networks(torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5)))
    output, k = networks.slopes(x, y, slope)
    (output * k.square().sum(1)).sum().backward()
    for i, seed in enumerate(seeds):
        single = alone(recipe, seed, 3).train()
        single(torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(5))[i].T)
        model = (
            FixedStatistics(single, "batch" if slope == "own" else "running") if slope in ("own", "running") else single
        )
        leaf = x[i].T.clone().requires_grad_()
        out = model(leaf)
        whole = {"mean": out.mean(), "loss": (out - y[i]).square().mean(), "squares": (out - y[i]).square().sum()}
        (expected,) = torch.autograd.grad(whole.get(slope, out.sum()), leaf, create_graph=True)
        torch.testing.assert_close(output[i], out)
        torch.testing.assert_close(k[i], expected.T)
        (out * expected.square().sum(1)).sum().backward()
        first = next(m for m in single if isinstance(m, nn.Linear))
        assert first.weight.grad is not None and networks.weights[0].grad is not None
        torch.testing.assert_close(networks.weights[0].grad[i], first.weight.grad)
    if norm == "none" and slope in ("mean", "own", "running"):
        plain = networks.slopes(x, y, "outputs")[1]
        torch.testing.assert_close(k, plain / 16 if slope == "mean" else plain)


def by_hand(e: np.ndarray, k: np.ndarray, lam: np.ndarray, variant: Variant) -> float:
    """The Lai loss of section 3.1 and 3.2 by loops over samples; k has shape (B, d)."""
    b, d = k.shape
    terms = np.zeros((b, d))
    for i in range(b):
        for j in range(d):
            terms[i, j] = e[i] ** 2 * max(k[i, j] ** 2, lam[j]) / ((1 + k[i, j] ** 2) * min(1, lam[j]))
    root = 1 if variant.norm == "l1" else 2
    scale = d ** (1 / root) if variant.normalize else 1
    if variant.order == "batch":
        return float((terms.mean(0) ** root).sum() ** (1 / root) / scale)
    return float(((terms**root).sum(1) ** (1 / root)).mean() / scale)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_every_variants_loss_is_its_definition(variant: Variant, double: None) -> None:
    """Three networks: MSE, one λ, a λ for each feature; on samples of which some are marked where the reading marks."""
    networks = Networks(replace(SMALL, activation="silu"), 3, [0, 0, 0])
    draw = torch.Generator().manual_seed(2)
    x, y = torch.randn(3, 3, 12, generator=draw) * 2, torch.randn(3, 12, generator=draw)
    lams = [None, torch.tensor(0.05), torch.tensor([0.5, 0.01, 2.0])]
    marked = torch.ones(3, 12, dtype=torch.bool)
    if variant.sampling in ("points", "marked"):
        marked = torch.zeros(3, 12, dtype=torch.bool)
        marked[:, [1, 4, 5, 9]] = True
    got = evidence.search.recipes._step(copy.deepcopy(networks).train(), x, y, marked, lams, variant)

    at = marked[0].numpy()
    expected = 0.0
    start = networks.train()
    for i, lam in enumerate(lams):
        networks = copy.deepcopy(start)  # with the running statistics that the step began with
        if variant.sampling == "points":
            out, k = networks.slopes(x[:, :, at], y[:, at], variant.slope)
            rest = networks(x[:, :, ~at])
            plain = np.square((rest - y[:, ~at])[i].detach().numpy())
        else:
            out, k = networks.slopes(x, y, variant.slope)
            plain = np.square((out - y)[i].detach().numpy()[~at])
            out, k = out[:, at], k[:, :, at]
        error = (out - y[:, at])[i].detach().numpy()
        here = float(np.square(error).mean())
        if lam is not None:
            here = by_hand(error, k[i].detach().numpy().T, np.broadcast_to(lam.numpy(), 3), variant)
        expected += (here * at.sum() + plain.sum()) / len(at)
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_a_step_leaves_other_networks_alone(double: None) -> None:
    """The MSE arm's gradient is that of MSE, whatever its neighbours' loss."""
    networks = Networks(SMALL, 3, [0, 1])
    x, y = torch.randn(2, 3, 12), torch.randn(2, 12)
    marked = torch.ones(2, 12, dtype=torch.bool)
    evidence.search.recipes._step(networks, x, y, marked, [None, torch.tensor(0.01)], VARIANTS[0]).backward()
    grad = networks.weights[0].grad
    single = alone(SMALL, 0, 3)
    (single(x[0].T) - y[0]).square().mean().backward()
    assert grad is not None
    torch.testing.assert_close(grad[0], single[0].weight.grad)


def plan(sampling: str, epoch: int = 1, alpha: float = 0.1, n: int = 100) -> list[tuple[Tensor, Tensor | None]]:
    variant = None if sampling == "plain" else Variant("v", sampling=sampling, alpha=alpha)
    return list(evidence.search.recipes._steps([3, 7], epoch, n, 20, True, variant, 1))


@pytest.mark.parametrize("sampling", ["plain", *SAMPLINGS])
def test_plans(sampling: str) -> None:
    """Every row once an epoch, the stated share marked, and the schedule of `lai.fit` where it has one."""
    steps = plan(sampling)
    for s, seed in enumerate((3, 7)):
        rows = torch.cat([chosen[s] for chosen, _ in steps])
        assert rows.unique().numel() == rows.numel() >= 80
        taken = [chosen[s][mark[s]] for chosen, mark in steps if mark is not None]
        taken_rows = set(torch.cat(taken).tolist()) if taken else set()
        if sampling == "plain":
            assert not taken_rows
        elif sampling == "batches":
            wanted = LaiSchedule(0.1, pretrain_epochs=1, seed=seed)
            for epoch in range(1, 5):
                marks = [mark is not None and bool(mark[s].all()) for _, mark in plan("batches", epoch)]
                assert marks == wanted.batches(epoch, 5).tolist()
        elif sampling in ("points", "marked"):
            points = LaiSchedule(0.1, pretrain_epochs=1, sampling="points", seed=seed).points(1, [20] * 5)
            assert [mark[s].nonzero().flatten().tolist() for _, mark in steps if mark is not None] == [
                p.tolist() for p in points
            ]
        else:
            assert len(taken_rows) == 10
            later = [chosen[s][mark[s]] for chosen, mark in plan(sampling, 2) if mark is not None]
            assert set(torch.cat(later).tolist()) == taken_rows  # the same in every epoch
            assert len(taken) == 1


def test_published_is_what_the_library_trains(data: Housing) -> None:
    """The first recipe with MSE and with Lai batches, against `lai.fit` on one network."""
    recipe = replace(PUBLISHED, batch_size=32, lr=1e-2)
    table = search_lai(data, recipe, VARIANTS[:1], lams=[0.05], seeds=[5], pretrain_epochs=1, epochs=2)
    common: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "seed": 5, "drop_last": True, "device": "cpu"}
    model = lai.MLP(8, activation="relu", norm="batch", seed=5)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    lai.fit(model, data.train, epochs=1, optimizer=adam, **common)
    for arm, criterion in (("MSE", None), ("λ = 0.05", lai.LaiLoss(0.05))):
        branch, state = copy.deepcopy((model, adam))
        schedule = LaiSchedule(0.01, pretrain_epochs=1, seed=5)
        more: dict[str, Any] = {"first_epoch": 1, "optimizer": state, "allow_coupling": True}
        lai.fit(branch, data.train, criterion=criterion, schedule=schedule, epochs=2, **common, **more)
        (row,) = table[table["arm"] == arm].to_dict("records")
        assert row["rmse_running"] == pytest.approx(lai.rmse(branch, *data.val), rel=1e-3)
        torch.optim.swa_utils.update_bn([p for p in data.train.x.split(32) if len(p) > 1], branch)
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
    """An untrained network's read-outs in raw units, from a function of the raw features."""
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
    model = alone(recipe, 1, 8)

    def raw(inputs: Tensor) -> Tensor:
        return model((inputs - shift) / size) * of_y[1] + of_y[0]

    (row,) = table.to_dict("records")
    assert row["rmse"] == row["rmse_running"] == pytest.approx(lai.rmse(raw, *data.val), rel=1e-5)
    assert row["variance"] == pytest.approx(lai.output_variance(raw, data.test.x), rel=1e-4)
    assert [row[f"s_{j}"] for j in range(1, 9)] == pytest.approx(lai.sensitivity(raw, data.test.x).tolist(), rel=1e-3)
    leaf = data.val.x.clone().requires_grad_()
    (k,) = torch.autograd.grad(raw(leaf).sum(), leaf)
    assert row["rms_k"] == pytest.approx(k.square().sum(1).mean().sqrt().item(), rel=1e-4)


def test_learning_rates() -> None:
    rate = evidence.search.recipes._lr
    assert [rate(replace(SMALL, schedule="constant"), e, (2, 2)) for e in (0, 3)] == [0.01, 0.01]
    assert [rate(replace(SMALL, schedule="tenth"), e, (2, 2)) for e in (1, 2)] == [0.01, 0.001]
    cosine = [rate(replace(SMALL, schedule="cosine"), e, (2, 2)) for e in range(4)]
    assert cosine == pytest.approx([0.01 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)])


def test_fresh_adam_forgets(data: Housing) -> None:
    """The same until the second stage begins, different after it."""
    old, new = (
        search_mse(data, [replace(SMALL, fresh_adam=fresh)], seeds=[0], pretrain_epochs=2, epochs=2)
        for fresh in (False, True)
    )
    same = old["rmse"].to_numpy() == new["rmse"].to_numpy()
    assert same.tolist() == [True, False]


def test_arms_of_an_untouched_run_are_copies(data: Housing) -> None:
    """No epoch after the arms part: all of a seed are equal, those of two seeds are not."""
    table = search_lai(data, SMALL, VARIANTS[:1], seeds=[0, 1], pretrain_epochs=1, epochs=0)
    assert table.groupby("seed")["rmse"].nunique().tolist() == [1, 1]
    assert table["rmse"].nunique() == 2
    assert table["arm"].unique().tolist() == ["MSE", "λ = 0.1", "λ = 0.01", "λ = 0.001"]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_every_variant_trains(variant: Variant, data: Housing) -> None:
    """Finite, arms that differ, and an MSE arm that does not know of the λ beside it."""
    often = replace(variant, alpha=0.5)
    lams: Any = (0.01, PAPER_LIST)
    table = search_lai(data, SMALL, [often], lams=lams, seeds=[0], pretrain_epochs=1, epochs=1)
    assert np.isfinite(table.drop(columns=["recipe", "variant", "arm", "lam"]).to_numpy()).all()
    assert table["rmse"].nunique() == 3
    lone = search_lai(data, SMALL, [often], lams=[2.0], seeds=[0], pretrain_epochs=1, epochs=1)
    assert lone["rmse"][0] == pytest.approx(table["rmse"][0], rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.name)
def test_every_recipe_trains(recipe: Recipe, data: Housing) -> None:
    table = search_mse(
        data, [replace(recipe, batch_size=min(64, recipe.batch_size))], seeds=[0], pretrain_epochs=1, epochs=1
    )
    assert table["epoch"].tolist() == [1, 2]
    assert np.isfinite(table.drop(columns=["recipe", "family"]).to_numpy()).all()


def test_a_search_that_stopped_goes_on(data: Housing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"seeds": [0], "pretrain_epochs": 1, "epochs": 0, "store": CellStore(tmp_path)}
    first = search_mse(data, [SMALL], **options), search_lai(data, SMALL, VARIANTS[:1], **options)

    def trained(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(evidence.search.recipes, "train_branches", trained)
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
    monkeypatch.setattr(evidence.search.recipes, "train_branches", None)  # nothing may be trained first
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(")):
        make(data)


def test_names() -> None:
    assert lai_arm((0.1, 0.2, 0.3)) == "λ = (0.1, 0.2, 0.3)"
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


def test_within_spread() -> None:
    runs = pd.DataFrame({"rmse": [1.0, 1.2], "variance": [2.0, 2.2]})
    sd = 0.1 * math.sqrt(2)
    assert within_spread(runs, (1.1 + 1.9 * sd, 2.1)) and not within_spread(runs, (1.1 + 2.1 * sd, 2.1))
    assert not within_spread(runs, (1.1, 2.1 - 2.1 * sd))


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
            rows.append({"variant": "v", "arm": lai_arm(lam), "lam": math.nan if lam is None else lam, "seed": seed})
            rows[-1] |= {
                "rmse": r + rise * step + noise * sign * step,
                "variance": v - fall * step,
                "s_7": 4.0,
                "s_8": 8.0,
            }
        rows.append(
            {
                **rows[-1],
                "arm": lai_arm(PAPER_LIST),
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


def test_branches_need_no_common_batches() -> None:
    """Two seeds in one run take the paths that they take alone."""
    x, y = torch.randn(3, 80), torch.randn(80)
    together = Networks(SMALL, 3, [0, 1])
    train_branches(
        together,
        evidence.search.recipes._adam(together, 1e-2),
        x,
        y,
        SMALL,
        [Branch(0), Branch(1, 0.1)],
        range(3),
        stages=(1, 2),
    )
    for i, branch in enumerate([Branch(0), Branch(1, 0.1)]):
        lone = Networks(SMALL, 3, [branch.seed])
        train_branches(lone, evidence.search.recipes._adam(lone, 1e-2), x, y, SMALL, [branch], range(3), stages=(1, 2))
        torch.testing.assert_close(together.weights[0][i], lone.weights[0][0], rtol=1e-3, atol=1e-4)


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

    monkeypatch.setattr(evidence.search.recipes, "search_mse", search_again)
    monkeypatch.setattr(
        evidence.search.recipes,
        "run_parallel",
        lambda f, calls, **_: [pd.DataFrame({"r": [c[1].name], "v": [c[2].name]}) for c in calls],
    )
    mse, variants = evidence.search.recipes.search(data)
    assert asked[0][0] == [r.name for r in RECIPES] and asked[0][1] == [0, 1, 2]
    assert asked[1] == (["published", "published, SiLU"], [3, 4, 5, 6, 7], 100)
    assert asked[2] == (["published, SiLU"], [0, 1, 2], 500)
    assert mse["stage"].unique().tolist() == ["search", "fresh", "v1"]
    assert variants["v"][variants["r"] == "published, SiLU"].tolist() == [v.name for v in VARIANTS]
    others = variants[variants["r"] != "published, SiLU"]
    assert others.to_numpy().tolist() == [["published", VARIANTS[0].name], ["raw, LayerNorm", VARIANTS[0].name]]
