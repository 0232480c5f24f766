"""How many requests are kept, and in which form."""

from __future__ import annotations

import gc
import threading

import pytest

from dynlab.errors import TraceNotFoundError
from dynlab.hop import Roster
from dynlab.protocols import EndpointId, Instance
from dynlab.trace_log import OPEN, TraceLog
from dynlab.tracing import RequestTrace

MS = 1_000_000
ENDPOINT = EndpointId("ns", "W", "gen")


def test_the_log_keeps_the_newest() -> None:
    """A full log drops its oldest request, and says so when asked for it."""
    log: TraceLog[RequestTrace] = TraceLog(max_requests=3)
    for n in range(5):
        log.begin(f"r-{n}")

    assert ["r-2", "r-3", "r-4"] == [trace.request_id for trace in log]
    with pytest.raises(
        TraceNotFoundError, match=r"No trace of request 'r-1'; 3 are kept, the newest: 'r-2', 'r-3', 'r-4'"
    ):
        log["r-1"]


def test_a_repeated_id_finds_the_newest() -> None:
    """Both requests are kept; the id means the later one, also after the earlier has left."""
    log: TraceLog[RequestTrace] = TraceLog(max_requests=2)
    first, second = log.begin("r"), log.begin("r")

    log.begin("s")

    assert second is log["r"]
    assert first not in list(log)


def test_a_misspelt_id_is_guessed() -> None:
    """The error knows the closest id."""
    log: TraceLog[RequestTrace] = TraceLog()
    log.begin("request-1")

    with pytest.raises(TraceNotFoundError, match="Did you mean 'request-1'"):
        log["reqest-1"]


def test_an_empty_log_has_no_last() -> None:
    """It says that nothing is kept."""
    with pytest.raises(TraceNotFoundError, match="0 are kept"):
        _ = TraceLog().last


def test_a_worker_that_got_nothing_counts_zero() -> None:
    """Candidates that were never chosen are workers too, in the order of ids."""
    log: TraceLog[RequestTrace] = TraceLog()
    chosen = Instance(ENDPOINT, 7002, "W-1")
    roster = ((7001, "W-0"), (7002, "W-1"), (7003, "W-2"))
    for _ in range(2):
        log.begin("r").hop(None, "W", "gen").picked("direct", chosen, roster, (0, 0, 0), (), {})

    assert {"W-0": 0, "W-1": 2, "W-2": 0} == log.requests_per_worker()


def test_threads_may_write_while_others_read() -> None:
    """Iterating over a log that grows and drops gives whole traces and no error."""
    log: TraceLog[RequestTrace] = TraceLog(max_requests=50)
    done = threading.Event()

    def write() -> None:
        for n in range(5_000):
            log.begin(f"r-{n}").hop(None, "W", "gen").item()
        done.set()

    writer = threading.Thread(target=write, name="writer")
    writer.start()
    seen = 0
    while not done.is_set():
        seen = max(seen, sum(1 for trace in log if trace.hops is not None))
    writer.join()

    assert 50 == len(log)
    assert seen <= 50


def test_a_log_has_room_for_one() -> None:
    """No room at all is a mistake."""
    with pytest.raises(ValueError, match="max_requests=0 must be at least 1"):
        TraceLog(max_requests=0)


def roster_of(workers: int) -> Roster:
    return tuple((7001 + n, f"W-{n}") for n in range(workers))


def finished(log: TraceLog[RequestTrace], request_id: str, roster: Roster | None = None) -> RequestTrace:
    """A request that went through two tiers and is over."""
    roster = roster or roster_of(2)
    trace = log.begin(request_id)
    front = trace.hop(None, "Frontend", "fegenerate")
    front.started("dynlab-Frontend-0")
    worker = trace.hop(front, "W", "gen")
    worker.picked("random", Instance(ENDPOINT, 7002, "W-1"), roster, (2, 0), (), {})
    worker.started("dynlab-W-1")
    for hop in (worker, front):
        for _ in range(3):
            hop.item()
        hop.ended("ok")
    return trace


def test_a_packed_trace_tells_the_same() -> None:
    """Hundreds of requests later nothing of a trace has changed, and the client's times still find it."""
    log: TraceLog[RequestTrace] = TraceLog()
    trace = finished(log, "old")
    told = (trace.events, trace.decisions, trace.itl_ms, [hop.depth for hop in trace.hops])

    for n in range(OPEN + 1):
        finished(log, f"new-{n}")
    again = log["old"]

    assert again is not trace
    assert told == (again.events, again.decisions, again.itl_ms, [hop.depth for hop in again.hops])
    log.stamp("old", MS, 5 * MS)
    assert (MS, 5 * MS) == (log["old"].sent_ns, next(iter(log)).answered_ns)


def test_a_running_request_is_never_packed() -> None:
    """What its tiers still write is seen, however many requests came after it."""
    log: TraceLog[RequestTrace] = TraceLog()
    hop = log.begin("slow").hop(None, "W", "gen")
    for n in range(OPEN + 1):
        finished(log, f"new-{n}")

    hop.item()

    assert 1 == log["slow"].hops[0].items


def test_a_full_log_gives_the_collector_nothing_to_visit() -> None:
    """Packed traces are tuples of numbers and words, which the garbage collector lets go of."""
    log: TraceLog[RequestTrace] = TraceLog()
    roster = roster_of(2)
    for n in range(OPEN + 500):
        finished(log, f"r-{n}", roster)
    for _ in range(4):  # the roster that all picks share nests tuples, and each pass lets go of one level
        gc.collect()

    packed = [entry for entry in log._traces if isinstance(entry, tuple)]

    assert 500 == len(packed)
    assert not any(gc.is_tracked(entry) for entry in packed)


def test_an_answered_request_is_packed_at_once() -> None:
    """`end` packs what every tier is done with; a copy tells the same, and takes the client's times."""
    log: TraceLog[RequestTrace] = TraceLog()
    trace = finished(log, "r")
    log.end(trace)
    told = log["r"]

    log.stamp("r", MS, 5 * MS)

    assert told is not trace
    assert trace.events == told.events
    assert (MS, 5 * MS) == (log["r"].sent_ns, log["r"].answered_ns)


def test_a_request_that_a_tier_still_works_on_stays_as_it_is() -> None:
    """The reader was answered, but what the worker still writes is seen."""
    log: TraceLog[RequestTrace] = TraceLog()
    trace = log.begin("r")
    trace.hop(None, "Frontend", "fegenerate").ended("stopped")
    worker = trace.hop(trace.hops[0], "W", "gen")

    log.end(trace)
    worker.item()

    assert 1 == log["r"].hops[1].items


def test_the_end_of_a_request_that_left_the_log_harms_no_other() -> None:
    """A full log drops the oldest; its end comes later."""
    log: TraceLog[RequestTrace] = TraceLog(max_requests=2)
    traces = [finished(log, f"r-{n}") for n in range(4)]
    part = log.only(["r-3", "r-2"])

    for trace in traces:
        log.end(trace)
        part.end(trace)
    log.clear()
    for trace in traces:
        log.end(trace)

    assert ["r-3", "r-2"] == [trace.request_id for trace in part]
    assert [] == list(log)
