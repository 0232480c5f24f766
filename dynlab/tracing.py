"""What happened to each request, at every stop, in nanoseconds (Dynamo: its spans, and `--router-mode`'s log lines).

The hot path only sets attributes of a `Hop`; events, latencies and decisions are worked out when somebody reads.
All times are `clock.now_ns`: one monotonic clock for all threads of the process.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from dynlab.errors import TraceNotFoundError
from dynlab.hop import Hop
from dynlab.protocols import RoutingDecision

__all__ = ("RequestTrace", "TraceEvent", "TraceLog")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One stop of a request: `kind` is sent, received, routed, started, item, ended or answered."""

    t_ns: int
    kind: str
    service: str
    endpoint: str
    instance_id: int | None
    worker: str
    thread: str
    detail: str = ""


class RequestTrace:
    """All that is known of one request: its hops in the order in which they began."""

    __slots__ = ("answered_ns", "hops", "request_id", "sent_ns")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.hops: list[Hop] = []
        self.sent_ns = 0  # set when dynlab itself asked over HTTP; 0 for curl
        self.answered_ns = 0

    def hop(self, parent: Hop | None, service: str, endpoint: str) -> Hop:
        """Begin a tier's part."""
        hop = Hop(parent, service, endpoint)
        self.hops.append(hop)
        return hop

    @property
    def entry(self) -> Hop | None:
        """The tier that the request entered; of several tries, the last."""
        return next((hop for hop in reversed(self.hops) if hop.parent is None), None)

    @property
    def begin_ns(self) -> int:
        return self.sent_ns or (self.hops[0].begin_ns if self.hops else 0)

    @property
    def end_ns(self) -> int:
        """When the last stop was left; for a running request, the latest stop so far."""
        return self.answered_ns or max(
            (t for hop in self.hops for t in (hop.begin_ns, hop.ended_ns, *hop.item_ns[-1:])), default=0
        )

    @property
    def outcome(self) -> str:
        """`ok`, `stopped` (the caller hung up), `running`, or the name of the error."""
        return self.entry.outcome if self.entry else "running"

    @property
    def duration_ms(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e6

    @property
    def ttft_ms(self) -> float | None:
        """Time to first token: from the send to the first item that left the first tier, or None without items."""
        times = self.entry.item_ns if self.entry else ()
        return (times[0] - self.begin_ns) / 1e6 if times else None

    @property
    def itl_ms(self) -> list[float]:
        """Inter-token latencies: the gaps between items that left the first tier."""
        times = self.entry.item_ns if self.entry else ()
        return [(later - sooner) / 1e6 for sooner, later in pairwise(times)]

    @property
    def answered_by(self) -> Hop | None:
        """The deepest hop of the request, the last of those tried: the worker that answered."""
        return max(self.hops, key=lambda hop: (hop.depth, hop.begin_ns), default=None)

    @property
    def decisions(self) -> list[RoutingDecision]:
        return [hop.decision for hop in self.hops if hop.decision is not None]

    @property
    def events(self) -> list[TraceEvent]:
        """Every stop in the order of time."""
        events: list[TraceEvent] = []
        for hop in self.hops:

            def add(t_ns: int, kind: str, detail: str = "", hop: Hop = hop) -> None:
                if t_ns:
                    events.append(
                        TraceEvent(
                            t_ns, kind, hop.service, hop.endpoint, hop.instance_id, hop.worker, hop.thread, detail
                        )
                    )

            decision = hop.decision
            add(hop.routed_ns, "routed", f"{decision.mode} among {len(decision.candidates)}" if decision else "")
            add(hop.started_ns, "started" if decision else "received")
            for t_ns in hop.item_ns:
                add(t_ns, "item")
            add(hop.ended_ns, "ended", hop.outcome)
        for t_ns, kind in ((self.sent_ns, "sent"), (self.answered_ns, "answered")):
            if t_ns:
                events.append(TraceEvent(t_ns, kind, "client", "", None, "client", ""))
        return sorted(events, key=lambda event: event.t_ns)

    def __repr__(self) -> str:
        by = self.answered_by
        return (
            f"<RequestTrace {self.request_id!r}: {len(self.hops)} hops, {self.outcome}, {self.duration_ms:.2f} ms"
            f"{f', answered by {by.worker}' if by else ''}>"
        )


TraceT = TypeVar("TraceT", bound=RequestTrace)


class TraceLog(Generic[TraceT]):
    """The newest `max_requests` traces, oldest first. Safe to read and to write from any thread.

    `seed` is what the run was seeded with: pictures print it beside n.
    """

    def __init__(
        self,
        traces: Iterable[TraceT] = (),
        *,
        make: Callable[[str], TraceT] = RequestTrace,  # type: ignore[assignment]
        max_requests: int = 10_000,
        seed: int | None = None,
    ) -> None:
        if max_requests < 1:
            raise ValueError(f"max_requests={max_requests} must be at least 1.")
        self.seed = seed
        self.max_requests = max_requests
        self._make = make
        self._lock = threading.Lock()
        self._traces: deque[TraceT] = deque()
        self._by_id: dict[str, TraceT] = {}
        for trace in traces:
            self._add(trace)

    def begin(self, request_id: str) -> TraceT:
        """Open the trace of a new request; the oldest one leaves a full log."""
        trace = self._make(request_id)
        self._add(trace)
        return trace

    def _add(self, trace: TraceT) -> None:
        with self._lock:
            self._traces.append(trace)
            self._by_id[trace.request_id] = trace
            if len(self._traces) > self.max_requests:
                oldest = self._traces.popleft()
                if self._by_id.get(oldest.request_id) is oldest:
                    del self._by_id[oldest.request_id]

    def __getitem__(self, request_id: str) -> TraceT:
        """Return the newest trace of that id.

        Raises:
            TraceNotFoundError: if none is kept.
        """
        with self._lock:
            found = self._by_id.get(request_id)
            if found is None:
                raise TraceNotFoundError(request_id, list(self._by_id), len(self._traces))
        return found

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    def __iter__(self) -> Iterator[TraceT]:
        with self._lock:
            return iter(list(self._traces))

    def __len__(self) -> int:
        return len(self._traces)

    @property
    def last(self) -> TraceT:
        """The request that began last."""
        with self._lock:
            if self._traces:
                return self._traces[-1]
        raise TraceNotFoundError("last", [], 0)

    def tail(self, n: int) -> list[TraceT]:
        """Return the newest `n` traces, oldest first."""
        with self._lock:
            return list(self._traces)[-n:] if n > 0 else []

    def only(self, request_ids: Iterable[str]) -> TraceLog[TraceT]:
        """Return a log of the same kind with just these requests, in this order; those not kept are left out."""
        with self._lock:
            found = [self._by_id[request_id] for request_id in request_ids if request_id in self._by_id]
        return self._like(found)

    def _like(self, traces: list[TraceT]) -> TraceLog[TraceT]:
        return TraceLog(traces, make=self._make, max_requests=max(len(traces), 1), seed=self.seed)

    def clear(self) -> None:
        with self._lock:
            self._traces.clear()
            self._by_id.clear()

    def hops_to(self, service: str | None = None) -> list[Hop]:
        """Return the hops to one service in the order of their picks; by default to the service answering last.

        A request that was tried on two workers has two hops.
        """
        traces = list(self)
        if service is None:
            answered = Counter(by.service for trace in traces if (by := trace.answered_by) and by.decision)
            if not answered:
                return []
            service = answered.most_common(1)[0][0]
        hops = [hop for trace in traces for hop in list(trace.hops) if hop.service == service and hop.routed_ns]
        return sorted(hops, key=lambda hop: hop.routed_ns)

    def requests_per_worker(self, service: str | None = None) -> dict[str, int]:
        """Count requests per worker, in the order of instance ids; a candidate that got none counts 0."""
        hops = self.hops_to(service)
        known: dict[int, str] = {}
        for hop in hops:
            if hop.decision:
                known.update((c.instance_id, c.worker) for c in hop.decision.candidates)
        counts = Counter(hop.worker for hop in hops)
        return {known[instance_id]: counts[known[instance_id]] for instance_id in sorted(known)}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} requests, seed={self.seed}>"
