"""The KV core beside `ai-dynamo-runtime` through its Python binding: `python bench_kv.py --rounds 3`.

Hashing, look-ups in the index, and whole decisions, in this one process, in turn. Before anything is measured both
must give the same answers. The wheel's index and scheduler have threads of their own, and calls are handed over to
them; how long that takes depends on how busy the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, when run as a script

from dynlab.clock import VirtualClock
from dynlab.kv.blocks import block_hashes, sequence_hashes
from dynlab.kv.events import Stored, event_data
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.kv import KvRouter, KvRouterConfig
from tests.bench.report import Aim, Figure, Table, about, add_options, measured, only, write

__all__ = ("main", "tables")

B = 16
SUBJECTS = ("dynlab", "wheel")
ENVIRONMENT = {"DYN_LOG": "error", "DYN_ROUTER_USE_KV_EVENTS": "false", "DYN_ROUTER_TTL_SECS": "36000"}


@dataclass(frozen=True)
class Sizes:
    """What to measure, and for how many seconds each."""

    seconds: float = 0.2
    tokens: tuple[int, ...] = (256, 2_048, 16_384)
    workers: tuple[int, ...] = (8, 64, 512, 4_096)
    blocks: tuple[int, ...] = (16, 128, 1_024)
    most_deciding: int = 512
    """Decisions are measured for so many workers at most, and the aims are for so many."""


QUICK = Sizes(seconds=0.01, tokens=(256,), workers=(8,), blocks=(16,))


def prompt(tokens: int) -> list[int]:
    return random.Random(tokens).choices(range(2**32), k=tokens)


def per_call_us(call: Callable[[], object], seconds: float) -> float:
    """Return how long a call takes, the median over batches of about a millisecond."""
    gc.collect()
    call()
    began = time.perf_counter()
    call()
    batch = max(1, int(1e-3 / (time.perf_counter() - began)))
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while not times or time.perf_counter() < deadline:
        began = time.perf_counter()
        for _ in range(batch):
            call()
        times.append((time.perf_counter() - began) / batch)
    return median(times) * 1e6


# ---------------------------------------------------------------------------- hashing


def hashing(tokens: int, seconds: float, subject: str) -> dict[str, float]:
    """Hash a prompt's blocks."""
    from dynamo._core import compute_block_hash_for_seq

    asked = prompt(tokens)
    assert compute_block_hash_for_seq(asked, B) == block_hashes(asked, B)
    ask = {"dynlab": block_hashes, "wheel": compute_block_hash_for_seq}[subject]
    return {f"hash_{tokens}": tokens / per_call_us(lambda: ask(asked, B), seconds)}


# ---------------------------------------------------------------------------- look-ups


@lru_cache(maxsize=1)
def indexes(shape: str, workers: int, blocks: int) -> tuple[Any, KvIndexer, list[int], list[int]]:
    """Tell both indexes the same; returns them, and a prompt's block and sequence hashes.

    Each worker has the prompt as far as chance will have it ("spread"), and behind that ("forks") blocks of its own:
    the worst there is for a tree. Or all have a quarter of it, and one in thirty-two of them more ("shared").
    """
    from dynamo._core import RadixTree

    rng = random.Random(f"{shape} {workers} {blocks}")
    tree, indexer, tokens = RadixTree(), KvIndexer(), prompt(blocks * B)
    for worker in range(workers):
        depth = rng.randint(1, blocks)
        if shape == "shared" and worker % 32:
            depth = blocks // 4
        own = rng.choices(range(2**32), k=4 * B) if shape == "forks" else []
        local = block_hashes([*tokens[: depth * B], *own], B)
        event = Stored(None, tuple(sequence_hashes(local)), tuple(local))
        tree.apply_event(worker, json.dumps({"event_id": worker, "data": event_data(event)}).encode())
        indexer.apply_event(worker, event)
    local = block_hashes(tokens, B)
    sequence = sequence_hashes(local)
    assert tree.find_matches(local).scores == {(w, 0): n for w, n in indexer.find_matches(sequence).items()}
    return tree, indexer, local, sequence


def lookup(shape: str, workers: int, blocks: int, seconds: float, subject: str) -> dict[str, float]:
    """Find how much of a prompt each worker holds; the answer is a dict for both."""
    tree, indexer, local, sequence = indexes(shape, workers, blocks)
    calls: dict[str, Callable[[], object]] = {
        "dynlab": lambda: indexer.find_matches(sequence),
        "wheel": lambda: tree.find_matches(local).scores,
    }
    return {f"{shape}_{workers}x{blocks}": per_call_us(calls[subject], seconds)}


# ---------------------------------------------------------------------------- decisions


@contextmanager
def environment() -> Iterator[None]:
    """Set what the wheel reads when a service is made."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Deciders:
    """A service and a router with the same workers, caches and requests; call `close` at the end."""

    def __init__(self, workers: int, blocks: int) -> None:
        from dynamo._core import SelectionService

        self.runner = asyncio.Runner()
        self.workers, self.tokens = list(range(workers)), prompt(blocks * B)
        self.local = block_hashes(self.tokens, B)
        self.sequence = sequence_hashes(self.local)
        self.router = KvRouter(B, KvRouterConfig(use_kv_events=False), clock=VirtualClock())
        with environment():
            self.service = SelectionService(indexer_threads=1)
        self.runner.run(self._fill(random.Random(f"{workers} {blocks}"), blocks))

    async def _fill(self, rng: random.Random, blocks: int) -> None:
        for worker in self.workers:
            await self.service.upsert_worker({"worker_id": worker, "endpoint": f"e{worker}", "block_size": B})
        while not (found := self.service.loads()) or len(found[0]["loads"]) < len(self.workers):
            await asyncio.sleep(0.001)
        for worker in self.workers:
            name, some = f"r{worker}", self.tokens[: B * rng.randint(1, blocks)]
            pinned = {"worker_id": worker, "dp_rank": 0}
            await self.service.select_and_reserve({"selection_id": name, "token_ids": some, "pinned_worker": pinned})
            self.router.reserve(name, replace(self.router.decide(some, [worker]), worker_id=worker))
            if rng.random() < 0.5:
                await self.service.prefill_complete(name)
                self.router.prefill_complete(name)
        held = self.router.indexer.find_matches(self.sequence)
        while {w["worker_id"]: w["device_blocks"] for w in await self._overlaps()} != held:
            await asyncio.sleep(0.001)
        costs = {term.worker_id: term.cost for term in self.router.decide(self.tokens, self.workers).terms}
        for body in (self.by_tokens(), self.by_hashes()):
            chosen = (await self.service.select(body))["worker_id"]
            assert costs[chosen] <= min(costs.values()) + 1e-9

    async def _overlaps(self) -> list[dict[str, int]]:
        answer = await self.service.overlap_scores({"token_ids": self.tokens})
        return [worker for worker in answer["workers"] if worker["device_blocks"]]

    def by_tokens(self) -> dict[str, Any]:
        return {"token_ids": self.tokens}

    def by_hashes(self) -> dict[str, Any]:
        signed = [[h - 2**64 if h >= 2**63 else h for h in hashes] for hashes in (self.local, self.sequence)]
        return {"block_hashes": signed[0], "sequence_hashes": signed[1], "isl_tokens": len(self.tokens)}

    def close(self) -> None:
        self.service.shutdown()
        self.runner.close()


_open: dict[tuple[int, int], Deciders] = {}


def deciders(workers: int, blocks: int) -> Deciders:
    """Return those of a size; there is never more than one open."""
    if (workers, blocks) not in _open:
        close_deciders()
        _open[workers, blocks] = Deciders(workers, blocks)
    return _open[workers, blocks]


def close_deciders() -> None:
    while _open:
        _open.popitem()[1].close()


def decision(known: str, workers: int, blocks: int, seconds: float, subject: str) -> dict[str, float]:
    """Choose a worker for a prompt, without booking: from its tokens, or from its hashes."""
    both = deciders(workers, blocks)
    sequence = both.sequence if known == "hashes" else None
    body = both.by_hashes() if known == "hashes" else both.by_tokens()
    if subject == "dynlab":
        took = per_call_us(lambda: both.router.decide(both.tokens, both.workers, sequence), seconds)
    else:
        took = both.runner.run(selecting_us(both.service, body, seconds))
    return {f"{known}_{workers}x{blocks}": took}


async def selecting_us(service: Any, body: dict[str, Any], seconds: float) -> float:
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < deadline:
        began = time.perf_counter()
        await service.select(body)
        times.append(time.perf_counter() - began)
    return median(times) * 1e6


# ---------------------------------------------------------------------------- all of it


def tables(sizes: Sizes) -> list[Table]:
    """Return what there is to measure."""
    pairs = (("dynlab", "wheel"),)
    faster = Aim("dynlab/wheel", 1.0)
    made = [
        Table(
            "hashing",
            SUBJECTS,
            pairs,
            {
                f"hash_{n}": Figure(
                    "tokens/us", True, partial(hashing, n, sizes.seconds), replace(faster, at_least=True)
                )
                for n in sizes.tokens
            },
        )
    ]
    for shape in ("shared", "spread", "forks"):
        figures = {
            f"{shape}_{w}x{n}": Figure(
                "us", False, partial(lookup, shape, w, n, sizes.seconds), faster if w <= sizes.most_deciding else None
            )
            for w in sizes.workers
            for n in sizes.blocks
        }
        made.append(Table(f"look-up, {shape}", SUBJECTS, pairs, figures))
    for known in ("tokens", "hashes"):
        figures = {
            f"{known}_{w}x{n}": Figure("us", False, partial(decision, known, w, n, sizes.seconds), faster)
            for w in sizes.workers
            for n in sizes.blocks
            if w <= sizes.most_deciding
        }
        made.append(Table(f"decision, {known} known", SUBJECTS, pairs, figures))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.2, help="how long each measuring lasts (default: 0.2)")
    add_options(parser)
    given = parser.parse_args(arguments)
    sizes, rounds = (QUICK, 1) if given.quick else (Sizes(given.seconds), given.rounds)
    chosen = only(tables(sizes), [name for name in given.only.split(",") if name])
    setting = about(rounds=rounds, seconds=sizes.seconds, wheel=version("ai-dynamo-runtime"))
    with environment():
        try:
            write(chosen, measured(chosen, rounds), setting, given.json)
        finally:
            close_deciders()


if __name__ == "__main__":
    main()
