"""Bands: what one number a seed is in the mean and at its extremes, in a look of its own, with a name at its end."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from dynlab.views.bands import bands_of, free_style, name_ends, seeds_text, spread
from dynlab.views.plots import new_axes
from dynlab.views.style import MODES, OWN_MODE, ModeStyle
from tests.views.conftest import flaws


def test_a_band_is_the_mean_and_the_extremes_at_each_x() -> None:
    """In the order of x, whatever the order of the mapping."""
    (band,) = bands_of({"random": {4: [1, 2, 6], 1: [5]}})

    assert ((1, 4), (5, 3), [5, 1], [5, 6]) == (band.xs, band.means, band.lows, band.highs)
    assert 3 == band.mean_at(4)
    assert MODES["random"] is band.style


def test_own_functions_share_a_colour_and_differ_in_the_rest() -> None:
    """As many as there are free looks; a mode has its own look."""
    taken: list[ModeStyle] = []
    for name in ("random", "mine", "yours", "ours", "theirs"):
        taken.append(free_style(name, taken))

    assert [MODES["random"], OWN_MODE] == taken[:2]
    assert {OWN_MODE.colour} == {style.colour for style in taken[1:]}
    assert 5 == len({style.line for style in taken}) == len({style.marker for style in taken})


def test_more_own_functions_than_looks_are_no_error() -> None:
    """Then some look alike, and their names tell them apart."""
    assert 12 == len(bands_of({f"mine {n}": {0: [1.0]} for n in range(12)}))


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        ({}, "one seed"),
        ({"a": {0: [1]}}, "one seed"),
        ({"a": {0: [1, 2]}, "b": {0: [1, 2]}}, "2 seeds"),
        ({"a": {0: [1, 2, 3]}, "b": {0: [1]}}, "1 to 3 seeds"),
    ],
)
def test_the_number_of_seeds_is_said(curves: dict[str, dict[float, list[float]]], said: str) -> None:
    """Also where it differs."""
    assert said == seeds_text(bands_of(curves))


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.1, 0.9], [0.1, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.4, 0.45, 0.5], [0.35, 0.45, 0.55]),
        ([0.3, 0.5, 0.5, 0.62], [0.3, 0.44, 0.54, 0.64]),
        ([-0.2, 0.05, 0.06, 1.3], [0.0, 0.1, 0.2, 1.0]),
    ],
)
def test_names_that_meet_move_apart(heights: list[float], expected: list[float]) -> None:
    """By as little as it takes: a group that touches stays around its middle, and who is far away stays."""
    assert expected == pytest.approx(spread(heights, 0.1))


def test_a_group_that_grows_takes_in_who_is_next() -> None:
    """Afterwards no two are nearer than the gap, and all are in their order."""
    moved = spread([0.1, 0.19, 0.28, 0.28, 0.28, 0.5], 0.1)

    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(moved))


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_stand_at_the_heights_of_their_ends(scale: str) -> None:
    """On any scale; those that would lie on each other stand apart, and all lie in the picture."""
    ax = new_axes(7, 4)
    ax.set_yscale(scale)
    ax.set_ylim(1, 100)
    ax.set_axis_off()

    name_ends(
        ax, [(50, "fifty", OWN_MODE), (3, "three", MODES["random"]), (3.01, "as well", None), (3.02, "and", None)]
    )

    assert [] == flaws(ax)
    fifty = next(text for text in ax.texts if text.get_text() == "fifty")
    assert ax.transData.transform((1, 50))[1] == pytest.approx(ax.transAxes.transform(fifty.get_position())[1])
    places = [text.get_position()[1] for text in ax.texts]
    assert all(abs(one - other) > 0.05 for one, other in combinations(places, 2))


def test_nothing_to_name_is_no_error() -> None:
    """A picture without lines."""
    ax = new_axes()
    name_ends(ax, [])

    assert [] == list(ax.texts)
