"""check, hint and solution answer everything with a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dynlab.lessons import check, hint, solution
from dynlab.lessons.check import Feedback, _attempts
from dynlab.lessons.exercises import EXERCISES

NUMBERS = list(EXERCISES)


@pytest.fixture(autouse=True)
def no_attempts() -> Iterator[None]:
    _attempts.clear()
    yield
    _attempts.clear()


class Hostile:
    """Raises at every touch."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"do not touch {name}")

    def __repr__(self) -> str:
        raise RuntimeError("do not look")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    def __hash__(self) -> int:
        raise RuntimeError("do not hash")

    def __bool__(self) -> bool:
        raise RuntimeError("do not ask")


class LyingClass:
    """Says that it is a class of its own making."""

    @property
    def __class__(self) -> Any:
        raise ValueError("no class")


def raises(*args: Any) -> None:
    raise KeyError("what you never asked for")


def exits(*args: Any) -> None:
    raise SystemExit(1)


def interrupts(*args: Any) -> None:
    raise KeyboardInterrupt


def recurses(*args: Any) -> Any:
    return recurses(*args)


async def coroutine(*args: Any) -> int:
    return 1


async def async_generator(*args: Any) -> Any:
    yield 1


def generator(*args: Any) -> Any:
    yield 1


def empties(events: list[Any], *args: Any) -> None:
    events.clear()


def returns_hostile(*args: Any) -> Hostile:
    return Hostile()


GARBAGE: list[Any] = [
    0, -1, 1.5, float("nan"), float("inf"), True, "", "text", b"bytes", [], {}, set(), (), (1,), (1, 2), (1, 2, 3),
    ("7", "1"), (float("nan"), 1), (True, True), [7, 1], object(), object, int, print, len, min, Hostile(), Hostile,
    LyingClass(), raises, exits, interrupts, recurses, coroutine, async_generator, generator, empties,
    returns_hostile, lambda: 1, lambda *a: a, lambda *a: "nonsense", lambda *a: [None], lambda *a: ["x", "y"],
    lambda *a: float("nan"), lambda *a: [float("nan")] * 4, lambda *a: 10**400, lambda *a: coroutine(),
    lambda *a: [[...]], lambda *, events: events, functools.partial(raises, 1), asyncio, NotImplemented, type,
    __import__("dynlab").hello_world if hasattr(__import__("dynlab"), "hello_world") else 0, Exception("an error"),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("place", range(len(GARBAGE)))
def test_garbage_never_raises(number: str, place: int) -> None:
    """Whatever the answer is, the feedback is no praise, and both of its forms can be shown."""
    feedback = check(number, GARBAGE[place])

    assert feedback.state in ("empty", "wrong type", "mistake", "close"), repr(feedback)
    assert feedback.message.strip()
    assert number in repr(feedback)
    assert number in feedback._repr_html_()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("answer", [None, ..., (..., ...)], ids=["None", "Ellipsis", "two of them"])
def test_nothing_is_not_answered_yet(number: str, answer: Any) -> None:
    """An empty answer is no mistake."""
    feedback = check(number, answer)

    assert "empty" == feedback.state
    assert "Not answered yet" in repr(feedback)


def test_a_function_without_a_body_is_not_answered_yet() -> None:
    """The frame that a notebook gives is an empty answer, with or without a docstring."""

    def frame(events: Any) -> None: ...

    def described(events: Any) -> None:
        """Return the time."""

    def passes(events: Any) -> None:
        pass

    assert ["empty"] * 3 == [check("02.1", f).state for f in (frame, described, passes)]


def test_a_missing_return_is_a_mistake() -> None:
    """A function that works and returns nothing is told so."""

    def forgets(events: Any) -> None:
        len(events)

    feedback = check("02.1", forgets)

    assert "mistake" == feedback.state
    assert "return" in feedback.message


def test_an_exception_is_named_with_its_line() -> None:
    """The reader sees the error and the line of theirs that raised it."""

    def falls(events: Any) -> Any:
        return events[99]

    feedback = check("02.1", falls)

    assert "mistake" == feedback.state
    assert "IndexError" in feedback.message
    assert "`return events[99]`" in feedback.message


def test_an_endless_loop_is_stopped() -> None:
    """The check gives up after its limit, and the thread that looped is gone."""
    from dataclasses import replace

    short = replace(EXERCISES["02.1"], limit_s=0.2)

    def loops(events: Any) -> Any:
        while True:
            with contextlib.suppress(Exception):
                time.monotonic()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["dynlab.lessons.check"], "EXERCISES", {"02.1": short})
        feedback = check("02.1", loops)

    assert "mistake" == feedback.state
    assert "never ends" in feedback.message
    assert [] == [t.name for t in threading.enumerate() if t.name == "dynlab-check"]


def test_a_check_does_not_spoil_what_it_gives() -> None:
    """A function that empties its events does so to a copy."""
    check("02.1", empties)

    assert "correct" == check("02.1", _solved("02.1")).state


def test_an_unknown_number_is_a_sentence() -> None:
    """check, hint and solution name the exercises that exist, and the closest."""
    for said in (repr(check("3.1", 1)), hint("3.1"), solution("3.1"), repr(check(3.1, 1))):  # type: ignore[arg-type]
        assert "03.1" in said
    assert "Did you mean '03.1'?" in hint("3.1")


@pytest.mark.parametrize("number", NUMBERS)
def test_hints_are_graded(number: str) -> None:
    """Three different hints, and a sentence for any other level."""
    assert 3 == len({hint(number, level) for level in (1, 2, 3)})
    assert hint(number) == hint(number, 1)
    assert "there are 1, 2 and 3" in hint(number, 4)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_solution_waits_for_two_answers(number: str) -> None:
    """Empty answers do not count; after two others the solution is shown, as text."""
    check(number)
    check(number, ...)
    assert "Try it first" in solution(number)
    assert "2 more checked answers." in solution(number)

    check(number, 1)
    assert "1 more checked answer." in solution(number)

    check(number, 2)
    assert EXERCISES[number].solution == solution(number)
    assert "<pre" in solution("01.1")._repr_html_() or number != "01.1"


def test_html_escapes_what_the_reader_wrote() -> None:
    """Nothing in an answer becomes markup, and code stands in code."""
    feedback = check("02.1", "<script>alert(1)</script>")

    assert "<script>" not in feedback._repr_html_()
    assert "<code>ttft</code>" in feedback._repr_html_()


@pytest.mark.parametrize("state", ["empty", "wrong type", "mistake", "close", "correct"])
def test_a_state_is_more_than_a_colour(state: Any) -> None:
    """Each state has a mark, and the label says what the box says."""
    html = Feedback("03.1", state, "A sentence.")._repr_html_()

    assert 'role="group"' in html
    assert any(mark in html for mark in "○?✗≈✓")
    assert html.count("A sentence.") == 2


def _solved(number: str) -> Any:
    cell: dict[str, Any] = {}
    exec(EXERCISES[number].solution, cell)
    return cell[EXERCISES[number].answer]
