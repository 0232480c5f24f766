"""Instances in threads of their own, without a graph above them: what the tests of the runtime talk to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from dynlab.clock import VirtualClock
from dynlab.protocols import EndpointId
from dynlab.routing.modes import RouterSpec
from dynlab.runtime.client import LocalClient
from dynlab.runtime.discovery import Discovery
from dynlab.runtime.local import LocalEndpoint, LocalPlanes, LocalRuntime
from dynlab.runtime.loops import LoopThread
from dynlab.runtime.reply import ResponseStream

__all__ = ("ENDPOINT", "PATH", "PATIENCE_S", "Cluster", "Happened", "Worker", "data", "first", "settled")

PATH = "test.Worker.generate"
ENDPOINT = EndpointId.parse(PATH)
PATIENCE_S = 10.0
"""How long a test waits for what must come; only a failing one waits that long."""

T = TypeVar("T")


class Happened(threading.Event):
    """Something that happens on one thread and is waited for on another."""

    async def wait_here(self) -> None:
        assert await asyncio.to_thread(self.wait, PATIENCE_S), "it did not happen"


@dataclass
class Worker:
    """One instance: its runtime, and the thread whose loop it lives on."""

    name: str
    runtime: LocalRuntime
    thread: LoopThread

    @property
    def instance_id(self) -> int:
        return self.runtime.lease.lease_id

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the worker's loop."""
        return await asyncio.wait_for(asyncio.wrap_future(self.thread.submit(coroutine)), PATIENCE_S)

    async def serve(self, handler: Callable[..., Any], path: str = PATH) -> asyncio.Future[None]:
        """Serve an endpoint on the worker's loop."""

        async def begin() -> asyncio.Future[None]:
            return self.runtime.endpoint(path).serve_endpoint(handler)

        return await self.run(begin())

    async def settled(self) -> None:
        """Let everything run that can run on the worker's loop now."""
        await self.run(settled())

    def kill(self) -> None:
        """Vanish as a killed process does."""
        self.runtime.die()
        self.thread.stop()

    def close(self) -> None:
        self.kill()
        assert self.thread.join(PATIENCE_S), f"{self.name} still runs"


class Cluster:
    """Workers that share planes, and a reader's runtime on the loop of the test. Time is virtual."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.planes = LocalPlanes(discovery=Discovery(clock=self.clock))
        self.reader = LocalRuntime(self.planes)
        self.workers: list[Worker] = []

    async def worker(self, handler: Callable[..., Any] | None = None, path: str = PATH) -> Worker:
        """Start one more instance; without a handler it answers with its own name and the request."""
        name = f"Worker-{len(self.workers) + 1}"
        worker = Worker(name, LocalRuntime(self.planes, name), LoopThread(f"dynlab-{name}"))
        self.workers.append(worker)
        worker.thread.start()

        async def echo(request: Any) -> AsyncGenerator[Any, None]:
            yield {"worker": name, "request": request}

        await worker.serve(handler or echo, path)
        return worker

    async def echoes(self, count: int) -> list[Worker]:
        """Start so many instances that answer with their name and the request."""
        return [await self.worker() for _ in range(count)]

    def endpoint(self, path: str = PATH) -> LocalEndpoint:
        return self.reader.endpoint(path)

    async def client(self, path: str = PATH, router_mode: RouterSpec | None = None) -> LocalClient:
        return await self.endpoint(path).client(router_mode)

    def active(self, path: str = PATH) -> list[int]:
        """The reader's requests in flight, by instance id."""
        return [instance.active_requests for instance in self.reader.table(EndpointId.parse(path)).instances()]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.close()


async def data(call: Coroutine[Any, Any, ResponseStream]) -> list[Any]:
    """Send a request, and return all that it yields."""
    async with contextlib.aclosing(await call) as stream:
        return [item.data() async for item in stream]


async def first(call: Coroutine[Any, Any, ResponseStream]) -> Any:
    """Send a request, and return its first item."""
    return (await data(call))[0]


async def settled() -> None:
    """Let everything run that can run on this loop now, and what that sets off."""
    for _ in range(10):
        await asyncio.sleep(0)
