"""One request through its tiers, as rows of bars on one time axis (W1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynlab.hop import Hop
from dynlab.tracing import RequestTrace
from dynlab.views.plots import caption, new_axes
from dynlab.views.style import INK, MUTED, OWN_TIME, TIER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Span", "plot_waterfall", "spans_of")


@dataclass(frozen=True, slots=True)
class Span:
    """One row: when a tier had the request, in ms since the send.

    `waited_ms` is the time until its handler began; `own` are the stretches during which no tier below had it.
    """

    name: str
    depth: int
    begin_ms: float
    waited_ms: float
    end_ms: float
    own: tuple[tuple[float, float], ...]
    items_ms: tuple[float, ...]
    outcome: str

    @property
    def self_ms(self) -> float:
        return sum(end - begin for begin, end in self.own)


def spans_of(trace: RequestTrace) -> list[Span]:
    """Work out the rows of a request, the caller's first.

    The own times of all rows add up to the whole request, so they show where the time went.
    """
    hops = list(trace.hops)
    spans = [_span(trace, hop, [below for below in hops if below.parent is hop]) for hop in hops]
    if trace.sent_ns and trace.answered_ns and hops:
        whole = (trace.answered_ns - trace.sent_ns) / 1e6
        own = _gaps(0.0, whole, [(spans[0].begin_ms, spans[0].end_ms)])
        spans = [Span("client + HTTP", 0, 0.0, 0.0, whole, own, (), "ok"), *spans]
    return spans


def _gaps(begin: float, end: float, busy: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the stretches of begin..end that `busy` leaves free."""
    free: list[tuple[float, float]] = []
    for busy_from, busy_to in sorted(busy):
        if busy_from > begin:
            free.append((begin, min(busy_from, end)))
        begin = max(begin, busy_to)
    if begin < end:
        free.append((begin, end))
    return tuple(free)


def _span(trace: RequestTrace, hop: Hop, below: list[Hop]) -> Span:
    def ms(t_ns: int) -> float:
        return ((t_ns or trace.end_ns) - trace.begin_ns) / 1e6

    begin, end = ms(hop.begin_ns), ms(hop.ended_ns)
    return Span(
        f"{hop.worker or hop.service}.{hop.endpoint}",
        hop.depth + (1 if trace.sent_ns else 0),
        begin,
        (ms(hop.started_ns) if hop.started_ns else end) - begin,
        end,
        _gaps(begin, end, [(ms(b.begin_ns), ms(b.ended_ns)) for b in below]),
        tuple(map(ms, hop.item_ns)),
        hop.outcome,
    )


def plot_waterfall(trace: RequestTrace, ax: Axes | None = None) -> Axes:
    """Draw a request: a bar per tier, hatched while it waits for its thread, ticks for items, TTFT as a point.

    The thick line under a bar marks the tier's own time, when no tier below it had the request: together they
    are the whole request, and the longest is what to shorten.
    """
    spans = spans_of(trace)
    ax = ax if ax is not None else new_axes(7.8, 1.5 + 0.52 * max(2, len(spans)))
    whole = max((span.end_ms for span in spans), default=1.0) or 1.0
    for row, span in enumerate(spans):
        _draw(ax, row, span, whole)
    if spans and trace.ttft_ms is not None:
        row = 1 if trace.sent_ns and trace.answered_ns else 0
        ax.plot([trace.ttft_ms], [row], "o", color=INK, markersize=7, markerfacecolor="white", zorder=5)
        ax.annotate(
            f"TTFT {trace.ttft_ms:.2f} ms",
            (trace.ttft_ms, row),
            (0, 11),
            textcoords="offset points",
            ha="right" if trace.ttft_ms > whole / 2 else "left",
            fontsize=8,
            color=INK,
        )
    ax.set_yticks(range(len(spans)), ["    " * span.depth + span.name for span in spans])
    for label in ax.get_yticklabels():
        label.set_horizontalalignment("left")
    ax.tick_params(axis="y", pad=150, length=0)
    ax.set_ylim(len(spans) - 0.3, -0.8)
    ax.set_xlim(0, whole * 1.16)
    gaps = trace.itl_ms
    itl = f" · mean ITL {sum(gaps) / len(gaps):.2f} ms" if gaps else ""
    since = "since the client sent it" if trace.sent_ns else "since it arrived"
    note = f"hatched: waiting for its thread · thick line: own time{itl}"
    most = max(spans, key=lambda span: span.self_ms, default=None)
    finding = f"{most.self_ms:.2f} of {trace.duration_ms:.2f} ms in {most.name}" if most else "nothing yet"
    outcome = "" if trace.outcome == "ok" else f" ({trace.outcome})"
    caption(ax, f"Request {trace.request_id}{outcome}: {finding}", f"ms {since}", "", note)
    return ax


def _draw(ax: Axes, row: int, span: Span, whole: float) -> None:
    started = span.begin_ms + span.waited_ms
    if span.waited_ms:
        ax.barh(row, span.waited_ms, 0.4, span.begin_ms, fill=False, hatch="////", edgecolor=MUTED, linewidth=0.6)
    ax.barh(row, span.end_ms - started, 0.4, started, color=TIER, alpha=0.35)
    for begin, end in span.own:
        ax.plot([begin, end], [row + 0.27] * 2, color=OWN_TIME, linewidth=3.5, solid_capstyle="butt")
    for t_ms in span.items_ms:
        ax.plot([t_ms, t_ms], [row - 0.2, row + 0.2], color=INK, linewidth=1)
    broken = "" if span.outcome in ("ok", "running") else f"  x {span.outcome}"
    ax.text(span.end_ms + whole * 0.01, row, f"{span.self_ms:.2f} ms own{broken}", va="center", fontsize=8, color=INK)
