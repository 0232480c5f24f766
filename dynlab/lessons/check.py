"""`check("03.1", pick)`: says what is right or wrong with an answer, in a sentence, and never raises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from dynlab.errors import did_you_mean, listed
from dynlab.lessons.exercise import Exercise, State, TooLongError, Verdict
from dynlab.lessons.exercises import EXERCISES
from dynlab.lessons.guard import within

__all__ = ("Feedback", "Note", "check", "hint", "solution")

ATTEMPTS = 2
"""Checked answers before a solution is shown."""

_attempts: Counter[str] = Counter()
_MARKS: dict[State, tuple[str, str, str]] = {
    "empty": ("○", "", "#767676"),
    "wrong type": ("?", "not what was asked for", "#997700"),
    "mistake": ("✗", "not yet", "#D0453B"),
    "close": ("≈", "close", "#997700"),
    "correct": ("✓", "correct", "#117733"),
}


@dataclass(frozen=True)
class Feedback:
    """What a check says. `mistake` names the foreseen mistake, where the answer makes one."""

    number: str
    state: State
    message: str
    mistake: str = ""

    def __repr__(self) -> str:
        mark, word, _ = _MARKS[self.state]
        return f"{mark} {self.number}{word and ' '}{word}: {self.message}"

    def _repr_html_(self) -> str:
        mark, word, colour = _MARKS[self.state]
        return (
            f'<div role="group" aria-label="{escape(repr(self))}" style="border-left:4px solid {colour};'
            f'padding:4px 12px;max-width:44em"><b>{mark} {escape(self.number)} {word}</b>'
            f"<br>{_html(self.message)}</div>"
        )


class Note(str):
    """Text that shows as it reads; in a notebook, code keeps its form."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        if "\n" in self:
            return f'<pre style="padding:8px 12px;overflow-x:auto">{escape(self)}</pre>'
        return f'<div style="max-width:44em">{_html(self)}</div>'


def check(number: str, answer: Any = None) -> Feedback:
    """Check an answer to an exercise; whatever it is, the feedback says so in a sentence."""
    exercise = _find(number)
    if exercise is None:
        return Feedback(str(number), "wrong type", _unknown(number))
    try:
        verdict = within(exercise.limit_s, lambda: exercise.verdict(answer))
    except TooLongError:
        verdict = Verdict(
            "mistake", f"No result after {exercise.limit_s:g} s, so it was stopped. Is there a loop that never ends?"
        )
    except Exception as error:  # an answer odder than any that was thought of
        verdict = Verdict("wrong type", f"The answer cannot be checked: {type(error).__name__}.")
    if verdict.state != "empty":
        _attempts[exercise.number] += 1
    return Feedback(exercise.number, *verdict)


def hint(number: str, level: int = 1) -> Note:
    """Return a hint; level 1 says where to look, level 3 nearly all."""
    exercise = _find(number)
    if exercise is None:
        return Note(_unknown(number))
    if level not in (1, 2, 3):
        return Note(f"There is no hint {level!r}; there are 1, 2 and 3. Begin with `hint({number!r}, 1)`.")
    return Note(exercise.hints[level - 1])


def solution(number: str) -> Note:
    """Return the source of a solution, once two answers were checked."""
    exercise = _find(number)
    if exercise is None:
        return Note(_unknown(number))
    left = ATTEMPTS - _attempts[exercise.number]
    if left > 0:
        return Note(
            f"Try it first: the solution shows after {left} more checked answer{'s' * (left > 1)}. "
            f'A wrong answer counts, and `hint("{number}", 1)` is free.'
        )
    return Note(exercise.solution)


def _find(number: Any) -> Exercise | None:
    return EXERCISES.get(number) if isinstance(number, str) else None


def _unknown(number: Any) -> str:
    known = list(EXERCISES)
    close = did_you_mean(number, known) if isinstance(number, str) else ""
    return f"There is no exercise {number!r}; there are {listed(known)}.{close}"


def _html(message: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(message))
