"""The graph of notebook 03, whose workers compute: each serves one request at a time, and one of them is slow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from pydantic import BaseModel, Field, NonNegativeFloat

from dynlab import hello_world
from dynlab.config import ServiceConfig
from dynlab.protocols import GeneralRequest, GeneralResponse
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import dynamo_endpoint
from dynlab.sdk.service import service

__all__ = ("DummyWorker", "Frontend", "Processor")


class DummyWorkerConfig(BaseModel):
    """How long the workers compute for a request: one number each, in their order; a fifth begins anew."""

    compute_ms: list[NonNegativeFloat] = Field(default=[15.0, 15.0, 60.0, 15.0], min_length=1)


@service(dynamo={"namespace": "dynamo-demo"}, config=DummyWorkerConfig)
class DummyWorker:
    """Computes, then answers as the hello world does."""

    def __init__(self) -> None:
        config = DummyWorkerConfig(**ServiceConfig.get_instance().for_service("DummyWorker"))
        self.compute_ms = config.compute_ms[dynamo_context["worker_id"] % len(config.compute_ms)]

    @dynamo_endpoint()
    async def begenerate(self, request: GeneralRequest) -> AsyncIterator[str]:
        # Not `asyncio.sleep`: a thread that computes does nothing else, so the next request waits for its turn.
        time.sleep(self.compute_ms / 1000)  # noqa: ASYNC251
        output = f"{request.prompt}_GeneratedBy_{dynamo_context['hostname']}"
        yield GeneralResponse(worker_output=output, request_id=request.request_id).model_dump_json()


@service(dynamo={"namespace": "dynamo-demo"}, config=hello_world.ProcessorConfig)
class Processor(hello_world.Processor.inner):  # type: ignore[misc,name-defined]
    """Picks a worker for each request, as in the hello world."""

    worker = depends(DummyWorker)


@service(dynamo={"namespace": "dynamo-demo"})
class Frontend(hello_world.Frontend.inner):  # type: ignore[misc,name-defined]
    """Takes HTTP requests, as in the hello world."""

    processor = depends(Processor)
