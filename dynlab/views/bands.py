"""One number a seed at each x, as lines with a band from the least to the most: what pictures of many runs share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.views.style import INK, MODES, MUTED, ModeStyle, mode_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Band", "Curve", "Curves", "bands_of", "free_style", "name_ends", "seeds_text")

Curve: TypeAlias = Mapping[float, Sequence[float]]
"""At each x, one value a seed, the seeds always in the same order."""
Curves: TypeAlias = Mapping[str, Curve]
"""Curves by router mode, or by the name of a reader's own function."""

NAME_INCHES = 0.23
"""What a name takes of a picture's height, which is a third more than its axes'."""


@dataclass(frozen=True, slots=True)
class Band:
    """A curve with its look; `xs` ascend, and `values` has the seeds' values at each of them."""

    name: str
    style: ModeStyle
    xs: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    means: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", tuple(sum(each) / len(each) for each in self.values))

    @property
    def lows(self) -> list[float]:
        return [min(each) for each in self.values]

    @property
    def highs(self) -> list[float]:
        return [max(each) for each in self.values]

    def mean_at(self, x: float) -> float:
        return self.means[self.xs.index(x)]


def band_of(name: str, style: ModeStyle, curve: Curve) -> Band:
    """Put a curve in order.

    Raises:
        ValueError: if it has no point, or a point without a value, or with one that is not finite.
    """
    points = sorted((float(x), tuple(float(value) for value in values)) for x, values in curve.items())
    if not points:
        raise ValueError(f"{name!r} has no points; give a value a seed for each x, as in {{0: [2.1, 2.3]}}.")
    for x, values in points:
        if not values or not all(map(isfinite, values)):
            raise ValueError(f"{name!r} has {list(values)!r:.60} at {x:g}; give a finite number for each seed.")
    return Band(name, style, tuple(x for x, _ in points), tuple(values for _, values in points))


def bands_of(curves: Curves) -> list[Band]:
    """Put curves in order, each in the look of its mode; own functions share a colour, and differ in their dashes.

    Raises:
        ValueError: if one has no point, or a point without a value, or with one that is not finite.
    """
    bands: list[Band] = []
    for name, curve in curves.items():
        bands.append(band_of(str(name), free_style(str(name), [band.style for band in bands]), curve))
    return bands


def free_style(name: str, taken: Iterable[ModeStyle]) -> ModeStyle:
    """Return the look of a mode, with other dashes and another mark where that look is taken."""
    style, taken = mode_style(name), list(taken)
    if style in taken:
        lines, marks = {each.line for each in taken}, {each.marker for each in taken}
        free = [other for other in MODES.values() if other.line not in lines and other.marker not in marks]
        other = free[0] if free else style
        style = ModeStyle(style.colour, style.on_dark, other.line, style.width, other.marker)
    return style


def seeds_text(bands: Iterable[Band]) -> str:
    """Say over how many seeds the means are."""
    counts = sorted({len(values) for band in bands for values in band.values})
    if counts in ([], [1]):
        return "one seed"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def name_ends(ax: Axes, ends: Sequence[tuple[float, str, ModeStyle | None]]) -> None:
    """Name what ends at these heights, right of the axes and clear of each other: a mark of its look, and its name.

    Without a look the name is grey, and a thin line leads to it. The scale and the limits of y have to be set before.
    """
    if not ends:
        return
    heights = ax.transAxes.inverted().transform(ax.transData.transform([(ax.get_xlim()[1], y) for y, _, _ in ends]))
    order = sorted(range(len(ends)), key=lambda n: float(heights[n][1]))
    gap = NAME_INCHES / float(ax.figure.get_size_inches()[1])  # type: ignore[union-attr]
    for n, place in zip(order, spread([float(heights[n][1]) for n in order], gap), strict=True):
        _, name, style = ends[n]
        on: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "color": style.colour if style else MUTED}
        if style is None:
            ax.plot([1.0, 1.03], [heights[n][1], place], linewidth=0.7, **on)
        else:
            ax.plot([1.025], [place], style.marker, markersize=5, **on)
        ax.text(1.045, place, name, transform=ax.transAxes, fontsize=8, va="center", color=INK if style else MUTED)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights so that two are never nearer than `gap`, and all between 0 and 1 as far as they fit.

    Groups that touch stay around their middle.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-2], gap) + len(groups[-2]) * gap > _bottom(groups[-1], gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, gap) + n * gap for group in groups for n in range(len(group))]


def _bottom(group: Sequence[float], gap: float) -> float:
    above = (len(group) - 1) * gap
    return max(0.0, min(sum(group) / len(group) - above / 2, 1 - above))
