"""The servers that `bench_graph.py` compares, each in a process of its own: `python apps.py NAME`.

    graph      dynlab's three tiers, four workers, round robin, tracing on
    one        a FastAPI app with one streaming handler: no tiers
    chained    a FastAPI app whose handler chains three async generators in one loop

All take `POST /fegenerate {"prompt", "request_id"}` and stream `items` texts, on uvicorn with uvloop and httptools.
Prints its port on the first line, then serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator

from pydantic import BaseModel

from dynlab.protocols import GeneralRequest


class Body(BaseModel):
    """The peers' request."""

    prompt: str
    request_id: str


def graph(items: int, gap_ms: float, workers: int) -> None:
    """Serve the graph, with a worker that yields as many items as the peers."""
    from dynlab import depends, dynamo_context, dynamo_endpoint, serve, service
    from dynlab.hello_world import Frontend as HelloFrontend
    from dynlab.hello_world import Processor as HelloProcessor

    @service(dynamo={"namespace": "dynamo-demo"})
    class DummyWorker:
        @dynamo_endpoint()
        async def begenerate(self, request):  # type: ignore[no-untyped-def]
            request = GeneralRequest.model_validate_json(request)
            for n in range(items):
                if gap_ms and n:
                    await asyncio.sleep(gap_ms / 1000)
                yield answer(f"{request.prompt}_GeneratedBy_{dynamo_context['hostname']}", request.request_id)

    @service(dynamo={"namespace": "dynamo-demo"})
    class Processor(HelloProcessor.inner):
        worker = depends(DummyWorker)

    @service(dynamo={"namespace": "dynamo-demo"})
    class Frontend(HelloFrontend.inner):
        processor = depends(Processor)

    deployment = serve(Frontend, workers={"DummyWorker": workers})
    print(deployment.port, flush=True)
    sys.stdin.read()
    deployment.close()


def fastapi_app(name: str, items: int, gap_ms: float) -> None:
    """Serve one of the peers in the idiom of its own documentation."""
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    async def worker(body: Body) -> AsyncIterator[str]:
        for n in range(items):
            if gap_ms and n:
                await asyncio.sleep(gap_ms / 1000)
            yield answer(body.prompt + "_ProcessedBy_p_GeneratedBy_w", body.request_id)

    async def processor(body: Body) -> AsyncIterator[str]:
        async for item in worker(body):
            yield item

    async def frontend(body: Body) -> AsyncIterator[str]:
        async for item in processor(body) if name == "chained" else worker(body):
            yield f"Response: {item}\n"

    @app.post("/fegenerate")
    async def fegenerate(body: Body) -> StreamingResponse:
        return StreamingResponse(frontend(body), media_type="text/event-stream")

    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", access_log=False, log_level="error")
    server = uvicorn.Server(config)

    async def main() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    import uvloop

    uvloop.run(main())


def answer(output: str, request_id: str) -> str:
    """The worker's answer, in JSON as all sides send it."""
    return json.dumps({"worker_output": output, "request_id": request_id})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["graph", "one", "chained"])
    parser.add_argument("--items", type=int, default=1)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    if given.name == "graph":
        graph(given.items, given.gap_ms, given.workers)
    else:
        fastapi_app(given.name, given.items, given.gap_ms)
