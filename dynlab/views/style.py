"""Colours and marks: one look for each router mode, the same in every picture.

Chosen by search: each colour stands out from white by at least 3:1, and any two stay apart for readers who see
no red, no green or no blue. Shape says the same as colour. Workers have no colour: they keep their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill, wrap
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = (
    "DECODE",
    "INK",
    "MODES",
    "MUTED",
    "OWN_MODE",
    "OWN_TIME",
    "PAPER",
    "SHARES",
    "TIER",
    "WASTED",
    "WASTED_BAND",
    "LineStyle",
    "ModeStyle",
    "headline",
    "mode_style",
)

PAPER = "#FFFFFF"  # painted behind every picture, so that it reads on a dark page too
INK = "#1A1A1A"
MUTED = "#595959"
TIER = "#5A6B7E"
OWN_TIME = "#0A4D8C"
DECODE = "#D5E8D4"
WASTED = "#B0440B"
WASTED_BAND = "#FBE8DA"  # so pale that what stands on it keeps its contrast

SHARES = ("#FFFFFF", "#D6E6F4", "#9CC4E4", "#2F74AD", "#0B3A6B")
"""From nothing to all in five steps of one hue; on the two darkest, words are white."""

LineStyle: TypeAlias = str | tuple[int, tuple[int, ...]]
"""A line's dashes, in the spelling that matplotlib reads: a sign, or lengths of dash and gap."""


@dataclass(frozen=True, slots=True)
class ModeStyle:
    """How a router mode looks. `on_dark` is its colour where a dark page shows through."""

    colour: str
    on_dark: str
    line: LineStyle
    width: float
    marker: str


MODES: dict[str, ModeStyle] = {
    "round-robin": ModeStyle("#4D4D4D", "#BFBFBF", "-", 1.5, "o"),
    "random": ModeStyle("#997700", "#997700", ":", 1.5, "x"),
    "direct": ModeStyle("#7570B3", "#7570B3", "-.", 1.5, "s"),
    "power-of-two": ModeStyle("#5B8FF9", "#5B8FF9", "--", 1.5, "^"),
    "least-loaded": ModeStyle("#117733", "#117733", (0, (9, 3)), 1.5, "D"),
    "kv": ModeStyle("#CC6677", "#CC6677", "-", 3.0, "*"),
    "device-aware-weighted": ModeStyle("#480054", "#B77FC4", (0, (3, 1)), 1.5, "v"),
}

OWN_MODE = ModeStyle("#9600FF", "#9600FF", (0, (6, 2, 1, 2, 1, 2)), 1.5, "P")
"""For a mode that is no mode of Dynamo: a reader's own pick function, named after itself."""


def mode_style(mode: str) -> ModeStyle:
    """Return how a mode looks; all functions of a reader's own look alike."""
    return MODES.get(mode, OWN_MODE)


def headline(ax: Axes, finding: str, width: int, pad: float = 6) -> None:
    """Write the finding above a drawing, in even lines of at most `width` characters, and `pad` points away."""
    lines = len(wrap(finding, width))
    even = next((n for n in range(len(finding) // max(1, lines) + 1, width) if len(wrap(finding, n)) == lines), width)
    ax.set_title(fill(finding, even), loc="left", fontsize=11, color=INK, fontweight="bold", pad=pad)
