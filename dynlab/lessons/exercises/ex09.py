"""Exercises of notebook 09: how much of an error budget is spent, and a router of the reader's own."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from dynlab.lessons.exercise import Exercise, Finding, Mistake, Stumbled, call, need_function, shown, wrong
from dynlab.lessons.exercises.values import compare, is_number
from dynlab.lessons.race import race

__all__ = ("CASES", "EXERCISES", "LIMIT_MS", "SEEDS", "judge_budget", "judge_pick")

LIMIT_MS = 1000
SEEDS = (6301, 6302, 6303, 6304)
"""Neither `race` by itself nor a notebook uses them."""


def _times(n: int, late: int, on_time: int) -> list[float]:
    """Draw times in ms, in no order: so many late ones, and so many that took exactly what is allowed."""
    rng = Random(n)
    times = [LIMIT_MS + rng.randint(1, 4000) for _ in range(late)] + [LIMIT_MS] * on_time
    times += [rng.randint(20, LIMIT_MS - 1) for _ in range(n - len(times))]
    rng.shuffle(times)
    return [float(time) for time in times]


CASES: tuple[tuple[list[float], int], ...] = (
    (_times(990, 4, 3), 1000),
    (_times(1900, 26, 2), 2000),
    (_times(500, 0, 1), 500),
    ([], 40),
)
"""Times of the requests that were answered, and how many were sent."""


def budget_of(times: Sequence[float], sent: int) -> float:
    """Return how much of it is spent: 1 in 100 of those sent may be late or without an answer."""
    late = sum(time > LIMIT_MS for time in times)
    return (late + sent - len(times)) / (0.01 * sent)


def judge_budget(answer: Any) -> str:
    """Late ones and lost ones, against 1 in 100 of those that were sent."""
    spent = need_function(answer, "spent", "times", "sent")
    for times, sent in CASES:
        given = f"{len(times)} times, {sent}"
        try:
            got = call(spent, list(times), sent, given=given)
        except Stumbled as stumbled:
            if times:
                raise
            wrong("falls over when none is answered", sent=sent, error=type(stumbled.error).__name__)
        if got is None:
            raise Finding("mistake", f"`spent({given})` returns None. Is a `return` missing?")
        if not is_number(got):
            raise Finding(
                "wrong type", f"`spent({given})` returns {shown(got)}. A number is asked for: 1.0 is all of it."
            )
        answered, right = len(times), budget_of(times, sent)
        late, lost, on_limit = sum(t > LIMIT_MS for t in times), sent - answered, times.count(LIMIT_MS)
        foreseen: dict[str, list[list[float]]] = {
            "forgets who got no answer": [[100 * late / sent], [100 * late / max(answered, 1)]],
            "forgets who was late": [[100 * lost / sent]],
            "of those answered": [[100 * (late + lost) / max(answered, 1)]],
            "the share, not the budget": [[(late + lost) / sent]],
            "what is left": [[1 - right]],
            "in percent": [[100 * right]],
            "late at the limit": [[right + 100 * on_limit / sent]],
            "counts the good ones": [[(answered - late) / (0.01 * sent)], [(answered - late) / sent]],
        }
        compare([float(got)], [right], foreseen if right else {}, f"For {answered} answers of {sent} requests")
    return "1.4 and 6.3 budgets in the first two cases, none in the third, and 100 where nobody got an answer."


def judge_pick(answer: Any) -> str:
    """Race the reader's function on seeds of the check's own."""
    need_function(answer, "pick", "request", "instances")
    result = race(answer, seeds=SEEDS)
    told = [result.fault] if result.fault is not None else [] if result.passed else list(result.remarks)
    for remark in told:
        if remark.name in _MISTAKES:
            said = remark.said if result.fault else f"{result.finding} {remark.said}"
            wrong(remark.name, said=said.removesuffix("."))
    if result.fault is not None:
        raise Finding("wrong type" if result.fault.name == "returns something else" else "mistake", result.fault.said)
    if not result.passed:
        raise Finding("close" if len(result.not_beaten) == 1 else "mistake", result.finding)
    return " ".join([result.finding, *(remark.said for remark in result.remarks)])


_SPENT = """\
def spent(times, sent):
    late = sum(time > 1000 for time in times)
    lost = sent - len(times)
    return (late + lost) / (0.01 * sent)
"""

_ROUTER = """\
from collections import deque
from random import Random

rng, recent = Random(1), {}  # by instance id: the families of its last 12 requests, so of what it has cached

def pick(request, instances):
    family = request.data["family"]

    def cost(instance):
        had = recent.setdefault(instance.instance_id, deque(maxlen=12))
        return instance.active_requests + (0 if family < 0 or family in had else 3), rng.random()

    best = min(instances, key=cost)
    recent[best.instance_id].append(family)
    return best
"""

_LEAST = "    return min(instances, key=lambda instance: instance.active_requests)\n"


def _pick(body: str, before: str = "") -> str:
    return f"{before}\ndef pick(request, instances):\n{body}"


_MISTAKES = {
    "always the same worker": Mistake("{said}.", _pick("    return instances[0]\n")),
    "ignores the load": Mistake(
        "{said}.",
        _pick("    return rng.choice(instances)\n", "import random\nrng = random.Random(1)\n"),
    ),
    "prefers the busy": Mistake(
        "{said}.",
        _pick(
            "    return max(rng.sample(list(instances), 2), key=lambda instance: instance.active_requests)\n",
            "import random\nrng = random.Random(1)\n",
        ).replace("list(instances), 2", "list(instances), min(2, len(instances))"),
    ),
    "one home for all of a family": Mistake(
        "{said}.",
        _pick(
            "    family = request.data['family']\n    if family >= 0:\n"
            "        return instances[family % len(instances)]\n" + _LEAST
        ),
    ),
    "returns a place": Mistake(
        "{said}.",
        _pick("    loads = [instance.active_requests for instance in instances]\n    return loads.index(min(loads))\n"),
    ),
    "returns nothing": Mistake(
        "{said}.",
        _pick(
            "    for instance in instances:\n        if instance.active_requests == 0:\n            return instance\n"
        ),
    ),
    "remembers who is gone": Mistake(
        "{said}.",
        _pick(
            "    for instance in instances:\n        known.setdefault(instance.instance_id, instance)\n"
            "    return min(known.values(), key=lambda instance: instance.active_requests)\n",
            "known = {}\n",
        ),
    ),
    "changes the instances": Mistake(
        "{said}.",
        _pick(
            "    best = min(instances, key=lambda instance: instance.active_requests)\n"
            "    best.active_requests += 1\n    return best\n"
        ),
    ),
}

EXERCISES = (
    Exercise(
        number="09.1",
        task="Write `spent(times, sent)`: how much of the error budget is spent, 1.0 for all of it.",
        answer="spent",
        judge=judge_budget,
        hints=(
            "Who is bad? Those that took too long, and those that are not in `times` at all.",
            "Of 1,000 sent, 10 may be bad. With 14 bad ones 1.4 budgets are spent.",
            "`late` is how many `times` are above 1000, `lost` is `sent - len(times)`; divide by `0.01 * sent`.",
        ),
        solution=_SPENT,
        mistakes={
            "forgets who got no answer": Mistake(
                "{got}: you count who was late only. Who got no answer is not in `times`, and waits still.",
                _SPENT.replace("late + lost", "late"),
            ),
            "forgets who was late": Mistake(
                "{got}: you count who got no answer only. An answer after 1,000 ms comes too late.",
                _SPENT.replace("late + lost", "lost"),
            ),
            "of those answered": Mistake(
                "{got}: that is of those answered. The more are lost, the smaller that number gets; take those sent.",
                _SPENT.replace("0.01 * sent", "0.01 * max(len(times), 1)"),
            ),
            "the share, not the budget": Mistake(
                "{got} is the share of bad ones. The budget is 1 in 100 of those sent: say how many of these are used.",
                _SPENT.replace("0.01 * sent", "sent"),
            ),
            "what is left": Mistake(
                "{got} is what is left. What is spent is asked for.", _SPENT.replace("return ", "return 1 - ")
            ),
            "in percent": Mistake(
                "{got} is in percent of the budget. 1.0 is all of it.", _SPENT.replace("return ", "return 100 * ")
            ),
            "late at the limit": Mistake(
                "{got}: exactly 1,000 ms is within 1,000 ms, and not late.", _SPENT.replace("> 1000", ">= 1000")
            ),
            "counts the good ones": Mistake(
                "{got}: these are the good ones. The budget is spent by the bad.",
                _SPENT.replace("late + lost", "len(times) - late"),
            ),
            "falls over when none is answered": Mistake(
                "When none of {sent} is answered, it raises {error}. All are bad then.",
                _SPENT.replace("late =", "worst = max(times)\n    late ="),
            ),
        },
    ),
    Exercise(
        number="09.2",
        task="Write `pick(request, instances)`: a router that beats round robin in every scenario.",
        answer="pick",
        judge=judge_pick,
        hints=(
            "Which of `instances` has least to do? That alone beats round robin everywhere.",
            "In hot prefix `kv` goes where a prompt's beginning is cached; `request.data['family']` says whose it is.",
            "Keep the families of each instance's last 12 requests; if this one is not among them, it costs 3 more.",
        ),
        solution=_ROUTER,
        mistakes=_MISTAKES,
        limit_s=120.0,
    ),
)
