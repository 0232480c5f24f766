"""Exercise of notebook 06: least-loaded for loads that are reported now and then, without more reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any

from dynlab.lessons.exercise import Exercise, Finding, Mistake, call, need_function, shown, wrong
from dynlab.protocols import EndpointId, Envelope, Instance, to_wire
from dynlab.simulate import Workload, exponential, poisson, simulate

__all__ = ("AGES", "EXERCISES", "LOSES", "SEEDS", "WINS", "mean_time")

WORKERS, LOAD, REQUESTS = 8, 0.9, 4000
SEEDS = (6101, 6102, 6103)
"""No notebook uses them."""
AGES = (2.0, 8.0)
WINS = 0.9
"""What a fix may take of plain least-loaded's mean time with old loads, at each age and with each seed."""
LOSES = 1.1
"""What it may take with fresh loads, over all seeds."""
NEARLY = 1.2

_ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")


def judge(answer: Any) -> str:
    """Let the reader's function route requests with old loads and with fresh ones, beside plain least-loaded."""
    pick = need_function(answer, "pick", "request", "instances")
    told = []
    for age in AGES:
        ratios = [mean_time(_Guarded(pick), age, seed) / _plain(age, seed) for seed in SEEDS]
        told.append(f"{sum(ratios) / len(ratios):.2f} at T = {age:g}")
        if max(ratios) > WINS:
            _diagnose_old(pick, age, ratios)
    loss = sum(mean_time(_Guarded(pick), 0, seed) for seed in SEEDS) / sum(_plain(0, seed) for seed in SEEDS)
    if loss > LOSES:
        _diagnose_fresh(pick, loss)
    said = f"{', '.join(told)} and {loss:.2f} with fresh loads"
    return f"Of plain least-loaded's mean time yours takes {said}, over {len(SEEDS)} hidden seeds."


def mean_time(pick: Any, age: float, seed: int) -> float:
    """Return the mean time in the system with loads that are reported every `age` seconds; 0: always fresh."""
    run = simulate(_workload(seed), workers=WORKERS, router_mode=pick, seed=seed, report_every=age or None)
    return float(run.steady().time_s.mean())


@cache
def _workload(seed: int) -> Workload:
    return poisson(REQUESTS, WORKERS * LOAD, service=exponential(), seed=seed)


@cache
def _plain(age: float, seed: int) -> float:
    return mean_time("least-loaded", age, seed)


class _Guarded:
    """The reader's function, on instances of its own: what it writes into them reaches no run."""

    def __init__(self, pick: Callable[..., Any]) -> None:
        self._pick = pick
        self._own: dict[int, Instance] = {}

    def __call__(self, request: Envelope, instances: Sequence[Instance]) -> int:
        own = tuple(self._own.setdefault(i.instance_id, _instance(i.instance_id)) for i in instances)
        for mine, given in zip(own, instances, strict=True):
            mine.active_requests = given.active_requests
        got = call(self._pick, request, own, given=f"request, {len(own)} instances")
        if [mine.active_requests for mine in own] != [given.active_requests for given in instances]:
            wrong("writes into the loads")
        if isinstance(got, Instance):
            got = got.instance_id
        if type(got) is int and got in self._own:
            return got
        if type(got) is int and 0 <= got < len(own):
            wrong("returns a place", got=got)
        if got is None:
            raise Finding("mistake", "`pick` returned None. Does every way through it end in `return`?")
        raise Finding("wrong type", f"`pick` returned {shown(got)}. Return one of `instances`, or its id.")


def _instance(instance_id: int, load: int = 0) -> Instance:
    return Instance(_ENDPOINT, instance_id, f"DummyWorker-{instance_id - 7000}", load)


# ---------------------------------------------------------------------------- what an answer does wrong

_times = count(1_000_000, 10)


def _probe(pick: Callable[..., Any], first: int, others: int, calls: int, reported: float) -> list[int]:
    """Ask for picks, one after the other, after a report: the first worker has so many requests, all others so many."""
    guarded, picked = _Guarded(pick), []
    for n in range(calls):
        instances = [_instance(7001, first), *(_instance(7001 + place, others) for place in range(1, WORKERS))]
        data = {
            "request_id": f"check-{n}",
            "now_s": reported + 0.1 * (n + 1),
            "reported_s": reported,
            "isl": 0,
            "osl": 1,
        }
        picked.append(guarded(Envelope(_ENDPOINT, f"check-{n}", to_wire({**data, "family": -1})), instances))
    return picked


def _diagnose_old(pick: Callable[..., Any], age: float, ratios: Sequence[float]) -> None:
    """Say why an answer is not faster than plain least-loaded with old loads."""
    emptiest = [_probe(pick, 0, 50, 1, next(_times)) for _ in range(200)].count([7001])
    if emptiest < 37:  # a rule that looks at no load picks it 25 times, and one that looks at two, 50 times
        wrong("looks at no load", ratio=f"{ratios[0]:.2f}", age=f"{age:g}")
    if set(_probe(pick, 0, 3, 12, next(_times))) == {7001}:
        wrong("still least-loaded", ratio=f"{ratios[0]:.2f}", age=f"{age:g}")
    _diagnose_memory(pick)
    said = f"At T = {age:g} it takes {', '.join(f'{ratio:.2f}' for ratio in ratios)} of plain least-loaded's mean time"
    if sum(ratios) / len(ratios) < 1:
        raise Finding("close", f"{said}, by seed. Each should be below {WINS:g}: do better than that.")
    raise Finding("mistake", f"{said}, by seed. It should be faster with each of them.")


def _diagnose_fresh(pick: Callable[..., Any], loss: float) -> None:
    """Say why an answer is slower than plain least-loaded with fresh loads."""
    _diagnose_memory(pick)
    if loss <= NEARLY:
        said = f"With old loads it is faster, but with fresh ones it takes {loss - 1:.0%} longer"
        raise Finding("close", f"{said}; 10 % are allowed. Who is asked when `now_s` is `reported_s`?")
    wrong("slow with fresh loads", loss=f"{loss:.2f}")


def _diagnose_memory(pick: Callable[..., Any]) -> None:
    """Find out whether what was counted before a report is forgotten with it, also when a run begins anew."""
    for name in ("never forgets", "waits for a later report"):
        before = _probe(pick, 0, 10**6, 100, next(_times))  # more than it may remember of runs and probes
        after = _probe(pick, 2, 4, 1, next(_times) if name == "never forgets" else 0.0)
        if set(before) == {7001} != set(after):
            wrong(name)


_KEY = "key=lambda i: i.active_requests + sent.get(i.instance_id, 0))\n"
_COUNTS = """\
reported, sent = None, {}

def pick(request, instances):
    global reported, sent
    if request.data["reported_s"] != reported:
        reported, sent = request.data["reported_s"], {}
"""
_SENDS = (
    f"    chosen = min(instances, {_KEY}"
    "    sent[chosen.instance_id] = sent.get(chosen.instance_id, 0) + 1\n    return chosen\n"
)
_PLAIN = "key=lambda instance: instance.active_requests)\n"

EXERCISES = (
    Exercise(
        number="06.1",
        task="Write `pick(request, instances)`: least-loaded that stays fast when loads are old.",
        answer="pick",
        judge=judge,
        hints=(
            "Between two reports the loads stand still. Of what has changed since, what do you know without asking?",
            "You know whom you sent what. Count your own picks by `instance_id`, and add them to `active_requests`.",
            "A report knows of all sends before it: when `reported_s` is not that of the last time, begin anew at 0.",
        ),
        solution=_COUNTS + _SENDS,
        limit_s=30.0,
        mistakes={
            "still least-loaded": Mistake(
                "At T = {age} it takes {ratio} of plain least-loaded's mean time. All of 12 requests between two "
                "reports go to the one worker that had least. A count inside the function begins anew at each call.",
                f"def pick(request, instances):\n    return min(instances, {_PLAIN}",
            ),
            "looks at no load": Mistake(
                "At T = {age} it takes {ratio} of plain least-loaded's mean time. Where one worker has nothing and "
                "all others have 50, you rarely pick the one: old loads are better than none.",
                "import random\nrng = random.Random(1)\n\ndef pick(request, instances):\n"
                "    return rng.choice(instances)\n",
            ),
            "never forgets": Mistake(
                "What you sent before a report is in the report, and you add it once more: your counts only grow. "
                "Begin anew with each report.",
                "sent = {}\n\ndef pick(request, instances):\n" + _SENDS,
            ),
            "waits for a later report": Mistake(
                "It works in one run. The next run begins at second 0 again, and your function waits for a later "
                "report than the last run's. Ask whether `reported_s` is another one, not whether it is larger.",
                (_COUNTS + _SENDS).replace("None, {}", "-1, {}").replace("!=", ">"),
            ),
            "slow with fresh loads": Mistake(
                "With old loads it is faster. But with fresh ones it takes {loss} of plain least-loaded's mean time; "
                "1.1 is allowed. With fresh loads, ask everybody.",
                "import random\nrng = random.Random(1)\n\ndef pick(request, instances):\n"
                f"    return min(rng.sample(instances, 2), {_PLAIN}",
            ),
            "writes into the loads": Mistake(
                "You change `active_requests`. The runtime counts with it; keep a count of your own.",
                f"def pick(request, instances):\n    chosen = min(instances, {_PLAIN}"
                "    chosen.active_requests += 1\n    return chosen\n",
            ),
            "returns a place": Mistake(
                "It returned {got}, a place in the list. Return the instance that stands there, or its id.",
                "def pick(request, instances):\n    loads = [i.active_requests for i in instances]\n"
                "    return loads.index(min(loads))\n",
            ),
        },
    ),
)
