"""The drawings: functions of traces that return their `Axes` and never start, stop or send anything.

Only this module imports matplotlib, and never pyplot, whose global state is not safe beside other threads.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from dynlab.hop import Hop, Roster
from dynlab.trace_log import TraceLog
from dynlab.views.style import INK, MUTED, PAPER, mode_style

__all__ = (
    "HALO",
    "Picks",
    "caption",
    "log_time_axis",
    "new_axes",
    "new_column",
    "plot_picks",
    "plot_routing",
    "step_area",
)

matplotlib.rcParams["svg.hashsalt"] = "dynlab"  # the same drawing gives the same file
HALO = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6}  # keeps numbers legible on lines
MANY = 24
"""From so many workers on, numbers on bars and most tick labels would overlap and are left out."""
MAX_PICKS = 1000
"""More marks than a picture has pixels in a row would lie on each other."""


def new_axes(width: float = 7.2, height: float = 3.4) -> Axes:
    """Make a figure of one axes, in inches."""
    return new_column(1, width, height)[0]


def new_column(rows: int, width: float, height: float, heights: Sequence[float] | None = None) -> list[Axes]:
    """Make a figure of so many axes, one above the other, equally high or in these proportions."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor=PAPER, layout="constrained")
    return list(figure.subplots(rows, 1, squeeze=False, height_ratios=heights)[:, 0])


def caption(ax: Axes, title: str, x: str, y: str, note: str) -> None:
    """Give a drawing its title, its axes' names and the line below that says n, mode and seed."""
    ax.set_title(textwrap.fill(title, 78), loc="left", fontsize=11, color=INK, fontweight="bold")
    ax.set_xlabel(f"{x}\n{note}" if note else x, fontsize=9, color=MUTED)
    ax.set_ylabel(y, fontsize=9, color=MUTED)
    ax.tick_params(labelsize=8, colors=MUTED)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


Source: TypeAlias = "TraceLog[Any] | Picks"
"""What pictures are drawn from."""


@dataclass(frozen=True)
class Picks:
    """The hops to one service in the order of their picks, read once: a log unpacks its requests for each reader.

    `modes` and `eligible`, the workers that could be chosen, have one entry a hop; `workers` are all that were ever
    listed, in the order of their instance ids.
    """

    hops: list[Hop]
    modes: list[str | None]
    eligible: list[tuple[str, ...]]
    workers: list[str]
    seed: int | None

    @classmethod
    def of(cls, source: Source, service: str | None = None) -> Picks:
        """Read the picks of `service`, by default of the one that answers last; picks stay as they are."""
        if isinstance(source, Picks):
            return source
        hops = source.hops_to(service)
        modes: list[str | None] = []
        eligible: list[tuple[str, ...]] = []
        known: dict[int, str] = {}
        rosters: dict[tuple[Roster, tuple[int, ...]], tuple[str, ...]] = {}
        for hop in hops:
            seen = (hop.roster, hop.inhibited)
            if seen not in rosters:
                rosters[seen] = tuple(worker for instance_id, worker in hop.roster if instance_id not in hop.inhibited)
                known.update(hop.roster)
            eligible.append(rosters[seen])
            modes.append(hop.mode)
        workers = dict.fromkeys(known[instance_id] for instance_id in sorted(known))
        return cls(hops, modes, eligible, list(workers), source.seed)

    @property
    def counts(self) -> dict[str, int]:
        """Requests per worker; a worker that got none counts 0."""
        counted = Counter(hop.worker for hop in self.hops)
        return {worker: counted[worker] for worker in self.workers}

    @property
    def by_mode(self) -> dict[str, Counter[str]]:
        """Requests per worker for each mode that picked."""
        found: dict[str, Counter[str]] = {}
        for hop, mode in zip(self.hops, self.modes, strict=True):
            if mode is not None:
                found.setdefault(mode, Counter())[hop.worker] += 1
        return found

    @property
    def noun(self) -> str:
        """What the workers are called."""
        return self.workers[0].rpartition("-")[0] if self.workers else "worker"

    @property
    def seed_note(self) -> str:
        return "" if self.seed is None else f" · seed = {self.seed}"


def log_time_axis(ax: Axes, low: float, high: float) -> None:
    """Make x a logarithmic axis of times from `low` to `high` with plain numbers on it."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    steps = (1, 1.5, 2, 3, 5, 7) if high / low < 12 else (1, 2, 5) if high / low < 2000 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=30))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def step_area(
    ax: Axes, steps: Sequence[tuple[float, float]], floor: float, height: float, zorder: float = 1, **look: Any
) -> None:
    """Fill from `floor` on as far as each step says, in units of `height`; steps of 0 stay empty. One mark in all.

    Unlike `Axes.stairs` it leaves the limits of the axes alone: to work them out takes longer than to draw.
    """
    if steps:
        tops = [floor + n * height if n else nan for _, n in steps[:-1]]
        ax.add_artist(StepPatch(tops, [t for t, _ in steps], baseline=floor, fill=True, zorder=zorder, **look))


def short_names(workers: Sequence[str]) -> list[str]:
    """Return what tells workers apart on an axis: their numbers, or every few of them when there are many."""
    step = 1 if len(workers) <= MANY else 8
    return [name.replace(" ", "-").rpartition("-")[2] if n % step == 0 else "" for n, name in enumerate(workers)]


def plot_routing(
    traces: Source,
    ax: Axes | None = None,
    guess: Sequence[float] | Mapping[str, float] | None = None,
    service: str | None = None,
) -> Axes:
    """Draw requests per worker (W2): bars with their counts, an even share as a line, a guess as an outline.

    Args:
        traces: the requests to count.
        ax: where to draw; a new figure by default.
        guess: expected counts, in the workers' order or by worker name.
        service: whose instances to count; by default the service that answers last.

    Raises:
        ValueError: if the guess has not one number for each worker.
    """
    ax = ax if ax is not None else new_axes()
    picks = Picks.of(traces, service)
    workers, values = picks.workers, list(picks.counts.values())
    places = range(len(workers))
    total = sum(values)
    bottom = [0] * len(workers)
    modes = picks.by_mode
    for mode, per_worker in modes.items():
        part = [per_worker[worker] for worker in workers]
        ax.bar(places, part, 0.7, bottom=bottom, color=mode_style(mode).colour, label=mode)
        bottom = [below + n for below, n in zip(bottom, part, strict=True)]
    outline = guess_values(guess, workers)
    if outline:
        ax.bar(places, outline, 0.86, fill=False, edgecolor=INK, linestyle="--", linewidth=1.3)
    top = max([*values, *outline, 1])
    ax.set_ylim(0, top * 1.22)
    if len(workers) <= MANY:
        for place, value in zip(places, values, strict=True):
            ax.text(place, value + top * 0.015, str(value), ha="center", va="bottom", fontsize=9, color=INK, bbox=HALO)
    if workers:
        even = total / len(workers)
        ax.axhline(even, color=INK, linewidth=0.9, alpha=0.6)
        ax.text(1.0, even, f"even: {even:g} ", transform=ax.get_yaxis_transform(), ha="left", va="center", fontsize=8)
    if len(modes) > 1:
        ax.legend(fontsize=8, frameon=False, loc="upper right", ncols=len(modes))
    ax.set_xticks(list(places), short_names(workers))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    name = picks.noun
    dashed = " · dashed: the guess" if outline else ""
    title = f"Requests per {name} by {' + '.join(modes)}" if modes else "No requests yet"
    caption(ax, title, f"{name} number", "requests", f"n = {total}{picks.seed_note}{dashed}")
    return ax


def plot_picks(traces: Source, ax: Axes | None = None, last: int = 200, service: str | None = None) -> Axes:
    """Draw the newest picks in their order (W3): a mark for each, in the row of its worker.

    Round robin is a staircase, random is noise, a herd is a block. At most `MAX_PICKS` are drawn.
    """
    ax = ax if ax is not None else new_axes(7.2, 2.6)
    picks = Picks.of(traces, service)
    workers = picks.workers
    rows = {worker: row for row, worker in enumerate(workers)}
    first = max(0, len(picks.hops) - max(0, min(last, MAX_PICKS)))
    shown = len(picks.hops) - first
    by_mode: dict[str, list[tuple[int, int]]] = {}
    for number in range(first, len(picks.hops)):
        mode = picks.modes[number]
        if mode is not None:
            by_mode.setdefault(mode, []).append((number + 1, rows[picks.hops[number].worker]))
    for mode, points in by_mode.items():
        style = mode_style(mode)
        ax.plot(*zip(*points, strict=True), style.marker, color=style.colour, markersize=3, label=mode)
    if len(by_mode) > 1:
        ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.02), ncols=len(by_mode))
    ax.set_yticks(range(len(workers)), short_names(workers))
    ax.set_ylim(len(workers) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    title = f"The last {shown} picks by {' + '.join(by_mode)}" if shown else "No requests yet"
    caption(ax, title, "request, in the order of picks", f"{picks.noun} number", f"n = {shown}{picks.seed_note}")
    return ax


def guess_values(guess: Sequence[float] | Mapping[str, float] | None, workers: Sequence[str]) -> list[float]:
    """Bring a guess into the workers' order; an empty one means that there is none."""
    if guess is None or not workers:
        return []
    if isinstance(guess, Mapping):
        unknown = [name for name in guess if name not in workers]
        if unknown:
            raise ValueError(f"The guess names {unknown[0]!r}; the workers are {', '.join(workers)}.")
        return [guess.get(worker, 0) for worker in workers]
    if len(guess) != len(workers):
        raise ValueError(f"The guess has {len(guess)} numbers; give one for each of the {len(workers)} workers.")
    return list(guess)
