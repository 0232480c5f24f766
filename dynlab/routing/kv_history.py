"""How Dynamo's KV routers scored workers before 1.0, from what engines reported of themselves.

Each function is one version's rule and says which. They return a score for each worker that may be chosen, for a
prompt of `isl_tokens`, one or more; `highest` and `first_lowest` choose among them as those versions did. From
v0.3.2 on the router keeps books of its own, and engines are not asked: see `dynlab.routing.kv`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean, pstdev

__all__ = (
    "ForwardPassMetrics",
    "SimilarPrompt",
    "cost_v0_1_0",
    "first_lowest",
    "highest",
    "logit_v0_1_1",
    "logit_v0_3_0",
    "similar_prompt",
)


@dataclass(frozen=True, slots=True)
class ForwardPassMetrics:
    """What an engine reported, with Dynamo's names; `overlap_blocks` is what the index found for the prompt."""

    overlap_blocks: int = 0
    kv_active_blocks: int = 0
    kv_total_blocks: int = 1
    request_active_slots: int = 0
    request_total_slots: int = 1
    num_requests_waiting: int = 0
    gpu_cache_usage_perc: float = 0.0


Workers = Mapping[int, ForwardPassMetrics]


def cost_v0_1_0(workers: Workers, isl_tokens: int, block_size: int) -> dict[int, float]:
    """v0.1.0 (Rust, March 2025), lowest first: alpha * (load - mean) + (1 - alpha) * new tokens + 0.1 * slots.

    Alpha is 0.7 where the workers' loads differ by more than a tenth of their mean, to balance them, else 0.3, to use
    caches. Who is full is left out. The mean is one of blocks although the load is a share: it moves all costs alike.
    """
    active = [m.kv_active_blocks for m in workers.values()]
    mean = fmean(active) if active else 0.0
    alpha = 0.7 if active and pstdev(active) > 0.1 * mean else 0.3
    costs: dict[int, float] = {}
    for worker, m in workers.items():
        if m.request_active_slots < m.request_total_slots and m.kv_active_blocks < m.kv_total_blocks:
            load = m.kv_active_blocks / m.kv_total_blocks - mean
            new = max(0, isl_tokens - m.overlap_blocks * block_size) / isl_tokens
            costs[worker] = alpha * load + (1 - alpha) * new + 0.1 * m.request_active_slots / m.request_total_slots
    return costs


def logit_v0_1_1(workers: Workers, isl_tokens: int, block_size: int) -> dict[int, float]:
    """v0.1.1 (Rust, April 2025), highest first: 2 * overlap - KV load - active requests, each a share.

    While every worker is idle there is nothing to divide by and no worker to choose: the router said "no endpoints".
    """
    most = max((m.request_active_slots for m in workers.values()), default=0)
    if not most:
        return {}
    return {
        worker: 2 * m.overlap_blocks * block_size / isl_tokens
        - m.kv_active_blocks / m.kv_total_blocks
        - m.request_active_slots / most
        for worker, m in workers.items()
    }


def logit_v0_3_0(
    workers: Workers,
    isl_tokens: int,
    block_size: int,
    *,
    overlap_score_weight: float = 2.0,
    gpu_cache_usage_weight: float = 1.0,
    waiting_requests_weight: float = 1.0,
) -> dict[int, float]:
    """Up to v0.3.1 (Python's Router from 0.1 on, Rust's from 0.2.1 on), highest first: 2 * overlap - usage - waiting.

    Waiting requests count as a share of the most that wait at any worker. The weights could be set from 0.3.1 on. The
    Python Router chose nobody when all logits were 0, and its caller then took any worker: see `highest`. Rust 0.2.1
    found "no endpoints" while nobody waited, as 0 / 0 is no number.
    """
    most = max((m.num_requests_waiting for m in workers.values()), default=0)
    return {
        worker: overlap_score_weight * m.overlap_blocks * block_size / isl_tokens
        - gpu_cache_usage_weight * m.gpu_cache_usage_perc
        - waiting_requests_weight * (m.num_requests_waiting / most if most else 0.0)
        for worker, m in workers.items()
    }


def first_lowest(costs: Mapping[int, float]) -> int | None:
    """Return the first worker of the lowest cost, as v0.1.0 did; None if there is none."""
    return min(costs, key=costs.__getitem__, default=None)


def highest(logits: Mapping[int, float], rng: random.Random, *, none_if_all_zero: bool = False) -> int | None:
    """Return a worker of the highest logit, one as likely as the other; None if there is none.

    `none_if_all_zero` is what the Python Router did: with nothing to go by it left the choice to its caller.
    """
    if not logits or (none_if_all_zero and not any(logits.values())):
        return None
    most = max(logits.values())
    return rng.choice([worker for worker, logit in logits.items() if logit == most])


@dataclass(frozen=True, slots=True)
class SimilarPrompt:
    """A choice by likeness; `hit_rate` is None where the worker had no prompt yet."""

    worker_id: int
    hit_rate: float | None


def similar_prompt(
    prompt: str, kv_cache: Mapping[int, str], instance_ids: Sequence[int], threshold: float = 0.6
) -> SimilarPrompt:
    """The router of the disaggregation skeleton (PR #683, April 2025): likeness of texts stands in for a cache.

    `kv_cache` holds the first prompt that each worker got, and no other ever. The likest prompt wins (difflib's
    `SequenceMatcher.ratio`) if it is liker than `threshold`, or if no worker is left without a prompt; else the first
    of those gets it. The caller then notes the prompt as that worker's.
    """
    rates = {worker: SequenceMatcher(None, cached, prompt).ratio() for worker, cached in kv_cache.items()}
    best = max(rates, key=rates.__getitem__, default=None)
    unused = [worker for worker in instance_ids if worker not in kv_cache]
    if best is not None and (rates[best] > threshold or not unused):
        return SimilarPrompt(best, rates[best])
    return SimilarPrompt(unused[0], None)
