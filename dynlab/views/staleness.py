"""What old loads cost: the mean time in the system over the age of what the router knows (W7).

Mitzenmacher, "How Useful Is Old Information?" (IEEE TPDS 11(1), 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import inf, log, log2
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.views.bands import Band, Curves, bands_of, name_ends, seeds_text
from dynlab.views.figure import Picture, Table
from dynlab.views.plots import HALO, caption, new_axes
from dynlab.views.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Crossing", "Staleness", "draw_staleness", "plot_staleness", "staleness_picture")

Point: TypeAlias = tuple[float, float]
TICKS = tuple(part * 10**power for power in range(-3, 6) for part in (1, 2, 3, 5))


@dataclass(frozen=True, slots=True)
class Crossing:
    """From this age on `slower` is slower than `faster`; `low` and `high` are the earliest and the latest by seed."""

    slower: str
    faster: str
    age: float
    time: float
    low: float
    high: float


@dataclass(frozen=True)
class Staleness:
    """A band for each mode, and where two of them cross in all seeds."""

    bands: list[Band]
    crossings: list[Crossing]
    unit: float

    @classmethod
    def of(cls, curves: Curves) -> Staleness:
        """Put the curves in order, and find out where they cross.

        Raises:
            ValueError: for an age below 0, a time that is not above 0, or what `bands_of` refuses.
        """
        bands = bands_of(curves)
        for band in bands:
            if band.xs[0] < 0 or min(band.lows) <= 0:
                raise ValueError(f"{band.name!r}: ages are 0 or more, and times above 0.")
        unit = min((x for band in bands for x in band.xs if x), default=0.25)
        found = [crossing for one, other in combinations(bands, 2) for crossing in _crossings(one, other, unit)]
        return cls(bands, sorted(found, key=lambda crossing: crossing.age), unit)

    @property
    def ages(self) -> list[float]:
        return sorted({x for band in self.bands for x in band.xs})

    @property
    def finding(self) -> str:
        """The one sentence that the picture is drawn for: until when the fastest with new loads stays so."""
        return self._said(by_seed=False)

    @property
    def sentence(self) -> str:
        """The finding, with what the seeds make of each age."""
        return self._said(by_seed=True)

    def _said(self, by_seed: bool) -> str:
        if not self.bands:
            return "No runs yet"
        newest = self.ages[0]
        there = [band for band in self.bands if newest in band.xs]
        best = min(there, key=lambda band: band.mean_at(newest))
        if len(self.bands) == 1:
            ends = f"{best.means[0]:.3g} to {best.means[-1]:.3g}"
            return f"{best.name}: from {ends} between the ages of {newest:g} and {best.xs[-1]:g}"
        lost = [crossing for crossing in self.crossings if crossing.slower == best.name]
        if not lost:
            return f"{best.name} is the fastest while loads are fresh, and no other overtakes it"
        passed = [
            f"{each.faster} {'is faster ' * (n == 0)}from {'an age of ' * (n == 0)}{each.age:.2g}"
            + (f" ({each.low:.2g} to {each.high:.2g} by seed)" if by_seed else "")
            for n, each in enumerate(lost)
        ]
        return f"{best.name} is the fastest while loads are fresh; {', '.join(passed)} on"


def _place(age: float, unit: float) -> float:
    """Return where an age lies on the axis: 0, then each doubling as far as from 0 to the first."""
    return age / unit if age <= unit else 1 + log2(age / unit)


def _age(place: float, unit: float) -> float:
    return float(place * unit if place <= 1 else unit * 2 ** (place - 1))


def _crossings(one: Band, other: Band, unit: float) -> list[Crossing]:
    """Find where two lines cross, between ages at which all seeds agree who is faster.

    Lines are straight between their points as they are drawn, so a ring lies where they are seen to cross.
    """
    xs = [x for x in one.xs if x in other.xs]
    ones, others = ([band.values[band.xs.index(x)] for x in xs] for band in (one, other))
    agreed = [(n, sign) for n, sign in enumerate(map(_sign, ones, others)) if sign]
    found = []
    for (begin, before), (end, after) in pairwise(agreed):
        if before == after:
            continue
        slower, faster = (one, other) if after > 0 else (other, one)
        part = slice(begin, end + 1)
        (age, time), *_ = _meet(xs[part], _means(one, xs[part]), _means(other, xs[part]), unit)
        seeds = zip(zip(*ones[part], strict=False), zip(*others[part], strict=False), strict=False)
        ages = [age, *(at for a, b in seeds for at, _ in _meet(xs[part], a, b, unit))]
        found.append(Crossing(slower.name, faster.name, age, time, min(ages), max(ages)))
    return found


def _means(band: Band, xs: Sequence[float]) -> list[float]:
    return [band.mean_at(x) for x in xs]


def _sign(one: Sequence[float], other: Sequence[float]) -> int:
    """Return 1 where all seeds have the first above the second, -1 below, 0 where they do not agree."""
    pairs = list(zip(one, other, strict=True)) if len(one) == len(other) else [(a, b) for a in one for b in other]
    return all(a > b for a, b in pairs) - all(a < b for a, b in pairs)


def _meet(xs: Sequence[float], one: Sequence[float], other: Sequence[float], unit: float) -> list[Point]:
    """Return where two lines meet that are straight on the axes: age and time."""
    met = []
    for n in range(len(xs) - 1):
        before, after = log(one[n] / other[n]), log(one[n + 1] / other[n + 1])
        if before < 0 <= after or before > 0 >= after:
            share = before / (before - after)
            begin, end = _place(xs[n], unit), _place(xs[n + 1], unit)
            met.append((_age(begin + (end - begin) * share, unit), one[n] * (one[n + 1] / one[n]) ** share))
    return met


def plot_staleness(curves: Curves, guess: float | None = None, note: str = "", ax: Axes | None = None) -> Axes:
    """Draw the mean time over the age of the loads, with a band over the seeds, and ring where two modes cross.

    Args:
        curves: by router mode, or own name: for each age in service times, the mean times, one a seed.
        guess: an age in service times, drawn as a dashed line.
        note: what was run, such as "8 workers, load 0.9"; stands below.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: for numbers that cannot be.
    """
    return draw_staleness(Staleness.of(curves), guess, note, ax)


def draw_staleness(staleness: Staleness, guess: float | None = None, note: str = "", ax: Axes | None = None) -> Axes:
    """Draw what `Staleness.of` put in order."""
    if guess is not None and not 0 <= guess < inf:
        raise ValueError(f"guess={guess!r} must be an age in service times, 0 or more.")
    ax = ax if ax is not None else new_axes(7.6, 4.4)
    bands, unit, ages = staleness.bands, staleness.unit, staleness.ages or [0.0, 1.0]
    right = max(ages[-1], guess or 0.0)
    low = min((min(band.lows) for band in bands), default=1.0)
    high = max((max(band.highs) for band in bands), default=10.0)
    ax.set_xscale("symlog", base=2, linthresh=unit, linscale=0.5)
    ax.set_xlim(ages[0] - unit * 0.25, right * 1.12)
    ax.set_yscale("log")
    ax.set_ylim(low / 1.2, high * 1.5)
    for band in bands:
        look = band.style
        ax.fill_between(band.xs, band.lows, band.highs, color=look.colour, alpha=0.16, linewidth=0)
        ax.plot(band.xs, band.means, color=look.colour, linestyle=look.line, linewidth=look.width)
        ax.plot(band.xs, band.means, look.marker, color=look.colour, markersize=4)
    before, above = -inf, False
    for crossing in staleness.crossings:
        ring: dict[str, Any] = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.4}
        ax.plot([crossing.age], [crossing.time], "o", markeredgecolor=INK, **ring)
        place = _place(crossing.age, unit)
        before, above = place, place - before < 0.8 and not above  # the numbers of neighbours keep clear of each other
        where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom" if above else "top"}
        age = f"{crossing.age:.2g}"
        ax.annotate(age, (crossing.age, crossing.time), (0, 10 if above else -10), bbox=HALO, fontsize=8.5, **where)
    if guess is not None:
        ax.axvline(guess, color=INK, linestyle="--", linewidth=1.2)
        side = -1 if _place(guess, unit) > _place(right, unit) / 2 else 1
        beside: dict[str, Any] = {"textcoords": "offset points", "ha": "right" if side < 0 else "left", "va": "top"}
        ax.annotate(f"your guess: {guess:g}", (guess, high * 1.42), (5 * side, 0), fontsize=8.5, color=INK, **beside)
    name_ends(ax, [(band.means[-1], band.name, band.style) for band in bands])
    said = f"lines: mean of {seeds_text(bands)}, bands: from the least to the most" + (f"\n{note}" if note else "")
    x = "age of information: loads are reported every so many service times (0: always fresh; log)"
    caption(ax, staleness.finding, x, "mean time in the system, service times (log)", said)
    ax.set_xticks(ages, [f"{age:g}" for age in ages])
    ax.set_yticks([tick for tick in TICKS if low / 1.2 <= tick <= high * 1.5])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    return ax


def staleness_picture(curves: Curves, guess: float | None = None, note: str = "") -> Picture:
    """From which age of the loads on one mode is slower than another, and how far off the guess was."""
    staleness = Staleness.of(curves)
    label = f"{staleness.sentence}." + ("" if guess is None else f" The guess is an age of {guess:g}.")
    rows = [
        (band.name, f"{x:g}", f"{mean:.3g}", f"{low:.3g}", f"{high:.3g}", len(values))
        for band in staleness.bands
        for x, mean, low, high, values in zip(band.xs, band.means, band.lows, band.highs, band.values, strict=True)
    ]
    header = ("mode", "age, service times", "mean time", "least", "most", "seeds")
    ax = draw_staleness(staleness, guess, note)
    return Picture(ax.figure, label, Table(header, rows))  # type: ignore[arg-type]
