"""Exercises that say whether an answer is right: called in the notebook, typed or chosen in the built page.

An exercise knows its answer, which the chapter computes, and the answers that come from usual mistakes, each with a hint.
`book/_ext/exercises.py` makes a form of it, and exercises.js grades there by the same list of cases.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

MIME = "application/vnd.lai-exercise+json"
RIGHT = "Right."


def not_yet(hint: str) -> str:
    """What is said of a wrong answer, with or without a hint."""
    return f"Not yet. {hint}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Number:
    """A question whose answer is a number.

    Parameters
    ----------
    right : float
        The answer.
    rel, within : float
        An answer counts as this or a wrong value if it differs by at most ``rel`` times the value, or by at most ``within``.
    hints : mapping of float to str
        Wrong answers and what to say of each.
    otherwise : str
        The hint for any other wrong answer.
    least, most : float
        The range of what can be an answer at all.
    label : str
        What the field is called.
    """

    right: float
    rel: float = 0.005
    within: float = 0.0
    hints: Mapping[float, str] = field(default_factory=dict)
    otherwise: str = ""
    least: float = -math.inf
    most: float = math.inf
    label: str = "Your answer"

    def data(self) -> dict[str, Any]:
        """What a page needs to ask and to grade, as JSON has it: the first case (value, tolerance, text) that fits holds."""
        known = [(self.right, RIGHT), *((value, not_yet(hint)) for value, hint in self.hints.items())]
        upper = "" if math.isinf(self.most) else f" and at most {self.most:g}"
        return {
            "label": self.label,
            "cases": [[float(value), max(self.rel * abs(value), self.within), said] for value, said in known],
            "least": None if math.isinf(self.least) else self.least,
            "most": None if math.isinf(self.most) else self.most,
            "outside": not_yet(f"The answer is at least {self.least:g}{upper}."),
            "otherwise": not_yet(self.otherwise),
            "unread": "Type a number, such as 0.25 or 1/4.",
        }

    def grade(self, answer: object) -> str:
        """What is said of an answer."""
        data = self.data()
        if not isinstance(answer, Real) or isinstance(answer, bool) or not math.isfinite(answer):
            return str(data["unread"])
        number = float(answer)
        if not self.least <= number <= self.most:
            return str(data["outside"])
        said = (said for value, tolerance, said in data["cases"] if abs(number - value) <= tolerance)
        return str(next(said, data["otherwise"]))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A question whose answer is one of ``options``; ``hints`` says what to think of when one of the others was chosen."""

    right: str
    options: Sequence[str]
    hints: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""
    label: str = "Your answer"

    def __post_init__(self) -> None:
        if unknown := {self.right, *self.hints} - set(self.options):
            raise ValueError(f"options = {list(self.options)} must have {sorted(unknown)}")

    def data(self) -> dict[str, Any]:
        """What a page needs to ask and to grade, as JSON has it."""
        said = [not_yet(self.hints.get(option, self.otherwise)) for option in self.options]
        said[list(self.options).index(self.right)] = RIGHT
        return {
            "label": self.label,
            "options": list(self.options),
            "said": said,
            "unread": "Choose one of the answers.",
        }

    def grade(self, answer: object) -> str:
        """What is said of an answer."""
        data = self.data()
        if answer not in self.options:
            return f"Give one of {', '.join(self.options)}."
        return str(data["said"][list(self.options).index(str(answer))])


class Exercise:
    """Questions that are answered together; a cell that ends with it becomes a form in the built page.

    Examples
    --------
    >>> exercise = Exercise(Number(right=0.25, hints={4: "Turn it over."}))
    >>> exercise(4)
    'Not yet. Turn it over.'
    >>> exercise(1 / 4)
    'Right.'
    """

    def __init__(self, *questions: Number | Choice) -> None:
        self.questions = questions

    def __call__(self, *answers: object) -> str:
        """What is said of the answers, one for each question; if all are right, that once."""
        if len(answers) != len(self.questions):
            raise TypeError(f"{len(answers)} answers were given; this exercise asks for {len(self.questions)}")
        said = [question.grade(answer) for question, answer in zip(self.questions, answers, strict=True)]
        if len(set(said)) == 1:
            return said[0]
        return " ".join(f"{question.label}: {text}" for question, text in zip(self.questions, said, strict=True))

    def __repr__(self) -> str:
        return "Call this with your answer in a cell of your own, and it says whether that is right."

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {MIME: [question.data() for question in self.questions], "text/plain": repr(self)}
