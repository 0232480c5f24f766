"""Choices curves: means and whiskers of numbers that are given, theory beside them, and a sentence that is true."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log

import pytest
from matplotlib.colors import to_hex

from dynlab.views.choices import Choices, choices_picture, growth, plot_choices
from dynlab.views.style import MUTED, OWN_MODE, mode_style
from tests.views.conftest import flaws

LOADS = {
    3: {8: [1, 2], 1024: [2, 3]},
    1: {8: [2, 3], 1024: [5, 6]},
    2: {8: [2, 2], 1024: [3, 3]},
}


def test_each_number_of_choices_has_its_points_and_whiskers() -> None:
    """A point is the mean of the seeds, and its whisker goes from the least to the most; colours are the modes'."""
    ax = plot_choices(LOADS)

    points = [line for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata()) == 2]
    looks = (mode_style("random"), mode_style("power-of-two"), OWN_MODE)
    assert [[2.5, 5.5], [2, 3], [1.5, 2.5]] == [list(line.get_ydata()) for line in points]
    assert [look.colour.lower() for look in looks] == [to_hex(line.get_color()) for line in points]
    assert [look.marker for look in looks] == [line.get_marker() for line in points]
    whiskers = [[list(part[:, 1]) for part in lines.get_segments()] for lines in ax.collections]
    assert [[[2, 3], [5, 6]], [[2, 2], [3, 3]], [[1, 2], [2, 3]]] == whiskers


def test_marks_of_one_n_stand_side_by_side() -> None:
    """In the order of d, around n, and nearer to it than to the next one."""
    ax = plot_choices(LOADS)

    places = [line.get_xdata()[1] for line in ax.lines if line.get_marker() != "None" and len(line.get_xdata()) == 2]
    assert sorted(places) == places
    assert 1024 == pytest.approx(places[1])
    assert 1024 / 2**0.5 < places[0] < places[2] < 1024 * 2**0.5


def test_the_axes_are_those_of_counts() -> None:
    """n doubles from tick to tick, and the requests begin at 0, in whole numbers."""
    ax = plot_choices({1: {2**k: [k / 2] for k in range(3, 13)}})

    assert ("log", 2) == (ax.get_xscale(), ax.xaxis.get_transform().base)  # type: ignore[attr-defined]
    assert ["8", "16", "32", "64", "128", "256", "512", "1,024", "2,048", "4,096"] == [
        label.get_text() for label in ax.get_xticklabels()
    ]
    assert 0 == ax.get_ylim()[0]
    assert list(range(7)) == list(ax.get_yticks())


def test_theory_is_thin_grey_and_says_what_it_is() -> None:
    """A line for each d, named "growth only", as its formula has it."""
    ax = plot_choices(LOADS)

    grey = [line for line in ax.lines if to_hex(line.get_color()) == MUTED.lower() and len(line.get_xdata()) > 2]
    assert 3 == len(grey)
    assert all(line.get_linewidth() < 1 for line in grey)
    for d, line in zip((1, 2, 3), grey, strict=True):
        assert [growth(d, x) for x in line.get_xdata()] == pytest.approx(list(line.get_ydata()))
    assert {"ln n / ln ln n", "ln ln n / ln 2", "ln ln n / ln 3"} == {
        text.get_text().removesuffix(" (growth only)") for text in ax.texts if "growth only" in text.get_text()
    }


@pytest.mark.parametrize(("d", "n", "expected"), [(1, exp(exp(2)), exp(2) / 2), (2, exp(exp(2)), 2 / log(2))])
def test_growth_is_the_textbooks(d: int, n: float, expected: float) -> None:
    """ln n / ln ln n with one choice, ln ln n / ln d with more."""
    assert expected == pytest.approx(growth(d, n))


def test_with_one_choice_theory_grows_where_it_is_drawn() -> None:
    """Left of the line's begin it would fall, which no load does."""
    grey = next(line for line in plot_choices({1: {8: [3], 4096: [6]}}).lines if len(line.get_xdata()) > 2)

    assert all(before > after for before, after in pairwise(grey.get_ydata()))  # from the right end on


def test_the_finding_is_what_each_choice_takes_off() -> None:
    """At n = 1,024 where that was run, else at the largest n that all have."""
    assert "A second choice takes 2.5 off the fullest of 1,024 workers, a third 0.5" == Choices.of(LOADS).finding
    small = {d: {n: values for n, values in curve.items() if n < 1024} for d, curve in LOADS.items()}
    assert "A second choice takes 0.5 off the fullest of 8 workers, a third 0.5" == Choices.of(small).finding
    many = {d: {64: [values]} for d, values in enumerate((5.0, 3.0, 2.5, 2.25), start=1)}
    assert "A second choice takes 2.0 off the fullest of 64 workers, a third 0.5, a 4th 0.2" == Choices.of(many).finding
    some = {1: LOADS[1], 4: {8: [2, 2], 1024: [2, 2]}}
    assert "The fullest of 1,024 workers gets 5.5 with d = 1, 2.0 with d = 4" == Choices.of(some).finding


def test_one_number_of_choices_can_stand_alone() -> None:
    """Then the sentence is about it."""
    assert "With d = 2 the fullest of 1,024 workers gets 3 requests" == Choices.of({2: LOADS[2]}).finding


def test_the_picture_says_all_that_it_shows() -> None:
    """The label has the finding with the band, and the table every number."""
    picture = choices_picture(LOADS)

    assert (
        "A second choice takes 2.5 off the fullest of 1,024 workers, a third 0.5. Mean, and from the least to the "
        "most, of 2 seeds: d = 1: 5.5, 5 to 6; d = 2: 3.0, 3 to 3; d = 3: 2.5, 2 to 3."
    ) == picture.label
    assert ["d", "n", "mean", "least", "most", "seeds"] == picture.table.header
    assert [1, "8", "2.50", "2", "3", 2] == picture.table.rows[0]
    assert 6 == len(picture.table.rows)
    assert "2 seeds" in picture.axes.get_xlabel()


@pytest.mark.parametrize("loads", [{}, LOADS, {d: {2**k: [k / d] * 3 for k in range(3, 13)} for d in (1, 2, 3, 4, 9)}])
def test_nothing_is_cut_off(loads: dict[int, dict[float, list[float]]]) -> None:
    """All words lie inside the picture, and not on each other; also without any numbers."""
    assert [] == flaws(plot_choices(loads))


@pytest.mark.parametrize(
    ("loads", "said"),
    [
        ({0: {8: [1]}}, "d = 0: a request looks at one of two workers or more"),
        ({1: {1: [1]}}, "of two workers or more"),
        ({1: {}}, "'d = 1, random' has no points"),
        ({1: {8: []}}, "has \\[\\] at 8; give a finite number for each seed"),
        ({1: {8: [float("nan")]}}, "give a finite number"),
    ],
)
def test_numbers_that_cannot_be_are_refused(loads: dict[int, dict[float, list[float]]], said: str) -> None:
    """With a sentence that says which."""
    with pytest.raises(ValueError, match=said):
        plot_choices(loads)
