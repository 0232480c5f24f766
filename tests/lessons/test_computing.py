"""The graph of notebook 03: a worker computes, one request at a time, for as long as its number says."""

from __future__ import annotations

import pytest

from dynlab import serve
from dynlab.errors import ConfigError
from dynlab.lessons.computing import Frontend
from dynlab.views.timeline import timeline_of


def test_a_worker_serves_one_request_at_a_time() -> None:
    """Six at once: one is served, the others wait, and each takes as long as the worker's place in the list says."""
    times = {"DummyWorker": {"compute_ms": [5.0, 20.0]}}
    with serve(Frontend, workers={"DummyWorker": 2}, config=times, name="computing") as deployment:
        batch = deployment.ask_many(12, concurrency=6)

    assert {} == batch.failures
    assert all("_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-" in text for text in batch.answers if text)
    fast, slow = timeline_of(batch.traces).lanes
    assert 1 == max(n for _, n in fast.serving) == max(n for _, n in slow.serving)
    assert slow.turns_ms
    assert fast.busy_ms >= 6 * 5.0
    assert slow.busy_ms >= 6 * 20.0


def test_more_workers_than_times_begin_anew() -> None:
    """The third of three workers takes the first time again."""
    times = {"DummyWorker": {"compute_ms": [0.0, 30.0]}}
    with serve(Frontend, workers={"DummyWorker": 3}, config=times, name="computing") as deployment:
        lanes = timeline_of(deployment.ask_many(3).traces).lanes

    assert lanes[1].busy_ms >= 30.0
    assert lanes[2].busy_ms < 30.0


@pytest.mark.parametrize("times", [[], [-1.0], ["long"]])
def test_times_that_are_none_are_refused(times: list[object]) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError, match="compute_ms"):
        serve(Frontend, config={"DummyWorker": {"compute_ms": times}}, name="computing")
