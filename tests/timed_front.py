"""A Frontend before workers that tell their engines' times: what an answer of theirs holds, as JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from dynlab.protocols import GeneralRequest
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start
from dynlab.sdk.service import DynamoService, service

__all__ = ("front_of",)


def front_of(worker: Any) -> DynamoService:
    """Return a Frontend that routes each prompt to the endpoint `begenerate` of a service."""
    callee = worker

    @service(dynamo={"namespace": callee.namespace})
    class TimedFrontend:
        """Routes to timed workers."""

        worker = depends(callee)

        @async_on_start
        async def connect(self) -> None:
            path = ".".join((*callee.dynamo_address(), "begenerate"))
            self.client = await dynamo_context["runtime"].endpoint(path).client()

        @api
        async def ask(self, prompt: str, request_id: str) -> AsyncIterator[str]:
            """Pass a prompt on."""
            request = GeneralRequest(prompt=prompt, request_id=request_id)
            async for item in await self.client.route(request.model_dump_json()):
                yield json.dumps(item.data())

    made: DynamoService = TimedFrontend
    return made
