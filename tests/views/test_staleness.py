"""Staleness curves: crossings worked out by hand, rings where lines are seen to cross, and a guess beside them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from matplotlib.colors import to_hex

from dynlab.views.staleness import Staleness, plot_staleness, staleness_picture
from dynlab.views.style import MODES, OWN_MODE
from tests.views.conftest import flaws

AGES = (0, 0.25, 0.5, 1, 2, 4, 8, 16)
FLAT = {"random": {age: [8.0, 8.0] for age in AGES}}
RISING = {"least-loaded": {age: [2.0 * 2**n, 2.0 * 2**n] for n, age in enumerate(AGES)}}  # 2, 4, 8 ... 256
MIDDLE = {"power-of-two": {age: [3.0, 3.0] for age in AGES}}
Curves = dict[str, dict[float, list[float]]]


def rings(ax: Any) -> list[tuple[float, float]]:
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_markersize() == 12]


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_crossing_at_a_point_is_that_point() -> None:
    """The rising line is at 8 at an age of 0.5."""
    (crossing,) = Staleness.of({**FLAT, **RISING}).crossings

    assert ("least-loaded", "random") == (crossing.slower, crossing.faster)
    assert (0.5, 8.0, 0.5, 0.5) == pytest.approx((crossing.age, crossing.time, crossing.low, crossing.high))


def test_a_crossing_between_two_points_lies_on_the_drawn_lines() -> None:
    """Halfway between 2 and 4 on a logarithmic axis is 8 ** 0.5; halfway between 0 and 0.25 is 0.125."""
    half: Curves = {"random": {age: [8**0.5] for age in AGES}}

    (crossing,) = Staleness.of({**half, **RISING}).crossings

    assert (0.125, 8**0.5) == pytest.approx((crossing.age, crossing.time))


def test_between_1_and_2_halfway_is_the_root_of_2() -> None:
    """From the first age on the axis is logarithmic."""
    curves: Curves = {"random": {1: [3.0], 2: [3.0]}, "least-loaded": {1: [1.0], 2: [9.0]}}

    (crossing,) = Staleness.of(curves).crossings

    assert 2**0.5 == pytest.approx(crossing.age)


def test_rings_lie_on_both_lines_as_they_are_drawn() -> None:
    """Where the pixels of the two lines meet."""
    curves: Curves = {"random": {0: [5.0], 1: [6.0], 4: [7.0]}, "least-loaded": {0: [2.0], 1: [3.0], 4: [30.0]}}

    ax = plot_staleness(curves)

    (ring,) = [ax.transData.transform(at) for at in rings(ax)]
    for line in [line for line in ax.lines if len(line.get_xdata()) == 3]:
        before, after = ax.transData.transform(line.get_xydata())[1:]
        share = (ring[0] - before[0]) / (after[0] - before[0])
        assert 0 < share < 1
        assert before[1] + share * (after[1] - before[1]) == pytest.approx(ring[1], abs=0.01)
    assert texts(ax)[0] == f"{rings(ax)[0][0]:.2g}"


def test_a_crossing_says_what_the_seeds_make_of_it() -> None:
    """The earliest and the latest, beside that of the means."""
    flat: Curves = {"random": {age: [4.0, 8.0, 16.0] for age in AGES}}
    rising: Curves = {"least-loaded": {age: [2.0 * 2**n] * 3 for n, age in enumerate(AGES)}}

    (crossing,) = Staleness.of({**flat, **rising}).crossings

    assert (0.25, 1.0) == pytest.approx((crossing.low, crossing.high))
    assert 0.5 < crossing.age < 1  # the mean of the flat line is 28 / 3


def test_what_only_some_seeds_see_is_no_crossing() -> None:
    """Two lines within each other's noise cross nowhere, however often their means do."""
    one: Curves = {"one": {0: [1.0, 3.0], 1: [3.0, 1.1], 2: [1.0, 3.1]}}
    other: Curves = {"other": {0: [2.0, 2.1], 1: [2.0, 2.0], 2: [2.0, 2.2]}}

    assert [] == Staleness.of({**one, **other}).crossings


def test_lines_with_other_numbers_of_seeds_cross_where_their_bands_do_not_touch() -> None:
    """Then no seed of one is a seed of the other."""
    one: Curves = {"one": {0: [1.0], 1: [9.0]}}

    assert 1 == len(Staleness.of({**one, "other": {0: [2.0, 3.0], 1: [4.0, 5.0]}}).crossings)
    assert [] == Staleness.of({**one, "other": {0: [2.0, 3.0], 1: [4.0, 10.0]}}).crossings


def test_two_lines_can_cross_twice() -> None:
    """There and back."""
    curves: Curves = {"one": {0: [1.0], 1: [3.0], 2: [1.0]}, "other": {0: [2.0], 1: [2.0], 2: [2.0]}}

    assert [("one", "other"), ("other", "one")] == [(c.slower, c.faster) for c in Staleness.of(curves).crossings]


def test_the_finding_is_until_when_the_fastest_stays_so() -> None:
    """Each mode that overtakes it, in the order of the ages."""
    picture = staleness_picture({**FLAT, **MIDDLE, **RISING}, guess=3)

    assert (
        "least-loaded is the fastest while loads are fresh; power-of-two is faster from an age of 0.15 "
        "(0.15 to 0.15 by seed), random from 0.5 (0.5 to 0.5 by seed) on. The guess is an age of 3."
    ) == picture.label
    assert "on" == picture.axes.get_title(loc="left").split()[-1]
    assert "by seed" not in picture.axes.get_title(loc="left")


def test_where_nothing_crosses_the_finding_says_so() -> None:
    """With two modes, with one, and with none."""
    assert "power-of-two is the fastest while loads are fresh, and no other overtakes it" == (
        Staleness.of({**FLAT, **MIDDLE}).finding
    )
    assert "least-loaded: from 2 to 256 between the ages of 0 and 16" == Staleness.of(RISING).finding
    assert "No runs yet" == Staleness.of({}).finding


def test_lines_have_the_look_of_their_modes_and_a_band() -> None:
    """Colour, dashes and mark; a reader's own function has its own, and two of them differ in dashes and marks."""
    ax = plot_staleness({**RISING, "mine": {0: [1.0, 2.0], 1: [2.0, 4.0]}, "yours": {0: [5.0], 1: [5.0]}})

    lines = [line for line in ax.lines if line.get_linestyle() != "None" and len(line.get_xdata()) > 1]
    colours = [MODES["least-loaded"].colour, OWN_MODE.colour, OWN_MODE.colour]
    assert [colour.lower() for colour in colours] == [to_hex(line.get_color()) for line in lines]
    marks = [line.get_marker() for line in ax.lines if line.get_markersize() == 4]
    assert len({*marks}) == 3
    band = ax.collections[1].get_paths()[0].vertices
    assert {(0, 1), (0, 2), (1, 2), (1, 4)} <= {(x, y) for x, y in band.tolist()}  # type: ignore[union-attr]


def test_ages_are_spaced_evenly_from_0_on() -> None:
    """0 has its place on the axis, and each doubling takes as much room as the step from 0 to the first."""
    ax = plot_staleness({**FLAT, **RISING})

    places = ax.transData.transform([(age, 1) for age in AGES])[:, 0]
    steps = [after - before for before, after in pairwise(places)]
    assert [steps[0]] * 7 == pytest.approx(steps)
    assert ["0", "0.25", "0.5", "1", "2", "4", "8", "16"] == [label.get_text() for label in ax.get_xticklabels()]
    assert ("symlog", "log") == (ax.get_xscale(), ax.get_yscale())


@pytest.mark.parametrize("guess", [0, 0.3, 2, 16, 300])
def test_the_guess_is_a_dashed_line_with_its_number(guess: float) -> None:
    """Also outside of what was run; it lies in the picture, and its words are clear of others."""
    ax = plot_staleness({**FLAT, **MIDDLE, **RISING}, guess=guess)

    assert [[guess] * 2] == [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "--"][-1:]
    assert ax.get_xlim()[0] < guess < ax.get_xlim()[1]
    assert f"your guess: {guess:g}" in texts(ax)
    assert [] == flaws(ax)


def test_the_note_says_what_was_run() -> None:
    """Below the axis, after the number of seeds."""
    ax = plot_staleness(RISING, note="8 workers, load 0.9")

    assert "lines: mean of 2 seeds, bands: from the least to the most\n8 workers, load 0.9" in ax.get_xlabel()


def test_the_table_has_every_number() -> None:
    """A row for each mode and age."""
    picture = staleness_picture({"mine": {0: [1.0, 2.0], 0.5: [2.0, 4.0]}})

    assert ["mode", "age, service times", "mean time", "least", "most", "seeds"] == picture.table.header
    assert [["mine", "0", "1.5", "1", "2", 2], ["mine", "0.5", "3", "2", "4", 2]] == picture.table.rows


def test_rings_that_are_near_each_other_can_be_read() -> None:
    """Their numbers stand above and below, and nothing lies on anything else; ends that meet have names that do not."""
    curves: Curves = {
        name: {age: [(8.0 if name == "random" else 7.0 - n) * (1 + k / 99) for k in range(3)] for age in AGES}
        for n, name in enumerate(("random", "round-robin", "power-of-two", "mine"))
    }

    ax = plot_staleness({**curves, "least-loaded": {a: [1.3**n * 3] * 3 for n, a in enumerate(AGES)}}, guess=1)

    assert [] == flaws(ax)
    assert 4 == len(rings(ax))


def test_no_runs_are_no_error() -> None:
    """The picture exists before the first run."""
    assert "No runs yet." == staleness_picture({}).label


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        ({"random": {-1: [1.0]}}, "ages are 0 or more"),
        ({"random": {0: [0.0]}}, "times above 0"),
        ({"random": {0: [float("inf")]}}, "give a finite number"),
        ({"random": {}}, "has no points"),
    ],
)
def test_numbers_that_cannot_be_are_refused(curves: Curves, said: str) -> None:
    """With a sentence that says which."""
    with pytest.raises(ValueError, match=said):
        plot_staleness(curves)


@pytest.mark.parametrize("guess", [-1, float("nan"), float("inf")])
def test_a_guess_that_is_no_age_is_refused(guess: float) -> None:
    """With a sentence that says what an age is."""
    with pytest.raises(ValueError, match="must be an age in service times"):
        plot_staleness(RISING, guess=guess)
