"""How long requests took, as a share of all: one line a run, read off at p50, p95 and p99 (W5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dynlab.trace_log import TraceLog
from dynlab.tracing import RequestTrace
from dynlab.views.plots import HALO, caption, log_time_axis, new_axes
from dynlab.views.style import INK, MODES, MUTED, ModeStyle, mode_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("LatencyRun", "Runs", "What", "draw_latency", "finding_of", "plot_latency", "runs_of", "time_text")

What: TypeAlias = Literal["total", "ttft"]
Runs: TypeAlias = TraceLog[Any] | Mapping[str, TraceLog[Any]]
"""One log, drawn as a line for each router mode in it, or several logs by the names of their lines."""

CURSORS = (50, 95, 99)
POINTS = 400
"""Points of a line; more of them would be closer together than pixels."""
ROW = 5.5  # percent that a name above the lines takes
CHARACTER = 0.0105  # of the axis that a character takes
_X = {"total": "time in the system, ms (log)", "ttft": "time to first token, ms (log)"}


@dataclass(frozen=True, slots=True)
class LatencyRun:
    """The times of the requests that ended well, sorted; `left_out` counts the others by how they ended."""

    name: str
    style: ModeStyle
    ms: Sequence[float]
    left_out: Mapping[str, int]
    seed: int | None

    @property
    def mean(self) -> float:
        return sum(self.ms) / len(self.ms)

    def percentile(self, p: float) -> float:
        """Return the nearest rank: the shortest time within which at least `p` percent of the requests are done."""
        return self.ms[max(ceil(p / 100 * len(self.ms)), 1) - 1]


def runs_of(runs: Runs, what: What = "total") -> list[LatencyRun]:
    """Read the times: the whole request as the client saw it, or, for "ttft", until its first item.

    Raises:
        ValueError: if `what` is neither "total" nor "ttft".
    """
    if what not in _X:
        raise ValueError(f"what={what!r} must be 'total' or 'ttft'.")
    named: list[tuple[str, list[RequestTrace], int | None]] = []
    if isinstance(runs, Mapping):
        named += [(str(name), list(log), log.seed) for name, log in runs.items()]
    else:
        by_mode: dict[str, list[RequestTrace]] = {}
        for trace in runs:
            by_mode.setdefault(_mode(trace), []).append(trace)
        named += [(mode, traces, runs.seed) for mode, traces in by_mode.items()]
    made: list[LatencyRun] = []
    for name, traces, seed in named:
        left_out: Counter[str] = Counter()
        ms: list[float] = []
        for trace in traces:
            taken = trace.duration_ms if what == "total" else trace.ttft_ms
            if trace.outcome == "ok" and taken is not None:
                ms.append(taken)
            else:
                left_out[_fate(trace)] += 1
        made.append(LatencyRun(name, _look(name, traces, [run.style for run in made]), sorted(ms), left_out, seed))
    return made


def _mode(trace: RequestTrace) -> str:
    by = trace.answered_by
    return (by.mode if by else None) or "not routed"


def _fate(trace: RequestTrace) -> str:
    """Say why a request has no time."""
    return {"ok": "without items", "stopped": "stopped", "running": "running"}.get(trace.outcome, "failed")


def _look(name: str, traces: Sequence[RequestTrace], taken: Iterable[ModeStyle]) -> ModeStyle:
    """A mode has its look; another name has that of the mode that its requests were picked by.

    Two lines of one mode share its colour, and the later one takes dashes that are free.
    """
    style = mode_style(name if name in MODES or not traces else _mode(traces[-1]))
    used = [other.line for other in taken if other.colour == style.colour]
    if style.line in used:
        free = [other.line for other in MODES.values() if other.line not in used]
        style = ModeStyle(style.colour, style.on_dark, free[0] if free else style.line, style.width, style.marker)
    return style


def finding_of(runs: Sequence[LatencyRun]) -> str:
    """Say what the lines show: one line's p99 against its p50, or the highest p99 against the lowest."""
    drawn = [run for run in runs if run.ms]
    if not drawn:
        return "No requests yet"
    best, worst = (choose(drawn, key=lambda run: run.percentile(99)) for choose in (min, max))
    p50, p99 = best.percentile(50), best.percentile(99)
    if len(best.ms) == len(drawn) == 1:
        return f"{best.name}: one request, {time_text(p50)} ms"
    if len(drawn) == 1:
        return f"{best.name}: p99 is {_ratio(p99, p50)} times p50 ({time_text(p99)} against {time_text(p50)} ms)"
    means = _ratio(worst.mean, best.mean)
    at = "at the same mean" if means == "1.0" else f"its mean {means} times"
    return f"p99 of {worst.name} is {_ratio(worst.percentile(99), p99)} times that of {best.name}, {at}"


def plot_latency(runs: Runs, ax: Axes | None = None, what: What = "total") -> Axes:
    """Draw for each run how many percent of its requests were done within a time.

    Args:
        runs: traces, drawn as a line for each router mode among them, or several by name, as in
            `{"round-robin": before, "random": after}`.
        ax: where to draw; a new figure by default.
        what: "total" for the time until the last item, "ttft" for the time until the first.

    Raises:
        ValueError: if `what` is neither.
    """
    return draw_latency(runs_of(runs, what), what, ax)


def draw_latency(runs: Sequence[LatencyRun], what: What = "total", ax: Axes | None = None) -> Axes:
    """Draw what `runs_of` read."""
    drawn = [run for run in runs if run.ms]
    # A percent must be high enough for the numbers at p95 and at p99 to stand apart.
    ax = ax if ax is not None else new_axes(7.6, 4.4 + 0.17 * max(0, len(drawn) - 1))
    ax.set_ylim(0, 102 + ROW * max(1, len(drawn)))
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.spines["left"].set_bounds(0, 100)
    _axis(ax, drawn)
    if drawn:
        for p in CURSORS:
            ax.axhline(p, color=MUTED, linewidth=0.6)
            ax.text(1.0, p, f" p{p}", transform=ax.get_yaxis_transform(), fontsize=8, va="center", color=INK)
            _values(ax, drawn, p)
    for run in drawn:
        points = _points(run.ms)
        look = run.style
        ax.step(*zip(*points, strict=True), where="post", color=look.colour, linestyle=look.line, linewidth=look.width)
    _flags(ax, drawn)
    caption(ax, finding_of(runs), _X[what], "% of requests done", _note(runs, drawn))
    return ax


def _note(runs: Sequence[LatencyRun], drawn: Sequence[LatencyRun]) -> str:
    counts = [len(run.ms) for run in drawn] or [0]
    note = f"n = {' + '.join(map(str, counts))}"
    if len(counts) > 1 and len(set(counts)) == 1:
        note = f"n = {counts[0]} each"
    seeds = {run.seed for run in runs}
    note += f" · seed = {seeds.pop()}" if len(seeds) == 1 and None not in seeds else ""
    left_out = sum((Counter(run.left_out) for run in runs), Counter[str]())
    note += "".join(f" · {count} {fate}, not drawn" for fate, count in left_out.items())
    few = drawn and min(counts) < 100
    return note + (" · of fewer than 100, p99 is the slowest" if few else "")


def _points(ms: Sequence[float]) -> list[tuple[float, float]]:
    """Return where the line rises: evenly spread over the requests, with the first and the last."""
    n = len(ms)
    ranks = sorted({max(1, round(n * step / POINTS)) for step in range(POINTS + 1)})
    return [(ms[0], 0.0), *((ms[rank - 1], 100 * rank / n) for rank in ranks)]


def _axis(ax: Axes, runs: Sequence[LatencyRun]) -> None:
    """Leave room to the right of the slowest for its numbers, and at least a factor of 4 in all."""
    low = max(min((run.ms[0] for run in runs), default=1.0), 1e-3)
    high = max(low, *(run.ms[-1] for run in runs)) if runs else 100.0
    wider = max(1.15, (4 * low / high) ** 0.5)
    log_time_axis(ax, low / wider, high * max(wider, (high / low) ** 0.15))


def _across(ax: Axes, ms: float) -> float:
    """Return where a time lies between the left and the right end of the axis, 0 to 1."""
    low, high = ax.get_xlim()
    return log(max(ms, low) / low) / log(high / low)


def _values(ax: Axes, runs: Sequence[LatencyRun], p: int) -> None:
    """Mark where the lines cross the height of `p` percent, and write the times where they fit."""
    crossings = sorted((run.percentile(p), run.style.marker, run.style.colour) for run in runs)
    for n, (ms, marker, colour) in enumerate(crossings):
        ax.plot([ms], [p], marker, color=colour, markersize=5, zorder=4)
        text = time_text(ms)
        room = _across(ax, crossings[n + 1][0]) - _across(ax, ms) if n + 1 < len(crossings) else 1.0
        # Below and to the right of a crossing its own line never passes.
        if room > CHARACTER * (len(text) + 1.5):
            below: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": 7.5, "bbox": HALO}
            ax.annotate(text, (ms, p), (5, -1.5), color=INK, **below)


def _flags(ax: Axes, runs: Sequence[LatencyRun]) -> None:
    """Name each line at its end, one above the other: the slowest highest, so that no pole crosses a name."""
    for row, run in enumerate(sorted(runs, key=lambda run: run.ms[-1])):
        end, height = run.ms[-1], 100 + ROW * (row + 0.8)
        ax.plot([end, end], [100, height], color=run.style.colour, linewidth=0.8)
        numbers = f": mean {time_text(run.mean)}, p99 {time_text(run.percentile(99))} ms" if len(runs) > 1 else ""
        right = max(_across(ax, end), CHARACTER * (len(run.name + numbers) + 2))
        ax.plot([end], [height], run.style.marker, color=run.style.colour, markersize=5)
        low, high = ax.get_xlim()
        ax.annotate(
            run.name + numbers,
            (low * (high / low) ** right, height),
            (-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
            color=INK,
        )


def _ratio(one: float, other: float) -> str:
    times = one / other if other else 1.0
    return f"{times:.1f}" if times < 10 else f"{times:.0f}"


def time_text(ms: float) -> str:
    """Write a time with three digits that count."""
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
