"""Two routers lane by lane: one time axis, one scale, and a sentence that says under which one time was wasted."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.duel import Duel, draw_duel, duel_picture
from dynlab.views.traces import Traces
from tests.views.conftest import FIRST_ID, flaws, hop_of

WORKERS = 3


def served(mode: str, stays: Iterable[tuple[int, float, float, float]], lost: Iterable[int] = ()) -> Traces:
    """Requests that went to a worker: when they were picked, began and ended, in ms."""
    candidates = tuple(Candidate(FIRST_ID + n, f"W-{n}", 0) for n in range(WORKERS))
    traces = Traces(seed=7)
    for number, (worker, routed, started, ended) in enumerate(stays):
        trace = traces.begin(str(number))
        outcome = "StreamIncompleteError" if number in lost else "ok"
        hop = hop_of(
            None, f"W-{worker}", "begenerate", routed=1 + routed, started=1 + started, ended=1 + ended, outcome=outcome
        )
        hop.instance_id = FIRST_ID + worker
        hop.decision = RoutingDecision(mode, FIRST_ID + worker, candidates)
        trace.hops.append(hop)
        traces.end(trace)
    return traces


HERD = [(0, 0.0, 0.0, 40.0), (0, 1.0, 40.0, 80.0), (0, 2.0, 80.0, 120.0)]
SPREAD = [(0, 0.0, 0.0, 40.0), (1, 1.0, 1.0, 41.0), (2, 2.0, 2.0, 42.0)]


def test_the_finding_says_what_each_wasted() -> None:
    """Three at one worker wait for 79 ms beside two idle ones, of 120; three at three workers do not wait."""
    duel = Duel.of({"mine()": served("mine()", HERD), "least-loaded": served("least-loaded", SPREAD)})

    assert "Requests waited beside an idle worker for 79.0 ms under mine() and 0 ms under least-loaded, of 120 ms" == (
        duel.finding
    )


def test_a_second_is_as_long_in_each() -> None:
    """Both panels end when the later run ends, and so does the share of the time that a worker was busy."""
    duel = Duel.of({"mine()": served("mine()", HERD), "least-loaded": served("least-loaded", SPREAD)})

    upper, lower = draw_duel(duel).figure.axes

    assert upper.get_xlim() == lower.get_xlim() == (0, 120)
    assert {120.0} == {timeline.whole_ms for timeline in duel.timelines.values()}
    assert [" 100% busy", " 0% busy", " 0% busy"] == [t.get_text() for t in upper.texts if "busy" in t.get_text()]
    assert [" 33% busy"] * 3 == [t.get_text() for t in lower.texts if "busy" in t.get_text()]


def test_a_bar_is_as_high_in_each() -> None:
    """A full bar stands for the most of both, also where nothing waits; the note below says of how many."""
    duel = Duel.of({"mine()": served("mine()", HERD), "least-loaded": served("least-loaded", SPREAD)})

    lower = draw_duel(duel).figure.axes[1]

    assert (1.0, 2.0) == duel.full
    assert "hatched: picked, not yet begun (a full bar is 2)" in lower.get_xlabel()


def test_the_panels_have_names() -> None:
    """At their left; the finding stands once, above both, and the axis once, below both."""
    upper, lower = draw_duel(Duel.of({"mine()": served("mine()", HERD), "kv": served("kv", SPREAD)})).figure.axes

    assert ["mine()\nW number", "kv\nW number"] == [upper.get_ylabel(), lower.get_ylabel()]
    assert upper.get_title("left").replace("\n", " ").startswith("Requests waited beside an idle worker")
    assert ["", ""] == [lower.get_title("left"), upper.get_xlabel()]
    assert lower.get_xlabel().startswith("ms since the first pick")


def test_who_got_no_answer_is_marked_and_told() -> None:
    """With an x in the lane, below the panel, and in the label, but for a run that lost none."""
    runs = {"mine()": served("mine()", HERD, lost=[1, 2]), "kv": served("kv", SPREAD)}

    picture = duel_picture(runs)

    assert picture.label.endswith("of 120 ms. Without an answer: 2 under mine().")
    assert "x: failed (2)" == picture.axes.get_xlabel()
    assert [2, 0, 0, 0, 0, 0] == [row[-1] for row in picture.table.rows]


def test_the_table_has_every_lane() -> None:
    """By run and worker, in the order of the panels."""
    table = duel_picture({"mine()": served("mine()", HERD), "kv": served("kv", SPREAD)}).table

    assert [
        "router",
        "worker",
        "requests",
        "busy ms",
        "waited for their turn",
        "longest wait ms",
        "failed",
    ] == table.header
    assert ["mine()", "W-0", 3, "120.000", 2, "78.000", 0] == table.rows[0]
    assert ["kv", "W-2", 1, "40.000", 0, "0.000", 0] == table.rows[-1]
    assert 2 * WORKERS == len(table.rows)


@pytest.mark.parametrize("name", ["my_first_router_that_looks_at_prompts()", "a()"])
def test_no_words_are_cut_off_or_on_others(name: str) -> None:
    """A long name too."""
    picture = duel_picture({name: served(name, HERD, lost=[2]), "least-loaded": served("least-loaded", SPREAD)})

    assert [] == flaws(picture.axes)


def test_no_requests_are_no_error() -> None:
    """One run without any, or no run at all."""
    assert "No requests yet." == duel_picture({}).label
    assert "No requests yet." == duel_picture({"mine()": Traces(seed=7)}).label
    one = duel_picture({"mine()": Traces(seed=7), "kv": served("kv", SPREAD)})
    assert one.label.startswith("Requests waited beside an idle worker for 0 ms under kv, of 42.0 ms")
