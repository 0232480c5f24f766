"""`dynlab.runtime.client`: who gets a request, and what happens when nobody can, as in Dynamo 1.6.1's `Client`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from dynlab.errors import (
    ConfigError,
    InstanceNotFoundError,
    InstancesTimeoutError,
    NoInstancesError,
    PickError,
    StreamIncompleteError,
    WorkerUnavailableError,
)
from dynlab.protocols import Envelope, Instance
from dynlab.routing.modes import RouterMode
from dynlab.runtime.client import LocalClient
from dynlab.runtime.context import Context
from tests.runtime.cluster import PATH, PATIENCE_S, Cluster, Happened, data, first, settled

INNER = "test.Inner.generate"
ANY_PICK = ("random", "round_robin", "power_of_two", "least_loaded", "generate", "route")


async def served(client: LocalClient, times: int, method: str = "round_robin") -> list[int]:
    """Send so many requests one after the other, and return the numbers of the workers that answered."""
    return [int((await first(getattr(client, method)(n)))["worker"].removeprefix("Worker-")) for n in range(times)]


# ---------------------------------------------------------------------------- who gets a request


async def test_round_robin_takes_each_in_turn(cluster: Cluster) -> None:
    """From the lowest id upwards, and round again."""
    await cluster.echoes(4)

    assert [1, 2, 3, 4, 1, 2, 3, 4, 1] == await served(await cluster.client(), 9)


async def test_the_order_is_that_of_the_ids(cluster: Cluster) -> None:
    """Not that of registration: a worker that leaves and comes back has its old place."""
    workers = await cluster.echoes(3)
    endpoint = workers[0].runtime.endpoint(PATH)
    server = workers[0].runtime.servers[0]
    discovery = cluster.planes.discovery
    discovery.revoke(workers[0].runtime.lease)

    discovery.register(endpoint.endpoint_id, workers[0].runtime.lease, "Worker-1", server)

    client = await cluster.client()
    assert [7001, 7002, 7003] == client.instance_ids() == client.endpoint_ids()
    assert [1, 2, 3] == await served(client, 3)


@pytest.mark.parametrize("method", ["random", "generate", "power_of_two", "least_loaded"])
async def test_only_round_robin_moves_its_turn(cluster: Cluster, method: str) -> None:
    """Between two turns any number of other requests may pass."""
    await cluster.echoes(3)
    client = await cluster.client()
    assert [1, 2] == await served(client, 2)

    await served(client, 5, method)
    await data(client.direct(0, 7001))

    assert [3, 1] == await served(client, 2)


async def test_each_client_has_a_turn_of_its_own(cluster: Cluster) -> None:
    """A second client begins with the first worker again."""
    await cluster.echoes(3)
    one, other = await cluster.client(), await cluster.client()

    assert [1, 2] == await served(one, 2)
    assert [1, 2] == await served(other, 2)
    assert [3, 1] == await served(one, 2)


async def test_the_turn_counts_on_when_workers_join_and_leave(cluster: Cluster) -> None:
    """The turn modulo the list as it is then: Dynamo gives the same ranks."""
    workers = await cluster.echoes(4)
    client = await cluster.client()
    assert [1, 2] == await served(client, 2)

    await cluster.worker()
    assert [3, 4, 5, 1, 2, 3] == await served(client, 6)
    workers[1].runtime.shutdown()

    # Turn 8 of 1, 3, 4, 5.
    assert [1, 3, 4, 5, 1] == await served(client, 5)


@pytest.mark.parametrize("router_mode", RouterMode)
async def test_generate_is_random_whatever_the_mode(cluster: Cluster, router_mode: RouterMode) -> None:
    """As in Dynamo's Python client `generate` does not follow the router mode: it draws lots."""
    cluster.planes.seed = 7
    await cluster.echoes(3)
    client = await cluster.client(router_mode=router_mode)

    drawn = await served(client, 60, "generate")

    assert {1, 2, 3} == set(drawn)
    assert drawn not in ([1, 2, 3] * 20, [1] * 60)


@pytest.mark.parametrize("method", ["random", "generate", "power_of_two", "least_loaded"])
async def test_a_seed_reproduces_the_picks(method: str) -> None:
    """Two deployments of one seed pick the same workers; two clients of one deployment do not."""
    drawn = []
    for seed in (7, 7, 8):
        cluster = Cluster()
        try:
            cluster.planes.seed = seed
            await cluster.echoes(4)
            drawn.append([await served(await cluster.client(), 20, method) for _ in range(2)])
        finally:
            cluster.close()

    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


async def test_direct_goes_to_the_named_instance(cluster: Cluster) -> None:
    """An id is enough."""
    await cluster.echoes(3)
    client = await cluster.client()

    assert "Worker-2" == (await first(client.direct(0, 7002)))["worker"]


async def test_loads_are_seen_by_all_clients_of_a_runtime(cluster: Cluster) -> None:
    """Streams that are open count where they are open, whichever client opened them."""

    async def hold(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        yield {"worker": cluster.workers[0].name}
        await context.async_killed_or_stopped()

    await cluster.worker(hold)
    await cluster.worker()
    await cluster.worker(hold)
    busy, client = await cluster.client(), await cluster.client()
    streams = [await busy.direct(0, instance_id) for instance_id in (7001, 7003, 7003)]

    assert [1, 0, 2] == cluster.active()
    assert [2, 2, 2] == await served(client, 3, "least_loaded")
    for _ in range(10):  # 7003 is never the better of two
        await (await client.power_of_two(0)).aclose()
    assert [1, 0, 2] == cluster.active()
    assert 7003 not in [trace.hops[0].instance_id for trace in cluster.planes.traces.tail(10)]
    for stream in streams:
        await stream.aclose()

    assert [0, 0, 0] == cluster.active()


async def test_raw_items(cluster: Cluster) -> None:
    """With `annotated=False` the items are the values themselves."""
    await cluster.echoes(1)

    stream = await (await cluster.client()).random(3, annotated=False)

    assert [{"worker": "Worker-1", "request": 3}] == [item async for item in stream]


# ---------------------------------------------------------------------------- the router mode


@pytest.mark.parametrize(
    ("router_mode", "expected"),
    [("round-robin", [1, 2, 3, 1]), ("direct", [1, 1, 1, 1]), (lambda request, among: among[request.data % 2], None)],
)
async def test_route_follows_the_clients_mode(cluster: Cluster, router_mode: Any, expected: list[int] | None) -> None:
    """A client's own mode, or a reader's pick function, comes before the deployment's."""
    cluster.planes.router_mode = RouterMode.RANDOM
    await cluster.echoes(3)

    assert (expected or [1, 2, 1, 2]) == await served(await cluster.client(router_mode=router_mode), 4, "route")


async def test_route_follows_the_deployment_while_it_runs(cluster: Cluster) -> None:
    """A change of the router takes effect with the next request; each mode goes on where it was."""
    await cluster.echoes(3)
    client = await cluster.client()
    assert [1, 2] == await served(client, 2, "route")

    cluster.planes.router_mode = RouterMode.DIRECT
    assert [1, 1] == await served(client, 2, "route")
    cluster.planes.router_mode = RouterMode.ROUND_ROBIN

    assert [3, 1] == await served(client, 2, "route")


async def test_route_has_its_own_turn(cluster: Cluster) -> None:
    """`route` by round robin and `round_robin` do not disturb each other."""
    await cluster.echoes(3)
    client = await cluster.client()

    assert ([1, 2], [1], [3]) == (
        await served(client, 2, "route"),
        await served(client, 1),
        await served(client, 1, "route"),
    )


async def test_an_unknown_mode_is_refused_at_once(cluster: Cluster) -> None:
    """The client is not made."""
    with pytest.raises(ConfigError, match="is no router mode"):
        await cluster.client(router_mode="rond-robin")


async def test_a_wrong_pick_leaves_nothing_in_flight(cluster: Cluster) -> None:
    """A pick function that returns no instance, or fails, fails the request and only that."""
    await cluster.echoes(2)

    def nothing(request: Envelope, instances: Sequence[Instance]) -> Any:
        return None

    def failing(request: Envelope, instances: Sequence[Instance]) -> Any:
        raise LookupError("no idea")

    with pytest.raises(PickError):
        await (await cluster.client(router_mode=nothing)).route(0)
    with pytest.raises(LookupError, match="no idea"):
        await (await cluster.client(router_mode=failing)).route(0)

    assert [0, 0] == cluster.active()


async def test_a_pick_function_may_use_its_client(cluster: Cluster) -> None:
    """A reader's router may ask for the instances while it picks."""
    await cluster.echoes(3)

    def last(request: Envelope, instances: Sequence[Instance]) -> int:
        return client.instance_ids()[-1]

    client = await cluster.client(router_mode=last)

    assert [3] == await served(client, 1, "route")


# ---------------------------------------------------------------------------- nobody there


@pytest.mark.parametrize("method", ANY_PICK)
async def test_nobody_there(cluster: Cluster, method: str) -> None:
    """With no instance every way of choosing one raises at once, with Dynamo's sentence."""
    client = await cluster.client()

    with pytest.raises(NoInstancesError, match="No workers available for endpoint test/Worker/generate"):
        await getattr(client, method)(0)


@pytest.mark.parametrize("workers", [0, 2])
async def test_an_unknown_id(cluster: Cluster, workers: int) -> None:
    """A direct call to a stranger raises Dynamo's sentence, and names who is there."""
    await cluster.echoes(workers)
    client = await cluster.client()

    known = "7001, 7002" if workers else "none"
    with pytest.raises(
        InstanceNotFoundError,
        match=f"instance_id=12345 not found for endpoint test/Worker/generate; available: {known}",
    ):
        await client.direct(0, 12345)


async def test_the_turn_stands_still_while_nobody_is_there(cluster: Cluster) -> None:
    """A failed pick is no pick."""
    client = await cluster.client()
    with pytest.raises(NoInstancesError):
        await client.round_robin(0)
    await cluster.echoes(2)

    assert [1, 2] == await served(client, 2)


# ---------------------------------------------------------------------------- waiting


async def test_waiting_for_instances_that_are_there(cluster: Cluster) -> None:
    """The ids are returned at once, all of them."""
    await cluster.echoes(3)

    assert [7001, 7002, 7003] == await (await cluster.client()).wait_for_instances(at_least=2)


async def test_waiting_for_instances_to_come(cluster: Cluster) -> None:
    """The wait ends with the instance that makes the number full, not before."""
    client = await cluster.client()
    waiting = asyncio.create_task(client.wait_for_instances(at_least=2, timeout=PATIENCE_S))
    await cluster.worker()
    await settled()
    assert not waiting.done()

    await cluster.worker()

    assert [7001, 7002] == await asyncio.wait_for(waiting, PATIENCE_S)


async def test_waiting_in_vain(cluster: Cluster) -> None:
    """After the time is up the error says how many there are."""
    await cluster.worker()
    client = await cluster.client()

    with pytest.raises(
        InstancesTimeoutError, match=r"Only 1 of 2 instances of test/Worker/generate appeared within 0\.01 s\. Start"
    ):
        await client.wait_for_instances(at_least=2, timeout=0.01)


async def test_waiting_for_a_misspelt_endpoint(cluster: Cluster) -> None:
    """When nobody ever served that name the error lists what is served, and what was perhaps meant."""
    await cluster.worker()
    client = await cluster.client("test.Worker.generat")

    with pytest.raises(
        InstancesTimeoutError,
        match=r"Served now: test/Worker/generate\. Did you mean 'test/Worker/generate'\?",
    ):
        await client.wait_for_instances(timeout=0.01)


async def test_who_has_waited_watches_no_longer(cluster: Cluster) -> None:
    """When `wait_for_instances` returns, however it does, discovery has nobody left to tell."""
    client = await cluster.client()
    with pytest.raises(InstancesTimeoutError):
        await client.wait_for_instances(timeout=0.01)
    await cluster.worker()

    await client.wait_for_instances()

    assert {} == cluster.planes.discovery._watchers


# ---------------------------------------------------------------------------- the dead


async def test_a_dead_worker_costs_one_failed_call(cluster: Cluster) -> None:
    """The first request to it fails at once; then it is skipped, though it is still listed."""
    workers = await cluster.echoes(3)
    client = await cluster.client()
    workers[1].kill()

    assert [1] == await served(client, 1)
    with pytest.raises(WorkerUnavailableError, match="instance_id=7002 of endpoint test/Worker/generate"):
        await client.round_robin(0)

    assert {1, 3} == set(await served(client, 6))
    assert ([7001, 7002, 7003], [0, 0, 0]) == (client.instance_ids(), cluster.active())


async def test_a_dead_worker_is_tried_again_at_the_next_tick(cluster: Cluster) -> None:
    """Every five seconds one call fails, until discovery drops it after ten."""
    workers = await cluster.echoes(2)
    client = await cluster.client()
    workers[0].kill()
    failures = []

    for second in range(12):
        for _ in range(4):
            try:
                await data(client.round_robin(0))
            except WorkerUnavailableError:
                failures.append(second)
        cluster.clock.advance(1.0)

    assert ([0, 5], [7002]) == (failures, client.instance_ids())


async def test_a_direct_call_tries_the_dead(cluster: Cluster) -> None:
    """Whoever names a dead worker gets the error each time, and never `not found` while it is listed."""
    workers = await cluster.echoes(2)
    client = await cluster.client()
    workers[0].kill()

    for _ in range(3):
        with pytest.raises(WorkerUnavailableError):
            await client.direct(0, 7001)


async def test_all_dead(cluster: Cluster) -> None:
    """When each has failed once, the error says that all are being skipped."""
    workers = await cluster.echoes(2)
    client = await cluster.client()
    for worker in workers:
        worker.kill()
    for _ in range(2):
        with pytest.raises(WorkerUnavailableError):
            await client.round_robin(0)

    with pytest.raises(NoInstancesError, match="instances 7001, 7002 failed a moment ago"):
        await client.round_robin(0)


async def test_dying_in_the_middle_is_failing_too(cluster: Cluster) -> None:
    """A worker that leaves a stream incomplete is skipped from then on."""
    begun = Happened()

    async def stall(request: Any) -> AsyncGenerator[int, None]:
        yield 1
        begun.set()
        await asyncio.Event().wait()

    dying = await cluster.worker(stall)
    await cluster.worker()
    client = await cluster.client()
    stream = await client.round_robin(0)
    await begun.wait_here()
    dying.kill()
    with pytest.raises(StreamIncompleteError):
        async for _ in stream:
            pass

    assert {2} == set(await served(client, 4))


async def test_a_handlers_own_error_is_no_death(cluster: Cluster) -> None:
    """A worker that raises goes on getting its turn."""

    async def fail(request: Any) -> AsyncGenerator[int, None]:
        raise ConnectionError("the database is away")
        yield

    await cluster.worker(fail)
    client = await cluster.client()

    for _ in range(3):
        with pytest.raises(ConnectionError, match="the database is away"):
            await data(client.round_robin(0))


async def test_a_dead_worker_does_not_discredit_the_tier_above(cluster: Cluster) -> None:
    """The processor that reports its worker's death is not taken for dead itself."""

    async def middle(request: Any) -> AsyncGenerator[Any, None]:
        client = await cluster.workers[1].runtime.endpoint(INNER).client()
        async for item in await client.direct(request, 7001):
            yield item.data()

    inner = await cluster.worker(path=INNER)
    await cluster.worker(middle)
    client = await cluster.client()
    inner.kill()

    for _ in range(3):
        with pytest.raises(WorkerUnavailableError, match="instance_id=7001 of endpoint test/Inner"):
            await data(client.random(0))


# ---------------------------------------------------------------------------- migration


async def test_with_migration_a_dead_worker_costs_nothing(cluster: Cluster) -> None:
    """A request that finds its worker dead is sent to another one."""
    cluster.planes.migration_limit = 1
    workers = await cluster.echoes(3)
    client = await cluster.client()
    workers[1].kill()

    answered = await served(client, 12)

    assert 12 == len(answered)
    assert {1, 3} == set(answered)
    assert [0, 0, 0] == cluster.active()


@pytest.mark.parametrize("limit", [1, 2])
async def test_migration_has_its_limit(cluster: Cluster, limit: int) -> None:
    """Two dead workers in a row need a limit of two."""
    cluster.planes.migration_limit = limit
    workers = await cluster.echoes(3)
    client = await cluster.client(router_mode=lambda request, among: among[0])
    workers[0].kill()
    workers[1].kill()

    if limit == 1:
        with pytest.raises(WorkerUnavailableError, match="instance_id=7001"):
            await client.route(0)
    assert [3] == await served(client, 1, "route")


async def test_migration_ends_when_nobody_is_left(cluster: Cluster) -> None:
    """The reader gets the error of a worker that died, not that there is nobody."""
    cluster.planes.migration_limit = 9
    for worker in await cluster.echoes(3):
        worker.kill()

    with pytest.raises(WorkerUnavailableError):
        await (await cluster.client()).round_robin(0)

    assert [0, 0, 0] == cluster.active()


@pytest.mark.parametrize("items", [0, 1])
async def test_a_request_moves_only_while_it_has_yielded_nothing(cluster: Cluster, items: int) -> None:
    """A worker that dies before its first item loses the request to another; after it, the stream is incomplete."""
    cluster.planes.migration_limit = 1
    begun = Happened()

    async def stall(request: Any) -> AsyncGenerator[Any, None]:
        for n in range(items):
            yield {"worker": n}
        begun.set()
        await asyncio.Event().wait()

    dying = await cluster.worker(stall)
    await cluster.worker()
    stream = await (await cluster.client()).round_robin("moved")
    await begun.wait_here()
    dying.kill()

    if items:
        assert {"worker": 0} == (await anext(stream)).data()
        with pytest.raises(StreamIncompleteError, match="after 1 item"):
            await anext(stream)
    else:
        assert [{"worker": "Worker-2", "request": "moved"}] == [item.data() async for item in stream]
    assert [0, 0] == cluster.active()


async def test_a_direct_call_does_not_move(cluster: Cluster) -> None:
    """Whoever names an instance wants that one."""
    cluster.planes.migration_limit = 9
    workers = await cluster.echoes(2)
    workers[0].kill()

    with pytest.raises(WorkerUnavailableError):
        await (await cluster.client()).direct(0, 7001)


async def test_nothing_is_lost_while_workers_die(cluster: Cluster) -> None:
    """With a migration limit each of two hundred requests gets its item while two of four workers are killed."""
    cluster.planes.migration_limit = 3
    workers = await cluster.echoes(4)
    client = await cluster.client()

    async def killer() -> None:
        for worker in workers[:2]:
            await settled()
            worker.kill()

    async def one_item(n: int) -> Any:
        # No more than that: a worker may die after its item and before its end, and then the rest is incomplete.
        async with aclosing(await client.round_robin(n)) as stream:
            return (await anext(stream)).data()["request"]

    answers = await asyncio.gather(killer(), *(one_item(n) for n in range(200)))

    assert list(range(200)) == answers[1:]
    assert [0, 0, 0, 0] == cluster.active()


# ---------------------------------------------------------------------------- the client itself


async def test_a_client_lives_on_its_loop(cluster: Cluster) -> None:
    """On another loop it refuses, and says what to do."""
    worker = await cluster.worker()
    client = await cluster.client()

    with pytest.raises(RuntimeError, match=r"lives on another event loop; make one where you use it: await endpoint"):
        await worker.run(client.random(0))


async def test_a_client_shows_what_it_sees(cluster: Cluster) -> None:
    """Endpoint and instance ids."""
    await cluster.echoes(2)

    assert "<LocalClient of test/Worker/generate: instances [7001, 7002]>" == repr(await cluster.client())


async def test_requests_are_traced(cluster: Cluster) -> None:
    """Each request leaves a trace under its id, with a hop for each tier and the decision that led there."""
    await cluster.echoes(2)
    client = await cluster.client()

    await served(client, 3)

    hops = [trace.hops for trace in cluster.planes.traces]
    assert [7001, 7002, 7001] == [hop.instance_id for (hop,) in hops]
    assert {"ok": 3} == dict(Counter(hop.outcome for (hop,) in hops))
    assert ["round-robin"] * 3 == [hop.decision.mode for (hop,) in hops if hop.decision]


# ---------------------------------------------------------------------------- devices


async def test_accelerators_come_first(cluster: Cluster) -> None:
    """Instances say what they compute on; a CPU is sent the ninth request, when the accelerator holds eight."""
    open_ = Happened()

    async def hold(request: Any) -> AsyncGenerator[Any, None]:
        await open_.wait_here()
        yield request

    cpu, gpu = await cluster.worker(hold), await cluster.worker()
    gpu.runtime.device = "cuda"
    await gpu.serve(hold)
    client = await cluster.client(router_mode="device-aware-weighted")

    streams = [await client.route(n) for n in range(9)]

    held = {instance.instance_id: instance.active_requests for instance in client.instances()}
    assert {cpu.instance_id: 1, gpu.instance_id: 8} == held
    assert {"tied": 1, "device": "cpu", "cpu_budget": 1} == cluster.planes.traces.last.decisions[-1].detail
    open_.set()
    for stream in streams:
        assert 1 == len([item async for item in stream])
