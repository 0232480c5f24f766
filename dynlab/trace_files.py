"""Traces as files: JSON Lines for reading again, and the Chrome format that Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dynlab.errors import TraceFileError
from dynlab.hop import Hop
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.trace_log import TraceLog, TraceT
from dynlab.tracing import RequestTrace

__all__ = ("read_traces", "write_chrome", "write_jsonl")

FORMAT = "dynlab-trace-1"
_HOP_FIELDS = (
    "service",
    "endpoint",
    "instance_id",
    "worker",
    "thread",
    "routed_ns",
    "started_ns",
    "ended_ns",
    "items",
    "outcome",
)


def write_jsonl(traces: TraceLog[Any], path: str | Path) -> Path:
    """Write one header line, then one line a request."""
    target = Path(path)
    with target.open("w", encoding="utf-8") as out:
        for record in ({"format": FORMAT, "seed": traces.seed}, *map(_to_record, traces)):
            out.write(json.dumps(record, separators=(",", ":")) + "\n")
    return target


def write_chrome(traces: TraceLog[Any], path: str | Path) -> Path:
    """Write the Chrome trace format: a row for each thread, one slice a hop, an arrow for each crossing of threads.

    A thread that has several requests at once gets as many rows, because slices of a row must not overlap.
    """
    kept = list(traces)
    lanes = _lanes([hop for trace in kept for hop in trace.hops])
    names = sorted({(hop.thread, lane) for hop, lane in lanes.items()})
    rows = {name: number for number, name in enumerate(names, start=1)}
    row_of = {hop: rows[hop.thread, lane] for hop, lane in lanes.items()}
    document = {
        "displayTimeUnit": "ms",
        "traceEvents": [
            *(
                _chrome("M", "thread_name", 0, row, args={"name": f"{thread} ({lane + 1})" if lane else thread})
                for (thread, lane), row in rows.items()
            ),
            *(event for number, trace in enumerate(kept) for event in _chrome_events(number, trace, row_of)),
        ],
        "otherData": {"format": FORMAT, "seed": traces.seed, "requests": [_to_record(trace) for trace in kept]},
    }
    target = Path(path)
    target.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    return target


def read_traces(path: str | Path, make: Callable[[str], TraceT] = RequestTrace) -> TraceLog[TraceT]:  # type: ignore[assignment]
    """Read a file of either format.

    Raises:
        TraceFileError: if the file is damaged or was not written by dynlab; says where.
    """
    source = Path(path)
    with source.open(encoding="utf-8", errors="replace") as lines:
        try:
            seed, records = _records(source, list(lines))
            return TraceLog(
                [_from_record(record, make) for record in records],
                make=make,
                seed=seed,
                max_requests=max(len(records), 10_000),
            )
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as exc:
            raise TraceFileError(
                f"{source} holds a request without what dynlab writes ({type(exc).__name__}: {exc}). "
                "Write the file again with traces.save()."
            ) from None


def _records(source: Path, lines: list[str]) -> tuple[int | None, list[Any]]:
    parsed: list[Any] = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed.append(json.loads(line))
        except ValueError:
            raise TraceFileError(
                f"{source}, line {number}: no JSON: {line.strip()[:40]!r}. Was the file cut off? Write it again."
            ) from None
    header = parsed[0] if parsed and isinstance(parsed[0], dict) else {}
    meta = header.get("otherData", header)
    if "resourceSpans" in header:
        raise TraceFileError(f"{source} is for Jaeger and the like; dynlab does not read OTLP. Save a .jsonl file too.")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise TraceFileError(
            f"{source} was not written by dynlab: no {FORMAT!r} in its head. Write one with traces.save()."
        )
    return meta.get("seed"), meta["requests"] if "otherData" in header else parsed[1:]


def _to_record(trace: RequestTrace) -> dict[str, Any]:
    hops = list(trace.hops)
    return {
        "request_id": trace.request_id,
        "sent_ns": trace.sent_ns,
        "answered_ns": trace.answered_ns,
        "hops": [
            {
                "parent": None if hop.parent is None else hops.index(hop.parent),
                **{name: getattr(hop, name) for name in _HOP_FIELDS},
                "item_ns": list(hop.item_ns),
                "decision": _decision_record(hop.decision),
            }
            for hop in hops
        ],
    }


def _decision_record(decision: RoutingDecision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "mode": decision.mode,
        "candidates": [[c.instance_id, c.worker, c.active_requests, c.eligible] for c in decision.candidates],
        "detail": dict(decision.detail),
    }


def _from_record(record: dict[str, Any], make: Callable[[str], TraceT]) -> TraceT:
    trace = make(record["request_id"])
    trace.sent_ns, trace.answered_ns = record["sent_ns"], record["answered_ns"]
    for saved in record["hops"]:
        parent = None if saved["parent"] is None else trace.hops[saved["parent"]]
        hop = Hop(parent, saved["service"], saved["endpoint"])
        for name in _HOP_FIELDS:
            setattr(hop, name, saved[name])
        hop.item_ns = saved["item_ns"]
        if decision := saved["decision"]:
            candidates = tuple(Candidate(*candidate) for candidate in decision["candidates"])
            hop.decision = RoutingDecision(decision["mode"], saved["instance_id"], candidates, decision["detail"])
        trace.hops.append(hop)
    return trace


def _chrome(ph: str, name: str, ts_ns: int, row: int, **more: Any) -> dict[str, Any]:
    return {"ph": ph, "name": name, "ts": ts_ns / 1000, "pid": 1, "tid": row, **more}


def _lanes(hops: list[Hop]) -> dict[Hop, int]:
    """Give each hop that ran the first lane of its thread that is free by then."""
    lanes: dict[Hop, int] = {}
    free_from: dict[str, list[int]] = {}
    ran = [hop for hop in hops if hop.started_ns and hop.ended_ns]
    for hop in sorted(ran, key=lambda hop: hop.started_ns):
        busy_until = free_from.setdefault(hop.thread, [])
        lane = next((n for n, end in enumerate(busy_until) if end <= hop.started_ns), len(busy_until))
        busy_until[lane : lane + 1] = [hop.ended_ns]
        lanes[hop] = lane
    return lanes


def _chrome_events(number: int, trace: RequestTrace, row_of: dict[Hop, int]) -> Iterator[dict[str, Any]]:
    for place, hop in enumerate(trace.hops):
        row = row_of.get(hop)
        if row is None:
            continue  # a hop that never ran has no slice
        args = {"request_id": trace.request_id, "outcome": hop.outcome, "instance_id": hop.instance_id}
        name = f"{hop.service}.{hop.endpoint}"
        yield _chrome("X", name, hop.started_ns, row, dur=(hop.ended_ns - hop.started_ns) / 1000, args=args)
        yield from (_chrome("i", "item", t_ns, row, s="t", args=args) for t_ns in hop.item_ns)
        caller = row_of.get(hop.parent) if hop.parent is not None else None
        if caller is not None and hop.routed_ns:
            arrow: dict[str, Any] = {"id": f"{number}.{place}", "cat": "hop"}
            yield _chrome("s", "routed", hop.routed_ns, caller, **arrow)
            yield _chrome("f", "routed", hop.started_ns, row, bp="e", **arrow)
