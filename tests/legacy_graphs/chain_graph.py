"""Three tiers in the words of 0.3: `@api()` that returns a `StreamingResponse`, `@endpoint()`, one name for all."""

import logging

from dynamo.runtime.logging import configure_dynamo_logging
from dynamo.sdk import DYNAMO_IMAGE, api, depends, endpoint, liveness, readiness, service
from dynamo.sdk.lib.config import ServiceConfig
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

logger = logging.getLogger(__name__)


class Words(BaseModel):
    text: str


def word_of(tier: str, otherwise: str) -> str:
    return ServiceConfig.get_instance().get(tier, {}).get("message", otherwise)


@service(dynamo={"namespace": "inference"}, resource={"cpu": 1}, workers=2, image=DYNAMO_IMAGE)
class Backend:
    def __init__(self) -> None:
        self.message = word_of("Backend", "back")

    @endpoint()
    async def generate(self, req: Words):
        for word in f"{req.text}-{self.message}".split():
            yield f"Backend: {word}"


@service(dynamo={"namespace": "inference"}, image=DYNAMO_IMAGE)
class Middle:
    backend = depends(Backend)

    def __init__(self) -> None:
        self.message = word_of("Middle", "mid")

    @endpoint()
    async def generate(self, req: Words):
        further = Words(text=f"{req.text}-{self.message}").model_dump_json()
        async for response in self.backend.generate(further):
            yield f"Middle: {response}"


app = FastAPI(title="words")


@service(dynamo={"namespace": "inference"}, image=DYNAMO_IMAGE, app=app)
class Frontend:
    middle = depends(Middle)

    def __init__(self) -> None:
        configure_dynamo_logging(service_name="Frontend")
        self.well = True

    @api()
    async def generate(self, request: Words):
        async def content():
            async for response in self.middle.generate(request.model_dump_json()):
                yield f"Frontend: {response}"

        return StreamingResponse(content())

    @api()
    async def breaks(self, request: Words):
        async def content():
            raise ValueError(request.text)
            yield

        return StreamingResponse(content())

    @api()
    async def count(self, prompt, times: int = 1):
        return {"prompt": prompt, "times": times}

    @api(name="set/health")
    async def set_health(self, well: bool):
        self.well = well

    @liveness
    def alive(self):
        return self.well

    @readiness
    async def ready(self):
        if not self.well:
            raise RuntimeError("not ready yet")
        return True
