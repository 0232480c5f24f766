"""The KV router does what `ai-dynamo-runtime` 1.6.1 does: choices, loads, draws, waiting. See also kv/test_parity."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.kv.blocks import block_hashes, sequence_hashes
from dynlab.routing.kv import Column, KvRouter, KvRouterConfig
from dynlab.routing.kv_queue import KvQueue
from tests.kv_oracle import B, Wheel, loads_of, router_for, until, wheel

pytestmark = pytest.mark.needs_real_engine


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module reads how much to log when it is first imported."""
    monkeypatch.setenv("DYN_LOG", "error")


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
        again = math.floor(64 * (time.monotonic() - began)) / 64  # so that the sums below are exact
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
