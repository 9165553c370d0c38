"""Grading: what is said of right answers, of usual mistakes, of anything else."""

import json
import math
from typing import Any

import numpy as np
import pytest

from evidence.exercises import MIME, RIGHT, Choice, Exercise, Number

ONE = Number(right=2.5, hints={0.4: "Turn it over.", 5: "Half of that."}, otherwise="Think again.", least=0, most=10)
WORDS = Choice(right="flat", options=["flat", "steep"], hints={"steep": "Look at λ."})


@pytest.mark.parametrize("answer", [2.5, 2.5 * 1.0049, 2.5 / 1.0049, np.float64(2.5)])
def test_an_answer_within_the_tolerance_is_right(answer: float) -> None:
    assert Exercise(ONE)(answer) == RIGHT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (0.4, "Not yet. Turn it over."),
        (5, "Not yet. Half of that."),
        (2.5 * 1.006, "Not yet. Think again."),
        (-1, "Not yet. The answer is at least 0 and at most 10."),
        (11, "Not yet. The answer is at least 0 and at most 10."),
    ],
)
def test_a_wrong_answer_gets_the_hint_that_belongs_to_it(answer: float, said: str) -> None:
    assert Exercise(ONE)(answer) == said


@pytest.mark.parametrize("answer", [None, "2.5", math.nan, math.inf, True, [2.5]])
def test_no_number_is_asked_for_again(answer: object) -> None:
    assert "number" in Exercise(ONE)(answer)


def test_a_tolerance_may_be_absolute() -> None:
    near_zero = Exercise(Number(right=0.0, within=0.1))
    assert near_zero(0.09) == RIGHT != near_zero(0.11) == "Not yet."


def test_choices() -> None:
    exercise = Exercise(WORDS)
    assert exercise("flat") == RIGHT and exercise("steep") == "Not yet. Look at λ."
    assert "flat, steep" in exercise("round") and "flat, steep" in exercise(None)


@pytest.mark.parametrize("wrong", [{"right": "round"}, {"right": "flat", "hints": {"round": ""}}])
def test_a_choice_refuses_answers_that_cannot_be_chosen(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="round"):
        Choice(options=["flat", "steep"], **wrong)


def test_several_questions_are_answered_together() -> None:
    both = Exercise(Number(label="a", right=1), Number(label="b", right=2))
    assert both(1, 2) == RIGHT and both(1, 1) == "a: Right. b: Not yet."
    with pytest.raises(TypeError, match="1 answers were given; this exercise asks for 2"):
        both(1)


def test_the_page_gets_all_that_grading_needs() -> None:
    bundle = Exercise(ONE, WORDS, Number(right=np.float64(1.0)))._repr_mimebundle_()
    number, words, unbounded = json.loads(json.dumps(bundle[MIME], allow_nan=False))
    for value, tolerance, said in number["cases"]:
        assert ONE.grade(value + 0.99 * tolerance) == said
    assert [WORDS.grade(option) for option in words["options"]] == words["said"]
    assert unbounded["least"] is unbounded["most"] is None
    assert "2.5" not in bundle["text/plain"]
