"""Many requests at once: waited for or watched, cancelled, and with every failure accounted for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

from dynlab.errors import RequestFailedError
from dynlab.sdk.endpoint import api
from dynlab.sdk.service import service
from dynlab.serving import batch as room
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

JOIN_S = 5.0
GO_ON = threading.Event()


@service(dynamo={"namespace": "test"})
class Frontend:
    @api
    async def fegenerate(self, prompt: str, request_id: str):
        if prompt == "fail":
            raise ValueError("asked to")
        if prompt == "break":
            yield "half"
            raise ValueError("in the middle")
        while prompt == "hold" and not GO_ON.is_set():
            await asyncio.sleep(0.001)
        yield f"{prompt}/{request_id} "
        yield "end"

    @api
    async def bare(self, prompt):
        yield prompt


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    GO_ON.clear()
    with serve(Frontend) as deployment:
        yield deployment


def ask_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "ask-many" in thread.name or "tqdm" in thread.name]


# ---------------------------------------------------------------------------- answers


def test_a_number_makes_prompts_up(deployment: Deployment) -> None:
    """Answers stand in the order of the requests, however they came."""
    batch = deployment.ask_many(12, concurrency=4)

    assert [f"prompt {n}/b1-{n:02} end" for n in range(12)] == batch.answers
    assert (12, 12, True, {}) == (batch.total, batch.done, batch.finished, batch.failures)
    assert batch.elapsed_s > 0
    assert repr(batch).startswith("<Batch: 12 of 12 answered in 0.")


def test_prompts_of_ones_own(deployment: Deployment) -> None:
    """Any iterable of prompts; keywords are for all of them."""
    batch = deployment.ask_many((word for word in ("a", "b")), request_id="same")

    assert ["a/same end", "b/same end"] == batch.answers


def test_a_mapping_is_a_whole_body(deployment: Deployment) -> None:
    """Each request may have keys of its own."""
    batch = deployment.ask_many([{"prompt": "a", "request_id": "r"}, {"prompt": "b"}])

    assert ["a/r end", "b/b1-1 end"] == batch.answers
    assert ["r", "b1-1"] == batch.request_ids == [trace.request_id for trace in batch.traces]


def test_an_api_without_ids_still_has_traces(deployment: Deployment) -> None:
    """The id goes by header then."""
    batch = deployment.ask_many(["a", "b"], api="bare")

    assert ["a", "b"] == batch.answers
    assert {"b1-0", "b1-1"} == {trace.request_id for trace in batch.traces}
    assert all(trace.sent_ns and trace.answered_ns for trace in batch.traces)


def test_no_prompts_are_no_error(deployment: Deployment) -> None:
    """Nothing to ask is done at once."""
    batch = deployment.ask_many([])

    assert (0, [], True) == (batch.done, batch.answers, batch.finished)


def test_the_traces_of_a_batch_are_its_own(deployment: Deployment) -> None:
    """What was asked before or after is not among them."""
    deployment.ask("before", "r")
    batch = deployment.ask_many(3)
    deployment.ask("after", "r")

    assert ["b1-0", "b1-1", "b1-2"] == [trace.request_id for trace in batch.traces]


# ---------------------------------------------------------------------------- failures


def test_each_failure_is_kept_under_its_id(deployment: Deployment) -> None:
    """The others are answered; a failure says what happened, and nothing is lost from the count."""
    batch = deployment.ask_many(["a", "fail", "break", {"promt": "x"}, "b"])

    assert ["a/b1-0 end", None, None, None, "b/b1-4 end"] == batch.answers
    assert 5 == batch.done
    assert {
        "b1-1": "The Frontend answered HTTP 500: ValueError: asked to",
        "b1-2": f"The Frontend at {deployment.url}/fegenerate broke off its answer (RemoteProtocolError). "
        "See deployment.logs(), or serve again.",
        "b1-3": "The Frontend answered HTTP 422: POST /fegenerate takes the keys prompt, request_id; missing: prompt; "
        "unknown: promt. Did you mean 'prompt'?",
    } == batch.failures
    assert "3 failed" in repr(batch)


def test_a_dead_frontend_fails_every_request(deployment: Deployment) -> None:
    """Nothing hangs, and nothing is called answered."""
    deployment.kill("Frontend", 0)
    deployment.instances[0].join(JOIN_S)

    batch = deployment.ask_many(5)

    assert ([None] * 5, 5) == (batch.answers, len(batch.failures))
    assert all("takes no requests; it was killed or closed" in failure for failure in batch.failures.values())


# ---------------------------------------------------------------------------- the handle


def test_a_batch_can_be_watched(deployment: Deployment) -> None:
    """`wait=False` returns at once; `done` grows, and `wait()` waits for the rest."""
    batch = deployment.ask_many(["a", "hold"], concurrency=2, wait=False)

    assert not batch.finished
    assert not batch.wait(timeout=0.1).finished
    assert "answered so far" in repr(batch)
    GO_ON.set()
    assert ["a/b1-0 end", "hold/b1-1 end"] == batch.wait().answers
    assert batch.wait() is batch


def test_concurrency_is_a_limit(deployment: Deployment) -> None:
    """With one at a time, what comes behind a slow request is not sent."""
    batch = deployment.ask_many(["hold", "a"], concurrency=1, wait=False)
    while not len(deployment.traces):
        batch.wait(timeout=0.01)

    assert ["b1-0"] == [trace.request_id for trace in deployment.traces]
    GO_ON.set()
    assert 2 == batch.wait().done


def test_cancel_hangs_up_and_sends_no_more(deployment: Deployment) -> None:
    """What is under way is stopped, what waits is not sent, and the thread ends."""
    batch = deployment.ask_many(["hold", "a"], concurrency=1, wait=False)
    while not len(deployment.traces):
        batch.wait(timeout=0.01)

    batch.cancel()

    assert batch.finished
    assert [None, None] == batch.answers
    assert ["b1-0"] == [trace.request_id for trace in deployment.traces]
    assert [] == ask_threads()
    batch.cancel()


def test_closing_the_deployment_ends_its_batches() -> None:
    """A handle that is left alone does not keep the deployment from closing."""
    with serve(Frontend) as deployment:
        batch = deployment.ask_many(["hold"] * 3, wait=False)

    assert batch.finished
    assert [] == ask_threads()


def test_an_interrupt_cancels(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses stop in the middle of `wait` gets the cell back, and no more is sent."""
    batch = deployment.ask_many(["hold", "a"], concurrency=1, wait=False)

    def interrupt(timeout: float | None = None) -> bool:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(batch._finished, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        batch.wait()

    assert batch.finished


def test_where_nobody_watches_there_is_no_progress_bar(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a program whose output goes to a file nothing is printed."""
    deployment.ask_many(5)

    assert ("", "") == capsys.readouterr()


def test_the_progress_bar_leaves_no_thread(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """tqdm starts a monitor thread unless it is told not to; the bar itself goes away when it is full."""
    monkeypatch.setattr(room._Progress, "unseen", lambda: False)
    deployment.ask_many(50)

    assert [] == ask_threads()
    assert "asking" in capsys.readouterr().err


def test_a_batch_is_as_good_as_single_requests(deployment: Deployment) -> None:
    """The same question has the same answer either way."""
    batch = deployment.ask_many([{"prompt": "x", "request_id": "r"}])

    assert batch.answers == ["".join(deployment.ask("x", "r"))]
    with pytest.raises(RequestFailedError) as raised:
        deployment.ask("fail", "r")
    assert str(raised.value) == deployment.ask_many([json.loads('{"prompt": "fail", "request_id": "r"}')]).failures["r"]
