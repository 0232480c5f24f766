"""`dynlab.runtime.local`: namespace, component, endpoint, and an instance's coming and going."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dynlab.errors import EndpointDefinitionError, NoInstancesError
from dynlab.protocols import EndpointId
from dynlab.runtime.context import Context
from dynlab.runtime.local import LocalRuntime, as_handler
from tests.runtime.cluster import ENDPOINT, PATH, PATIENCE_S, Cluster, Happened, data, first

OTHER = "test.Worker.other"


async def one(request: Any) -> AsyncGenerator[str, None]:
    yield "one"


async def two(request: Any) -> AsyncGenerator[str, None]:
    yield "two"


# ---------------------------------------------------------------------------- addresses


def test_both_ways_to_an_endpoint() -> None:
    """The 2025 chain of namespace, component and endpoint, and the path of 1.6.1, lead to the same address."""
    runtime = LocalRuntime()
    component = runtime.namespace("test").component("Worker")
    component.create_service()  # needed in 2025, before an endpoint was served

    paths = [component.endpoint("generate"), runtime.endpoint(PATH), runtime.endpoint(f"dyn://{PATH}")]

    assert [ENDPOINT] * 3 == [endpoint.endpoint_id for endpoint in paths]


def test_a_path_has_three_parts() -> None:
    """Any other path is a ValueError, as in Dynamo."""
    with pytest.raises(ValueError, match="three parts"):
        LocalRuntime().endpoint("test.Worker")


def test_one_runtime_is_one_instance() -> None:
    """All endpoints of a runtime share one lease, whose number is the instance's id; it costs nothing until asked."""
    runtime, other = LocalRuntime(), LocalRuntime()
    assert runtime.planes is not other.planes

    ids = {runtime.endpoint(path).lease_id() for path in (PATH, OTHER)}

    assert {7001} == ids == {runtime.endpoint(PATH).connection_id()}


def test_what_a_reader_sees() -> None:
    """The objects show what they are."""
    runtime = LocalRuntime(worker="DummyWorker-1")

    assert "<LocalRuntime of DummyWorker-1>" == repr(runtime)
    assert "<LocalEndpoint test/Worker/generate>" == repr(runtime.endpoint(PATH))


# ---------------------------------------------------------------------------- serving


async def test_serving_lists_the_instance_at_once(cluster: Cluster) -> None:
    """When `serve_endpoint` returns, clients see the instance."""
    assert [] == (await cluster.client()).instance_ids()

    cluster.endpoint().serve_endpoint(one)

    assert [7001] == (await cluster.client()).instance_ids()
    cluster.reader.shutdown()


async def test_a_runtime_may_serve_and_ask_on_one_loop(cluster: Cluster) -> None:
    """No second thread is needed to try a handler out."""
    cluster.endpoint().serve_endpoint(one)

    assert ["one"] == await data((await cluster.client()).random(None))
    cluster.reader.shutdown()


async def test_many_endpoints_on_one_runtime(cluster: Cluster) -> None:
    """An instance serves as many endpoints as it likes, all under its id."""
    worker = await cluster.worker(one)
    await worker.serve(two, OTHER)
    clients = [await cluster.client(), await cluster.client(OTHER)]

    assert ["one", "two"] == [await first(client.random(None)) for client in clients]
    assert [[7001], [7001]] == [client.instance_ids() for client in clients]


async def test_a_second_handler_replaces_the_first(cluster: Cluster) -> None:
    """One endpoint of one runtime is one instance: it answers with the handler served last."""
    worker = await cluster.worker(one)
    await worker.serve(two)
    client = await cluster.client()

    assert ([7001], ["two", "two"]) == (client.instance_ids(), [await first(client.random(None)) for _ in range(2)])


async def test_a_replaced_handler_finishes_its_answers(cluster: Cluster) -> None:
    """Requests that the first handler has begun are answered by it."""
    begun, go_on = Happened(), Happened()

    async def slow(request: Any) -> AsyncGenerator[str, None]:
        begun.set()
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        yield "slow"

    worker = await cluster.worker(slow)
    client = await cluster.client()
    stream = await client.random(None)
    await begun.wait_here()
    await worker.serve(two)

    assert ["two"] == await data(client.random(None))
    go_on.set()
    assert ["slow"] == [item.data() async for item in stream]


async def test_serving_lasts_until_the_shutdown(cluster: Cluster) -> None:
    """What `serve_endpoint` returns is done when the runtime has shut down, from whatever thread."""
    worker = await cluster.worker(one)
    serving = await worker.serve(two, OTHER)
    assert not serving.done()

    async def served() -> str:
        await serving
        return "done"

    waiting = asyncio.create_task(worker.run(served()))
    await worker.settled()
    worker.runtime.shutdown()

    assert "done" == await waiting


async def test_a_shut_down_runtime_is_off_the_list_at_once(cluster: Cluster) -> None:
    """All its endpoints go; nobody waits for a lease to run out."""
    worker = await cluster.worker(one)
    await worker.serve(two, OTHER)

    worker.runtime.shutdown()

    for path in (PATH, OTHER):
        with pytest.raises(NoInstancesError, match="no instance has registered"):
            await (await cluster.client(path)).random(None)


async def test_serving_after_the_shutdown_is_done_at_once(cluster: Cluster) -> None:
    """Nobody waits for a shutdown that has already come."""
    cluster.reader.shutdown()

    await asyncio.wait_for(cluster.endpoint().serve_endpoint(one), PATIENCE_S)


async def test_a_dead_runtime_stays_on_the_list(cluster: Cluster) -> None:
    """Until its lease has run out everybody believes in it."""
    worker = await cluster.worker(one)
    client = await cluster.client()

    worker.kill()
    assert [7001] == client.instance_ids()
    cluster.clock.advance(10.0)

    assert [] == client.instance_ids()


async def test_leaving_the_list_can_be_taken_back(cluster: Cluster) -> None:
    """An instance unregisters, still finishes what it has begun, and registers again under its id."""
    begun, go_on = Happened(), Happened()

    async def slow(request: Any) -> AsyncGenerator[str, None]:
        begun.set()
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        yield "slow"

    worker = await cluster.worker()
    endpoint = worker.runtime.endpoint(OTHER)

    async def serve() -> None:
        endpoint.serve_endpoint(slow)

    await worker.run(serve())
    client = await cluster.client(OTHER)
    stream = await client.random(None)
    await begun.wait_here()

    await endpoint.unregister_endpoint_instance()
    assert ([], [7001]) == (client.instance_ids(), (await cluster.client()).instance_ids())
    go_on.set()
    assert ["slow"] == [item.data() async for item in stream]
    await endpoint.register_endpoint_instance()

    assert ([7001], "slow") == (client.instance_ids(), await first(client.random(None)))


async def test_who_never_served_cannot_leave(cluster: Cluster) -> None:
    """Registering and unregistering an endpoint without a handler does nothing."""
    endpoint = cluster.endpoint()

    await endpoint.unregister_endpoint_instance()
    await endpoint.register_endpoint_instance()

    assert [] == cluster.planes.discovery.endpoints()


# ---------------------------------------------------------------------------- handlers


async def coroutine(request: Any) -> int:
    return 1


def plain(request: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (coroutine, "The handler coroutine is a coroutine; an endpoint streams its answer, so write `async def`"),
        (plain, "The handler plain is a plain generator; an endpoint streams its answer, so write `async def`"),
        (functools.partial(coroutine), "is a coroutine; an endpoint streams"),
    ],
    ids=["coroutine", "plain generator", "partial"],
)
async def test_a_handler_is_an_async_generator(cluster: Cluster, handler: Any, sentence: str) -> None:
    """A coroutine and a plain generator are refused where they are served, and nothing is listed."""
    with pytest.raises(EndpointDefinitionError, match=sentence):
        cluster.endpoint().serve_endpoint(handler)

    assert [] == cluster.planes.discovery.endpoints()


class Service:
    async def bare(self, request: Any) -> AsyncGenerator[Any, None]:
        yield [request, None]

    async def with_context(self, request: Any, context: Context) -> AsyncGenerator[Any, None]:
        yield [request, context.id()]


async def named(request: Any, context: Context | None = None) -> AsyncGenerator[Any, None]:
    yield [request, context.id() if context else None]


async def second(request: Any, ctx: Context) -> AsyncGenerator[Any, None]:
    yield [request, ctx.id()]


async def optional(request: Any, temperature: float = 0.5, *, context: None = None) -> AsyncGenerator[Any, None]:
    yield [request, temperature]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (Service().bare, ["hi", None]),
        (Service().with_context, ["hi", "r-1"]),
        (named, ["hi", "r-1"]),
        (second, ["hi", "r-1"]),
        (optional, ["hi", 0.5]),
        (functools.partial(named, context=None), ["hi", None]),
    ],
    ids=["method", "method with context", "default context", "any name", "other default", "partial"],
)
async def test_a_handler_takes_the_context_if_it_asks_for_it(handler: Any, expected: list[Any]) -> None:
    """`(request)` or `(request, context)`: a second argument that is required, or called `context`, is the context."""
    items = as_handler(handler)("hi", Context("r-1"))

    assert [expected] == [item async for item in items]


def test_requests_without_a_context_are_numbered() -> None:
    """A request that nobody named is named after who sent it."""
    runtime = LocalRuntime(worker="Processor-1")

    assert ["Processor-1-1", "Processor-1-2"] == [runtime.next_request_id() for _ in range(2)]


def test_a_runtime_has_one_view_of_an_endpoint() -> None:
    """Its clients share the counts of requests in flight."""
    runtime = LocalRuntime()

    assert runtime.table(ENDPOINT) is runtime.table(EndpointId.parse(PATH))
