"""Pictures of ten thousand requests stay small: few marks and short files, for that is what makes them quick.

Measured by hand, since time is no matter for a test: each takes less than a second on a laptop, most of it to read
the requests back from the log.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from matplotlib.axes import Axes

from dynlab.protocols import Candidate, RoutingDecision
from dynlab.views.figure import MAX_ROWS, Picture
from dynlab.views.traces import Traces
from tests.views.conftest import FIRST_ID, hop_of

REQUESTS = 10_000
MARKS = 1000
SVG = 300_000


def busy(workers: int) -> Traces:
    """Workers that serve one at a time, picked at random, busy most of the time; one request in fifty fails."""
    rng = Random(7)
    candidates = tuple(Candidate(FIRST_ID + n, f"W-{n}", 0) for n in range(workers))
    free = [0.0] * workers
    traces = Traces(seed=7)
    now = 1.0
    for number in range(REQUESTS):
        now += rng.expovariate(workers / 5)
        pick = rng.randrange(workers)
        started = max(now + 0.1, free[pick])
        free[pick] = ended = started + rng.expovariate(1 / 4)
        outcome = "StreamIncompleteError" if number % 50 == 0 else "ok"
        hop = hop_of(
            None, f"W-{pick}", "begenerate", routed=now, started=started, ended=ended, items=[ended], outcome=outcome
        )
        hop.instance_id = FIRST_ID + pick
        hop.decision = RoutingDecision("random" if number % 2 else "round-robin", FIRST_ID + pick, candidates)
        traces.begin(f"r-{number}").hops.append(hop)
    return traces


@pytest.fixture(scope="module")
def many() -> Traces:
    return busy(16)


def marks(ax: Axes) -> int:
    """Count what is seen one by one: areas, bars, words, lines, and each point of a line of markers."""
    points = sum(len(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "None")
    return len(ax.patches) + len(ax.texts) + len(ax.lines) + len(ax.collections) + points


@pytest.mark.parametrize(
    "draw",
    [
        lambda traces: traces.plot_routing(),
        lambda traces: traces.plot_picks(last=REQUESTS),
        lambda traces: traces.plot_lanes(),
        lambda traces: traces.plot_latency(),
        lambda traces: traces.plot_latency(what="ttft"),
    ],
    ids=["routing", "picks", "lanes", "latency", "ttft"],
)
def test_few_marks_and_a_short_file(many: Traces, draw: Callable[[Traces], Picture]) -> None:
    """At most a thousand marks and some more words, 300 KB of SVG, and a table that is cut."""
    picture = draw(many)

    assert marks(picture.axes) <= MARKS + 100
    assert len(picture.svg()) <= SVG
    assert picture._repr_html_().count("<tr>") <= MAX_ROWS + 2


def test_many_lanes_are_as_small() -> None:
    """What one lane may take gets less the more lanes there are."""
    picture = busy(64).plot_lanes()

    assert marks(picture.axes) <= MARKS + 100
    assert len(picture.svg()) <= SVG
