"""How full the fullest of n workers gets when n requests each look at one worker, at two, or at three (W6).

"Balls in bins": Azar, Broder, Karlin and Upfal, "Balanced Allocations" (SIAM J. Comput. 29(1), 1999); Mitzenmacher and
Upfal, "Probability and Computing", chapter 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, TypeAlias

from dynlab.views.bands import Band, Curve, band_of, free_style, name_ends, seeds_text
from dynlab.views.figure import Picture, Table
from dynlab.views.plots import caption, new_axes
from dynlab.views.style import MUTED, ModeStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ("Choices", "MaxLoads", "choices_picture", "draw_choices", "growth", "plot_choices")

MaxLoads: TypeAlias = Mapping[int, Curve]
"""By how many workers a request looks at: for each n, the requests of the fullest of n workers, one number a seed."""

SHOWN_N = 1024
"""The finding is about so many workers, or about the most that there are."""
ASIDE = 1.09  # a factor of n by which the marks of one n stand apart
CURVE_FROM = 16  # below e ** e, about 15.2, ln n / ln ln n falls
_MODES = {1: "random", 2: "power-of-two"}
_ORDINAL = {2: "second", 3: "third"}


@dataclass(frozen=True, slots=True)
class Choices:
    """A band for each number of choices, the fewest first."""

    bands: dict[int, Band]

    @classmethod
    def of(cls, loads: MaxLoads) -> Choices:
        """Put the numbers in order.

        Raises:
            ValueError: for a number of choices below 1, an n below 2, or what `bands.band_of` refuses.
        """
        bands: dict[int, Band] = {}
        for d in sorted(loads):
            if d < 1 or min(loads[d], default=2) < 2:
                raise ValueError(f"d = {d}: a request looks at one of two workers or more.")
            style = free_style(_MODES.get(d, ""), [band.style for band in bands.values()])
            bands[d] = band_of(f"d = {d}" + (f", {_MODES[d]}" if d in _MODES else ""), style, loads[d])
        return cls(bands)

    @property
    def n(self) -> float | None:
        """The number of workers that the finding is about."""
        common = set.intersection(*(set(band.xs) for band in self.bands.values())) if self.bands else set()
        return SHOWN_N if SHOWN_N in common else max(common, default=None)

    @property
    def finding(self) -> str:
        """The one sentence that the picture is drawn for: what each further choice takes off the fullest."""
        if not self.bands:
            return "No requests yet"
        if self.n is None or len(self.bands) == 1:
            d, band = next(iter(self.bands.items()))
            return f"With d = {d} the fullest of {band.xs[-1]:,.0f} workers gets {band.means[-1]:.2g} requests"
        means = {d: band.mean_at(self.n) for d, band in self.bands.items()}
        if list(means) != list(range(1, len(means) + 1)):
            said = ", ".join(f"{mean:.1f} with d = {d}" for d, mean in means.items())
            return f"The fullest of {self.n:,.0f} workers gets {said}"
        (first, less), *more = [(_ORDINAL.get(d, f"{d}th"), means[d - 1] - means[d]) for d in list(means)[1:]]
        said = f"A {first} choice takes {less:.1f} off the fullest of {self.n:,.0f} workers"
        return said + "".join(f", a {name} {less:.1f}" for name, less in more)


def growth(d: int, n: float) -> float:
    """Return how the fullest grows with n, as theory has it: up to a constant that it does not give."""
    return log(n) / log(log(n)) if d == 1 else log(log(n)) / log(d)


def plot_choices(loads: MaxLoads, ax: Axes | None = None) -> Axes:
    """Draw the fullest worker's requests over n, for each number of choices: the mean, and from the least to the most.

    Args:
        loads: by d, by n, one number a seed, as in `{1: {8: [3, 2]}, 2: {8: [2, 2]}}`.
        ax: where to draw; a new figure by default.

    Raises:
        ValueError: for numbers that cannot be.
    """
    return draw_choices(Choices.of(loads), ax)


def draw_choices(choices: Choices, ax: Axes | None = None) -> Axes:
    """Draw what `Choices.of` put in order."""
    ax = ax if ax is not None else new_axes(7.6, 4.2)
    bands = choices.bands
    xs = sorted({x for band in bands.values() for x in band.xs}) or [8.0, 4096.0]
    right = xs[-1] * 1.35
    top = max((max(band.highs) for band in bands.values()), default=1.0)
    ax.set_xscale("log", base=2)
    ax.set_xlim(xs[0] / 1.35, right)
    step = 1 + int(top // 12)
    ax.set_yticks(range(0, int(top) + 1, step))
    ax.set_ylim(0, top * 1.08)
    ends: list[tuple[float, str, ModeStyle | None]] = []
    theory = [right * (CURVE_FROM / right) ** (step / 40) for step in range(41)] if right > CURVE_FROM else []
    for place, (d, band) in enumerate(bands.items()):
        look, aside = band.style, ASIDE ** (place - (len(bands) - 1) / 2)
        at = [x * aside for x in band.xs]
        ax.vlines(at, band.lows, band.highs, color=look.colour, linewidth=1.4)
        ax.plot(at, band.means, look.marker, color=look.colour, markersize=6)
        ends.append((band.means[-1], band.name, look))
        if theory:
            grown = [growth(d, x) for x in theory]
            ax.plot(theory, grown, color=MUTED, linewidth=0.7, zorder=0)
            formula = "ln n / ln ln n" if d == 1 else f"ln ln n / ln {d}"
            ends.append((grown[0], f"{formula} (growth only)", None))
    name_ends(ax, ends)
    note = f"points: mean of {seeds_text(bands.values())} · whiskers: from the least to the most"
    note += "\ngrey: how theory lets them grow with n; it leaves out a constant" if theory else ""
    x = "n: so many workers, and so many requests (log)"
    caption(ax, choices.finding, x, "requests of the fullest worker", note)
    ax.set_xticks(xs, [f"{x:,.0f}" for x in xs])
    ax.minorticks_off()
    return ax


def choices_picture(loads: MaxLoads) -> Picture:
    """How full the fullest worker gets with each number of choices, and what each further choice is worth."""
    choices = Choices.of(loads)
    label = f"{choices.finding}."
    if choices.n is not None:
        at = [(d, band, band.xs.index(choices.n)) for d, band in choices.bands.items()]
        label += f" Mean, and from the least to the most, of {seeds_text(choices.bands.values())}: " + "; ".join(
            f"d = {d}: {band.means[n]:.1f}, {band.lows[n]:g} to {band.highs[n]:g}" for d, band, n in at
        )
        label += "."
    rows = [
        (d, f"{x:.0f}", f"{mean:.2f}", f"{low:g}", f"{high:g}", len(values))
        for d, band in choices.bands.items()
        for x, mean, low, high, values in zip(band.xs, band.means, band.lows, band.highs, band.values, strict=True)
    ]
    ax = draw_choices(choices)
    return Picture(ax.figure, label, Table(("d", "n", "mean", "least", "most", "seeds"), rows))  # type: ignore[arg-type]
