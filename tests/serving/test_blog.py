"""The snippets of the blog post run as they are printed, put together into one graph, and its curl is answered."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import NoReturn, Protocol

import pytest

from dynlab import (
    GeneralRequest,
    GeneralResponse,
    api,
    async_on_start,
    depends,
    dynamo_context,
    dynamo_endpoint,
    serve,
    service,
)

CURL = """curl -X 'POST' \\
  'http://localhost:3000/fegenerate' \\
  -H 'accept: text/event-stream' \\
  -H 'Content-Type: application/json' \\
  -d '{
  "prompt": "test prompt str",
  "request_id":"request id str"
}'"""


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"}, resources={"cpu": "10", "memory": "20Gi"}, workers=2)
class DummyWorker:
    @dynamo_endpoint()
    async def begenerate(self, request: GeneralRequest):
        yield GeneralResponse(
            worker_output=request.prompt + "_GeneratedBy_" + dynamo_context["hostname"],
            request_id=request.request_id,
        ).model_dump_json()


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"}, resources={"cpu": "10", "memory": "20Gi"}, workers=1)
class Processor(Protocol):
    worker = depends(DummyWorker)

    def __init__(self):
        self.router = "round-robin"

    @async_on_start
    async def async_init(self):
        runtime = dynamo_context["runtime"]
        comp_ns, comp_name = DummyWorker.dynamo_address()  # type: ignore
        self.worker_client = await runtime.namespace(comp_ns).component(comp_name).endpoint("begenerate").client()
        await self.worker_client.wait_for_instances(at_least=2)

    @dynamo_endpoint()
    async def mdgenerate(self, raw_request: GeneralRequest):
        raw_request.prompt = raw_request.prompt + "_ProcessedBy_" + dynamo_context["hostname"]
        how, _, rest = raw_request.request_id.partition(" ")
        if how == "direct":
            engine_generator = await self.worker_client.direct(raw_request.model_dump_json(), int(rest))
        elif how == "random":
            engine_generator = await self.worker_client.random(raw_request.model_dump_json())
        else:
            engine_generator = await self.worker_client.round_robin(raw_request.model_dump_json())
        async for resp in engine_generator:
            resp = GeneralResponse.model_validate_json(resp.data())
            yield f"Response: {resp.model_dump_json()}\n"


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"}, resources={"cpu": "10", "memory": "20Gi"}, workers=1)
class Frontend:
    processor = depends(Processor)

    @api
    async def fegenerate(self, prompt, request_id):  # from request data keys
        frequest = GeneralRequest(prompt=prompt, request_id=request_id)
        async for resp in self.processor.mdgenerate(frequest.model_dump_json()):
            yield resp


def worker_of(item: str) -> str:
    answer = json.loads(item.removeprefix("Response: "))
    return str(answer["worker_output"]).rpartition("_")[2]


@pytest.mark.needs_programs("curl", "bash")
def test_the_blogs_curl_is_answered(unavailable: Callable[[str], NoReturn]) -> None:
    """`serve(Frontend, port=3000)` and the printed command: server-sent events, one item, exit status 0."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 3000)) == 0:
            unavailable("port 3000 is taken by another program")

    with serve(Frontend, port=3000):
        answered = subprocess.run(
            ["bash", "-c", CURL.replace("curl", f"{shutil.which('curl')} --silent --include", 1)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    head, _, body = answered.stdout.replace("\r\n", "\n").partition("\n\n")
    assert "HTTP/1.1 200 OK" in head
    assert "content-type: text/event-stream; charset=utf-8" in head
    answer = (
        '{"worker_output":"test prompt str_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0",'
        '"request_id":"request id str"}'
    )
    assert f"data: Response: {answer}\ndata: \n\n" == body
    assert "" == answered.stderr


@pytest.mark.needs_programs("curl")
def test_a_curl_without_the_accept_header_gets_dynamos_bare_text() -> None:
    """Dynamo 0.1.1 sent the yielded text as it is: `Response: {...}` and a line end."""
    with serve(Frontend) as deployment:
        answered = subprocess.run(
            ["curl", "--silent", f"{deployment.url}/fegenerate", "-d", '{"prompt": "p", "request_id": "r"}'],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    answer = '{"worker_output":"p_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0","request_id":"r"}'
    assert f"Response: {answer}\n" == answered.stdout


def test_round_robin_alternates() -> None:
    """The workers take turns, as in the recorded run of the original: n2, n3, n2, n3."""
    with serve(Frontend) as deployment:
        answered = [worker_of(deployment.ask("p", "r")[0]) for _ in range(4)]

    assert ["DummyWorker-0", "DummyWorker-1"] * 2 == answered


def test_direct_reaches_the_worker_that_is_named() -> None:
    """`client.direct(request, worker_id)` goes to that id, whosever turn it is."""
    with serve(Frontend) as deployment:
        second = next(i.instance_id for i in deployment.instances if i.worker == "DummyWorker-1")
        answered = [worker_of(deployment.ask("p", f"direct {second}")[0]) for _ in range(3)]

    assert ["DummyWorker-1"] * 3 == answered


def test_random_reaches_every_worker() -> None:
    """Forty random picks of two workers leave out neither, and the seed makes them the same each time."""

    def run() -> list[str]:
        with serve(Frontend, seed=7) as deployment:
            return [worker_of(deployment.ask("p", f"random {n}")[0]) for n in range(40)]

    first = run()

    assert {"DummyWorker-0", "DummyWorker-1"} == set(first)
    assert first == run()


def test_an_unknown_id_is_dynamos_sentence() -> None:
    """`instance_id=12345 not found for endpoint ...`, and it names who is there."""
    with serve(Frontend) as deployment:
        ids = [i.instance_id for i in deployment.instances if i.service.name == "DummyWorker"]
        with pytest.raises(Exception, match="InstanceNotFoundError") as raised:
            deployment.ask("p", "direct 12345")

    assert (
        f"instance_id=12345 not found for endpoint dynamo-demo/DummyWorker/begenerate; available: {ids[0]}, {ids[1]}."
    ) in str(raised.value)


def test_a_request_keeps_its_prompt_whatever_is_in_it() -> None:
    """Quotes, line ends and other alphabets survive three tiers of JSON and the events."""
    prompt = 'Zeile 1\nline "2"\r\n\t東京 🗼'

    with serve(Frontend) as deployment:
        (item,) = deployment.ask(prompt, "r")

    assert json.loads(item.removeprefix("Response: "))["worker_output"].startswith(prompt + "_ProcessedBy_Processor-0")
