"""The graph itself, after the multi-node hello world of Dynamo's examples (May 2025, pull request 624).

curl ──HTTP──> Frontend ──> Processor ──> DummyWorker x N
               fegenerate   mdgenerate    begenerate
               depends()    picks one     answers
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from pydantic import BaseModel, Field

from dynlab.config import ServiceConfig
from dynlab.engine import MockEngineArgs
from dynlab.protocols import GeneralRequest, GeneralResponse
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint
from dynlab.sdk.service import service

__all__ = ("DummyWorker", "Frontend", "Processor")

log = logging.getLogger("dynlab.hello_world")


class DummyWorkerConfig(BaseModel):
    """What a worker may be told: how long it pretends to think."""

    first_token_ms: float = Field(default=0.0, ge=0, description="wait before the first item")
    token_ms: float = Field(default=0.0, ge=0, description="wait before each further item")
    stream_words: bool = Field(default=False, description="one item per word instead of one per answer")
    kv_blocks: int = Field(default=1024, ge=1, description="blocks of its KV cache, kept while a KV router listens")
    engine: MockEngineArgs | None = Field(default=None, description="a mock engine makes the words, at its pace")
    osl: int | None = Field(default=None, ge=1, description="how many words it makes; by default, all there are")


@service(dynamo={"namespace": "dynamo-demo"}, resources={"cpu": "1"}, config=DummyWorkerConfig)
class DummyWorker:
    """Answers: it gives the prompt back, signed with the name of the instance."""

    def __init__(self) -> None:
        self.config = DummyWorkerConfig(**ServiceConfig.get_instance().for_service("DummyWorker"))

    @async_on_start
    async def open_kv(self) -> None:
        endpoint, args = dynamo_context["component"].endpoint("begenerate"), self.config.engine
        self.kv = endpoint.engine(args) if args else endpoint.kv_cache(self.config.kv_blocks)

    @dynamo_endpoint()
    async def begenerate(self, request: GeneralRequest) -> AsyncIterator[str]:
        output = f"{request.prompt}_GeneratedBy_{dynamo_context['hostname']}"
        if self.config.engine:
            words = output.split(" ")
            with self.kv.generating(request.prompt, self.config.osl or len(words)) as tokens:
                async for n, _ in tokens:
                    word = words[n % len(words)]
                    yield GeneralResponse(worker_output=word, request_id=request.request_id).model_dump_json()
            return
        pause_ms = self.config.first_token_ms
        with self.kv.holding(request.prompt):
            for text in output.split(" ") if self.config.stream_words else [output]:
                if pause_ms:
                    await asyncio.sleep(pause_ms / 1000)
                yield GeneralResponse(worker_output=text, request_id=request.request_id).model_dump_json()
                pause_ms = self.config.token_ms


class ProcessorConfig(BaseModel):
    """What the Processor may be told, with the names of the original's configuration files."""

    min_worker: int = Field(default=1, ge=0, description="workers to wait for before it serves")
    router: str | None = Field(default=None, description="router mode; by default the deployment's")


@service(dynamo={"namespace": "dynamo-demo"}, config=ProcessorConfig)
class Processor:
    """Picks a worker for each request, and passes its answer on item by item."""

    worker = depends(DummyWorker)

    @async_on_start
    async def connect(self) -> None:
        config = ProcessorConfig(**ServiceConfig.get_instance().for_service("Processor"))
        namespace, component = DummyWorker.dynamo_address()
        endpoint = dynamo_context["runtime"].namespace(namespace).component(component).endpoint("begenerate")
        self.worker_client = await endpoint.client(router_mode=config.router)
        ids = await self.worker_client.wait_for_instances(at_least=config.min_worker, timeout=20.0)
        log.info("workers are all ready: %s", ids)

    @dynamo_endpoint()
    async def mdgenerate(self, raw_request: GeneralRequest) -> AsyncIterator[str]:
        raw_request.prompt += f"_ProcessedBy_{dynamo_context['hostname']}"
        async for response in await self.worker_client.route(raw_request.model_dump_json()):
            yield response.data()


@service(dynamo={"namespace": "dynamo-demo"})
class Frontend:
    """Takes HTTP requests: `POST /fegenerate` with the keys `prompt` and `request_id`."""

    processor = depends(Processor)

    @api
    async def fegenerate(self, prompt: str, request_id: str) -> AsyncIterator[str]:
        """Send a prompt through the graph."""
        request = GeneralRequest(prompt=prompt, request_id=request_id)
        async for response in self.processor.mdgenerate(request.model_dump_json()):
            yield f"Response: {response}\n"
