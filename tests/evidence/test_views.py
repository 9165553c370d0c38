"""How a query reads its tables, and how words about views become one verdict."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ledger_tables import LAMS, ask, falling, flat, rising, table, with_list
from scipy import stats

from evidence.ledger.queries import QUERIES
from evidence.ledger.verdicts import below, combine, some_of
from evidence.ledger.views import Judgement, MissingResults, Part, Results, at_bounds, told, views


def test_a_query_judges_every_protocol_and_evaluation_by_itself(tmp_path: Path) -> None:
    good = table(rising, falling, protocols=("sound",))
    bad = table(flat, lambda lam: -falling(lam), protocols=("published",))
    assert ask(tmp_path, "v2_var_falls", smoothness=pd.concat([good, bad])) == "holds under conditions"
    said = QUERIES["v2_var_falls"](Results(tmp_path))
    assert said.seeds == 10 and "Sound, averaged: holds" in said.numbers
    assert "Published, averaged: fails" in said.numbers and "Published, last step: fails" in said.numbers


@pytest.mark.parametrize(
    "name", ["trade", "max_accuracy", "generalise", "variance_measures", "shrinking", "shrinking_slopes"]
)
def test_claims_of_both_versions_read_both_tables(tmp_path: Path, name: str) -> None:
    both = {
        "smoothness": table(rising, falling),
        "strength": table(flat, flat, alpha=1.0, lams=(*LAMS, 1e-4), noise=0.001),
    }
    assert ask(tmp_path, name, smoothness=both["smoothness"]) in ("holds", "fails", "holds under conditions")
    alone = QUERIES[name](Results(tmp_path))
    assert "V1: not tested (strength.csv is not among the results)." in alone.numbers
    ask(tmp_path, name, **both)
    said = QUERIES[name](Results(tmp_path))
    for view in ("Sound, averaged", "Published, averaged", "Published, last step"):
        assert all(f"{view}, {version}: " in said.numbers for version in ("v1", "v2"))
    if name in ("trade", "variance_measures"):
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
    assert combine(["not shown", "not shown"]) == "not shown"
    assert combine(["not shown", "fails as stated"]) == "fails as stated" and combine(["holds", "fails as stated"]) == (
        "holds under conditions"
    )


def test_a_view_reads_the_columns_of_its_evaluation(tmp_path: Path) -> None:
    """Averaged, error and sensitivity do what is claimed; after the last step the opposite."""
    made = table(rising, falling, protocols=("sound",))
    made["rmse_last"], made["rms_k_last"] = 1.4 - made["rmse"], 1.6 - made["rms_k"]
    for name in ("v2_loss_rises", "slopes_fall"):
        assert ask(tmp_path, name, smoothness=made) == "holds under conditions"
        assert QUERIES[name](Results(tmp_path)).views == "holds in sound (averaged); fails in sound (last step)"
    listed = with_list()
    listed["s_last_8"] = 0.0 + listed["seed"]
    listed["s_last_1"] = 20.0
    assert ask(tmp_path, "noise_last", sensitivity=listed) == "holds under conditions"


def test_a_table_with_one_evaluation_has_one_view_for_each_protocol() -> None:
    made = table(rising, falling)
    one = made[[name for name in made if "_last" not in name]]
    assert [view.name for view in views(one)] == ["published", "corrected", "sound"]
    assert [view.beside for view in views(one)] == [3] * 3 and [view.beside for view in views(made)] == [6] * 6


def test_the_lams_of_a_view_are_those_of_the_alpha_that_is_asked_for() -> None:
    made = pd.concat([table(rising, falling, lams=(0.1, 0.01)), table(rising, falling, lams=(0.01, 0.001), alpha=1.0)])
    for view in views(made):
        assert view.lams(LAMS, 0.01) == [0.1, 0.01] and view.lams(LAMS, 1.0) == [0.01, 0.001]
        with pytest.raises(MissingResults):
            view.lams(LAMS, 0.1)


def test_what_other_bounds_would_give_is_told() -> None:
    """The bound itself decides; half and twice the bound are told, whether they differ or not."""
    said = at_bounds(
        lambda bound: Judgement("holds" if bound > 0.03 else "fails", f"{bound}.", 10, "here"), (0.04, "RMSE")
    )
    assert (said.verdict, said.seeds, said.views) == ("holds", 10, "here")
    assert said.numbers == "0.04. With another bound on the RMSE than 4 %: at 2 % fails, at 8 % holds."


def test_of_several_bounds_one_is_moved_at_a_time() -> None:
    def judge(one: float, two: float) -> Judgement:
        return Judgement("holds" if one > 0.03 and two < 0.15 else "fails", "said.")

    said = at_bounds(judge, (0.04, "RMSE"), (0.1, "slope"))
    assert (said.verdict, said.numbers) == (
        "holds",
        "said. With another bound on the RMSE than 4 %: at 2 % fails, at 8 % holds. "
        "With another bound on the slope than 10 %: at 5 % holds, at 20 % fails.",
    )


def test_some_and_where() -> None:
    assert some_of(["holds", "fails"]) == some_of(["not shown", "holds"]) == "holds under conditions"
    assert [some_of(words) for words in (["holds"], ["fails", "not shown"], ["not shown"])] == [
        "holds",
        "fails",
        "not shown",
    ]
    parts = [Part(name, "holds") for name in ("published, averaged", "published, last step", "sound")]
    assert told(parts) == "" and told([Part("sound", "not tested")]) == ""
    assert told([*parts, Part("corrected, averaged, v1", "fails"), Part("corrected, averaged, v2", "not shown")]) == (
        "holds in published and sound; fails in corrected (averaged, v1); is not shown in corrected (averaged, v2)"
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
