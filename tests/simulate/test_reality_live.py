"""Simulated runs beside the live runtime: the same requests to the same workers at the same times, every single one."""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from dynlab.clock import VirtualClock
from dynlab.engine import MockEngineArgs
from dynlab.errors import NoInstancesError, StreamIncompleteError, WorkerUnavailableError
from dynlab.kv.blocks import tokenize
from dynlab.protocols import EndpointId, Envelope, GeneralRequest, Instance
from dynlab.routing.modes import PickFunction, RouterMode
from dynlab.runtime.discovery import Discovery
from dynlab.runtime.local import LocalPlanes, LocalRuntime
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.endpoint import async_on_start, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.serve import serve
from dynlab.simulate.changes import Kill
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, prefix_families
from tests.timed_front import front_of

PATH = "dynamo-demo.DummyWorker.begenerate"
WORKERS, SEED, OSL = 4, 7, 3
ARGS = MockEngineArgs(
    num_gpu_blocks=60, max_num_seqs=4, prefill_base_s=0.05, prefill_s_per_token=0.001, itl_base_s=0.02
)
"""So slow and so small that requests wait, and blocks have to go."""
ARGS_LIVE = MockEngineArgs(max_num_seqs=4, prefill_s_per_token=0.001, speedup_ratio=50.0)
"""A prefill of 17 to 57 ms that takes a fiftieth of it."""
PROMPTS = prefix_families(150, 14.0, families=8, prefix_blocks=8, unique_blocks=3, osl=OSL, seed=SEED)
KILLS = (Kill(3.0, 1), Kill(4.2, 3))
FAILED = {NoInstancesError: Outcome.NOBODY, StreamIncompleteError: Outcome.LOST, WorkerUnavailableError: Outcome.LOST}


class Happened(NamedTuple):
    """What became of a request."""

    outcome: Outcome
    worker: int = 0
    started_s: float = math.nan
    first_token_s: float = math.nan
    ended_s: float = math.nan
    cached_blocks: int = 0


# ---------------------------------------------------------------------------- the live runtime in virtual time


class SteppedClock(VirtualClock):
    """A clock that tells when somebody will wake."""

    @property
    def next_at(self) -> float:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else math.inf

    async def go_to(self, at: float) -> None:
        """Stop wherever somebody wakes on the way, and let all that this sets off happen."""
        await settled()
        while (due := self.next_at) <= at and due < math.inf:
            self.reach(due)
            await settled()
        if at < math.inf:
            self.reach(at)
            await settled()


async def settled() -> None:
    """Let everything run that can run on this loop now: from an engine to the client and back it takes some turns."""
    for _ in range(30):
        await asyncio.sleep(0)


class Reader(LocalRuntime):
    """A runtime that draws lots as the simulator does."""

    def client_rng(self, endpoint: EndpointId) -> random.Random:
        return random.Random(f"{SEED}/router")


class Live:
    """Workers with engines, and a client of theirs, all on this loop."""

    def __init__(self, kv: Mapping[str, Any], migration_limit: int) -> None:
        self.clock = SteppedClock()
        settings = {"block_size": PROMPTS.block_size, **kv}
        self.planes = LocalPlanes(discovery=Discovery(clock=self.clock), kv=settings, migration_limit=migration_limit)
        self.made: dict[int, Happened] = {}
        self.workers = [self._worker(number) for number in range(1, WORKERS + 1)]

    def _worker(self, number: int) -> LocalRuntime:
        runtime = LocalRuntime(self.planes, f"DummyWorker-{number}")
        endpoint = runtime.endpoint(PATH)
        engine = endpoint.engine(ARGS, self.clock)

        async def begenerate(request: Any) -> AsyncIterator[int]:
            with engine.generating(request["token_ids"], OSL) as tokens:
                came = []
                async for token in tokens:
                    came.append(token.at)
                    yield token.number
                times = (tokens.started_at, tokens.first_token_at, came[-1])
            self.made[request["number"]] = Happened(Outcome.OK, number, *times, tokens.cached_blocks)

        endpoint.serve_endpoint(begenerate)
        return runtime

    async def ask(self, client: Any, number: int) -> Happened:
        sequence = PROMPTS.sequences[number]
        tokens = [block for block in sequence for _ in range(PROMPTS.block_size)]
        try:
            async with aclosing(await client.route({"number": number, "token_ids": tokens})) as stream:
                async for _ in stream:
                    pass
        except tuple(FAILED) as error:
            return Happened(FAILED[type(error)])
        return self.made[number]

    async def run(self, router_mode: RouterMode | PickFunction, kills: Sequence[Kill]) -> list[Happened]:
        client = await Reader(self.planes).endpoint(PATH).client(router_mode)
        asked: list[asyncio.Task[Happened]] = []
        at = [(kill.at, 0, self.workers[kill.worker - 1].die) for kill in kills]
        at += [
            (arrival, 1, partial(self._begin, asked, client, n)) for n, arrival in enumerate(PROMPTS.arrival_s.tolist())
        ]
        for when, _, happens in sorted(at, key=lambda entry: entry[:2]):
            await self.clock.go_to(when)
            happens()
            await settled()
        await self.clock.go_to(math.inf)
        return await asyncio.gather(*asked)

    def _begin(self, asked: list[asyncio.Task[Happened]], client: Any, number: int) -> None:
        asked.append(asyncio.create_task(self.ask(client, number)))


def rows(run: Run) -> list[Happened]:
    """Return what became of each request; of those without an answer, the live client learns no more than that."""
    columns = (run.worker, run.started_s, run.first_token_s, run.ended_s, run.cached_blocks)
    return [
        Happened(Outcome.OK, *row) if outcome == Outcome.OK else Happened(Outcome(outcome))
        for outcome, *row in zip(run.outcome.tolist(), *(column.tolist() for column in columns), strict=True)
    ]


def fewest(request: Envelope, instances: Sequence[Instance]) -> Instance:
    """Least loaded, the lowest id on a tie: "least-loaded" draws lots, and two lists of equals in another order."""
    return min(instances, key=lambda instance: instance.active_requests)


CASES: dict[str, tuple[RouterMode | PickFunction, dict[str, Any]]] = {
    "round-robin": (RouterMode.ROUND_ROBIN, {}),
    "random": (RouterMode.RANDOM, {}),
    "power-of-two": (RouterMode.POWER_OF_TWO, {}),
    "direct": (RouterMode.DIRECT, {}),
    "a function": (fewest, {}),
    "kv": (RouterMode.KV, {}),
    "kv, believed": (RouterMode.KV, {"use_kv_events": False, "router_ttl_secs": 2.0}),
    "kv, by lot": (RouterMode.KV, {"router_temperature": 1.0, "overlap_score_credit": 2.0}),
    "kv, queued": (RouterMode.KV, {"router_queue_threshold": 0.0, "max_num_batched_tokens": 300}),
    "kv, half queued": (RouterMode.KV, {"router_queue_threshold": 0.3, "max_num_batched_tokens": 300}),
}


@pytest.mark.parametrize("migration_limit", [0, 2])
@pytest.mark.parametrize("case", CASES)
async def test_the_runtime_does_what_the_simulator_says(case: str, migration_limit: int) -> None:
    """Worker, cached blocks, start, first token and end of every request are those of the live client and its engines.

    The live runtime runs in virtual time, too, so that they can be: its discovery, client, request plane, event plane,
    routers and engines, on one loop. Two of the four workers die on the way. Differences are those of rounding.
    """
    mode, kv = CASES[case]
    more: dict[str, Any] = {"changes": KILLS, "migration_limit": migration_limit, "kv": kv or None}
    run = simulate(PROMPTS, workers=WORKERS, router_mode=mode, seed=SEED, engine=ARGS, **more)

    live = await Live(kv, migration_limit).run(mode, KILLS)

    expected = rows(run)
    whole = [(row.outcome, row.worker, row.cached_blocks) for row in expected]
    assert whole == [(row.outcome, row.worker, row.cached_blocks) for row in live]
    times = [np.array([row[2:5] for row in found]) for found in (expected, live)]
    np.testing.assert_allclose(*times, atol=1e-9)
    assert run.wait_s.max() > 0.1, "so slow that requests wait"


# ---------------------------------------------------------------------------- the live graph on its threads


@service(dynamo={"namespace": "timed"})
class TimedWorker:
    """Answers with what its engine's own clock says."""

    @async_on_start
    async def open_engine(self) -> None:
        endpoint = dynamo_context["component"].endpoint("begenerate")
        self.engine = endpoint.engine(ARGS_LIVE)

    @dynamo_endpoint()
    async def begenerate(self, request: GeneralRequest) -> AsyncIterator[dict[str, Any]]:
        with self.engine.generating(request.prompt, OSL) as tokens:
            came = [token.at async for token in tokens]
            yield {
                "worker": int(dynamo_context["hostname"].rpartition("-")[2]),
                "isl": len(tokenize(request.prompt)),
                "times_s": [tokens.added_at, tokens.started_at, tokens.first_token_at, came[-1]],
            }


def as_lived(answers: Sequence[Mapping[str, Any]]) -> Workload:
    """Return the requests of a live run, each when it came to its engine."""
    n = len(answers)
    times = np.array([answer["times_s"][0] for answer in answers])
    isl = np.array([answer["isl"] for answer in answers])
    return Workload("as lived", times - times[0], np.zeros(n), isl, np.full(n, OSL), [()] * n, np.full(n, -1))


def test_the_graph_does_what_the_simulator_says() -> None:
    """Four live workers, each on its thread, serve 300 prompts in turn: 75 each, as simulated, with the same waits.

    Who comes when is the threads' doing, so the simulator is told when each request came to which engine; what comes of
    that is its own. No request waits a microsecond more or less.
    """
    prompts = [" ".join(f"{number}.{n}" for n in range(1 + 37 * number % 40)) for number in range(300)]
    with serve(front_of(TimedWorker), workers={"TimedWorker": WORKERS}, name="timed", seed=SEED) as deployment:
        batch = deployment.ask_many(prompts, concurrency=32)
    lived = sorted((json.loads(answer or "") for answer in batch.answers), key=lambda answer: answer["times_s"][0])
    workload, worker = as_lived(lived), [answer["worker"] for answer in lived]

    in_turn = simulate(workload, workers=WORKERS, router_mode=RouterMode.ROUND_ROBIN, engine=ARGS_LIVE)
    again = simulate(
        workload,
        workers=WORKERS,
        router_mode=lambda request, instances: instances[worker[int(request.request_id)]],
        engine=ARGS_LIVE,
    )

    assert [75] * WORKERS == np.bincount(worker).tolist() == in_turn.requests_per_worker.tolist()
    times = np.array([answer["times_s"] for answer in lived]) - lived[0]["times_s"][0]
    simulated = np.stack([workload.arrival_s, again.started_s, again.first_token_s, again.ended_s], axis=1)
    np.testing.assert_allclose(times, simulated, atol=1e-6)
    assert again.wait_s.mean() > 0.01, "so many at a time that they wait"
