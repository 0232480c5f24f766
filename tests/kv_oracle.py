"""Dynamo's `SelectionService` as an oracle: it needs no runtime, no network and no files."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.routing.kv import KvRouter, KvRouterConfig

__all__ = ("B", "Load", "Wheel", "loads_of", "router_for", "until", "wheel")

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
