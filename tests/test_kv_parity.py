"""dynlab's KV core does what `ai-dynamo-runtime` 1.6.1 does: hashes, index, choices, loads, draws, waiting.

The oracles run in this process: `RadixTree` and `SelectionService` need no runtime, no network and no files.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import KvEventError
from dynlab.kv.blocks import block_hashes, sequence_hashes
from dynlab.kv.cache import KvCache
from dynlab.kv.events import Cleared, KvEvent, Stored, event_data
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.kv import Column, KvRouter, KvRouterConfig
from dynlab.routing.kv_queue import KvQueue

pytestmark = pytest.mark.needs_real_engine

B = 4
ENVIRONMENT = {
    "overlap_score_credit": "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT",
    "overlap_score_credit_decay": "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY",
    "prefill_load_scale": "DYN_ROUTER_PREFILL_LOAD_SCALE",
    "decode_active_request_weight": "DYN_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT",
    "router_temperature": "DYN_ROUTER_TEMPERATURE",
    "router_track_prefill_tokens": "DYN_ROUTER_TRACK_PREFILL_TOKENS",
    "router_assume_kv_reuse": "DYN_ROUTER_ASSUME_KV_REUSE",
    "router_ttl_secs": "DYN_ROUTER_TTL_SECS",
    "router_queue_threshold": "DYN_ROUTER_QUEUE_THRESHOLD",
}
Load = tuple[int, int, int]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module reads how much to log when it is first imported."""
    monkeypatch.setenv("DYN_LOG", "error")


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Wait until something holds that another thread brings about."""
    deadline = time.monotonic() + 20.0
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        assert time.monotonic() < deadline, f"{what} did not come true in 20 s"
        await asyncio.sleep(0.0005)


class Wheel:
    """Dynamo's `SelectionService`, asked for what dynlab knows by other names."""

    def __init__(self, service: Any, workers: Sequence[int]) -> None:
        self.service = service
        self.workers = workers

    def loads(self) -> dict[int, Load]:
        """Return tokens to prefill, blocks in use and requests of each worker."""
        found = self.service.loads()
        rows = found[0]["loads"] if found else []
        keys = ("potential_prefill_tokens", "potential_decode_blocks", "active_requests")
        return {row["worker_id"]: tuple(row[key] for key in keys) for row in rows}

    def pending(self) -> tuple[int, int]:
        found = self.service.loads()[0]
        return found["pending_count"], found["pending_isl_tokens"]

    async def overlaps(self, tokens: Sequence[int]) -> dict[int, int]:
        """Return the leading blocks each worker holds, without those who hold none."""
        answer = await self.service.overlap_scores({"token_ids": list(tokens)})
        return {row["worker_id"]: row["device_blocks"] for row in answer["workers"] if row["device_blocks"]}

    async def reserve(self, name: str, tokens: Sequence[int], worker: int | None = None) -> dict[str, Any]:
        """Choose and book; a worker that is given is taken."""
        asked: dict[str, Any] = {"selection_id": name, "token_ids": list(tokens)}
        if worker is not None:
            asked["pinned_worker"] = {"worker_id": worker, "dp_rank": 0}
        answer: dict[str, Any] = await self.service.select_and_reserve(asked)
        return answer


@asynccontextmanager
async def wheel(
    monkeypatch: pytest.MonkeyPatch, config: KvRouterConfig, workers: Sequence[int], **options: Any
) -> AsyncIterator[Wheel]:
    """Start a service with these settings and workers; it reads its settings from the environment, once."""
    for name in list(os.environ):
        if name.startswith("DYN_ROUTER"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DYN_ROUTER_USE_KV_EVENTS", "false")
    for name, variable in ENVIRONMENT.items():
        value = getattr(config, name)
        if value is not None:
            monkeypatch.setenv(variable, str(value).lower())
    from dynamo._core import SelectionService

    service = SelectionService(indexer_threads=1)
    try:
        made = Wheel(service, workers)
        for worker in workers:
            await service.upsert_worker({"worker_id": worker, "endpoint": f"e{worker}", "block_size": B} | options)
        await until(lambda: len(made.loads()) == len(workers), "all workers are known")
        yield made
    finally:
        service.shutdown()


def router_for(config: KvRouterConfig) -> KvRouter:
    return KvRouter(B, config, rng=random.Random(7), clock=VirtualClock())


def loads_of(router: KvRouter, workers: Sequence[int]) -> dict[int, Load]:
    columns = [column.astype(int).tolist() for column in router.loads.columns(workers, 0.0)]
    return dict(zip(workers, zip(*columns, strict=True), strict=True))


# ---------------------------------------------------------------------------- hashes


def test_block_hashes() -> None:
    """2,000 random prompts, of 0 to 600 tokens in blocks of 1 to 64, some for an adapter or a namespace."""
    from dynamo._core import compute_block_hash_for_seq

    rng = random.Random(1)
    for _ in range(2_000):
        tokens = [
            rng.choice([0, 2**32 - 1, rng.randrange(2**32), rng.randrange(1000)]) for _ in range(rng.randint(0, 600))
        ]
        size = rng.randint(1, 64)
        adapter, namespace = (rng.choice([None, None, "", "a", "an adapter", "naïve/Zoë"]) for _ in range(2))

        expected = compute_block_hash_for_seq(tokens, size, lora_name=adapter, cache_namespace=namespace)

        assert expected == block_hashes(tokens, size, adapter, namespace)


@pytest.mark.parametrize("tokens", [[1, -1], [1, 2**32], [1, 1.5], [1, "1"], [1, None]], ids=str)
def test_what_is_no_token_is_none_there_either(tokens: list[Any]) -> None:
    """Both refuse the same; and what is a number for one is a number for the other."""
    from dynamo._core import compute_block_hash_for_seq

    with pytest.raises((OverflowError, TypeError)):
        compute_block_hash_for_seq(tokens, 2)
    with pytest.raises(ValueError, match="is no token id"):
        block_hashes(tokens, 2)
    assert compute_block_hash_for_seq([True, 2], 2) == block_hashes([True, 2], 2)


async def test_sequence_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answers with a prompt's sequence hashes, as signed numbers: they are equal, adapters included."""
    rng = random.Random(2)
    async with wheel(monkeypatch, KvRouterConfig(), [1]) as service:
        for n in range(100):
            tokens = [rng.randrange(2**32) for _ in range(rng.randint(0, 80))]
            adapter = rng.choice([None, "a"])
            asked = {"selection_id": f"r{n}", "token_ids": tokens, "lora_name": adapter}

            answer = await service.service.select_and_reserve(asked)

            mine = sequence_hashes(block_hashes(tokens, B, adapter))
            assert [h % 2**64 for h in answer["sequence_hashes"]] == mine


# ---------------------------------------------------------------------------- the index


class Trees:
    """Dynamo's `RadixTree` and dynlab's index, told the same."""

    def __init__(self) -> None:
        from dynamo._core import RadixTree

        self.tree, self.indexer = RadixTree(), KvIndexer()

    def apply(self, worker: int, event: KvEvent) -> None:
        self.tree.apply_event(worker, json.dumps({"event_id": 0, "data": event_data(event)}).encode())
        self.indexer.apply_event(worker, event)

    def assert_equal(self, tokens: Sequence[int]) -> None:
        """Assert that both find the same workers, equally far."""
        blocks = block_hashes(tokens, B)
        found = self.indexer.find_matches(sequence_hashes(blocks))
        assert self.tree.find_matches(blocks).scores == {(worker, 0): depth for worker, depth in found.items()}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("workers", [1, 4, 16, 64])
def test_the_index_finds_what_the_radix_tree_finds(workers: int, seed: int) -> None:
    """Workers with small caches serve prompts that share much, are cleared, and leave: every look-up is equal."""
    rng = random.Random(seed)
    trees = Trees()
    caches = {w: KvCache(rng.choice([5, 20, 100]), lambda event, w=w: trees.apply(w, event)) for w in range(workers)}
    prompts = [[rng.randrange(99) for _ in range(B * 30)]]
    for _ in range(200):
        prompt = rng.choice(prompts[-8:])
        prompt = prompt[: B * rng.randint(1, len(prompt) // B)] + [
            rng.randrange(99) for _ in range(rng.randint(0, 5 * B))
        ]
        prompts.append(prompt)
        worker = rng.randrange(workers)
        blocks = block_hashes(prompt, B)[: caches[worker].capacity]
        sequence = sequence_hashes(blocks)
        caches[worker].hold(sequence, blocks)
        caches[worker].release(sequence)
        if rng.random() < 0.03:
            caches[worker].clear()
        if rng.random() < 0.02:
            trees.tree.remove_worker(worker)
            trees.indexer.remove_worker(worker)
            caches[worker] = KvCache(20, lambda event, w=worker: trees.apply(w, event))
        for _ in range(3):
            asked = rng.choice(prompts)
            trees.assert_equal(asked[: rng.randint(0, len(asked))])


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"removed": {"block_hashes": [99]}}, "Failed to find block"),
        (
            {"stored": {"parent_hash": 99, "blocks": [{"block_hash": 5, "tokens_hash": 5}]}},
            "Failed to find parent block",
        ),
    ],
    ids=["an unknown block", "an unknown parent"],
)
@pytest.mark.parametrize("worker", [1, 2], ids=["of this worker", "of another"])
def test_the_index_refuses_what_the_radix_tree_refuses(event: dict[str, Any], words: str, worker: int) -> None:
    """A block that the worker does not hold, even if another does: both say so with the same words."""
    trees = Trees()
    trees.apply(worker, Stored(None, (99 if worker == 2 else 98,), (1,)))
    if "stored" in event:
        mine: Callable[[], None] = lambda: trees.indexer.store(1, [5], 99)  # noqa: E731
    else:
        mine = lambda: trees.indexer.remove(1, [99])  # noqa: E731

    with pytest.raises(RuntimeError, match=words):
        trees.tree.apply_event(1, json.dumps({"event_id": 0, "data": event}).encode())
    with pytest.raises(KvEventError, match=words):
        mine()


def test_every_event_is_read() -> None:
    """What `event_data` writes, the radix tree reads: stored behind nothing and behind a block, removed, cleared."""
    trees = Trees()
    told: list[KvEvent] = []
    cache = KvCache(3, told.append)
    for last in ((1, 2), (1, 2, 3), (1, 4)):
        tokens = [token for token in last for _ in range(B)]
        cache.hold(sequence_hashes(block_hashes(tokens, B)), block_hashes(tokens, B))
        cache.release(sequence_hashes(block_hashes(tokens, B)))
    told.append(Cleared())
    assert ["Stored", "Stored", "Removed", "Stored", "Cleared"] == [type(event).__name__ for event in told]

    for event in told:
        trees.apply(7, event)
        for last in ((1, 2, 3), (1, 4)):
            trees.assert_equal([token for token in last for _ in range(B)])


# ---------------------------------------------------------------------------- choices and loads

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "half credit": {"overlap_score_credit": 0.5},
    "no credit": {"overlap_score_credit": 0.0},
    "decay": {"overlap_score_credit": 0.8, "overlap_score_credit_decay": 0.7},
    "prefill counts 2.5": {"prefill_load_scale": 2.5},
    "a request counts 1.5": {"decode_active_request_weight": 1.5},
    "no prefill tracking": {"router_track_prefill_tokens": False},
    "no reuse": {"router_assume_kv_reuse": False},
    "all numbers": {
        "overlap_score_credit": 0.9,
        "overlap_score_credit_decay": 1.3,
        "prefill_load_scale": 0.5,
        "decode_active_request_weight": 0.25,
    },
    "no prefill tracking, numbers": {
        "router_track_prefill_tokens": False,
        "overlap_score_credit": 0.7,
        "decode_active_request_weight": 0.7,
    },
    "no reuse, numbers": {
        "router_assume_kv_reuse": False,
        "overlap_score_credit_decay": 0.4,
        "prefill_load_scale": 3.0,
    },
}
STEPS = 2_000
"""Per setting; all together make more than 20,000."""


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
async def test_choices_and_loads(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 steps of reserve, prefill complete, output (some with a fraction) and free over 2 to 16 workers.

    Each time the service's choice is one of dynlab's cheapest, with the same overlap; after each step all loads are
    equal. The prompts share prefixes, and some are shorter than a block.
    """
    seed = list(SETTINGS).index(setting)
    rng = random.Random(seed)
    workers = list(range(1, 1 + rng.randint(2, 16)))
    config = KvRouterConfig(use_kv_events=False, router_ttl_secs=3600.0, **SETTINGS[setting])
    families = [[rng.randrange(1000) for _ in range(40)] for _ in range(6)]
    router, live = router_for(config), list[str]()
    async with wheel(monkeypatch, config, workers) as service:
        for step in range(STEPS):
            kind, name = rng.random(), f"r{step}"
            if kind < 0.4 or not live:
                head = rng.choice(families)[: rng.randint(0, 40)]
                await choose(service, router, name, head + [rng.randrange(1000) for _ in range(rng.randint(0, 12))])
                live.append(name)
            elif kind < 0.55:
                asked = rng.choice(live)
                await service.service.prefill_complete(asked)
                router.prefill_complete(asked)
            elif kind < 0.75:
                asked = rng.choice(live)
                fraction = rng.choice([None, None, 0.5, 0.3, 0.1, 0.9, 1 / 3, 0.0, 1.0])
                service.service.add_output_block(asked, decay_fraction=fraction)
                router.add_output_block(asked, fraction)
            else:
                asked = live.pop(rng.randrange(len(live)))
                await service.service.free_reservation(asked)
                router.free(asked)
            assert service.loads() == loads_of(router, workers), f"step {step}"


async def choose(service: Wheel, router: KvRouter, name: str, tokens: list[int]) -> None:
    """Let both decide about a prompt, compare, and book the service's choice."""
    decision = router.decide(tokens, service.workers)
    terms = {term.worker_id: term for term in decision.terms}
    foreseen = {row["worker_id"]: row for row in await service.service.potential_loads({"token_ids": tokens})}
    for worker, term in terms.items():
        assert foreseen[worker]["potential_decode_blocks"] == term.decode_blocks
        left = max(0, len(tokens) - B * term.overlap_blocks) if router.config.router_track_prefill_tokens else 0
        assert foreseen[worker]["potential_prefill_tokens"] == term.prefill_tokens + left

    answer = await service.reserve(name, tokens)

    chosen = terms[answer["worker_id"]]
    assert chosen.cost <= min(term.cost for term in terms.values()) + 1e-9, (answer, terms)
    assert answer["overlap"]["longest_matched"] == B * chosen.overlap_blocks
    router.reserve(name, replace(decision, worker_id=chosen.worker_id))
    expected = router.indexer.find_matches(decision.sequence)

    async def caught_up() -> bool:
        return await service.overlaps(tokens) == expected

    await until(caught_up, "the service's index has what it was sent")


async def test_assumed_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without events a prompt is believed to be cached for `router_ttl_secs`; what is routed again, from then on.

    Five blocks are routed, and a while later the first three once more: two are gone first, then the three, none
    before its time. So says dynlab, too, of a clock that is moved by hand.
    """
    ttl, tokens = 1.5, list(range(5 * B))
    config = KvRouterConfig(use_kv_events=False, router_ttl_secs=ttl)
    clock = VirtualClock()
    router = KvRouter(B, config, clock=clock)
    router.reserve("a", router.decide(tokens, [1]))

    async with wheel(monkeypatch, config, [1]) as service:
        began = time.monotonic()

        async def seen(blocks: int) -> float:
            """Wait for the service to find so many blocks; returns when it did."""

            async def found() -> bool:
                return await service.overlaps(tokens) == ({1: blocks} if blocks else {})

            await until(found, f"{blocks} blocks are found")
            return time.monotonic() - began

        await service.reserve("a", tokens)
        await seen(5)
        await until(lambda: time.monotonic() - began > 0.6 * ttl, "a while has passed")
        again = time.monotonic() - began
        await service.reserve("b", tokens[: 3 * B])
        clock.advance(again)
        router.reserve("b", router.decide(tokens[: 3 * B], [1]))
        assert {1: 5} == router.indexer.find_matches(router.hashes(tokens))

        assert await seen(3) >= ttl
        clock.advance(ttl - again)
        assert {1: 3} == router.indexer.find_matches(router.hashes(tokens))
        assert await seen(0) >= again + ttl
        clock.advance(again)
        assert {} == router.indexer.find_matches(router.hashes(tokens))


# ---------------------------------------------------------------------------- draws


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 5.0])
async def test_the_temperature(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At costs of 18, 22 and 16 the service's shares over 2,000 draws are the formula's (chi-square, 1 in 10 ** 6)."""
    config = KvRouterConfig(use_kv_events=False, router_temperature=temperature)
    router, prompt, other = router_for(config), list(range(32)), list(range(1000, 1012))
    async with wheel(monkeypatch, config, [1, 2, 3]) as service:
        for name, worker, tokens in (("a", 1, other[:8]), ("b", 2, other)):
            await service.reserve(name, tokens, worker)
            router.reserve(name, replace(router.decide(tokens, [worker]), worker_id=worker))
        await service.service.prefill_complete("a")
        router.prefill_complete("a")
        costs = {term.worker_id: term.cost for term in router.decide(prompt, [1, 2, 3]).terms}
        assert {1: 18.0, 2: 22.0, 3: 16.0} == costs

        drawn = Counter([(await service.service.select({"token_ids": prompt}))["worker_id"] for _ in range(2_000)])

    chances = {worker: math.exp(-(cost - 16.0) / (6.0 * temperature)) for worker, cost in costs.items()}
    expected = {worker: 2_000 * chance / sum(chances.values()) for worker, chance in chances.items()}
    assert 27.6 > sum((drawn[worker] - n) ** 2 / n for worker, n in expected.items()), (drawn, expected)


# ---------------------------------------------------------------------------- waiting


class Follower(KvRouter):
    """Takes the workers that the service took, one after the other, if it might have taken them itself."""

    took: Sequence[int] = ()

    def is_saturated(self, workers: Sequence[int], max_num_batched_tokens: int) -> bool:
        return not self.took or super().is_saturated(workers, max_num_batched_tokens)

    def _draw(self, cost: Column) -> int:
        place, *self.took = self.took
        assert cost[place] <= cost.min() + 1e-9
        return place


@pytest.mark.parametrize("seed", range(4))
async def test_who_waits(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 arrivals, prefills and ends with a queue threshold: the same wait, and the same go, in the same order."""
    rng = random.Random(seed)
    workers, tokens = [1, 2, 3], 100
    config = KvRouterConfig(use_kv_events=False, router_queue_threshold=rng.choice([0.2, 0.5, 1.0]))
    router = Follower(B, config, clock=VirtualClock())
    queue = KvQueue(router, tokens)
    waiting: dict[str, asyncio.Task[dict[str, Any]]] = {}  # in the order in which they came
    going: list[str] = []
    most = 0

    def busy() -> bool:
        return KvRouter.is_saturated(router, workers, tokens)

    async def follow() -> str:
        """Wait for the service to let the first go, and note where to."""
        name = next(iter(waiting))
        answer = await asyncio.wait_for(waiting.pop(name), 20)
        router.took = [workers.index(answer["worker_id"])]
        going.append(name)
        return name

    async with wheel(monkeypatch, config, workers, max_num_batched_tokens=tokens) as service:
        for step in range(300):
            kind = rng.random()
            if kind < 0.5 or not going:
                name = f"r{step}"
                prompt = [rng.randrange(2**32) for _ in range(rng.randint(1, 60))]
                waiting[name] = asyncio.create_task(service.reserve(name, prompt))
                goes = not (queue.pending_count or busy())
                if goes:
                    await follow()
                assert goes == (queue.enqueue(name, prompt, workers) is not None)
            elif kind < 0.8:
                name = rng.choice(going)
                await service.service.prefill_complete(name)
                router.prefill_complete(name)
            else:
                name = going.pop(rng.randrange(len(going)))
                await service.service.free_reservation(name)
                router.free(name)
            while queue.pending_count and not busy():
                assert [await follow()] == list(queue.update(workers))
            await until(lambda: service.pending() == (queue.pending_count, queue.pending_isl_tokens), "as many wait")
            assert service.loads() == loads_of(router, workers)
            most = max(most, queue.pending_count)
        for task in waiting.values():
            task.cancel()
        await asyncio.gather(*waiting.values(), return_exceptions=True)
    assert most > 3
