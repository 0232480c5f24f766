"""Drawings made whole: each with a sentence that states the finding, and its data as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dynlab.kv.blocks import BLOCK_SIZE
from dynlab.kv.indexer import KvIndexer
from dynlab.trace_log import TraceLog
from dynlab.tracing import RequestTrace
from dynlab.views.figure import Picture, Table
from dynlab.views.kv_terms import Decision, Scores, blocks_text
from dynlab.views.lanes import draw_lanes
from dynlab.views.latency import CURSORS, Runs, What, draw_latency, finding_of, runs_of
from dynlab.views.plots import MAX_PICKS, Picks, guess_values, new_column, plot_picks, plot_routing
from dynlab.views.prefix_tree import PrefixTree, draw_prefix_tree
from dynlab.views.residency import Prompts, Residency, draw_residency
from dynlab.views.score_card import draw_score_card
from dynlab.views.timeline import timeline_of
from dynlab.views.waterfall import plot_waterfall, spans_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = (
    "lanes_picture",
    "latency_picture",
    "overview_picture",
    "picks_picture",
    "prefix_tree_picture",
    "residency_picture",
    "routing_picture",
    "score_card_picture",
    "waterfall_picture",
)


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
    picks = Picks.of(traces, service)
    counts = picks.counts
    outline = guess_values(guess, list(counts))
    header = ("worker", "requests", *(["guess"] if outline else []))
    rows = [
        (w, n, *([g] if outline else []))
        for (w, n), g in zip(counts.items(), outline or [0] * len(counts), strict=True)
    ]
    label = _routing_label(counts, list(picks.by_mode))
    if outline:
        off = max(abs(n - g) for n, g in zip(counts.values(), outline, strict=True))
        label += f" The guess was off by at most {off:g}."
    return Picture(_figure(plot_routing(picks, guess=guess)), label, Table(header, rows))


def picks_picture(traces: TraceLog[Any], last: int = 200, service: str | None = None) -> Picture:
    """The newest picks in their order: how often two in a row went to the same worker."""
    picks = Picks.of(traces, service)
    shown = min(last, MAX_PICKS)
    newest = list(zip(picks.hops, picks.modes, strict=True))[-shown:] if shown > 0 else []
    again = sum(one.worker == other.worker for (one, _), (other, _) in pairwise(newest))
    label = f"The last {len(newest)} picks in their order: {again} went to the same worker as the one before."
    rows = [(n, hop.worker, mode or "") for n, (hop, mode) in enumerate(newest, start=1)]
    return Picture(_figure(plot_picks(picks, last=last)), label, Table(("pick", "worker", "mode"), rows))


def lanes_picture(traces: TraceLog[Any], service: str | None = None) -> Picture:
    """What each worker served over time, and how long requests waited although another worker was idle."""
    timeline = timeline_of(traces, service)
    whole = timeline.whole_ms or 1.0
    busy = sorted(timeline.lanes, key=lambda lane: lane.busy_ms)
    label = f"{timeline.finding}."
    if busy:
        label = (
            f"{len(timeline.picks.hops)} requests over {len(busy)} workers by {' and '.join(timeline.picks.by_mode)}. "
            f"{label} Busiest: {busy[-1].worker}, {busy[-1].busy_ms / whole:.0%} of the time; "
            f"idlest: {busy[0].worker}, {busy[0].busy_ms / whole:.0%}."
        )
    rows = [
        (
            lane.worker,
            lane.requests,
            f"{lane.busy_ms:.3f}",
            f"{lane.busy_ms / whole:.1%}",
            len(lane.turns_ms),
            f"{max(lane.turns_ms, default=0):.3f}",
            len(lane.failed_ms),
        )
        for lane in timeline.lanes
    ]
    header = ("worker", "requests", "busy ms", "busy", "waited for their turn", "longest wait ms", "failed")
    return Picture(_figure(draw_lanes(timeline)), label, Table(header, rows))


def latency_picture(runs: Runs, what: What = "total") -> Picture:
    """How long requests took: the share that was done within a time, and the percentiles of each run."""
    read = runs_of(runs, what)
    label = f"{finding_of(read)}."
    left_out = sum(sum(run.left_out.values()) for run in read)
    if left_out:
        label += f" {left_out} requests that did not end well are not drawn."
    rows = [
        (run.name, len(run.ms), *(f"{ms:.3f}" for ms in (run.mean, *map(run.percentile, CURSORS), run.ms[-1])))
        if run.ms
        else (run.name, 0, *[""] * (len(CURSORS) + 2))
        for run in read
    ]
    header = ("run", "n", "mean ms", *(f"p{p} ms" for p in CURSORS), "max ms", "not drawn")
    rows = [(*row, sum(run.left_out.values())) for row, run in zip(rows, read, strict=True)]
    return Picture(_figure(draw_latency(read, what)), label, Table(header, rows))


def score_card_picture(decision: Decision, names: Mapping[int, str] | None = None) -> Picture:
    """What each worker would have cost a KV router, part by part, and whether the fullest cache won."""
    scores = Scores.of(decision, names)
    label = f"{scores.finding}."
    if scores:
        label += f" On {scores.chosen.worker}, {scores.made}."
    header = ("worker", "cached blocks", "prompt", "queued prefill", "credit", "decode", "requests", "cost")
    rows = [
        (s.worker, s.cached, *map(blocks_text, (s.prompt, s.queued, s.credit, s.decode, s.weight, s.cost)))
        for s in scores
    ]
    kept = [n for n in range(len(header)) if n not in (3, 6) or any(row[n] != "0" for row in rows)]  # most have neither
    table = Table([header[n] for n in kept], [[row[n] for n in kept] for row in rows])
    return Picture(_figure(draw_score_card(scores)), label, table)


def prefix_tree_picture(
    prompts: Sequence[str],
    indexer: KvIndexer,
    block_size: int = BLOCK_SIZE,
    query: str | None = None,
    workers: Mapping[int, str] | None = None,
) -> Picture:
    """Which blocks prompts share and who holds them, and where the reuse of the query stops."""
    tree = PrefixTree.of(prompts, indexer, block_size, query, workers)
    rows = [
        (b.depth, b.word, b.run, b.requests, ", ".join(tree.workers.get(w, str(w)) for w in sorted(b.holders)))
        for b in tree.root.walk()
    ]
    header = ("place", "first word", "blocks", "requests", "held by")
    label = f"{tree.finding}." + (f" {tree.left_out} other prompts are not drawn." if tree.left_out else "")
    return Picture(_figure(draw_prefix_tree(tree)), label, Table(header, rows))


def residency_picture(
    prompts: Prompts,
    indexer: KvIndexer,
    block_size: int = BLOCK_SIZE,
    family: Callable[[str], str] | None = None,
    workers: Mapping[int, str] | None = None,
    traces: TraceLog[Any] | None = None,
) -> Picture:
    """Which worker holds how much of which prefix family, and how often it is held in all."""
    residency = Residency.of(prompts, indexer, block_size, family, workers, traces)
    rows = [(each.name, each.requests, each.blocks, *each.held) for each in residency.families]
    header = ("family", "requests", "blocks", *residency.workers)
    return Picture(_figure(draw_residency(residency)), f"{residency.finding}.", Table(header, rows))


def overview_picture(runs: Mapping[str, TraceLog[Any]]) -> Picture:
    """Requests per worker under several router modes, one above the other, each on its own scale from 0."""
    axes = new_column(max(1, len(runs)), 7.2, 1.7 * max(1, len(runs)))
    rows: list[tuple[Any, ...]] = []
    labels: list[str] = []
    for ax, (mode, traces) in zip(axes, runs.items(), strict=False):
        picks = Picks.of(traces)
        plot_routing(picks, ax)
        if ax is not axes[-1]:
            ax.set_xlabel("")
        counts = picks.counts
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
