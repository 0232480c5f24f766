"""The three workers of notebook 07, after an example in Dynamo's documentation, set before a router that is real."""

from __future__ import annotations

from random import Random

from dynlab.routing.kv import KvDecision, KvRouter, KvRouterConfig

__all__ = ("BLOCKS", "WORKERS", "three_workers")

BLOCKS = 10
"""Full blocks of the prompt that is to be routed."""
WORKERS = {1: (2, 10), 2: (5, 5), 3: (8, 9)}
"""By worker: leading blocks of the prompt in its cache, and blocks of the requests that it decodes already."""
_SIZE = 16


def three_workers(prefill_load_scale: float = 1.0, overlap_score_credit: float = 1.0) -> KvDecision:
    """Let a router with these settings choose one of the three."""
    config = KvRouterConfig(prefill_load_scale=prefill_load_scale, overlap_score_credit=overlap_score_credit)
    router = KvRouter(_SIZE, config, rng=Random(7))
    prompt = range(BLOCKS * _SIZE)
    for worker, (cached, running) in WORKERS.items():
        router.indexer.store(worker, router.hashes(prompt)[:cached])
        router.reserve(f"on-{worker}", router.decide([worker] * (running * _SIZE), [worker]))
        router.prefill_complete(f"on-{worker}")
    return router.decide(prompt, list(WORKERS))
