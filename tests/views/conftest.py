"""Traces made by hand: known times, known picks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

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


def kv_decision(
    cached: Sequence[int],
    decode: Sequence[float],
    *,
    chosen: int | None = None,
    prefill: Sequence[int] = (),
    requests: Sequence[int] = (),
    isl: int = 160,
    block_size: int = 16,
    credit: float = 1.0,
    scale: float = 1.0,
    weight: float = 0.0,
) -> RoutingDecision:
    """A pick by cost, worked out as `dynlab.routing.kv` says; by default, the cheapest one is chosen."""
    ids = [FIRST_ID + n for n in range(len(cached))]
    prefill, requests = prefill or [0] * len(ids), requests or [0] * len(ids)
    raw = [(tokens + isl) / block_size for tokens in prefill]
    cost = [
        scale * max(0.0, whole - credit * hit) + blocks + weight * active
        for whole, hit, blocks, active in zip(raw, cached, decode, requests, strict=True)
    ]
    detail = {
        "isl_tokens": isl,
        "block_size": block_size,
        "workers": tuple(ids),
        "prefill_tokens": tuple(prefill),
        "overlap_blocks": tuple(cached),
        "raw_blocks": tuple(raw),
        "credit": (credit,) * len(ids),
        "decode_blocks": tuple(decode),
        "active_requests": tuple(requests),
        "cost": tuple(cost),
    }
    candidates = tuple(Candidate(each, f"DummyWorker-{n}", requests[n]) for n, each in enumerate(ids))
    return RoutingDecision("kv", ids[cost.index(min(cost)) if chosen is None else chosen], candidates, detail)


def flaws(ax: Axes) -> list[str]:
    """Words that are cut off by the edge of the picture, or that lie on others."""
    figure = ax.figure
    figure.draw_without_rendering()
    words = [text for text in ax.findobj(Text) if text.get_text().strip() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in words]
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    cut = drawn.x0 < 0 or drawn.x1 > width or drawn.y0 < 0 or drawn.y1 > height
    return [f"cut off: {drawn}"] * int(cut) + [
        f"{one} on {other}" for (one, a), (other, b) in combinations(boxes, 2) if a.overlaps(b.padded(-1))
    ]
