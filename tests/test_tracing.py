"""What is known of a request, and how many are kept."""

from __future__ import annotations

import pytest

from dynlab.hop import MAX_ITEMS, Hop
from dynlab.protocols import EndpointId, Instance
from dynlab.tracing import RequestTrace

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
