"""One request, read back from its rows."""

from __future__ import annotations

import pytest

from dynlab.views.pictures import waterfall_picture
from dynlab.views.traces import Trace
from dynlab.views.waterfall import plot_waterfall, spans_of
from tests.views.conftest import MS, hop_of


def test_own_times_add_up_to_the_whole(one_request: Trace) -> None:
    """The rows' own times are the request: nothing is counted twice, nothing left out."""
    spans = spans_of(one_request)

    assert ["client + HTTP", "Frontend-0.fegenerate", "Processor-0.mdgenerate", "DummyWorker-1.begenerate"] == [
        span.name for span in spans
    ]
    assert [1.5, 0.7, 0.8, 2.0] == pytest.approx([span.self_ms for span in spans])
    assert one_request.duration_ms == pytest.approx(sum(span.self_ms for span in spans))


def test_rows_begin_at_the_send(one_request: Trace) -> None:
    """Times are ms since the client sent; a hop waits from its pick until its handler begins."""
    worker = spans_of(one_request)[3]

    assert [1.8, 0.2, 3.8] == pytest.approx([worker.begin_ms, worker.waited_ms, worker.end_ms])
    assert (3.0, 3.7) == pytest.approx(worker.items_ms)
    assert [0, 1, 2, 3] == [span.depth for span in spans_of(one_request)]


def test_ttft_is_a_point_and_waiting_is_hatched(one_request: Trace) -> None:
    """The first item is a mark with its time; what waits is an outline."""
    ax = plot_waterfall(one_request)

    assert ["TTFT 3.50 ms"] == [t.get_text() for t in ax.texts if t.get_text().startswith("TTFT")]
    assert [pytest.approx(3.5)] == [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert [pytest.approx(0.3), pytest.approx(0.2)] == [bar.get_width() for bar in ax.patches if bar.get_hatch()]
    assert "mean ITL 0.70 ms" in ax.get_xlabel()


def test_the_title_is_the_finding(one_request: Trace) -> None:
    """It says where most of the time went."""
    assert "Request r-1: 2.00 of 5.00 ms in DummyWorker-1.begenerate" == plot_waterfall(one_request).get_title(
        loc="left"
    )
    assert (
        "Request r-1 took 5.00 ms, the first item after 3.50 ms; most of it in DummyWorker-1.begenerate, 2.00 ms. "
        "Outcome: ok." == waterfall_picture(one_request).label
    )


def test_a_dead_worker_has_its_own_row(one_request: Trace) -> None:
    """A request that was tried twice shows both tries; the broken one is marked and named."""
    dead = hop_of(
        one_request.hops[1], "DummyWorker-0", "begenerate", routed=2.6, ended=2.7, outcome="WorkerUnavailableError"
    )
    one_request.hops.insert(2, dead)

    spans = spans_of(one_request)
    ax = plot_waterfall(one_request)

    assert one_request.duration_ms == pytest.approx(sum(span.self_ms for span in spans))
    assert any("x WorkerUnavailableError" in text.get_text() for text in ax.texts)


def test_a_request_of_curl_begins_where_it_arrived(one_request: Trace) -> None:
    """Without a client's times there is no client row, and time begins at the Frontend."""
    one_request.sent_ns = one_request.answered_ns = 0

    assert "Frontend-0.fegenerate" == spans_of(one_request)[0].name
    assert "ms since it arrived" in plot_waterfall(one_request).get_xlabel()


def test_a_running_request_is_drawn_as_far_as_it_is() -> None:
    """Nothing is needed but that it began."""
    trace = Trace("r-2")
    front = hop_of(None, "Frontend-0", "fegenerate", started=1, outcome="running")
    trace.hops += [front, hop_of(front, "Processor-0", "mdgenerate", routed=2, outcome="running")]

    assert ["Frontend-0.fegenerate", "Processor-0.mdgenerate"] == [span.name for span in spans_of(trace)]
    assert "no items" in waterfall_picture(trace).label
    assert 2 * MS == trace.end_ns


def test_an_empty_trace_is_drawn_too() -> None:
    """A picture of nothing is a picture."""
    assert "Request r-3 (running): nothing yet" == plot_waterfall(Trace("r-3")).get_title(loc="left")
