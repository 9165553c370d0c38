"""How a query reads its tables, and how words about views become one verdict."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, flat, rising, study, table
from scipy import stats

from evidence.ledger.queries import QUERIES
from evidence.ledger.views import Part, Results, below, combine, some_of, told


def test_a_query_judges_every_protocol_and_read_out_by_itself(tmp_path: Path) -> None:
    good = table(rising, falling, protocols=("sound",))
    bad = table(flat, lambda lam: -falling(lam), protocols=("published",))
    assert ask(tmp_path, "v2_var_falls", smoothness=pd.concat([good, bad])) == "holds under conditions"
    said = QUERIES["v2_var_falls"](Results(tmp_path))
    assert said.seeds == 10 and "Sound: holds" in said.numbers
    assert "Published, averaged: fails" in said.numbers and "Published, last step: fails" in said.numbers


@pytest.mark.parametrize(
    "name", ["trade", "max_accuracy", "generalise", "variance_measures", "shrinking", "shrinking_slopes"]
)
def test_claims_of_both_versions_read_both_tables(tmp_path: Path, name: str) -> None:
    both = {
        "smoothness": table(rising, falling),
        "strength": table(flat, flat, alpha=1.0, lams=(*LAMS, 1e-4), noise=0.001),
    }
    if "shrinking" in name:
        study().to_csv(tmp_path / "shrinking.csv", index=False)
    assert ask(tmp_path, name, smoothness=both["smoothness"]) in ("holds", "fails", "holds under conditions")
    alone = QUERIES[name](Results(tmp_path))
    assert "V1: not tested (strength.csv is not among the results)." in alone.numbers
    ask(tmp_path, name, **both)
    said = QUERIES[name](Results(tmp_path))
    asks_slopes = name in ("variance_measures", "shrinking_slopes")  # which no running statistics have
    assert all(f"Sound, {version}: " in said.numbers for version in ("v1", "v2"))
    assert all((f"Published, last step, {version}: " in said.numbers) != asks_slopes for version in ("v1", "v2"))
    if name in ("trade", "max_accuracy", "variance_measures"):
        assert said.verdict == "holds under conditions" and said.views != alone.views
    (tmp_path / "smoothness.csv").unlink()
    (tmp_path / "strength.csv").unlink()
    assert QUERIES[name](Results(tmp_path)).verdict == "not tested"


def test_without_its_table_a_query_says_so(tmp_path: Path) -> None:
    for name in ("v1_adheres", "v1_converged", "noise_list"):
        judgement = QUERIES[name](Results(tmp_path))
        assert judgement.verdict == "not tested" and ".csv is not among the results" in judgement.numbers


def test_two_runs_of_one_seed_are_an_error(tmp_path: Path) -> None:
    frame = table(rising, falling)
    with pytest.raises(ValueError, match="more than once"):
        ask(tmp_path, "v2_adheres", smoothness=pd.concat([frame, frame.assign(rmse=frame["rmse"] + 1)]))


def test_arms_with_other_seeds_are_not_paired(tmp_path: Path) -> None:
    frame = table(rising, falling)
    frame.loc[frame["lam"].isna() & frame["seed"].eq(0), "seed"] = 10
    with pytest.raises(ValueError, match="do not have the same seeds"):
        ask(tmp_path, "v2_adheres", smoothness=frame)


def test_combining_does_not_depend_on_order() -> None:
    words = ["holds", "fails", "not shown"]
    assert combine(words) == combine(reversed(words)) == "holds under conditions"
    assert combine(["not shown", "not shown"]) == "fails"


def test_some_and_where() -> None:
    assert some_of(["holds", "fails"]) == some_of(["not shown", "holds"]) == "holds under conditions"
    assert [some_of(words) for words in (["holds"], ["fails", "not shown"], ["not shown"])] == [
        "holds",
        "fails",
        "not shown",
    ]
    views = [Part(name, "holds") for name in ("published, averaged", "published, last step", "sound")]
    assert told(views) == "" and told([Part("sound", "not tested")]) == ""
    assert told([*views, Part("corrected, averaged, v1", "fails"), Part("corrected, averaged, v2", "not shown")]) == (
        "holds in published and sound; fails in corrected (averaged, v1); not shown in corrected (averaged, v2)"
    )
    assert (
        told([Part("sound, v1", "fails"), Part("sound, v2", "fails"), Part("x", "holds")])
        == "holds in x; fails in sound"
    )


@pytest.mark.parametrize(("tests", "room"), [(1, 0.2), (6, 1e-6), (20, 1e-6)])
def test_an_interval_for_many_questions_is_students(tests: int, room: float) -> None:
    """How far below the bound the mean of a sample of normal shape must lie; for one question it is the bootstrap's, about that."""
    sample = stats.norm.ppf((np.arange(10) + 0.5) / 10)
    needed = stats.t.ppf(1 - 0.025 / tests, 9) * stats.sem(sample)
    for share, lower, higher in ((1 + room, "holds", "fails"), (1 - room, "not shown", "not shown")):
        assert below(sample - share * needed, 0, tests) == lower
        assert below(sample + share * needed, 0, tests) == higher


def test_equal_signs_alone_do_not_answer_many_questions() -> None:
    """Ten of one sign come up by chance once in 512 times, and a bootstrap never finds the other sign among them."""
    sample = np.array([-0.06, -0.02, -0.01, -0.01, -0.005, -0.005, -0.004, -0.003, -0.002, -0.001])
    assert below(sample, 0) == "holds"
    assert below(sample, 0, 34) == "not shown"


def test_an_answer_is_computed_again_if_a_table_changes(tmp_path: Path) -> None:
    made = table(rising, falling)
    assert ask(tmp_path, "v2_var_falls", smoothness=made) == ask(tmp_path, "v2_var_falls", smoothness=made) == "holds"
    assert ask(tmp_path, "v2_var_falls", smoothness=table(rising, lambda lam: -falling(lam))) == "fails"
    assert ask(tmp_path, "v2_var_falls", smoothness=made) == "holds"
