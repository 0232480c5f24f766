"""Each exercise can be solved, knows at least three mistakes, and names them."""

from __future__ import annotations

from typing import Any

import pytest

from dynlab.lessons.exercise import Exercise
from dynlab.lessons.exercises import EXERCISES
from dynlab.serving.serve import serve

ALL = list(EXERCISES.values())
FORESEEN = [(exercise, name) for exercise in ALL for name in exercise.mistakes]


def run(exercise: Exercise, source: str) -> Any:
    """Run the source of an answer, as a cell would, and return what it defines."""
    cell: dict[str, Any] = {}
    exec(compile(source, f"<answer to {exercise.number}>", "exec"), cell)
    return cell[exercise.answer]


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.number)
def test_the_solution_is_correct(exercise: Exercise) -> None:
    """What `solution()` shows passes the check."""
    verdict = exercise.verdict(run(exercise, exercise.solution))

    assert ("correct", "") == (verdict.state, verdict.mistake), verdict.message


@pytest.mark.parametrize(("exercise", "name"), FORESEEN, ids=[f"{e.number} {name}" for e, name in FORESEEN])
def test_a_foreseen_mistake_is_named(exercise: Exercise, name: str) -> None:
    """Each example gets exactly its own hint, with every brace filled."""
    verdict = exercise.verdict(run(exercise, exercise.mistakes[name].example))

    assert ("mistake", name) == (verdict.state, verdict.mistake), verdict.message
    assert "{" not in verdict.message


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.number)
def test_an_exercise_is_complete(exercise: Exercise) -> None:
    """Three hints, three mistakes or more, sentences that end, and a solution no hint gives away."""
    assert 3 == len(exercise.hints)
    assert 3 <= len(exercise.mistakes)
    assert all(text.endswith(".") for text in [exercise.task, *(m.hint for m in exercise.mistakes.values())])
    assert not any(exercise.solution in given for given in exercise.hints)


def test_the_numbers_say_the_notebook() -> None:
    """The key of each exercise is its number, and numbers go up from 1 in each notebook."""
    assert list(EXERCISES) == [exercise.number for exercise in ALL]
    assert ["00.1", "01.1", "02.1", "02.2", "03.1", "03.2"] == list(EXERCISES)


# ---------------------------------------------------------------------------- 01.1: the graph


def test_a_deployment_is_an_answer_too() -> None:
    """The check takes the running deployment, serves the same graph beside it, and leaves it running."""
    exercise = EXERCISES["01.1"]
    with serve(run(exercise, exercise.solution), workers={"DummyWorker": 2}) as deployment:
        verdict = exercise.verdict(deployment)

        assert "correct" == verdict.state, verdict.message
        assert "running" == deployment.state
        assert 0 == len(deployment.traces)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class LoudFrontend: pass", "plain class"),
        ("from dynlab.hello_world import Processor as LoudFrontend", "no `@api` method"),
        ("LoudFrontend = 'Frontend'", "Give your Frontend"),
    ],
    ids=["plain class", "not the entry", "a name"],
)
def test_what_is_no_graph_is_told_apart(source: str, said: str) -> None:
    """A class without @service, a service without @api, and a string are of the wrong type."""
    exercise = EXERCISES["01.1"]

    verdict = exercise.verdict(run(exercise, source))

    assert "wrong type" == verdict.state
    assert said in verdict.message


def test_the_graph_as_it_was_has_no_fourth_hop() -> None:
    """Giving the original Frontend back is the mistake of doing nothing."""
    exercise = EXERCISES["01.1"]

    verdict = exercise.verdict(run(exercise, "from dynlab.hello_world import Frontend as LoudFrontend"))

    assert "no fourth hop" == verdict.mistake


def test_a_filter_that_raises_is_reported_in_its_own_words() -> None:
    """An exception of the reader's service comes through with its message."""
    exercise = EXERCISES["01.1"]
    broken = exercise.solution.replace("request.prompt = request", "raise RuntimeError('no such day')\n        request")

    verdict = exercise.verdict(run(exercise, broken))

    assert "mistake" == verdict.state
    assert "no such day" in verdict.message


def test_a_graph_that_cannot_start_is_reported() -> None:
    """An `@async_on_start` that raises ends in a sentence."""
    exercise = EXERCISES["01.1"]
    broken = exercise.solution.replace(
        "    filter = depends(Filter)\n",
        "    filter = depends(Filter)\n\n    def __init__(self):\n        raise OSError('no room')\n",
    )

    verdict = exercise.verdict(run(exercise, broken))

    assert "mistake" == verdict.state
    assert "no room" in verdict.message


# ---------------------------------------------------------------------------- close, and near misses


@pytest.mark.parametrize(
    ("number", "source"),
    [
        ("00.1", "answer = (8, 1)"),
        ("02.1", EXERCISES["02.1"].solution.replace("items[0] - sent[0]", "(items[0] - sent[0]) / 1000")),
        ("02.1", EXERCISES["02.1"].solution.replace("items[0] - sent[0]", "sent[0] - items[0]")),
        ("02.1", EXERCISES["02.1"].solution.replace("items[0] - sent[0]", "49.2")),
        ("02.2", EXERCISES["02.2"].solution.replace("later - sooner", "round(later - sooner)")),
        ("02.2", EXERCISES["02.2"].solution.replace("later - sooner", "(later - sooner) / 1e3")),
        ("02.2", EXERCISES["02.2"].solution.replace("items, items[1:])]", "items, items[1:])][::-1]")),
        ("02.2", EXERCISES["02.2"].solution.replace("later - sooner for", "sooner - later for")),
        ("03.2", EXERCISES["03.2"].solution.replace("return sorted", "return 0.001 * sorted")),
        ("03.2", "from statistics import quantiles\n\ndef p99(times):\n    return quantiles(times, n=100)[98]\n"),
        ("03.2", "from numpy import percentile\n\ndef p99(times):\n    return float(percentile(times, 99))\n"),
    ],
)
def test_near_misses_are_close(number: str, source: str) -> None:
    """Another unit, sign or order, a rounded number, one off, or a line drawn between two times."""
    exercise = EXERCISES[number]

    assert "close" == exercise.verdict(run(exercise, source)).state


def test_03_accepts_any_smooth_order() -> None:
    """A written-down order that skips who has left is as good as credits."""
    source = (
        "order, turn = [7001, 7002, 7001, 7003, 7001], 0\n\n"
        "def pick(request, instances):\n    global turn\n    here = {i.instance_id: i for i in instances}\n"
        "    while True:\n        chosen = order[turn % 5]\n        turn += 1\n"
        "        if chosen in here:\n            return here[chosen]\n"
    )
    exercise = EXERCISES["03.1"]

    first, again = exercise.verdict(pick := run(exercise, source)), exercise.verdict(pick)

    assert ("correct", "correct") == (first.state, again.state), (first.message, again.message)
