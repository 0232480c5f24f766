"""Traces made by hand: known times, known picks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.traces import Trace, Traces

MS = 1_000_000
FIRST_ID = 7001


def hop_of(
    parent: Hop | None,
    worker: str,
    endpoint: str,
    *,
    routed: float = 0.0,
    started: float = 0.0,
    ended: float = 0.0,
    items: Iterable[float] = (),
    outcome: str = "ok",
) -> Hop:
    """A hop with times in ms."""
    hop = Hop(parent, worker.rpartition("-")[0], endpoint)
    hop.worker, hop.thread, hop.outcome = worker, f"dynlab-{worker}", outcome
    hop.routed_ns, hop.started_ns, hop.ended_ns = int(routed * MS), int(started * MS), int(ended * MS)
    times = [int(t * MS) for t in items]
    hop.item_ns, hop.items = times, len(times)
    return hop


@pytest.fixture
def one_request() -> Trace:
    """A request as the graph gives it: sent at 1 ms, answered at 6 ms, two items."""
    trace = Trace("r-1")
    trace.sent_ns, trace.answered_ns = 1 * MS, 6 * MS
    front = hop_of(None, "Frontend-0", "fegenerate", started=2, ended=5.5, items=[4.5, 5.2])
    processor = hop_of(front, "Processor-0", "mdgenerate", routed=2.2, started=2.5, ended=5, items=[4.2, 4.9])
    worker = hop_of(processor, "DummyWorker-1", "begenerate", routed=2.8, started=3, ended=4.8, items=[4, 4.7])
    trace.hops += [front, processor, worker]
    return trace


@pytest.fixture
def picked() -> Callable[..., Traces]:
    """Make traces whose picks are given: `picked("random", [0, 2, 1], workers=4)`."""

    def make(mode: str, picks: Iterable[int], workers: int = 4, seed: int | None = 7) -> Traces:
        candidates = tuple(Candidate(FIRST_ID + n, f"DummyWorker-{n}", 0) for n in range(workers))
        traces = Traces(seed=seed)
        for number, pick in enumerate(picks, start=1):
            trace = traces.begin(f"r-{number}")
            hop = hop_of(None, f"DummyWorker-{pick}", "begenerate", routed=number, started=number, ended=number + 0.5)
            hop.instance_id = FIRST_ID + pick
            hop.decision = RoutingDecision(mode, FIRST_ID + pick, candidates)
            trace.hops.append(hop)
        return traces

    return make
