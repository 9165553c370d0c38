"""The chapter on coupled samples: verdicts at many λ, a mutant for each, inserted numbers, exercises.

Training takes most of the chapter's time: one test trains, the others put a table in place of the runs.
"""

import functools
import math
from typing import Any

import pandas as pd
import pytest
import torch
from chapter_run import ROOT, Run, committed_verdicts

import evidence.runs.slopes
import lai
from evidence.studies.coupling import batch_jacobian, contamination, mixing

CHAPTER = "51_coupled_samples"
VERDICTS = committed_verdicts(CHAPTER)
RESULTS = ROOT / "book" / "results"


def kept() -> pd.DataFrame:
    """The saved runs, with arms of their own slope also under the third name that the page trains."""
    table = evidence.runs.slopes.by_slope(pd.read_csv(RESULTS / "strength.csv"))
    own = table[table["arm"] == "own, λ = 0.01"]
    return pd.concat([table, own.assign(slope="running", arm="running, λ = 0.01")], ignore_index=True)


def instead_of_training(data: Any, *, lams: dict[str, list[float]], **_: Any) -> pd.DataFrame:
    """The kept table, with copies of its nearest arms for λ that it has not."""
    table = kept()
    parts = [table[table["slope"] == "none"]]
    for slope, values in lams.items():
        arms = table[table["slope"] == slope]
        for lam in values:
            near = min(arms["lam"].unique(), key=lambda have: abs(math.log(have / lam)))
            parts.append(arms[arms["lam"] == near].assign(lam=lam, arm=evidence.runs.slopes.slope_arm(slope, lam)))
    return pd.concat(parts, ignore_index=True)


@functools.cache
def run(**parameters: Any) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAI_DATA", "none")
        patch.setattr(evidence.runs.slopes, "compare_slopes", instead_of_training)
        return Run(CHAPTER, **{"seeds": 2, "pretrain_epochs": 3, **parameters}).all()


@pytest.mark.parametrize("lam", [0.05, 3.0])
def test_verdicts_do_not_depend_on_lam(lam: float) -> None:
    done = run(lam=lam)
    assert {name: done.lines(name) for name in VERDICTS} == VERDICTS
    assert done.glued["lam"] == lam
    assert not [name for name, value in done.glued.items() if isinstance(value, float) and math.isnan(value)]


@pytest.mark.parametrize(
    "parameters, named",
    [
        ({"lam": 0.0}, "lam = 0.0"),
        ({"lam": [0.1, 0.2]}, "lam has 2 entries"),
        ({"seeds": 1}, "seeds = 1"),
        ({"pretrain_epochs": 0}, "pretrain_epochs = 0"),
        ({"epochs": 0}, "epochs = 0"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"source": "csv"}, "source"),
    ],
)
def test_a_wrong_parameter_stops_before_anything_is_computed(parameters: dict[str, Any], named: str) -> None:
    chapter = Run(CHAPTER, **parameters)
    with pytest.raises(ValueError, match=named.replace(".", r"\.")):
        chapter.all()
    assert set(chapter.printed) == {"parameters"}


# --- mutants ------------------------------------------------------------------------------------------------------


def test_last_layer_notices_a_missing_batchnorm() -> None:
    assert run(lam=0.3).again("verdict-last", "*last)", "last[0])") == "coupling-last: fails\n"


def test_shrinking_notices_a_gradient_that_is_right() -> None:
    done = run(lam=0.3)
    names = ("ways", "by_way", "ratio", "found")
    before = {name: done.names[name] for name in names}
    try:
        done.names["found"] = mixing(batch_jacobian(done.names["train_mode"], done.names["batch"][:32]))
        assert done.again("verdict-shrinks").splitlines()[0] == "coupling-shrinks: holds"
        done.again("three-slopes", '    "summed": lambda m: copy.deepcopy(m).train(),', '    "summed": ways["own"],')
        assert done.again("verdict-shrinks").splitlines()[0] == "coupling-shrinks: fails"
    finally:
        done.names.update(before)


def test_lam_needs_coupling_notices_equal_arms() -> None:
    done = run(lam=0.3)
    for metric in ("rmse", "variance"):
        same = kept()
        summed = same[same["slope"] == "summed"].set_index(["lam", "seed"])[metric]
        own = same["slope"] == "own"
        keys = pd.MultiIndex.from_frame(same.loc[own, ["lam", "seed"]])
        same.loc[own, metric] = summed.loc[keys].to_numpy()
        before = done.names["runs"], done.names["full"]
        try:
            done.names["runs"] = same
            assert done.again("verdict-lam").splitlines() == [
                "lam-needs-coupling: holds under stated conditions",
                "  runs of this page: no; saved: yes",
            ]
            done.names["full"] = same
            assert done.again("verdict-lam").splitlines()[0] == "lam-needs-coupling: fails"
        finally:
            done.names["runs"], done.names["full"] = before


@pytest.mark.parametrize("blind", [True, False])
def test_probe_verdict_notices_a_wrong_probe(blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(model: Any, x: Any) -> None:
        if not blind:
            raise RuntimeError

    done = run(lam=0.05)
    monkeypatch.setattr(lai, "assert_independent_samples", probe)
    done.again("zoo")
    assert done.again("verdict-probe").splitlines()[0] == "coupling-probe: fails"
    monkeypatch.undo()
    done.again("zoo")
    assert done.again("verdict-probe").splitlines() == VERDICTS["verdict-probe"]


# --- numbers ------------------------------------------------------------------------------------------------------


def test_numbers_of_the_network_against_another_implementation() -> None:
    done = run(lam=0.3)
    other = contamination(done.names["models"][0], done.names["batch"])
    assert done.names["ratio"].iloc[0].tolist() == pytest.approx(other["ratio"].tolist(), rel=0.01)
    assert done.glued["cs-median-ratio"] == pytest.approx(done.names["ratio"].mean().median())


def test_shares_in_closed_form() -> None:
    shares = run(lam=0.3).names["shares"]
    assert shares["ReLU"] == pytest.approx(math.sqrt(0.5 - 1 / math.pi), abs=1e-4)
    assert shares["identity"] < 1e-6 and shares["square"] < 1e-6
    z = torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (g,) = torch.autograd.grad(torch.nn.functional.silu(z).sum(), z)
    line = torch.stack([torch.ones_like(z), z], dim=1).detach()
    rest = g - line @ torch.linalg.lstsq(line, g[:, None]).solution[:, 0]  # a regression, as the text says
    assert shares["SiLU"] == pytest.approx(float(rest.norm() / g.norm()), rel=0.02)
    assert shares["softplus"] < shares["SiLU"] < shares["ReLU"]


# --- exercises ----------------------------------------------------------------------------------------------------


def test_exercises() -> None:
    done = run(lam=0.05)
    assert done.names["solution_3"].mixes and done.names["solution_3"].error == 0
    by_size = list(done.names["solution_4"].values())
    assert max(by_size) / min(by_size) < 1.6 and max(by_size) < 0.6
    assert abs(done.names["solution_5"]["batch"]) < 0.05
    assert done.names["solution_5"]["running"] == pytest.approx(2, abs=0.05)
