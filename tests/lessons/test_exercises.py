"""Each exercise can be solved, knows at least three mistakes, and names them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dynlab.lessons.exercise import Exercise
from dynlab.lessons.exercises import EXERCISES, LESSONS
from dynlab.lessons.exercises.ex07 import CASES
from dynlab.lessons.three_workers import three_workers
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
    two = ("02", "03", "04", "07", "08", "09")
    numbers = [f"{lesson}.{n}" for lesson in LESSONS for n in range(1, 3 if lesson in two else 2)]
    assert numbers == list(EXERCISES)


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
        ("07.1", "scale = 1.333"),
        ("07.1", "scale = '1.33'"),
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


# ---------------------------------------------------------------------------- 07: a scale, and an overlap


@pytest.mark.parametrize("source", ["4 / 3", "'4/3'", "' 8 / 6'", "1.3333333333", "__import__('numpy').float64(4 / 3)"])
def test_07_takes_a_fraction_in_any_form(source: str) -> None:
    """A float, a text, one that can be shortened, and a number of NumPy's."""
    assert "correct" == EXERCISES["07.1"].verdict(eval(source)).state


@pytest.mark.parametrize(
    "answer",
    [True, float("nan"), float("inf"), "4/0", "a/b", "", "1 1/3", "1e99999999", (4, 3), [1.5], 1j, 10**5000],
    ids=lambda answer: type(answer).__name__,
)
def test_07_takes_nothing_else(answer: Any) -> None:
    """What is no number is of the wrong type, and one that nobody can write is a mistake; nothing raises."""
    expected = "mistake" if answer == 10**5000 else "wrong type"

    assert expected == EXERCISES["07.1"].verdict(answer).state


def test_07_the_router_agrees() -> None:
    """Below 4/3 worker 2 wins and above it worker 3; no credit makes worker 3 win."""
    chosen = [three_workers(scale).worker_id for scale in (0, 0.75, 1, 1.33, 1.34, 1.5, 2, 10)]

    assert [2, 2, 2, 2, 3, 3, 3, 3] == chosen
    assert {2} == {three_workers(overlap_score_credit=credit).worker_id for credit in (0.5, 1.25, 4 / 3, 2, 10)}


def test_07_the_table_is_what_the_router_was_told() -> None:
    """Cached, left to prefill, and decoded for others: the prompt's own 10 blocks come on top, at each worker."""
    terms = three_workers().terms

    assert [(2, 8, 10), (5, 5, 5), (8, 2, 9)] == [
        (term.overlap_blocks, term.raw - term.overlap_blocks, term.decode_blocks - 10) for term in terms
    ]
    assert [28, 20, 21] == [term.cost for term in terms]


@pytest.mark.parametrize("scale", ["0.4", "2/5", "' 6 / 5'"])
def test_07_what_the_reader_is_told_to_run_runs(scale: str) -> None:
    """An answer below 4/3 comes back as a cell that draws it."""
    told = EXERCISES["07.1"].verdict(eval(scale)).message
    (drawn,) = re.findall(r"`score_card_picture\((.+)\)`", told)

    assert 2 == eval(drawn, {"three_workers": three_workers}).worker_id


@pytest.mark.parametrize("scale", ["21 / 20", "11 / 10", "'1.1'"])
def test_07_the_ratio_of_the_costs_is_no_scale(scale: str) -> None:
    """Neither that of the table's costs, nor that of the picture's."""
    assert "ratio of the costs" == EXERCISES["07.1"].verdict(eval(scale)).mistake


def test_07_a_scale_below_zero_is_none() -> None:
    """The router refuses it; nobody is told to try."""
    verdict = EXERCISES["07.1"].verdict(-1)

    assert ("mistake", False) == (verdict.state, "score_card_picture" in verdict.message)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_07_knows_the_right_overlap(case: Any) -> None:
    """As an index counts it that holds the same blocks; the right count is no foreseen mistake."""
    leading = next((n for n, block in enumerate(case.blocks) if block not in case.cache), len(case.blocks))

    assert leading == case.right
    assert case.right not in case.foreseen


_TAKE_WHILE = """\
from itertools import takewhile

def overlap(blocks, cache):
    return len(list(takewhile(set(cache).__contains__, blocks)))
"""
_CUMPROD = """\
def overlap(blocks, cache):
    return cumprod([block in cache for block in blocks], dtype=int).sum()
"""


@pytest.mark.parametrize(
    ("source", "state"),
    [
        ("def overlap(blocks, cache):\n    return 0\n", "mistake"),
        ("def overlap(blocks, cache):\n    return 3\n", "mistake"),
        ("def overlap(blocks, cache):\n    return [b for b in blocks if b in cache]\n", "wrong type"),
        ("def overlap(blocks, cache):\n    return all(b in cache for b in blocks)\n", "wrong type"),
        ("def overlap(blocks, cache):\n    if blocks[5] in cache:\n        return 3\n", "mistake"),
        (_TAKE_WHILE, "correct"),
        ("from numpy import cumprod\n\n" + _CUMPROD, "correct"),
        ("def overlap(blocks, cache):\n    return sum(b == c for b, c in zip(blocks, cache))\n", "mistake"),
        ("def overlap(blocks, cache):\n    blocks.clear()\n    return len(blocks)\n", "mistake"),
    ],
    ids=[
        "nothing",
        "a constant",
        "a list",
        "a bool",
        "raises",
        "another way",
        "a number of NumPy's",
        "places, to the end",
        "empties what it is given",
    ],
)
def test_07_judges_what_was_not_foreseen(source: str, state: str) -> None:
    """No constant passes, and any way of writing it does."""
    assert state == EXERCISES["07.2"].verdict(run(EXERCISES["07.2"], source)).state
