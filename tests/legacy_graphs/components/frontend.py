"""The tier with HTTP, in the words of 0.2.0."""

from components.processor import Processor
from components.utils import GeneralRequest
from dynamo.sdk import DYNAMO_IMAGE, depends, dynamo_endpoint, service
from dynamo.sdk.lib.dependency import DynamoClient
from fastapi import FastAPI
from fastapi.responses import StreamingResponse


@service(dynamo={"enabled": True, "namespace": "dynamo-demo"}, image=DYNAMO_IMAGE, app=FastAPI(title="Hello World!"))
class Frontend:
    processor: DynamoClient = depends(Processor)

    @dynamo_endpoint(is_api=True)
    async def generate(self, request: GeneralRequest):
        async def content():
            async for response in self.processor.generate(request.model_dump_json()):
                yield f"Frontend: {response}"

        return StreamingResponse(content())
