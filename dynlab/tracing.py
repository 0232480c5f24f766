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
from typing import Any, Generic, Self, TypeAlias, TypeVar

from dynlab.errors import TraceNotFoundError
from dynlab.hop import PACKED, Hop
from dynlab.protocols import RoutingDecision

__all__ = ("RequestTrace", "TraceEvent", "TraceLog")

OPEN = 256
"""So many of the newest traces stay as they are; older ones that are over are packed."""


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
    def is_over(self) -> bool:
        """True once every tier is done with it."""
        for hop in self.hops:  # asked for every request: a generator would cost more than the answer
            if not hop.ended_ns:
                return False
        return bool(self.hops)

    def pack(self) -> PackedTrace:
        """Return the whole as one flat tuple of numbers and words; nested ones the collector would go on visiting."""
        packed: list[Any] = [self.request_id, self.sent_ns, self.answered_ns]
        for hop in self.hops:
            packed += hop.pack(None if hop.parent is None else self.hops.index(hop.parent))
        return tuple(packed)

    def restore(self, packed: PackedTrace) -> Self:
        """Become what was packed."""
        _, self.sent_ns, self.answered_ns, *values = packed
        for start in range(0, len(values), PACKED):
            self.hops.append(Hop.unpack(values[start : start + PACKED], self.hops))
        return self

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
        return [decision for hop in self.hops if (decision := hop.decision) is not None]

    @property
    def events(self) -> list[TraceEvent]:
        """Every stop in the order of time."""
        events: list[TraceEvent] = []
        for hop in self.hops:

            def add(t_ns: int, kind: str, detail: str = "", hop: Hop = hop) -> None:
                where = (hop.service, hop.endpoint, hop.instance_id, hop.worker, hop.thread)
                if t_ns:
                    events.append(TraceEvent(t_ns, kind, *where, detail))

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


PackedTrace: TypeAlias = tuple[Any, ...]
TraceT = TypeVar("TraceT", bound=RequestTrace)


class TraceLog(Generic[TraceT]):
    """The newest `max_requests` traces, oldest first; `seed` is what the run was seeded with. Safe from any thread.

    A trace that is over is packed some requests later; what one gets from the log then is a copy.
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
        self._traces: deque[TraceT | PackedTrace] = deque()
        self._by_id: dict[str, TraceT | PackedTrace] = {}
        self._late: dict[str, tuple[int, int]] = {}
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
            if len(self._traces) > OPEN:
                self._pack(-OPEN - 1)
            if len(self._traces) > self.max_requests:
                oldest = self._traces.popleft()
                request_id = oldest[0] if isinstance(oldest, tuple) else oldest.request_id
                if self._by_id.get(request_id) is oldest:
                    del self._by_id[request_id]
                    self._late.pop(request_id, None)

    def _pack(self, place: int) -> None:
        trace = self._traces[place]
        if not isinstance(trace, tuple) and trace.is_over:
            packed = self._traces[place] = trace.pack()
            if self._by_id.get(trace.request_id) is trace:
                self._by_id[trace.request_id] = packed

    def _unpacked(self, entry: TraceT | PackedTrace) -> TraceT:
        if not isinstance(entry, tuple):
            return entry
        trace = self._make(entry[0]).restore(entry)
        if entry[0] in self._late:
            trace.sent_ns, trace.answered_ns = self._late[entry[0]]
        return trace

    def stamp(self, request_id: str, sent_ns: int, answered_ns: int) -> None:
        """Add the client's own times to a trace, unless it has left the log."""
        with self._lock:
            entry = self._by_id.get(request_id)
            if isinstance(entry, tuple):
                self._late[request_id] = (sent_ns, answered_ns)
            elif entry is not None:
                entry.sent_ns, entry.answered_ns = sent_ns, answered_ns

    def __getitem__(self, request_id: str) -> TraceT:
        """Return the newest trace of that id.

        Raises:
            TraceNotFoundError: if none is kept.
        """
        with self._lock:
            found = self._by_id.get(request_id)
            if found is None:
                raise TraceNotFoundError(request_id, list(self._by_id), len(self._traces))
            return self._unpacked(found)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    def __iter__(self) -> Iterator[TraceT]:
        with self._lock:
            return iter([self._unpacked(entry) for entry in self._traces])

    def __len__(self) -> int:
        return len(self._traces)

    @property
    def last(self) -> TraceT:
        """The request that began last."""
        with self._lock:
            if self._traces:
                return self._unpacked(self._traces[-1])
        raise TraceNotFoundError("last", [], 0)

    def tail(self, n: int) -> list[TraceT]:
        """Return the newest `n` traces, oldest first."""
        with self._lock:
            return [self._unpacked(entry) for entry in list(self._traces)[-n:]] if n > 0 else []

    def only(self, request_ids: Iterable[str]) -> TraceLog[TraceT]:
        """Return a log of the same kind with just these requests, in this order; those not kept are left out."""
        with self._lock:
            found = [self._unpacked(self._by_id[name]) for name in request_ids if name in self._by_id]
        return self._like(found)

    def _like(self, traces: list[TraceT]) -> TraceLog[TraceT]:
        return TraceLog(traces, make=self._make, max_requests=max(len(traces), 1), seed=self.seed)

    def clear(self) -> None:
        with self._lock:
            self._traces.clear()
            self._by_id.clear()
            self._late.clear()

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
