"""Exercise of notebook 03: weighted round robin, for workers that are not equally fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.protocols import EndpointId, Envelope, Instance

__all__ = ("EXERCISES", "WEIGHTS")

WEIGHTS = {7001: 3, 7002: 1, 7003: 1}
REQUESTS = 1000
SLACK = 4
"""Picks that a smooth rule may be off by after the set of workers changed in the middle of a round."""

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
)
