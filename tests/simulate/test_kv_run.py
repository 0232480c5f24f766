"""`dynlab.simulate.kv_routing`: simulated runs by KV decide as `KvRouter` does, told the same at the same times."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from dynlab.clock import VirtualClock
from dynlab.engine import MockEngine, MockEngineArgs, Work
from dynlab.routing.kv import KvRouter, KvRouterConfig
from dynlab.simulate.changes import Kill, Revive
from dynlab.simulate.chats import chats
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, prefix_families

ENGINE = MockEngineArgs(num_gpu_blocks=300, prefill_s_per_token=0.001, max_num_seqs=16)


def prompts(*sequences: tuple[int, ...], every: float = 1.0, osl: int = 1) -> Workload:
    """Return prompts of these blocks, one after the other."""
    n = len(sequences)
    return Workload(
        name="by hand",
        arrival_s=np.arange(n) * every,
        service_s=np.zeros(n),
        isl=np.array([len(sequence) * 16 for sequence in sequences], np.int64),
        osl=np.full(n, osl, np.int64),
        sequences=list(sequences),
        family=np.full(n, -1, np.int64),
    )


def outcomes(run: Run) -> list[str]:
    return [Outcome(outcome).name for outcome in run.outcome]


def test_equal_prompts_go_where_they_are_cached() -> None:
    """With nobody busy: two families of five blocks on two workers, of ten requests eight find all their blocks."""
    one, other = (1, 2, 3, 4, 5), (6, 7, 8, 9, 10)

    run = simulate(prompts(*[one, other] * 5), workers=2, router_mode="kv", engine=ENGINE)

    assert [0, 0, *[5] * 8] == run.cached_blocks.tolist()
    assert 0.8 == run.hit_rate
    assert 1 == len(set(run.worker[::2]))
    assert 1 == len(set(run.worker[1::2]))
    # 16.5 ms, and a millisecond for each of 80 tokens; of a cached prompt one token is computed still.
    assert [0.0965, 0.0965, *[0.0175] * 8] == pytest.approx(run.ttft_s.tolist())


def test_a_prefix_is_found_as_far_as_it_is_equal() -> None:
    """Three blocks of five are shared: of the second prompt three are cached, and none behind a difference."""
    run = simulate(prompts((1, 2, 3, 4, 5), (1, 2, 3, 8, 9), (1, 7, 13)), workers=1, router_mode="kv", engine=ENGINE)

    assert [0, 3, 1] == run.cached_blocks.tolist()
    assert 4 / 13 == run.hit_rate


def replayed(workload: Workload, workers: int, seed: int, config: KvRouterConfig) -> tuple[list[int], list[int]]:
    """Drive a `KvRouter` and engines by hand; returns the worker and the cached blocks of each request."""
    clock = VirtualClock()
    router = KvRouter(workload.block_size, config, rng=random.Random(f"{seed}/router"), clock=clock)
    ids = [7001 + n for n in range(workers)]
    engines = {i: MockEngine(ENGINE, lambda event, i=i: router.indexer.apply_event(i, event)) for i in ids}
    chosen, cached = [0] * len(workload), [0] * len(workload)

    def advance(until: float) -> None:
        while (due := min((engine.next_at, i) for i, engine in engines.items()))[0] <= until:
            clock.reach(due[0])
            for kind, key, _, blocks in engines[due[1]].advance(due[0]):
                if kind == "started":
                    cached[int(key)] = blocks
                elif kind == "first_token":
                    router.prefill_complete(str(key))
                elif kind == "finished":
                    router.free(str(key))

    for n, arrival in enumerate(workload.arrival_s.tolist()):
        advance(arrival)
        clock.reach(arrival)
        decision = router.decide(range(int(workload.isl[n])), ids, workload.sequences[n])
        router.reserve(str(n), decision)
        chosen[n] = decision.worker_id - 7000
        work = Work(n, isl=int(workload.isl[n]), osl=int(workload.osl[n]), sequence=workload.sequences[n])
        engines[decision.worker_id].add(work, arrival)
        advance(arrival)
    advance(1e9)
    return chosen, cached


@pytest.mark.parametrize("settings", [{}, {"router_temperature": 0.5}, {"overlap_score_credit": 2.0}])
@pytest.mark.parametrize("workers", [1, 3, 8])
def test_it_decides_as_the_router_does(settings: dict[str, Any], workers: int) -> None:
    """The router and the engines, driven by hand over the same requests, choose the same workers and cache the same."""
    for workload in (
        prefix_families(300, 1.2 * workers, families=6, osl=20, seed=3),
        chats(300, 1.5 * workers, users=20, seed=4),
    ):
        run = simulate(workload, workers=workers, router_mode="kv", engine=ENGINE, seed=9, kv=settings)

        chosen, cached = replayed(workload, workers, 9, KvRouterConfig(**settings))

        assert chosen == run.worker.tolist()
        assert cached == run.cached_blocks.tolist()
        assert 0.2 < run.hit_rate < 1.0


def test_news_of_caches_take_their_time() -> None:
    """Until an event comes, the router does not know: a second prompt that comes sooner is no likelier to hit."""
    run = simulate(prompts(*[(1, 2, 3, 4)] * 40), workers=4, router_mode="kv", engine=ENGINE, event_delay_s=1e6)
    fresh = simulate(prompts(*[(1, 2, 3, 4)] * 40), workers=4, router_mode="kv", engine=ENGINE, event_delay_s=0.5)

    assert 4 == len(set(run.worker))
    assert 4 * 36 == run.cached_blocks.sum()
    assert (1, 4 * 39) == (len(set(fresh.worker)), fresh.cached_blocks.sum())


@pytest.mark.parametrize("delay", [0.0, 0.4, 3.0, 15.0])
def test_a_revived_worker_is_heard_again_and_its_former_life_is_not(delay: float) -> None:
    """What it told before it died, and arrives afterwards, is for nobody; what it caches now is found."""
    workload = prompts(*[(1, 2, 3, 4)] * 60, every=0.5)
    changes = [Kill(5.2, 1), Revive(5.3, 1), Kill(9.7, 1), Revive(25.1, 1)]

    run = simulate(workload, workers=1, router_mode="kv", engine=ENGINE, event_delay_s=delay, changes=changes)

    found = [request for request, blocks in enumerate(run.cached_blocks) if blocks == 0 and run.ok[request]]
    assert [0, 11, 51] == found  # the first of each life
    assert {"OK", "LOST", "NOBODY"} == set(outcomes(run))


def test_the_dead_have_no_cache_that_counts() -> None:
    """Off the list it is forgotten: when it comes back, the prompt goes where it is cached now."""
    workload = prompts(*[(1, 2, 3, 4)] * 40)
    once = simulate(workload, workers=2, router_mode="kv", engine=ENGINE)
    first = int(once.worker[0])

    run = simulate(
        workload, workers=2, router_mode="kv", engine=ENGINE, changes=[Kill(4.5, first), Revive(20.5, first)]
    )

    # It dies idle; the request at 5 finds it out, that at 10 once more, and at 14.5 its lease is over.
    assert ["LOST", "LOST"] == [outcomes(run)[5], outcomes(run)[10]]
    assert {3 - first} == set(run.worker[[*range(6, 10), *range(11, 40)]])
    assert [0, 6] == [request for request, blocks in enumerate(run.cached_blocks) if blocks == 0 and run.ok[request]]


def test_a_request_may_outlive_its_booking() -> None:
    """The router forgets after 300 s what nobody freed; that its first token comes after that is no error."""
    slow = MockEngineArgs(prefill_base_s=400.0, prefill_s_per_token=0.0)

    run = simulate(prompts((1,), (2,), (3,), every=310.0), workers=1, router_mode="kv", engine=slow)

    assert [400, 800, 1200] == run.ended_s.tolist()


def test_requests_wait_at_the_router_in_their_order() -> None:
    """Two workers with room for two prompts each: the fifth goes when a prefill is complete, to that worker."""
    kv = {"router_queue_threshold": 0.5, "max_num_batched_tokens": 32}
    one_a_second = MockEngineArgs(prefill_base_s=1.0, prefill_s_per_token=0.0)
    workload = prompts(*[(n,) for n in range(8)], every=0.01)

    run = simulate(workload, workers=2, router_mode="kv", engine=one_a_second, kv=kv)

    # More than 16 tokens are too many, so each may have two prompts of 16.
    assert [0.0, 0.01, 0.02, 0.03, 1.0, 1.01, 2.0, 2.01] == pytest.approx(run.routed_s.tolist())
    assert run.worker[4] == run.worker[0]
    assert run.worker[5] == run.worker[1]
    assert [1, 1.01, 2, 2.01, 3, 3.01, 4, 4.01] == pytest.approx(sorted(run.ended_s.tolist()))


def test_thousands_that_wait_and_are_refused() -> None:
    """All that wait go in a row when each is refused at once: no matter how many, no RecursionError."""
    kv = {"router_queue_threshold": 0.5, "max_num_batched_tokens": 16}
    small = MockEngineArgs(num_gpu_blocks=2, prefill_base_s=1e4)
    workload = prompts((0,), *[tuple(range(n, n + 4)) for n in range(1, 5_000)], every=0.001)

    run = simulate(workload, workers=1, router_mode="kv", engine=small, kv=kv)

    assert ["OK", *["REFUSED"] * 4_999] == outcomes(run)


def test_who_waits_at_the_router_hears_that_nobody_is_left() -> None:
    """The last worker dies: those in its queue are lost, those at the router found nobody."""
    kv = {"router_queue_threshold": 0.5, "max_num_batched_tokens": 32}
    workload = prompts(*[(n,) for n in range(4)], every=0.01)
    slow = MockEngineArgs(prefill_base_s=100.0)

    run = simulate(workload, workers=1, router_mode="kv", engine=slow, kv=kv, changes=[Kill(0.04, 1)])

    assert ["LOST", "LOST", "NOBODY", "NOBODY"] == outcomes(run)
    assert {0.04} == set(run.ended_s)


def test_who_waits_at_the_router_goes_to_a_revived_worker() -> None:
    """When something ends elsewhere, as in the live graph; and it is served there by the new engine."""
    kv = {"router_queue_threshold": 0.5, "max_num_batched_tokens": 32}
    workload = prompts(*[(n,) for n in range(7)], every=0.01)
    slow = MockEngineArgs(prefill_base_s=1.0, prefill_s_per_token=0.0)
    changes = [Kill(0.035, 2), Revive(0.1, 2)]

    run = simulate(workload, workers=2, router_mode="kv", engine=slow, kv=kv, changes=changes)

    assert {2} == set(run.worker[run.outcome == Outcome.LOST])
    ends = np.nanmin(run.first_token_s)
    assert (2, ends, ends) == (run.worker[4], run.routed_s[4], run.started_s[4])
    assert "OK" == outcomes(run)[4]


def test_decisions_are_kept_on_request_only() -> None:
    """Then all that the live graph's traces have of them; else nothing."""
    workload = prompts((1, 2), (1, 2))

    run = simulate(workload, workers=2, router_mode="kv", engine=ENGINE, keep_decisions=True)
    without = simulate(workload, workers=2, router_mode="kv", engine=ENGINE)

    assert {} == without.decisions
    assert [0, 1] == sorted(run.decisions)
    seen = run.decisions[1]
    assert ([7001, 7002], 32, 16) == (list(seen["workers"]), seen["isl_tokens"], seen["block_size"])
    assert {0, 2} == set(seen["overlap_blocks"])
    assert 2.0 == seen["cost"][run.worker[1] - 1]
    assert 1.0 == seen["prefill_load_scale"]


def test_nothing_is_cached_without_prefix_caching() -> None:
    """Nor with the routers that know nothing of caches where each prompt comes once."""
    workload = prefix_families(50, 2.0, seed=1)
    off = MockEngineArgs(enable_prefix_caching=False)

    assert 0.0 == simulate(workload, workers=2, router_mode="kv", engine=off).hit_rate
    assert 0.0 < simulate(workload, workers=2, router_mode="random", engine=ENGINE).hit_rate


def test_shares_of_a_sticky_hash_are_those_of_its_families() -> None:
    """Each family on one worker, so all but its first prompt find the prefix, as long as the cache has room."""
    workload = prefix_families(200, 1.0, families=5, prefix_blocks=4, unique_blocks=1, seed=8)
    roomy = MockEngineArgs(num_gpu_blocks=10_000)

    run = simulate(
        workload,
        workers=5,
        router_mode=lambda request, instances: instances[request.data["family"]],
        engine=roomy,
    )

    shares = np.bincount(workload.family, minlength=5)
    assert shares.tolist() == run.requests_per_worker.tolist()
    assert 4 * (shares - 1).sum() == run.cached_blocks.sum()
    assert run.hit_rate == pytest.approx(4 * 195 / (5 * 200))


def test_a_heap_of_wakes_is_all_that_moves_time() -> None:
    """Tokens do: each answer ends after its prefill and its steps, whoever shares the batch."""
    steady = MockEngineArgs(prefill_base_s=0.25, prefill_s_per_token=0.0, itl_base_s=0.5, itl_per_seq_s=0.0)

    run = simulate(prompts((1,), (2,), (3,), every=0.25, osl=5), workers=1, router_mode="kv", engine=steady)

    assert [0.25, 0.5, 0.75] == run.first_token_s.tolist()
    assert [2.25, 2.5, 2.75] == run.ended_s.tolist()
    assert [0.5] * 3 == run.itl_s.tolist()
