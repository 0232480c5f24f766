"""The HTTP of 2025: statuses, bodies and content types that were measured on 0.1.1 and 0.3.2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dynlab.errors import RequestFailedError
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from tests.legacy import GraphFiles, graph_files

ASK = {"prompt": "test prompt str", "request_id": "request id str"}
EVENTS = "text/event-stream; charset=utf-8"
UNEXPECTED = "An unexpected error has occurred, please check the server log."


@pytest.fixture(scope="module")
def module_graphs() -> Iterator[GraphFiles]:
    with graph_files() as files:
        yield files


@pytest.fixture(scope="module")
def blog(module_graphs: GraphFiles) -> Iterator[Deployment]:
    with serve(module_graphs.load("blog_graph").Frontend, name="blog") as deployment:
        yield deployment


@pytest.fixture(scope="module")
def chain(module_graphs: GraphFiles) -> Iterator[Deployment]:
    with serve(module_graphs.load("chain_graph").Frontend, name="chain") as deployment:
        yield deployment


def post(deployment: Deployment, path: str, **arguments: Any) -> httpx.Response:
    return httpx.post(f"{deployment.url}/{path}", trust_env=False, timeout=20, **arguments)


# ---------------------------------------------------------------------------- 0.1.1


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_an_answer_of_0_1_is_bare_text_in_an_event_stream(blog: Deployment, accept: str) -> None:
    """Whatever the client accepts: no `data:`, the content type of events, and the line that 0.1.1 gave."""
    response = post(blog, "fegenerate", json=ASK, headers={"accept": accept})

    assert (200, EVENTS) == (response.status_code, response.headers["content-type"])
    assert "chunked" == response.headers["transfer-encoding"]
    assert response.text in {
        f'Response: {{"worker_output":"test prompt str_ProcessedBy_p_GeneratedBy_{worker}",'
        '"request_id":"request id str"}\n'
        for worker in ("n1", "n2")
    }


def test_round_robin_of_0_1_takes_turns(blog: Deployment) -> None:
    """Requests one after the other go to the two workers alternately."""
    answers = [post(blog, "fegenerate", json=ASK).text for _ in range(4)]

    served = ["n1" if "GeneratedBy_n1" in answer else "n2" for answer in answers]
    assert served in (["n1", "n2"] * 2, ["n2", "n1"] * 2)


@pytest.mark.parametrize(
    ("body", "kind", "where"),
    [
        (b'{"prompt": "x"}', "missing", ["request_id"]),
        (b"{no", "json_invalid", []),
    ],
)
def test_a_body_that_does_not_fit_is_400_in_0_1(blog: Deployment, body: bytes, kind: str, where: list[str]) -> None:
    """A missing key and broken JSON: BentoML's report, with pydantic's type and place of the error."""
    response = post(blog, "fegenerate", content=body)
    report = response.json()

    assert 400 == response.status_code
    assert "1 validation error for Input" == report["error"]
    assert [(kind, where)] == [(found["type"], found["loc"]) for found in report["detail"]]
    assert "url" in report["detail"][0]


def test_extra_keys_are_ignored_in_0_1(blog: Deployment) -> None:
    """A key that no argument has is no mistake, as it is in dynlab's own dialect."""
    assert 200 == post(blog, "fegenerate", json=ASK | {"temperature": 1}).status_code


def test_a_validation_error_of_the_handler_is_400_in_0_1(blog: Deployment) -> None:
    """BentoML takes any pydantic error before the first item for a bad request."""
    response = post(blog, "fegenerate", json=ASK | {"prompt": 3})

    assert (400, "1 validation error for Ask") == (response.status_code, response.json()["error"])


def test_any_other_error_is_500_in_0_1(blog: Deployment) -> None:
    """A worker's error becomes BentoML's sentence; what dynlab knows stands beside it."""
    response = post(blog, "fegenerate", json=ASK | {"prompt": "bad"})

    assert (500, UNEXPECTED) == (response.status_code, response.json()["error"])
    assert "worker says no" == response.json()["detail"]


def test_an_unknown_instance_is_500_in_0_1(module_graphs: GraphFiles) -> None:
    """A direct call to an id that nobody has; the router comes from `--Processor.router=direct`."""
    frontend = module_graphs.load("blog_graph").Frontend
    with serve(frontend, overrides=["--Processor.router=direct"], name="direct") as deployment:
        response = post(deployment, "fegenerate", json=ASK)

    assert (500, UNEXPECTED) == (response.status_code, response.json()["error"])
    assert "instance_id=12345 not found" in response.json()["detail"]


def test_no_worker_is_500_in_0_1(module_graphs: GraphFiles) -> None:
    """Nobody serves the endpoint: 2025 had one status for all of it."""
    frontend = module_graphs.load("blog_graph").Frontend
    with serve(frontend, name="deserted") as deployment:
        deployment.scale("DummyWorker", 0)

        assert 500 == post(deployment, "fegenerate", json=ASK).status_code


def test_other_methods_are_405(blog: Deployment) -> None:
    """`GET /fegenerate` is not allowed, in 0.1 as now."""
    assert 405 == httpx.get(f"{blog.url}/fegenerate", trust_env=False).status_code


@pytest.mark.parametrize("path", ["healthz", "livez", "readyz"])
def test_0_1_says_that_it_is_well(blog: Deployment, path: str) -> None:
    """BentoML's three paths are there without any mark."""
    assert 200 == httpx.get(f"{blog.url}/{path}", trust_env=False).status_code


def test_dynlab_asks_an_api_of_0_1_item_by_item(blog: Deployment) -> None:
    """`ask()` gets items and errors although the wire had no frames for them then."""
    items = blog.ask("hello", request_id="r-1")

    assert 1 == len(items)
    assert items[0].startswith('Response: {"worker_output":"hello_ProcessedBy_p_GeneratedBy_n')
    assert 3 == len(blog.traces["r-1"].hops)
    with pytest.raises(RequestFailedError, match="HTTP 500: ValueError: worker says no"):
        blog.ask("bad", request_id="r-2")


# ---------------------------------------------------------------------------- 0.2 and 0.3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("test", "Frontend: Middle: Backend: test-mid-back"),
        ("a b c", "".join(f"Frontend: Middle: Backend: {word}" for word in ("a", "b", "c-mid-back"))),
    ],
)
def test_hello_world_answers_as_it_did(chain: Deployment, text: str, expected: str) -> None:
    """One item per word through three tiers; FastAPI's stream has no content type of its own."""
    response = post(chain, "generate", json={"text": text})

    assert (200, expected) == (response.status_code, response.text)
    assert "content-type" not in response.headers


def test_hello_world_reads_its_config(module_graphs: GraphFiles) -> None:
    """earth, moon and mars come from the configuration."""
    config = {"Frontend": {"message": "earth"}, "Middle": {"message": "moon"}, "Backend": {"message": "mars"}}
    frontend = module_graphs.load("chain_graph").Frontend
    with serve(frontend, config=config, name="planets") as deployment:
        assert post(deployment, "generate", json={"text": "test"}).text.endswith("test-moon-mars")


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [("generate", b"{}", ["body", "text"]), ("count", b"{}", ["query", "prompt"]), ("generate", b"{no", ["body"])],
)
def test_arguments_that_do_not_fit_are_422_in_0_3(chain: Deployment, path: str, body: bytes, where: list[str]) -> None:
    """FastAPI's own report: a model is the body, an argument without annotation a query parameter."""
    response = post(chain, path, content=body, headers={"content-type": "application/json"})

    assert 422 == response.status_code
    assert where == response.json()["detail"][0]["loc"][: len(where)]


def test_plain_arguments_are_query_parameters_in_0_3(chain: Deployment) -> None:
    """They come from the address, and what the method returns is JSON."""
    assert {"prompt": "a", "times": 2} == post(chain, "count?prompt=a&times=2").json()


def test_an_error_in_a_stream_of_0_3_breaks_it_off(chain: Deployment) -> None:
    """The status was sent already, so the connection drops; `ask()` is told why."""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        post(chain, "breaks", json={"text": "no"})
    with pytest.raises(RequestFailedError, match="HTTP 200: ValueError: no"):
        chain.ask("no", api="breaks")


def test_dynlab_asks_an_api_of_0_3_and_traces_it(chain: Deployment) -> None:
    """Three hops, and the items as the handler yielded them."""
    assert ["Frontend: Middle: Backend: a", "Frontend: Middle: Backend: b-mid-back"] == chain.ask("a b", api="generate")
    assert 3 == len(chain.traces.last.hops)


def test_probes_are_routes(chain: Deployment) -> None:
    """200 while the method returns something true, 503 when not, 500 with the text of its error."""

    def get(path: str) -> tuple[int, str]:
        response = httpx.get(f"{chain.url}/{path}", trust_env=False)
        return response.status_code, response.text

    assert [(200, ""), (200, "")] == [get("healthz"), get("readyz")]
    post(chain, "set/health?well=false")
    assert [(503, ""), (500, "not ready yet")] == [get("healthz"), get("readyz")]
    post(chain, "set/health?well=true")
    assert (200, "") == get("healthz")


def test_middleware_of_the_own_app_is_kept(module_graphs: GraphFiles) -> None:
    """`@service(app=FastAPI(...))`: what was added to it, such as CORS, applies to the APIs."""
    from starlette.middleware.cors import CORSMiddleware

    graph = module_graphs.load("chain_graph", anew=True)
    graph.app.add_middleware(CORSMiddleware, allow_origins=["http://page.example"])
    with serve(graph.Frontend, name="cors") as deployment:
        response = post(deployment, "generate", json={"text": "x"}, headers={"origin": "http://page.example"})

    assert "http://page.example" == response.headers["access-control-allow-origin"]


def test_a_body_that_is_too_large_is_413(chain: Deployment) -> None:
    """dynlab's limits hold for FastAPI's routes too."""
    assert 413 == post(chain, "generate", content=json.dumps({"text": "x" * 5_000_000})).status_code
