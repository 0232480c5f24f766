"""Exercises of notebook 03: weighted round robin for workers that are not equally fast, and what p99 is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from random import Random
from typing import Any

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.lessons.exercises.values import compare, is_number
from dynlab.protocols import EndpointId, Envelope, Instance

__all__ = ("EXERCISES", "WEIGHTS")

WEIGHTS = {7001: 3, 7002: 1, 7003: 1}
REQUESTS = 1000
SLACK = 4
"""Picks that a smooth rule may be off by after the set of workers changed in the middle of a round."""

TIMES = {n: Random(n).sample([15.0, *(20.0 + 2.5 * step for step in range(n - 1))], n) for n in (200, 40)}
"""Times of 200 and of 40 requests in ms, in no order; each happened once."""

_ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")


def judge(answer: Any) -> str:
    """Let the reader's function pick, for three workers and then for fewer."""
    pick = need_function(answer, "pick", "request", "instances")
    all_three = [Instance(_ENDPOINT, instance_id, f"DummyWorker-{n}") for n, instance_id in enumerate(WEIGHTS)]
    _judge_all_three(_picks(pick, all_three, REQUESTS))
    for gone in (7003, 7001):
        _judge_after_leave(pick, [i for i in all_three if i.instance_id != gone], gone)
    return "600, 200 and 200 of 1,000; never three in a row; and the weights still hold after a worker left."


def _picks(pick: Callable[..., Any], instances: Sequence[Instance], requests: int) -> list[int]:
    """Return the ids that the function picks."""
    ids = [instance.instance_id for instance in instances]
    given = f"request, {len(instances)} instances"
    picked = []
    for n in range(requests):
        request = Envelope(_ENDPOINT, f"check-{n}", '{"prompt": "a prompt", "request_id": "check"}')
        got = call(pick, request, list(instances), given=given)
        if isinstance(got, Instance):
            got = got.instance_id
        if type(got) is int and got in ids:
            picked.append(got)
        elif type(got) is int and got in WEIGHTS:
            wrong("sends to a worker that left", got=got, ids=", ".join(map(str, ids)))
        elif type(got) is int and 0 <= got < len(ids):
            wrong("returns a place", got=got, ids=", ".join(map(str, ids)))
        elif got is None:
            raise Finding("mistake", f"Call {n + 1} returned None. Does every way through `pick` end in `return`?")
        else:
            raise Finding("wrong type", f"`pick` returned {shown(got)}. Return one of `instances`, or its id.")
    return picked


def _judge_all_three(picked: list[int]) -> None:
    counts = Counter(picked)
    wanted = {i: REQUESTS * weight // sum(WEIGHTS.values()) for i, weight in WEIGHTS.items()}
    said = ", ".join(f"{i}: {counts[i]}" for i in WEIGHTS)
    if counts == wanted:
        longest = max(len(list(run)) for _, run in groupby(picked))
        if longest > 2:
            wrong("runs of three", longest=longest)
        return
    if len(counts) == 1:
        wrong("forgets between calls", only=picked[0])
    if max(counts.values()) - min(counts[i] for i in WEIGHTS) <= 1:
        wrong("all the same weight", said=said)
    if all(abs(counts[i] - wanted[i]) <= 1 for i in WEIGHTS):
        raise Finding("close", f"Off by one: {said}. 1,000 is a multiple of 5, so each round must be whole.")
    if all(abs(counts[i] - wanted[i]) <= 90 for i in WEIGHTS) and _irregular(picked):
        wrong("drawn by lot", said=said)
    raise Finding("mistake", f"1,000 requests went {said}. Weights 3:1:1 make 600, 200 and 200.")


def _irregular(picked: list[int]) -> bool:
    """True unless the picks repeat after some round of up to twenty."""
    return all(picked[length:] != picked[:-length] for length in range(1, 21))


def _judge_after_leave(pick: Callable[..., Any], left: list[Instance], gone: int) -> None:
    ids = [instance.instance_id for instance in left]
    try:
        counts = Counter(_picks(pick, left, 400))
    except Stumbled as stumbled:
        wrong("falls over when a worker leaves", gone=gone, error=type(stumbled.error).__name__)
    total = sum(WEIGHTS[i] for i in ids)
    wanted = {i: 400 * WEIGHTS[i] // total for i in ids}
    if all(abs(counts[i] - wanted[i]) <= SLACK for i in ids):
        return
    said = ", ".join(f"{i}: {counts[i]}" for i in ids)
    wrong("weights slip after a leave", gone=gone, said=said, wanted=", ".join(f"{i}: {wanted[i]}" for i in ids))


def judge_p99(answer: Any) -> str:
    """The shortest time within which 99 % were done, whatever their number."""
    p99 = need_function(answer, "p99", "times")
    for n, times in TIMES.items():
        got = call(p99, list(times), given=f"the times of {n} requests")
        if got is None:
            raise Finding("mistake", "`p99(times)` returns None. Is a `return` missing?")
        if not is_number(got):
            raise Finding("wrong type", f"`p99(times)` returns {shown(got)}. One number is asked for, in milliseconds.")
        ordered = sorted(times)
        rank = -(-99 * n // 100)  # 198 of 200, and all of 40, as 39 would be 97.5 %
        foreseen = {
            "in no order": [[times[place]] for place in (rank - 1, min(rank, n - 1), int(0.99 * (n - 1)))],
            "the slowest": [[ordered[-1]]],
            "the mean": [[sum(times) / n]],
            "the fast end": [[ordered[place]] for place in (n - rank, n // 100, n // 100 - 1)],
            "one rank too far": [[ordered[min(rank, n - 1)]]],
            "one rank too near": [[ordered[rank - 2]]],
        }
        if ordered[rank - 2] < got < ordered[min(rank, n - 1)] and got not in times:
            said = f"{got:g} ms lies between two of the {n} times"
            raise Finding("close", f"{said}; some programs draw a line there. Return a time that a request took.")
        compare([got], [ordered[rank - 1]], foreseen, f"For the times of {n} requests")
    return "The 198th of 200 times, and of 40 the slowest: 39 would only be 97.5 %."


_WEIGHTS = "WEIGHTS = {7001: 3, 7002: 1, 7003: 1}\n"

_SMOOTH = (
    _WEIGHTS
    + """\
credit = {}

def pick(request, instances):
    weights = {i.instance_id: WEIGHTS[i.instance_id] for i in instances}
    for worker, weight in weights.items():
        credit[worker] = credit.get(worker, 0) + weight
    best = max(weights, key=lambda worker: credit[worker])
    credit[best] -= sum(weights.values())
    return best
"""
)


_P99 = """\
from math import ceil

def p99(times):
    return sorted(times)[ceil(0.99 * len(times)) - 1]
"""


def _cycle(order: str, chosen: str) -> str:
    """Write an answer that goes round a list."""
    return f"from itertools import count\nturn = count()\n\ndef pick(request, instances):\n{order}    return {chosen}\n"


EXERCISES = (
    Exercise(
        number="03.1",
        task="Write `pick(request, instances)` for the weights 7001: 3, 7002: 1, 7003: 1.",
        answer="pick",
        judge=judge,
        hints=(
            "Of five requests 7001 gets three. Write down an order without three in a row, also where it begins anew.",
            "Remember where you are in something outside the function, and look only at the instances you are given.",
            "Each call: add each worker's weight to its credit, pick the highest, and take all weights off that one.",
        ),
        solution=_SMOOTH,
        mistakes={
            "drawn by lot": Mistake(
                "1,000 requests went {said}: near, but by lot. Weighted round robin is exact; it takes turns.",
                f"import random\n{_WEIGHTS}rng = random.Random(1)\n\ndef pick(request, instances):\n"
                "    weights = [WEIGHTS[i.instance_id] for i in instances]\n"
                "    return rng.choices(instances, weights)[0]\n",
            ),
            "runs of three": Mistake(
                "The counts are exact, but one worker gets {longest} requests in a row while the others wait for work. "
                "Put the others in between.",
                _WEIGHTS
                + _cycle(
                    "    order = [i for i in instances for _ in range(WEIGHTS[i.instance_id])]\n",
                    "order[next(turn) % len(order)]",
                ),
            ),
            "forgets between calls": Mistake(
                "All 1,000 requests went to {only}. A counter made inside the function begins anew with each call; "
                "keep it outside.",
                "def pick(request, instances):\n    turn = 0\n    order = [0, 1, 0, 2, 0]\n"
                "    chosen = instances[order[turn] % len(instances)]\n    turn += 1\n    return chosen\n",
            ),
            "all the same weight": Mistake(
                "1,000 requests went {said}: that is plain round robin. 7001 should get three of five.",
                _cycle("", "instances[next(turn) % len(instances)]"),
            ),
            "falls over when a worker leaves": Mistake(
                "It works with three workers. When {gone} leaves, it raises {error}: it counts on an instance "
                "that is no longer in `instances`.",
                _cycle("    order = [0, 1, 0, 2, 0]\n", "instances[order[next(turn) % 5]]"),
            ),
            "sends to a worker that left": Mistake(
                "It returned {got}, which has left; there were {ids}. Pick from the instances you are given.",
                _cycle("    order = [7001, 7002, 7001, 7003, 7001]\n", "order[next(turn) % 5]"),
            ),
            "weights slip after a leave": Mistake(
                "After {gone} left, 400 requests went {said}; the weights make {wanted}. "
                "A weight belongs to a worker's id, not to its place in the list.",
                _cycle("    order = [0, 1, 0, 2, 0]\n", "instances[order[next(turn) % 5] % len(instances)]"),
            ),
            "returns a place": Mistake(
                "It returned {got}, a place in the list. Return `instances[{got}]`, or an id: {ids}.",
                _cycle("    order = [0, 1, 0, 2, 0]\n", "order[next(turn) % 5]"),
            ),
        },
    ),
    Exercise(
        number="03.2",
        task="Write `p99(times)`: the shortest of the times within which at least 99 % of the requests were done.",
        answer="p99",
        judge=judge_p99,
        hints=(
            "Put the times in order first. How many requests are 99 % of 200, and where does the last of them stand?",
            "The 198th of 200 stands at place 197. For 40 requests 99 % are 39.6: is the 39th enough?",
            "`math.ceil(0.99 * len(times))` says the how-manieth it is; places begin at 0.",
        ),
        solution=_P99,
        mistakes={
            "in no order": Mistake(
                "{got} ms is a time from somewhere in the middle: `times` is in no order. Sort a copy first.",
                _P99.replace("sorted(times)", "times"),
            ),
            "the slowest": Mistake(
                "{got} ms is the slowest request: 100 % were done by then. Of 200, two may take longer than p99.",
                "def p99(times):\n    return max(times)\n",
            ),
            "the mean": Mistake(
                "{got} ms is the mean. It mixes the few slow ones with the many fast ones; "
                "p99 is the time that one in a hundred exceeds.",
                "def p99(times):\n    return sum(times) / len(times)\n",
            ),
            "the fast end": Mistake(
                "{got} ms is at the fast end: nearly all take longer. Sort upwards, and count from the fastest.",
                _P99.replace("sorted(times)", "sorted(times, reverse=True)"),
            ),
            "one rank too far": Mistake(
                "{got} ms is the 199th of 200 times. Places begin at 0: the 198th stands at place 197.",
                _P99.replace(" - 1]", "]"),
            ),
            "one rank too near": Mistake(
                "Of 40 requests you return the 39th, {got} ms. Only 97.5 % were done by then: round up.",
                _P99.replace("ceil(", "int("),
            ),
        },
    ),
)
