"""Load sweep with honesty panel: p99 TTFT, goodput and drops over the load, beside what others published (W12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.views.bands import Band, Curves, band_of, free_style, seeds_text, spread
from dynlab.views.figure import Picture, Table
from dynlab.views.hit_rate import log_seconds, seconds_text
from dynlab.views.plots import HALO, caption, new_column
from dynlab.views.style import INK, MUTED, ModeStyle, mode_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Claim", "LoadSweep", "draw_load_sweep", "load_sweep_picture")

Pair: TypeAlias = tuple[float, float]
"""What the baseline had, and what the KV-aware router had."""

NAMES, STRIP, EDGE = 0.62, 0.2, 0.35
"""Widths: of the lines' names and of a claim's column, both in that of the loads; and of the edge, in columns."""
ROW = 0.095  # of a panel's height, that a name takes
NONE_DROPPED = 0.5  # percent, below which a line's end is not named one by one


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody published of a KV-aware router and a baseline; None: that is not stated.

    Args:
        name: a letter, for the picture.
        text: who measured what.
        baseline: the router mode that it was held against.
        what: of which TTFT.
        ttft_s: seconds of both.
        factor: how many times lower the TTFT was; by default as the seconds say.
        load: the load, as the sweep counts it.
        goodput: answered requests per second of both.
        dropped: the share of requests without an answer, of both.
    """

    name: str
    text: str
    baseline: str | None = None
    what: str = "TTFT"
    ttft_s: Pair | None = None
    factor: float | None = None
    load: float | None = None
    goodput: Pair | None = None
    dropped: Pair | None = None

    @property
    def times(self) -> float | None:
        """How many times lower the TTFT was."""
        return self.ttft_s[0] / self.ttft_s[1] if self.factor is None and self.ttft_s else self.factor

    @property
    def missing(self) -> list[str]:
        """What one would have to know, and is not told."""
        known = {
            "baseline": self.baseline,
            "seconds": self.ttft_s,
            "load": self.load,
            "goodput": self.goodput,
            "drops": self.dropped,
        }
        return [name for name, value in known.items() if value is None]


@dataclass(frozen=True)
class LoadSweep:
    """A band a line and panel, at the same loads in all three; dropped requests are in percent."""

    p99_s: list[Band]
    goodput: list[Band]
    dropped: list[Band]
    claims: Sequence[Claim] = ()

    @classmethod
    def of(cls, p99_s: Curves, goodput: Curves, dropped: Curves, claims: Iterable[Claim] = ()) -> LoadSweep:
        """Put the numbers in order.

        Raises:
            ValueError: unless all three have the same lines and loads, times are above 0, goodputs 0 or more and drops
                shares; and for what `bands_of` refuses.
        """
        percent = {
            name: {x: [100.0 * share for share in shares] for x, shares in curve.items()}
            for name, curve in dropped.items()
        }
        panels = [_bands(curves) for curves in (p99_s, goodput, percent)]
        lines = [[(band.name, band.xs) for band in panel] for panel in panels]
        if lines[1:] != lines[:-1]:
            raise ValueError("p99 TTFT, goodput and drops must be of the same routers, at the same loads.")
        for time, good, drop in zip(*panels, strict=True):
            if min(time.lows) <= 0 or min(good.lows) < 0 or min(drop.lows) < 0 or max(drop.highs) > 100:
                raise ValueError(f"{time.name!r}: times are above 0, goodput is 0 or more, and drops are shares.")
        return cls(panels[0], panels[1], panels[2], tuple(claims))

    @property
    def loads(self) -> list[float]:
        return sorted({x for band in self.p99_s for x in band.xs})

    @property
    def finding(self) -> str:
        """The one sentence that the picture is drawn for: by how much the lines differ at each end, and who drops."""
        if not self.p99_s:
            return "No runs yet"
        load = self.loads[-1]
        here = [band for band in self.p99_s if load in band.xs]
        best, worst = (choose(here, key=lambda band: band.mean_at(load)) for choose in (min, max))
        drops = {band.name: band.mean_at(load) for band in self.dropped if load in band.xs}
        if len(here) == 1:
            said = f"At load {load:g}, {best.name} has a p99 TTFT of {seconds_text(best.mean_at(load))} s"
        else:
            first, *then = [x for x in dict.fromkeys((self.loads[0], load)) if x in best.xs and x in worst.xs]
            times = f"is {_ratio(worst, best, first)} times that of {best.name} at load {first:g}"
            said = f"The p99 TTFT of {worst.name} {times}"
            said += "".join(f", and {_ratio(worst, best, x)} times at load {x:g}" for x in then)
        most = best.name if drops[best.name] >= NONE_DROPPED else max(drops, key=drops.__getitem__)
        fate = f"{most} drops {drops[most]:.0f}%" if drops[most] >= NONE_DROPPED else "nobody drops any"
        return f"{said}, where {fate}"


def _bands(curves: Curves) -> list[Band]:
    """Give "kv (2 wait)" the colour of "kv", and dashes of its own."""
    bands: list[Band] = []
    for name, curve in curves.items():
        bands.append(band_of(name, free_style(name.partition(" (")[0], [band.style for band in bands]), curve))
    return bands


def _ratio(worst: Band, best: Band, load: float) -> str:
    times = worst.mean_at(load) / best.mean_at(load)
    return f"{times:.0f}" if times >= 10 else f"{times:.1f}"


def draw_load_sweep(sweep: LoadSweep, note: str = "") -> Axes:
    """Draw what `LoadSweep.of` put in order, and return the first of the three panels."""
    axes = new_column(3, 7.6, 8.6 + 0.16 * len(sweep.claims), (1.5, 1, 1))
    loads = sweep.loads or [0.0, 1.0]
    wide = loads[-1] - loads[0] or 1.0
    strip = {
        claim.name: loads[-1] + wide * (NAMES + STRIP * (n + 0.6))
        for n, claim in enumerate(claim for claim in sweep.claims if claim.load is None)
    }
    right = loads[-1] + wide * (NAMES + STRIP * (len(strip) + EDGE) * bool(strip))
    places = {claim.name: strip[claim.name] if claim.load is None else claim.load for claim in sweep.claims}
    panels = (sweep.p99_s, sweep.goodput, sweep.dropped)
    pairs = (
        [claim.ttft_s for claim in sweep.claims],
        [claim.goodput for claim in sweep.claims],
        [None if each.dropped is None else (100 * each.dropped[0], 100 * each.dropped[1]) for each in sweep.claims],
    )
    for ax, panel, stated in zip(axes, panels, pairs, strict=True):
        ax.set_xlim(loads[0] - 0.06 * wide, right)
        _scale(ax, panel, stated, log=panel is sweep.p99_s)
        for band in panel:
            look = band.style
            ax.fill_between(band.xs, band.lows, band.highs, color=look.colour, alpha=0.16, linewidth=0)
            ax.plot(band.xs, band.means, color=look.colour, linestyle=look.line, linewidth=look.width)
            ax.plot(band.xs, band.means, look.marker, color=look.colour, markersize=4)
        _names(ax, panel, wide, few=panel is sweep.dropped)
        for claim, pair in zip(sweep.claims, stated, strict=True):
            _claim(ax, claim, places[claim.name], pair, timed=panel is sweep.p99_s, beside=0.04 * wide)
        if strip:
            ax.axvline(loads[-1] + wide * NAMES, color=MUTED, linewidth=0.8)
        ax.set_xticks([*loads, *strip.values()], [*(f"{load:g}" for load in loads), *strip])
    if strip:
        middle = loads[-1] + wide * (NAMES + STRIP * (len(strip) + EDGE) / 2)
        top: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": MUTED, "linespacing": 1.3}
        axes[0].text(middle, 0.99, "published,\nload not stated", transform=axes[0].get_xaxis_transform(), **top)
    said = f"lines: mean of {seeds_text(sweep.p99_s)}, bands: from the least to the most"
    said += "\np99 is of those answered" + (f" · {note}" if note else "")
    said += "".join(f"\n{_said(claim)}" for claim in sweep.claims) + ("\n?: not stated" if sweep.claims else "")
    caption(axes[0], sweep.finding, "", "p99 TTFT, s (log)", "")
    caption(axes[1], "", "", "goodput, answers a second", "")
    caption(axes[2], "", "load", "dropped, %", said)
    return axes[0]


def _scale(ax: Axes, panel: Sequence[Band], stated: Sequence[Pair | None], log: bool) -> None:
    numbers = [number for band in panel for number in (*band.lows, *band.highs)]
    numbers += [number for pair in stated if pair for number in pair]
    if log:
        log_seconds(ax, min(numbers, default=0.1) / 1.3, max(numbers, default=10.0) * (3.0 if any(stated) else 1.3))
    else:
        ax.set_ylim(0, (max(numbers, default=0.0) or 1.0) * 1.12)


def _names(ax: Axes, panel: Sequence[Band], wide: float, few: bool) -> None:
    """Name the lines right of their ends; with `few`, those that end at about 0 together."""
    ends: list[tuple[float, str, ModeStyle | None]] = [(band.means[-1], band.name, band.style) for band in panel]
    if few:
        zeros = [end for end in ends if end[0] < NONE_DROPPED]
        ends = [end for end in ends if end not in zeros]
        if len(zeros) > 1:
            ends.append((0.0, "the others drop none" if ends else "nobody drops any", None))
        else:
            ends += zeros
    ends.sort(key=lambda end: end[0])
    to_axes = ax.transAxes.inverted()
    last = max((band.xs[-1] for band in panel), default=0.0)
    heights = [float(to_axes.transform(ax.transData.transform((last, y)))[1]) for y, _, _ in ends]
    heights = [max(height, 0.6 * ROW) for height in heights]  # clear of the axis
    for (y, name, style), height in zip(ends, spread(heights, ROW), strict=True):
        at = float(ax.transData.inverted().transform(ax.transAxes.transform((0.0, height)))[1])
        ax.plot([last, last + 0.05 * wide], [y, at], color=MUTED, linewidth=0.6, zorder=0)
        if style:
            ax.plot([last + 0.07 * wide], [at], style.marker, color=style.colour, markersize=5)
        place = last + (0.1 if style else 0.06) * wide
        ax.text(place, at, name, fontsize=8, va="center", color=INK if style else MUTED)


def _claim(ax: Axes, claim: Claim, x: float, pair: Pair | None, timed: bool, beside: float) -> None:
    """Draw a published pair of numbers, or a question mark where there is none; of a time, also the factor."""
    baseline = mode_style(claim.baseline or "")
    factor = f"{claim.times:.{3 if claim.times >= 10 else 2}g}x" if timed and claim.times else ""
    words: dict[str, Any] = {"fontsize": 8, "color": INK, "bbox": HALO, "va": "center", "zorder": 5}
    if pair is None:
        middle: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": "center"}
        if factor:
            ax.text(x, 0.62, factor, **words, **middle)
        ax.text(x, 0.5, "?", **{**words, "fontsize": 13, "color": MUTED}, **middle)
        return
    ax.plot([x, x], pair, color=MUTED, linewidth=1.0, zorder=2)
    for value, style in zip(pair, (baseline, mode_style("kv")), strict=True):
        size = 9 if style.marker == "*" else 6
        ax.plot([x], [value], style.marker, color=style.colour, markersize=size, clip_on=False, zorder=4)
    if factor:
        ax.text(x + beside, (pair[0] * pair[1]) ** 0.5, factor, **words)


def _times(claim: Claim) -> str:
    times = claim.times or 1.0
    more, word = (times, "lower") if times >= 1 else (1 / times, "higher")
    return f"{more:.{3 if more >= 10 else 2}g} times {word}"


def _said(claim: Claim) -> str:
    """Write a claim in one line."""
    return f"{claim.name}: {claim.text}, {claim.what}" + (f" against {claim.baseline}" if claim.baseline else "")


def load_sweep_picture(
    p99_s: Curves, goodput: Curves, dropped: Curves, claims: Iterable[Claim] = (), note: str = ""
) -> Picture:
    """What a load does to routers: the time to the first token, how many are answered, and how many are dropped.

    Args:
        p99_s: by router mode, or own name, which may be a mode and more in brackets: for each load, the p99 times to
            the first token in seconds, one a seed.
        goodput: the same of answered requests per second.
        dropped: the same of the shares of requests without an answer.
        claims: what others published, drawn at their load, or in a strip of their own where that is not stated.
        note: what was run, such as "4 workers"; stands below.

    Raises:
        ValueError: for numbers that cannot be.
    """
    sweep = LoadSweep.of(p99_s, goodput, dropped, claims)
    ax = draw_load_sweep(sweep, note)
    label = f"{sweep.finding}." + (f" Mean of {seeds_text(sweep.p99_s)}." if sweep.p99_s else "")
    for claim in sweep.claims:
        times = f", {_times(claim)}" if claim.times else ""
        missing = f"; not stated: {', '.join(claim.missing)}" if claim.missing else ""
        label += f" {_said(claim)}{times}{missing}."
    band = ("least", "most")
    header = ("router", "load", "p99 TTFT s", *band, "goodput /s", *band, "dropped %", *band)
    return Picture(ax.figure, label, Table(header, _rows(sweep)))  # type: ignore[arg-type]


def _rows(sweep: LoadSweep) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for bands in zip(sweep.p99_s, sweep.goodput, sweep.dropped, strict=True):
        for n, load in enumerate(bands[0].xs):
            numbers = [number for band in bands for number in (band.means[n], band.lows[n], band.highs[n])]
            rows.append((bands[0].name, f"{load:g}", *(f"{number:.3g}" for number in numbers)))
    for claim in sweep.claims:
        drops = None if claim.dropped is None else (100 * claim.dropped[0], 100 * claim.dropped[1])
        at = "not stated" if claim.load is None else f"{claim.load:g}"
        for n, router in enumerate((claim.baseline or "baseline not stated", "kv")):
            stated = [f"{pair[n]:.3g}" if pair else "not stated" for pair in (claim.ttft_s, claim.goodput, drops)]
            cells = [cell for number in stated for cell in (number, "", "")]
            rows.append((f"{claim.name}: {router}", at, *cells))
    return rows
