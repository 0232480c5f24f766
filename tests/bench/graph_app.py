"""dynlab's side of `bench_graph.py`: three tiers, round robin, tracing on, and workers that stream like the peers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from dynlab import GeneralRequest, depends, dynamo_context, dynamo_endpoint, serve, service
from dynlab.hello_world import Frontend as HelloFrontend
from dynlab.hello_world import Processor as HelloProcessor

__all__ = ("main", "make_graph")


def make_graph(items: int = 1, gap_ms: float = 0.0) -> Any:
    """Make the hello world's graph with other workers; returns its Frontend."""

    @service(dynamo={"namespace": "dynamo-demo"})
    class DummyWorker:
        @dynamo_endpoint()
        async def begenerate(self, request: GeneralRequest) -> AsyncIterator[str]:
            for n in range(items):
                if gap_ms and n:
                    await asyncio.sleep(gap_ms / 1000)
                output = f"{request.prompt}_GeneratedBy_{dynamo_context['hostname']}"
                yield json.dumps({"worker_output": output, "request_id": request.request_id})

    @service(dynamo={"namespace": "dynamo-demo"})
    class Processor(HelloProcessor.inner):
        worker = depends(DummyWorker)

    @service(dynamo={"namespace": "dynamo-demo"})
    class Frontend(HelloFrontend.inner):
        processor = depends(Processor)

    return Frontend


def main(items: int, gap_ms: float, workers: int, began: float) -> None:
    """Serve the graph until standard input ends; prints its port, and when this process began to import."""
    with serve(make_graph(items, gap_ms), workers={"DummyWorker": workers}) as deployment:
        print(deployment.port, began, flush=True)
        sys.stdin.read()
