"""An engine on a loop does what its machine says, when the clock says so, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dynlab.clock import VirtualClock, WallClock
from dynlab.engine import MockEngine, MockEngineArgs, Work
from dynlab.errors import CacheFullError, ConfigError
from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.runtime.live_engine import Generation, LiveEngine
from dynlab.runtime.local import LocalPlanes, LocalRuntime
from tests.runtime.cluster import ENDPOINT, PATH, PATIENCE_S, Cluster, Happened, settled

ARGS = MockEngineArgs(
    prefill_base_s=1.0, prefill_s_per_token=0.25, itl_base_s=0.5, itl_per_seq_s=0.25, block_size=4, num_gpu_blocks=64
)
"""Times that are exact in binary: a prompt of four tokens takes 2 s; a step alone 0.75 s, one of two 1 s."""
PLANES = {"block_size": 4}


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    """Yield a clock for the engines of the test, which leave no task behind."""
    yield VirtualClock()
    await settled()
    assert {asyncio.current_task()} == asyncio.all_tasks()


def engine(clock: VirtualClock, **args: Any) -> LiveEngine:
    planes = LocalPlanes(kv=PLANES)
    return LocalRuntime(planes).endpoint(PATH).engine(replace(ARGS, **args), clock)


async def collect(engine: LiveEngine, prompt: str | Sequence[int], osl: int, into: list[float]) -> Generation:
    """Have an answer made, and note when each token was there."""
    with engine.generating(prompt, osl) as tokens:
        async for token in tokens:
            assert len(into) == token.number
            into.append(token.at)
    return tokens


async def pass_time(clock: VirtualClock, seconds: float) -> None:
    clock.advance(seconds)
    await settled()


# ---------------------------------------------------------------------------- time


async def test_tokens_come_when_their_time_has_come(clock: VirtualClock) -> None:
    """The first after two seconds, each further one after 0.75 s; not before, and not later."""
    came: list[float] = []
    task = asyncio.create_task(collect(engine(clock), [1, 2, 3, 4], 3, came))
    seen = []
    for seconds in (0.0, 1.75, 0.25, 0.5, 0.25, 0.75):
        await pass_time(clock, seconds)
        seen.append(list(came))

    assert [[], [], [2.0], [2.0], [2.0, 2.75], [2.0, 2.75, 3.5]] == seen
    tokens = await task
    assert (0.0, 2.0, 0) == (tokens.queued_s, tokens.ttft_s, tokens.cached_blocks)


async def test_a_late_loop_does_not_change_the_engines_times(clock: VirtualClock) -> None:
    """When a whole minute passes at once, all tokens come at once, each with its own time."""
    came: list[float] = []
    task = asyncio.create_task(collect(engine(clock), [1, 2, 3, 4], 4, came))
    await settled()

    await pass_time(clock, 60.0)

    await task
    assert [2.0, 2.75, 3.5, 4.25] == came


@pytest.mark.parametrize("stride", [0.25, 1.0, 1.75])
async def test_live_it_is_the_machine(clock: VirtualClock, stride: float) -> None:
    """However coarsely the clock moves: of requests at equal times the tokens come at equal times, to the last bit."""
    live = engine(clock, max_num_seqs=3, num_gpu_blocks=20)
    machine = MockEngine(live.args, tokens=True)
    came: dict[int, list[float]] = {}
    tasks = []
    for key in range(24):
        prompt = [key % 3] * 8 + list(range(100 * key, 100 * key + key % 5))
        blocks = block_hashes(prompt, 4)
        osl = 1 + 7 * key % 9
        machine.add(Work(key, isl=len(prompt), osl=osl, sequence=sequence_hashes(blocks), blocks=blocks), clock.now())
        tasks.append(asyncio.create_task(collect(live, prompt, osl, came.setdefault(key, []))))
        await settled()
        await pass_time(clock, stride * (key % 4))
    while not all(task.done() for task in tasks):
        await pass_time(clock, stride)

    expected: dict[Any, list[float]] = {}
    for event in machine.advance(1e9):
        if event.kind.endswith("token"):
            expected.setdefault(event.key, []).append(event.at)
    assert expected == came
    assert (0, 0, 0) == (live.waiting, live.running, live.active_blocks)


async def test_an_engine_has_one_task_at_most(clock: VirtualClock) -> None:
    """Whoever comes: one waits for what is to come next; none when nothing is."""
    live = engine(clock)
    mine = len(asyncio.all_tasks())
    came: list[list[float]] = [[] for _ in range(5)]
    requests = [asyncio.create_task(collect(live, [n], 9, times)) for n, times in enumerate(came)]
    counts = []
    while not all(task.done() for task in requests):
        await pass_time(clock, 0.25)
        counts.append(len(asyncio.all_tasks()) - mine - sum(not task.done() for task in requests))

    assert {1} == set(counts[:-1])
    assert 0 == counts[-1]


async def test_a_sooner_event_is_not_overslept(clock: VirtualClock) -> None:
    """While it sleeps for a step of 100 s, somebody comes whose prefill takes two."""
    live = engine(clock, itl_base_s=100.0)
    slow: list[float] = []
    soon: list[float] = []
    first = asyncio.create_task(collect(live, [1, 2, 3, 4], 2, slow))
    await settled()
    await pass_time(clock, 2.0)
    second = asyncio.create_task(collect(live, [5, 6, 7, 8], 1, soon))
    await settled()
    await pass_time(clock, 2.0)

    await second
    assert [4.0] == soon
    await pass_time(clock, 100.0)
    await first


async def test_real_time_can_run_fast() -> None:
    """At ten thousand times real time, ten seconds of an engine are over soon, and are ten seconds to it."""
    args = replace(ARGS, block_size=16, speedup_ratio=10_000.0)
    live = LocalRuntime().endpoint(PATH).engine(args)
    assert isinstance(live.clock, WallClock)
    came: list[float] = []

    tokens = await asyncio.wait_for(collect(live, [1, 2, 3, 4], 11, came), PATIENCE_S)

    assert pytest.approx(2.0) == tokens.ttft_s
    assert [0.75] * 10 == pytest.approx([later - sooner for sooner, later in pairwise(came)])


# ---------------------------------------------------------------------------- room


async def test_what_can_never_fit_is_an_error(clock: VirtualClock) -> None:
    """Prompt and answer count together; nothing of it is left in the engine."""
    live = engine(clock, num_gpu_blocks=4)

    with (
        pytest.raises(
            CacheFullError, match=r"12 tokens and an answer of 5 need 5 blocks of 4 tokens.*num_gpu_blocks=4"
        ),
        live.generating(list(range(12)), 5),
    ):
        pass

    assert (0, 0, 0) == (live.waiting, live.running, live.active_blocks)


async def test_who_leaves_makes_room(clock: VirtualClock) -> None:
    """A block that is left before the end of the answer hangs up, and the next one in the queue begins."""
    live = engine(clock, num_gpu_blocks=4)
    came: list[float] = []
    with live.generating([1, 2, 3, 4], 12) as left:
        waits = asyncio.create_task(collect(live, [5, 6, 7, 8], 4, came))
        await settled()
        assert (1, 1, 4) == (live.waiting, live.running, live.active_blocks)
        await pass_time(clock, 3.0)
        assert 0 == (await anext(left)).number

    assert (0, 1, 2) == (live.waiting, live.running, live.active_blocks)
    with pytest.raises(StopAsyncIteration):  # although the second token is there
        await anext(left)
    await pass_time(clock, 20.0)
    tokens = await waits
    assert (3.0, 5.0) == (tokens.queued_s, tokens.ttft_s)


async def test_a_handler_that_fails_leaves_too(clock: VirtualClock) -> None:
    """Whatever ends the block."""
    live = engine(clock)

    with pytest.raises(LookupError), live.generating([1], 100):
        raise LookupError

    assert (0, 0) == (live.running, live.active_blocks)


async def test_a_cancelled_task_leaves_too(clock: VirtualClock) -> None:
    """In the queue and in prefill alike."""
    live = engine(clock)
    tasks = [asyncio.create_task(collect(live, [n], 100, [])) for n in range(2)]
    await settled()

    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert (0, 0, 0) == (live.waiting, live.running, live.active_blocks)


# ---------------------------------------------------------------------------- as an instance of an endpoint


async def serving(
    cluster: Cluster, make: Callable[[LiveEngine, Any], AsyncGenerator[Any, None]], clock: Any = None, **args: Any
) -> list[LiveEngine]:
    """Start a worker with an engine whose handler is `make`."""
    worker = await cluster.worker()
    made: list[LiveEngine] = []

    async def begin() -> None:
        made.append(worker.runtime.endpoint(PATH).engine(replace(ARGS, **args), clock))

    await worker.run(begin())
    await worker.serve(lambda request: make(made[0], request))
    return made


async def tell_cached(live: LiveEngine, request: Any) -> AsyncGenerator[Any, None]:
    with live.generating(request["prompt"], 1) as tokens:
        async for _ in tokens:
            yield {"cached": tokens.cached_blocks, "ttft_s": tokens.ttft_s}


async def test_a_kv_router_learns_what_an_engine_holds(cluster: Cluster) -> None:
    """Also what it held before the router came: one who was served elsewise is sent to its prompt's blocks."""
    cluster.planes.kv = PLANES
    for _ in range(3):
        await serving(cluster, tell_cached, speedup_ratio=10_000.0)
    prompt = " ".join(f"word{n}" for n in range(16))
    early = await cluster.client(router_mode="round-robin")
    async for item in await early.direct({"prompt": prompt}, 7002):
        assert {"cached": 0, "ttft_s": pytest.approx(5.0, rel=1e-3)} == item.data()

    client = await cluster.client(router_mode="kv")
    router = cluster.reader.kv_picker(ENDPOINT).router  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE_S):
        while router.indexer.find_matches(sequence_hashes(block_hashes(tokenize(prompt), 4))) != {7002: 4}:
            await asyncio.sleep(0.001)

    for _ in range(5):
        async for item in await client.route({"prompt": prompt}):
            assert {"cached": 4, "ttft_s": pytest.approx(1.25, rel=1e-3)} == item.data()
    assert {7002} == {d.instance_id for trace in list(cluster.planes.traces)[1:] for d in trace.decisions}


async def test_a_caller_who_hangs_up_is_gone_from_the_queue(cluster: Cluster) -> None:
    """Although the handler waits for a first token that would never come: this clock stands still."""
    cluster.planes.kv = PLANES
    over = Happened()

    async def wait(live: LiveEngine, request: Any) -> AsyncGenerator[Any, None]:
        with live.generating(request["prompt"], 5) as tokens:
            async for token in tokens:
                yield token.number
        assert (0, 0, 0) == (live.waiting, live.running, live.active_blocks)
        over.set()

    await serving(cluster, wait, VirtualClock())
    stream = await (await cluster.client()).random({"prompt": "words"})
    await cluster.workers[0].settled()

    await stream.aclose()

    await over.wait_here()


async def test_blocks_are_as_large_as_the_routers(clock: VirtualClock) -> None:
    """16 tokens stand for "as the routers'"; another size than theirs is refused, with what to do."""
    planes = LocalPlanes(kv={"block_size": 8})
    endpoint = LocalRuntime(planes).endpoint(PATH)

    assert 8 == endpoint.engine(MockEngineArgs(), clock).args.block_size
    assert 8 == endpoint.engine(MockEngineArgs(block_size=8), clock).args.block_size
    with pytest.raises(ConfigError, match=r"block_size=4, but KV routers reckon with blocks of 8 .*'block_size': 4"):
        endpoint.engine(MockEngineArgs(block_size=4), clock)


async def test_a_killed_instance_takes_its_engine_along(cluster: Cluster) -> None:
    """In the middle of an answer; that its thread ends, and nothing is left on it, is the fixture's."""

    async def say(live: LiveEngine, request: Any) -> AsyncGenerator[Any, None]:
        with live.generating(request["prompt"], 1_000_000) as tokens:
            async for token in tokens:
                yield token.number

    cluster.planes.kv = PLANES
    await serving(cluster, say, speedup_ratio=100.0, num_gpu_blocks=1_000_000)
    stream = await (await cluster.client()).random({"prompt": "words"})
    assert 0 == (await anext(stream)).data()

    cluster.workers[0].kill()

    await stream.aclose()
