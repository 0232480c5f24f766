"""One instance: it starts in Dynamo's order, and ends in order, in a hurry, or not at all in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from dynlab.config import ServiceConfig
from dynlab.errors import WorkerUnavailableError
from dynlab.protocols import EndpointId
from dynlab.runtime.local import LocalPlanes, LocalRuntime
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.endpoint import async_on_start, dynamo_endpoint, on_shutdown
from dynlab.sdk.service import service
from dynlab.serving.instance import ServiceInstance

WAIT_S = 5.0
ENDPOINT = EndpointId("test", "Worker", "begenerate")
SEEN: list[str] = []
GO_ON = threading.Event()


@service(dynamo={"namespace": "test"})
class Worker:
    def __init__(self) -> None:
        SEEN.append(f"init, listed: {len(self.listed())}")

    def listed(self) -> list[object]:
        return list(dynamo_context["runtime"].planes.discovery.instances(ENDPOINT))

    @async_on_start
    async def start(self) -> None:
        if ServiceConfig.get_instance().for_service("Worker").get("fail"):
            raise LookupError("no model here")
        SEEN.append(f"start, listed: {len(self.listed())}")

    @on_shutdown
    def stop(self) -> None:
        SEEN.append(f"stop, listed: {len(self.listed())}")

    @dynamo_endpoint()
    async def begenerate(self, request):
        yield "first"
        while not GO_ON.is_set():
            await asyncio.sleep(0.001)
        SEEN.append("answered")
        yield "last"


@pytest.fixture
def planes() -> LocalPlanes:
    SEEN.clear()
    GO_ON.clear()
    return LocalPlanes()


@pytest.fixture
def instance(planes: LocalPlanes) -> Iterator[ServiceInstance]:
    instance = ServiceInstance(Worker, 3, planes, ServiceConfig(), object())
    instance.start().result(WAIT_S)
    yield instance
    instance.stop_thread()
    assert instance.join(WAIT_S)


def test_an_instance_is_listed_after_its_hooks(planes: LocalPlanes, instance: ServiceInstance) -> None:
    """Dynamo's order: construct, start hooks, register."""
    assert ["init, listed: 0", "start, listed: 0"] == SEEN
    assert "serving" == instance.state
    (registration,) = planes.discovery.instances(ENDPOINT)
    assert (instance.instance_id, "Worker-3") == (registration.instance_id, registration.worker)
    assert f"<ServiceInstance Worker-3 {instance.instance_id}: serving>" == repr(instance)


def test_its_thread_has_its_name(instance: ServiceInstance) -> None:
    """One daemon thread, named after service and number."""
    (thread,) = [t for t in threading.enumerate() if t.name == "dynlab-Worker-3"]

    assert thread.daemon


async def test_it_ends_in_order(planes: LocalPlanes, instance: ServiceInstance) -> None:
    """Off the list first, then what is under way is answered, then the hook."""
    client = await LocalRuntime(planes).endpoint("test.Worker.begenerate").client()
    stream = await client.random(None)
    assert "first" == (await anext(stream)).data()
    assert 1 == instance.active

    left = instance.end()
    while planes.discovery.instances(ENDPOINT):
        await asyncio.sleep(0.001)
    assert ("draining", False) == (instance.state, left.done())
    GO_ON.set()

    assert ["last"] == [item.data() async for item in stream]
    await asyncio.wrap_future(left)
    assert ["answered", "stop, listed: 0"] == SEEN[2:]
    assert 0 == instance.active


async def test_a_handler_that_nobody_listens_to_is_not_waited_for(
    planes: LocalPlanes, instance: ServiceInstance
) -> None:
    """Its caller hung up; it would hold the instance for as long as it sleeps."""
    client = await LocalRuntime(planes).endpoint("test.Worker.begenerate").client()
    stream = await client.random(None)
    await anext(stream)
    await stream.aclose()

    await asyncio.wait_for(asyncio.wrap_future(instance.end()), WAIT_S)

    assert ["stop, listed: 0"] == SEEN[2:]


async def test_in_a_hurry_answers_are_broken_off(planes: LocalPlanes, instance: ServiceInstance) -> None:
    """The reader of a stream is told, and the hook still runs."""
    client = await LocalRuntime(planes).endpoint("test.Worker.begenerate").client()
    stream = await client.random(None)
    await anext(stream)

    await asyncio.wait_for(asyncio.wrap_future(instance.end(hurry=True)), WAIT_S)

    with pytest.raises(Exception, match=r"ended after 1 item\(s\) because the worker died"):
        await anext(stream)
    assert ["stop, listed: 0"] == SEEN[2:]


async def test_a_killed_instance_stays_listed_and_answers_nobody(
    planes: LocalPlanes, instance: ServiceInstance
) -> None:
    """No hook, no goodbye: discovery believes in it until its lease lapses."""
    client = await LocalRuntime(planes).endpoint("test.Worker.begenerate").client()

    instance.kill()

    assert "dead" == instance.state
    assert [instance.instance_id] == client.instance_ids()
    with pytest.raises(WorkerUnavailableError):
        await client.random(None)
    assert instance.join(WAIT_S)
    assert "dead" == instance.state
    assert not any("stop" in seen for seen in SEEN)


def test_an_instance_that_cannot_start_is_never_listed(planes: LocalPlanes) -> None:
    """The future has the hook's own error."""
    instance = ServiceInstance(Worker, 0, planes, ServiceConfig({"Worker": {"fail": True}}), object())

    with pytest.raises(LookupError, match="no model here"):
        instance.start().result(WAIT_S)

    assert "starting" == instance.state
    assert [] == planes.discovery.instances(ENDPOINT)
    instance.stop_thread()
    assert instance.join(WAIT_S)
    assert "closed" == instance.state
