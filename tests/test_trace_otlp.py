"""Traces as OTLP JSON: by the letter of the format, and true to what happened."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from dynlab import serve
from dynlab.errors import RequestFailedError, TraceFileError
from dynlab.hello_world import Frontend
from dynlab.protocols import Candidate, RoutingDecision
from dynlab.trace_files import read_traces, write_jsonl
from dynlab.trace_log import TraceLog
from dynlab.trace_otlp import write_otlp

SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def traces() -> TraceLog[Any]:
    """Real traces: three streamed answers, and one request that no worker was left for."""
    config = {"DummyWorker": {"stream_words": True}}
    with serve(Frontend, workers={"DummyWorker": 2}, seed=3, config=config, name="otlp") as deployment:
        for n in range(3):
            deployment.ask("one two three", request_id=f"r-{n}")
        deployment.scale("DummyWorker", 0)
        with pytest.raises(RequestFailedError):
            deployment.ask("one", request_id="r-3")
        return deployment.traces


@pytest.fixture
def document(traces: TraceLog[Any], tmp_path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(write_otlp(traces, tmp_path / "t.json").read_text())
    return loaded


def placed(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each span with what is said of its resource."""
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield plain(resource["resource"]["attributes"]), span


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    def value(of: dict[str, Any]) -> Any:
        ((kind, content),) = of.items()
        if kind == "arrayValue":
            return [value(each) for each in content["values"]]
        return int(content) if kind == "intValue" else content

    found = {each["key"]: value(each["value"]) for each in attributes}
    assert len(found) == len(attributes)
    return found


# ---------------------------------------------------------------------------- the format


def test_every_field_is_one_of_the_format(document: dict[str, Any]) -> None:
    """OpenTelemetry's own message takes it, without a field that it does not know, and gives it back the same.

    OTLP writes ids in hexadecimal where JSON of such messages has base64: that is all that is changed for it.
    """

    def with_base64(node: Any) -> Any:
        if isinstance(node, list):
            return [with_base64(each) for each in node]
        if not isinstance(node, dict):
            return node
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else with_base64(value)
            for key, value in node.items()
        }

    ours = with_base64(copy.deepcopy(document))
    message = json_format.ParseDict(ours, TracesData(), ignore_unknown_fields=False)

    again = json_format.MessageToDict(message, use_integers_for_enums=True)
    assert json_format.ParseDict(again, TracesData()) == message
    assert len(list(placed(document))) == len(list(placed(again)))


def test_ids_times_and_kinds_are_written_as_otlp_says(document: dict[str, Any]) -> None:
    """Ids are 32 and 16 lower-case hexadecimal digits, times are text of whole numbers, kinds and codes are numbers."""
    spans = [span for _, span in placed(document)]

    assert len(spans) == len({span["spanId"] for span in spans})
    for span in spans:
        assert re.fullmatch("[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch("[0-9a-f]{16}", span["spanId"])
        assert re.fullmatch("([0-9a-f]{16})?", span["parentSpanId"])
        assert span["kind"] in (SERVER, CLIENT)
        assert span["status"]["code"] in (0, 1, 2)
        times = [span["startTimeUnixNano"], *(e["timeUnixNano"] for e in span.get("events", []))]
        times.append(span["endTimeUnixNano"])
        assert all(isinstance(t, str) and re.fullmatch("[0-9]{19}", t) for t in times)
        assert sorted(times) == times


# ---------------------------------------------------------------------------- what it says


def test_a_request_is_one_tree(document: dict[str, Any]) -> None:
    """Asker, Frontend, Processor and worker, each below who called it; a crossing is a client and a server span."""
    spans = [(about, span) for about, span in placed(document) if request_id(span) == "r-1"]
    names = {span["spanId"]: span["name"] for _, span in spans}

    assert 1 == len({span["traceId"] for _, span in spans})
    tree = {
        (span["name"], names.get(span["parentSpanId"]), span["kind"], about["service.name"]) for about, span in spans
    }
    assert {
        ("request", None, CLIENT, "client"),
        ("Frontend.fegenerate", "request", SERVER, "Frontend"),
        ("send Processor.mdgenerate", "Frontend.fegenerate", CLIENT, "Frontend"),
        ("Processor.mdgenerate", "send Processor.mdgenerate", SERVER, "Processor"),
        ("send DummyWorker.begenerate", "Processor.mdgenerate", CLIENT, "Processor"),
        ("DummyWorker.begenerate", "send DummyWorker.begenerate", SERVER, "DummyWorker"),
    } == tree
    for _, span in spans:
        parent = next((other for _, other in spans if other["spanId"] == span["parentSpanId"]), span)
        assert parent["startTimeUnixNano"] <= span["startTimeUnixNano"]


def test_each_instance_is_a_resource(document: dict[str, Any], traces: TraceLog[Any]) -> None:
    """Jaeger lists services by `service.name`; which worker it was is beside it."""
    abouts = [plain(resource["resource"]["attributes"]) for resource in document["resourceSpans"]]
    instances = {about["service.instance.id"] for about in abouts}

    assert {"client", "Frontend-0", "Processor-0", "DummyWorker-0", "DummyWorker-1"} == instances
    assert {"client", "Frontend", "Processor", "DummyWorker"} == {about["service.name"] for about in abouts}
    for about, span in placed(document):
        if span["name"] == "DummyWorker.begenerate":
            answered_by = traces[request_id(span)].answered_by
            assert answered_by is not None
            assert answered_by.worker == about["service.instance.id"]


def test_items_are_events_and_picks_are_attributes(document: dict[str, Any], traces: TraceLog[Any]) -> None:
    """Numbers are those of the trace, to the nanosecond, moved to the time of day all alike."""
    span = next(s for _, s in placed(document) if s["name"] == "DummyWorker.begenerate" and request_id(s) == "r-0")
    send = next(s for _, s in placed(document) if s["spanId"] == span["parentSpanId"])
    hop = traces["r-0"].hops[2]
    offset = int(span["startTimeUnixNano"]) - hop.started_ns

    assert [t + offset for t in hop.item_ns] == [int(event["timeUnixNano"]) for event in span["events"]]
    assert (hop.ended_ns, hop.routed_ns) == (
        int(span["endTimeUnixNano"]) - offset,
        int(send["startTimeUnixNano"]) - offset,
    )
    pick = plain(send["attributes"])
    assert ("round-robin", hop.worker, str(hop.instance_id)) == (
        pick["dynlab.router_mode"],
        pick["dynlab.worker"],
        pick["dynlab.instance_id"],
    )
    assert ["DummyWorker-0", "DummyWorker-1"] == pick["dynlab.candidates"]
    assert [0, 0] == pick["dynlab.active_requests"]
    assert abs(time.time_ns() - int(span["startTimeUnixNano"])) < 600 * 10**9


def test_a_failure_is_an_error_and_a_hang_up_is_none(traces: TraceLog[Any], tmp_path: Path) -> None:
    """What failed says with what; what was stopped or still runs has no verdict, and a span of its own all the same."""
    log = read_traces(write_jsonl(traces, tmp_path / "t.jsonl"))
    hop = log["r-0"].hops[0]
    hop.outcome = "stopped"
    running = log["r-1"].hops[2]
    running.outcome, running.ended_ns = "running", 0
    document = json.loads(write_otlp(log, tmp_path / "t.json").read_text())

    def status(request: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            s["status"] for _, s in placed(document) if request_id(s) == request and s["name"] == name
        )
        return found

    assert {"code": 1} == status("r-2", "Frontend.fegenerate")
    assert {"code": 2, "message": "NoInstancesError"} == status("r-3", "Frontend.fegenerate")
    assert {"code": 0} == status("r-0", "Frontend.fegenerate") == status("r-1", "DummyWorker.begenerate")
    assert all(int(s["endTimeUnixNano"]) >= int(s["startTimeUnixNano"]) for _, s in placed(document))


def test_one_request_id_asked_twice_is_two_traces(tmp_path: Path) -> None:
    """Ids come from the request and its time, so that another file of the same run has the same ones."""
    log: TraceLog[Any] = TraceLog()
    for _ in range(2):
        hop = log.begin("same").hop(None, "Frontend", "fegenerate")
        hop.started("dynlab-Frontend-0")
        hop.ended("ok")

    first, second = (write_otlp(log, tmp_path / name).read_text() for name in ("a.json", "b.json"))

    assert first == second
    assert 2 == len({span["traceId"] for _, span in placed(json.loads(first))})


def test_ids_of_the_real_engine_and_items_beyond_the_timed_fit(tmp_path: Path) -> None:
    """Instance ids of 64 bits are kept to the last digit; items without a time are counted as left out."""
    log: TraceLog[Any] = TraceLog()
    hop = log.begin("r").hop(None, "Worker", "generate")
    huge = 2**64 - 1
    hop.instance_id, hop.worker, hop.routed_ns = huge, "Worker-0", 5
    hop.decision = RoutingDecision("random", huge, (Candidate(huge, "Worker-0", 0, True),))
    hop.started_ns, hop.item_ns, hop.items, hop.ended_ns, hop.outcome = 6, (7, 8), 5_000, 9, "ok"

    send, span = (s for _, s in placed(json.loads(write_otlp(log, tmp_path / "t.json").read_text())))

    assert str(huge) == plain(send["attributes"])["dynlab.instance_id"]
    assert (2, 4_998) == (len(span["events"]), span["droppedEventsCount"])


def test_reading_it_back_says_what_to_save_instead(traces: TraceLog[Any], tmp_path: Path) -> None:
    """It is for other programs."""
    with pytest.raises(TraceFileError, match=r"dynlab does not read OTLP. Save a .jsonl file too"):
        read_traces(write_otlp(traces, tmp_path / "t.json"))


def request_id(span: dict[str, Any]) -> str:
    return str(plain(span["attributes"])["dynlab.request_id"])
