"""The peers of `bench_graph.py`: FastAPI as its own documentation writes it, without tiers or with tiers in one loop.

Knows nothing of dynlab, so that neither its start nor its memory pays for dynlab's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

__all__ = ("SETTINGS", "main", "server")

SETTINGS = {
    "lifespan": "off",
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "backlog": 2048,
    "limit_concurrency": 4096,
}
"""uvicorn's, the same that dynlab gives it; `test_bench.py` holds the two against each other."""


class Body(BaseModel):
    """The request."""

    prompt: str
    request_id: str


def answer(body: Body) -> str:
    """The answer, in the JSON that the graph's worker sends."""
    output = f"{body.prompt}_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"
    return json.dumps({"worker_output": output, "request_id": body.request_id})


def make_app(chained: bool, items: int, gap_ms: float) -> FastAPI:
    """Make an app whose one handler streams from a generator, or from three that are chained."""
    app = FastAPI()

    async def worker(body: Body) -> AsyncIterator[str]:
        for n in range(items):
            if gap_ms and n:
                await asyncio.sleep(gap_ms / 1000)
            yield answer(body)

    async def processor(body: Body) -> AsyncIterator[str]:
        async for item in worker(body):
            yield item

    async def frontend(body: Body) -> AsyncIterator[str]:
        async for item in processor(body):
            yield f"Response: {item}\n"

    async def handler(body: Body) -> AsyncIterator[str]:
        for n in range(items):
            if gap_ms and n:
                await asyncio.sleep(gap_ms / 1000)
            yield f"Response: {answer(body)}\n"

    @app.post("/fegenerate")
    async def fegenerate(body: Body) -> StreamingResponse:
        return StreamingResponse(frontend(body) if chained else handler(body), media_type="text/event-stream")

    return app


def server(app: FastAPI) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", **SETTINGS))


async def serve(serving: uvicorn.Server, began: float) -> None:
    task = asyncio.create_task(serving.serve())
    while not serving.started:
        await asyncio.sleep(0.001)
    print(serving.servers[0].sockets[0].getsockname()[1], began, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    serving.should_exit = True
    await task


def main(chained: bool, items: int, gap_ms: float, began: float) -> None:
    """Serve until standard input ends; prints the port, and when this process began to import."""
    import uvloop  # absent on Windows, where tests still read the settings above

    uvloop.run(serve(server(make_app(chained, items, gap_ms)), began))
