"""The tier in the middle: it waits for workers when it starts, and picks one for each request."""

import logging
import socket
from typing import Protocol

from components.utils import GeneralRequest, GeneralResponse, check_required_workers
from components.worker import DummyWorker
from dynamo.sdk import async_on_start, depends, dynamo_context, dynamo_endpoint, service
from dynamo.sdk.lib.config import ServiceConfig

logger = logging.getLogger(__name__)


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"})
class Processor(Protocol):
    worker = depends(DummyWorker)

    def __init__(self):
        config = ServiceConfig.get_instance().get("Processor", {})
        self.hostname = socket.gethostname()
        self.min_workers = config.get("min_worker", 1)
        self.router = config.get("router", "round-robin")

    @async_on_start
    async def async_init(self):
        comp_ns, comp_name = DummyWorker.dynamo_address()
        component = dynamo_context["runtime"].namespace(comp_ns).component(comp_name)
        self.worker_client = await component.endpoint("generate").client()
        ids = await check_required_workers(self.worker_client, self.min_workers, tag="processor")
        print(f"----workers are all ready {ids}", flush=True)  # noqa: T201

    @dynamo_endpoint()
    async def generate(self, request: GeneralRequest):
        logger.info(f"Received {request.request_id}")
        request.prompt = f"{request.prompt}_ProcessedBy_{self.hostname}"
        send = self.worker_client.random if self.router == "random" else self.worker_client.round_robin
        async for response in await send(request.model_dump_json()):
            yield GeneralResponse.model_validate_json(response.data()).model_dump_json()
