"""The page on sensitivity: its verdicts, inserted numbers, sentences about the kept results, refusals and exercises.

Networks are few and small here; the kept results are those of the committed tables.
"""

import functools
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chapter_run import ROOT, Run, committed_verdicts

from evidence.data import KAGGLE_SHA256, load_housing
from evidence.ledger import noise
from evidence.ledger.paper import V2_SENSITIVITY
from evidence.ledger.queries import QUERIES, Results
from evidence.ledger.tables import reach
from evidence.runs.experiments import EXPERIMENTS

CHAPTER = "71_experiments_sensitivity"
RESULTS = ROOT / "book" / "results"
SMALL = {"seeds": 2, "pretrain_epochs": 1, "epochs": 1, "n_jobs": 1, "alpha": 0.2, "device": "cpu"}
LIST = "λ = 0.1, λ₈ = 0.001"

pytestmark = pytest.mark.usefixtures("surrogate")


@functools.cache
def small() -> Run:
    return Run(CHAPTER, lam=0.3, protocols=["published", "sound"], **SMALL).all()


@functools.cache
def kept(name: str = "sensitivity") -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def ratios(protocol: str, arm: str, column: str, name: str = "sensitivity") -> np.ndarray:
    """Change of a column against MSE, seed by seed."""
    runs = kept(name).query("protocol == @protocol").set_index("seed")
    return (runs.loc[runs["arm"] == arm, column] / runs.loc[runs["arm"] == "MSE", column] - 1).to_numpy()


# --- verdicts --------------------------------------------------------------------------------------------------


def test_the_committed_verdicts_are_the_ledgers() -> None:
    committed = committed_verdicts(CHAPTER)
    assert list(committed) == ["noise-nearest", "live-verdict", "verdicts", "tuning-verdicts"]
    for cell in ("noise-nearest", "verdicts", "tuning-verdicts"):
        assert small().lines(cell) == committed[cell]
    words = dict(line.split(": ") for line in committed["verdicts"] + committed["tuning-verdicts"])
    assert len(words) == 12
    for claim, word in words.items():
        assert QUERIES[claim.replace("-", "_")](Results(RESULTS)).verdict == word != "not testable"
    assert [line.endswith(": True") for line in committed["live-verdict"][1:]] == [True, True]


@pytest.mark.parametrize("lam", [0.05, 3.0])
def test_verdicts_on_kept_results_do_not_depend_on_the_readers_lam(lam: float) -> None:
    other = Run(CHAPTER, lam=lam, lam_last=lam, protocols=["sound"], **SMALL).all(until="claims", leave_out={"by-hand"})
    for cell in ("noise-nearest", "verdicts", "tuning-verdicts"):
        assert other.printed[cell] == small().printed[cell]
    assert other.names["first"] == other.names["last"] == f"λ = {lam:g}"  # a list of equal λ is no list


# --- inserted numbers ------------------------------------------------------------------------------------------


def test_every_inserted_number_is_there() -> None:
    small().assert_every_inserted_number_is_there()


def test_inserted_numbers_by_another_way() -> None:
    glued = small().glued
    for protocol in ("published", "corrected", "sound"):
        assert glued[f"{protocol}-last"] == pytest.approx(ratios(protocol, LIST, "s_8").mean())
        assert glued[f"{protocol}-error"] == pytest.approx(ratios(protocol, LIST, "rmse").mean())
        assert glued[f"{protocol}-fourth"] == pytest.approx(ratios(protocol, "λ = 0.1", "s_4").mean())
        most = max(abs(ratios(protocol, "λ = 0.1", f"s_{j}").mean()) for j in range(1, 9))
        assert glued[f"{protocol}-most"] == pytest.approx(most)
        read = reach(kept("lists"), protocol, feature=8, budgets=[0.01, 0.024, 0.05])["own"]
        assert [glued[f"{protocol}-at-{name}"] for name in ("low", "paper", "high")] == pytest.approx(list(read))
    at = noise.price_of_calm(kept("lists"), "published", feature=8, budgets=[0.024], resamples=500)
    low, high = at.set_index("feature").loc[8, ["low", "high"]]
    assert low < glued["published-at-paper"] < high < 0  # lists "reach" it, as the page says where it judges one
    assert glued["published-at-paper-low"] == pytest.approx(low, abs=0.03)
    assert glued["published-at-paper-high"] == pytest.approx(high, abs=0.03)
    assert glued["s_8-least"] == pytest.approx(min(ratios("published", LIST, "s_8")))
    assert glued["s_8-fell"] == sum(ratios("published", LIST, "s_8") < 0)
    assert glued["k_8-fell"] == sum(ratios("published", LIST, "k_8") < 0)
    x = load_housing("surrogate").test.x[:, 7].numpy()
    assert glued["last-noise"] == pytest.approx(np.abs(x).mean() / 2, rel=1e-5)
    assert glued["last-width"] == pytest.approx(x.max() - x.min(), rel=1e-5)
    live = small().names["runs"].table.query("protocol == 'published'").pivot(index="seed", columns="arm", values="s_8")
    assert glued["live-last"] == pytest.approx((live["λ = 0.3, λ₈ = 0.001"] / live["MSE"] - 1).mean())
    assert glued["kept-seeds"] == len(set(kept()["seed"]))


def test_by_hand_is_the_library() -> None:
    by_hand, library = re.findall(r"\d\.\d+", small().printed["by-hand"])
    assert by_hand == library


# --- the kept tables, and the sentences about them -------------------------------------------------------------


@pytest.mark.parametrize("name", ["sensitivity", "lists"])
def test_complete_and_with_provenance(name: str) -> None:
    about, table = json.loads((RESULTS / f"{name}.json").read_text()), kept(name)
    assert (
        KAGGLE_SHA256 in about["data"] and about["command"].startswith("make reproduce") and len(about["seeds"]) >= 10
    )
    for protocol, arms in EXPERIMENTS[name].arms.items():
        runs = table[table["protocol"] == protocol]
        assert len(runs) == (1 + len(arms)) * len(about["seeds"]) and runs.drop(columns=["lam", "lam_8"]).notna().all(
            axis=None
        )
    tries = {p: len(arms) for p, arms in EXPERIMENTS["lists"].arms.items()}
    assert set(tries.values()) == {6}  # "six lists each"


def test_the_kinds_of_noise_were_measured_on_the_kept_networks() -> None:
    about, study = json.loads((RESULTS / "noise.json").read_text()), kept("noise")
    assert KAGGLE_SHA256 in about["data"] and about["seeds"] == sorted(set(study["seed"]))
    assert set(study["kind"]) == set(noise.NOISES) and set(study["scale"]) == set(noise.SCALES)
    columns = [f"s_{j}" for j in range(1, 9)]
    same = study[(study["kind"] == "share of each value") & (study["scale"] == 0.5)]
    for protocol in ("published", "sound"):
        mse = kept()[(kept()["protocol"] == protocol) & (kept()["arm"] == "MSE")].set_index("seed")[columns]
        own = same[same["protocol"] == protocol].set_index("seed")[columns]
        np.testing.assert_allclose(own, mse.loc[own.index], rtol=0.25)  # rounding grows over 200 epochs
        np.testing.assert_allclose(own.mean(), mse.mean(), rtol=0.05)


def test_sentences_on_noise() -> None:
    published, sound = (noise.compare_noises(kept("noise"), p) for p in ("published", "sound"))
    assert published.index[0] == "share of each value" and published["scale"].iloc[0] == 0.5  # "about half of it"
    assert published["factor"].iloc[0] < 1.2
    assert published.loc["share of the feature's size", "factor"] < 1.5  # "comes near as well"
    for found in (published, sound):
        assert found.loc["share of its standard deviation", "factor"] > 2  # "does not, whatever its scale"
    assert sound["factor"].min() > published["factor"].min()  # "no kind comes as near"
    usual = kept("noise").query("protocol == 'published' and scale == 1 and kind == 'share of its standard deviation'")
    assert usual["s_8"].mean() < 1.5 * usual[[f"s_{j}" for j in range(1, 8)]].mean().max()  # "X₈ does not stand out"
    ends = published.loc["share of its standard deviation", [f"ratio_{j}" for j in range(1, 9)]]
    assert min(ends) < 0.5 and max(ends) > 2  # alt text: far above for some, far below for others
    longitude = load_housing("surrogate").test.x[:, 7]
    assert 0.5 * longitude.abs().mean() > 5 * (longitude.amax() - longitude.amin())  # "far out of California"


def test_sentences_on_the_first_table() -> None:
    most = {p: max(abs(ratios(p, "λ = 0.1", f"s_{j}").mean()) for j in range(1, 9)) for p in ("published", "sound")}
    running = max(abs(ratios("published", "λ = 0.1", f"s_running_{j}").mean()) for j in range(1, 9))
    assert small().glued["running-most"] == pytest.approx(running) and running < 0.05
    assert most["published"] < 0.05 < most["sound"]  # "next to nothing"
    printed = np.array(V2_SENSITIVITY["lam = 1e-1"]) / V2_SENSITIVITY["mse"] - 1
    assert (printed < 0).sum() == 6 and abs(printed).max() < 0.018
    for protocol in ("corrected", "sound"):  # "to one feature above all", and the figure's "about half"
        changes = [ratios(protocol, "λ = 0.1", f"s_{j}").mean() for j in range(1, 9)]
        assert np.argmin(changes) == 3 and -0.65 < changes[3] < -0.35
        assert min(changes[:3] + changes[4:]) > changes[3] / 2


def test_sentences_on_the_list() -> None:
    found = noise.sensitivity_changes(kept(), "published", LIST)
    assert found.loc[8, "low"] < 0 < found.loc[8, "high"]  # "no fall is shown"
    for column in ("s_8", "s_running_8"):
        assert min(ratios("published", LIST, column)) > 4.8998 / 8.42 - 1  # "beyond all of them"
    rises = ratios("published", LIST, "s_8") > 0
    assert rises.any() and max(ratios("published", LIST, "s_8")) > 0.2  # "rises in the others, furthest by"
    assert ratios("published", LIST, "k_8").mean() < -0.15 and (ratios("published", LIST, "k_8") < 0).all()
    for protocol in ("corrected", "sound"):
        assert -0.9 < ratios(protocol, LIST, "s_8").mean() < -0.75  # "about four fifths"
        assert ratios(protocol, LIST, "rmse").mean() > 0.024  # "for more error than the paper paid"
        assert ratios(protocol, LIST, "s_2").mean() > 0.1
    assert ratios("corrected", LIST, "s_7").mean() < -0.33
    sound = noise.sensitivity_changes(kept(), "sound", LIST)
    assert sound.loc[7, "low"] < 0 < sound.loc[7, "high"]  # "in the sound one that is not shown"
    told = QUERIES["noise_list"](Results(RESULTS)).numbers
    weak = QUERIES["noise_list_figures"](Results(RESULTS)).numbers
    for end in ("", "_running"):  # "a single run may give this fall and this price, in both read-outs"
        for metric, printed in (("s{}_8", 4.8998 / 8.42 - 1), ("rmse{}", 0.024)):
            change = ratios("published", LIST, metric.format(end))
            assert abs(printed - change.mean()) < 2 * change.std(ddof=1)
    assert weak.count("does not tell columns apart") == 2  # "but it may give other rows as well"
    assert told.endswith("Lists of the tuning study that do it: none.")  # "no single one of them is shown"


def test_sentences_on_the_mse_row() -> None:
    parts = QUERIES["noise_figures"](Results(RESULTS)).numbers.split("; of ")[1:]
    assert len(parts) == 2  # "so do the paper's other rows": recomputed; most of them, running
    assert parts[0].startswith("4 columns wrongly paired 4 pass in full") and "does not tell columns apart" in parts[1]
    mse = kept()[kept()["arm"] == "MSE"]
    assert (mse["s_8"] > mse[[f"s_{j}" for j in range(1, 8)]].max(axis=1)).all()


def test_sentences_on_tuning() -> None:
    at = {
        protocol: noise.price_of_calm(kept("lists"), protocol, feature=8, budgets=[0.01, 0.024, 0.05], resamples=500)
        for protocol in ("published", "corrected", "sound")
    }
    last = {p: found[found["feature"] == 8].set_index("budget") for p, found in at.items()}
    for found in last.values():  # every price is reached, and a higher one buys more
        assert found["change"].notna().all() and found["change"].is_monotonic_decreasing
    options: dict = {"feature": 8, "budgets": [0.024], "readout": "running", "resamples": 500}
    running = {p: noise.price_of_calm(kept("lists"), p, **options).set_index("feature").loc[8, "change"] for p in last}
    for protocol in ("corrected", "sound"):  # "with the true slope a fall like the paper's, at about its price"
        assert max(last[protocol].loc[0.024, "change"], running[protocol]) < -0.4
    assert running["published"] < -0.4 < -0.3 < last["published"].loc[0.024, "change"]  # "depends on the read-out"
    lows, highs = ([found.loc[0.024, side] for found in last.values()] for side in ("low", "high"))
    assert max(lows) < min(highs)  # "overlap"
    for protocol in ("corrected", "sound"):  # "at the two higher prices the true slope buys more on average"
        for budget in (0.024, 0.05):
            assert last[protocol].loc[budget, "change"] < last["published"].loc[budget, "change"]
    for found in at.values():
        others = found[(found["budget"] == 0.024) & (found["feature"] != 8)]["change"]
        assert others.min() < -0.05 and others.max() > 0.1
    for name in ("noise_tuning", "noise_moderate"):  # the summary's last sentence, and "no single list is shown"
        assert QUERIES[name](Results(RESULTS)).verdict == "fails"


# --- refusals and exercises ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lam": -1.0}, "lam = -1"),
        ({"lam": [0.1, 0.2]}, "lam has 2"),
        ({"lam_last": 0.0}, "lam_last = 0"),
        ({"alpha": 1.5}, "alpha = 1.5"),
        ({"source": "moon"}, "source must be one of"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    Run(CHAPTER, **change).assert_refused(message)


def test_exercises_run_and_grade() -> None:
    done = small()
    done.assert_exercises_begin_unanswered()
    closed = functools.partial(done.again, "exercise-1-answer", "my_sensitivity: float | None = None")
    assert closed(f"my_sensitivity = {6 * math.sqrt(2 / math.pi)}") == "Right.\n"
    assert closed("my_sensitivity = 6.0") == closed("my_sensitivity = 9.57") == "Not yet.\n"
    named = functools.partial(done.again, "exercise-2-answer", "my_feature: int | None = None")
    assert named("my_feature = 4") == "Right.\n" and named("my_feature = 8") == "Not yet.\n"
    at = done.names["solution_4"]
    nearby = reach(kept("lists"), "sound", feature=8, budgets=[at - 0.001, at])["own"]
    assert nearby.iloc[0] > -0.5 >= nearby.iloc[1]
    assert set(done.names["solution_3"].index) == set(done.names["names"])
