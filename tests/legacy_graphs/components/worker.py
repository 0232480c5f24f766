"""The tier that runs on machines of its own."""

import socket

from components.utils import GeneralRequest, GeneralResponse
from dynamo.sdk import dynamo_endpoint, service


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"}, resources={"cpu": "10", "memory": "20Gi"}, workers=1)
class DummyWorker:
    def __init__(self) -> None:
        self.hostname = socket.gethostname()

    @dynamo_endpoint()
    async def generate(self, request: GeneralRequest):
        output = f"{request.prompt}_GeneratedBy_{self.hostname}"
        yield GeneralResponse(worker_output=output, request_id=request.request_id).model_dump_json()
