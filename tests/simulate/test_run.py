"""`dynlab.simulate.run`: what is read off a run's columns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dynlab.engine import MockEngineArgs
from dynlab.errors import ConfigError
from dynlab.simulate.changes import Kill
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, poisson, prefix_families


def hand_made(**given: Any) -> Run:
    """Return a run of four requests: two answered, one dropped, one that found nobody."""
    workload = Workload(
        name="by hand",
        arrival_s=np.array([0.0, 1.0, 2.0, 3.0]),
        service_s=np.zeros(4),
        isl=np.array([32, 64, 16, 40], np.int64),
        osl=np.array([3, 1, 1, 1], np.int64),
        sequences=[(1, 2), (1, 2, 3, 4), (5,), (6, 7)],
        family=np.full(4, -1, np.int64),
    )
    nan = np.nan
    run = Run(
        workload=workload,
        router="random",
        seed=7,
        workers=3,
        worker=np.array([1, 3, 3, 0]),
        routed_s=np.array([0.0, 1.0, 2.0, nan]),
        started_s=np.array([0.0, 1.5, nan, nan]),
        first_token_s=np.array([1.0, 2.0, nan, nan]),
        ended_s=np.array([5.0, 2.0, 2.0, 3.0]),
        cached_blocks=np.array([0, 2, 0, 0]),
        outcome=np.array([Outcome.OK, Outcome.OK, Outcome.DROPPED, Outcome.NOBODY], np.int8),
    )
    return dataclasses.replace(run, **given)


def test_times_are_of_those_answered() -> None:
    """From arrival to start, to the first token, to the end; and between tokens where there are several."""
    run = hand_made()

    assert [0.0, 0.5] == run.wait_s.tolist()
    assert [1.0, 1.0] == run.ttft_s.tolist()
    assert [5.0, 1.0] == run.time_s.tolist()
    assert [2.0] == run.itl_s.tolist()
    assert [True, True, False, False] == run.ok.tolist()


def test_counts_are_of_all_that_were_sent() -> None:
    """A dropped request was sent to its worker; one that found nobody was not."""
    run = hand_made()

    assert [1, 0, 2] == run.requests_per_worker.tolist()
    assert [32, 0, 80] == run.work_per_worker.tolist()
    assert (2, 0.5, 5.0) == (run.max_load, run.dropped, run.end_s)
    assert 2 / 5 == run.goodput
    assert 2 / 6 == run.hit_rate


def test_one_line_says_what_matters() -> None:
    """What was run, how long it took, and what it cost."""
    assert (
        "<Run random: 4 requests over 3 workers, TTFT mean 1 s, p99 1 s, 33.3% of blocks cached, "
        "50.0% without an answer, seed 7>" == repr(hand_made())
    )
    assert repr(simulate(poisson(5, 1.0))).startswith(
        "<Run round-robin: 5 requests over 8 workers, time in system mean"
    )
    assert "<Run random: 4 requests over 3 workers, 100.0% without an answer, seed 7>" == repr(
        hand_made(outcome=np.full(4, Outcome.LOST, np.int8))
    )


def test_nothing_answered_is_no_number() -> None:
    """No times, no hit rate, no goodput: and no warning of NumPy's."""
    run = hand_made(outcome=np.full(4, Outcome.DROPPED, np.int8))

    assert [] == run.time_s.tolist() == run.itl_s.tolist()
    assert np.isnan(run.hit_rate)
    assert (1.0, 0.0) == (run.dropped, run.goodput)
    assert np.isnan(simulate(poisson(3, 1.0)).hit_rate)


def test_the_beginning_may_be_left_out() -> None:
    """Of a thousand requests, nine hundred: the same columns without their first hundred."""
    run = simulate(poisson(1_000, 7.0, seed=3), router_mode="random", changes=[Kill(60.0, 2)])

    steady = run.steady()

    assert (900, 750) == (len(steady), len(run.steady(0.25)))
    assert run.ended_s[100:].tolist() == steady.ended_s.tolist()
    assert run.workload.arrival_s[100:].tolist() == steady.workload.arrival_s.tolist()
    assert run.wait_s[-800:].tolist() == steady.wait_s[-800:].tolist()
    assert run.steady(0.0).worker.tolist() == run.worker.tolist()
    for share in (1.0, -0.1):
        with pytest.raises(ConfigError, match=f"share={share}"):
            run.steady(share)


def test_decisions_keep_their_requests() -> None:
    """Those of a part are numbered as its requests are."""
    run = simulate(
        prefix_families(20, 1.0, seed=1),
        workers=2,
        router_mode="kv",
        engine=MockEngineArgs(),
        keep_decisions=True,
    )

    part = run.part(5, 15)

    assert list(range(10)) == sorted(part.decisions)
    assert run.decisions[5] is part.decisions[0]
