"""Traces as files: exact when read again, well-formed for Perfetto, and honest about damage."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dynlab import serve
from dynlab.errors import TraceFileError
from dynlab.hello_world import Frontend
from dynlab.trace_files import read_traces, write_chrome, write_jsonl
from dynlab.trace_log import TraceLog

WRITERS = {"t.jsonl": write_jsonl, "t.json": write_chrome}


@pytest.fixture(scope="module")
def traces() -> TraceLog[Any]:
    """Real traces of three requests, one of them streamed by word."""
    config = {"DummyWorker": {"stream_words": True}}
    with serve(Frontend, workers={"DummyWorker": 2}, seed=3, config=config, name="files") as deployment:
        for n in range(3):
            deployment.ask("one two three", request_id=f"r-{n}")
        return deployment.traces


def everything(log: TraceLog[Any]) -> list[Any]:
    return [(trace.request_id, trace.events, trace.decisions, [hop.depth for hop in trace.hops]) for trace in log]


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_read_is_what_was_written(name: str, traces: TraceLog[Any], tmp_path: Path) -> None:
    """Events, decisions, nesting and seed survive both formats to the nanosecond."""
    again = read_traces(WRITERS[name](traces, tmp_path / name))

    assert everything(traces) == everything(again)
    assert 3 == again.seed


def test_the_chrome_file_is_what_perfetto_reads(traces: TraceLog[Any], tmp_path: Path) -> None:
    """A slice a hop on its thread's row, an arrow into each hop that was routed, all in microseconds."""
    document = json.loads(write_chrome(traces, tmp_path / "t.json").read_text())
    events = document["traceEvents"]

    rows = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    slices = [event for event in events if event["ph"] == "X"]
    assert 9 == len(slices)
    assert all(event["dur"] >= 0 and event["tid"] in rows for event in slices)
    assert {"dynlab-Frontend-0", "dynlab-Processor-0"} < set(rows.values())
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert 6 == len(starts)
    assert set(starts) == set(ends)
    assert all(starts[i]["ts"] <= ends[i]["ts"] and starts[i]["tid"] != ends[i]["tid"] for i in starts)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "was not written by dynlab"),
        ("\x89PNG\r\n", "line 1: no JSON"),
        ("{}", "was not written by dynlab"),
        ('{"format":"dynlab-trace-1","seed":1}\n{"request_id"', "line 2: no JSON"),
        ('{"format":"dynlab-trace-1","seed":1}\n{"request_id":"r"}', "without what dynlab writes"),
        ('{"format":"dynlab-trace-1","seed":1}\n[1]', "without what dynlab writes"),
        ('{"otherData":{"format":"dynlab-trace-1"}}', "without what dynlab writes"),
    ],
)
def test_a_damaged_file_says_where(text: str, sentence: str, tmp_path: Path) -> None:
    """The sentence names the file and, where there is one, the line."""
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(text.encode("latin-1"))

    with pytest.raises(TraceFileError, match=sentence) as raised:
        read_traces(damaged)
    assert "damaged.jsonl" in str(raised.value)


def test_requests_at_once_get_rows_of_their_own(tmp_path: Path) -> None:
    """Slices of one row never overlap, however many requests a thread has at once; what never ran has no row."""
    config = {"DummyWorker": {"first_token_ms": 5}}
    with serve(Frontend, workers={"DummyWorker": 1}, config=config, name="rows") as deployment:
        deployment.ask_many(40, concurrency=8)
        deployment.traces.last.hop(None, "Nobody", "never")
        written = write_chrome(deployment.traces, tmp_path / "t.json")

    events = json.loads(written.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert "dynlab-DummyWorker-0 (2)" in names.values()
    assert "" not in names.values()
    for row in names:
        slices = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == row)
        assert all(end <= start + 0.001 for (_, end), (start, _) in pairwise(slices))
