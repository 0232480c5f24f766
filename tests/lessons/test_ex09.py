"""An error budget, counted by hand; and routers of a reader's own, judged by a race on the check's own seeds."""

from __future__ import annotations

from typing import Any

import pytest

from dynlab.lessons import race as racing
from dynlab.lessons.exercises.ex09 import CASES, EXERCISES, LIMIT_MS, SEEDS, budget_of
from dynlab.simulate import Slow, exponential, poisson, simulate

BUDGET, ROUTER = EXERCISES


def run(source: str, name: str) -> Any:
    cell: dict[str, Any] = {}
    exec(source, cell)
    return cell[name]


# ---------------------------------------------------------------------------- 09.1: an error budget


def test_the_cases_are_what_the_sentence_says() -> None:
    """1.4 and 6.3 budgets, none, and 100 where nobody is answered; each has times at the very limit, or none at all."""
    assert [1.4, 6.3, 0.0, 100.0] == [pytest.approx(budget_of(times, sent)) for times, sent in CASES]
    assert all(LIMIT_MS in times for times, _ in CASES if times)


def test_a_simulated_run_spends_as_much() -> None:
    """Late ones and lost ones of a run with a slow worker, counted in its columns."""
    load = poisson(3000, 48.0, service=exponential(0.1), seed=3)
    ran = simulate(load, router_mode="round-robin", changes=[Slow(20, 3, 0.25)], queue_limit=30)
    bad = 1 - float((ran.ok & (ran.ended_s - load.arrival_s <= LIMIT_MS / 1000)).mean())

    spent = run(BUDGET.solution, "spent")(1000 * ran.time_s, len(ran))

    assert ran.dropped > 0
    assert pytest.approx(100 * bad) == spent == budget_of(1000 * ran.time_s, len(ran))


@pytest.mark.parametrize(
    ("source", "state"),
    [
        ("def spent(times, sent):\n    return 100 - 100 * len([t for t in times if t <= 1000]) / sent\n", "correct"),
        ("def spent(times, sent):\n    return 1.4\n", "mistake"),
        ("def spent(times, sent):\n    return 1.4 if sent == 1000 else 6.3\n", "mistake"),
        ("def spent(times, sent):\n    return 0\n", "mistake"),
        ("def spent(times, sent):\n    return [1.4]\n", "wrong type"),
        ("def spent(times, sent):\n    return True\n", "wrong type"),
        ("def spent(times, sent):\n    len(times)\n", "mistake"),
        ("def spent(times, sent):\n    return times[2000]\n", "mistake"),
        ("def spent(times, sent):\n    times.clear()\n    return sent\n", "mistake"),
    ],
    ids=["the good ones", "a constant", "two constants", "0", "a list", "a bool", "no return", "raises", "clears"],
)
def test_any_way_to_count_passes_and_no_constant(source: str, state: str) -> None:
    """What fits one case does not fit another."""
    assert state == BUDGET.verdict(run(source, "spent")).state


# ---------------------------------------------------------------------------- 09.2: a router


def test_the_seeds_are_the_checks_own() -> None:
    """A router is judged on requests that `race` does not show by itself."""
    assert not set(SEEDS) & set(racing.SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(7301, 7302, 7303, 7304), (7401, 7402, 7403, 7404), (7501, 7502, 7503, 7504)])
def test_the_verdicts_do_not_hang_on_the_seeds(seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """With other seeds the solution is gold, and each mistake keeps its name."""
    monkeypatch.setattr("dynlab.lessons.exercises.ex09.SEEDS", seeds)

    verdict = ROUTER.verdict(run(ROUTER.solution, "pick"))

    assert "correct" == verdict.state, verdict.message
    assert verdict.message.startswith("Gold: "), verdict.message
    for name, mistake in ROUTER.mistakes.items():
        found = ROUTER.verdict(run(mistake.example, "pick"))
        assert ("mistake", name) == (found.state, found.mistake), found.message


def test_a_pass_says_what_is_missing_for_gold() -> None:
    """The emptiest passes; the sentence says where a mode is better, and that ties are to be drawn."""
    verdict = ROUTER.verdict(lambda request, instances: min(instances, key=lambda i: i.active_requests))

    assert ("correct", "") == (verdict.state, verdict.mistake)
    assert verdict.message.startswith("Passed: it beats round-robin in all 5 scenarios.")
    assert "hot prefix (" in verdict.message
    assert ", kv " in verdict.message
    assert "draw one, as `least-loaded` does" in verdict.message


def test_it_is_judged_alike_the_second_time() -> None:
    """What a function remembers of the first check is of no use, and does no harm: ids are new."""
    pick = run(ROUTER.solution, "pick")

    first, again = ROUTER.verdict(pick), ROUTER.verdict(pick)

    assert first.message.startswith("Gold: "), first.message
    assert again.message.startswith("Gold: "), again.message


def test_one_bad_scenario_is_close() -> None:
    """Nearly everything is done: who is least-loaded but with prompts, where it goes round, is told where."""
    source = (
        "from itertools import count\nturn = count()\n\ndef pick(request, instances):\n"
        "    if request.data['family'] >= 0:\n        return instances[next(turn) % len(instances)]\n"
        "    return min(instances, key=lambda i: i.active_requests)\n"
    )

    verdict = ROUTER.verdict(run(source, "pick"))

    assert "ties go to the first" not in ROUTER.mistakes  # a remark, no reason to fail
    assert "close" == verdict.state, verdict.message
    assert "it does not beat round-robin in hot prefix (" in verdict.message


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        (
            "def pick(request, instances):\n    return instances\n",
            "wrong type",
            "Return one of `instances`, or its id.",
        ),
        ("def pick(request, instances):\n    return 'DummyWorker-1'\n", "wrong type", "returned 'DummyWorker-1'"),
        ("def pick(request, instances):\n    return instances[10]\n", "mistake", "IndexError"),
        ("def pick(request, instances):\n    return request.data['prompt']\n", "mistake", "KeyError: 'prompt'"),
        ("def pick(request):\n    return 1\n", "wrong type", "It is called as"),
        ("class pick:\n    pass\n", "wrong type", "Give a function"),
        ("async def pick(request, instances):\n    return instances[0]\n", "wrong type", "`async`"),
    ],
    ids=["a list", "a name", "raises", "no such key", "one parameter", "a class", "async"],
)
def test_what_cannot_route_gets_a_sentence(source: str, state: str, said: str) -> None:
    """Another type, an exception with its line, and another signature."""
    verdict = ROUTER.verdict(run(source, "pick"))

    assert state == verdict.state, verdict.message
    assert said in verdict.message


@pytest.mark.parametrize("place", range(8))
def test_no_constant_passes(place: int) -> None:
    """Neither a place nor an id."""
    assert "always the same worker" == ROUTER.verdict(lambda request, given: given[min(place, len(given) - 1)]).mistake
    assert "remembers who is gone" == ROUTER.verdict(lambda request, given: 7001 + place).mistake
