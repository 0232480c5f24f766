"""What each worker served, and what waited for it, over time: a lane a worker (W4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynlab.views.plots import MANY, Source, caption, new_axes, short_names, step_area
from dynlab.views.style import INK, MUTED, TIER, WASTED, WASTED_BAND
from dynlab.views.timeline import Steps, Timeline, means, ms_above_zero, timeline_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("draw_lanes", "plot_lanes")

EXACT_STEPS = 1200
"""So many steps are drawn as they are; of more, each column of the drawing shows their mean."""
COLUMNS = 2000
"""Columns of all lanes together."""
FAILED_MARKS = 400
SERVING, WAITING, BASE = 0.36, 0.42, 0.42  # shares of a lane's height; what waits stands on what is served


def plot_lanes(traces: Source, ax: Axes | None = None, service: str | None = None) -> Axes:
    """Draw a lane a worker: solid what it serves, hatched above it what waits, x what failed.

    Behind all lanes stands a band, "wasted", while a request waits for its turn and another worker is idle;
    `timeline_of` says exactly what these words mean here.
    """
    return draw_lanes(timeline_of(traces, service), ax)


def draw_lanes(timeline: Timeline, ax: Axes | None = None, full: tuple[float, float] = (1.0, 1.0)) -> Axes:
    """Draw what `timeline_of` worked out; a full bar is at least so many that are served, or that wait."""
    lanes, picks = timeline.lanes, timeline.picks
    ax = ax if ax is not None else new_axes(7.6, 1.7 + min(0.62, 6 / max(1, len(lanes))) * max(2, len(lanes)))
    whole = timeline.whole_ms or 1.0
    unit = 1000.0 if timeline.in_seconds else 1.0
    total = sum(len(lane.serving) + len(lane.waiting) for lane in lanes)
    columns = 0 if total <= EXACT_STEPS else max(4, min(300, COLUMNS // len(lanes)))

    def shown(steps: Steps) -> Steps:
        return [(t / unit, n) for t, n in (means(steps, whole, columns) if columns else steps)]

    served = [shown(lane.serving) for lane in lanes]
    waited = [shown(lane.waiting) for lane in lanes]
    # One request at least is a full bar, or a moment's work in a quiet second would look like much.
    drawn = zip(full, (served, waited), strict=True)
    most = [max([least, *(n for steps in each for _, n in steps)]) for least, each in drawn]
    for row, (serving, waiting) in enumerate(zip(served, waited, strict=True)):
        floor = row + BASE
        step_area(ax, serving, floor, -SERVING / most[0], facecolor=TIER)
        hatched: dict[str, Any] = {"facecolor": "none", "edgecolor": MUTED, "hatch": "//////", "linewidth": 0.5}
        step_area(ax, waiting, floor - SERVING, -WAITING / most[1], **hatched)
    if lanes:
        ax.hlines([row + BASE for row in range(len(lanes))], 0, whole / unit, color=MUTED, linewidth=0.6)
    failed = {
        (round(t / whole * FAILED_MARKS / len(lanes)), row): t / unit
        for row, lane in enumerate(lanes)
        for t in lane.failed_ms
    }
    if failed:
        places = [row + BASE - SERVING / 2 for _, row in failed]
        small = len(lanes) > 8
        ax.plot(list(failed.values()), places, "x", color=INK, markersize=4 if small else 6, markeredgewidth=1.3)
    if len(lanes) <= MANY:
        for row, lane in enumerate(lanes):
            busy = f" {_percent(lane.busy_ms / whole)} busy"
            ax.text(1.0, row, busy, transform=ax.get_yaxis_transform(), fontsize=8, va="center")
    _band(ax, timeline, shown(timeline.wasted), len(lanes))
    ticks = list(range(len(lanes)))
    ax.set_yticks(ticks, short_names([lane.worker for lane in lanes]))
    ax.set_xlim(0, whole / unit)
    note = f"n = {len(picks.hops)}{picks.seed_note}"
    if lanes:
        note += f" · solid: being served (a full bar is {most[0]:.3g})"
        note += f" · hatched: picked, not yet begun (a full bar is {most[1]:.3g})"
    failures = sum(len(lane.failed_ms) for lane in lanes)
    extra = [f"x: failed ({failures})"] if failures else []
    extra += [f"each step is the mean of {timeline.span(whole / columns)}"] if columns else []
    note += "\n" + " · ".join(extra) if extra else ""
    unit_name = "s" if timeline.in_seconds else "ms"
    caption(ax, timeline.finding, f"{unit_name} since the first pick", f"{picks.noun} number", note)
    return ax


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _band(ax: Axes, timeline: Timeline, steps: Steps, lanes: int) -> None:
    """Draw what was wasted: a strip on top, as high as its share, and a band behind the lanes where it is most."""
    ax.set_ylim(max(lanes, 1) - 0.4, -1.15 if steps else -0.6)
    if steps:
        step_area(ax, steps, -0.6, -0.4, facecolor=WASTED)
        behind = [(t, float(n >= 0.5)) for t, n in steps]
        step_area(ax, behind, -0.6, lanes + 0.2, zorder=0, facecolor=WASTED_BAND)
        wasted = f" wasted: {timeline.span(ms_above_zero(timeline.wasted))}"
        ax.text(1.0, -0.8, wasted, transform=ax.get_yaxis_transform(), fontsize=8, va="center", color=WASTED)
