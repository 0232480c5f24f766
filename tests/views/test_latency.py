"""Latencies: percentiles by nearest rank, a line a run, and numbers that do not lie on each other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.latency import POINTS, Runs, plot_latency, runs_of
from dynlab.views.pictures import latency_picture
from dynlab.views.style import MODES, mode_style
from dynlab.views.traces import Traces
from tests.views.conftest import FIRST_ID, hop_of

SIX = ("round-robin", "random", "direct", "power-of-two", "least-loaded", "my_pick")


def timed(times: Iterable[float], mode: str = "round-robin", outcome: str = "ok", into: Traces | None = None) -> Traces:
    """Requests that took so many ms, with a first item after half of it."""
    traces = Traces(seed=7) if into is None else into
    for took in times:
        trace = traces.begin(f"{mode}-{len(traces)}")
        hop = hop_of(None, "W-0", "begenerate", routed=1, started=1, ended=1 + took, outcome=outcome)
        hop.item_ns = [int((1 + took / 2) * 1e6)]
        hop.instance_id = FIRST_ID
        hop.decision = RoutingDecision(mode, FIRST_ID, (Candidate(FIRST_ID, "W-0", 0),))
        trace.hops.append(hop)
    return traces


def texts(ax: Axes) -> list[str]:
    return [text.get_text().strip() for text in ax.texts]


def test_a_percentile_is_the_nearest_rank() -> None:
    """It is a time that a request really took: of 1..10 ms, p50 is the fifth, p95 and p99 the tenth."""
    (run,) = runs_of(timed([3, 1, 2, 10, 4, 5, 9, 6, 8, 7]))

    assert [5, 10, 10, 1, 10] == [pytest.approx(run.percentile(p)) for p in (50, 95, 99, 0, 100)]
    assert 5.5 == pytest.approx(run.mean)


@pytest.mark.parametrize(("n", "p99"), [(1, 1), (99, 99), (100, 99), (101, 100), (200, 198)])
def test_p99_leaves_out_a_hundredth(n: int, p99: int) -> None:
    """Of a hundred requests it is the slowest but one; of fewer it is the slowest, and the note says so."""
    traces = timed(range(1, n + 1))

    assert pytest.approx(p99) == runs_of(traces)[0].percentile(99)
    assert (n < 100) == ("of fewer than 100, p99 is the slowest" in plot_latency(traces).get_xlabel())


def test_a_line_rises_to_all_requests() -> None:
    """From 0 at the fastest to 100 % at the slowest, up by the same share at each."""
    ax = plot_latency(timed([1, 2, 4, 8]))

    (line,) = [line for line in ax.lines if line.get_drawstyle().startswith("steps")]
    assert [1, 1, 2, 4, 8] == pytest.approx(list(line.get_xdata()))
    assert [0, 25, 50, 75, 100] == list(line.get_ydata())
    assert "log" == ax.get_xscale()
    assert "time in the system, ms (log)" == ax.get_xlabel().splitlines()[0]
    assert [0, 25, 50, 75, 100] == list(ax.get_yticks())


def test_the_cursors_are_read_off() -> None:
    """p50, p95 and p99 are lines, with a mark and the time where they cross."""
    ax = plot_latency(timed(range(1, 201)))

    assert ["p50", "100", "p95", "190", "p99", "198", "round-robin"] == texts(ax)
    assert [50, 95, 99] == [line.get_ydata()[0] for line in ax.lines if [0, 1] == list(line.get_xdata())]
    assert [(100, 50), (190, 95), (198, 99)] == [
        (pytest.approx(line.get_xdata()[0]), line.get_ydata()[0])
        for line in ax.lines
        if len(line.get_xdata()) == 1 and line.get_ydata()[0] < 100
    ]


def test_one_log_is_split_by_mode() -> None:
    """Each mode has its own line in its own look, named at its end with the mean and p99."""
    both = timed([5, 6], "random", into=timed([1, 2], "round-robin"))

    ax = plot_latency(both)

    lines = [line for line in ax.lines if line.get_drawstyle().startswith("steps")]
    assert [mode_style(m).colour.lower() for m in ("round-robin", "random")] == [to_hex(x.get_color()) for x in lines]
    assert [mode_style("round-robin").line, mode_style("random").line] == [line.get_linestyle() for line in lines]
    assert ["round-robin: mean 1.5, p99 2 ms", "random: mean 5.5, p99 6 ms"] == texts(ax)[-2:]


def test_runs_are_compared_by_name() -> None:
    """A mapping names the lines; the finding compares the highest p99 with the lowest."""
    picture = latency_picture({"round-robin": timed([1, 2, 3]), "random": timed([1, 2, 3.2 * 3], "random")})

    assert "p99 of random is 3.2 times that of round-robin, its mean 2.1 times." == picture.label
    assert ["run", "n", "mean ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "not drawn"] == picture.table.header
    assert ["round-robin", 3, "2.000", "2.000", "3.000", "3.000", "3.000", 0] == picture.table.rows[0]
    assert "n = 3 each · seed = 7" in picture.axes.get_xlabel()


def test_the_same_mean_can_hide_another_p99() -> None:
    """Then the sentence says that the means are the same."""
    even, uneven = timed([10] * 100), timed([*[9] * 98, 59, 59], "random")

    assert "p99 of random is 5.9 times that of round-robin, at the same mean." == (
        latency_picture({"round-robin": even, "random": uneven}).label
    )


def test_two_runs_of_one_mode_differ_in_their_dashes() -> None:
    """Colour says the mode; the second line of a mode takes dashes that are free."""
    runs = runs_of({"4 workers": timed([1]), "8 workers": timed([2]), "random": timed([3], "random")})

    assert [MODES["round-robin"].colour] * 2 + [MODES["random"].colour] == [run.style.colour for run in runs]
    assert 2 == len({run.style.line for run in runs[:2]})


def test_who_did_not_end_well_is_counted_not_drawn() -> None:
    """A request that failed at once was not fast."""
    traces = timed([5, 6])
    timed([0.1, 0.2], outcome="StreamIncompleteError", into=traces)
    timed([0.3], outcome="stopped", into=traces)

    picture = latency_picture(traces)

    assert "n = 2 · seed = 7 · 2 failed, not drawn · 1 stopped, not drawn" in picture.axes.get_xlabel()
    assert picture.label.endswith(" 3 requests that did not end well are not drawn.")
    assert ["round-robin", 2, 3] == [picture.table.rows[0][0], picture.table.rows[0][1], picture.table.rows[0][-1]]


def test_a_run_of_failures_only_has_no_line() -> None:
    """It still has its row in the table."""
    picture = latency_picture({"a": timed([5]), "b": timed([1], outcome="ValueError")})

    assert ["b", 0, "", "", "", "", "", 1] == picture.table.rows[1]
    assert picture.label.startswith("a: one request, 5 ms.")


def test_the_time_to_the_first_item_can_be_asked_for() -> None:
    """With "ttft"; an answer without items has none, and is counted."""
    traces = timed([4, 8])
    traces["round-robin-0"].hops[0].item_ns = []

    picture = latency_picture(traces, what="ttft")

    assert ["round-robin", 1, "4.000"] == picture.table.rows[0][:3]
    assert "time to first token, ms (log)" in picture.axes.get_xlabel()
    assert "1 without items, not drawn" in picture.axes.get_xlabel()
    with pytest.raises(ValueError, match="what='p99' must be 'total' or 'ttft'"):
        plot_latency(traces, what="p99")  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.3, 3.0])
@pytest.mark.parametrize("ascending", [True, False])
def test_no_two_texts_overlap(factor: float, ascending: bool) -> None:
    """Six lines, close together or far apart: names and numbers keep clear of each other, and of the edge."""
    modes = SIX if ascending else SIX[::-1]
    runs: Runs = {
        mode: timed([10 * factor**n * (1 + k / 50) for k in range(100)], mode) for n, mode in enumerate(modes)
    }

    figure = plot_latency(runs).figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type]
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]

    apart = [(one, other) for one, other in combinations(figure.axes[0].texts, 2)]
    clashes = [
        (one.get_text(), other.get_text())
        for (one, other), (box, other_box) in zip(apart, combinations(boxes, 2), strict=True)
        if box.padded(-1.5).overlaps(other_box.padded(-1.5))
    ]
    assert [] == clashes
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_many_requests_are_few_points() -> None:
    """The line keeps its shape, its first and its last request."""
    ax = plot_latency(timed(1 + n % 977 for n in range(3000)))

    line = next(line for line in ax.lines if line.get_drawstyle().startswith("steps"))
    assert POINTS + 2 >= len(line.get_xdata())
    assert (1, 977) == (pytest.approx(line.get_xdata()[0]), pytest.approx(line.get_xdata()[-1]))


def test_a_time_of_nothing_can_be_drawn() -> None:
    """A logarithmic axis has no 0: the axis begins at a microsecond."""
    assert plot_latency(timed([0, 0, 1])).get_xlim()[0] > 0


def test_no_requests_are_no_error() -> None:
    """The picture exists before the first request, and for no run at all."""
    assert "No requests yet." == latency_picture(Traces()).label
    assert "No requests yet." == latency_picture({}).label
    assert "n = 0" in latency_picture({}).axes.get_xlabel()
