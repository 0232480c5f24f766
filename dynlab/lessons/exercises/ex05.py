"""Exercise of notebook 05: two distinct choices, the emptier wins, ties at random. Judged by where many picks go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations
from math import inf
from typing import Any, NamedTuple

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.protocols import EndpointId, Envelope, Instance

__all__ = ("CALLS", "CHANCE", "EXERCISES", "LOADS", "chi_square", "expected")

LOADS = {7001: 3, 7002: 0, 7003: 8, 7004: 5, 7005: 1}
"""No two are alike, and neighbours in the list are not neighbours in load."""
EQUAL = dict.fromkeys(LOADS, 2)
CALLS = 5000
CHANCE = 40.0
"""A right answer has a chi-square above it once in 20 million checks (four degrees of freedom)."""

_ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")


class _Watched(Instance):
    """An instance that notes when its load is looked at."""

    __slots__ = ("_load", "_looks")

    def __init__(self, instance_id: int, load: int, looks: set[int]) -> None:
        self._looks = looks
        super().__init__(_ENDPOINT, instance_id, f"DummyWorker-{instance_id - 7000}", load)

    @property
    def active_requests(self) -> int:
        self._looks.add(self.instance_id)
        return self._load

    @active_requests.setter
    def active_requests(self, load: int) -> None:
        self._load = load


class Tally(NamedTuple):
    """How often each worker was picked, and whose loads were looked at for it, for each set of them how often."""

    picked: Counter[int]
    looks: Counter[frozenset[int]]

    def said(self, loads: Mapping[int, int]) -> str:
        """List the picks, the emptiest first."""
        return ", ".join(f"{i} ({loads[i]}): {self.picked[i]:,}" for i in sorted(loads, key=lambda i: loads[i]))


def judge(answer: Any) -> str:
    """Let the reader's function pick among five different loads, then among equal ones, then of two and of one."""
    pick = need_function(answer, "pick", "request", "instances")
    _judge_loads(_tally(pick, LOADS, CALLS))
    ties = _tally(pick, EQUAL, CALLS)
    if (spread := chi_square(ties.picked, dict.fromkeys(EQUAL, CALLS / len(EQUAL)))) > CHANCE:
        said = ", ".join(f"{i}: {ties.picked[i]:,}" for i in EQUAL)
        wrong("ties not at random", said=said, spread=f"{spread:,.0f}")
    two = {7001: 4, 7002: 1}
    if set(_tally(pick, two, 50).picked) != {7002}:
        raise Finding("mistake", "Of two workers with 4 and 1 requests, the one with 4 is picked, too.")
    try:
        _tally(pick, {7001: 0}, 1)
    except Stumbled as stumbled:
        error = type(stumbled.error).__name__
        raise Finding("close", f"Right for two workers and more. With a single one it raises {error}.") from None
    return (
        f"Of {CALLS:,} picks the fullest of five got none. "
        f"Among equals all got alike: chi-square {spread:.1f}, and chance makes up to {CHANCE:.0f}."
    )


def _tally(pick: Callable[..., Any], loads: Mapping[int, int], calls: int) -> Tally:
    """Call the function many times, and note what it looks at and picks."""
    given = f"request, {len(loads)} instances"
    request = Envelope(_ENDPOINT, "check", '{"prompt": "a prompt", "request_id": "check"}')
    tally = Tally(Counter(), Counter())
    for n in range(calls):
        looks: set[int] = set()
        got = call(pick, request, tuple(_Watched(i, load, looks) for i, load in loads.items()), given=given)
        seen = frozenset(looks)
        if isinstance(got, Instance):
            got = got.instance_id
        if type(got) is int and got in loads:
            tally.picked[got] += 1
            tally.looks[seen] += 1
        elif type(got) is int and 0 <= got < len(loads):
            wrong("returns a place", got=got)
        elif got is None:
            raise Finding("mistake", f"Call {n + 1} returned None. Does every way through `pick` end in `return`?")
        else:
            raise Finding("wrong type", f"`pick` returned {shown(got)}. Return one of `instances`, or its id.")
    return tally


def _judge_loads(tally: Tally) -> None:
    """Hold the picks among five loads against those of each rule that was thought of."""
    if chi_square(tally.picked, expected(2)) <= CHANCE:
        return
    said, fullest = tally.said(LOADS), max(LOADS, key=lambda i: LOADS[i])
    looks = set(tally.looks)
    if looks == {frozenset()}:
        wrong("looks at no load", said=said)
    if len(looks) == 1 and len(min(looks)) <= 2:
        wrong("always the same two", pair=" and ".join(map(str, sorted(*looks))))
    if set(tally.picked) == {min(LOADS, key=lambda i: LOADS[i])}:
        wrong("looks at all")
    if chi_square(tally.picked, expected(2, fuller=True)) <= CHANCE:
        wrong("picks the fuller", fullest=fullest, got=f"{tally.picked[fullest]:,}")
    if chi_square(tally.picked, expected(2, again=True)) <= CHANCE:
        share = f"{tally.picked[fullest] / CALLS:.1%}"
        wrong("compares a worker with itself", fullest=fullest, got=f"{tally.picked[fullest]:,}", share=share)
    if chi_square(tally.picked, expected(3)) <= CHANCE:
        wrong("three choices", said=said)
    pairs = {pair for pair in looks if len(pair) == 2}
    if pairs == looks and len(pairs) < 10:
        wrong("not all pairs", pairs=len(pairs), said=said)
    wanted = ", ".join(f"{share:,.0f}" for share in sorted(expected(2).values(), reverse=True))
    raise Finding("mistake", f"{CALLS:,} picks went, by load, {said}. Two distinct choices make about {wanted}.")


def expected(d: int, fuller: bool = False, again: bool = False) -> dict[int, float]:
    """Return how many picks each worker gets when the emptier, or the fuller, of d wins.

    `again`: of two, where the same one may be drawn twice.
    """
    best = max if fuller else min
    drawn = [(a, b) for a in LOADS for b in LOADS] if again else list(combinations(LOADS, d))
    won = Counter(best(some, key=lambda i: LOADS[i]) for some in drawn)
    return {i: CALLS * won[i] / len(drawn) for i in LOADS}


def chi_square(counts: Mapping[int, int], wanted: Mapping[int, float]) -> float:
    """Return how far counts are from what was wanted; infinitely, where there is one and none was wanted."""
    return sum((counts[i] - n) ** 2 / n if n else inf * counts[i] if counts[i] else 0.0 for i, n in wanted.items())


_LOADED = "key=lambda instance: instance.active_requests)\n"
_PICK = "import random\n\ndef pick(request, instances):\n"
_DRAWN = "    if len(instances) == 1:\n        return instances[0]\n    one, other = random.sample(instances, 2)\n"
_TWO = f"{_PICK}{_DRAWN}    return other if other.active_requests < one.active_requests else one\n"

EXERCISES = (
    Exercise(
        number="05.1",
        task="Write `pick(request, instances)`: the emptier of two distinct instances drawn at random, ties at random.",
        answer="pick",
        judge=judge,
        hints=(
            "Draw two different instances first. Which function of `random` never draws the same one twice?",
            "`random.sample(instances, 2)` draws two in a random order. Compare their `active_requests`.",
            "On a tie the first of the two will do: it was drawn at random. A single instance needs a line of its own.",
        ),
        solution=_TWO,
        mistakes={
            "compares a worker with itself": Mistake(
                "{fullest} is the fullest of five, and got {got} of 5,000 picks, {share}: 1 in 25 times you draw it "
                "twice and compare it with itself. Draw two distinct ones, and it never wins.",
                f"{_PICK}    return min(random.choices(instances, k=2), {_LOADED}",
            ),
            "picks the fuller": Mistake(
                "{fullest} is the fullest of five, and got {got} of 5,000 picks. You pick the fuller of the two.",
                _TWO.replace("<", ">"),
            ),
            "ties not at random": Mistake(
                "The emptier of two wins. But five equal workers got {said}: chi-square {spread}, and chance makes up "
                "to 40. On a tie, neither place nor id may decide.",
                f"{_PICK}{_DRAWN}    return min(one, other, key=lambda i: (i.active_requests, i.instance_id))\n",
            ),
            "looks at all": Mistake(
                "All picks went to the emptiest of five: that is `least-loaded`. Look at two that are drawn at random.",
                f"def pick(request, instances):\n    return min(instances, {_LOADED}",
            ),
            "looks at no load": Mistake(
                "No `active_requests` is looked at. By worker and load, 5,000 picks went {said}.",
                f"{_PICK}    return random.sample(instances, 2)[0] if instances[1:] else instances[0]\n",
            ),
            "always the same two": Mistake(
                "Only {pair} are looked at, in all 5,000 calls. Draw anew in each; a seed set inside the function "
                "makes the same draw again and again.",
                _TWO.replace(_DRAWN, "    random.seed(7)\n" + _DRAWN),
            ),
            "not all pairs": Mistake(
                "Only {pairs} of the 10 pairs are ever drawn, so picks went, by worker and load, {said}. "
                "Any two have to be equally likely, not only neighbours.",
                f"{_PICK}    n = random.randrange(len(instances))\n"
                f"    return min(instances[n], instances[n - 1], {_LOADED}",
            ),
            "three choices": Mistake(
                "By worker and load, 5,000 picks went {said}: that is the emptiest of three. Draw two.",
                f"{_PICK}    return min(random.sample(instances, 3), {_LOADED}",
            ),
            "returns a place": Mistake(
                "It returned {got}, a place in the list. Return the instance that stands there, or its id.",
                f"{_PICK}    return random.randrange(len(instances))\n",
            ),
        },
    ),
)
