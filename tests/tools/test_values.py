"""What the command line refuses, for every parameter of every chapter, without a kernel."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from evidence.data import load_housing
from evidence.limits import LAM_ENDS
from tools import build, chapter, notebook, placement, reproduce, rounding, search, values

ROOT = Path(__file__).parents[2]
CHAPTERS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
READ = functools.cache(notebook.read)  # for the same fourteen files thousands of times
PARAMETERS = [
    pytest.param(stem, parameter, id=f"{stem}-{parameter.name}")
    for stem, path in CHAPTERS.items()
    for parameter in notebook.parameters(READ(path)).values()
]
LAMS = [case for case in PARAMETERS if case.values[1].name.startswith("lam")]
LISTS = [case for case in PARAMETERS if case.values[1].annotation.startswith("list")]
INJECTED = [
    '"; touch pwned; echo "',
    "$(touch pwned)",
    "__import__('os')",
    "../../x",
    "[0.1",
    "{a: 1}",
    "!!python/none",
    "\x1b[1m",
]
NEVER = ["", "nan", "inf", "-inf", "-1e300", "1e300", "1e30", "1e-300", "1e-30", "0,1", "[]", "[[0.1]]", "[nan]", "words", *INJECTED]  # fmt: skip


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "read", READ)


def read(stem: str, name: str, text: str) -> Any:
    return values.parse(notebook.parameters(READ(CHAPTERS[stem]))[name], text)


def assert_refused(stem: str, name: str, text: str) -> None:
    """One line that names the chapter, the parameter, the value and the rule."""
    with pytest.raises(notebook.ToolError) as refusal:
        values.read_values(CHAPTERS[stem], None, f"{name}={_quoted(text)}")
    said = str(refusal.value)
    assert said.startswith(f"{stem}: {name}=") and "\n" not in said and "\x1b" not in said
    assert re.search(
        r"must be|is needed|are needed|needs at least|must not|not a list|each value once|at most", said
    ), said
    items = [item for item in re.split(r"[\[\], ]+", text.replace("\x1b", "")) if item] or ["(empty)", "[]"]
    assert any(item[:50] in said for item in items), said


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


@pytest.mark.parametrize(("stem", "parameter"), PARAMETERS)
def test_what_no_parameter_may_be_is_refused_before_a_kernel(stem: str, parameter: notebook.Parameter) -> None:
    for text in NEVER:
        assert_refused(stem, parameter.name, text)


@pytest.mark.parametrize(("stem", "parameter"), PARAMETERS)
def test_a_chapters_own_value_is_accepted(stem: str, parameter: notebook.Parameter) -> None:
    text = str(parameter.default).replace("'", "")
    assert read(stem, parameter.name, text) == parameter.default


@pytest.mark.parametrize(("stem", "parameter"), LAMS)
def test_lam_goes_as_far_as_chapters_compute(stem: str, parameter: notebook.Parameter) -> None:
    low, high = LAM_ENDS
    for end, beyond in ((low, low / 2), (high, high * 2)):
        assert read(stem, parameter.name, f"{end!r}") in (end, [end])
        assert_refused(stem, parameter.name, f"{beyond!r}")
    for text in ("0", "-1", "-0.0", "[0.1,0]", "[0.1,x]", "[0.1,-1]"):
        assert_refused(stem, parameter.name, text)


@pytest.mark.parametrize(("stem", "parameter"), LISTS)
def test_a_list_may_be_too_long(stem: str, parameter: notebook.Parameter) -> None:
    numbers = [0.1 + n / 100 for n in range(values.MOST_LAMS + 1)]
    assert_refused(stem, parameter.name, str(numbers))
    assert_refused(stem, parameter.name, str([numbers[0]] * 3000))


COUNTS = [case for case in PARAMETERS if case.values[1].annotation == "int"]


@pytest.mark.parametrize(("stem", "parameter"), COUNTS)
def test_a_count_has_the_least_that_its_comment_says(stem: str, parameter: notebook.Parameter) -> None:
    said = re.search(r"(\d+)\D{0,15} or more|at least (\d+)", parameter.comment)
    least = int(said[1] or said[2]) if said else 0 if parameter.name in ("seed", "split_seed") else 1
    assert read(stem, parameter.name, f"{least}") == least
    for text in (f"{least - 1}", "1.5", "1e3", "10000000000", "1" + "0" * 400):
        assert_refused(stem, parameter.name, text)


@pytest.mark.parametrize(
    ("stem", "name", "text"),
    [
        ("60_lai_training", "alpha", "1.5"),
        ("60_lai_training", "alphas", "[0.5,-1]"),
        ("40_high_dimension", "l1_ratio", "1.01"),
        ("40_high_dimension", "house", "-1"),
        ("10_linear_geometry", "e", "0"),
        ("51_coupled_samples", "lr", "0"),
        ("51_coupled_samples", "lr", "0.2"),
        ("51_coupled_samples", "lr", "1e6"),
        ("61_strength_map", "n_jobs", "1001"),
        ("72_experiments_strength", "n_jobs", "1000000"),
        ("80_relatives", "beta", "0"),
        ("80_relatives", "beta", "-1"),
        ("50_limitations", "noise", "-1"),
        ("00_losses_and_regularization", "beta", "0"),
        ("71_experiments_sensitivity", "protocols", "[sound,nope]"),
        ("71_experiments_sensitivity", "protocols", "[sound,sound]"),
        ("71_experiments_sensitivity", "device", "tpu"),
        ("72_experiments_strength", "feature", "Income"),
        ("70_experiments_smoothness", "source", "Kaggle"),
    ],
)
def test_rules_of_single_parameters(stem: str, name: str, text: str) -> None:
    assert_refused(stem, name, text)


@pytest.mark.parametrize("text", ["0", "-1", "99999999999", "words", ""])
@pytest.mark.parametrize(
    ("main", "words"),
    [
        (placement.main, ["--seeds"]),
        (placement.main, ["--jobs"]),
        (rounding.main, ["--seeds"]),
        (search.main, ["recipes", "--jobs"]),
    ],
)
def test_the_tools_that_measure_hold_to_the_same_rules(
    main: Callable[[list[str]], None], words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*words[:-1], f"{words[-1]}={text}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {words[-1]}: " in said and re.search("must be|is needed|give a number", said)


def test_words_in_lists() -> None:
    params = "protocols=[sound,published] seeds=2"
    assert values.read_values(CHAPTERS["72_experiments_strength"], None, params) == {
        "protocols": ["sound", "published"],
        "seeds": 2,
    }


@pytest.mark.parametrize("text", ["[0.1,0.2]", "0", "nan", "1e-300", "", "x", "0,1", *INJECTED])
def test_a_book_has_one_lam(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(build, "build", lambda _: pytest.fail("the build has begun"))
    assert build.main([f"--lam={text}"]) == 1
    assert re.match(r"\nerror: lam=.*(needed|must be)[^\n]*\n\n$", capsys.readouterr().err)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "65536", "99999", "8000.5", "１２", "port", '8000"; touch pwned; echo "']
)
def test_a_port_is_a_number_from_1_to_65535(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([f"--serve={text}"]) == 1
    assert re.match(r"\nerror: PORT=.*must be a whole number from 1 to 65535\n\n$", capsys.readouterr().err)


@pytest.mark.parametrize("stem", CHAPTERS)
def test_data_that_is_not_there_is_told_first(
    stem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By the chapters that load it, and only by them."""
    started: list[Path] = []
    monkeypatch.setattr(chapter, "rerun", lambda path, *_: started.append(path) or path)
    monkeypatch.setenv("LAI_DATA", str(tmp_path / "nowhere"))
    loads = "load_housing" in CHAPTERS[stem].read_text(encoding="utf-8")
    assert chapter.main(["--name", stem]) == (1 if loads else 0)
    assert bool(started) != loads and ("LAI_DATA=" in capsys.readouterr().err) == loads
    if loads and "source" in (p.values[1].name for p in PARAMETERS if p.values[0] == stem):
        assert chapter.main(["--name", stem, "--params", "source=surrogate"]) == 0


def test_a_home_that_is_not_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(chapter, "rerun", lambda *_: pytest.fail("a kernel was started"))
    monkeypatch.setenv("LAI_DATA", "~nosuchuser/x")
    assert chapter.main(["--name", "experiments_smoothness"]) == 1
    assert "LAI_DATA=~nosuchuser/x: no home folder" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="LAI_DATA=~nosuchuser/x: no home folder"):
        load_housing("kaggle")


def test_a_measurement_of_other_seeds_leaves_the_books_tables_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.DataFrame({"seed": [3]})
    monkeypatch.setattr(placement, "STUDIES", {"placement": (lambda *_, **__: table, "")})
    monkeypatch.setattr(placement, "of_seed", lambda _: SimpleNamespace(provenance={}))
    monkeypatch.setattr(rounding, "rounding", lambda *_: table)
    monkeypatch.setattr(rounding, "load_housing", lambda *_, **__: SimpleNamespace(provenance={}))
    for tool in (placement, rounding):
        name = tool.__name__.rpartition(".")[2]
        own = tmp_path / name / "own"
        monkeypatch.setattr(reproduce, "OWN", own)
        monkeypatch.setattr(reproduce, "RESULTS", tmp_path / name / "book")
        tool.main(["--seeds", "3-5"])
        assert json.loads((own / f"{name}.json").read_text())["command"] == f"python -m tools.{name} --seeds 3-5"
        assert not (own.parent / "book").exists()
        tool.main([])
        assert (own.parent / "book" / f"{name}.csv").exists()
