"""What the drawings draw, read back from their marks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.pictures import lanes_picture, overview_picture, picks_picture, routing_picture
from dynlab.views.plots import MANY, MAX_PICKS, Picks, plot_picks, plot_routing
from dynlab.views.style import mode_style
from dynlab.views.traces import Trace, Traces
from tests.views.conftest import hop_of

Picked = Callable[..., Traces]


def heights(ax: Axes, *, filled: bool) -> list[float]:
    return [bar.get_height() for bar in ax.patches if bar.get_fill() is filled]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_bars_are_as_high_as_the_counts(picked: Picked) -> None:
    """Each worker's bar has its count for height and for label, in the mode's colour; none left out."""
    ax = plot_routing(picked("random", [0, 0, 2, 3, 3, 3]))

    assert [2, 0, 1, 3] == heights(ax, filled=True)
    assert ["2", "0", "1", "3"] == texts(ax)[:4]
    assert {mode_style("random").colour.lower()} == {to_hex(bar.get_facecolor()) for bar in ax.patches}
    assert 0 == ax.get_ylim()[0]


def test_the_even_share_is_a_line_with_its_value(picked: Picked) -> None:
    """Six requests over four workers would be 1.5 each."""
    ax = plot_routing(picked("round-robin", [0, 1, 2, 3, 0, 1]))

    assert [1.5, 1.5] == list(ax.lines[0].get_ydata())
    assert "even: 1.5 " in texts(ax)


@pytest.mark.parametrize(
    "guess", [[3, 1, 1, 1], {"DummyWorker-0": 3, "DummyWorker-1": 1, "DummyWorker-2": 1, "DummyWorker-3": 1}]
)
def test_a_guess_is_outlined(picked: Picked, guess: object) -> None:
    """By place or by name, it stands as a dashed outline above the bars, and its miss is said."""
    traces = picked("round-robin", [0, 1, 2, 3, 0, 1])

    ax = plot_routing(traces, guess=guess)  # type: ignore[arg-type]

    assert [3, 1, 1, 1] == heights(ax, filled=False)
    assert "dashed: the guess" in ax.get_xlabel()
    assert "The guess was off by at most 1." in routing_picture(traces, guess).label  # type: ignore[arg-type]


def test_a_guess_of_the_wrong_length_is_refused(picked: Picked) -> None:
    """The sentence says how many numbers there must be."""
    with pytest.raises(ValueError, match="The guess has 3 numbers; give one for each of the 4 workers"):
        plot_routing(picked("random", [0]), guess=[1, 2, 3])
    with pytest.raises(ValueError, match="The guess names 'DummyWorker-9'; the workers are DummyWorker-0"):
        plot_routing(picked("random", [0]), guess={"DummyWorker-9": 1})


def test_n_mode_and_seed_are_said(picked: Picked) -> None:
    """A picture can be made again from what stands on it."""
    ax = plot_routing(picked("random", [0, 1]))

    assert "Requests per DummyWorker by random" == ax.get_title(loc="left")
    assert "DummyWorker number\nn = 2 · seed = 7" == ax.get_xlabel()
    assert "requests" == ax.get_ylabel()


def test_two_modes_are_stacked_and_named(picked: Picked) -> None:
    """Requests of different modes are told apart, and the label counts them together."""
    both = Traces([*picked("random", [0, 0]), *picked("direct", [0])])

    ax = plot_routing(both)

    assert [2, 0, 0, 0, 1, 0, 0, 0] == heights(ax, filled=True)
    assert ["random", "direct"] == [text.get_text() for text in ax.get_legend().get_texts()]
    assert ["3", "0", "0", "0"] == texts(ax)[:4]


def test_many_workers_are_still_readable(picked: Picked) -> None:
    """Beyond a few dozen, numbers would overlap: only some places are named, and no bar is."""
    ax = plot_routing(picked("random", range(64), workers=64))

    named = [label.get_text() for label in ax.get_xticklabels() if label.get_text()]
    assert 64 > MANY
    assert ["0", "8", "16", "24", "32", "40", "48", "56"] == named
    assert ["even: 1 "] == texts(ax)


def test_picks_stand_in_the_row_of_their_worker(picked: Picked) -> None:
    """One mark a pick, in order; the newest ones, numbered as they came."""
    ax = plot_picks(picked("round-robin", [n % 4 for n in range(10)]), last=5)

    (marks,) = ax.lines
    assert [6, 7, 8, 9, 10] == list(marks.get_xdata())
    assert [1, 2, 3, 0, 1] == list(marks.get_ydata())
    assert mode_style("round-robin").marker == marks.get_marker()
    assert "The last 5 picks by round-robin" == ax.get_title(loc="left")


def test_picks_beyond_what_a_picture_can_show_are_left_out(picked: Picked) -> None:
    """However many are asked for, at most `MAX_PICKS` are drawn, and title and label say how many."""
    traces = picked("random", [n % 4 for n in range(MAX_PICKS + 5)])

    ax = plot_picks(traces, last=10_000)

    assert MAX_PICKS == sum(len(line.get_xdata()) for line in ax.lines)
    assert f"The last {MAX_PICKS} picks by random" == ax.get_title(loc="left")
    assert picks_picture(traces, last=10_000).label.startswith(f"The last {MAX_PICKS} picks in their order: 0 went")


def test_picks_are_read_once(picked: Picked) -> None:
    """A picture needs them for its drawing, its sentence and its table; a log unpacks itself for each reader."""
    traces = picked("random", [0, 1, 1])
    reads = []
    traces.hops_to = lambda service=None: (reads.append(service), type(traces).hops_to(traces, service))[1]  # type: ignore[method-assign]

    for number, draw in enumerate((routing_picture, picks_picture, lanes_picture), start=1):
        draw(traces, service="DummyWorker")
        assert ["DummyWorker"] * number == reads


def test_picks_know_who_could_be_chosen() -> None:
    """Workers that the pick skipped are listed, but were not eligible."""
    candidates = (Candidate(2, "W-1", 0), Candidate(1, "W-0", 0, eligible=False))
    trace = Trace("r-1")
    trace.hops.append(hop_of(None, "W-1", "begenerate", routed=1, started=2, ended=3))
    trace.hops[0].instance_id, trace.hops[0].decision = 2, RoutingDecision("random", 2, candidates)

    picks = Picks.of(Traces([trace]))

    assert (["W-0", "W-1"], [("W-1",)], ["random"]) == (picks.workers, picks.eligible, picks.modes)
    assert ({"W-0": 0, "W-1": 1}, "W") == (picks.counts, picks.noun)
    assert picks is Picks.of(picks)


def test_no_requests_are_no_error() -> None:
    """Both drawings exist before the first request and say so."""
    assert "No requests yet" == plot_routing(Traces()).get_title(loc="left")
    assert "No requests yet" == plot_picks(Traces()).get_title(loc="left")
    assert "No requests yet." == routing_picture(Traces()).label


def test_labels_state_the_finding(picked: Picked) -> None:
    """Whoever hears the picture hears what it shows."""
    even, uneven = picked("round-robin", [0, 1, 2, 3]), picked("random", [0, 0, 0, 1])

    assert "4 requests over 4 workers by round-robin: each got 1." == routing_picture(even).label
    assert "4 requests over 4 workers by random: the busiest got 3, the idlest 0." == routing_picture(uneven).label
    assert (
        "The last 4 picks in their order: 2 went to the same worker as the one before." == picks_picture(uneven).label
    )


def test_the_overview_has_a_row_for_each_mode(picked: Picked) -> None:
    """One drawing a mode, each from 0, and all numbers in one table."""
    picture = overview_picture(
        {"round-robin": picked("round-robin", [0, 1, 2, 3]), "direct": picked("direct", [0] * 4)}
    )

    assert [0, 0] == [ax.get_ylim()[0] for ax in picture.figure.axes]
    assert ["direct", "DummyWorker-0", 4] in picture.table.rows
    assert 8 == len(picture.table.rows)
