"""The hello world on the real engine, asked in a process of its own: `python ai_dynamo_scenarios.py`.

Prints one JSON object, `{scenario: what was seen}`. The engine reads its settings once in a process and takes over
file descriptor 2, so it is kept out of the process that runs the tests.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dynlab import api, async_on_start, depends, dynamo_context, dynamo_endpoint, serve, service
from dynlab.errors import RequestFailedError
from dynlab.hello_world import Frontend
from dynlab.routing.modes import RouterMode
from dynlab.serving.deployment import Deployment


def hello(**settings: Any) -> Deployment:
    return serve(Frontend, **{"workers": {"DummyWorker": 4}, "runtime": "ai_dynamo", "seed": 7, **settings})


async def until_listed(deployment: Deployment, count: int) -> None:
    """Wait until the engine lists so many workers."""
    client = await deployment.runtime.endpoint("dynamo-demo.DummyWorker.begenerate").client()
    async with asyncio.timeout(10):
        while len(client.instance_ids()) != count:
            await asyncio.sleep(0.01)


def the_blogs_classes_run_unchanged() -> Any:
    with hello() as deployment:
        items = [deployment.ask("test prompt str", request_id=f"r-{n}") for n in range(8)]
        names = sorted(name for (item,) in items for name in [item.rsplit("_GeneratedBy_", 1)[1].split('"')[0]])
        return {
            "items": {len(answer) for answer in items} == {1},
            "prompt": "test prompt str_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-" in items[0][0],
            "names": names,
            "counts": sorted(deployment.traces.requests_per_worker().values()),
        }


def every_stop_is_traced() -> Any:
    with hello() as deployment:
        deployment.ask("x", request_id="r-1")
        trace = deployment.traces["r-1"]
        hops = [(hop.service, hop.outcome, hop.items, bool(hop.thread)) for hop in trace.hops]
        times = [(hop.begin_ns, hop.started_ns, *hop.item_ns, hop.ended_ns) for hop in trace.hops]
        return {
            "hops": hops,
            "in order": all(list(stops) == sorted(stops) for stops in times),
            "explained": "turn 0 among 4" in (text := str(deployment.explain("r-1"))) or "by round-robin" in text,
            "drawn": "DummyWorker" in deployment.traces.plot_routing()._repr_html_(),
            "card": deployment._repr_html_().count("DummyWorker-") >= 4,
        }


def all_modes_route() -> Any:
    seen: dict[str, Any] = {}
    for mode in (*RouterMode, lambda request, instances: instances[-1]):
        with hello(router_mode=mode, kv={"block_size": 4} if mode is RouterMode.KV else None) as deployment:
            batch = deployment.ask_many(16, concurrency=4)
            counts = deployment.traces.requests_per_worker()
            name = mode.value if isinstance(mode, RouterMode) else "function"
            seen[name] = [len(batch.failures), sum(counts.values()), sorted(counts.values())[-1] == 16]
    return seen


def a_killed_worker_costs_one_request_and_is_skipped() -> Any:
    with hello(workers={"DummyWorker": 2}, lease_ttl_s=1.0) as deployment:
        deployment.ask("x")
        deployment.kill("DummyWorker", 1)
        failures = []
        for _ in range(6):
            try:
                deployment.ask("x")
            except RequestFailedError as error:
                failures.append(str(error))
        asyncio.run(until_listed(deployment, 1))  # its lease runs out after a second
        deployment.scale("DummyWorker", 3)
        asyncio.run(until_listed(deployment, 3))
        batch = deployment.ask_many(12)
        return {
            "failures": len(failures),
            "says": all("503: WorkerUnavailableError" in text for text in failures),
            "after scale": [len(batch.failures), deployment.workers["DummyWorker"]],
        }


def a_request_that_a_dead_worker_left_goes_elsewhere() -> Any:
    with hello(workers={"DummyWorker": 3}, migration_limit=2) as deployment:
        deployment.ask("x")
        deployment.kill("DummyWorker", 0)
        return len(deployment.ask_many(30, concurrency=4).failures)


@service(dynamo={"namespace": "engine-tests"})
class Worker:
    @dynamo_endpoint()
    async def work(self, request: str) -> AsyncIterator[str]:
        if request == "wrong":
            raise ValueError("a wrong request")
        if request == "late":
            yield "first"
            raise ValueError("too late")
        for n in range(200 if request == "long" else 3):
            yield f"{request} {n}"
            await asyncio.sleep(0.005 if request == "long" else 0)


@service(dynamo={"namespace": "engine-tests"})
class Gate:
    worker = depends(Worker)
    stopped = threading.Event()

    @async_on_start
    async def connect(self) -> None:
        self.hostname = dynamo_context["hostname"]

    @api
    async def ask(self, prompt: str) -> AsyncIterator[str]:
        async for item in self.worker.work(prompt):
            yield item


def items_stream_and_errors_are_told() -> Any:
    with serve(Gate, runtime="ai_dynamo") as deployment:
        seen: dict[str, Any] = {"items": deployment.ask("a")}
        for prompt in ("wrong", "late"):
            try:
                deployment.ask(prompt)
            except Exception as error:
                seen[prompt] = [type(error).__name__, "a wrong request" in str(error) or "too late" in str(error)]
        return seen


def who_hangs_up_stops_the_worker() -> Any:
    with serve(Gate, runtime="ai_dynamo") as deployment:
        stream = iter(deployment.stream("long"))
        first = next(stream)
        stream.close()
        for _ in range(400):
            hop = deployment.traces.last.answered_by
            if hop is not None and hop.ended_ns:
                break
            threading.Event().wait(0.01)
        return [first, hop is not None and 0 < hop.items < 200, deployment.instances[0].active]


def closing_in_the_middle_is_quiet() -> Any:
    deployment = serve(Gate, runtime="ai_dynamo")
    streams = [iter(deployment.stream("long")) for _ in range(4)]
    firsts = [next(stream) for stream in streams]
    deployment.close()
    return [len(firsts), sorted({t.name for t in threading.enumerate() if t.name.startswith("dynlab-")})]


def fifty_lives_leave_nothing() -> Any:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    def megabytes() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    for life in range(50):
        with hello() as deployment:
            deployment.ask("x")
        if life == 9:
            before = threads(), len(os.listdir("/proc/self/fd")), megabytes()
    return {
        "threads": threads() - before[0] <= 2,
        "descriptors": len(os.listdir("/proc/self/fd")) - before[1] <= 8,
        "megabytes": megabytes() - before[2] < 20,
    }


def what_the_engine_says_is_in_the_logs() -> Any:
    with hello() as deployment:
        deployment.ask("x", request_id="logged")
        for _ in range(300):
            if any("ai-dynamo:" in line and "request_id=logged" in line for line in deployment.logs()):
                return True
            threading.Event().wait(0.01)
        return deployment.logs(20)


SCENARIOS = {
    name: value
    for name, value in list(globals().items())
    if inspect.isfunction(value) and value.__module__ == __name__ and not inspect.signature(value).parameters
}


def run_all() -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for name, scenario in SCENARIOS.items():
        try:
            answers[name] = scenario()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
    return answers


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_all()))
