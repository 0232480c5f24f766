"""`depends(Service)`: an edge on the class, a caller on the instance."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynlab.errors import DependencyError, UnknownEndpointError
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import DynamoClient, depends, edges_of
from dynlab.sdk.endpoint import api, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.serve import serve


@service(dynamo={"namespace": "test"}, workers=2)
class Worker:
    """Two endpoints on one component, which Dynamo serves since 0.2.1."""

    @dynamo_endpoint()
    async def begenerate(self, request):
        for word in request.split():
            yield f"{word}@{dynamo_context['hostname']}"

    @dynamo_endpoint(name="count")
    async def how_many(self, request):
        yield len(request.split())

    @dynamo_endpoint
    async def refuse(self, request):
        yield "one"
        raise ValueError(request)


@service(dynamo={"namespace": "test"})
class Frontend:
    worker = depends(Worker)

    @api
    async def words(self, prompt):
        async for item in self.worker.begenerate(prompt):
            yield item

    @api
    async def count(self, prompt):
        async for item in self.worker.count(prompt):
            yield item

    @api
    async def first(self, prompt):
        stream = self.worker.begenerate(prompt)
        async for item in stream:
            yield item
            break
        await stream.aclose()

    @api
    async def await_it(self, prompt):
        yield await self.worker.begenerate(prompt)

    @api
    async def misspell(self, prompt):
        async for item in self.worker.begenerat(prompt):
            yield item

    @api
    async def same_client(self, prompt):
        one = await self.worker.get_endpoint("begenerate")
        yield one is await self.worker.get_endpoint("begenerate")

    @api
    async def refused(self, prompt):
        yield "before"
        async for item in self.worker.refuse(prompt):
            yield item


# ---------------------------------------------------------------------------- the edge


def test_on_the_class_it_is_the_edge() -> None:
    """The class attribute says on whom the service depends; the graph is read from it."""
    assert Worker is Frontend.inner.worker.on
    assert [Worker] == Frontend.dependencies
    assert "depends(Worker)" == repr(Frontend.inner.worker)


def test_edges_of_base_classes_count_and_may_be_replaced() -> None:
    """A subclass inherits its base's edges; an edge of the same name replaces it."""
    one, two = service(type("One", (), {})), service(type("Two", (), {}))

    class Base:
        a = depends(one)
        b = depends(one)

    class Sub(Base):
        b = depends(two)

    assert [one, two] == [edge.on for edge in edges_of(Sub)]


def test_two_edges_to_one_service_start_it_once() -> None:
    """The graph has services, not edges."""
    one = service(type("One", (), {}))

    @service
    class Front:
        a = depends(one)
        b = depends(one)

    assert [one] == Front.dependencies


def test_on_an_instance_it_is_one_client() -> None:
    """Each attribute of the client is an endpoint of the other service."""
    front = Frontend()

    assert isinstance(front.worker, DynamoClient)
    assert front.worker is front.worker
    assert "<DynamoClient of Worker: begenerate, count, refuse>" == repr(front.worker)


@pytest.mark.parametrize(
    ("on", "sentence"),
    [
        (dict, "not the class dict. Decorate it: @service(dynamo={'namespace': 'dynamo-demo'})."),
        ("Worker", "not 'Worker'. Decorate it: @service(dynamo={'namespace': 'dynamo-demo'})."),
        (None, "not None. Decorate it: @service(dynamo={'namespace': 'dynamo-demo'})."),
    ],
)
def test_only_a_service_can_be_depended_on(on: Any, sentence: str) -> None:
    """A plain class is an error on the line of `depends()`, which is also a TypeError as in Dynamo."""
    with pytest.raises(DependencyError) as raised:
        depends(on)

    assert f"depends() expects a class decorated with @service(), {sentence}" == str(raised.value)
    assert isinstance(raised.value, TypeError)


# ---------------------------------------------------------------------------- the caller


def test_calls_yield_the_data_of_each_item() -> None:
    """`async for item in self.worker.begenerate(request)`, no await, and items are unwrapped."""
    with serve(Frontend, seed=1) as deployment:
        items = deployment.ask("a b c", api="words")

    worker = items[0].partition("@")[2]
    assert worker in ("Worker-0", "Worker-1")
    assert [f"{word}@{worker}" for word in "abc"] == items


def test_one_component_serves_several_endpoints() -> None:
    """An endpoint's name is its `name=`, and both are listed for the same instance."""
    with serve(Frontend) as deployment:
        assert ["3"] == deployment.ask("a b c", api="count")
        (registered,) = {i.instance_id for i in deployment.instances if i.worker == "Worker-0"}
        endpoints = [e for e in deployment.planes.discovery.endpoints() if e.component == "Worker"]

        assert ["begenerate", "count", "refuse"] == sorted(e.name for e in endpoints)
        assert all(registered in {r.instance_id for r in deployment.planes.discovery.instances(e)} for e in endpoints)


def test_a_call_can_be_left_early() -> None:
    """`aclose()` hangs up, and leaves nothing under way."""
    with serve(Frontend) as deployment:
        assert 1 == len(deployment.ask("a b c", api="first"))


def test_a_client_is_made_once() -> None:
    """Calls of one instance share the client of an endpoint, and so its turn."""
    with serve(Frontend) as deployment:
        assert ["true"] == deployment.ask("x", api="same_client")


def test_a_handlers_error_keeps_type_and_message_on_its_way_up() -> None:
    """ValueError in the worker is ValueError in the Frontend, with a note that says where it was raised."""
    with serve(Frontend) as deployment:
        with pytest.raises(Exception, match=r"after 2 item.*ValueError: no such word"):
            deployment.ask("no such word", api="refused")
        assert "ValueError" == deployment.traces.last.outcome


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "misspell",
            (
                "No Dynamo endpoint 'begenerat' found on service 'Worker'. Available endpoints: begenerate, count, "
                "refuse. Did you mean 'begenerate'?"
            ),
        ),
        ("await_it", "begenerate(...) is a stream of items, not one value: write `async for item in"),
    ],
)
def test_a_wrong_call_is_a_sentence(name: str, sentence: str) -> None:
    """A misspelt endpoint names those that exist; an awaited stream says how to read it."""
    with serve(Frontend) as deployment, pytest.raises(Exception, match="HTTP 500") as raised:
        deployment.ask("x", api=name)

    assert sentence in str(raised.value)


def test_an_unknown_endpoint_is_also_an_attribute_error() -> None:
    """So `hasattr(self.worker, name)` works, as it does in Dynamo."""
    with pytest.raises(AttributeError) as raised:
        _ = Frontend().worker.nothing

    assert isinstance(raised.value, UnknownEndpointError)
    assert not hasattr(Frontend().worker, "nothing")


def test_outside_of_a_deployment_a_call_says_where_it_works() -> None:
    """A service object made by hand has no runtime to call through."""

    async def call() -> None:
        async for _ in Frontend().worker.begenerate("x"):
            pass

    with (
        asyncio.Runner() as runner,
        pytest.raises(KeyError, match=r"dynamo_context\['runtime'\] exists only inside a running service"),
    ):
        runner.run(call())
