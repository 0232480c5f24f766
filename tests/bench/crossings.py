"""Three ways to ask a handler that lives on another thread's loop; `bench_plane.py` compares them.

    dynlab                     its request plane: a client and a served endpoint, tracing on
    run_coroutine_threadsafe   asyncio's own: one crossing for a whole answer or, of a stream, for each item
    queue                      each item pushed with `call_soon_threadsafe` into an `asyncio.Queue` of the caller

The last two do no more than bring the items back: no routing, no traces, no window, and no end for a stream that
nobody reads any more or whose worker dies.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeAlias

from dynlab.runtime.local import LocalPlanes, LocalRuntime
from dynlab.runtime.loops import LoopThread

__all__ = ("LOOPS", "WAYS", "Ask", "chain")

Ask: TypeAlias = Callable[[str], AsyncGenerator[str, None]]
"""Sends a request, and yields the items of its answer."""
Link: TypeAlias = Callable[[LoopThread, str, Ask], Awaitable[Ask]]
"""Has a handler served on a thread, under a name. Runs on the caller's loop; what it returns asks from there."""

LOOPS = ("uvloop", "asyncio") if importlib.util.find_spec("uvloop") is not None else ("asyncio",)
WAYS = ("dynlab", "run_coroutine_threadsafe", "queue")
PATIENCE_S = 10.0


def request_plane() -> Link:
    planes = LocalPlanes()

    async def link(worker: LoopThread, name: str, handler: Ask) -> Ask:
        path = f"bench.{name}.generate"

        async def serve() -> None:
            LocalRuntime(planes, name).endpoint(path).serve_endpoint(handler)

        await asyncio.wrap_future(worker.submit(serve()))
        client = await LocalRuntime(planes, f"caller-of-{name}").endpoint(path).client()

        async def ask(request: str) -> AsyncGenerator[str, None]:
            async with aclosing(await client.round_robin(request)) as stream:
                async for item in stream:
                    yield item.data()

        return ask

    return link


async def whole_answers(worker: LoopThread, name: str, handler: Ask) -> Ask:
    """`run_coroutine_threadsafe`, with a coroutine that collects the answer."""

    async def collect(request: str) -> list[str]:
        return [item async for item in handler(request)]

    async def ask(request: str) -> AsyncGenerator[str, None]:
        for item in await _crossed(collect(request), worker):
            yield item

    return ask


async def pulled_items(worker: LoopThread, name: str, handler: Ask) -> Ask:
    """`run_coroutine_threadsafe` for each item, so that the first arrives before the last is made."""

    async def step(items: AsyncGenerator[str, None]) -> str | None:
        return await anext(items, None)

    async def ask(request: str) -> AsyncGenerator[str, None]:
        items = handler(request)  # begins with its first step, and so on the worker's loop
        while (item := await _crossed(step(items), worker)) is not None:
            yield item

    return ask


async def _crossed(coroutine: Coroutine[Any, Any, Any], worker: LoopThread) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, worker.loop))


async def queued_items(worker: LoopThread, name: str, handler: Ask) -> Ask:
    """A queue per answer, a wake-up per item."""
    home = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()  # on the worker's loop; a task must be referenced somewhere

    async def answer(request: str, queue: asyncio.Queue[str | None]) -> None:
        async for item in handler(request):
            home.call_soon_threadsafe(queue.put_nowait, item)
        home.call_soon_threadsafe(queue.put_nowait, None)

    def accept(request: str, queue: asyncio.Queue[str | None]) -> None:
        task = worker.loop.create_task(answer(request, queue))
        running.add(task)
        task.add_done_callback(running.discard)

    async def ask(request: str) -> AsyncGenerator[str, None]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        worker.loop.call_soon_threadsafe(accept, request, queue)
        while (item := await queue.get()) is not None:
            yield item

    return ask


def _link(way: str, streaming: bool) -> Link:
    if way == "dynlab":
        return request_plane()
    if way == "queue":
        return queued_items
    return pulled_items if streaming else whole_answers


@contextmanager
def chain(
    way: str, loop: str, handler: Ask, *, hops: int = 1, streaming: bool = False
) -> Iterator[tuple[LoopThread, Ask]]:
    """Start a caller's thread and one more for each hop, of which the last runs the handler and others pass it on.

    Yields the caller's thread, and what asks from there.
    """
    with _loops_of(loop):
        threads = [LoopThread(f"dynlab-bench-{number}") for number in range(hops + 1)]
    for thread in threads:
        thread.start()
    try:
        link, ask = _link(way, streaming), handler
        for number in range(hops, 0, -1):
            linking = link(threads[number], f"Tier{number}", ask)
            ask = threads[number - 1].submit(linking).result(PATIENCE_S)
        yield threads[0], ask
    finally:
        for thread in threads:
            thread.stop()
        for thread in threads:
            assert thread.join(PATIENCE_S), f"{thread.name} still runs"


@contextmanager
def _loops_of(kind: str) -> Iterator[None]:
    """Have `LoopThread` make loops of this kind.

    It takes uvloop's where uvloop can be imported, which a None in `sys.modules` forbids: both `import` and `find_spec`
    then say that there is no such module. For benchmarks only.
    """
    before = sys.modules.get("uvloop")
    if kind == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is not None:
            sys.modules["uvloop"] = before
        else:
            sys.modules.pop("uvloop", None)
