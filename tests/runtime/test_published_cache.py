"""A worker's cache fills only while a router listens, and the router's index is then what the cache holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.protocols import EndpointId
from dynlab.runtime.published_cache import PublishedCache
from tests.runtime.cluster import PATH, PATIENCE_S, Cluster, Worker

SIZE = 4
LONG = " ".join(f"word{n}" for n in range(4 * SIZE))


class CachingWorker:
    """An instance with a cache of so many blocks, which answers how many of the prompt's were there."""

    def __init__(self, worker: Worker, blocks: int) -> None:
        self.worker = worker
        self.blocks = blocks
        self.cache: PublishedCache | None = None

    async def begin(self) -> CachingWorker:
        async def answer(request: Any) -> AsyncGenerator[Any, None]:
            assert self.cache is not None
            with self.cache.holding(request["prompt"]) as cached:
                yield {"worker": self.worker.name, "cached": cached}

        async def open_cache() -> PublishedCache:
            return self.worker.runtime.endpoint(PATH).kv_cache(self.blocks)

        self.cache = await self.worker.run(open_cache())
        await self.worker.serve(answer)
        return self


async def caching(cluster: Cluster, workers: int, blocks: int = 64) -> list[CachingWorker]:
    cluster.planes.kv = {"block_size": SIZE}
    return [await CachingWorker(await cluster.worker(), blocks).begin() for _ in range(workers)]


async def ask(client: Any, prompt: str) -> dict[str, Any]:
    [item] = [item.data() async for item in await client.route({"prompt": prompt})]
    answer: dict[str, Any] = item
    return answer


async def indexed(cluster: Cluster, expected: dict[int, int], prompt: str = LONG) -> None:
    """Wait until the router's index says so of a prompt."""
    router = cluster.reader.kv_picker(EndpointId.parse(PATH)).router  # type: ignore[attr-defined]
    sequence = sequence_hashes(block_hashes(tokenize(prompt), SIZE))
    async with asyncio.timeout(PATIENCE_S):
        while router.indexer.find_matches(sequence) != expected:
            await asyncio.sleep(0.001)


async def test_a_cache_that_no_router_asks_for_stays_empty(cluster: Cluster) -> None:
    """In the other modes it costs nothing."""
    [worker] = await caching(cluster, 1)
    client = await cluster.client(router_mode="round-robin")

    answers = [await ask(client, LONG) for _ in range(2)]

    assert [0, 0] == [answer["cached"] for answer in answers]
    assert worker.cache is not None
    assert 0 == len(worker.cache)


async def test_equal_prompts_go_to_the_worker_that_has_them(cluster: Cluster) -> None:
    """The first goes anywhere; once its worker has told, all that begin with it go there, and find it."""
    await caching(cluster, 4)
    client = await cluster.client(router_mode="kv")
    first = await ask(client, LONG)
    chosen = next(w.instance_id for w in cluster.workers if w.name == first["worker"])
    await indexed(cluster, {chosen: 4})

    answers = [await ask(client, f"{LONG} and more {n}") for n in range(10)]

    assert {first["worker"]} == {answer["worker"] for answer in answers}
    assert {4} == {answer["cached"] for answer in answers}


async def test_the_decision_says_what_it_was_made_from(cluster: Cluster) -> None:
    """The trace keeps each worker's terms, in the order of `workers`."""
    await caching(cluster, 2)
    client = await cluster.client(router_mode="kv")
    first = await ask(client, LONG)
    chosen = next(w.instance_id for w in cluster.workers if w.name == first["worker"])
    await indexed(cluster, {chosen: 4})

    await ask(client, LONG)

    decision = cluster.planes.traces.last.decisions[-1]
    other = 7001 + 7002 - chosen
    assert ("kv", chosen) == (decision.mode, decision.instance_id)
    detail = decision.detail
    of = {name: dict(zip(detail["workers"], detail[name], strict=True)) for name in ("overlap_blocks", "cost")}
    assert {chosen: 4, other: 0} == of["overlap_blocks"]
    assert {chosen: 4, other: 8} == of["cost"]  # blocks to prefill and to decode with


async def test_what_was_booked_is_released(cluster: Cluster) -> None:
    """After every answer, also one that broke off, nothing is left in the router's books."""
    await caching(cluster, 2)
    client = await cluster.client(router_mode="kv")
    await ask(client, LONG)
    stream = await client.route({"prompt": LONG})
    await stream.aclose()

    loads = cluster.reader.kv_picker(EndpointId.parse(PATH)).router.loads  # type: ignore[attr-defined]

    assert [[0.0, 0.0]] * 3 == [column.tolist() for column in loads.columns([7001, 7002], 0.0)]


async def test_a_worker_that_left_is_forgotten(cluster: Cluster) -> None:
    """Its blocks are no reason to choose anybody any more."""
    workers = await caching(cluster, 2)
    client = await cluster.client(router_mode="kv")
    first = await ask(client, LONG)
    gone = next(w.worker for w in workers if w.worker.name == first["worker"])
    await indexed(cluster, {gone.instance_id: 4})

    gone.runtime.shutdown()
    answer = await ask(client, LONG)

    assert first["worker"] != answer["worker"]
    await indexed(cluster, {7001 + 7002 - gone.instance_id: 4})


async def test_a_router_that_comes_late_learns_what_is_cached(cluster: Cluster) -> None:
    """Caches are told from the beginning to each new router."""
    await caching(cluster, 3)
    client = await cluster.client(router_mode="kv")
    first = await ask(client, LONG)
    chosen = next(w.instance_id for w in cluster.workers if w.name == first["worker"])
    await indexed(cluster, {chosen: 4})

    from dynlab.runtime.local import LocalRuntime

    late = LocalRuntime(cluster.planes, "late")
    picker = late.kv_picker(EndpointId.parse(PATH))
    sequence = sequence_hashes(block_hashes(tokenize(LONG), SIZE))
    async with asyncio.timeout(PATIENCE_S):
        while picker.router.indexer.find_matches(sequence) != {chosen: 4}:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
    late.shutdown()


async def test_a_small_cache_gives_up_what_was_used_least_recently(cluster: Cluster) -> None:
    """And says so: the index never promises what is gone."""
    [worker] = await caching(cluster, 1, blocks=4)
    client = await cluster.client(router_mode="kv")
    await ask(client, LONG)
    await indexed(cluster, {worker.worker.instance_id: 4})
    other = LONG.replace("word", "other")

    await ask(client, other)

    await indexed(cluster, {worker.worker.instance_id: 4}, other)
    await indexed(cluster, {})
    assert 0 == (await ask(client, LONG))["cached"]


async def test_a_prompt_larger_than_the_cache_is_answered(cluster: Cluster) -> None:
    """Nothing of it is kept."""
    [worker] = await caching(cluster, 1, blocks=2)
    client = await cluster.client(router_mode="kv")

    assert 0 == (await ask(client, LONG))["cached"]
    assert worker.cache is not None
    assert 0 == len(worker.cache)
