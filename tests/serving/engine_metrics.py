"""What the real engine's own `/metrics` say of four requests, in a process of its own: `python engine_metrics.py`.

Prints one JSON object: the text of a worker and that of a frontend. The four at the worker: one is answered, one
raises, one is stopped, one is still under way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import traceback
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHOICE = {"index": 0, "delta": {"content": "word", "role": "assistant"}, "finish_reason": "stop", "logprobs": None}


def free_port() -> int:
    """Find a free port of 15 bits: the engine takes no higher one for its `/metrics`."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := random.randrange(20_000, 32_000)))
            except OSError:
                continue
            return port


def _read(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=20) as response:
        text: str = response.read().decode()
        return text


async def read(url: str, body: Any = None) -> str:
    """Ask until there is a server."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    request.add_header("content-type", "application/json")
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncio.to_thread(_read, request)
            except urllib.error.URLError:
                await asyncio.sleep(0.01)


async def value(url: str, name: str) -> float:
    """Return one number of a `/metrics`."""
    return next(float(line.split()[-1]) for line in (await read(url)).splitlines() if line.startswith(name))


async def worker(runtime: Any, url: str) -> str:
    from dynamo._core import Context

    async def generate(request: Any, context: Any) -> AsyncIterator[int]:
        if request["is"] == "wrong":
            raise ValueError("wrong")
        yield 1
        while request["is"] == "long" and not context.is_stopped():
            await asyncio.sleep(0.01)
            yield 2
        if request["is"] == "under way":
            await asyncio.Event().wait()

    endpoint = runtime.endpoint("ns.Worker.generate")
    endpoint.serve_endpoint(generate)
    client = await endpoint.client()
    await client.wait_for_instances()
    async for _ in await client.round_robin({"is": "fine"}):
        pass
    try:
        async for _ in await client.round_robin({"is": "wrong"}):
            pass
    except ValueError:
        pass
    context = Context()
    stream = await client.round_robin({"is": "long"}, context=context)
    async for _ in stream:
        context.stop_generating()
    open_stream = await client.round_robin({"is": "under way"})
    await anext(open_stream)
    async with asyncio.timeout(20):
        while await value(url, "dynamo_component_inflight_requests") != 1:
            await asyncio.sleep(0.01)
    return await read(url)


async def frontend(runtime: Any, port: int) -> str:
    from dynamo._core import HttpAsyncEngine, HttpService

    async def generate(request: Any, context: Any = None) -> AsyncIterator[Any]:
        yield {**CHUNK, "choices": [CHOICE]}

    service = HttpService(port=port)
    service.add_chat_completions_model("m", "checksum", HttpAsyncEngine(generate, asyncio.get_running_loop()))
    service.enable_endpoint("chat", True)
    asyncio.ensure_future(service.run(runtime))  # noqa: RUF006 - the process ends before it
    url = f"http://127.0.0.1:{port}"
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    await read(f"{url}/v1/chat/completions", body)
    return await read(f"{url}/metrics")


async def main() -> None:
    system, http = free_port(), free_port()
    own = {"DYN_SYSTEM_PORT": str(system), "DYN_SYSTEM_HOST": "127.0.0.1", "DYN_EVENT_PLANE": "zmq", "DYN_LOG": "off"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(own, DYN_FILE_KV=folder)
        from dynamo._core import DistributedRuntime

        runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp", False)
        try:
            seen = {
                "worker": await worker(runtime, f"http://127.0.0.1:{system}/metrics"),
                "frontend": await frontend(runtime, http),
            }
            sys.stdout.write(json.dumps(seen))
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)  # one request never ends


if __name__ == "__main__":
    asyncio.run(main())
