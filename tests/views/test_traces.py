"""Traces that draw and save themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynlab.views.traces import Trace, Traces


def test_they_draw_themselves(picked: Callable[..., Traces], one_request: Trace) -> None:
    """Each method gives the picture of its name."""
    traces = picked("random", [0, 1, 1])

    assert "3 requests over 4 workers" in traces.plot_routing().label
    assert "The last 2 picks" in traces.plot_picks(last=2).label
    assert "3 requests over 4 workers by random. " in traces.plot_lanes().label
    assert "random: p99 is 1.0 times p50" in traces.plot_latency().label
    assert "random: p99" not in traces.plot_latency(what="ttft").label
    assert "No requests yet." == traces.plot_lanes("Processor").label
    assert "Request r-1 took" in one_request.plot().label


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_saved_traces_load_as_they_were(name: str, picked: Callable[..., Traces], tmp_path: Path) -> None:
    """Both formats bring back the same counts and the seed, and can be drawn again."""
    traces = picked("random", [0, 1, 1])

    again = Traces.load(traces.save(tmp_path / name))

    assert isinstance(again, Traces)
    assert (7, traces.requests_per_worker()) == (again.seed, again.requests_per_worker())
    assert traces.plot_routing().svg() == again.plot_routing().svg()
    assert traces.plot_lanes().svg() == again.plot_lanes().svg()
    assert traces.plot_latency().svg() == again.plot_latency().svg()


def test_a_format_goes_before_the_suffix(picked: Callable[..., Traces], tmp_path: Path) -> None:
    """`format="otlp"` writes for Jaeger into a `.json` file; an unknown one is named."""
    traces = picked("random", [0, 1, 1])

    assert '{"resourceSpans":' == traces.save(tmp_path / "t.json", format="otlp").read_text()[:17]
    assert 3 == len(Traces.load(traces.save(tmp_path / "t.txt", format="jsonl")))
    with pytest.raises(ValueError, match="format='jaeger' is none; traces are saved as 'jsonl', 'chrome' or 'otlp'"):
        traces.save(tmp_path / "t.json", format="jaeger")  # type: ignore[arg-type]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    """The sentence says which there are."""
    with pytest.raises(ValueError, match=r"saved as .jsonl \(JSON Lines\) or .json \(Chrome trace format\)"):
        Traces().save(tmp_path / "t.csv")


def test_a_part_is_of_the_same_kind(picked: Callable[..., Traces]) -> None:
    """`only` gives traces that draw themselves too."""
    part = picked("random", [0, 1, 2, 3]).only(["r-2", "r-3", "r-99"])

    assert isinstance(part, Traces)
    assert {"DummyWorker-1": 1, "DummyWorker-2": 1} == {w: n for w, n in part.requests_per_worker().items() if n}


def test_the_newest_ten_are_shown(picked: Callable[..., Traces]) -> None:
    """In a notebook a log is a short table, newest first, with nothing taken for markup."""
    traces = picked("random", [0] * 12)
    traces.begin("<b>")

    html = traces._repr_html_()

    assert "13 requests, the newest 10:" in html
    assert "&lt;b&gt;" in html
    assert html.index("r-12") < html.index("r-5")
    assert "r-3<" not in html


def test_matplotlib_waits_for_the_first_picture() -> None:
    """Traces alone do not load it."""
    code = "import sys, dynlab.views.traces; sys.exit('matplotlib' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], timeout=60).returncode
