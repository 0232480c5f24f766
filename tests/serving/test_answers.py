"""One answer, read item by item with `for` or `async for`, left early, or broken off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing

import httpx
import pytest

from dynlab.errors import DeploymentError, RequestFailedError
from dynlab.sdk.endpoint import api
from dynlab.sdk.service import service
from dynlab.serving import answers
from dynlab.serving.answers import AnswerStream, Question, failure
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from dynlab.trace_log import TraceLog

JOIN_S = 5.0
CLOSED = threading.Event()
GO_ON = threading.Event()


@service(dynamo={"namespace": "test"})
class Frontend:
    @api
    async def words(self, prompt, request_id):
        for word in prompt.split(" "):
            yield word

    @api
    async def endless(self):
        try:
            while True:
                yield "more"
                await asyncio.sleep(0.001)
        finally:
            CLOSED.set()

    @api
    async def fail_late(self):
        yield "one"
        raise LookupError("gone")

    @api
    async def hold(self):
        yield "one"
        while not GO_ON.is_set():
            await asyncio.sleep(0.001)
        yield "two"


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    CLOSED.clear()
    GO_ON.clear()
    with serve(Frontend) as deployment:
        yield deployment


# ---------------------------------------------------------------------------- reading


def test_items_are_read_as_they_arrive(deployment: Deployment) -> None:
    """The first item is there before the second is made."""
    with deployment.stream(api="hold") as stream:
        assert "one" == next(stream)
        GO_ON.set()
        assert ["two"] == list(stream)


async def test_items_are_read_in_async_code(deployment: Deployment) -> None:
    """`async for` leaves the loop free: another task goes on between two items."""
    items = []
    async for item in deployment.stream(api="hold"):
        items.append(item)
        asyncio.get_running_loop().call_soon(GO_ON.set)

    assert ["one", "two"] == items
    assert deployment.traces.last.answered_ns > 0


async def test_ask_async_leaves_the_loop_free(deployment: Deployment) -> None:
    """Two questions of one loop are under way together."""
    first = asyncio.create_task(deployment.ask_async(api="hold"))

    assert ["a", "b"] == await deployment.ask_async("a b", "r")
    GO_ON.set()
    assert ["one", "two"] == await first


def test_a_stream_is_read_once(deployment: Deployment) -> None:
    """Reading on after the end gives nothing, and sends nothing again."""
    stream = deployment.stream("a b", "r")

    assert ["a", "b"] == list(stream)
    assert [] == list(stream)
    assert 1 == len(deployment.traces)


def test_nothing_is_sent_before_the_first_item_is_asked_for(deployment: Deployment) -> None:
    """A stream that nobody reads costs nothing, and closing it is fine."""
    stream = deployment.stream("a", "r")
    stream.close()

    assert 0 == len(deployment.traces)
    assert "r" == stream.request_id


# ---------------------------------------------------------------------------- leaving early


def test_close_hangs_up(deployment: Deployment) -> None:
    """The generator at the other end is closed, and the stream is over."""
    stream = deployment.stream(api="endless")
    assert "more" == next(stream)

    stream.close()

    assert CLOSED.wait(JOIN_S)
    assert [] == list(stream)


def test_leaving_the_block_hangs_up(deployment: Deployment) -> None:
    """`with deployment.stream(...)` needs no close."""
    with deployment.stream(api="endless") as stream:
        for _ in stream:
            break

    assert CLOSED.wait(JOIN_S)


async def test_closing_hangs_up_in_async_code(deployment: Deployment) -> None:
    """`aclosing` is the async block."""
    async with aclosing(aiter(deployment.stream(api="endless"))) as items:
        assert "more" == await anext(items)

    assert await asyncio.to_thread(CLOSED.wait, JOIN_S)


async def test_a_cancelled_task_hangs_up(deployment: Deployment) -> None:
    """Who stops waiting stops the worker."""
    started = asyncio.Event()

    async def read() -> None:
        async for _ in deployment.stream(api="endless"):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await asyncio.to_thread(CLOSED.wait, JOIN_S)


# ---------------------------------------------------------------------------- breaking off


def test_an_error_in_the_middle_comes_after_the_items(deployment: Deployment) -> None:
    """What had arrived is read first, and is in the error too."""
    stream = deployment.stream(api="fail_late")

    assert "one" == next(stream)
    with pytest.raises(RequestFailedError, match=r"HTTP 200 after 1 item\(s\): LookupError: gone") as raised:
        next(stream)
    assert ("one",) == raised.value.items


async def test_an_error_in_the_middle_in_async_code(deployment: Deployment) -> None:
    """The same error for `async for`."""
    with pytest.raises(RequestFailedError, match="LookupError: gone"):
        await deployment.ask_async(api="fail_late")
    with pytest.raises(RequestFailedError, match="HTTP 422"):
        await deployment.ask_async(api="words")


def test_an_open_stream_of_a_closed_deployment_says_so() -> None:
    """Reading on is one sentence, not a broken socket."""
    with serve(Frontend) as deployment:
        stream = deployment.stream(api="hold")
        assert "one" == next(stream)

    with pytest.raises(DeploymentError):
        list(stream)


def test_a_killed_frontend_is_a_sentence(deployment: Deployment) -> None:
    """Nobody listens; the error names the address."""
    deployment.kill("Frontend", 0)
    deployment.instances[0].join(JOIN_S)

    with pytest.raises(DeploymentError, match=f"The Frontend at {deployment.url}/words takes no requests; it was kil"):
        deployment.ask("x", "r")


def test_a_silent_frontend_is_a_sentence(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Frontend that sends nothing for too long is given up."""
    monkeypatch.setattr(answers, "TIMEOUT_S", 0.05)
    with httpx.Client(timeout=0.05, trust_env=False) as client:
        question = Question(f"{deployment.url}/hold", "r", b"{}", worded=False)
        stream = AnswerStream(client, question, TraceLog())

        assert "one" == next(stream)
        with pytest.raises(DeploymentError, match=r"sent nothing for 0\.05 s after 1 item\(s\) \(ReadTimeout\)"):
            next(stream)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"message": "m", "detail": []}', "m"),
        (b'{"type": "T", "detail": "d"}', "T: d"),
        (b"Service Unavailable", "Service Unavailable"),
        (b"[1]", "[1]"),
        (b'{"other": 1}', '{"other": 1}'),
        (b"\xff", "\ufffd"),
        (b"x" * 500, "x" * 200),
    ],
)
def test_any_failure_has_words(content: bytes, message: str) -> None:
    """dynlab's own reports, and whatever else answers on the port."""
    assert f"The Frontend answered HTTP 503: {message}" == str(failure(503, content))
