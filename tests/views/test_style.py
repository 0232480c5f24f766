"""The modes' looks, held against what eyes can tell apart."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from dynlab.views.plots import new_axes
from dynlab.views.style import (
    DECODE,
    INK,
    MODES,
    MUTED,
    OWN_MODE,
    OWN_TIME,
    PAPER,
    SHARES,
    TIER,
    WASTED,
    WASTED_BAND,
    headline,
    mode_style,
)

ALL = {**{mode: style.colour for mode, style in MODES.items()}, "own": OWN_MODE.colour}
# How each kind of eye sees linear red, green and blue (Machado, Oliveira and Fernandes 2009, full severity).
EYES = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "deuteran": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def linear(colour: str) -> list[float]:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def luminance(colour: str) -> float:
    red, green, blue = linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def lab(colour: str, eye: str) -> list[float]:
    rgb = linear(colour)
    seen = [min(1.0, max(0.0, sum(m * c for m, c in zip(row, rgb, strict=True)))) for row in EYES[eye]]
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(m * c for m, c in zip(row, seen, strict=True)) for row in to_xyz]
    x, y, z = (
        (v / w) ** (1 / 3) if v / w > 0.008856 else 7.787 * v / w + 16 / 116
        for v, w in zip(xyz, (0.9505, 1.0, 1.089), strict=True)
    )
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def distance(one: str, other: str, eye: str) -> float:
    return sum((a - b) ** 2 for a, b in zip(lab(one, eye), lab(other, eye), strict=True)) ** 0.5


@pytest.mark.parametrize("mode", ALL)
def test_each_mode_stands_out_from_the_paper(mode: str) -> None:
    """Bars have a contrast of at least 3:1 against white."""
    assert contrast(ALL[mode], PAPER) >= 3


@pytest.mark.parametrize("colour", [INK, MUTED, OWN_TIME, TIER, WASTED])
def test_words_stand_out_more(colour: str) -> None:
    """What is read, not just seen, has at least 4.5:1."""
    assert contrast(colour, PAPER) >= 4.5


@pytest.mark.parametrize("colour", [INK, MUTED, TIER, WASTED])
def test_what_stands_on_the_band_keeps_its_contrast(colour: str) -> None:
    """Lanes and words stand out from the band behind them as they do from the paper."""
    assert contrast(colour, WASTED_BAND) >= 4.5


@pytest.mark.parametrize("eye", EYES)
def test_waste_is_told_from_work(eye: str) -> None:
    """The strip and the lanes, and the band and the paper, are not taken for each other."""
    assert distance(WASTED, TIER, eye) >= 15
    assert distance(WASTED_BAND, PAPER, eye) >= 5


@pytest.mark.parametrize("eye", EYES)
def test_shares_are_steps_of_one_stair(eye: str) -> None:
    """Each is clearly darker than the one before, for any eye, and the number on it can be read."""
    lightness = [lab(colour, eye)[0] for colour in SHARES]

    assert all(one - other >= 8 for one, other in pairwise(lightness))
    assert all(contrast(colour, INK if step <= 2 else PAPER) >= 4.5 for step, colour in enumerate(SHARES))
    assert contrast(SHARES[0], MUTED) >= 4.5


@pytest.mark.parametrize("eye", EYES)
def test_parts_of_a_cost_are_told_apart(eye: str) -> None:
    """Neighbours differ for any eye, and numbers on them can be read."""
    parts = (PAPER, OWN_TIME, TIER, DECODE, PAPER)

    assert all(distance(one, other, eye) >= 8 for one, other in pairwise(parts))
    assert contrast(DECODE, INK) >= 4.5


def test_a_headline_is_broken_into_lines() -> None:
    """Of at most so many characters."""
    ax = new_axes()
    headline(ax, "one two three", 7)

    assert "one two\nthree" == ax.get_title(loc="left")


@pytest.mark.parametrize("eye", EYES)
def test_any_two_modes_stay_apart(eye: str) -> None:
    """Whatever an eye lacks, two modes are at least 15 apart in CIELAB."""
    apart = {(one, other): distance(ALL[one], ALL[other], eye) for one, other in combinations(ALL, 2)}

    assert {} == {pair: far for pair, far in apart.items() if far < 15}


def test_shape_says_the_same_as_colour() -> None:
    """No two modes share a marker."""
    markers = [style.marker for style in (*MODES.values(), OWN_MODE)]

    assert len(markers) == len(set(markers))


def test_a_function_of_ones_own_has_its_look() -> None:
    """A name that is no mode of Dynamo gets the common look of own functions."""
    assert OWN_MODE == mode_style("my_pick")


@pytest.mark.parametrize(
    ("finding", "lines"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("one two three four", ["one two", "three four"]),
        ("No block is in more than one", ["No block", "is in more", "than one"]),
    ],
)
def test_a_headline_has_even_lines(finding: str, lines: list[str]) -> None:
    """As few as fit; the last one is no single word where the others can share."""
    ax = new_axes(4, 2)
    headline(ax, finding, 12)

    assert lines == ax.get_title(loc="left").split("\n")
