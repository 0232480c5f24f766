"""Hit rate against the time to the first token: a point for each router and load (W11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

from dynlab.views.bands import Band, Curves, bands_of, seeds_text, spread
from dynlab.views.figure import Picture, Table
from dynlab.views.plots import HALO, caption, new_axes
from dynlab.views.style import INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("HitRates", "draw_hit_rate", "hit_rate_picture", "log_seconds", "plot_hit_rate", "seconds_text")

SMALL, LARGE = 4.5, 9.5
"""Points that a mark is wide at the lowest and at the highest load; a star has more edge than body, and is larger."""
ROW = 0.055  # of the height, that a name takes
BESIDE, ROOM = 0.03, 0.3  # of the hit rate: from a point to its name, and what a name left of it may take
_TICKS = [part * 10.0**power for power in range(-3, 6) for part in (1, 2, 5)]


@dataclass(frozen=True)
class HitRates:
    """For each router a band of hit rates and one of p99 TTFTs, at the same loads."""

    hits: list[Band]
    times: list[Band]

    @classmethod
    def of(cls, hit_rate: Curves, p99_s: Curves) -> HitRates:
        """Put the numbers in order.

        Raises:
            ValueError: unless both have the same routers and loads, hit rates are shares and times are above 0; and
                for what `bands_of` refuses.
        """
        hits, times = bands_of(hit_rate), bands_of(p99_s)
        if [(band.name, band.xs) for band in hits] != [(band.name, band.xs) for band in times]:
            raise ValueError("The hit rates and the p99 TTFTs must be of the same routers, at the same loads.")
        for hit, time in zip(hits, times, strict=True):
            if min(hit.lows) < 0 or max(hit.highs) > 1 or min(time.lows) <= 0:
                raise ValueError(f"{hit.name!r}: hit rates are shares from 0 to 1, and times above 0.")
        return cls(hits, times)

    @property
    def loads(self) -> list[float]:
        return sorted({x for band in self.hits for x in band.xs})

    @property
    def finding(self) -> str:
        """The one sentence that the picture is drawn for: whether who has the most hits is the fastest, too."""
        common = set.intersection(*(set(band.xs) for band in self.hits)) if self.hits else set()
        if not common:
            return "No runs yet" if not self.hits else "The routers ran at different loads"
        load = max(common)
        at = [(hit, hit.xs.index(load), time.mean_at(load)) for hit, time in zip(self.hits, self.times, strict=True)]
        most, place, its_time = max(at, key=lambda each: each[0].means[each[1]])
        fastest, n, least = min(at, key=lambda each: each[2])
        share = f"{most.means[place]:.0%}"
        if len(at) == 1:
            return f"At load {load:g}, {most.name} has a hit rate of {share} and a p99 TTFT of {seconds_text(least)} s"
        # Who comes as high as the first does with its worst seed is not told apart from it.
        first = [hit.name for hit, where, _ in at if hit.highs[where] >= most.lows[place]]
        if fastest.name in first:
            return f"At load {load:g}, {fastest.name} has both the highest hit rate and the lowest p99 TTFT"
        have = f"{' and '.join(first)} {'has' if len(first) == 1 else 'have'} the highest hit rate, {share}"
        lower = f"{fastest.name} with {fastest.means[n]:.0%} the lowest p99 TTFT"
        times = f"{seconds_text(least)} s, not {seconds_text(its_time)}"
        return f"At load {load:g}, {have}, but {lower}: {times}"


def plot_hit_rate(hit_rate: Curves, p99_s: Curves, note: str = "", ax: Axes | None = None) -> Axes:
    """Draw p99 TTFT over hit rate: a mark for each router and load, and a line through the loads of a router.

    Args:
        hit_rate: by router mode, or own name: for each load, the hit rates, one a seed.
        p99_s: the same of the p99 times to the first token, in seconds.
        note: what was run, such as "4 workers, none dropped"; stands below.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: for numbers that cannot be.
    """
    return draw_hit_rate(HitRates.of(hit_rate, p99_s), note, ax)


def draw_hit_rate(rates: HitRates, note: str = "", ax: Axes | None = None) -> Axes:
    """Draw what `HitRates.of` put in order."""
    ax = ax if ax is not None else new_axes(7.6, 4.8)
    low = min((min(band.lows) for band in rates.times), default=0.1)
    high = max((max(band.highs) for band in rates.times), default=10.0)
    ax.set_xlim(0, 1)
    log_seconds(ax, low / 1.25, high * 1.25)
    loads = rates.loads
    sizes = {load: SMALL + (LARGE - SMALL) * n / max(1, len(loads) - 1) for n, load in enumerate(loads)}
    for hit, time in zip(rates.hits, rates.times, strict=True):
        look = time.style
        thin: dict[str, Any] = {"color": look.colour, "linewidth": 0.7, "zorder": 1}
        ax.vlines(hit.means, time.lows, time.highs, **thin)
        ax.hlines(time.means, hit.lows, hit.highs, **thin)
        ax.plot(hit.means, time.means, color=look.colour, linestyle=look.line, linewidth=look.width)
        for load, x, y in zip(hit.xs, hit.means, time.means, strict=True):
            size = sizes[load] * (1.5 if look.marker == "*" else 1.0)
            ax.plot([x], [y], look.marker, color=look.colour, markersize=size, zorder=3)
    _names(ax, rates)
    corner: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "bottom", "color": MUTED}
    ax.text(0.99, 0.015, "better: more hits, sooner ↘", fontsize=8, **corner)
    marks = f"marks, small to large: load {', '.join(f'{load:g}' for load in loads)}"
    said = f"{marks} · mean of {seeds_text(rates.hits)}, thin: from the least to the most"
    along = "hit rate: blocks found in caches, of all blocks of the prompts"
    caption(ax, rates.finding, along, "p99 TTFT, s (log)", said + (f"\n{note}" if note else ""))
    return ax


def _names(ax: Axes, rates: HitRates) -> None:
    """Name each line beside its last point, where the fewest blocks are hit left of it; names keep clear."""
    ends = [(hit.means[-1], time.means[-1], time) for hit, time in zip(rates.hits, rates.times, strict=True)]
    least = min((x for x, _, _ in ends), default=0.0)
    low, high = ax.get_ylim()
    for side in (-1, 1):
        own = sorted((end for end in ends if (ROOM < end[0] < least + BESIDE) == (side < 0)), key=lambda end: end[1])
        heights = [log(y / low) / log(high / low) for _, y, _ in own]
        for (x, y, band), height in zip(own, spread(heights, ROW), strict=True):
            at = low * (high / low) ** height
            ax.plot([x, x + BESIDE * side], [y, at], color=MUTED, linewidth=0.6, zorder=0)
            beside: dict[str, Any] = {"ha": "right" if side < 0 else "left", "va": "center", "fontsize": 8.5}
            ax.text(x + (BESIDE + 0.004) * side, at, band.name, color=INK, bbox=HALO, zorder=4, **beside)


def log_seconds(ax: Axes, low: float, high: float) -> None:
    """Make y a logarithmic axis of seconds, with plain numbers on it."""
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    ax.set_yticks(ticks if high / low < 2000 else [tick for tick in ticks if f"{tick:e}".startswith("1.")])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()


def seconds_text(seconds: float) -> str:
    """Write seconds with two digits that count, or all before the point."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def hit_rate_picture(hit_rate: Curves, p99_s: Curves, note: str = "") -> Picture:
    """Whether the router with the highest hit rate has the lowest p99 time to the first token."""
    rates = HitRates.of(hit_rate, p99_s)
    ax = draw_hit_rate(rates, note)
    label = f"{rates.finding}." + (f" Mean of {seeds_text(rates.hits)}." if rates.hits else "")
    header = ("router", "load", "hit rate", "least", "most", "p99 TTFT s", "least", "most", "seeds")
    return Picture(ax.figure, label, Table(header, _rows(rates)))  # type: ignore[arg-type]


def _rows(rates: HitRates) -> Sequence[Sequence[Any]]:
    return [
        (
            hit.name,
            f"{load:g}",
            *(f"{number:.3f}" for number in (hit.means[n], hit.lows[n], hit.highs[n])),
            *(f"{number:.3g}" for number in (time.means[n], time.lows[n], time.highs[n])),
            len(hit.values[n]),
        )
        for hit, time in zip(rates.hits, rates.times, strict=True)
        for n, load in enumerate(hit.xs)
    ]
