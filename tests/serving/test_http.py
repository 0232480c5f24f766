"""Every answer that HTTP can give: each status, both forms of a stream, errors early and late, and hanging up."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from dynlab.errors import RequestFailedError
from dynlab.protocols import GeneralRequest, GeneralResponse
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving import body as body_module
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

JOIN_S = 5.0
EVENTS = {"accept": "text/event-stream"}
CLOSED = threading.Event()
"""Set when the generator of an endless answer is closed."""


class Inner(BaseModel):
    n: int


@service(dynamo={"namespace": "test"}, workers=0)
class Nobody:
    @dynamo_endpoint()
    async def begenerate(self, request):
        yield request


@service(dynamo={"namespace": "test"})
class Worker:
    @dynamo_endpoint()
    async def endless(self, request):
        try:
            while True:
                yield "on and on"
                await asyncio.sleep(0.001)
        finally:
            CLOSED.set()

    @dynamo_endpoint()
    async def fail(self, request: GeneralRequest):
        if request.prompt == "late":
            yield "one"
            yield "two"
        raise LookupError(f"no such {request.prompt} thing")


@service(dynamo={"namespace": "test"})
class Frontend:
    """The front of a test."""

    worker = depends(Worker)
    nobody = depends(Nobody)

    @api
    async def fegenerate(self, prompt, request_id):
        """Give the words back.

        One by one.
        """
        for word in prompt.split(" "):
            yield word

    @api
    async def whole(self, item: str):
        yield item

    @api
    async def values(self):
        yield {"a": [1, None]}
        yield GeneralResponse(worker_output="w", request_id="r")
        yield 7

    @api
    async def unsayable(self, late: bool):
        if late:
            yield "one"
        yield object()

    @api
    async def empty(self):
        for nothing in ():
            yield nothing

    @api
    async def endless(self):
        async for item in self.worker.endless(None):
            yield item

    @api
    async def fail(self, prompt: str):
        async for item in self.worker.fail({"prompt": prompt}):
            yield item

    @api
    async def nobody_there(self):
        async for item in self.nobody.begenerate(None):
            yield item

    @api
    async def typed(self, prompt: str, times: Annotated[int, Field(ge=1, le=3)] = 2, inner: Inner | None = None):
        yield prompt * times
        yield inner

    @api
    async def model(self, request: GeneralRequest):
        yield f"{request.prompt}, {request.request_id}"

    @api
    async def value(self, kind: str):
        return {"dict": {"a": 1}, "str": "text", "bytes": b"text", "model": Inner(n=1), "none": None, "list": [1]}[kind]

    @api
    async def response(self):
        return PlainTextResponse("brewing", status_code=418, headers={"x-pot": "tea"})

    @api
    async def value_fails(self, how: str):
        if how == "raise":
            raise ZeroDivisionError
        return object()

    @api(name="where-am-I")
    async def where(self):
        yield dynamo_context["hostname"]


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with serve(Frontend, name="test_http") as deployment:
        yield deployment


@pytest.fixture
def client(deployment: Deployment) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deployment.url, trust_env=False, timeout=10) as client:
        yield client


def raw(deployment: Deployment, *parts: bytes) -> socket.socket:
    """Send bytes by hand."""
    sock = socket.create_connection(("127.0.0.1", deployment.port), timeout=10)
    for part in parts:
        sock.sendall(part)
    return sock


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *lines, "", ""]).encode()


def strict(response: httpx.Response) -> Any:
    """Read JSON as the standard has it: no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert "application/json" == response.headers["content-type"].partition(";")[0]
    return json.loads(response.text, parse_constant=refuse)


# ---------------------------------------------------------------------------- 200


def test_who_accepts_events_gets_events(client: httpx.Client) -> None:
    """One `data:` frame an item."""
    answer = client.post("/fegenerate", json={"prompt": "a b c", "request_id": "r"}, headers=EVENTS)

    assert (200, "text/event-stream; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert "no-cache" == answer.headers["cache-control"]
    assert "data: a\n\ndata: b\n\ndata: c\n\n" == answer.text


def test_everybody_else_gets_the_bare_text(client: httpx.Client) -> None:
    """The yielded text as it is, one HTTP chunk an item, as Dynamo 0.1 sent it."""
    with client.stream("POST", "/fegenerate", json={"prompt": "a b c", "request_id": "r"}) as answer:
        content_type = answer.headers["content-type"]
        chunked = answer.headers["transfer-encoding"]
        text = "".join(answer.iter_text())

    assert ("text/plain; charset=utf-8", "chunked", "abc") == (content_type, chunked, text)


@pytest.mark.parametrize(
    ("accept", "events"),
    [("text/event-stream", True), ("text/html, text/event-stream;q=0.9", True), ("*/*", False), ("text/plain", False)],
)
def test_the_accept_header_decides(client: httpx.Client, accept: str, events: bool) -> None:
    """Events only for who names them."""
    answer = client.post("/whole", json={"item": "x"}, headers={"accept": accept})

    assert ("data: x\n\n" if events else "x") == answer.text


def test_the_first_item_comes_before_the_last_is_made(client: httpx.Client) -> None:
    """Of an endless answer the beginning arrives."""
    with client.stream("POST", "/endless", json={}, headers=EVENTS) as answer:
        assert next(answer.iter_text()).startswith("data: on and on\n\n")


@pytest.mark.parametrize("item", ["a\nb", "\n", "", " a ", "Zürich 東京 🗼", "a\u2028b\x0bc\x85d\x1ce", "data: x"])
def test_any_text_arrives_whole(deployment: Deployment, client: httpx.Client, item: str) -> None:
    """Several lines, empty lines and other alphabets survive both forms."""
    assert [item] == deployment.ask(item, api="whole")
    assert item == client.post("/whole", json={"item": item}).text


def test_values_and_models_are_sent_as_json(deployment: Deployment) -> None:
    """An item that is no text has a text all the same."""
    assert ['{"a": [1, null]}', '{"worker_output":"w","request_id":"r"}', "7"] == deployment.ask(api="values")


def test_an_answer_may_have_no_items(deployment: Deployment, client: httpx.Client) -> None:
    """Status 200 and nothing in it."""
    assert [] == deployment.ask(api="empty")
    assert (200, "") == ((answer := client.post("/empty", json={})).status_code, answer.text)


def test_defaults_and_annotated_types(deployment: Deployment) -> None:
    """A key that is left out has the method's default; a model is made from its object."""
    assert ["xx", "null"] == deployment.ask("x", api="typed")
    assert ["xxx", '{"n":1}'] == deployment.ask("x", 3, {"n": 1}, api="typed")


def test_a_model_is_the_whole_body(deployment: Deployment, client: httpx.Client) -> None:
    """As in Dynamo 0.3; `ask` fills the model's keys by place or by name."""
    assert "p, id_string" == client.post("/model", json={"prompt": "p"}).text
    assert ["p, r"] == deployment.ask("p", "r", api="model")
    assert ["user input, r"] == deployment.ask(request_id="r", api="model")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("dict", '{"a": 1}'),
        ("str", '"text"'),
        ("bytes", '"text"'),
        ("model", '{"n":1}'),
        ("none", "null"),
        ("list", "[1]"),
    ],
)
def test_a_method_that_returns_answers_json(client: httpx.Client, kind: str, text: str) -> None:
    """`async def` without `yield`: the value is the body."""
    answer = client.post("/value", json={"kind": kind})

    assert (200, text) == (answer.status_code, answer.text)
    strict(answer)


def test_a_method_may_return_a_response_of_its_own(client: httpx.Client) -> None:
    """Any response of FastAPI or Starlette is sent as it is."""
    answer = client.post("/response", json={})

    assert (418, "brewing", "tea") == (answer.status_code, answer.text, answer.headers["x-pot"])


def test_a_route_may_have_another_name(deployment: Deployment) -> None:
    """`@api(name=...)` is the path."""
    assert ["Frontend-0"] == deployment.ask(api="where-am-I")


def test_the_request_id_of_the_header_names_the_trace(deployment: Deployment, client: httpx.Client) -> None:
    """The header counts first, then the body's `request_id`, and else a number is given."""
    body = {"prompt": "a", "request_id": "in-body"}
    client.post("/fegenerate", json=body, headers={"x-request-id": "in-header"})
    assert "in-header" == deployment.traces.last.request_id
    client.post("/fegenerate", json=body)
    assert "in-body" == deployment.traces.last.request_id
    client.post("/empty", json={})
    assert deployment.traces.last.request_id.startswith("http-")


# ---------------------------------------------------------------------------- 4xx


def test_each_missing_and_unknown_key_is_named(client: httpx.Client) -> None:
    """422, with FastAPI's `detail` and a sentence for people."""
    answer = client.post("/fegenerate", json={"promt": "x", "b": 1})
    report = strict(answer)

    assert 422 == answer.status_code
    assert (
        "POST /fegenerate takes the keys prompt, request_id; missing: prompt, request_id; unknown: promt, b. "
        "Did you mean 'prompt'?"
    ) == report["message"]
    assert {
        ("missing", "prompt"),
        ("missing", "request_id"),
        ("extra_forbidden", "promt"),
        ("extra_forbidden", "b"),
    } == {(each["type"], each["loc"][1]) for each in report["detail"]}


def test_the_sentence_reaches_who_asks_from_a_cell(deployment: Deployment) -> None:
    """`ask(promt=...)` raises one sentence."""
    with pytest.raises(RequestFailedError, match=r"HTTP 422: .* unknown: promt\. Did you mean 'prompt'\?"):
        deployment.ask(promt="x")


def test_broken_json_is_400(client: httpx.Client) -> None:
    """The sentence says where it breaks."""
    answer = client.post("/fegenerate", content=b'{"prompt": ')

    assert 400 == answer.status_code
    assert strict(answer)["message"].startswith("The body is no JSON: Invalid JSON: EOF while parsing")


def test_a_connection_survives_errors(client: httpx.Client) -> None:
    """After 400, 422 and 500 the same connection answers the next request."""
    statuses = [
        client.post("/fail", content=content).status_code
        for content in (b"{", b"{}", b'{"prompt": "early"}', b'{"prompt": "early"}')
    ]

    assert [400, 422, 500, 500] == statuses
    assert 1 == len(client._transport._pool.connections)


def test_a_body_that_is_announced_too_large_is_413(deployment: Deployment) -> None:
    """Nothing of it is waited for."""
    with raw(deployment, head("/whole", "content-length: 9000000")) as sock:
        answer = sock.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"The body has 9000000 bytes or more; at most 4194304 are taken. Send a shorter prompt." in answer


def test_a_chunked_body_that_grows_too_large_is_413(client: httpx.Client) -> None:
    """What has no length is counted."""

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 1024 * 1024

    answer = client.post("/whole", content=chunks())

    assert 413 == answer.status_code
    assert "at most 4194304 are taken" in strict(answer)["message"]


def test_a_body_of_four_megabytes_is_taken(client: httpx.Client) -> None:
    """A long prompt is fine."""
    item = "x" * 4_000_000

    assert len(item) == len(client.post("/whole", json={"item": item}).text)


@pytest.mark.parametrize("part", [b"", b'{"it'], ids=["no byte", "some bytes"])
def test_a_body_that_comes_too_slowly_is_408(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    """A client that stops sending does not hold the Frontend."""
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.05)
    with raw(deployment, head("/whole", "content-length: 20"), part) as sock:
        answer = sock.recv(65536)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert f"The body did not arrive within 0.05 s; {len(part)} bytes did. Send it faster.".encode() in answer


def test_a_client_that_leaves_in_its_body_leaves_nothing(deployment: Deployment, client: httpx.Client) -> None:
    """No trace, no complaint in the logs."""
    traces, lines = len(deployment.traces), len(deployment.logs())
    raw(deployment, head("/whole", "content-length: 20"), b'{"it').close()
    client.post("/empty", json={})

    assert traces + 1 == len(deployment.traces)
    assert lines == len(deployment.logs())


# ---------------------------------------------------------------------------- 5xx


def test_nobody_there_is_503(client: httpx.Client) -> None:
    """The endpoint is named, and how to get a worker."""
    answer = client.post("/nobody_there", json={})
    report = strict(answer)

    assert (503, "NoInstancesError") == (answer.status_code, report["type"])
    assert (
        "No workers available for endpoint test/Nobody/begenerate: no instance has registered. "
        "Start or revive one with scale()."
    ) == report["detail"]


def test_a_handlers_error_is_500_with_its_type_and_message(deployment: Deployment, client: httpx.Client) -> None:
    """And with the note that says which instance raised it."""
    answer = client.post("/fail", json={"prompt": "early"})
    report = strict(answer)
    worker = next(i for i in deployment.instances if i.worker == "Worker-0")

    assert (500, "LookupError", "no such early thing") == (answer.status_code, report["type"], report["detail"])
    assert [f"raised by test/Worker/fail on instance {worker.instance_id} (Worker-0)"] == report["notes"]
    assert "LookupError" == deployment.traces.last.outcome


@pytest.mark.parametrize(("how", "kind"), [("raise", "ZeroDivisionError"), ("return", "TypeError")])
def test_a_method_that_returns_may_fail_too(client: httpx.Client, how: str, kind: str) -> None:
    """Its error, or a value that JSON cannot say; an error without words is called by its type."""
    answer = client.post("/value_fails", json={"how": how})
    report = strict(answer)

    assert (500, kind) == (answer.status_code, report["type"])
    assert report["detail"] in ("ZeroDivisionError", "Object of type object is not JSON serializable")


def test_an_error_after_the_first_item_is_an_event(client: httpx.Client) -> None:
    """The status is sent by then; the event says type and message."""
    answer = client.post("/fail", json={"prompt": "late"}, headers=EVENTS)

    error = json.dumps({"type": "LookupError", "detail": "no such late thing"})
    assert 200 == answer.status_code
    assert f"data: one\n\ndata: two\n\nevent: error\ndata: {error}\n\n" == answer.text


def test_an_error_in_the_middle_gives_what_came_before(deployment: Deployment) -> None:
    """`ask` raises, and the error holds the items."""
    with pytest.raises(RequestFailedError) as raised:
        deployment.ask("late", api="fail")

    assert ("one", "two") == raised.value.items
    assert "The Frontend answered HTTP 200 after 2 item(s): LookupError: no such late thing" == str(raised.value)


def test_bare_text_breaks_off(client: httpx.Client) -> None:
    """It has no way to say an error, so the client must not take it for whole."""
    with (
        client.stream("POST", "/fail", json={"prompt": "late"}) as answer,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        answer.read()


@pytest.mark.parametrize("late", [False, True])
def test_an_item_that_json_cannot_say_is_the_handlers_error(client: httpx.Client, late: bool) -> None:
    """First or later, it is reported as any error."""
    answer = client.post("/unsayable", json={"late": late}, headers=EVENTS)

    assert (200 if late else 500) == answer.status_code
    assert "Object of type object is not JSON serializable" in answer.text


# ---------------------------------------------------------------------------- hanging up


@pytest.mark.parametrize("headers", [EVENTS, {}], ids=["events", "text"])
def test_hanging_up_stops_the_worker(deployment: Deployment, client: httpx.Client, headers: dict[str, str]) -> None:
    """The worker's generator is closed, and the trace says stopped."""
    CLOSED.clear()
    with client.stream("POST", "/endless", json={}, headers=headers | {"x-request-id": "left"}) as answer:
        next(answer.iter_bytes())

    assert CLOSED.wait(JOIN_S)
    while "running" in {hop.outcome for hop in deployment.traces["left"].hops}:
        time.sleep(0.001)
    assert {"stopped"} == {hop.outcome for hop in deployment.traces["left"].hops}


# ---------------------------------------------------------------------------- speed


def test_kept_alive_requests_take_no_45_ms(client: httpx.Client) -> None:
    """A guard against Nagle's algorithm: the median of fifty requests on one connection is under 10 ms."""
    took = []
    for _ in range(50):
        began = time.perf_counter()
        client.post("/whole", json={"item": "x"})
        took.append(time.perf_counter() - began)

    assert statistics.median(took) < 0.010


def test_streams_are_typed_as_they_are_written() -> None:
    """A return annotation of the method plays no part in how it is served."""

    @service(dynamo={"namespace": "test"})
    class Noted:
        @api
        async def say(self, text: str) -> AsyncIterator[str]:
            yield text

    with serve(Noted) as deployment:
        assert ["x"] == deployment.ask("x")
