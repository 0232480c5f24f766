"""What happened to each request, at every stop, in nanoseconds (Dynamo: its spans, and `--router-mode`'s log lines).

The hot path only sets attributes of a `Hop`; events, latencies and decisions are worked out when somebody reads.
All times are `clock.now_ns`: one monotonic clock for all threads of the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, TypeAlias

from dynlab.hop import Hop
from dynlab.protocols import RoutingDecision

__all__ = ("PackedTrace", "RequestTrace", "TraceEvent")

PackedTrace: TypeAlias = tuple[Any, ...]
"""A trace that is over, as tuples of numbers and words."""


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

    __slots__ = ("answered_ns", "hops", "number", "request_id", "sent_ns")

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.number = -1  # its place in the log that began it
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
        """Return the whole as tuples of numbers and words."""
        hops = self.hops
        packed = [hop.pack(None if hop.parent is None else hops.index(hop.parent)) for hop in hops]
        return (self.request_id, self.sent_ns, self.answered_ns, *packed)

    def restore(self, packed: PackedTrace) -> Self:
        """Become what was packed."""
        _, self.sent_ns, self.answered_ns, *hops = packed
        for hop in hops:
            self.hops.append(Hop.unpack(hop, self.hops))
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
