"""Lanes: what waits, what is idle, and what is wasted, worked out from times made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.lanes import BASE, COLUMNS, SERVING, WAITING, plot_lanes
from dynlab.views.pictures import lanes_picture
from dynlab.views.timeline import means, ms_above_zero, timeline_of
from dynlab.views.traces import Traces
from tests.views.conftest import FIRST_ID, MS, hop_of

Row = tuple[int, float, float, float]
"""A request: its worker, and when it was picked, started and ended, in ms; 0 where it did not."""


def traces_of(*rows: Row, workers: int = 2, outcome: str = "ok", listed: Sequence[Sequence[int]] = ()) -> Traces:
    """Requests, each picked among all workers, or among those that `listed` has for it."""
    traces = Traces(seed=7)
    for number, (worker, routed, started, ended) in enumerate(rows):
        could = listed[number] if listed else range(workers)
        hop = hop_of(None, f"W-{worker}", "begenerate", routed=routed, started=started, ended=ended, outcome=outcome)
        hop.instance_id = FIRST_ID + worker
        candidates = tuple(Candidate(FIRST_ID + n, f"W-{n}", 0, n in could) for n in range(workers))
        hop.decision = RoutingDecision("round-robin", FIRST_ID + worker, candidates)
        traces.begin(f"r-{number}").hops.append(hop)
    return traces


def wasted_ms(traces: Traces) -> float:
    return ms_above_zero(timeline_of(traces).wasted)


def queued_ms(traces: Traces) -> float:
    return ms_above_zero(timeline_of(traces).queued)


def heights(patch: Patch) -> tuple[float, float]:
    ys = patch.get_path().get_extents()
    return ys.ymin, ys.ymax


def texts(ax: Axes) -> list[str]:
    return [text.get_text().strip() for text in ax.texts]


BEHIND_ANOTHER = ((0, 1, 1.1, 11), (0, 3, 11.1, 21))


def test_a_wait_beside_an_idle_worker_is_wasted() -> None:
    """One request is served for 10 ms, the next waits 8.1 of them for its turn, and W-1 does nothing meanwhile."""
    timeline = timeline_of(traces_of(*BEHIND_ANOTHER))

    assert [(pytest.approx(2), 1), (pytest.approx(10.1), 0)] == timeline.wasted
    assert timeline.wasted == timeline.queued
    assert [(pytest.approx(8.1),), ()] == [lane.turns_ms for lane in timeline.lanes]
    assert "For 8.1 ms of 20.0 ms, requests waited while another worker was idle" == timeline.finding


def test_nothing_is_wasted_while_all_are_busy() -> None:
    """The other worker serves a request of its own: then the wait is a wait, and no waste."""
    traces = traces_of((0, 1, 1.1, 11), (1, 1, 1.1, 30), (0, 3, 11.1, 21))

    assert pytest.approx(8.1) == queued_ms(traces)
    assert 0 == wasted_ms(traces)
    assert "Requests waited for their turn for 8.1 ms, never while another" in timeline_of(traces).finding


def test_waste_begins_when_the_other_worker_becomes_idle() -> None:
    """W-1 ends at 7 ms, the waiting request starts at 11.1: 4.1 ms are wasted."""
    assert pytest.approx(4.1) == wasted_ms(traces_of((1, 0.5, 1.1, 7), (0, 1, 1.1, 11), (0, 3, 11.1, 21)))


def test_two_that_wait_at_once_waste_time_once() -> None:
    """Time is counted, not requests: three in a queue beside an idle worker are one case."""
    assert pytest.approx(18.1) == wasted_ms(traces_of(*BEHIND_ANOTHER, (0, 3, 21.1, 31)))


def test_an_awaiting_worker_lets_nobody_wait_for_a_turn() -> None:
    """Each starts a moment after its pick though others are served: the moment is no wait for a turn."""
    traces = traces_of(*((0, 1.0 + n, 1.4 + n, 21.0 + n) for n in range(8)))

    assert 0 == queued_ms(traces)
    assert "No request waited for its turn: a worker served up to 8 at once" == timeline_of(traces).finding


def test_a_start_beside_others_is_no_turn() -> None:
    """That one of several ends between a pick and a start makes no queue of an awaiting worker."""
    assert 0 == queued_ms(traces_of((0, 1, 1.1, 5), (0, 1, 1.1, 30), (0, 4.9, 5.3, 25)))


def test_the_way_to_an_idle_worker_is_no_turn() -> None:
    """A thread that is slow to wake makes a request wait, but behind nobody."""
    timeline = timeline_of(traces_of((0, 1, 6, 7), (0, 1.5, 7.1, 8)))

    assert [(pytest.approx(5), 1), (pytest.approx(6.1), 0)] == timeline.queued
    assert [(0, 1), (pytest.approx(0.5), 2), (5, 1), (pytest.approx(6.1), 0)] == timeline.lanes[0].waiting


def test_only_candidates_could_have_taken_it() -> None:
    """A worker that the pick skipped, or that has left since, wastes nothing."""
    skipped = traces_of(*BEHIND_ANOTHER, listed=[[0], [0]])
    left = traces_of(*BEHIND_ANOTHER, (0, 5, 21.1, 22), listed=[[0, 1], [0, 1], [0]])

    assert 0 == wasted_ms(skipped)
    assert pytest.approx(2) == wasted_ms(left)


def test_a_dead_worker_is_not_idle() -> None:
    """W-1 dies at 5 ms with its request; until a pick lists it again, nobody could have been sent there."""
    traces = traces_of((0, 1, 1.1, 11), (1, 1, 1.1, 5), (0, 3, 11.1, 21))
    again = traces_of((0, 1, 1.1, 11), (1, 1, 1.1, 5), (0, 3, 11.1, 21), (0, 8, 21.1, 31))
    for log in (traces, again):
        log["r-1"].hops[0].outcome = "StreamIncompleteError"

    assert 0 == wasted_ms(traces)
    assert pytest.approx(13.1) == wasted_ms(again)


def test_a_request_that_died_waiting_is_counted_too() -> None:
    """Killed with its worker: it never started, it waited until the end, and it is marked."""
    dead = traces_of((0, 1, 1.1, 11), (0, 3, 0, 11), outcome="StreamIncompleteError")
    started_late = traces_of((0, 1, 1.1, 11), (0, 3, 11.5, 11), outcome="StreamIncompleteError")

    assert pytest.approx(8) == wasted_ms(dead) == wasted_ms(started_late)
    assert [(10, 10), ()] == [lane.failed_ms for lane in timeline_of(dead).lanes]
    (marks,) = [line for line in plot_lanes(dead).lines if line.get_marker() == "x"]
    assert [10] == list(marks.get_xdata())  # two at the same place are one mark
    assert "x: failed (2)" in plot_lanes(dead).get_xlabel()


def test_a_running_request_lasts_until_the_last_known_moment() -> None:
    """What is under way is served, or waits, until the newest time in the traces."""
    timeline = timeline_of(traces_of((0, 1, 1.5, 0), (0, 2, 0, 0), (1, 3, 3.5, 9), outcome="running"))

    assert 8 == timeline.whole_ms
    assert [(0.5, 1), (8, 0)] == timeline.lanes[0].serving
    assert [(0, 1), (0.5, 0), (1, 1), (8, 0)] == timeline.lanes[0].waiting


def test_a_hop_served_counts_its_items_as_known_time() -> None:
    """A stream that still flows is known to have lasted until its newest item."""
    traces = traces_of((0, 1, 1.5, 0), outcome="running")
    hop = traces["r-0"].hops[0]
    hop.item_ns, hop.items = [3 * MS, 6 * MS], 2

    assert 5 == timeline_of(traces).whole_ms


def test_a_lane_is_one_mark_for_what_it_serves_and_one_for_what_waits() -> None:
    """Solid stands on the lane's line, hatched on top of it; heights are in shares of the most at once."""
    ax = plot_lanes(traces_of(*BEHIND_ANOTHER, (0, 4, 21.1, 31)))

    (hatched,) = [patch for patch in ax.patches if patch.get_hatch()]
    solid = ax.patches[0]
    assert (pytest.approx(BASE - SERVING), pytest.approx(BASE)) == heights(solid)
    assert (pytest.approx(BASE - SERVING - WAITING), pytest.approx(BASE - SERVING)) == heights(hatched)
    assert "solid: being served (a full bar is 1)" in ax.get_xlabel()
    assert "hatched: picked, not yet begun (a full bar is 2)" in ax.get_xlabel()
    assert "n = 3 · seed = 7" in ax.get_xlabel()


def test_lanes_stand_in_the_order_of_instance_ids() -> None:
    """Also the lane of a worker that got nothing."""
    ax = plot_lanes(traces_of((2, 1, 2, 3), (0, 1, 2, 4), workers=4))

    assert ["0", "1", "2", "3"] == [label.get_text() for label in ax.get_yticklabels()]
    assert ["67% busy", "0% busy", "33% busy", "0% busy"] == texts(ax)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_the_band_is_labelled_with_its_total() -> None:
    """The strip and the band are there only if there is something to show."""
    wasted, none = plot_lanes(traces_of(*BEHIND_ANOTHER)), plot_lanes(traces_of((0, 1, 1.1, 11)))

    assert "wasted: 8.1 ms" in texts(wasted)
    assert [] == [text for text in texts(none) if "wasted" in text]
    assert len(none.patches) + 2 == len(wasted.patches)  # the strip and the band


def test_a_long_run_is_told_in_seconds() -> None:
    """From ten seconds on, milliseconds are hard to read."""
    ax = plot_lanes(traces_of((0, 1, 1.1, 8000), (0, 3, 8000.1, 20001)))

    assert ax.get_xlabel().startswith("s since the first pick")
    assert (0, 20) == ax.get_xlim()
    assert ax.get_title(loc="left").startswith("For 8.00 s of 20.00 s, requests waited")


def test_many_steps_are_shown_as_means() -> None:
    """Each column of the time shows the mean count in it, and the note says how long a column is."""
    rows = [(n % 2, n, n + 0.25, n + 0.75) for n in range(1000)]
    ax = plot_lanes(traces_of(*rows))

    vertices = sum(len(patch.get_path().vertices) for patch in ax.patches)
    assert vertices < 6 * COLUMNS
    assert "each step is the mean of 3.3 ms" in ax.get_xlabel()


def test_a_mean_keeps_the_area() -> None:
    """Request-milliseconds are the same before and after, wherever the columns cut."""
    steps = [(0.5, 2.0), (1.25, 1.0), (3.5, 0.0), (7.0, 4.0), (7.5, 0.0)]

    averaged = means(steps, 8.0, 4)

    assert [(0.0, 1.12), (2.0, 0.75), (4.0, 0.0), (6.0, 1.0), (8.0, 0.0)] == averaged


def test_the_picture_says_it_all_in_words() -> None:
    """The sentence has the finding and the extremes, the table a row a worker."""
    picture = lanes_picture(traces_of(*BEHIND_ANOTHER))

    assert (
        "2 requests over 2 workers by round-robin. For 8.1 ms of 20.0 ms, requests waited while another worker was "
        "idle. Busiest: W-0, 99% of the time; idlest: W-1, 0%."
    ) == picture.label
    assert [["W-0", 2, "19.800", "99.0%", 1, "8.100", 0], ["W-1", 0, "0.000", "0.0%", 0, "0.000", 0]] == (
        picture.table.rows
    )
    assert 'role="img"' in picture._repr_html_()


def test_no_requests_are_no_error() -> None:
    """The picture exists before the first request."""
    picture = lanes_picture(Traces())

    assert "No requests yet." == picture.label
    assert "n = 0" in picture.axes.get_xlabel()


def test_one_service_can_be_asked_for(one_request: object) -> None:
    """By default it is the one that answers last; hops that nobody picked are no part of it."""
    assert "No requests yet." == lanes_picture(Traces([one_request]), "Frontend").label  # type: ignore[list-item]
