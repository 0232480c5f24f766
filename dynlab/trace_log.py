"""The newest requests of a deployment, kept small: any thread may write and read."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from dynlab.errors import TraceNotFoundError
from dynlab.hop import Hop
from dynlab.tracing import PackedTrace, RequestTrace

__all__ = ("TraceLog",)

OPEN = 256
"""So many of the newest traces may stay as they are; older ones that are over are packed."""

TraceT = TypeVar("TraceT", bound=RequestTrace)


class TraceLog(Generic[TraceT]):
    """The newest `max_requests` traces, oldest first; `seed` is what the run was seeded with. Safe from any thread.

    A trace that is over is packed, for the garbage collector would visit thousands of them again and again; what
    one gets from the log then is a copy.
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
        self._dropped = 0  # the number of the oldest trace that is kept
        self._by_id: dict[str, int] = {}
        for trace in traces:
            self._add(trace)

    def begin(self, request_id: str) -> TraceT:
        """Open the trace of a new request; the oldest one leaves a full log."""
        trace = self._make(request_id)
        trace.number = self._add(trace)
        return trace

    def end(self, trace: RequestTrace) -> None:
        """The request was answered: pack its trace if every tier is done with it, else some requests later."""
        place = trace.number - self._dropped
        if trace.is_over and place >= 0:
            packed = trace.pack()
            with self._lock:
                place = trace.number - self._dropped
                if 0 <= place < len(self._traces) and self._traces[place] is trace:
                    self._traces[place] = packed

    def _add(self, trace: TraceT) -> int:
        with self._lock:
            traces = self._traces
            number = self._dropped + len(traces)
            traces.append(trace)
            self._by_id[trace.request_id] = number
            if len(traces) > OPEN:
                late = traces[-OPEN - 1]
                if type(late) is not tuple and late.is_over:  # type: ignore[union-attr]
                    traces[-OPEN - 1] = late.pack()  # type: ignore[union-attr]
            if len(traces) > self.max_requests:
                oldest = traces.popleft()
                request_id = oldest[0] if isinstance(oldest, tuple) else oldest.request_id
                if self._by_id.get(request_id) == self._dropped:
                    del self._by_id[request_id]
                self._dropped += 1
            return number

    def _found(self, request_id: str) -> TraceT | PackedTrace | None:
        number = self._by_id.get(request_id)
        return None if number is None else self._traces[number - self._dropped]

    def _unpacked(self, entry: TraceT | PackedTrace) -> TraceT:
        return self._make(entry[0]).restore(entry) if isinstance(entry, tuple) else entry

    def stamp(self, request_id: str, sent_ns: int, answered_ns: int) -> None:
        """Add the client's own times to a trace, unless it has left the log."""
        with self._lock:
            entry = self._found(request_id)
            if isinstance(entry, tuple):
                place = self._by_id[request_id] - self._dropped
                self._traces[place] = (entry[0], sent_ns, answered_ns, *entry[3:])
            elif entry is not None:
                entry.sent_ns, entry.answered_ns = sent_ns, answered_ns

    def __getitem__(self, request_id: str) -> TraceT:
        """Return the newest trace of that id.

        Raises:
            TraceNotFoundError: if none is kept.
        """
        with self._lock:
            found = self._found(request_id)
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
            found = [self._unpacked(entry) for name in request_ids if (entry := self._found(name)) is not None]
        return self._like(found)

    def _like(self, traces: list[TraceT]) -> TraceLog[TraceT]:
        return TraceLog(traces, make=self._make, max_requests=max(len(traces), 1), seed=self.seed)

    def clear(self) -> None:
        with self._lock:
            self._dropped += len(self._traces)
            self._traces.clear()
            self._by_id.clear()

    def hops_to(self, service: str | None = None) -> list[Hop]:
        """Return the hops to one service in the order of their picks; by default to the service answering last.

        A request that was tried on two workers has two hops.
        """
        traces = list(self)
        if service is None:
            answered = Counter(by.service for trace in traces if (by := trace.answered_by) and by.routed_ns)
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
            known.update(hop.roster)
        counts = Counter(hop.worker for hop in hops)
        return {known[instance_id]: counts[known[instance_id]] for instance_id in sorted(known)}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} requests, seed={self.seed}>"
