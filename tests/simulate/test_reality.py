"""Simulated runs beside what is known otherwise: queueing theory, balls into bins, a simulation of another hand.

Each figure has its statistical error beside it: one standard error of a mean, from the means of twenty stretches of the
run, unless it says otherwise. A figure may be off by three of them. Seeds are fixed, so a test passes always or never.
Offered load is 0.9 of eight workers, and the mean service time is one second, unless it says otherwise.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from dynlab.engine import FifoEngine, Work
from dynlab.routing.modes import RouterMode
from dynlab.simulate.draws import Floats
from dynlab.simulate.service import constant, exponential, giants
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, poisson

WORKERS, LOAD, SEED = 8, 0.9, 7
RATE = WORKERS * LOAD
SERVICES = {"constant": constant(), "exponential": exponential(), "giants": giants()}


@cache
def queueing(n: int, service: str) -> Workload:
    return poisson(n, RATE, service=SERVICES[service], seed=SEED)


def mean_and_error(times: Floats, parts: int = 20) -> tuple[float, float]:
    """Return the mean and its standard error: requests of a queue depend on each other, long stretches hardly do."""
    means = times[: len(times) // parts * parts].reshape(parts, -1).mean(axis=1)
    return float(times.mean()), float(means.std(ddof=1) / math.sqrt(parts))


@cache
def times_of(n: int, service: str, mode: RouterMode, report_every: float | None = None) -> Floats:
    """Return how long requests are with eight workers, without the first tenth, which met empty ones."""
    run = simulate(queueing(n, service), workers=WORKERS, router_mode=mode, seed=SEED, report_every=report_every)
    return run.steady().time_s


def assert_near(expected: float, error: float, times: Floats) -> None:
    """Claim that a mean is three standard errors from what it should be at most, and has the error that is stated."""
    mean, found = mean_and_error(times)
    assert found <= error * 1.5, f"the error is {found:.3g}, not {error:.3g}"
    assert expected == pytest.approx(mean, abs=3 * error)


# ---------------------------------------------------------------------------- queues, exactly


def waits(arrivals: Floats, services: Floats) -> Floats:
    """Return how long each waits for a server that serves one after another (Lindley's recursion, 1952)."""
    sums = np.concatenate([[0.0], np.cumsum(services[:-1] - np.diff(arrivals))])
    return sums - np.minimum.accumulate(np.minimum(sums, 0.0))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("mode", [RouterMode.ROUND_ROBIN, RouterMode.RANDOM, RouterMode.LEAST_LOADED])
def test_each_worker_is_a_queue_of_its_own(mode: RouterMode, service: str) -> None:
    """Whatever a router sends to a worker waits there as Lindley's recursion says, each single request."""
    workload = queueing(20_000, service)
    run = simulate(workload, workers=WORKERS, router_mode=mode, seed=SEED)

    for worker in range(1, WORKERS + 1):
        here = run.worker == worker
        expected = waits(workload.arrival_s[here], workload.service_s[here])
        np.testing.assert_allclose(run.wait_s[here], expected, atol=1e-8)


# ---------------------------------------------------------------------------- queues, in the mean


def in_turn() -> float:
    """The mean time in an E_8/M/1 queue: each worker's gaps are sums of eight (Kleinrock, Queueing Systems, 6.4)."""
    busy = 0.5
    for _ in range(1_000):
        busy = (RATE / (RATE + 1 - busy)) ** WORKERS
    return 1 / (1 - busy)


def mixed(second_moment: float) -> float:
    """The mean time in an M/G/1 queue (Pollaczek and Khinchine)."""
    return 1 + LOAD * second_moment / (2 * (1 - LOAD))


def pooled(servers: int) -> float:
    """The mean time in an M/M/c queue (Erlang C)."""
    offered = servers * LOAD
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - LOAD)
    return 1 + last / (sum(terms) + last) / (servers - offered)


GIANT = 10.0  # seconds: a twentieth of all, the others take a nineteenth of it, and the mean is 1
FIGURES = [
    # What theory says, to be met by requests enough.
    ("exponential", RouterMode.RANDOM, 900_000, mixed(2.0), 0.2),  # M/M/1: 10
    ("constant", RouterMode.RANDOM, 100_000, mixed(1.0), 0.2),  # M/D/1: 5.5
    ("giants", RouterMode.RANDOM, 200_000, mixed(0.05 * GIANT**2 + 0.95 * (GIANT / 19) ** 2), 1.6),  # M/G/1: 24.7
    ("exponential", RouterMode.ROUND_ROBIN, 200_000, in_turn(), 0.2),  # E_8/M/1: 5.78
    # What Lindley's recursion says for 15,000,000 requests.
    ("constant", RouterMode.ROUND_ROBIN, 100_000, 1.450, 0.02),
    ("giants", RouterMode.ROUND_ROBIN, 200_000, 20.3, 1.6),
    # What another simulation said, of the same model, with an error like ours.
    ("exponential", RouterMode.POWER_OF_TWO, 200_000, 3.09, 0.08),
    ("exponential", RouterMode.LEAST_LOADED, 200_000, 2.12, 0.06),
    ("constant", RouterMode.POWER_OF_TWO, 100_000, 2.03, 0.03),
    ("constant", RouterMode.LEAST_LOADED, 100_000, 1.55, 0.02),
]


@pytest.mark.parametrize(("service", "mode", "n", "expected", "error"), FIGURES)
def test_the_mean_time_is_what_it_should_be(
    service: str, mode: RouterMode, n: int, expected: float, error: float
) -> None:
    """Where theory knows the mean time in the system, and where it does not, what others found."""
    assert_near(expected, error, times_of(n, service, mode))


def test_one_engine_of_eight_slots_is_erlangs() -> None:
    """A `FifoEngine` that serves eight at a time has the mean time of M/M/8, 1.88 (+-0.05); no router comes near it.

    Who has its own queue waits while others are idle elsewhere: least-loaded has 2.12.
    """
    workload = queueing(300_000, "exponential")
    engine = FifoEngine(slots=WORKERS)
    ended = np.zeros(len(workload))
    events = []
    for key, (arrival, service_s) in enumerate(zip(workload.arrival_s, workload.service_s, strict=True)):
        events += engine.advance(arrival)
        engine.add(Work(key, service_s), arrival)
    for event in [*events, *engine.advance(math.inf)]:
        if event.kind == "finished":
            ended[event.key] = event.at

    assert 1.88 == pytest.approx(pooled(WORKERS), abs=0.005)
    assert_near(pooled(WORKERS), 0.05, (ended - workload.arrival_s)[30_000:])


def test_which_router_is_best_depends_on_the_service_times() -> None:
    """Round robin is the best for equal ones, and with giants nearly as bad as drawing lots."""
    modes = (RouterMode.ROUND_ROBIN, RouterMode.LEAST_LOADED, RouterMode.POWER_OF_TWO, RouterMode.RANDOM)
    equal = {mode: times_of(100_000, "constant", mode).mean() for mode in modes}
    giant = {mode: times_of(200_000, "giants", mode).mean() for mode in modes if mode != RouterMode.POWER_OF_TWO}

    assert list(modes) == sorted(equal, key=lambda mode: equal[mode])
    assert giant[RouterMode.ROUND_ROBIN] > 0.7 * giant[RouterMode.RANDOM] > 4 * giant[RouterMode.LEAST_LOADED]


def test_workers_of_unequal_speed_need_a_router_that_looks() -> None:
    """At 0.8 of all speeds together, who sends as much to the slow ones as to all others has queues that grow.

    A half-speed worker is sent 0.8 a second and does 0.5: after 9,400 s, 2,800 wait there. Looking at two is enough
    (2.8 +-0.06), looking at all is better (1.6 +-0.02).
    """
    workload = poisson(60_000, 0.8 * 8, service=exponential(), seed=SEED)
    speeds = [2.0, *[1.0] * 5, 0.5, 0.5]
    runs = {
        mode: simulate(workload, workers=8, router_mode=mode, seed=SEED, speeds=speeds)
        for mode in (RouterMode.RANDOM, RouterMode.ROUND_ROBIN, RouterMode.POWER_OF_TWO, RouterMode.LEAST_LOADED)
    }

    for mode in (RouterMode.RANDOM, RouterMode.ROUND_ROBIN):
        half, whole = runs[mode].part(0, 30_000).time_s.mean(), runs[mode].time_s.mean()
        assert whole > 500
        assert 2.0 == pytest.approx(whole / half, rel=0.1)  # twice as long a run, twice as long a wait
    assert_near(2.8, 0.06, runs[RouterMode.POWER_OF_TWO].time_s)
    assert_near(1.57, 0.03, runs[RouterMode.LEAST_LOADED].time_s)


# ---------------------------------------------------------------------------- old news


STALE: dict[float, tuple[tuple[float, float], tuple[float, float]]] = {
    0.5: ((2.93, 0.08), (3.26, 0.1)),
    4.0: ((10.4, 0.3), (4.3, 0.1)),
    16.0: ((35.5, 1.0), (7.3, 0.15)),
}
"""By the seconds between reports: mean times, with their errors, of least-loaded and of power-of-two. From a simulation
that was written by itself: 300,000 requests in a list, and loads counted anew for each."""


@pytest.mark.parametrize("every", STALE)
def test_old_news_hurts_those_most_who_trust_it_most(every: float) -> None:
    """Who asks all is best while the news are fresh; four service times old, worse than drawing lots, which has 10."""
    modes = (RouterMode.LEAST_LOADED, RouterMode.POWER_OF_TWO)
    for mode, (expected, error) in zip(modes, STALE[every], strict=True):
        assert_near(expected, error, times_of(100_000, "exponential", mode, every))


def test_the_curves_cross_between_half_a_service_time_and_a_whole_one() -> None:
    """Asking all is better by 0.3 s with news every half second, and worse by 0.5 s with news every second."""
    gains = []
    for every in (0.5, 1.0):
        of_two, of_all = (
            times_of(100_000, "exponential", mode, every) for mode in (RouterMode.POWER_OF_TWO, RouterMode.LEAST_LOADED)
        )
        gains.append(mean_and_error(of_two - of_all))

    assert gains[0][0] > 3 * gains[0][1]
    assert gains[1][0] < -3 * gains[1][1]


# ---------------------------------------------------------------------------- balls into bins


@pytest.mark.parametrize(
    ("mode", "expected", "error"), [(RouterMode.RANDOM, 5.53, 0.16), (RouterMode.POWER_OF_TWO, 3.0, 0.05)]
)
def test_the_fullest_of_1024_bins(mode: RouterMode, expected: float, error: float) -> None:
    """Of 1,024 balls the fullest bin has 5.5 where they fall at random, and 3.0 where each takes the emptier of two.

    Nothing ends before all have come. The mean is of 20 seeds; 5.53 is 1 - (P(Poisson(1) <= k))**1024, summed over k.
    """
    n = 1024
    balls = poisson(n, 1.0, service=constant(1e6), seed=SEED)

    fullest = [simulate(balls, workers=n, router_mode=mode, seed=seed).max_load for seed in range(20)]

    assert expected == pytest.approx(np.mean(fullest), abs=3 * error)
    assert np.std(fullest, ddof=1) / math.sqrt(20) <= 1.5 * error
    poisson_cdf = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(20)])
    assert 5.53 == pytest.approx(float((1 - poisson_cdf**n).sum()), abs=0.01)
