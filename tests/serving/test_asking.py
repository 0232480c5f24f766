"""Asking from a cell: bodies by place and by name, ids that are made up, and mistakes said before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dynlab.errors import ConfigError, DeploymentError, PayloadError, RequestFailedError
from dynlab.protocols import GeneralRequest
from dynlab.sdk.endpoint import api
from dynlab.sdk.service import service
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve


@service(dynamo={"namespace": "test"})
class Frontend:
    @api
    async def fegenerate(self, prompt, request_id):
        yield f"{prompt}/{request_id}"

    @api
    async def shout(self, prompt: str, times: int = 1):
        yield prompt.upper() * times


@service(dynamo={"namespace": "test"})
class Mute:
    pass


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with serve(Frontend, name="test_asking") as deployment:
        yield deployment


# ---------------------------------------------------------------------------- bodies


def test_values_fill_the_keys_by_place_and_by_name(deployment: Deployment) -> None:
    """`ask("p", "r")`, `ask("p", request_id="r")` and `ask(request_id="r", prompt="p")` are one request."""
    assert (
        ["p/r"]
        == deployment.ask("p", "r")
        == deployment.ask("p", request_id="r")
        == deployment.ask(request_id="r", prompt="p")
    )


def test_another_api_is_asked_by_its_name(deployment: Deployment) -> None:
    """The first API is the default."""
    assert ["AA"] == deployment.ask("a", 2, api="shout")


def test_a_request_id_is_made_up_where_the_api_takes_one(deployment: Deployment) -> None:
    """`ask-1`, `ask-2`, ...: the answer and the trace have the same; the API without that key gets none."""
    (item,) = deployment.ask("p")
    request_id = item.partition("/")[2]

    assert request_id.startswith("ask-")
    assert request_id == deployment.traces.last.request_id
    assert ["A"] == deployment.ask("a", api="shout")
    assert deployment.traces.last.request_id.startswith("ask-")


@pytest.mark.parametrize("request_id", ["r 1", "Anfrage-ä", "請求", "two\nlines", '"', "", "x" * 500])
def test_any_text_can_be_a_request_id(deployment: Deployment, request_id: str) -> None:
    """An id that no HTTP header could carry reaches the graph and the trace all the same."""
    assert [f"p/{request_id}"] == deployment.ask("p", request_id)
    if request_id:
        assert "ok" == deployment.traces[request_id].outcome


@pytest.mark.parametrize("request_id", [7, None, ["x"]])
def test_an_id_that_is_no_text_is_the_apis_own_business(deployment: Deployment, request_id: Any) -> None:
    """It is sent as it is; the trace has a name of its own."""
    assert [f"p/{request_id}"] == deployment.ask("p", request_id)
    assert deployment.traces.last.request_id.startswith("ask-")


def test_the_clients_times_are_in_the_trace(deployment: Deployment) -> None:
    """When it was sent, and when the whole answer was there."""
    deployment.ask("p", "timed")
    trace = deployment.traces["timed"]

    assert 0 < trace.sent_ns < trace.hops[0].started_ns < trace.hops[0].ended_ns
    assert trace.answered_ns > trace.hops[0].item_ns[-1]


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("misuse", "error", "sentence"),
    [
        (
            lambda d: d.ask("a", "b", "c"),
            DeploymentError,
            "fegenerate takes the keys prompt, request_id; 3 values were given.",
        ),
        (
            lambda d: d.ask("a", prompt="b"),
            DeploymentError,
            "fegenerate was given 'prompt' twice: 'a' by place, 'b' by name.",
        ),
        (
            lambda d: d.ask("a", api="shuot"),
            DeploymentError,
            "The Frontend has no @api method 'shuot'; it has fegenerate, shout. Did you mean 'shout'?",
        ),
        (
            lambda d: d.ask(promt="a", request_id="r"),
            RequestFailedError,
            (
                "The Frontend answered HTTP 422: POST /fegenerate takes the keys prompt, request_id; missing: prompt; "
                "unknown: promt. Did you mean 'prompt'?"
            ),
        ),
        (
            lambda d: d.ask("a", "x", api="shout"),
            RequestFailedError,
            (
                "The Frontend answered HTTP 422: POST /shout takes the keys prompt, times; times: Input should be a "
                "valid integer, unable to parse string as an integer."
            ),
        ),
        (
            lambda d: d.ask(object()),
            PayloadError,
            (
                "A object cannot travel between tiers: Object of type object is not JSON serializable. "
                "Send str, int, float, bool, None, bytes, or lists and dicts of them."
            ),
        ),
        (
            lambda d: d.ask(GeneralRequest()),
            PayloadError,
            (
                "A GeneralRequest cannot travel between tiers: Object of type GeneralRequest is not JSON serializable. "
                "Send `.model_dump()` or `.model_dump_json()` of it."
            ),
        ),
        (
            lambda d: d.ask_many(3, concurrency=0),
            ConfigError,
            "concurrency=0 must be a number of requests, 1 or more.",
        ),
        (
            lambda d: d.ask_many(3, concurrency=1.5),
            ConfigError,
            "concurrency=1.5 must be a number of requests, 1 or more.",
        ),
        (lambda d: d.ask_many("abc"), ConfigError, "ask_many('abc'): give a list of prompts, or how many to make up."),
        (lambda d: d.ask_many(-1), ConfigError, "ask_many(-1): give a list of prompts, or how many to make up."),
        (
            lambda d: d.ask_many({"prompt": "x"}),
            ConfigError,
            "ask_many({'prompt': 'x'}): give a list of prompts, or how many to make up.",
        ),
        (lambda d: d.ask_many(3, prompt="x"), DeploymentError, "fegenerate was given 'prompt' twice: "),
    ],
)
def test_a_mistake_is_a_sentence(deployment: Deployment, misuse: Any, error: type[Exception], sentence: str) -> None:
    """What is wrong, and what there is."""
    with pytest.raises(error) as raised:
        misuse(deployment)

    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1, 2}, b"x", {"deep": [object()]}])
def test_what_json_cannot_say_is_refused_before_it_is_sent(deployment: Deployment, value: Any) -> None:
    """For one request and in the middle of many: nothing is sent, and the error is in the cell."""
    before = len(deployment.traces)

    with pytest.raises(PayloadError, match="cannot travel"):
        deployment.ask(value)
    with pytest.raises(PayloadError, match="cannot travel"):
        deployment.ask_many(["fine", value])

    assert before == len(deployment.traces)


def test_a_graph_without_an_api_cannot_be_asked() -> None:
    """The sentence says what to do instead."""
    with serve(Mute) as deployment:
        assert deployment.url is None
        with pytest.raises(DeploymentError, match=r"Mute has no @api method, so nobody can ask it over HTTP\. Use a"):
            deployment.ask("x")
