"""`dynlab.simulate.simulator`: exact times of small runs, what happens to workers, and that everybody ends once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynlab.clock import VirtualClock
from dynlab.engine import MockEngineArgs
from dynlab.errors import ConfigError, NoInstancesError, PickError
from dynlab.hop import Hop
from dynlab.protocols import Envelope, Instance
from dynlab.routing.modes import RoundRobinPicker, RouterMode
from dynlab.runtime.discovery import Discovery
from dynlab.runtime.instances import InstanceTable
from dynlab.simulate.changes import Change, Kill, Revive, Slow
from dynlab.simulate.routers import ENDPOINT
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.service import exponential, giants
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, poisson, prefix_families

PLAIN = [mode for mode in RouterMode if mode is not RouterMode.KV]
TOKENS = MockEngineArgs(prefill_base_s=1.0, prefill_s_per_token=0.0, itl_base_s=1.0, itl_per_seq_s=0.0)
"""A second for a prompt, and a second for each token of the answer after the first."""


def arriving(*arrivals: float, service: float | Sequence[float] = 1.0) -> Workload:
    n = len(arrivals)
    return Workload(
        name="by hand",
        arrival_s=np.array(arrivals, np.float64),
        service_s=np.broadcast_to(np.float64(service), n).copy(),
        isl=np.zeros(n, np.int64),
        osl=np.ones(n, np.int64),
        sequences=[()] * n,
        family=np.full(n, -1, np.int64),
    )


def asking(*arrivals: float, osl: int = 1) -> Workload:
    """Return prompts of one block each, no two alike."""
    n = len(arrivals)
    return Workload(
        name="by hand",
        arrival_s=np.array(arrivals, np.float64),
        service_s=np.zeros(n),
        isl=np.full(n, 16, np.int64),
        osl=np.full(n, osl, np.int64),
        sequences=[(k,) for k in range(n)],
        family=np.full(n, -1, np.int64),
    )


def outcomes(run: Run) -> list[str]:
    return [Outcome(outcome).name for outcome in run.outcome]


def first(request: Envelope, instances: Sequence[Instance]) -> Instance:
    return instances[0]


def emptiest(request: Envelope, instances: Sequence[Instance]) -> Instance:
    return min(instances, key=lambda instance: instance.active_requests)


# ---------------------------------------------------------------------------- times


def test_two_workers_in_turn() -> None:
    """The third request waits behind the first, although the other worker is idle."""
    run = simulate(arriving(0, 1, 2, 3, service=[5, 1, 1, 1]), workers=2)

    assert [1, 2, 1, 2] == run.worker.tolist()
    assert [0, 1, 5, 3] == run.started_s.tolist()
    assert [5, 2, 6, 4] == run.ended_s.tolist() == run.first_token_s.tolist()
    assert [0, 1, 2, 3] == run.routed_s.tolist()
    assert ["OK"] * 4 == outcomes(run)


def test_two_workers_by_load() -> None:
    """What ends when a request arrives has ended for it: the third and fourth find the second worker idle."""
    run = simulate(arriving(0, 1, 2, 3, service=[5, 1, 1, 1]), workers=2, router_mode="least-loaded", seed=3)

    busy, idle = run.worker[0], 3 - run.worker[0]
    assert [busy, idle, idle, idle] == run.worker.tolist()
    assert [5, 2, 3, 4] == run.ended_s.tolist()


def test_speeds_and_prompts() -> None:
    """A worker of speed 2 takes half as long, of prefill and decode alike."""
    run = simulate(asking(0, 0, osl=3), workers=2, engine=TOKENS, speeds=[1.0, 2.0])

    assert [1, 0.5] == run.first_token_s.tolist()
    assert [3, 1.5] == run.ended_s.tolist()


def test_round_robin_gives_everybody_the_same() -> None:
    """Eight hundred over eight: a hundred each, and what each has to do is the sum of every eighth."""
    workload = poisson(800, 7.2, service=giants(), seed=5)

    run = simulate(workload, workers=8, router_mode="RoundRobin")

    assert [100] * 8 == run.requests_per_worker.tolist()
    assert np.allclose(workload.service_s.reshape(100, 8).sum(axis=0), run.work_per_worker)
    assert "round-robin" == run.router


@pytest.mark.parametrize("mode", PLAIN)
def test_the_same_seed_gives_the_same_run(mode: RouterMode) -> None:
    """To the last digit; and another seed of the router moves no arrival."""
    workload = poisson(300, 3.2, service=exponential(), seed=1)

    one, again, other = (simulate(workload, workers=4, router_mode=mode, seed=seed) for seed in (1, 1, 2))

    assert one.worker.tolist() == again.worker.tolist()
    assert one.ended_s.tolist() == again.ended_s.tolist()
    draws = mode not in (RouterMode.ROUND_ROBIN, RouterMode.DIRECT)
    assert draws == (one.worker.tolist() != other.worker.tolist())
    assert one.workload is other.workload


# ---------------------------------------------------------------------------- limits and reports


def test_a_full_queue_drops() -> None:
    """With one waiting at most: of four at once the third and the fourth are dropped, and a later one is not."""
    run = simulate(arriving(0, 0.1, 0.2, 0.3, 1.5), workers=1, queue_limit=1)

    assert ["OK", "OK", "DROPPED", "DROPPED", "OK"] == outcomes(run)
    assert [1, 2, 0.2, 0.3, 3] == run.ended_s.tolist()
    assert [1, 1, 1, 1, 1] == run.worker.tolist()
    assert np.isnan(run.started_s[2:4]).all()


def test_a_queue_of_none_drops_who_would_wait() -> None:
    """Limit 0 is a limit; a dropped request is no load, so the router sends the next one there."""
    run = simulate(arriving(0, 0.5, 1.0, service=1.0), workers=1, queue_limit=0)

    assert ["OK", "DROPPED", "OK"] == outcomes(run)


def test_stale_reports_make_a_herd() -> None:
    """Between two reports all go to the worker that was emptiest at the first of them."""
    times = [1.0, *np.linspace(10.5, 19.5, 10), *np.linspace(20.5, 29.5, 10)]
    run = simulate(arriving(*times, service=1000.0), workers=2, router_mode="least-loaded", report_every=10.0)

    here, there = int(run.worker[0]), 3 - int(run.worker[0])
    assert [here] + [there] * 10 + [here] * 10 == run.worker.tolist()


def test_a_report_is_of_the_last_multiple() -> None:
    """What changed since then is not seen, and neither is what changes at that very moment."""
    seen: list[tuple[float, float, list[int]]] = []

    def watch(request: Envelope, instances: Sequence[Instance]) -> Instance:
        data = request.data
        seen.append((data["now_s"], data["reported_s"], [instance.active_requests for instance in instances]))
        return instances[len(seen) % 2]

    arrivals = (0.0, 0.9, 1.0, 1.5, 7.25, 7.5)
    simulate(arriving(*arrivals, service=[3, 0.1, 9, 9, 9, 9]), workers=2, router_mode=watch, report_every=0.5)

    reported = [0.0, 0.5, 1.0, 1.5, 7.0, 7.5]
    # The second request ends at 1.0, which is too late for the report of that moment.
    loads = [[0, 0], [0, 1], [1, 1], [0, 2], [1, 1], [1, 2]]
    assert list(zip(arrivals, reported, loads, strict=True)) == seen


@pytest.mark.parametrize("mode", [RouterMode.POWER_OF_TWO, RouterMode.LEAST_LOADED, emptiest])
def test_rare_reports_are_as_good_as_none(mode: Any) -> None:
    """Reports at each instant are fresh news; rare ones let requests wait for longer."""
    workload = poisson(3_000, 3.2, service=exponential(), seed=1)

    fresh, often, rare = (
        simulate(workload, workers=4, router_mode=mode, report_every=every).time_s.mean() for every in (None, 1e-6, 8.0)
    )

    assert fresh == pytest.approx(often)
    assert rare > 1.5 * fresh


# ---------------------------------------------------------------------------- workers that come and go


def test_a_kill_loses_what_was_there() -> None:
    """Who was served and who waited is lost; then the worker is skipped for a while, tried again, and forgotten."""
    arrivals = (0, 1, 2, 3, 5.5, 6, 10.2, 12.6, 13)
    run = simulate(arriving(*arrivals, service=100.0), workers=2, changes=[Kill(2.5, 1)])

    # Skipped from 2.5 to 5; the request at 5.5 finds it dead again, as that at 10.2; from 12.5 on it is off the list.
    assert [1, 2, 1, 2, 1, 2, 1, 2, 2] == run.worker.tolist()
    lost = [request for request, outcome in enumerate(outcomes(run)) if outcome == "LOST"]
    assert [0, 2, 4, 6] == lost
    assert [2.5, 2.5, 5.5, 10.2] == run.ended_s[lost].tolist()
    assert [0.0, math.nan] == pytest.approx(run.started_s[[0, 2]].tolist(), nan_ok=True)


def test_nobody_knows_of_an_idle_workers_death() -> None:
    """Nothing broke off, so the next request there finds out."""
    run = simulate(arriving(1, 2, 3, service=0.1), workers=2, changes=[Kill(0.5, 2)])

    assert [1, 2, 1] == run.worker.tolist()
    assert ["OK", "LOST", "OK"] == outcomes(run)


def test_what_ends_at_the_moment_of_death_has_ended() -> None:
    """A kill at 1.0 loses nothing of a request that is done at 1.0."""
    run = simulate(arriving(0, 0.5), workers=1, changes=[Kill(1.0, 1)])

    assert ["OK", "LOST"] == outcomes(run)
    assert [1.0, 1.0] == run.ended_s.tolist()
    assert [0.0, 1.0] == run.started_s.tolist()


def test_migration_saves_what_has_no_token_yet() -> None:
    """The one that decodes is lost; the one in prefill begins anew elsewhere."""
    run = simulate(asking(0, 0.1, 1.5, osl=10), workers=2, engine=TOKENS, changes=[Kill(2.0, 1)], migration_limit=1)

    assert ["LOST", "OK", "OK"] == outcomes(run)
    assert [1, 2, 2] == run.worker.tolist()
    assert [0.0, 0.1, 2.0] == run.routed_s.tolist() == run.started_s.tolist()
    assert [1.0, 1.1, 3.0] == run.first_token_s.tolist()
    assert [2.0, 10.1, 12.0] == pytest.approx(run.ended_s.tolist())


def test_each_dead_worker_costs_a_try() -> None:
    """Of four workers three are dead, and come first: two tries more are not enough, three are."""
    changes = [Kill(0.5, worker) for worker in (1, 2, 3)]

    few, enough = (
        simulate(arriving(1.0), workers=4, router_mode=first, changes=changes, migration_limit=tries)
        for tries in (2, 3)
    )

    assert (["LOST"], [3]) == (outcomes(few), few.worker.tolist())
    assert (["OK"], [4]) == (outcomes(enough), enough.worker.tolist())


def test_nobody_is_left() -> None:
    """Who tried is lost like in the live graph; who comes then finds nobody, until the next chance in five seconds."""
    changes = [Kill(0.5, 1), Kill(0.5, 2), Revive(6.0, 1)]
    run = simulate(arriving(1, 2, 5.5, 7), workers=2, changes=changes, migration_limit=9)

    assert ["LOST", "NOBODY", "LOST", "OK"] == outcomes(run)
    assert [0, 1] == sorted(run.worker[[1, 3]].tolist())
    assert [1, 2, 5.5, 8] == run.ended_s.tolist()


def test_many_dead_are_no_deep_matter() -> None:
    """As many tries as workers do not end in a RecursionError."""
    changes = [Kill(0.5, worker) for worker in range(1, 700)]
    run = simulate(arriving(1.0), workers=700, router_mode=first, changes=changes, migration_limit=1000)

    assert (["OK"], [700]) == (outcomes(run), run.worker.tolist())


def test_a_direct_call_goes_to_the_dead_again() -> None:
    """It names its worker: no skipping and no other try, until the lease is over and the lowest id is another's."""
    run = simulate(
        arriving(1, 2, 3, 10.4, 10.6), workers=2, router_mode="direct", changes=[Kill(0.5, 1)], migration_limit=5
    )

    assert [1, 1, 1, 1, 2] == run.worker.tolist()
    assert ["LOST"] * 4 + ["OK"] == outcomes(run)


def test_a_revived_worker_is_empty_and_listed_at_once() -> None:
    """At its speed, and also after its lease had run out."""
    for back in (3.0, 30.0):
        changes = [Slow(0.1, 1, 0.5), Kill(1.0, 1), Revive(back, 1)]
        run = simulate(arriving(0, back + 1, service=10.0), workers=1, changes=changes)

        assert ["LOST", "OK"] == outcomes(run)
        assert back + 21 == run.ended_s[1]


def test_slow_changes_what_is_under_way() -> None:
    """Half of ten seconds at speed 1, the rest at half of it; who waits is served at the new speed."""
    run = simulate(arriving(0, 1, service=[10, 4]), workers=1, changes=[Slow(5.0, 1, 0.5), Slow(17.0, 1, 2.0)])

    assert [15, 18.5] == run.ended_s.tolist()


@given(st.data())
@settings(max_examples=60)
def test_the_list_is_the_live_graphs(data: st.DataObject) -> None:
    """Kills and requests that find the dead: `InstanceTable` and `Discovery`, told the same, choose the same."""
    workers = data.draw(st.integers(1, 4))
    kills = data.draw(st.dictionaries(st.integers(1, workers), st.integers(0, 30).map(float), max_size=workers))
    arrivals = sorted(data.draw(st.lists(st.integers(0, 60).map(lambda n: n * 0.75 + 0.125), min_size=1, max_size=40)))
    run = simulate(arriving(*arrivals, service=1e-6), workers=workers, changes=[Kill(at, n) for n, at in kills.items()])

    clock = VirtualClock()
    discovery = Discovery(clock=clock)
    leases = [discovery.grant() for _ in range(workers)]
    for n, lease in enumerate(leases, 1):
        discovery.register(ENDPOINT, lease, f"DummyWorker-{n}", cast(Any, None))
    table, picker, found = InstanceTable(discovery, ENDPOINT), RoundRobinPicker(), []
    pending = sorted((at, n) for n, at in kills.items())
    for arrival in arrivals:
        while pending and pending[0][0] <= arrival:
            at, n = pending.pop(0)
            clock.reach(at)
            discovery.lapse(leases[n - 1])
        clock.reach(arrival)
        try:
            _, instance, _ = table.select(picker, Envelope(ENDPOINT, "", None), Hop(None, "", ""))
        except NoInstancesError:
            found.append((0, "NOBODY"))
            continue
        table.release(instance)
        number = instance.instance_id - 7000
        dead = kills.get(number, math.inf) <= arrival
        if dead:
            table.report_down(instance)
        found.append((number, "LOST" if dead else "OK"))

    assert found == list(zip(run.worker.tolist(), outcomes(run), strict=True))


# ---------------------------------------------------------------------------- everybody ends once


@st.composite
def any_changes(draw: st.DrawFn, workers: int) -> list[Change]:
    at, worker = st.floats(0, 40), st.integers(1, workers)
    kinds = st.one_of(
        st.builds(Kill, at, worker), st.builds(Revive, at, worker), st.builds(Slow, at, worker, st.floats(0.1, 4))
    )
    return draw(st.lists(kinds, max_size=8))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_every_request_ends_once(data: st.DataObject) -> None:
    """In any mode, with any limits and whatever happens to workers: each has one end, in order, at a worker it had."""
    workers = data.draw(st.integers(1, 5))
    mode: Any = data.draw(st.sampled_from([*RouterMode, first, emptiest]))
    prompts = mode is RouterMode.KV or data.draw(st.booleans())
    seed = data.draw(st.integers(0, 99))
    if prompts:
        workload = prefix_families(60, 2.0, families=3, prefix_blocks=4, unique_blocks=2, osl=4, seed=seed)
    else:
        workload = poisson(60, 2.0, service=exponential(1.5), seed=seed)
    engine = MockEngineArgs(
        num_gpu_blocks=data.draw(st.sampled_from([6, 14, 40])), prefill_s_per_token=0.01, max_num_seqs=3, itl_base_s=0.3
    )
    kv: dict[str, Any] = {}
    if mode is RouterMode.KV:
        kv["use_kv_events"] = data.draw(st.booleans())
        kv["router_queue_threshold"] = data.draw(st.sampled_from([None, 0.5]))
        kv["max_num_batched_tokens"] = 200
    run = simulate(
        workload,
        workers=workers,
        router_mode=mode,
        seed=seed,
        engine=engine if prompts else None,
        report_every=None if mode is RouterMode.KV else data.draw(st.sampled_from([None, 3.0])),
        queue_limit=data.draw(st.sampled_from([None, 0, 2])),
        changes=data.draw(any_changes(workers)),
        migration_limit=data.draw(st.integers(0, 3)),
        kv=kv or None,
        event_delay_s=data.draw(st.sampled_from([0.0, 0.7])),
    )

    assert 60 == len(run) == sum(Counter(outcomes(run)).values())
    assert not np.isnan(run.ended_s).any()
    ok = run.ok
    assert not np.isnan(run.started_s[ok]).any()
    assert not np.isnan(run.first_token_s[ok]).any()
    stops = np.stack([workload.arrival_s, run.routed_s, run.started_s, run.first_token_s, run.ended_s])[:, ok]
    assert (np.diff(stops, axis=0) >= -1e-9).all()
    assert (run.ended_s >= workload.arrival_s).all()
    nobody = run.outcome == Outcome.NOBODY
    assert (run.worker[~nobody] >= 1).all()
    assert (run.worker <= workers).all()
    assert (run.worker[nobody] == 0).all()
    blocks = np.array([len(sequence) for sequence in workload.sequences])
    assert (run.cached_blocks <= blocks).all()


@pytest.mark.parametrize("prompts", [False, True])
def test_a_worker_serves_no_more_than_it_can(prompts: bool) -> None:
    """At one time one, or one prefill: stays of a worker do not overlap."""
    workload = prefix_families(400, 3.0, seed=2) if prompts else poisson(400, 3.0, service=exponential(), seed=2)
    engine = MockEngineArgs(prefill_s_per_token=0.001) if prompts else None

    run = simulate(workload, workers=4, router_mode="power-of-two", engine=engine)

    for worker in range(1, 5):
        here = np.flatnonzero(run.worker == worker)
        here = here[np.argsort(run.started_s[here], kind="stable")]
        assert (run.started_s[here][1:] >= run.first_token_s[here][:-1] - 1e-9).all()
        assert here.tolist() == sorted(here.tolist())


# ---------------------------------------------------------------------------- a reader's own router


def test_a_pick_function_is_told_what_there_is_to_know() -> None:
    """The request's data is plain; the instances are those of the live graph, with their loads."""
    heard: list[Any] = []

    def mine(request: Envelope, instances: Sequence[Instance]) -> int:
        heard.append((request.data, [repr(instance) for instance in instances]))
        return 7002

    workload = prefix_families(2, 1.0, seed=1)
    run = simulate(workload, workers=2, router_mode=mine, engine=MockEngineArgs(prefill_base_s=100.0))

    assert ("mine()", [2, 2]) == (run.router, run.worker.tolist())
    data, instances = heard[1]
    assert {"request_id", "now_s", "reported_s", "isl", "osl", "family"} == set(data)
    assert (workload.arrival_s[1], 640, 1) == (data["now_s"], data["isl"], data["osl"])
    assert ["<Instance 7001 DummyWorker-1: 0 active>", "<Instance 7002 DummyWorker-2: 1 active>"] == instances


def test_a_pick_functions_faults_are_its_own() -> None:
    """Nothing, or somebody unknown, is a PickError that names who was there; an exception of its own stays one."""
    with pytest.raises(PickError, match=r"returned None \(NoneType\); .*: 7001, 7002\. Is a `return` missing"):
        simulate(arriving(0), workers=2, router_mode=lambda request, instances: cast(Any, None))
    with pytest.raises(PickError, match="returned 7003"):
        simulate(arriving(0), workers=2, router_mode=lambda request, instances: 7003)
    with pytest.raises(ZeroDivisionError):
        simulate(arriving(0), workers=2, router_mode=lambda request, instances: instances[1 // 0])


# ---------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"workers": 0}, "workers=0"),
        ({"router_mode": "round robbin"}, "the modes are round-robin"),
        ({"speeds": [1.0]}, "speeds has 1 entries for 8 workers"),
        ({"speeds": [0.0] * 8}, "speed=0.0"),
        ({"devices": ["cpu"]}, "devices has 1 entries"),
        ({"queue_limit": -1}, "queue_limit=-1"),
        ({"migration_limit": 0.5}, "migration_limit=0.5"),
        ({"report_every": 0}, "report_every=0"),
        ({"report_every": math.nan}, "report_every=nan"),
        ({"event_delay_s": -1}, "event_delay_s=-1"),
        ({"changes": [Kill(1, 9)]}, "no worker 9; they are 1 to 8"),
        ({"changes": [Revive(-1, 1)]}, "at=-1"),
        ({"changes": [Slow(1, 1, 0)]}, "speed=0 must be a number above 0"),
        ({"engine": TOKENS}, "has service times: engine= is for prompts"),
        ({"router_mode": "kv"}, "needs prompts"),
        ({"kv": {"router_temperature": 1}}, 'is for router_mode="kv"; the mode is round-robin'),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], sentence: str) -> None:
    """Each is refused before anything is simulated, by a sentence that says what can be."""
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(")):
        simulate(poisson(10, 1.0), **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "say what they take, engine=MockEngineArgs"),
        ({"engine": MockEngineArgs(block_size=32)}, "MockEngineArgs(block_size=16"),
        ({"engine": TOKENS, "router_mode": "kv", "kv": {"temperature": 1}}, "no such setting; there are"),
        ({"engine": TOKENS, "router_mode": "kv", "kv": {"block_size": 8}}, "is not the workload's 16; leave it out"),
        ({"engine": TOKENS, "router_mode": "kv", "kv": {"router_temperature": -1}}, "router_temperature=-1"),
        ({"engine": TOKENS, "router_mode": "kv", "report_every": 1.0}, "see event_delay_s"),
    ],
)
def test_arguments_that_cannot_be_for_prompts(arguments: dict[str, Any], sentence: str) -> None:
    """Prompts need an engine of their block size, and the KV router settings that it has."""
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(")):
        simulate(prefix_families(10, 1.0), **arguments)
