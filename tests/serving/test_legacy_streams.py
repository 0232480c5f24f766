"""Streams of both dialects of 2025 end when the client hangs up, and when the deployment closes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import httpx
import pytest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from dynlab.sdk.legacy.endpoint import api, endpoint
from dynlab.sdk.legacy.service import depends, service
from dynlab.serving.serve import serve


class Prompt(BaseModel):
    prompt: str


def endless() -> tuple[Any, threading.Event]:
    """Make a graph that answers for ever in both dialects, and the event that its worker has stopped."""
    stopped = threading.Event()

    class Worker:
        @endpoint()
        async def go(self, request: str):
            try:
                while True:
                    yield "item "
                    await asyncio.sleep(0.001)
            finally:
                stopped.set()

    called = service(dynamo={"namespace": "endless"})(Worker)

    class Front:
        worker = depends(called)

        @api
        async def old(self, prompt):
            async for item in self.worker.go(prompt):
                yield item

        @api()
        async def new(self, request: Prompt):
            return StreamingResponse(self.worker.go(request.prompt))

    return service(dynamo={"namespace": "endless"})(Front), stopped


@pytest.mark.parametrize("path", ["old", "new"])
def test_hanging_up_stops_the_worker(path: str) -> None:
    """A client that leaves in the middle ends the handlers behind, in both dialects."""
    front, stopped = endless()
    with serve(front, name="endless") as deployment:
        address = f"{deployment.url}/{path}"
        with httpx.stream("POST", address, json={"prompt": "x"}, trust_env=False, timeout=20) as response:
            assert next(response.iter_text()).startswith("item ")

        assert stopped.wait(20)


@pytest.mark.parametrize("path", ["old", "new"])
def test_closing_breaks_an_answer_off_and_keeps_nothing(path: str) -> None:
    """The client sees that the answer is not whole, and the service objects are free to go."""
    front, _ = endless()
    deployment = serve(front, name="endless")
    service_object = weakref.ref(deployment.instances[-1]._service_object)
    address = f"{deployment.url}/{path}"
    with httpx.stream("POST", address, json={"prompt": "x"}, trust_env=False, timeout=20) as response:
        items = response.iter_text()
        next(items)
        deployment.close()
        with pytest.raises(httpx.RemoteProtocolError):
            list(items)
    del deployment
    gc.collect()

    assert service_object() is None
