"""Hit rate against p99 TTFT: points of numbers that are given, and a sentence that says who wins what."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from dynlab.views.hit_rate import LARGE, SMALL, HitRates, hit_rate_picture, plot_hit_rate
from dynlab.views.style import INK, MODES, OWN_MODE
from tests.views.conftest import flaws

LOADS = (0.75, 1.5, 2.0)
HITS = {
    "sticky_hash": {load: [0.72, 0.74] for load in LOADS},
    "kv": {0.75: [0.64, 0.66], 1.5: [0.6, 0.62], 2: [0.58, 0.6]},
    "round-robin": {load: [0.5, 0.52] for load in LOADS},
}
TIMES = {
    "sticky_hash": {0.75: [1.0, 1.2], 1.5: [2.0, 3.0], 2: [9.0, 13.0]},
    "kv": {0.75: [0.8, 0.8], 1.5: [1.0, 1.4], 2: [1.5, 2.1]},
    "round-robin": {0.75: [1.2, 1.4], 1.5: [2.5, 3.5], 2: [6.0, 10.0]},
}


def names(ax: Axes) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in ax.texts if text.get_color() == INK}


def test_each_router_and_load_has_its_point() -> None:
    """At the means of the seeds, in the look of the mode; a line joins the loads of a router."""
    ax = plot_hit_rate(HITS, TIMES)

    lines = [line for line in ax.lines if len(line.get_xdata()) == 3]
    assert [[0.73] * 3, [0.65, 0.61, 0.59], [0.51] * 3] == [pytest.approx(line.get_xdata()) for line in lines]
    assert [[1.1, 2.5, 11], [0.8, 1.2, 1.8], [1.3, 3, 8]] == [pytest.approx(line.get_ydata()) for line in lines]
    looks = (OWN_MODE, MODES["kv"], MODES["round-robin"])
    assert [look.colour.lower() for look in looks] == [to_hex(line.get_color()) for line in lines]
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [look.marker for look in looks for _ in LOADS] == [mark.get_marker() for mark in marks]


def test_marks_grow_with_the_load() -> None:
    """The smallest is the lowest load, and the line below says which."""
    ax = plot_hit_rate(HITS, TIMES)

    sizes = [line.get_markersize() for line in ax.lines if line.get_marker() == "o"]
    assert [SMALL, (SMALL + LARGE) / 2, LARGE] == sizes
    assert "marks, small to large: load 0.75, 1.5, 2 · mean of 2 seeds" in ax.get_xlabel()


def test_thin_lines_go_from_the_least_to_the_most() -> None:
    """Up and down for the times, to the sides for the hit rates."""
    ax = plot_hit_rate({"kv": {2: [0.5, 0.7]}}, {"kv": {2: [1.0, 4.0]}})

    upright, level = (lines.get_segments()[0].tolist() for lines in ax.collections)
    assert [[0.6, 1.0], [0.6, 4.0]] == upright
    assert [[0.5, 2.5], [0.7, 2.5]] == level


def test_the_axes_are_a_share_and_the_logarithm_of_seconds() -> None:
    """Hit rates from 0 to 1, never cut; seconds as plain numbers."""
    ax = plot_hit_rate(HITS, TIMES, note="4 workers")

    assert (0, 1) == ax.get_xlim()
    assert "log" == ax.get_yscale()
    assert ["1", "2", "5", "10"] == [label.get_text() for label in ax.get_yticklabels()]
    assert "p99 TTFT, s (log)" == ax.get_ylabel()
    assert ax.get_xlabel().endswith("\n4 workers")


def test_the_sentence_names_both_winners() -> None:
    """At the highest load: who has the most hits, who the lowest p99, and what both have."""
    picture = hit_rate_picture(HITS, TIMES)

    assert (
        "At load 2, sticky_hash has the highest hit rate, 73%, but kv with 59% the lowest p99 TTFT: 1.8 s, not 11. "
        "Mean of 2 seeds."
    ) == picture.label
    assert picture.label.startswith(picture.axes.get_title(loc="left").replace("\n", " "))


def test_who_is_not_told_apart_shares_the_first_place() -> None:
    """A hit rate that one seed has as high as the first's lowest is as high."""
    hits = HITS | {"cache_only": {load: [0.71, 0.72] for load in LOADS}}
    times = TIMES | {"cache_only": {load: [3.0, 3.0] for load in LOADS}}

    assert HitRates.of(hits, times).finding.startswith(
        "At load 2, sticky_hash and cache_only have the highest hit rate"
    )


def test_one_router_may_win_both() -> None:
    """Then the sentence says so; and of a single router it says what it has."""
    both = HitRates.of({"kv": {1: [0.8]}, "random": {1: [0.4]}}, {"kv": {1: [1.0]}, "random": {1: [2.0]}})
    single = HitRates.of({"kv": {1: [0.8]}}, {"kv": {1: [1.25]}})

    assert "At load 1, kv has both the highest hit rate and the lowest p99 TTFT" == both.finding
    assert "At load 1, kv has a hit rate of 80% and a p99 TTFT of 1.2 s" == single.finding


def test_the_table_has_all_numbers() -> None:
    """A row a router and load, with the least and the most of the seeds."""
    table = hit_rate_picture(HITS, TIMES).table

    assert ["router", "load", "hit rate", "least", "most", "p99 TTFT s", "least", "most", "seeds"] == table.header
    assert 9 == len(table.rows)
    assert ["kv", "2", "0.590", "0.580", "0.600", "1.8", "1.5", "2.1", 2] == table.rows[5]


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.5])
@pytest.mark.parametrize("step", [0.0, 0.02, 0.15])
def test_names_keep_clear_of_each_other(factor: float, step: float) -> None:
    """Six routers, close together or far apart: no name lies on another, and none is cut off."""
    modes = [*[*MODES][:5], "my_own_function"]
    hits = {mode: {1: [0.15 + step * n]} for n, mode in enumerate(modes)}
    times = {mode: {1: [2 * factor**n]} for n, mode in enumerate(modes)}
    if step and factor > 1:  # somewhere in between, too
        times["random"] = {1: [2.0]}

    ax = plot_hit_rate(hits, times)

    assert [] == flaws(ax)
    assert set(modes) == set(names(ax))
    assert all(one != other for one, other in combinations(names(ax).values(), 2))


@pytest.mark.parametrize(
    ("hits", "times", "said"),
    [
        ({"kv": {1: [0.5]}}, {"random": {1: [1.0]}}, "same routers"),
        ({"kv": {1: [0.5]}}, {"kv": {2: [1.0]}}, "at the same loads"),
        ({"kv": {1: [1.5]}}, {"kv": {1: [1.0]}}, "'kv': hit rates are shares"),
        ({"kv": {1: [0.5]}}, {"kv": {1: [0.0]}}, "times above 0"),
        ({"kv": {1: [float("nan")]}}, {"kv": {1: [1.0]}}, "finite"),
    ],
)
def test_numbers_that_cannot_be_are_named(hits: dict, times: dict, said: str) -> None:  # type: ignore[type-arg]
    """Percents for shares, no time at all, another load: each ends in a sentence."""
    with pytest.raises(ValueError, match=said):
        plot_hit_rate(hits, times)


def test_no_runs_are_no_error() -> None:
    """Nor runs that have no load in common."""
    assert "No runs yet." == hit_rate_picture({}, {}).label
    apart = {"kv": {1: [0.5]}, "random": {2: [0.5]}}
    assert "The routers ran at different loads" == HitRates.of(apart, apart).finding
