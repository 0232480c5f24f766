"""Least-loaded for old loads: any rule that is fast passes, also on unseen seeds; each foreseen mistake is named."""

from __future__ import annotations

from typing import Any

import pytest

from dynlab.lessons.exercises import ex06
from dynlab.lessons.exercises.ex06 import AGES, EXERCISES, LOSES, mean_time

(EXERCISE,) = EXERCISES

SAMPLES = """\
import random
rng = random.Random(5)

def pick(request, instances):
    fresh = request.data["now_s"] == request.data["reported_s"]
    some = instances if fresh else rng.sample(instances, 2)
    return min(some, key=lambda i: i.active_requests)
"""
EXPECTS_ENDS = """\
reported, sent = None, {}

def pick(request, instances):
    global reported, sent
    data = request.data
    if data["reported_s"] != reported:
        reported, sent = data["reported_s"], {}
    done = data["now_s"] - reported
    left = lambda i: max(0, i.active_requests - done) + sent.get(i.instance_id, 0)
    chosen = min(instances, key=left)
    sent[chosen.instance_id] = sent.get(chosen.instance_id, 0) + 1
    return chosen.instance_id
"""
BY_OBJECT = """\
from collections import Counter
reported, sent = None, Counter()

def pick(request, instances):
    global reported
    if request.data["reported_s"] != reported:
        reported = request.data["reported_s"]
        sent.clear()
    chosen = min(instances, key=lambda i: i.active_requests + sent[i])
    sent[chosen] += 1
    return chosen
"""
RIGHT = {"the solution": EXERCISE.solution, "samples": SAMPLES, "expects ends": EXPECTS_ENDS, "by object": BY_OBJECT}


def run(source: str) -> Any:
    cell: dict[str, Any] = {}
    exec(source, cell)
    return cell["pick"]


@pytest.mark.parametrize("source", RIGHT.values(), ids=RIGHT)
def test_any_rule_that_is_fast_passes(source: str) -> None:
    """It counts, or draws two, or reckons what has ended; and it passes again with what it remembers."""
    pick = run(source)

    first, again = EXERCISE.verdict(pick), EXERCISE.verdict(pick)

    assert ("correct", "correct") == (first.state, again.state), (first.message, again.message)
    assert "at T = 2, " in first.message
    assert "with fresh loads, over 3 hidden seeds" in first.message


@pytest.mark.parametrize("name", EXERCISE.mistakes)
def test_a_foreseen_mistake_is_named_again_and_again(name: str) -> None:
    """Also the second time, when the function remembers the first."""
    pick = run(EXERCISE.mistakes[name].example)
    for _ in range(2):
        verdict = EXERCISE.verdict(pick)
        assert ("mistake", name) == (verdict.state, verdict.mistake), verdict.message
        assert "{" not in verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("first", [701, 901])
def test_the_verdicts_do_not_hang_on_the_seeds(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other seeds the same answers pass and the same fail."""
    monkeypatch.setattr(ex06, "SEEDS", (first, first + 1, first + 2))

    assert {"correct"} == {EXERCISE.verdict(run(source)).state for source in (EXERCISE.solution, SAMPLES)}
    for name in ("still least-loaded", "looks at no load", "slow with fresh loads", "never forgets"):
        assert name == EXERCISE.verdict(run(EXERCISE.mistakes[name].example)).mistake


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_solution_wins_by_far_on_unseen_seeds(seed: int) -> None:
    """It takes less than two thirds with old loads, and what plain least-loaded takes with fresh ones."""
    for age in AGES:
        assert mean_time(run(EXERCISE.solution), age, seed) < 0.67 * mean_time("least-loaded", age, seed)

    fresh = mean_time(run(EXERCISE.solution), 0, seed) / mean_time("least-loaded", 0, seed)
    assert pytest.approx(1, abs=(LOSES - 1) / 2) == fresh


@pytest.mark.parametrize("worker", range(8))
def test_no_constant_passes(worker: int) -> None:
    """Neither a worker nor its id."""
    assert "mistake" == EXERCISE.verdict(lambda request, instances: instances[worker]).state
    assert "mistake" == EXERCISE.verdict(lambda request, instances: 7001 + worker).state


def test_a_little_faster_is_close() -> None:
    """The emptiest of seven that are drawn is one of the emptiest: nearly as much of a herd."""
    source = EXERCISE.mistakes["slow with fresh loads"].example.replace("instances, 2)", "instances, 7)")

    verdict = EXERCISE.verdict(run(source))

    assert "close" == verdict.state, verdict.message
    assert "by seed. Each should be below 0.9" in verdict.message


def test_turns_are_not_enough() -> None:
    """Round robin with old loads, and least-loaded with fresh ones: some seeds are no faster than before."""
    source = (
        "from itertools import count\nturn = count()\n\ndef pick(request, instances):\n"
        "    if request.data['now_s'] == request.data['reported_s']:\n"
        "        return min(instances, key=lambda i: i.active_requests)\n"
        "    return instances[next(turn) % len(instances)]\n"
    )

    assert "looks at no load" == EXERCISE.verdict(run(source)).mistake


def test_three_choices_lose_little_with_fresh_loads() -> None:
    """So they are close, and the sentence says by how much."""
    source = EXERCISE.mistakes["slow with fresh loads"].example.replace("instances, 2)", "instances, 3)")

    verdict = EXERCISE.verdict(run(source))

    assert "close" == verdict.state, verdict.message
    assert "10 % are allowed" in verdict.message


def test_the_run_is_not_the_readers_to_change() -> None:
    """What a function writes into the instances is found out, and no run has seen it."""
    before = mean_time("least-loaded", 2.0, 21)

    EXERCISE.verdict(run(EXERCISE.mistakes["writes into the loads"].example))

    assert before == mean_time("least-loaded", 2.0, 21)


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        ("def pick(request, instances):\n    instances[0]\n", "mistake", "`pick` returned None"),
        ("def pick(request, instances):\n    return instances\n", "wrong type", "Return one of `instances`"),
        ("def pick(request, instances):\n    return 7777\n", "wrong type", "Return one of `instances`"),
        ("def pick(request, instances):\n    return request.data['sent']\n", "mistake", "KeyError: 'sent'"),
        ("def pick(request):\n    return 1\n", "wrong type", "It is called as"),
    ],
    ids=["nothing", "a list", "an unknown id", "raises", "one parameter"],
)
def test_what_was_not_foreseen_gets_a_sentence(source: str, state: str, said: str) -> None:
    """A missing return, another type, and an exception in the middle of a run."""
    verdict = EXERCISE.verdict(run(source))

    assert state == verdict.state
    assert said in verdict.message
