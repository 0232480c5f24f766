"""`LocalClient.route` with `router_queue_threshold`: requests wait at the router while every worker prefills enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from dynlab.errors import NoInstancesError, WorkerUnavailableError
from dynlab.runtime.client import LocalClient
from dynlab.runtime.context import Context
from tests.runtime.cluster import PATIENCE_S, Cluster, Happened, Worker, first, settled

TOKENS = 60
"""Of each prompt: more than half of the 100 that a worker prefills at once, so one request is enough for a worker."""


class Gate:
    """A worker's handler that yields its request's number once it is let go; keeps the order of arrival."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.arrived = Happened()
        self.open: dict[int, Happened] = {}

    def at(self, number: int) -> Happened:
        return self.open.setdefault(number, Happened())

    async def __call__(self, request: Any) -> AsyncGenerator[Any, None]:
        number = json.loads(request)["number"]
        self.came.append(number)
        self.arrived.set()
        await self.at(number).wait_here()
        yield number


async def gated(cluster: Cluster) -> tuple[Gate, Worker, LocalClient]:
    """Start one worker behind a gate, and make a client that routes by "kv" and has found it."""
    gate = Gate()

    async def handle(request: Any) -> AsyncGenerator[Any, None]:
        async for item in gate(request):
            yield item

    worker = await cluster.worker(handle)
    client = await cluster.client(router_mode="kv")
    await client.wait_for_instances()
    return gate, worker, client


def prompt(number: int) -> str:
    return json.dumps({"number": number, "token_ids": [1000 * number + token for token in range(TOKENS)]})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.planes.kv = {
        "block_size": 4,
        "router_queue_threshold": 0.5,
        "max_num_batched_tokens": 100,
        "use_kv_events": False,
    }
    yield cluster
    cluster.close()


async def arrived(gate: Gate, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(gate.came) < count:
            await asyncio.sleep(0.001)


async def send(client: LocalClient, *numbers: int) -> list[asyncio.Task[Any]]:
    """Ask for each number, and let all that can go now go."""
    tasks = []
    for number in numbers:
        tasks.append(asyncio.create_task(first(client.route(prompt(number)))))
        await settled()
    return tasks


async def test_requests_wait_their_turn_and_none_overtakes(cluster: Cluster) -> None:
    """One prompt is enough for the worker: the second and the third go one by one, in the order of their coming."""
    gate, _, client = await gated(cluster)

    tasks = await send(client, 1, 2, 3)
    await arrived(gate, 1)
    assert [1] == gate.came
    for number in (1, 2, 3):
        gate.at(number).set()
        assert number == await asyncio.wait_for(tasks[number - 1], PATIENCE_S)

    assert [1, 2, 3] == gate.came
    assert [0] == cluster.active()


async def test_who_waited_says_for_how_long(cluster: Cluster) -> None:
    """The pick's detail has the seconds in the router's queue; who did not wait has none."""
    gate, _, client = await gated(cluster)

    tasks = await send(client, 1, 2)
    await arrived(gate, 1)
    cluster.clock.advance(1.5)
    for number in (1, 2):
        gate.at(number).set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)

    details = [trace.decisions[-1].detail for trace in cluster.planes.traces]
    assert "queued_s" not in details[0]
    assert 1.5 == details[1]["queued_s"]


async def test_who_does_not_want_to_wait_is_left_out(cluster: Cluster) -> None:
    """A waiting request that is cancelled or stopped is never sent, and those behind it get its turn."""
    gate, _, client = await gated(cluster)
    context = Context("stopped")

    one, two = await send(client, 1, 2)
    stopped = asyncio.create_task(client.route(prompt(3), context=context))
    await settled()
    (four,) = await send(client, 4)
    two.cancel()
    context.stop_generating()
    stream = await asyncio.wait_for(stopped, PATIENCE_S)
    assert [] == [item async for item in stream]
    gate.at(1).set()
    gate.at(4).set()
    await asyncio.wait_for(asyncio.gather(one, four), PATIENCE_S)

    assert two.cancelled()
    assert [1, 4] == gate.came
    assert [0] == cluster.active()


async def test_two_clients_share_the_queue(cluster: Cluster) -> None:
    """The queue is the runtime's, whichever loop its clients live on."""
    gate, _, here = await gated(cluster)
    there = await cluster.worker(path="test.Other.generate")

    async def ask_there() -> Any:
        client = await cluster.endpoint().client(router_mode="kv")
        return await first(client.route(prompt(2)))

    (one,) = await send(here, 1)
    await arrived(gate, 1)
    two = asyncio.create_task(there.run(ask_there()))
    await there.settled()
    assert [1] == gate.came
    gate.at(1).set()
    gate.at(2).set()

    assert [1, 2] == await asyncio.wait_for(asyncio.gather(one, two), PATIENCE_S)


async def test_when_the_last_worker_dies_the_queue_hears_of_it(cluster: Cluster) -> None:
    """The request under way fails with its worker; those that wait find nobody to go to."""
    gate, worker, client = await gated(cluster)

    tasks = await send(client, 1, 2)
    await arrived(gate, 1)
    worker.runtime.die()
    one, two = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
    gate.at(1).set()

    assert not isinstance(one, int)
    assert isinstance(two, NoInstancesError | WorkerUnavailableError)


async def test_without_a_threshold_nobody_waits(cluster: Cluster) -> None:
    """It is None by default, as in Dynamo."""
    cluster.planes.kv = {"block_size": 4, "max_num_batched_tokens": 100}
    gate, _, client = await gated(cluster)

    tasks = await send(client, 1, 2, 3)
    await arrived(gate, 3)
    for number in (1, 2, 3):
        gate.at(number).set()

    assert [1, 2, 3] == await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE_S)
