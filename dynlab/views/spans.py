"""Where one request spent its time: a span for each tier, and the sentence that sums them up. No drawing here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from dynlab.tracing import Hop, RequestTrace

__all__ = ("Interval", "Span", "gaps_sentence", "ms", "spans", "waterfall_sentence")

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Span:
    """One tier's part in a request, in milliseconds since the request began.

    `own` are the stretches in which this tier held the request and no tier below it did; all tiers' own and
    waiting times together fill the whole request. `start_ms` is None where the handler never ran.
    """

    name: str
    endpoint: str
    depth: int
    routed_ms: float
    start_ms: float | None
    end_ms: float
    own: tuple[Interval, ...]
    item_ms: tuple[float, ...]
    items: int
    outcome: str

    @property
    def own_ms(self) -> float:
        return sum(end - start for start, end in self.own)

    @property
    def waited_ms(self) -> float:
        """From the pick until the handler began, or until the attempt was given up."""
        return (self.end_ms if self.start_ms is None else self.start_ms) - self.routed_ms

    @property
    def failed(self) -> bool:
        return self.outcome not in ("ok", "running", "stopped")


def spans(trace: RequestTrace) -> list[Span]:
    """Return the client and every hop, callers before those they call; empty while nothing is recorded."""
    hops = [hop for hop in list(trace.hops) if hop.begin_ns]
    begin_ns, last_ns = trace.begin_ns, trace.end_ns

    def at(t_ns: int) -> float:
        return (t_ns - begin_ns) / 1e6

    def end_ns(hop: Hop) -> int:
        """A hop that nobody ended lasts as long as its caller."""
        return hop.ended_ns or (end_ns(hop.parent) if hop.parent else last_ns)

    def children(parent: Hop | None) -> list[Hop]:
        return sorted((hop for hop in hops if hop.parent is parent), key=lambda hop: hop.begin_ns)

    def below(hop: Hop, depth: int) -> list[Span]:
        called = children(hop)
        end = at(end_ns(hop))
        start = at(hop.started_ns) if hop.started_ns else None
        inner = [(at(child.begin_ns), at(end_ns(child))) for child in called]
        own = _without((start, end), inner) if start is not None else ()
        items = tuple(at(t_ns) for t_ns in hop.item_ns)
        name = hop.worker or hop.service
        span = Span(name, hop.endpoint, depth, at(hop.begin_ns), start, end, own, items, hop.items, hop.outcome)
        return [span, *(found for child in called for found in below(child, depth + 1))]

    entered = children(None)
    if not trace.sent_ns:
        return [span for hop in entered for span in below(hop, 0)]
    end = at(last_ns)
    # A hop that was not picked came over HTTP: what lies before its start and after its end is the client's.
    own = _without((0.0, end), [(at(hop.begin_ns), at(end_ns(hop))) for hop in entered])
    outcome = trace.outcome if trace.answered_ns else "running"
    client = Span("client", "HTTP", 0, 0.0, 0.0, end, own, (), 0, outcome)
    return [client, *(span for hop in entered for span in below(hop, 1))]


def _without(whole: Interval, inner: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return what is left of an interval when others are taken out of it."""
    left: list[Interval] = []
    start, stop = whole
    for inner_start, inner_end in sorted(inner):
        if inner_start > start:
            left.append((start, min(inner_start, stop)))
        start = max(start, inner_end)
    if start < stop:
        left.append((start, stop))
    return tuple(left)


def ms(value: float) -> str:
    """Write milliseconds with as many digits as are worth reading."""
    size = abs(value)
    digits = 3 if 0 < size < 0.1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{digits}f} ms"


def waterfall_sentence(trace: RequestTrace, found: Sequence[Span]) -> str:
    """Say how long the request took, and which tier or which wait took most of it."""
    if not found:
        return f"Request {trace.request_id}: nothing is recorded yet."
    running = trace.outcome == "running"
    total = trace.duration_ms
    parts = [f"Request {trace.request_id} {'still runs, ' + ms(total) + ' so far' if running else 'took ' + ms(total)}"]
    if trace.ttft_ms is not None:
        parts.append(f", its first item came after {ms(trace.ttft_ms)} (TTFT)")
    elif not running:
        parts.append(", without any item")
    if gaps := gaps_sentence(trace):
        parts.append(f", then {gaps}")
    parts.append(".")
    own = max(found, key=lambda span: span.own_ms)
    waited = max(found, key=lambda span: span.waited_ms)
    longest = max(own.own_ms, waited.waited_ms)
    if total and longest:
        share = f"{ms(longest)} ({longest / total:.0%})"
        what = "sending and receiving over HTTP" if own.endpoint == "HTTP" else f"{own.name}'s own work"
        if waited.waited_ms > own.own_ms:
            what = f"waiting for {waited.name}"
        parts.append(f" The largest part, {share}, was {what}.")
    for span in found:
        if span.failed and span.start_ms is None:
            parts.append(f" {span.name} was tried and did not answer ({span.outcome}).")
    if trace.outcome == "stopped":
        parts.append(" The caller hung up.")
    elif trace.outcome not in ("ok", "running"):
        parts.append(f" It failed with {trace.outcome}.")
    return "".join(parts)


def gaps_sentence(trace: RequestTrace) -> str:
    """Say how the inter-token latencies lie; empty without any."""
    gaps = trace.itl_ms
    if not gaps:
        return ""
    if len(gaps) == 1:
        return f"one more {ms(gaps[0])} later (ITL)"
    return f"one every {ms(median(gaps))} (ITL: median of {len(gaps)} gaps, longest {ms(max(gaps))})"
