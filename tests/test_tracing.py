"""What is known of a request, and how many are kept."""

from __future__ import annotations

import gc
import threading

import pytest

from dynlab.errors import TraceNotFoundError
from dynlab.hop import MAX_ITEMS, Hop, Roster
from dynlab.protocols import EndpointId, Instance
from dynlab.tracing import OPEN, RequestTrace, TraceLog

MS = 1_000_000
ENDPOINT = EndpointId("ns", "W", "gen")


def answered(items_ms: list[int], *, sent_ms: int = 0) -> RequestTrace:
    """A request that arrived at 1 ms and whose items left at these."""
    trace = RequestTrace("r")
    hop = trace.hop(None, "Frontend", "fegenerate")
    hop.started_ns, hop.ended_ns, hop.outcome = MS, 100 * MS, "ok"
    hop.item_ns = [t * MS for t in items_ms]
    trace.sent_ns = sent_ms * MS
    return trace


@pytest.mark.parametrize(
    ("items", "ttft", "itl"),
    [([], None, []), ([4], 3.0, []), ([4, 6, 9], 3.0, [2.0, 3.0])],
    ids=["none", "one", "three"],
)
def test_ttft_and_itl_by_their_definitions(items: list[int], ttft: float | None, itl: list[float]) -> None:
    """TTFT runs from the beginning to the first item, ITL from item to item."""
    trace = answered(items)

    assert (ttft, itl) == (trace.ttft_ms, trace.itl_ms)


def test_time_begins_at_the_send_where_it_is_known() -> None:
    """The client's send counts, not the arrival."""
    trace = answered([4], sent_ms=0)
    trace.sent_ns = MS // 2

    assert (3.5, 99.5) == (trace.ttft_ms, trace.duration_ms)


def test_a_pick_keeps_the_loads_it_saw() -> None:
    """Loads that change afterwards do not change the decision; a skipped instance is a candidate all the same."""
    chosen = Instance(ENDPOINT, 7002, "W-1", 1)
    hop = Hop(None, "W", "gen")

    hop.picked("least-loaded", chosen, ((7001, "W-0"), (7002, "W-1")), (3, 1), (7001,), {"tied": 1})
    chosen.active_requests = 9

    decision = hop.decision
    assert decision is not None
    assert [(7001, 3, False), (7002, 1, True)] == [
        (c.instance_id, c.active_requests, c.eligible) for c in decision.candidates
    ]
    assert ("least-loaded", 7002, "W-1") == (decision.mode, decision.instance_id, decision.chosen.worker)


def test_items_beyond_the_bound_are_counted_only() -> None:
    """An endless stream does not fill the memory."""
    hop = Hop(None, "W", "gen")

    for _ in range(MAX_ITEMS + 10):
        hop.item()

    assert (MAX_ITEMS + 10, MAX_ITEMS) == (hop.items, len(hop.item_ns))


def test_events_come_in_the_order_of_time() -> None:
    """Every stop is an event, whichever hop it belongs to."""
    trace = answered([4, 6], sent_ms=0)
    trace.sent_ns, trace.answered_ns = MS // 2, 101 * MS

    assert ["sent", "received", "item", "item", "ended", "answered"] == [event.kind for event in trace.events]


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


def test_a_request_that_was_tried_again_is_what_its_last_try_is() -> None:
    """A first try on a dead worker is a hop; the request itself went well."""
    trace = RequestTrace("r")
    dead, alive = trace.hop(None, "W", "gen"), trace.hop(None, "W", "gen")
    dead.routed_ns, dead.ended_ns, dead.outcome = MS, 2 * MS, "WorkerUnavailableError"
    alive.routed_ns, alive.started_ns, alive.ended_ns, alive.outcome = 2 * MS, 3 * MS, 6 * MS, "ok"
    alive.item_ns = [5 * MS]

    assert ("ok", 4.0, 5.0) == (trace.outcome, trace.ttft_ms, trace.duration_ms)


def test_a_request_that_nobody_could_take_took_no_time() -> None:
    """A hop without any pick begins when it ends."""
    trace = RequestTrace("r")
    trace.hop(None, "W", "gen").ended("NoInstancesError")

    assert ("NoInstancesError", 0.0, None) == (trace.outcome, trace.duration_ms, trace.ttft_ms)


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
