"""Drawings made whole: each with a sentence that states the finding, and its data as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dynlab.tracing import RequestTrace, TraceLog
from dynlab.views.figure import Picture, Table
from dynlab.views.plots import guess_values, modes_of, new_column, plot_picks, plot_routing
from dynlab.views.waterfall import plot_waterfall, spans_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ("overview_picture", "picks_picture", "routing_picture", "waterfall_picture")


def waterfall_picture(trace: RequestTrace) -> Picture:
    """One request: which tier had it when, and whose own time was longest."""
    spans = spans_of(trace)
    longest = max(spans, key=lambda span: span.self_ms, default=None)
    most = f"; most of it in {longest.name}, {longest.self_ms:.2f} ms" if longest else ""
    first = f", the first item after {trace.ttft_ms:.2f} ms" if trace.ttft_ms is not None else ", no items"
    label = f"Request {trace.request_id} took {trace.duration_ms:.2f} ms{first}{most}. Outcome: {trace.outcome}."
    rows = [
        (
            s.name,
            f"{s.begin_ms:.3f}",
            f"{s.waited_ms:.3f}",
            f"{s.end_ms:.3f}",
            f"{s.self_ms:.3f}",
            len(s.items_ms),
            s.outcome,
        )
        for s in spans
    ]
    header = ("tier", "from ms", "waited ms", "to ms", "own ms", "items", "outcome")
    return Picture(_figure(plot_waterfall(trace)), label, Table(header, rows))


def routing_picture(
    traces: TraceLog[Any],
    guess: Sequence[float] | Mapping[str, float] | None = None,
    service: str | None = None,
) -> Picture:
    """Requests per worker: how even they are, and how far off the guess was."""
    counts = traces.requests_per_worker(service)
    outline = guess_values(guess, list(counts))
    header = ("worker", "requests", *(["guess"] if outline else []))
    rows = [
        (w, n, *([g] if outline else []))
        for (w, n), g in zip(counts.items(), outline or [0] * len(counts), strict=True)
    ]
    label = _routing_label(counts, list(modes_of(traces, service)))
    if outline:
        off = max(abs(n - g) for n, g in zip(counts.values(), outline, strict=True))
        label += f" The guess was off by at most {off:g}."
    return Picture(_figure(plot_routing(traces, guess=guess, service=service)), label, Table(header, rows))


def picks_picture(traces: TraceLog[Any], last: int = 200, service: str | None = None) -> Picture:
    """The newest picks in their order: how often two in a row went to the same worker."""
    hops = traces.hops_to(service)[-last:] if last > 0 else []
    again = sum(one.worker == other.worker for one, other in pairwise(hops))
    label = f"The last {len(hops)} picks in their order: {again} went to the same worker as the one before."
    rows = [(n, hop.worker, hop.decision.mode if hop.decision else "") for n, hop in enumerate(hops, start=1)]
    return Picture(
        _figure(plot_picks(traces, last=last, service=service)), label, Table(("pick", "worker", "mode"), rows)
    )


def overview_picture(runs: Mapping[str, TraceLog[Any]]) -> Picture:
    """Requests per worker under several router modes, one above the other, each on its own scale from 0."""
    axes = new_column(max(1, len(runs)), 7.2, 1.7 * max(1, len(runs)))
    rows: list[tuple[Any, ...]] = []
    labels: list[str] = []
    for ax, (mode, traces) in zip(axes, runs.items(), strict=False):
        plot_routing(traces, ax)
        if ax is not axes[-1]:
            ax.set_xlabel("")
        counts = traces.requests_per_worker()
        rows.extend((mode, worker, n) for worker, n in counts.items())
        labels.append(_routing_label(counts, [mode]))
    return Picture(
        _figure(axes[0]), " ".join(labels) or "No requests yet.", Table(("mode", "worker", "requests"), rows)
    )


def _routing_label(counts: Mapping[str, int], modes: Sequence[str]) -> str:
    if not counts:
        return "No requests yet."
    least, most = min(counts.values()), max(counts.values())
    spread = f"each got {most}" if least == most else f"the busiest got {most}, the idlest {least}"
    return f"{sum(counts.values())} requests over {len(counts)} workers by {' and '.join(modes)}: {spread}."


def _figure(ax: Any) -> Figure:
    figure: Figure = ax.figure
    return figure
