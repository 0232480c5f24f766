"""The drawings: functions of traces that return their `Axes` and never start, stop or send anything.

Only this module imports matplotlib, and never pyplot, whose global state is not safe beside other threads.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynlab.tracing import TraceLog
from dynlab.views.style import INK, MUTED, PAPER, mode_style

__all__ = ("caption", "new_axes", "new_column", "plot_picks", "plot_routing")

matplotlib.rcParams["svg.hashsalt"] = "dynlab"  # the same drawing gives the same file
_HALO = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6}  # keeps numbers legible on lines
MANY = 24
"""From so many workers on, numbers on bars and most tick labels would overlap and are left out."""


def new_axes(width: float = 7.2, height: float = 3.4) -> Axes:
    """Make a figure of one axes, in inches."""
    return new_column(1, width, height)[0]


def new_column(rows: int, width: float, height: float) -> list[Axes]:
    """Make a figure of so many axes, one above the other."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor=PAPER, layout="constrained")
    return list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def caption(ax: Axes, title: str, x: str, y: str, note: str) -> None:
    """Give a drawing its title, its axes' names and the line below that says n, mode and seed."""
    ax.set_title(textwrap.fill(title, 78), loc="left", fontsize=11, color=INK, fontweight="bold")
    ax.set_xlabel(f"{x}\n{note}" if note else x, fontsize=9, color=MUTED)
    ax.set_ylabel(y, fontsize=9, color=MUTED)
    ax.tick_params(labelsize=8, colors=MUTED)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def modes_of(traces: TraceLog[Any], service: str | None) -> dict[str, dict[str, int]]:
    """Count requests per worker for each mode that picked, `{mode: {worker: n}}`."""
    found: dict[str, dict[str, int]] = {}
    for hop in traces.hops_to(service):
        if hop.decision is not None:
            counts = found.setdefault(hop.decision.mode, {})
            counts[hop.worker] = counts.get(hop.worker, 0) + 1
    return found


def short_names(workers: Sequence[str]) -> list[str]:
    """Return what tells workers apart on an axis: their numbers, or every few of them when there are many."""
    step = 1 if len(workers) <= MANY else 8
    return [name.rpartition("-")[2] if n % step == 0 else "" for n, name in enumerate(workers)]


def plot_routing(
    traces: TraceLog[Any],
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
    counts = traces.requests_per_worker(service)
    workers, values = list(counts), list(counts.values())
    places = range(len(workers))
    total = sum(values)
    bottom = [0] * len(workers)
    modes = modes_of(traces, service)
    for mode, per_worker in modes.items():
        part = [per_worker.get(worker, 0) for worker in workers]
        ax.bar(places, part, 0.7, bottom=bottom, color=mode_style(mode).colour, label=mode)
        bottom = [below + n for below, n in zip(bottom, part, strict=True)]
    outline = guess_values(guess, workers)
    if outline:
        ax.bar(places, outline, 0.86, fill=False, edgecolor=INK, linestyle="--", linewidth=1.3)
    top = max([*values, *outline, 1])
    ax.set_ylim(0, top * 1.22)
    if len(workers) <= MANY:
        for place, value in zip(places, values, strict=True):
            ax.text(place, value + top * 0.015, str(value), ha="center", va="bottom", fontsize=9, color=INK, bbox=_HALO)
    if workers:
        even = total / len(workers)
        ax.axhline(even, color=INK, linewidth=0.9, alpha=0.6)
        ax.text(1.0, even, f"even: {even:g} ", transform=ax.get_yaxis_transform(), ha="left", va="center", fontsize=8)
    if len(modes) > 1:
        ax.legend(fontsize=8, frameon=False, loc="upper right", ncols=len(modes))
    ax.set_xticks(list(places), short_names(workers))
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    name = workers[0].rpartition("-")[0] if workers else "worker"
    dashed = " · dashed: the guess" if outline else ""
    title = f"Requests per {name} by {' + '.join(modes)}" if modes else "No requests yet"
    caption(ax, title, f"{name} number", "requests", f"n = {total}{seed_note(traces)}{dashed}")
    return ax


def plot_picks(traces: TraceLog[Any], ax: Axes | None = None, last: int = 200, service: str | None = None) -> Axes:
    """Draw the newest picks in their order (W3): a mark for each, in the row of its worker.

    Round robin is a staircase, random is noise, a herd is a block.
    """
    ax = ax if ax is not None else new_axes(7.2, 2.6)
    all_hops = traces.hops_to(service)
    hops = all_hops[-last:] if last > 0 else []
    workers = list(traces.requests_per_worker(service))
    rows = {worker: row for row, worker in enumerate(workers)}
    first = len(all_hops) - len(hops) + 1
    by_mode: dict[str, list[tuple[int, int]]] = {}
    for number, hop in enumerate(hops, start=first):
        if hop.decision is not None:
            by_mode.setdefault(hop.decision.mode, []).append((number, rows[hop.worker]))
    for mode, points in by_mode.items():
        style = mode_style(mode)
        ax.plot(*zip(*points, strict=True), style.marker, color=style.colour, markersize=3, label=mode)
    if len(by_mode) > 1:
        ax.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.02), ncols=len(by_mode))
    ax.set_yticks(range(len(workers)), short_names(workers))
    ax.set_ylim(len(workers) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    name = workers[0].rpartition("-")[0] if workers else "worker"
    title = f"The last {len(hops)} picks by {' + '.join(by_mode)}" if hops else "No requests yet"
    caption(ax, title, "request, in the order of picks", f"{name} number", f"n = {len(hops)}{seed_note(traces)}")
    return ax


def seed_note(traces: TraceLog[Any]) -> str:
    return "" if traces.seed is None else f" · seed = {traces.seed}"


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
