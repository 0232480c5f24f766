"""How rare giants may be, judged by simulating anew; and the waits of a queue, held against the simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynlab.lessons.exercises import ex04
from dynlab.lessons.exercises.ex04 import CASES, EXERCISES, FACTOR, MEAN_S, RATE, SEEDS, ratios, waits_of
from dynlab.simulate import exponential, giants, poisson, simulate

SHARE, WAITS = EXERCISES

UNSEEN = [(941, 942, 943), (1041, 1042, 1043)]


def run(source: str, name: str) -> Any:
    cell: dict[str, Any] = {}
    exec(source, cell)
    return cell[name]


# ---------------------------------------------------------------------------- 04.1: a share


@pytest.mark.parametrize("seeds", [SEEDS, *UNSEEN])
def test_round_robin_is_worked_out_as_the_simulator_does(seeds: tuple[int, ...]) -> None:
    """A queue for each worker: the same times, request by request."""
    load = poisson(3000, RATE, service=giants(0.05, FACTOR, MEAN_S), seed=seeds[0])

    simulated = simulate(load, router_mode="round-robin").time_s

    assert np.allclose(simulated, ex04.round_robin(load), atol=1e-9)


@pytest.mark.parametrize("share", [0.0005, 0.0006, 0.0007, 0.0008, 0.001])
def test_a_share_near_the_crossing_is_right(share: float) -> None:
    """Within half of it, in either direction; the sentence has the numbers of both sides."""
    verdict = SHARE.verdict(share)

    assert "correct" == verdict.state, verdict.message
    assert f"One giant in {1 / share:,.0f} requests" in verdict.message


@pytest.mark.parametrize(
    ("share", "state", "mistake"),
    [
        (1e-9, "mistake", "too rare"),
        (0.0002, "mistake", "too rare"),
        (0.0003, "close", ""),
        (0.0015, "close", ""),
        (0.005, "mistake", "not the smallest"),
        (0.008, "mistake", "giants in p99"),
        (0.015, "mistake", "giants in p99"),
        (0.02, "mistake", "the mean"),
        (0.05, "mistake", "the second time"),
        (0.09, "mistake", "p50"),
        (0.07, "mistake", "the second time"),
        (5, "mistake", "in percent"),
        (0.99, "mistake", "giants in p99"),
    ],
)
def test_any_other_share_is_told_why(share: float, state: str, mistake: str) -> None:
    """From one giant in a billion to nothing but giants."""
    verdict = SHARE.verdict(share)

    assert (state, mistake) == (verdict.state, verdict.mistake), verdict.message
    assert "{" not in verdict.message


def test_a_share_in_percent_is_told_so() -> None:
    """0.07 % is right, and 0.07 is 7 %."""
    assert "As percent it would be right." in SHARE.verdict(0.07).message
    assert "percent" not in SHARE.verdict(0.04).message


@pytest.mark.parametrize("answer", [True, "0.0007", (0.0007,), float("nan"), 1j, [0.0007]], ids=repr)
def test_a_share_is_a_number(answer: Any) -> None:
    """Whatever else there is, is of the wrong type."""
    assert "wrong type" == SHARE.verdict(answer).state


@pytest.mark.parametrize("answer", [0, -0.1, 101, 10**400, float("inf"), float("-inf")], ids=lambda n: repr(n)[:9])
def test_a_share_is_a_part_of_one(answer: Any) -> None:
    """Nothing is simulated for what cannot be."""
    verdict = SHARE.verdict(answer)

    assert ("mistake", "") == (verdict.state, verdict.mistake)
    assert "is no share" in verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("seeds", UNSEEN)
def test_the_verdicts_do_not_hang_on_the_seeds(seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """With other seeds the solution passes and the same mistakes are named."""
    monkeypatch.setattr(ex04, "ratios", lambda share: ratios(share, seeds))

    assert "correct" == SHARE.verdict(run(SHARE.solution, "share")).state
    for name in ("p50", "the second time", "giants in p99", "not the smallest", "too rare"):
        assert name == SHARE.verdict(run(SHARE.mistakes[name].example, "share")).mistake


@pytest.mark.slow
@pytest.mark.parametrize("seeds", UNSEEN)
def test_what_the_hints_say_is_so(seeds: tuple[int, ...]) -> None:
    """p99 has it from one giant in some 1,500 on, the mean from 2 % on, p50 from 8 % on; from 1 % on p99 hides it."""
    at = {share: ratios(share, seeds) for share in (0.0004, 0.0011, 0.004, 0.01, 0.012, 0.03, 0.06, 0.12)}

    assert at[0.0004].p99 < 2 < at[0.0011].p99 < at[0.004].p99
    assert max(at[0.01].p99, at[0.012].p99) < 2
    assert at[0.012].mean < 2 < at[0.03].mean
    assert at[0.06].p50 < 2 < at[0.12].p50
    assert at[0.06].p99 > 2


# ---------------------------------------------------------------------------- 04.2: waits


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_simulator_waits_alike(seed: int) -> None:
    """One worker in virtual time has the waits that the check holds right, and those of the solution."""
    load = poisson(500, 8.0, service=exponential(0.1), seed=seed)
    arrivals, services = load.arrival_s.tolist(), load.service_s.tolist()

    waited = simulate(load, workers=1).wait_s

    assert np.allclose(waited, waits_of(arrivals, services), atol=1e-9)
    assert np.allclose(waited, run(WAITS.solution, "waits")(arrivals, services), atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_waits_and_idle_times(case: str) -> None:
    """Else some mistakes would pass."""
    arrivals, services = CASES[case]
    waits = waits_of(arrivals, services)

    assert arrivals == sorted(arrivals)
    assert 0 in waits[1:]
    assert max(waits) > 0


AS_ARRAY = """\
import numpy as np

def waits(arrivals, services):
    arrivals, services = np.array(arrivals, float), np.array(services, float)
    before = np.cumsum(services) - services
    return np.maximum.accumulate(arrivals - before) + before - arrivals
"""
WITH_ENDS = """\
def waits(arrivals, services):
    ends = []
    for n, arrival in enumerate(arrivals):
        begin = arrival if n == 0 or ends[-1] < arrival else ends[-1]
        ends.append(begin + services[n])
    return tuple(end - service - arrival for end, service, arrival in zip(ends, services, arrivals))
"""


@pytest.mark.parametrize("source", [AS_ARRAY, WITH_ENDS], ids=["an array", "a tuple"])
def test_any_way_to_write_it_passes(source: str) -> None:
    """With NumPy, or with the ends kept."""
    verdict = WAITS.verdict(run(source, "waits"))

    assert "correct" == verdict.state, verdict.message


@pytest.mark.parametrize(
    ("source", "state"),
    [
        ("def waits(arrivals, services):\n    return [0] * len(arrivals)\n", "mistake"),
        ("def waits(arrivals, services):\n    return [0, 90, 100, 0, 35]\n", "mistake"),
        ("def waits(arrivals, services):\n    return 5\n", "wrong type"),
        ("def waits(arrivals, services):\n    return ['0'] * len(arrivals)\n", "wrong type"),
        ("def waits(arrivals, services):\n    len(arrivals)\n", "mistake"),
        ("def waits(arrivals, services):\n    return arrivals[9]\n", "mistake"),
        ("def waits(arrivals):\n    return arrivals\n", "wrong type"),
        ("def waits(arrivals, services):\n    arrivals.clear()\n    return arrivals\n", "mistake"),
    ],
    ids=["nobody waits", "the first case only", "a number", "texts", "no return", "raises", "one parameter", "clears"],
)
def test_no_constant_passes(source: str, state: str) -> None:
    """What fits the five requests does not fit the 200."""
    assert state == WAITS.verdict(run(source, "waits")).state
