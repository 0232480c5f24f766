"""What lies in the caches at the end of a run, and a router that looks at nothing else."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from dynlab.engine import MockEngine
from dynlab.kv.cache import KvCache
from dynlab.kv.indexer import KvIndexer
from dynlab.lessons.caches import cache_only, caches_picture, index_of
from dynlab.routing.kv import KvRouter, KvRouterConfig
from dynlab.simulate import MockEngineArgs, Run, Workload, prefix_families, simulate
from tests.views.conftest import flaws

ENGINE = MockEngineArgs(num_gpu_blocks=256, prefill_base_s=0, prefill_s_per_token=0.02 / 16)


def prompts(seed: int = 1, n: int = 300, rate: float = 8.0) -> Workload:
    return prefix_families(n, rate, zipf=1.3, seed=seed)


def run(router: object = "round-robin", **more: object) -> Run:
    return simulate(prompts(), workers=4, engine=ENGINE, router_mode=router, seed=1, **more)  # type: ignore[arg-type]


def test_the_index_is_what_the_workers_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker's blocks at the end, as an index has them that heard all events while the run went on."""
    heard, made = KvIndexer(), iter(range(1, 5))
    monkeypatch.setattr(
        "dynlab.simulate.world.MockEngine",
        lambda args, on_event, speed: MockEngine(args, partial(heard.apply_event, next(made)), speed),
    )
    ran = run("least-loaded", queue_limit=3)

    index = index_of(ran, ENGINE)

    assert 0 < ran.dropped < 1
    assert heard.workers == index.workers
    assert [heard.find_matches(each) for each in ran.workload.sequences] == [
        index.find_matches(each) for each in ran.workload.sequences
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cache_only_goes_where_most_is_cached(seed: int) -> None:
    """Of the prompts sent so far, as long as nothing is given up early: no other worker's cache holds more."""
    workload = prompts(seed)
    ran = simulate(workload, workers=4, engine=ENGINE, router_mode=cache_only(workload, seed), seed=seed)

    caches = [KvCache(ENGINE.num_gpu_blocks) for _ in range(4)]
    for worker, blocks in zip(ran.worker.tolist(), workload.sequences, strict=True):
        held = [cache.match(blocks) for cache in caches]
        assert held[worker - 1] == max(held)
        caches[worker - 1].hold(blocks, blocks)
        caches[worker - 1].release(blocks)


def test_cache_only_draws_lots_among_equals() -> None:
    """The first prompt goes to any worker, by its seed; the same seed goes the same way."""
    workload = prompts()
    firsts = [
        int(simulate(workload.head(1), workers=4, engine=ENGINE, router_mode=cache_only(workload, seed)).worker[0])
        for seed in (*range(20), 0)
    ]

    assert {1, 2, 3, 4} == set(firsts)
    assert firsts[0] == firsts[-1]


def test_cache_only_looks_at_no_load() -> None:
    """All prompts of one family, at once: one worker gets them all."""
    workload = prefix_families(50, 1000.0, families=1, seed=1)

    ran = simulate(workload, workers=4, engine=ENGINE, router_mode=cache_only(workload, 1))

    assert [0, 0, 0, 50] == sorted(ran.requests_per_worker.tolist())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"overlap_score_credit": 1e6},
        {"prefill_load_scale": 1e6},
        {"prefill_load_scale": 1e6, "router_track_prefill_tokens": False},
        {"prefill_load_scale": 0.0},
        {"overlap_score_credit_decay": 1e6},
    ],
    ids=str,
)
def test_dynamos_score_is_hardly_ever_blind_to_the_load(settings: dict[str, float]) -> None:
    """Of two workers that cache the same, the one that has nothing to do is cheaper."""
    cost = costs(10, 10, settings)

    assert cost[2] < cost[1]


def test_dynamos_score_is_blind_with_a_huge_credit_and_without_prefill() -> None:
    """Then every worker that holds a block is as cheap as can be, and who holds more is not preferred."""
    settings = {"overlap_score_credit": 1e6, "router_track_prefill_tokens": False}

    assert {1: 0, 2: 0} == costs(10, 1, settings)
    cost = costs(0, 0, settings)
    assert cost[2] < cost[1]


def costs(first: int, second: int, settings: dict[str, float]) -> dict[int, float]:
    """What two workers cost that hold so many of a prompt's 10 blocks; the first is busy."""
    router = KvRouter(16, KvRouterConfig(**settings))  # type: ignore[arg-type]
    for worker, held in ((1, first), (2, second)):
        router.indexer.store(worker, router.hashes(range(160))[:held])
    router.reserve("busy", router.decide([7] * 16 * 400, [1]))
    decision = router.decide(range(160), [1, 2])
    return dict(zip(decision.workers, decision.columns["cost"].tolist(), strict=True))


def test_the_picture_counts_copies_and_the_busiest() -> None:
    """In the sentence, and in the table by worker; families are letters, the most used first."""
    ran = run(lambda request, instances: instances[request.data["family"] % 4])
    picture = caches_picture(ran, ENGINE)

    counts = np.bincount(ran.workload.family)
    index = index_of(ran, ENGINE)
    assert [chr(65 + n) for n in np.argsort(-counts, kind="stable")[:6]] == [row[0] for row in picture.table.rows]
    for name, requests, blocks, *held in picture.table.rows:
        family = ord(name) - 65
        first = ran.workload.sequences[int(np.argmax(ran.workload.family == family))]
        assert (counts[family], 32) == (requests, blocks)
        assert held == [index.find_matches(first[:32]).get(worker, 0) for worker in range(1, 5)]
        assert [0, 0, 0] == held[: family % 4] + held[family % 4 + 1 :]
    busiest = ran.requests_per_worker.max() / 300
    assert f"a prefix is in 1 of 4 caches; {busiest:.0%} of the requests go to the busiest worker." in picture.label


def test_even_requests_are_told_as_such() -> None:
    """Round robin has no busiest worker; it copies what is used most."""
    picture = caches_picture(run(), ENGINE)

    assert picture.label.startswith("round-robin: a prefix is in ")
    assert "25% of the requests go to each worker." in picture.label
    assert [32] * 4 == picture.table.rows[0][3:]


@pytest.mark.parametrize("most", [1, 6, 24])
def test_nothing_is_cut_off(most: int) -> None:
    """All words lie inside the picture, and not on each other."""
    assert [] == flaws(caches_picture(run("kv"), ENGINE, most=most).axes)
