"""`make reproduce`: its files, its errors, killed at any moment, on a cluster, and what it must not reuse."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import joblib
import pandas as pd
import psutil
import pytest
from dask.distributed import Client, LocalCluster
from few_rows import few_rows
from forked import versions

from evidence.data import Housing
from evidence.relatives.compare import saved
from evidence.runs import arms
from evidence.runs import store as cells
from evidence.runs.arms import Arm, train_arms
from evidence.runs.experiments import planned, run_experiment
from evidence.runs.parallel import run_parallel
from evidence.runs.protocols import PROTOCOLS
from evidence.runs.store import CellStore
from tools import reproduce

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "LAI_DATA": "none"}
NUMBERS = ("rmse", "rmse_train", "rmse_noisy", "variance", "variance_val", "covariance", "rms_k")
COSTS = ("cpu_seconds", "peak_mb", "wall_seconds_of_last_call")


@pytest.fixture(scope="module")
def few() -> Housing:
    return few_rows()


@pytest.fixture
def on_few(few: Housing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "load_housing", lambda source, **options: few)


def kept(folder: Path) -> dict[str, tuple[int, dict]]:
    """When each finished run was written, and its content; fails on one that is not whole."""
    files = {file.name: (file.stat().st_mtime_ns, json.loads(file.read_text())) for file in folder.glob("*.json")}
    assert all({"settings", "result"} == set(content) for _, content in files.values())
    return files


def without_costs(folder: Path) -> list[str]:
    """What runs found, in a form to compare."""
    found = [content for _, content in kept(folder).values()]
    for content in found:
        del content["result"]["cost"]
    return sorted(json.dumps(content, sort_keys=True) for content in found)


def texts(folder: Path) -> dict[str, str]:
    """The files of a finished call, but for what it cost."""
    found = {file.name: file.read_text() for file in sorted(folder.iterdir())}
    for name in [name for name in found if name.endswith(".json")]:
        about = json.loads(found[name])
        found[name] = json.dumps({key: about[key] for key in about if key not in COSTS})
    return found


# --- end to end -----------------------------------------------------------------------------------------------

TABLES = ["smoothness", "sensitivity"]
TINY = ["--source", "surrogate", "--epochs", "1", "--pretrain-epochs", "1", "--seeds", "2", "--protocols", "sound"]


def call(folder: Path, *more: str) -> list[str]:
    places = ["--cells", str(folder / "cells"), "--out", str(folder / "out")]
    return [sys.executable, "-m", "tools.reproduce", *TABLES, *TINY, "--jobs", "2", *places, *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On one process; what is killed below, and Ray, have two."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(call(folder, "--jobs", "1"), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "left" in done.stderr and "smoothness_surrogate.csv" in done.stdout
    return folder


def test_every_table_has_three_files_with_all_runs(undisturbed: Path) -> None:
    out = undisturbed / "out"
    ends = {"smoothness": (".csv", "_curves.csv", ".json"), "sensitivity": (".csv", ".json")}
    assert {file.name for file in out.iterdir()} == {f"{name}_surrogate{end}" for name in TABLES for end in ends[name]}
    for name in TABLES:
        table = pd.read_csv(out / f"{name}_surrogate.csv")
        per_feature = [f"{m}_{j}" for m in ("k", "s", "k_last", "s_last") for j in range(1, 9)]
        whole = [f"{m}{end}" for m in NUMBERS for end in ("", "_last")]
        between = [f"{m}{end}" for m in ("rmse", "variance") for end in ("_running", "_exact_last")]
        measured = [*whole, *between, *per_feature]
        assert set(table.columns) == {"protocol", "arm", "lam", "lam_8", "alpha", "seed", *measured}
        names = ["MSE", *(arm.name for arm in planned(name)["sound"])]
        assert list(zip(table["arm"], table["seed"], strict=True)) == [(arm, seed) for arm in names for seed in (0, 1)]
        assert table[measured].notna().all(axis=None)


def test_curves_have_an_epoch_of_every_arm_in_a_row(undisturbed: Path) -> None:
    curves = pd.read_csv(undisturbed / "out" / "smoothness_surrogate_curves.csv")
    assert list(curves.columns) == ["protocol", "arm", "epoch", "mean", "low", "high"]
    assert len(curves) == 2 * (1 + len(planned("smoothness")["sound"])) and (curves["low"] <= curves["high"]).all()


def test_provenance_says_how_and_names_no_machine(undisturbed: Path) -> None:
    text = (undisturbed / "out" / "smoothness_surrogate.json").read_text()
    about = json.loads(text)
    assert about["command"] == f'make reproduce ARGS="{" ".join([*TABLES, *TINY])}"'
    assert about["seeds"] == [0, 1] and about["split_seed"] == "each seed its own" and "SHA-256" in about["data"]
    assert about["epochs"] == "1 of MSE, then 1 with each loss" and about["device"] in ("cpu", "cuda")
    assert about["arms"] == {"sound": [f"{a.name}, α = {a.alpha:g}" for a in planned("smoothness")["sound"]]}
    assert {"python", "pandas", "torch", "numpy", "lai"} == set(about["versions"]) and about["hardware"]
    seconds = about["cpu_seconds"]["sound"]
    assert list(seconds) == ["MSE", *(a.name for a in planned("smoothness")["sound"])] and min(seconds.values()) > 0
    assert about["peak_mb"] > 50 and about["wall_seconds_of_last_call"] >= 0
    assert about["tables_of_last_call"] == TABLES and str(undisturbed) not in text and os.uname().nodename not in text


def test_tables_share_runs(undisturbed: Path) -> None:
    plans = [planned(name)["sound"] for name in TABLES]
    union = {arms.MSE, *plans[0], *plans[1]}
    assert len(kept(undisturbed / "cells")) == 2 * len(union) < 2 * (2 + len(plans[0]) + len(plans[1]))
    first, second = (pd.read_csv(undisturbed / "out" / f"{name}_surrogate.csv") for name in TABLES)
    shared = second[second["arm"].isin(["MSE", "λ = 0.1"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(first[first["arm"].isin(["MSE", "λ = 0.1"])].reset_index(drop=True), shared)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "make reproduce"),
        (["--out", "x", "--seeds", "3"], 'make reproduce ARGS="--seeds 3"'),
        (["--out=x", "--cells", "3", "--seeds", "3"], 'make reproduce ARGS="--seeds 3"'),
        (["lists", "--dask", "tcp://10.0.0.1:8786", "--jobs=4"], 'make reproduce ARGS="lists"'),
    ],
)
def test_the_command_in_provenance_leaves_out_folders_and_machines(given: list[str], said: str) -> None:
    assert reproduce.command(given) == said


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ([], reproduce.RESULTS),
        (["lists", "--seeds", "0-9", "--jobs", "1"], reproduce.RESULTS),
        (["--split-seed", "2"], reproduce.OWN),
        (["--seeds", "3"], reproduce.OWN),
        (["--lam", "0.1"], reproduce.OWN),
        (["--epochs", "5"], reproduce.OWN),
        (["--protocols", "sound"], reproduce.OWN),
        (["--seeds", "3", "--out", "elsewhere"], Path("elsewhere")),
        (["relatives"], reproduce.RESULTS),
        (["relatives", "--tasks", "digits"], reproduce.OWN),
        (["relatives", "--methods", "Lai"], reproduce.OWN),
    ],
)
def test_only_the_books_own_tables_go_to_the_book(
    given: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []
    monkeypatch.setattr(reproduce, "reproduce", lambda options: found.append(options.out))
    monkeypatch.setitem(reproduce.STUDIES, "relatives", lambda options: found.append(options.out))
    reproduce.main(given)
    assert found == [folder]


@pytest.fixture
def short_relatives(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The comparison in three steps of training."""
    monkeypatch.setattr(reproduce, "relatives_study", partial(reproduce.relatives_study, steps=3))
    return ["relatives", "--tasks", "friedman 200", "--methods", "Lai", "--seeds", "2"]


def test_the_comparison_is_a_table_like_the_others(tmp_path: Path, short_relatives: list[str]) -> None:
    """And goes on where it was."""
    places = ["--jobs", "1", "--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    reproduce.main([*short_relatives, *places])
    first, pieces = texts(tmp_path / "out"), kept(tmp_path / "cells")
    assert set(first) == {
        f"relatives{of}{units}.{kind}" for of in ("", "_fronts") for units in ("", "_units") for kind in ("csv", "json")
    }
    about = json.loads(first["relatives.json"])
    assert about["command"] == "make reproduce ARGS=\"relatives --tasks 'friedman 200' --methods Lai --seeds 2\""
    assert about["seeds"] == [0, 1] and list(about["data"]) == ["friedman 200"] and str(tmp_path) not in str(first)
    table, others = (pd.read_csv(tmp_path / "out" / f"relatives{units}.csv") for units in ("", "_units"))
    assert set(table["units"]) == {"standardised"} and set(others["units"]) == {"free"}
    assert saved(tmp_path / "out").equals(pd.concat([table, others], ignore_index=True))
    assert set(table["method"]) == {"MSE", "Lai"} and set(table["seed"]) == {0, 1}
    reproduce.main([*short_relatives, *places])
    assert texts(tmp_path / "out") == first and kept(tmp_path / "cells") == pieces


def test_the_row_in_the_statistics_is_a_table_too(
    tmp_path: Path, few: Housing, on_few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "row_statistics", partial(reproduce.row_statistics, epochs=1))
    reproduce.main(["row_statistics", "--seeds", "2", "--jobs", "1", "--out", str(tmp_path)])
    assert len(pd.read_csv(tmp_path / "row_statistics.csv")) == 4
    about = json.loads((tmp_path / "row_statistics.json").read_text())
    assert about["command"] == 'make reproduce ARGS="row_statistics --seeds 2"' and about["seeds"] == [0, 1]


def test_the_explorer_s_sweep_is_a_table_too(
    tmp_path: Path, few: Housing, on_few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"pretrain_epochs": 1, "epochs": 1, "lams": [0.1], "alphas": [1.0], "protocols": ["sound"]}
    monkeypatch.setattr(reproduce, "explorer_sweep", partial(reproduce.explorer_sweep, **short))
    places = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path)]
    reproduce.main(["explorer", "--seeds", "2", "--jobs", "1", *places])
    table, curves = (pd.read_csv(tmp_path / f"explorer{end}.csv") for end in ("", "_curves"))
    assert len(table) == 4 and set(table["seed"]) == {0, 1}
    assert (curves.groupby("alpha").size() == curves["x"].nunique()).all() and set(curves["alpha"]) == {0, 1}
    about = json.loads((tmp_path / "explorer.json").read_text())
    assert about["command"] == 'make reproduce ARGS="explorer --seeds 2"' and about["seeds"] == [0, 1]


def test_the_estimators_are_a_table_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"tasks": ["diabetes"], "estimators": ["MLPRegressor", "LaiRegressor, MSE"], "epochs": 1}
    monkeypatch.setattr(reproduce, "estimators_study", partial(reproduce.estimators_study, **short))
    reproduce.main(
        ["estimators", "--seeds", "2", "--jobs", "1", "--cells", str(tmp_path / "cells"), "--out", str(tmp_path)]
    )
    assert len(pd.read_csv(tmp_path / "estimators.csv")) == 4
    about = json.loads((tmp_path / "estimators.json").read_text())
    assert about["command"] == 'make reproduce ARGS="estimators --seeds 2"' and list(about["data"]) == ["diabetes"]


def test_both_kinds_of_table_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(reproduce, "reproduce", lambda options: made.append("the paper's"))
    monkeypatch.setitem(reproduce.STUDIES, "relatives", lambda options: made.append("relatives"))
    reproduce.main(["strength", "relatives"])
    reproduce.main(["strength"])
    assert made == ["the paper's", "relatives", "the paper's"]


def test_no_more_processes_than_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    plain = joblib.Parallel
    monkeypatch.setattr(joblib, "Parallel", lambda n_jobs, **more: asked.append(n_jobs) or plain(n_jobs, **more))
    for n_jobs in (None, 1, 2, 12, 1000):
        assert run_parallel(pow, [(2, 3), (3, 2)], n_jobs=n_jobs) == [8, 9]
    assert run_parallel(pow, [], n_jobs=12) == []
    assert asked == [None, 1, 2, 2, 2, 1]


# --- errors ---------------------------------------------------------------------------------------------------


def fails(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(arguments)
    assert stopped.value.code not in (0, None)
    return f"{stopped.value.code} {capsys.readouterr().err}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "0"], "--seeds: '0': give a number, a range such as 3-5"),
        (["--seeds", "five"], "--seeds: 'five': give a number"),
        (["--seeds", "5-3"], "--seeds: '5-3': give a number"),
        (["--seeds", "1,1"], "--seeds: '1,1': give a number"),
        (["--seeds", "-2"], "--seeds: '-2': give a number"),
        (["--seeds", "3000000000"], "--seeds: 3000000000: seeds must be from 0 to 1,000,000"),
        (["--seeds", "0-99999999999"], "--seeds: 0-99999999999: seeds must be from 0 to 1,000,000"),
        (["--seeds", "0,1000001"], "--seeds: 0,1000001: seeds must be from 0 to 1,000,000"),
        (["strenght"], "error: table = 'strenght': must be one of strength, sampling"),
        (["--source", "abacus"], "source must be one of auto, kaggle"),
        (["--source", "kaggle"], "LAI_DATA"),
        (["--split-seed", "-1"], "--split-seed: -1: must be a whole number from 0 to 1,000,000"),
        (["--split-seed", "1" + "0" * 23], "0: must be a whole number from 0 to 1,000,000"),
        (["--max-occupancy", "nan"], "--max-occupancy: nan: must be between 1e-06 and 1e+06 in size"),
        (["--protocols", "best"], "--protocols: invalid choice: 'best'"),
        (["--lam", "-1"], "--lam: -1: λ must be from 1e-12 to 1e+12"),
        (["--lam", "nan"], "--lam: nan: λ must be from"),
        (["--lam", "1e-300"], "--lam: 1e-300: λ must be from"),
        (["--lam", "0.1", "1e30"], "--lam: 1e30: λ must be from"),
        (["--lam", "1e300"], "--lam: 1e300: λ must be from"),
        (["--lam", "much"], "--lam: much: a number is needed"),
        (["--lam", "0.1", "0.1"], "error: --lam = [0.1, 0.1]: give each λ once"),
        (["--lam", "0.1", "0.10000001"], "λ = 0.1 is there twice"),
        (["--alpha", "2"], "--alpha: 2: must be 0 or from 1e-06 to 1"),
        (["--alpha", "1e-300"], "--alpha: 1e-300: must be 0 or from 1e-06 to 1"),
        (["--epochs", "-1"], "--epochs: -1: must be a whole number from 1 to 1,000,000"),
        (["--epochs", "0"], "--epochs: 0: must be a whole number from 1"),
        (["--epochs", "10000000000"], "--epochs: 10000000000: must be a whole number from 1"),
        (["--pretrain-epochs", "-1"], "--pretrain-epochs: -1: must be a whole number from 0"),
        (["--pretrain-epochs", "10000000000"], "--pretrain-epochs: 10000000000: must be a whole number from 0"),
        (["--device", "abacus"], "error: device = 'abacus': must be 'auto'"),
        (["--jobs", "0"], "--jobs: 0: must be a whole number from 1 to 1,000"),
        (["--jobs", "-1"], "--jobs: -1: must be a whole number"),
        (["--jobs", "99999999999"], "--jobs: 99999999999: must be a whole number"),
        (["--dask", "tcp://127.0.0.1:9"], "error: --dask = 'tcp://127.0.0.1:9': no scheduler answers there"),
        (["--dask", "no/such"], "error: --dask = 'no/such': no scheduler answers there"),
        (["--dask", "local", "--ray", "local"], "--ray: not allowed with argument --dask"),
        (["--cells", __file__], "test_reproduce.py': must be a folder"),
        (["--out", __file__], "test_reproduce.py': must be a folder"),
        (["relatives", "row_statistics", "--alpha", "1"], "error: --alpha: is of no use to relatives, row_statistics"),
        (["relatives", "--lam", "0.1"], "error: --lam: is of no use to relatives"),
        (["lists", "--tasks", "digits"], "error: --tasks: is of no use to lists"),
        (["relatives", "--tasks", "abacus"], "--tasks: invalid choice: 'abacus'"),
        (["--sead", "2"], "unrecognized arguments: --sead"),
        (["--seed", "2"], "unrecognized arguments: --seed"),
    ],
    ids=lambda given: "_".join(map(str, given)) if isinstance(given, list) else "",
)
def test_a_wrong_option_is_named_before_anything_is_done(
    given: list[str],
    message: str,
    tmp_path: Path,
    few: Housing,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("LAI_DATA", "none")
    if given[0] not in ("--source", "--split-seed"):
        monkeypatch.setattr(reproduce, "load_housing", lambda source, **options: few)
    monkeypatch.setattr(arms, "run_parallel", None)
    places = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        said = fails([*places, *given], capsys)
    assert message in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_without_ray_there_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture, on_few: None) -> None:
    try:
        import ray  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        assert fails(["--ray", "local", "--out", str(tmp_path)], capsys).split("\n")[0].strip() == (
            "error: --ray: Ray is not installed here; pip install ray"
        )
    else:
        pytest.skip("Ray is installed here")


def test_a_run_that_fails_leaves_the_finished_ones_and_no_table(
    tmp_path: Path, on_few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    train = arms._run

    def run(job: Any) -> Any:
        if job.cells[0].seed == 1:
            raise FloatingPointError("weights are not finite after epoch 1")
        return train(job)

    monkeypatch.setattr(arms, "_run", run)
    options = [*TABLES, *TINY, "--jobs", "1", "--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    assert "error: weights are not finite after epoch 1" in fails(options, capsys)
    assert len(kept(tmp_path / "cells")) == 7 and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_tables_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = versions()
    reproduce.write(tmp_path, "table", old, {"seeds": 1}, curves=True)
    before = texts(tmp_path)
    calls = iter(range(9))

    def full(handle: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        reproduce.write(tmp_path, "table", new, {"seeds": 2}, curves=True)
    assert texts(tmp_path) == before


def test_another_split_has_tables_of_its_own(tmp_path: Path, on_few: None) -> None:
    places = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    reproduce.main(["sensitivity", *TINY, "--seeds", "1", "--jobs", "1", "--split-seed", "3", *places])
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "sensitivity_surrogate_split3.csv",
        "sensitivity_surrogate_split3.json",
    }


def test_workers_that_keep_their_runs_elsewhere_are_noticed(
    tmp_path: Path, on_few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(CellStore, "put", lambda self, settings, result: None)
    options = ["smoothness", *TINY, "--jobs", "1", "--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out")]
    assert "all workers must share it" in fails(options, capsys)
    assert not (tmp_path / "out").exists()


# --- killed ---------------------------------------------------------------------------------------------------


class Forked:
    """Calls of the tool in children of a process that has torch loaded, one at a time."""

    def __init__(self, process: subprocess.Popen) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.into, self.out = process.stdin, process.stdout
        self.running = False

    def start(self, *arguments: str) -> None:
        if self.running:  # a test failed and left it
            self.end("kill")
        self.into.write(json.dumps(arguments) + "\n")
        self.into.flush()
        assert "child" in json.loads(self.out.readline())
        self.running = True

    def end(self, how: str) -> int:
        """The exit status after "kill" or "wait"."""
        self.into.write(how + "\n")
        self.into.flush()
        self.running = False
        return json.loads(self.out.readline())["status"]


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    command = [sys.executable, str(Path(__file__).parents[1] / "forked.py")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes) as process:
        calls = Forked(process)
        yield calls
        if calls.running:
            calls.end("kill")
        calls.into.close()
        assert process.wait(60) == 0


@pytest.fixture
def moments() -> random.Random:
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments from seed {seed}")
    return random.Random(seed)


def test_a_worker_that_begins_when_its_parent_was_killed_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as parent:
        parent.wait()
    late = f"import time; from tools.reproduce import end_with; end_with({parent.pid}); time.sleep(300)"
    assert subprocess.run([sys.executable, "-c", late], cwd=ROOT, env=ENVIRONMENT, timeout=200).returncode == 1


@pytest.mark.long
def test_killed_at_twenty_random_moments(forked: Forked, tmp_path: Path, moments: random.Random) -> None:
    """Finished runs stay and are not redone, no table is half there, and the end is that of a call left alone."""

    def arguments(folder: Path) -> list[str]:
        places = ["--cells", str(folder / "cells"), "--out", str(folder / "out")]
        own = ["--protocols", "published", "sound", "--lam", "0.1", "--seeds", "10", "--jobs", "1"]
        return ["reproduce", "smoothness", "lists", *TINY[:6], *own, *places]

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    started = time.monotonic()
    forked.start(*arguments(alone))
    assert forked.end("wait") == 0
    reach = (time.monotonic() - started) / 5
    want = texts(alone / "out")
    (killed / "out").mkdir(parents=True)
    before: dict[str, tuple[int, dict]] = {}
    statuses: list[int] = []
    while statuses.count(-signal.SIGKILL) < 20:
        assert len(statuses) < 100, "it ends before it can be killed"
        forked.start(*arguments(killed))
        # Of the first kills most fall into training, of the last into reading the runs and writing the tables.
        time.sleep(moments.uniform(0, reach))
        statuses.append(forked.end("kill"))
        assert statuses[-1] in (0, -signal.SIGKILL)
        after = kept(killed / "cells")
        assert before.items() <= after.items(), "a finished run was redone"
        reach *= 0.7 if statuses[-1] == 0 else 1.3 if after == before else 1
        before = after
        found = {name: text for name, text in texts(killed / "out").items() if not name.endswith(".partial")}
        assert found.items() <= want.items()
    assert before, "no kill came after a finished run"
    forked.start(*arguments(killed))
    assert forked.end("wait") == 0
    assert texts(killed / "out") == want
    assert before.items() <= kept(killed / "cells").items()
    assert without_costs(killed / "cells") == without_costs(alone / "cells")


@pytest.mark.long
def test_killed_while_writing(forked: Forked, tmp_path: Path, moments: random.Random) -> None:
    """Nothing but writing, so that every kill falls into it."""
    whole = []
    for n, runs in enumerate(versions(), 1):
        reproduce.write(tmp_path / str(n), "table", runs, {"seeds": [n] * 2000}, curves=True)
        whole.append({file.name: file.read_bytes() for file in (tmp_path / str(n)).iterdir()})
    folder = tmp_path / "killed"
    for kill in range(20):
        what, pattern = ("write", "table.csv") if kill % 2 else ("keep", "*.json")
        for file in folder.glob(pattern):
            file.unlink()
        forked.start(what, str(folder))
        limit = time.monotonic() + 60
        while not list(folder.glob(pattern)) and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
        assert forked.end("kill") == -signal.SIGKILL
        if what == "write":
            for name in whole[0]:
                assert (folder / name).read_bytes() in [version[name] for version in whole], name
        else:
            ((_, content),) = kept(folder).values()
            assert content["result"] in ([1] * 20_000, [2] * 20_000)
        for file in folder.glob("*.partial"):
            file.unlink()


@pytest.mark.long
def test_killed_alone_its_workers_end(undisturbed: Path, tmp_path: Path, moments: random.Random) -> None:
    """The real call on two processes, killed soon after its first run is kept; then the tables of one process."""
    environment = {**ENVIRONMENT, "JOBLIB_TEMP_FOLDER": str(tmp_path)}
    process = subprocess.Popen(
        call(tmp_path), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    limit = time.monotonic() + 300
    while process.poll() is None and not list((tmp_path / "cells").glob("*.json")) and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.3))
    assert process.poll() is None, "it ended before it could be killed"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(workers) >= 2 and psutil.wait_procs(workers, timeout=60)[1] == []
    before = kept(tmp_path / "cells")
    assert before
    again = subprocess.run(call(tmp_path), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert before.items() <= kept(tmp_path / "cells").items()
    assert without_costs(tmp_path / "cells") == without_costs(undisturbed / "cells")
    assert texts(tmp_path / "out") == texts(undisturbed / "out")


# --- on a cluster ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as started:
        yield started


@pytest.mark.long
def test_two_dask_workers_give_the_same_bits(
    cluster: LocalCluster, few: Housing, on_few: None, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = ["smoothness", "sensitivity", *TINY[:-2]]  # all protocols
    for name, more in (("here", ["--jobs", "1"]), ("dask", ["--dask", cluster.scheduler_address])):
        places = ["--cells", str(tmp_path / name / "cells"), "--out", str(tmp_path / name / "out")]
        reproduce.main([*options, *more, *places])
    here, there = (texts(tmp_path / name / "out") for name in ("here", "dask"))
    for name in here:
        if name.endswith(".csv"):
            assert here[name] == there[name]
    assert without_costs(tmp_path / "here" / "cells") == without_costs(tmp_path / "dask" / "cells")
    about = json.loads(there["smoothness_surrogate.json"])
    assert about["hardware"].startswith("a Dask cluster") and "tcp://" not in there["smoothness_surrogate.json"]

    chosen: dict[str, Any] = {"protocols": ["published", "sound"], "seeds": range(2), "device": "cpu"}
    chosen |= {"pretrain_epochs": 1, "epochs": 1}
    alone = run_experiment(few, "smoothness", **chosen)
    with Client(cluster), joblib.parallel_config(backend="dask"):
        spread = run_experiment(few, "smoothness", **chosen)
    for one, two in zip(alone[:2], spread[:2], strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert (spread.cost["peak_mb"] > 0).all() and len(spread.cost) == len(alone.cost)


@pytest.mark.long
def test_the_comparison_on_a_cluster(cluster: LocalCluster, short_relatives: list[str], tmp_path: Path) -> None:
    for name, more in (("here", ["--jobs", "1"]), ("dask", ["--dask", cluster.scheduler_address])):
        places = ["--cells", str(tmp_path / name / "cells"), "--out", str(tmp_path / name / "out")]
        reproduce.main([*short_relatives, *more, *places])
    here, there = (texts(tmp_path / name / "out") for name in ("here", "dask"))
    assert all(here[name] == there[name] for name in here if name.endswith(".csv"))
    assert json.loads(there["relatives.json"])["hardware"].startswith("a Dask cluster")


def test_ray_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is optional and large")
    for name, more in (("here", []), ("ray", ["--ray", "local"])):
        done = subprocess.run(call(tmp_path / name, *more), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert without_costs(tmp_path / "here" / "cells") == without_costs(tmp_path / "ray" / "cells")


# --- what is not reused ---------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {"seeds": [0], "pretrain_epochs": 1, "epochs": 1, "device": "cpu"}
ARM = Arm(0.1)
CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Housing], dict[str, Any]]] = {
    "lam": lambda patch, data: {"arms": {"sound": [Arm(0.2)]}},
    "a list of lam": lambda patch, data: {"arms": {"sound": [Arm((0.1,) * 8)]}},
    "alpha": lambda patch, data: {"arms": {"sound": [Arm(0.1, 0.5)]}},
    "seed": lambda patch, data: {"seeds": [1]},
    "epochs": lambda patch, data: {"epochs": 2},
    "pretrain_epochs": lambda patch, data: {"pretrain_epochs": 0},
    "both, with the same sum": lambda patch, data: {"pretrain_epochs": 0, "epochs": 2},
    "data": lambda patch, data: {"data": dataclasses.replace(data, sha256="0" * 64)},
    "split": lambda patch, data: {"data": dataclasses.replace(data, val=data.val._replace(x=data.val.x + 1))},
    "step size": lambda patch, data: changed_protocol(patch, lr=2e-3),
    "slope": lambda patch, data: changed_protocol(patch, slope="true"),
    "library": lambda patch, data: changed_fingerprint(patch, "lai"),
    "torch": lambda patch, data: changed_fingerprint(patch, "torch"),
    "numpy": lambda patch, data: changed_fingerprint(patch, "numpy"),
}


def changed_protocol(patch: pytest.MonkeyPatch, **change: Any) -> dict[str, Any]:
    patch.setitem(PROTOCOLS, "sound", dataclasses.replace(PROTOCOLS["sound"], **change))
    return {}


def changed_fingerprint(patch: pytest.MonkeyPatch, key: str) -> dict[str, Any]:
    changed = {**cells.fingerprint(), key: "other"}
    patch.setattr(cells, "fingerprint", lambda: changed)
    return {}


@pytest.fixture(scope="module")
def finished(few: Housing, tmp_path_factory: pytest.TempPathFactory) -> CellStore:
    store = CellStore(tmp_path_factory.mktemp("finished"))
    train_arms(few, {"sound": [ARM]}, store=store, **SETTINGS)
    return store


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_a_change_never_meets_an_old_run(
    change: str | None, finished: CellStore, few: Housing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Computed(Exception):
        pass

    def run(job: Any) -> None:
        raise Computed

    monkeypatch.setattr(arms, "_run", run)
    call: dict[str, Any] = {"data": few, "arms": {"sound": [ARM]}, "store": finished, **SETTINGS}
    if change is None:
        assert len(train_arms(**call).table) == 2
    else:
        call |= CHANGES[change](monkeypatch, few)
        with pytest.raises(Computed):
            train_arms(**call)


def test_a_changed_source_file_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cells.fingerprint()
    for name in cells.IN_RESULTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(cells, "__file__", str(tmp_path / "evidence" / "runs" / "store.py"))
    assert cells.fingerprint.__wrapped__() == before
    for name in cells.IN_RESULTS:
        source = tmp_path / name
        text = source.read_text()
        source.write_text(f"# a word changes no result\n{text}")
        assert cells.fingerprint.__wrapped__() == before
        source.write_text(f"{text}\nchanged = 1\n")
        changed = cells.fingerprint.__wrapped__()
        assert {key for key in changed if changed[key] != before[key]} == {"lai"}
        source.write_text(text)
