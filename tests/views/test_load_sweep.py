"""Load sweeps: three panels of numbers that are given, and beside them what others published, with what is missing."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from dynlab.views.figure import Picture
from dynlab.views.load_sweep import Claim, LoadSweep, load_sweep_picture
from dynlab.views.style import MODES, mode_style
from tests.views.conftest import flaws

P99 = {
    "round-robin": {1: [1.5, 1.7], 2: [8.0, 12.0]},
    "kv": {1: [0.8, 0.8], 2: [1.5, 2.5]},
    "kv (2 wait)": {1: [0.8, 0.8], 2: [1.4, 1.6]},
}
GOODPUT = {
    "round-robin": {1: [5.0, 5.0], 2: [9.0, 9.4]},
    "kv": {1: [5.0, 5.0], 2: [10.0, 10.0]},
    "kv (2 wait)": {1: [5.0, 5.0], 2: [8.8, 9.0]},
}
DROPPED = {
    "round-robin": {1: [0.0, 0.0], 2: [0.0, 0.0]},
    "kv": {1: [0.0, 0.0], 2: [0.0, 0.0]},
    "kv (2 wait)": {1: [0.0, 0.0], 2: [0.1, 0.14]},
}
FACTOR = Claim("A", "a page", "random", factor=3.0)
TIMES = Claim("B", "a guide", "round-robin", what="p99 TTFT", ttft_s=(20.0, 4.0), load=1.5)
DROPS = Claim("C", "a test", "round-robin", ttft_s=(16.0, 4.0), goodput=(8.0, 7.0), dropped=(0.0, 0.143))


def swept(*claims: Claim) -> Picture:
    return load_sweep_picture(P99, GOODPUT, DROPPED, claims, note="4 workers")


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def points(ax: Axes, x: float) -> list[tuple[str, float]]:
    """Marks at a place: which, and how high."""
    return [
        (str(line.get_marker()), float(line.get_ydata()[0]))
        for line in ax.lines
        if line.get_marker() != "None" and list(line.get_xdata()) == [pytest.approx(x)]
    ]


def test_three_panels_share_the_load() -> None:
    """p99 on a logarithmic axis, goodput and percents from 0; the ticks are the loads."""
    figure = swept().figure

    assert ["p99 TTFT, s (log)", "goodput, answers a second", "dropped, %"] == [ax.get_ylabel() for ax in figure.axes]
    assert 1 == len({ax.get_xlim() for ax in figure.axes})
    assert [["1", "2"]] * 3 == [[label.get_text() for label in ax.get_xticklabels()] for ax in figure.axes]
    assert ["log", "linear", "linear"] == [ax.get_yscale() for ax in figure.axes]
    assert [0, 0] == [ax.get_ylim()[0] for ax in figure.axes[1:]]


def test_lines_are_means_and_bands_are_the_seeds() -> None:
    """A line a router in its look; what stands in brackets has the colour of its mode, and dashes of its own."""
    top, _, bottom = swept().figure.axes

    lines = [line for line in top.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"][:3]
    assert [[1.6, 10], [0.8, 2], [0.8, 1.5]] == [pytest.approx(line.get_ydata()) for line in lines]
    rr, kv = MODES["round-robin"].colour.lower(), MODES["kv"].colour.lower()
    assert [rr, kv, kv] == [to_hex(line.get_color()) for line in lines]
    assert 3 == len({line.get_linestyle() + str(line.get_linewidth()) for line in lines})
    low, high = (float(edge(top.collections[0].get_paths()[0].vertices[:, 1])) for edge in (min, max))
    assert (1.5, 12) == (low, high)
    dropped = [line for line in bottom.lines if len(line.get_xdata()) == 2][2 * 3 - 2]
    assert [0, 12] == pytest.approx(list(dropped.get_ydata()))


def test_every_line_is_named_at_its_end() -> None:
    """Those that drop nothing are named together."""
    top, middle, bottom = swept().figure.axes

    assert set(P99) == set(texts(top)) == set(texts(middle))
    assert {"kv (2 wait)", "the others drop none"} == set(texts(bottom))


def test_the_sentence_says_the_factor_at_both_ends_and_who_drops() -> None:
    """A p99 without its drops would say half of it."""
    picture = swept()

    assert (
        "The p99 TTFT of round-robin is 2.0 times that of kv (2 wait) at load 1, and 6.7 times at load 2, "
        "where kv (2 wait) drops 12%. Mean of 2 seeds."
    ) == picture.label
    assert "lines: mean of 2 seeds" in picture.figure.axes[-1].get_xlabel()
    assert "p99 is of those answered · 4 workers" in picture.figure.axes[-1].get_xlabel()


def test_if_the_fastest_drops_nothing_the_sentence_names_who_drops_most() -> None:
    """Or that nobody does."""
    some = {"kv": {1: [0.0]}, "random": {1: [0.25]}}
    times = {"kv": {1: [1.0]}, "random": {1: [20.0]}}
    none = {name: {1: [0.0]} for name in times}

    assert LoadSweep.of(times, times, some).finding.endswith(
        "The p99 TTFT of random is 20 times that of kv at load 1, where random drops 25%"
    )
    assert LoadSweep.of(times, times, none).finding.endswith("where nobody drops any")
    alone = LoadSweep.of({"kv": {1: [1.0]}}, {"kv": {1: [5.0]}}, {"kv": {1: [0.0]}})
    assert "At load 1, kv has a p99 TTFT of 1 s, where nobody drops any" == alone.finding


def test_a_claim_with_a_load_stands_at_its_load() -> None:
    """Both of its times, the baseline in its mode's mark, and the factor between them."""
    top, middle, bottom = swept(TIMES).figure.axes

    assert [("o", 20.0), ("*", 4.0)] == points(top, 1.5)
    assert "5x" in texts(top)
    assert "?" in texts(middle)
    assert "?" in texts(bottom)
    assert ["1", "2"] == [label.get_text() for label in top.get_xticklabels()]


def test_claims_without_a_load_stand_apart() -> None:
    """Behind a line, in columns of their own, that say so."""
    top, middle, bottom = swept(FACTOR, DROPS).figure.axes

    a, c = top.get_xticks()[2:]
    assert ["1", "2", "A", "C"] == [label.get_text() for label in bottom.get_xticklabels()]
    assert 2 < a < c < top.get_xlim()[1]
    assert "published,\nload not stated" in texts(top)
    assert [("o", 16.0), ("*", 4.0)] == points(top, c)
    assert [("o", 8.0), ("*", 7.0)] == points(middle, c)
    assert [("o", 0.0), ("*", pytest.approx(14.3))] == points(bottom, c)


def test_what_is_not_stated_is_a_question_mark() -> None:
    """In each panel in which a claim has no number; a factor alone has no place, so it is written above the mark."""
    figure = swept(FACTOR, DROPS).figure

    assert [1, 1, 1] == [texts(ax).count("?") for ax in figure.axes]
    assert "3x" in texts(figure.axes[0])
    assert "?: not stated" in figure.axes[-1].get_xlabel()


def test_a_claim_knows_what_it_leaves_out() -> None:
    """Baseline, seconds, load, goodput, drops."""
    assert ["seconds", "load", "goodput", "drops"] == FACTOR.missing
    assert ["load"] == DROPS.missing
    assert ["baseline", "seconds", "load", "goodput", "drops"] == Claim("Z", "somebody says").missing
    assert (3.0, 5.0, None) == (FACTOR.times, TIMES.times, Claim("Z", "somebody says").times)


def test_the_label_reads_the_claims_out() -> None:
    """With their factor, and what is not stated."""
    label = swept(FACTOR, DROPS).label

    assert "A: a page, TTFT against random, 3 times lower; not stated: seconds, load, goodput, drops." in label
    assert label.endswith("C: a test, TTFT against round-robin, 4 times lower; not stated: load.")


def test_a_factor_below_one_is_read_out_as_higher() -> None:
    """The picture writes it as it is."""
    picture = swept(Claim("D", "a test", "round-robin", ttft_s=(0.2, 0.34)))

    assert "TTFT against round-robin, 1.7 times higher; not stated" in picture.label
    assert "0.59x" in texts(picture.figure.axes[0])


def test_the_table_has_all_numbers() -> None:
    """A row a line and load, and two a claim."""
    table = swept(FACTOR, DROPS).table

    assert 6 + 4 == len(table.rows)
    assert ["kv (2 wait)", "2", "1.5", "1.4", "1.6", "8.9", "8.8", "9", "12", "10", "14"] == table.rows[5]
    assert ["A: random", "not stated", "not stated", "", ""] == table.rows[6][:5]
    assert ["C: kv", "not stated", "4", "", "", "7", "", "", "14.3", "", ""] == table.rows[9]
    assert ["C: round-robin", "0"] == [table.rows[8][0], table.rows[8][8]]


@pytest.mark.parametrize("claims", [(), (FACTOR,), (TIMES,), (FACTOR, TIMES, DROPS)], ids=len)
@pytest.mark.parametrize("factor", [1.0, 1.02, 1.6])
def test_nothing_is_cut_off(factor: float, claims: tuple[Claim, ...]) -> None:
    """Five lines, close together or far apart, with claims and without: no word on another, none over the edge."""
    names = ("random", "round-robin", "kv", "round-robin (2 wait)", "kv (2 wait)")
    curves = {name: {1: [1.0], 2: [2 * factor**n]} for n, name in enumerate(names)}
    drops = {name: {1: [0.0], 2: [0.05 * n if factor > 1.5 else 0.0]} for n, name in enumerate(names)}

    figure = load_sweep_picture(curves, curves, drops, claims).figure

    assert [[]] * 3 == [flaws(ax) for ax in figure.axes]


@pytest.mark.parametrize(
    ("times", "goodput", "drops", "said"),
    [
        ({"kv": {1: [1.0]}}, {"kv": {1: [5.0]}}, {"random": {1: [0.0]}}, "same routers"),
        ({"kv": {1: [1.0]}}, {"kv": {2: [5.0]}}, {"kv": {1: [0.0]}}, "at the same loads"),
        ({"kv": {1: [0.0]}}, {"kv": {1: [5.0]}}, {"kv": {1: [0.0]}}, "times are above 0"),
        ({"kv": {1: [1.0]}}, {"kv": {1: [5.0]}}, {"kv": {1: [12.0]}}, "drops are shares"),
        ({"kv": {1: []}}, {"kv": {1: [5.0]}}, {"kv": {1: [0.0]}}, "finite number"),
    ],
)
def test_numbers_that_cannot_be_are_named(times: dict, goodput: dict, drops: dict, said: str) -> None:  # type: ignore[type-arg]
    """Percents for shares, no time at all, another router: each ends in a sentence."""
    with pytest.raises(ValueError, match=said):
        load_sweep_picture(times, goodput, drops)


def test_no_runs_are_no_error() -> None:
    """Claims can be drawn alone."""
    assert "No runs yet." == load_sweep_picture({}, {}, {}).label
    picture = load_sweep_picture({}, {}, {}, [DROPS])
    assert picture.label.startswith("No runs yet. C: a test")
    assert [] == flaws(picture.figure.axes[0])


def test_a_baseline_that_is_not_stated_has_a_look_too() -> None:
    """That of a function that is no mode."""
    claim = Claim("Z", "somebody", ttft_s=(4.0, 2.0), load=1.5)

    assert [(mode_style("").marker, 4.0), ("*", 2.0)] == points(swept(claim).figure.axes[0], 1.5)
