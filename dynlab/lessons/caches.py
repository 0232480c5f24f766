"""Notebook 08: a router that looks at the caches alone, and where a run's prefix families lie at its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np

from dynlab.engine import MockEngine, MockEngineArgs, Work
from dynlab.kv.cache import KvCache
from dynlab.kv.indexer import KvIndexer
from dynlab.protocols import Envelope, Instance
from dynlab.routing.modes import PickFunction
from dynlab.simulate import Run, Workload
from dynlab.views.figure import Picture, Table
from dynlab.views.plots import caption
from dynlab.views.residency import Family, Residency, draw_residency
from dynlab.views.style import headline

__all__ = ("cache_only", "caches_picture", "index_of")


def cache_only(prompts: Workload, seed: int, workers: int = 4, num_gpu_blocks: int = 256) -> PickFunction:
    """Return a router that sends a prompt to whose cache holds most of it, by lot among equals, whatever the load.

    It reckons for itself what is in the caches, from what it sent where. The mode "kv" comes near to it with a huge
    `overlap_score_credit` and without `router_track_prefill_tokens`: but then any worker that holds a block of the
    prompt costs 0, and where none does, the load decides; so families that are asked for much get several homes.
    """
    caches, rng = [KvCache(num_gpu_blocks) for _ in range(workers)], Random(seed)

    def cache_only(request: Envelope, instances: Sequence[Instance]) -> Instance:
        blocks = prompts.sequences[int(request.data["request_id"])]
        held = [cache.match(blocks) for cache in caches]
        chosen = rng.choice([n for n in range(workers) if held[n] == max(held)])
        caches[chosen].hold(blocks, blocks)
        caches[chosen].release(blocks)
        return instances[chosen]

    return cache_only


def index_of(run: Run, engine: MockEngineArgs) -> KvIndexer:
    """Return who holds which blocks at the end of a run of one speed, in which nobody died.

    Each worker's engine serves once more what it was sent, and the index hears what its cache tells.
    """
    asked, indexer = run.workload, KvIndexer()
    for worker in range(1, run.workers + 1):
        again = MockEngine(engine, partial(indexer.apply_event, worker))
        for n in np.flatnonzero((run.worker == worker) & run.ok).tolist():
            again.add(
                Work(n, 0.0, int(asked.isl[n]), int(asked.osl[n]), asked.sequences[n], ()), float(run.routed_s[n])
            )
        again.advance(run.end_s)
    return indexer


def caches_picture(run: Run, engine: MockEngineArgs, prefix_blocks: int = 32, most: int = 6) -> Picture:
    """Draw who holds how much of the prefixes of the most used families, named A, B, C ..., when a run ends.

    Args:
        run: a run of prefix families.
        engine: what its workers were.
        prefix_blocks: blocks of each prefix.
        most: so many families are drawn.
    """
    indexer = index_of(run, engine)
    workers = range(1, run.workers + 1)
    numbers, requests = np.unique(run.workload.family, return_counts=True)
    families: list[Family] = []
    for place in np.argsort(-requests, kind="stable")[:most].tolist():
        first = int(np.argmax(run.workload.family == numbers[place]))
        prefix = run.workload.sequences[first][:prefix_blocks]
        matches = indexer.find_matches(prefix)
        held = tuple(matches.get(worker, 0) for worker in workers)
        name = chr(ord("A") + int(numbers[place]))
        families.append(Family(name, int(requests[place]), len(prefix), max(held), held))
    names = [f"worker {worker}" for worker in workers]
    per_worker: list[int] = run.requests_per_worker.tolist()
    router = run.router.removesuffix("()")
    copies = sum(sum(each.held) for each in families) / max(1, sum(each.cached for each in families))
    busiest = max(per_worker) / max(1, sum(per_worker))
    finding = f"{router}: a prefix is in {copies:.2g} of {len(names)} caches; {busiest:.0%} of the requests go to "
    finding += "each worker" if len(set(per_worker)) == 1 else "the busiest worker"
    ax = draw_residency(Residency(families, names, per_worker, run.workload.block_size, run.seed))
    drawn = sum(each.requests for each in families)
    note = "numbers: % of the prefix's blocks in the worker's cache\nbars: requests of the family, and of the worker"
    caption(
        ax,
        "",
        f"{note}\nn = {len(run):,} prompts, {drawn:,} of these families · seed = {run.seed}",
        ax.get_ylabel(),
        "",
    )
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    headline(ax, finding, 60)
    label = f"{finding}. Mean of the {len(families)} most used of {len(numbers)} prefix families."
    rows: list[tuple[Any, ...]] = [(each.name, each.requests, each.blocks, *each.held) for each in families]
    return Picture(ax.figure, label, Table(("family", "requests", "blocks", *names), rows))  # type: ignore[arg-type]
