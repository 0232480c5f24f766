"""Traces as OTLP JSON, the file form of OpenTelemetry, which Jaeger and others open (Dynamo exports its spans as OTLP).

A tier's part in a request is a server span, and whoever sent it there has a client span around that: from the pick to
the end. So what lies between the two beginnings is the crossing, and the wait at the worker.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

from dynlab.clock import now_ns
from dynlab.hop import Hop
from dynlab.trace_log import TraceLog
from dynlab.tracing import RequestTrace

__all__ = ("write_otlp",)

# Traces are timed by a clock that starts anywhere. How far that is from the time of day is taken once, so that the
# files of one process agree. Times of another process or of a simulation keep their distances, not their date.
WALL_CLOCK_NS = time.time_ns() - now_ns()

SERVER, CLIENT = 2, 3
"""Kinds of spans; OTLP wants the numbers."""
UNSET, OK, ERROR = 0, 1, 2

_Span: TypeAlias = dict[str, Any]
_Place: TypeAlias = tuple[str, str]
_ASKER: _Place = ("client", "client")


def write_otlp(traces: TraceLog[Any], path: str | Path) -> Path:
    """Write one document: a resource for each instance, with its spans."""
    resources: dict[_Place, list[_Span]] = {}
    for trace in traces:
        for place, span in _spans(trace):
            resources.setdefault(place, []).append(span)
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({"service.name": service, "service.instance.id": worker})},
                "scopeSpans": [{"scope": {"name": "dynlab"}, "spans": spans}],
            }
            for (service, worker), spans in resources.items()
        ]
    }
    target = Path(path)
    target.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    return target


def _spans(trace: RequestTrace) -> Iterator[tuple[_Place, _Span]]:
    """Yield each span of a request, and whose it is."""
    hops = list(trace.hops)
    trace_id = _hex(f"{trace.request_id}/{trace.begin_ns}", 16)
    end_ns = trace.end_ns
    root = ""
    # Client and server spans of each hop; what a hop calls is below its server span.
    ids = {hop: (_hex(f"{trace_id}/{n}/client", 8), _hex(f"{trace_id}/{n}", 8)) for n, hop in enumerate(hops)}

    def span(span_id: str, parent: str, name: str, kind: int, begin_ns: int, end_ns: int, **more: Any) -> _Span:
        return {
            "traceId": trace_id,
            "spanId": span_id,
            "parentSpanId": parent,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": _wall(begin_ns),
            "endTimeUnixNano": _wall(max(begin_ns, end_ns)),
            **more,
        }

    if trace.sent_ns:
        root = _hex(f"{trace_id}/root", 8)
        more = {"attributes": _attributes({"dynlab.request_id": trace.request_id}), "status": _status(trace.outcome)}
        yield _ASKER, span(root, "", "request", CLIENT, trace.sent_ns, end_ns, **more)
    for hop in hops:
        client_id, server_id = ids[hop]
        parent = ids[hop.parent][1] if hop.parent is not None else root
        name = f"{hop.service}.{hop.endpoint}"
        # A span has an end: of a hop that still runs, the latest that is known of its request.
        until = hop.ended_ns or end_ns
        about = {"dynlab.request_id": trace.request_id, "dynlab.outcome": hop.outcome, "dynlab.items": hop.items}
        if hop.routed_ns:
            caller = (hop.parent.service, hop.parent.worker) if hop.parent is not None else _ASKER
            more = {"attributes": _attributes({**about, **_pick(hop)}), "status": _status(hop.outcome)}
            yield caller, span(client_id, parent, f"send {name}", CLIENT, hop.routed_ns, until, **more)
            parent = client_id
        if hop.started_ns:
            about["thread.name"] = hop.thread
            more = {"attributes": _attributes(about), "status": _status(hop.outcome), **_items(hop)}
            place = (hop.service, hop.worker)
            yield place, span(server_id, parent, name, SERVER, hop.started_ns, until, **more)


def _items(hop: Hop) -> dict[str, Any]:
    times = hop.item_ns
    events = [
        {"timeUnixNano": _wall(t_ns), "name": "item", "attributes": _attributes({"dynlab.item": n})}
        for n, t_ns in enumerate(times)
    ]
    return {"events": events, "droppedEventsCount": hop.items - len(times)}


def _pick(hop: Hop) -> dict[str, Any]:
    """Return why this worker; ids are text, because the real engine's do not fit OTLP's whole numbers."""
    decision = hop.decision
    if decision is None:
        return {}
    candidates = decision.candidates
    return {
        "dynlab.router_mode": decision.mode,
        "dynlab.instance_id": str(decision.instance_id),
        "dynlab.worker": hop.worker,
        "dynlab.candidates": [candidate.worker for candidate in candidates],
        "dynlab.active_requests": [candidate.active_requests for candidate in candidates],
    }


def _status(outcome: str) -> dict[str, Any]:
    if outcome == "ok":
        return {"code": OK}
    return {"code": UNSET} if outcome in ("running", "stopped") else {"code": ERROR, "message": outcome}


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case int():
            return {"intValue": str(value)}  # JSON's numbers are not exact beyond 2**53
        case list():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def _wall(t_ns: int) -> str:
    return str(t_ns + WALL_CLOCK_NS)


def _hex(text: str, size: int) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()
