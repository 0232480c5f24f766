"""Two routers on the same requests, one above the other: a lane a worker each, on one time axis (W4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dynlab.trace_log import TraceLog
from dynlab.views.figure import Picture, Table
from dynlab.views.lanes import draw_lanes
from dynlab.views.plots import new_column
from dynlab.views.style import INK, MUTED, headline
from dynlab.views.timeline import Timeline, ms_above_zero, timeline_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Duel", "draw_duel", "duel_picture")

LANE, FRAME = 0.34, 1.35
"""Inches that a lane takes, and the rest of a panel."""


@dataclass(frozen=True)
class Duel:
    """Runs by name, each with the time that all of them took together, so that a second is as long in each."""

    timelines: Mapping[str, Timeline]

    @classmethod
    def of(cls, runs: Mapping[str, TraceLog[Any]], service: str | None = None) -> Duel:
        """Read the runs."""
        read = {name: timeline_of(traces, service) for name, traces in runs.items()}
        whole = max((timeline.whole_ms for timeline in read.values()), default=0.0)
        return cls({name: replace(timeline, whole_ms=whole) for name, timeline in read.items()})

    @property
    def finding(self) -> str:
        """Where more time was wasted: while a request waits, another worker is idle."""
        drawn = {name: timeline for name, timeline in self.timelines.items() if timeline.picks.hops}
        if not drawn:
            return "No requests yet"
        parts = [f"{timeline.span(ms_above_zero(timeline.wasted))} under {name}" for name, timeline in drawn.items()]
        whole = next(iter(drawn.values()))
        return f"Requests waited beside an idle worker for {' and '.join(parts)}, of {whole.span(whole.whole_ms)}"

    @property
    def failures(self) -> dict[str, int]:
        """Requests without an answer, by run."""
        return {name: sum(len(lane.failed_ms) for lane in line.lanes) for name, line in self.timelines.items()}

    @property
    def full(self) -> tuple[float, float]:
        """The most that any worker served at once, and that waited there: full bars, of the same height in all."""
        lanes = [lane for timeline in self.timelines.values() for lane in timeline.lanes]
        served = max((n for lane in lanes for _, n in lane.serving), default=1.0)
        return max(served, 1.0), max((n for lane in lanes for _, n in lane.waiting), default=1.0)


def draw_duel(duel: Duel) -> Axes:
    """Draw the runs one above the other, and return the upper axes."""
    most = max((len(timeline.lanes) for timeline in duel.timelines.values()), default=1)
    runs = len(duel.timelines) or 1
    axes = new_column(runs, 7.6, 0.4 + runs * (FRAME + LANE * max(2, min(most, 16))))
    for ax, (name, timeline) in zip(axes, duel.timelines.items(), strict=False):
        draw_lanes(timeline, ax, duel.full)
        ax.set_title("", loc="left")
        ax.set_ylabel(f"{name}\n{ax.get_ylabel()}", fontsize=9, color=INK)
        if ax is not axes[-1]:
            below = [line for line in ax.get_xlabel().splitlines() if line.startswith("x: failed")]
            ax.set_xlabel("".join(below), fontsize=9, color=MUTED)
    headline(axes[0], duel.finding, 72)
    return axes[0]


def duel_picture(runs: Mapping[str, TraceLog[Any]], service: str | None = None) -> Picture:
    """Draw what each worker served under either router, and how long requests waited beside an idle one."""
    duel = Duel.of(runs, service)
    rows = [
        (
            name,
            lane.worker,
            lane.requests,
            f"{lane.busy_ms:.3f}",
            len(lane.turns_ms),
            f"{max(lane.turns_ms, default=0):.3f}",
            len(lane.failed_ms),
        )
        for name, timeline in duel.timelines.items()
        for lane in timeline.lanes
    ]
    header = ("router", "worker", "requests", "busy ms", "waited for their turn", "longest wait ms", "failed")
    failed = " and ".join(f"{count} under {name}" for name, count in duel.failures.items() if count)
    label = f"{duel.finding}.{f' Without an answer: {failed}.' if failed else ''}"
    return Picture(draw_duel(duel).figure, label, Table(header, rows))  # type: ignore[arg-type]
