"""Three tiers in the words of 0.1.1: bare `@api` with keys for arguments, names of endpoints that differ, port 3000."""

import socket
from typing import Protocol

from dynamo.sdk import DYNAMO_IMAGE, api, async_on_start, depends, dynamo_context, dynamo_endpoint, service
from dynamo.sdk.lib.config import ServiceConfig
from pydantic import BaseModel


class Ask(BaseModel):
    prompt: str
    request_id: str


class Told(BaseModel):
    worker_output: str
    request_id: str


@service(dynamo={"enabled": True, "namespace": "blog"}, resources={"cpu": "1", "memory": "1Gi"}, workers=2)
class DummyWorker:
    def __init__(self):
        self.name = f"n{dynamo_context['worker_id']}"

    @dynamo_endpoint()
    async def begenerate(self, request: Ask):
        if request.prompt.startswith("bad"):
            raise ValueError("worker says no")
        told = Told(worker_output=f"{request.prompt}_GeneratedBy_{self.name}", request_id=request.request_id)
        yield told.model_dump_json()


@service(dynamo={"enabled": True, "namespace": "blog"}, workers=1)
class Processor(Protocol):
    worker = depends(DummyWorker)

    def __init__(self):
        self.host = socket.gethostname()
        self.router = ServiceConfig.get_instance().get("Processor", {}).get("router", "round-robin")

    @async_on_start
    async def async_init(self):
        namespace, component = DummyWorker.dynamo_address()
        endpoint = dynamo_context["runtime"].namespace(namespace).component(component).endpoint("begenerate")
        self.worker_client = await endpoint.client()
        await self.worker_client.wait_for_instances(2)

    @dynamo_endpoint()
    async def mdgenerate(self, request: Ask):
        passed_on = Ask(prompt=f"{request.prompt}_ProcessedBy_p", request_id=request.request_id).model_dump_json()
        if self.router == "direct":
            stream = await self.worker_client.direct(passed_on, 12345)
        else:
            stream = await self.worker_client.round_robin(passed_on)
        async for response in stream:
            yield response.data()


@service(image=DYNAMO_IMAGE)
class Frontend:
    processor = depends(Processor)

    @api
    async def fegenerate(self, prompt, request_id):
        request = Ask(prompt=prompt, request_id=request_id)
        async for response in self.processor.mdgenerate(request.model_dump_json()):
            yield f"Response: {response}\n"
