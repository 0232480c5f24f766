"""Exercises of notebook 04: how rare giants may be, and what a queue in virtual time is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

import numpy as np

from dynlab.lessons.exercise import Exercise, Finding, Mistake, call, need_function, shown, wrong
from dynlab.lessons.exercises.values import compare, is_number
from dynlab.simulate import Workload, giants, poisson, simulate
from dynlab.simulate.draws import Floats

__all__ = ("CASES", "EXERCISES", "Ratios", "judge_share", "ratios", "waits_of")

SEEDS = (841, 842, 843)
REQUESTS = 40_000
WORKERS, FACTOR, MEAN_S, RATE = 8, 10, 0.1, 56.0
"""Giants, and the requests per second that keep each of 8 workers busy for 70 % of the time."""
TIMES = 2.0
WITHIN = 1.5
"""The share is right if p99 is less than twice as high with one smaller by this factor, and more with a larger one."""
OWN_TIME = 0.01
"""From this share on, a giant's own time is the p99 of whoever has no queue."""


class Ratios(NamedTuple):
    """Round robin against least-loaded: how many times as high the p50, the mean and the p99 are."""

    p50: float
    mean: float
    p99: float


@lru_cache(maxsize=256)
def ratios(share: float, seeds: tuple[int, ...] = SEEDS, requests: int = REQUESTS) -> Ratios:
    """Serve the same requests, a share of them giants, under both modes; over all seeds together."""
    both: tuple[list[Floats], list[Floats]] = ([], [])
    for seed in seeds:
        load = poisson(requests, RATE, service=giants(share, FACTOR, MEAN_S), seed=seed)
        for times, of_seed in zip(both, (round_robin(load), least_loaded(load)), strict=True):
            times.append(of_seed[requests // 10 :])  # the first met empty workers
    even, least = (np.concatenate(times) for times in both)
    (one, high), (other, low) = (np.quantile(times, (0.5, 0.99)) for times in (even, least))
    return Ratios(float(one / other), float(even.mean() / least.mean()), float(high / low))


def least_loaded(load: Workload) -> Floats:
    """Return the time in the system of each request, in seconds."""
    return simulate(load, workers=WORKERS, router_mode="least-loaded", seed=load.seed or 0).time_s


def round_robin(load: Workload) -> Floats:
    """Return the same under round robin; who gets what is known beforehand, so that it is a queue for each worker."""
    times = np.empty(len(load))
    for worker in range(WORKERS):
        arrivals, services = load.arrival_s[worker::WORKERS], load.service_s[worker::WORKERS]
        times[worker::WORKERS] = services + waits_of(arrivals.tolist(), services.tolist())
    return times


def judge_share(answer: Any) -> str:  # noqa: RET503 - `wrong` never returns
    """Simulate around the reader's share, with seeds of our own: right is where twice is reached, coming from 0."""
    if not is_number(answer) or answer != answer:
        raise Finding("wrong type", f"Give one number, such as 0.05 for 5 %; this is {shown(answer)}.")
    if not 0 < answer <= 100:
        raise Finding("mistake", f"{shown(answer)} is no share: give a number above 0 and below 1, as 0.05 for 5 %.")
    text = f"{answer:g}"
    if answer >= 1:
        wrong("in percent", got=text)
    share = max(float(answer), 1e-4)
    if _crosses(share, WITHIN):
        less, more = (f"{ratios(other).p99:.1f} times as high with {other:.1g}" for other in _around(share, WITHIN))
        return f"One giant in {1 / share:,.0f} requests: on seeds of the check's own, p99 is {less}, and {more}."
    here = ratios(share)
    said = {"got": text, "ratio": f"{here.p99:.1f}", "p50": f"{here.p50:.1f}", "mean": f"{here.mean:.1f}"}
    if _crosses(share, 3):
        raise Finding("close", f"With {text} it is {here.p99:.1f} times, on seeds of the check's own. Not far from it.")
    if share < OWN_TIME / 4 or (share < OWN_TIME and here.p99 >= TIMES):
        wrong("too rare" if here.p99 < TIMES else "not the smallest", **said)
    if 1.6 < here.p50 < 2.6:
        wrong("p50", **said)
    if here.p99 < TIMES and abs(here.mean - TIMES) < 0.15 and share < 0.1:
        wrong("the mean", **said)
    said["percent"] = "As percent it would be right. " if _crosses(share / 100, WITHIN) else ""
    wrong("giants in p99" if here.p99 < TIMES else "the second time", **said)


def _around(share: float, within: float) -> tuple[float, float]:
    return share / within, min(share * within, OWN_TIME / 2)


def _crosses(share: float, within: float) -> bool:
    """Tell whether twice is reached for the first time within a factor of a share."""
    less, more = _around(share, within)
    return share < OWN_TIME / 2 and ratios(less).p99 < TIMES <= ratios(more).p99


def waits_of(arrivals: Sequence[float], services: Sequence[float]) -> list[float]:
    """Return how long each request waits for a worker that serves one after another, in the order of arrival."""
    waits, free = [], 0.0
    for arrival, service in zip(arrivals, services, strict=True):
        waits.append(max(0.0, free - arrival))
        free = max(free, arrival) + service
    return waits


_DRAW = Random(4)
_GAPS = [round(_DRAW.expovariate(1 / 140)) for _ in range(200)]
CASES = {
    "five requests": ([0, 10, 20, 300, 305], [100, 20, 5, 40, 10]),
    "200 requests": (list(accumulate(_GAPS)), [round(_DRAW.expovariate(1 / 100)) for _ in range(200)]),
}
"""Arrivals and service times in ms."""


def judge_waits(answer: Any) -> str:
    """A queue is two lines: a request begins when it has come and the one before it is done."""
    waits = need_function(answer, "waits", "arrivals", "services")
    for name, (arrivals, services) in CASES.items():
        n = len(arrivals)
        given = f"{arrivals}, {services}" if n < 10 else f"{n} arrivals, {n} services"
        got = call(waits, list(arrivals), list(services), given=given)
        if got is None:
            raise Finding("mistake", "`waits(...)` returns None. Is a `return` missing?")
        if not isinstance(got, list | tuple | np.ndarray) or not all(is_number(value) for value in list(got)):
            raise Finding("wrong type", f"`waits(...)` returns {shown(got)}. A list of numbers is asked for, in ms.")
        right = waits_of(arrivals, services)
        begun = [arrival + wait for arrival, wait in zip(arrivals, right, strict=True)]
        ended = [begin + service for begin, service in zip(begun, services, strict=True)]
        if len(got) != n:
            wrong("one is missing", got=len(got), n=n)
        before = [0, *(a + s for a, s in zip(arrivals, services, strict=True))][:n]
        foreseen: dict[str, list[list[float]]] = {
            "the service, too": [[end - arrival for end, arrival in zip(ended, arrivals, strict=True)]],
            "times, not waits": [begun, ended],
            "never idle": [
                [max(0, sum(services[:k]) - arrival) for k, arrival in enumerate(arrivals)],
                [sum(services[:k]) - arrival for k, arrival in enumerate(arrivals)],
            ],
            "below zero": [[end - arrival for end, arrival in zip([0, *ended], arrivals, strict=False)]],
            "only one before": [[max(0, end - arrival) for end, arrival in zip(before, arrivals, strict=True)]],
        }
        compare([float(value) for value in got], right, foreseen, f"For {name}")
    return "That is all there is to virtual time: no clock runs, each begin is worked out from the end before it."


_WAITS = """\
def waits(arrivals, services):
    waited, free = [], 0
    for arrival, service in zip(arrivals, services):
        begin = max(arrival, free)
        waited.append(begin - arrival)
        free = begin + service
    return waited
"""

EXERCISES = (
    Exercise(
        number="04.1",
        task="Give the smallest share of giants at which p99 under round robin is twice that under least-loaded.",
        answer="share",
        judge=judge_share,
        hints=(
            "Halve the share until p99 is less than twice as high. Are you sure that it stays so further down?",
            "A giant makes a queue that lasts for 3 s at 70 % load. How many requests come to that worker meanwhile?",
            "21 requests meet that queue. How many giants does it take until they are 1 in 100? Take 40,000 requests.",
        ),
        solution="share = 0.0007  # one giant in 1,400 requests: those in its queue are the 1 % that p99 is about\n",
        mistakes={
            "in percent": Mistake("{got} looks like percent. A share is a part of 1: 5 % are 0.05.", "share = 5"),
            "p50": Mistake(
                "With {got} it is p50 that is about twice as high, {p50} times; p99 is {ratio} times. "
                "p50 hides a queue until half of the requests stand in one.",
                "share = 0.085",
            ),
            "the mean": Mistake(
                "With {got} it is the mean that is about twice as high, {mean} times; p99 is {ratio} times.",
                "share = 0.021",
            ),
            "the second time": Mistake(
                "{percent}With {got}, p99 is {ratio} times as high, but it is with far fewer giants, too. "
                "Between, it is not: where more than 1 % are giants, p99 under least-loaded is a giant's own time. "
                "Look below 1 %.",
                "share = 0.045",
            ),
            "giants in p99": Mistake(
                "With {got}, p99 is only {ratio} times as high: from about 1 % on, p99 under least-loaded is a giant's "
                "own time. Look below 1 %.",
                "share = 0.012",
            ),
            "not the smallest": Mistake(
                "With {got}, p99 is {ratio} times as high. Fewer giants do for twice.", "share = 0.004"
            ),
            "too rare": Mistake(
                "With {got}, p99 is {ratio} times as high: fewer than 1 in 100 requests stand behind a giant.",
                "share = 0.0001",
            ),
        },
        limit_s=60.0,
    ),
    Exercise(
        number="04.2",
        task="Write `waits(arrivals, services)`: how long each request waits for a worker that serves one at a time.",
        answer="waits",
        judge=judge_waits,
        hints=(
            "Go through the requests in their order, and remember when the worker is free again.",
            "A request begins at the later of two moments: when it comes, and when the one before it has ended.",
            "`begin = max(arrival, free)`; it waited `begin - arrival`, and then `free = begin + service`.",
        ),
        solution=_WAITS,
        mistakes={
            "the service, too": Mistake(
                "{got}: you count the service as well. A wait ends when the service begins.",
                _WAITS.replace("begin - arrival)", "begin + service - arrival)"),
            ),
            "times, not waits": Mistake(
                "{got}: these are times of the clock. Say how long each request waited until then.",
                _WAITS.replace("begin - arrival)", "begin)"),
            ),
            "never idle": Mistake(
                "{got}: your worker goes on from the last end even when nobody was there. An idle worker waits for the "
                "next arrival.",
                _WAITS.replace("begin - arrival)", "max(0, free - arrival))").replace(
                    "free = begin + service", "free = free + service"
                ),
            ),
            "below zero": Mistake(
                "{got}: nobody waits less than no time. Where the worker is idle, the wait is 0.",
                _WAITS.replace("begin - arrival)", "free - arrival)"),
            ),
            "only one before": Mistake(
                "{got}: you look at the request before only as if it had not waited itself. "
                "The worker is free when that has really ended.",
                _WAITS.replace("free = begin + service", "free = arrival + service"),
            ),
            "one is missing": Mistake(
                "You return {got} numbers for {n} requests. The first one has a wait, too: 0.",
                _WAITS.replace("return waited", "return waited[1:]"),
            ),
        },
    ),
)
