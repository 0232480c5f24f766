"""Two choices: any right way passes whatever the draws, each foreseen mistake is named, and no constant passes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from dynlab.lessons.exercises.ex05 import CALLS, CHANCE, EXERCISES, LOADS, chi_square, expected
from dynlab.routing.modes import PowerOfTwoPicker, RandomPicker
from dynlab.simulate import exponential, poisson, simulate

(EXERCISE,) = EXERCISES


def run(source: str) -> Any:
    cell: dict[str, Any] = {}
    exec(source, cell)
    return cell["pick"]


RIGHT = {
    "the solution": EXERCISE.solution,
    "by places": (
        "from random import randrange\n\ndef pick(request, instances):\n    n = len(instances)\n    if n == 1:\n"
        "        return instances[0].instance_id\n    one, other = randrange(n), randrange(n - 1)\n"
        "    other += other >= one\n    a, b = instances[one], instances[other]\n"
        "    return a.instance_id if a.active_requests <= b.active_requests else b.instance_id\n"
    ),
    "draws until they differ": (
        "from random import choice\n\ndef pick(request, instances):\n    one = other = choice(instances)\n"
        "    while other is one and len(instances) > 1:\n        other = choice(instances)\n"
        "    if one.active_requests == other.active_requests:\n        return choice([one, other])\n"
        "    return min(one, other, key=lambda i: i.active_requests)\n"
    ),
    "shuffles, and reads all loads": (
        "from random import sample\n\ndef pick(request, instances):\n"
        "    loads = {i.instance_id: i.active_requests for i in instances}\n"
        "    return min(sample(list(loads), len(loads))[:2], key=loads.get)\n"
    ),
    "draws with NumPy": (
        "import numpy\nrng = numpy.random.default_rng()\n\ndef pick(request, instances):\n"
        "    drawn = rng.permutation(len(instances))[:2]\n"
        "    return min((instances[n] for n in drawn), key=lambda i: i.active_requests)\n"
    ),
}

ONE_OF_THE_TWO_EMPTIEST = (
    "from random import choice\n\ndef pick(request, instances):\n"
    "    return choice(sorted(instances, key=lambda i: i.active_requests)[:2])\n"
)


@pytest.mark.parametrize("source", RIGHT.values(), ids=RIGHT)
def test_any_right_way_passes(source: str) -> None:
    """However it draws and compares, and whatever it draws: with ten seeds."""
    pick = run(source)
    for seed in range(10):
        random.seed(seed)
        assert "correct" == EXERCISE.verdict(pick).state


@pytest.mark.parametrize("name", EXERCISE.mistakes)
def test_a_foreseen_mistake_is_named_whatever_is_drawn(name: str) -> None:
    """With ten seeds, and its sentence has its numbers."""
    pick = run(EXERCISE.mistakes[name].example)
    for seed in range(10):
        random.seed(seed)
        verdict = EXERCISE.verdict(pick)
        assert ("mistake", name) == (verdict.state, verdict.mistake), verdict.message
        assert "{" not in verdict.message


def test_drawing_the_same_one_twice_shows_its_bias() -> None:
    """The fullest of five gets a twenty-fifth of the picks, and is named."""
    verdict = EXERCISE.verdict(run(EXERCISE.mistakes["compares a worker with itself"].example))

    share = float(verdict.message.split("picks, ")[1].partition("%")[0])
    assert "7003 is the fullest" in verdict.message
    assert 3 < share < 5


def test_dynamos_own_rule_passes() -> None:
    """On a tie it takes the first that it drew, which is as good as drawing again; random alone does not pass."""
    two, one = PowerOfTwoPicker(random.Random(1)), RandomPicker(random.Random(1))

    assert "correct" == EXERCISE.verdict(lambda request, instances: two.pick(request, instances).instance).state
    assert "looks at no load" == EXERCISE.verdict(lambda request, instances: one.pick(request, instances)[0]).mistake


@pytest.mark.parametrize("worker", [*range(5), *LOADS])
def test_no_constant_passes(worker: int) -> None:
    """Neither a place nor an id."""
    verdict = EXERCISE.verdict(lambda request, instances: instances[worker] if worker < 5 else worker)

    assert "mistake" == verdict.state


def test_one_instance_alone_is_a_near_miss() -> None:
    """Two and more are right, but one raises: the sentence says so."""
    source = EXERCISE.solution.replace("    if len(instances) == 1:\n        return instances[0]\n", "")

    verdict = EXERCISE.verdict(run(source))

    assert "close" == verdict.state
    assert "With a single one it raises ValueError" in verdict.message


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        ("def pick(request, instances):\n    instances[0]\n", "mistake", "Call 1 returned None"),
        ("def pick(request, instances):\n    return instances[:2]\n", "wrong type", "Return one of `instances`"),
        ("def pick(request, instances):\n    return 7777\n", "wrong type", "Return one of `instances`"),
        ("def pick(instances):\n    return instances[0]\n", "wrong type", "It is called as"),
        ("def pick(request, instances):\n    return instances.pop()\n", "mistake", "AttributeError"),
        (ONE_OF_THE_TWO_EMPTIEST, "mistake", "about 2,000, 1,500, 1,000, 500, 0"),
    ],
    ids=["nothing", "a list", "an unknown id", "one parameter", "empties the list", "another rule"],
)
def test_what_was_not_foreseen_gets_a_sentence(source: str, state: str, said: str) -> None:
    """A missing return, another type, an exception, and a rule that nobody thought of."""
    verdict = EXERCISE.verdict(run(source))

    assert state == verdict.state
    assert said in verdict.message


def test_what_is_expected_is_what_the_rules_do() -> None:
    """Counts of the live graph's picker lie within chance of two distinct choices, and far from all others."""
    picker, rng = PowerOfTwoPicker(random.Random(2)), random.Random(3)
    counts = Counter(min(rng.sample(list(LOADS), 2), key=LOADS.__getitem__) for _ in range(CALLS))

    assert {7002: 2000, 7005: 1500, 7001: 1000, 7004: 500, 7003: 0} == expected(2)
    assert {7002: 1800, 7005: 1400, 7001: 1000, 7004: 600, 7003: 200} == expected(2, again=True)
    assert {7002: 3000, 7005: 1500, 7001: 500, 7004: 0, 7003: 0} == expected(3)
    assert chi_square(counts, expected(2)) < CHANCE
    for other in (expected(3), expected(2, again=True), expected(2, fuller=True)):
        assert chi_square(counts, other) > 2 * CHANCE
    assert picker.mode == "power-of-two"


def test_the_solution_routes_a_simulated_run_as_the_mode_does() -> None:
    """In eight workers' queues its mean time is the mode's, within a twentieth."""
    pick = run(EXERCISE.solution)
    random.seed(1)
    workload = poisson(20_000, 7.2, service=exponential(), seed=11)

    own, mode = (simulate(workload, router_mode=router).steady().time_s.mean() for router in (pick, "power-of-two"))

    assert pytest.approx(mode, rel=0.05) == own
