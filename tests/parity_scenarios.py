"""What a client of Dynamo sees, asked of each runtime by the same code: `python parity_scenarios.py KIND`.

KIND is "real", ai-dynamo-runtime itself; "local", dynlab's threads; or "ai_dynamo", dynlab on the engine.

Prints one JSON object, `{scenario: what was seen}`. The real engine runs in a process of its own because it reads
its settings from the environment once, and logs to file descriptor 2 from Rust.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pydantic import BaseModel

PATIENCE_S = 10.0
NAMESPACE = "parity"


class Engine:
    """One of the runtimes: makes instances of an endpoint, and clients."""

    def __init__(self, kind: str) -> None:
        self.real = kind == "real"
        self.runtimes: list[Any] = []
        if kind == "local":
            from dynlab.runtime.local import LocalPlanes

            self._planes = LocalPlanes(seed=1)
        elif kind == "ai_dynamo":
            from dynlab.runtime.ai_dynamo import AiDynamoPlanes

            self._planes = AiDynamoPlanes(seed=1)
        self.reader = self.runtime()

    def runtime(self) -> Any:
        if self.real:
            from dynamo.runtime import DistributedRuntime

            made = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
        else:
            made = self._planes.runtime(f"W-{len(self.runtimes)}")
        self.runtimes.append(made)
        return made

    def context(self) -> Any:
        if self.real:
            from dynamo.runtime import Context
        else:
            from dynlab.runtime.context import Context
        return Context()

    def serve(self, component: str, handler: Callable[..., Any]) -> int:
        """Start one more instance and return its id."""
        endpoint = self.runtime().endpoint(f"{NAMESPACE}.{component}.gen")
        endpoint.serve_endpoint(handler)
        return int(endpoint.connection_id())

    async def client(self, component: str, at_least: int = 0) -> Any:
        client = await self.reader.endpoint(f"{NAMESPACE}.{component}.gen").client()
        async with asyncio.timeout(PATIENCE_S):
            while len(client.instance_ids()) < at_least:
                await asyncio.sleep(0.005)
        return client

    async def workers(self, component: str, n: int) -> tuple[Any, list[int]]:
        """Instances that answer with their own id, and a client of them."""
        ids = [0] * n

        def answer_with(place: int) -> Callable[..., Any]:
            async def handler(request: Any) -> AsyncIterator[int]:
                yield ids[place]

            return handler

        for place in range(n):
            ids[place] = self.serve(component, answer_with(place))
        return await self.client(component, at_least=n), sorted(ids)


async def items(stream: Awaitable[Any]) -> list[Any]:
    return [item.data() async for item in await stream]


async def error_of(answer: Awaitable[Any]) -> tuple[str, str]:
    """Return the built-in type and the text of what is raised."""
    try:
        await answer
    except Exception as error:
        kinds = [cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "builtins"]
        return kinds[0], str(error)
    return "", "nothing was raised"


async def happened(event: asyncio.Event) -> None:
    """Wait for what follows from dropping an object; the real engine's are sometimes part of a cycle."""
    async with asyncio.timeout(PATIENCE_S):
        while not event.is_set():
            gc.collect()
            await asyncio.sleep(0.01)


async def ranks(client: Any, ids: list[int], n: int) -> list[int]:
    return [ids.index((await items(client.round_robin(0)))[0]) for _ in range(n)]


async def round_robin_goes_by_ascending_id(engine: Engine) -> Any:
    client, ids = await engine.workers("ascending", 4)
    return await ranks(client, ids, 9)


async def only_round_robin_moves_its_turn(engine: Engine) -> Any:
    client, ids = await engine.workers("turn", 3)
    seen = await ranks(client, ids, 2)
    for _ in range(4):
        await items(client.random(0))
        await items(client.generate(0))
        await items(client.direct(0, ids[0]))
    return seen + await ranks(client, ids, 3)


async def each_client_has_its_own_turn(engine: Engine) -> Any:
    first, ids = await engine.workers("own", 3)
    seen = await ranks(first, ids, 2)
    second = await engine.client("own", at_least=3)
    return [seen, await ranks(second, ids, 2), await ranks(first, ids, 2)]


async def the_turn_counts_on_when_workers_join(engine: Engine) -> Any:
    client, ids = await engine.workers("join", 2)
    seen = await ranks(client, ids, 3)
    box = [0]

    async def handler(request: Any) -> AsyncIterator[int]:
        yield box[0]

    box[0] = engine.serve("join", handler)
    async with asyncio.timeout(PATIENCE_S):
        while len(client.instance_ids()) < 3:
            await asyncio.sleep(0.005)
    return seen + await ranks(client, sorted([*ids, *box]), 4)


async def generate_is_random(engine: Engine) -> Any:
    client, ids = await engine.workers("generate", 2)
    picked = [ids.index((await items(client.generate(0)))[0]) for _ in range(64)]
    return {"both are used": set(picked) == {0, 1}, "not in turn": picked != [0, 1] * 32}


async def an_empty_set_is_an_error(engine: Engine) -> Any:
    client = await engine.client("empty")
    seen = [await error_of(client.random(0)), await error_of(client.round_robin(0))]
    return [f"No workers available for endpoint {NAMESPACE}/empty/gen" in text for _, text in seen]


async def an_unknown_id_is_an_error(engine: Engine) -> Any:
    some, _ = await engine.workers("unknown", 1)
    seen = [await error_of(client.direct(0, 12345)) for client in (some, await engine.client("nobody"))]
    return [
        f"instance_id=12345 not found for endpoint {NAMESPACE}/{component}/gen" in text
        for component, (_, text) in zip(("unknown", "nobody"), seen, strict=True)
    ]


async def waiting_returns_the_ids(engine: Engine) -> Any:
    _, ids = await engine.workers("waiting", 1)
    client = await engine.reader.endpoint(f"{NAMESPACE}.waiting.gen").client()
    return await client.wait_for_instances() == ids


async def a_path_has_three_parts(engine: Engine) -> Any:
    async def parse(path: str) -> None:
        engine.reader.endpoint(path)

    return [(await error_of(parse(path)))[0] for path in ("a.b", "a.b.c.d", "a.b.c", "dyn://a.b.c")]


async def values_travel(engine: Engine) -> Any:
    async def echo(request: Any) -> AsyncIterator[Any]:
        yield request

    engine.serve("echo", echo)
    client = await engine.client("echo", at_least=1)
    values = ["a", 1, 1.5, True, None, [1, 2], (1, 2), {"b": 1, "a": [2]}, {1: 2}, b"x", {"k": b"x"}, 2**63, {3}, ""]
    return [repr((await items(client.random(value)))[0]) for value in values]


async def models_do_not_travel(engine: Engine) -> Any:
    class Model(BaseModel):
        x: int = 1

    async def handler(request: Any) -> AsyncIterator[Any]:
        yield Model()

    engine.serve("models", handler)
    client = await engine.client("models", at_least=1)

    async def send() -> None:  # the real client refuses a request before there is anything to await
        await items(client.random(Model()))

    as_request = await error_of(send())
    as_item = await error_of(items(client.random(0)))
    return [as_request[0], as_item[0] != ""]


async def items_are_annotated(engine: Engine) -> Any:
    client, _ = await engine.workers("annotated", 1)
    (item,) = [item async for item in await client.random(0)]
    return [item.id(), item.event(), item.comments(), item.is_error(), isinstance(item.data(), int)]


async def raw_items_are_bare(engine: Engine) -> Any:
    async def handler(request: Any) -> AsyncIterator[Any]:
        yield {"a": 1}

    engine.serve("raw", handler)
    client = await engine.client("raw", at_least=1)
    return [item async for item in await client.random(0, annotated=False)]


async def no_items_are_an_empty_stream(engine: Engine) -> Any:
    async def handler(request: Any) -> AsyncIterator[Any]:
        for _ in ():
            yield _

    engine.serve("none", handler)
    return await items((await engine.client("none", at_least=1)).random(0))


async def an_error_comes_after_the_items_before_it(engine: Engine) -> Any:
    async def handler(request: Any) -> AsyncIterator[Any]:
        for n in range(request):
            yield n
        raise ValueError("too bad")

    engine.serve("error", handler)
    client = await engine.client("error", at_least=1)
    seen = []
    for wanted in (0, 3):
        got: list[Any] = []

        async def read(wanted: int = wanted, got: list[Any] = got) -> None:
            async for item in await client.random(wanted):
                got.append(item.data())  # noqa: PERF401 - what came before the error is kept

        kind, text = await error_of(read())
        seen.append([got, kind, "too bad" in text])
    return seen


def endless(told: asyncio.Event) -> Callable[..., Any]:
    """A handler that goes on until it is told to stop: by its context, or by the end of its generator."""

    async def handler(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            n = 0
            while not context.is_stopped():
                yield n
                n += 1
                await asyncio.sleep(0.002)
        finally:
            told.set()

    return handler


async def stopping_ends_the_stream_in_silence(engine: Engine) -> Any:
    told = asyncio.Event()
    engine.serve("stop", endless(told))
    client = await engine.client("stop", at_least=1)
    context, got = engine.context(), 0
    async for _ in await client.random(0, context=context):
        got += 1
        if got == 3:
            context.stop_generating()
    await happened(told)
    return {"items": 3 <= got < 50, "context": context.is_stopped()}


async def dropping_the_stream_stops_the_worker(engine: Engine) -> Any:
    told = asyncio.Event()
    engine.serve("drop", endless(told))
    client = await engine.client("drop", at_least=1)
    stream = await client.random(0)
    first = (await anext(aiter(stream))).data()
    del stream
    await happened(told)
    return first


async def a_second_handler_replaces_the_first(engine: Engine) -> Any:
    async def one(request: Any) -> AsyncIterator[Any]:
        yield "one"

    async def two(request: Any) -> AsyncIterator[Any]:
        yield "two"

    runtime = engine.runtime()
    client = await engine.client("twice")
    for handler, wanted in ((one, ["one"]), (two, ["two"])):
        runtime.endpoint(f"{NAMESPACE}.twice.gen").serve_endpoint(handler)
        async with asyncio.timeout(PATIENCE_S):
            while not client.instance_ids() or await items(client.random(0)) != wanted:
                await asyncio.sleep(0.005)
    return len(client.instance_ids())


async def leaving_the_list_can_be_taken_back(engine: Engine) -> Any:
    async def handler(request: Any) -> AsyncIterator[Any]:
        yield 1

    endpoint = engine.runtime().endpoint(f"{NAMESPACE}.listed.gen")
    endpoint.serve_endpoint(handler)
    client = await engine.client("listed", at_least=1)
    seen = []
    for change, wanted in ((endpoint.unregister_endpoint_instance, 0), (endpoint.register_endpoint_instance, 1)):
        await change()
        async with asyncio.timeout(PATIENCE_S):
            while len(client.instance_ids()) != wanted:
                await asyncio.sleep(0.005)
        seen.append(len(client.instance_ids()))
    return seen


SCENARIOS = {
    name: value
    for name, value in list(globals().items())
    if inspect.iscoroutinefunction(value) and list(inspect.signature(value).parameters) == ["engine"]
}


async def run_all(kind: str) -> dict[str, Any]:
    engine = Engine(kind)
    answers: dict[str, Any] = {}
    try:
        for name, scenario in SCENARIOS.items():
            try:
                answers[name] = await scenario(engine)
            except Exception as error:
                answers[name] = f"{type(error).__name__}: {error}"
    finally:
        for runtime in engine.runtimes:
            runtime.shutdown()
    return answers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(DYN_FILE_KV=folder, DYN_EVENT_PLANE="zmq", DYN_LOG="off")
        print(json.dumps(asyncio.run(run_all(sys.argv[1]))))
