"""The app around the API's routes: its pages, its answers to wrong paths, and a reader's own middleware and routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import fastapi.openapi.models
import httpx
import pytest
from fastapi import Request, Response
from pydantic import BaseModel

from dynlab.protocols import GeneralRequest
from dynlab.sdk.endpoint import ApiSpec, api
from dynlab.serving.app import GraphApp
from dynlab.serving.http import ApiRoute
from dynlab.trace_log import TraceLog

EVENTS = {"accept": "text/event-stream"}


class Inner(BaseModel):
    n: int


class Frontend:
    @api
    async def fegenerate(self, prompt, request_id):
        """Give the words back.

        One by one.
        """
        for word in prompt.split(" "):
            yield word

    @api
    async def model(self, request: GeneralRequest):
        yield request.prompt

    @api
    async def typed(self, inner: Inner | None = None):
        yield inner

    @api
    async def value(self, n: int):
        return [n]


@pytest.fixture
def app() -> GraphApp:
    front = Frontend()
    names = ("fegenerate", "model", "typed", "value")
    routes = [ApiRoute(ApiSpec(name, name), getattr(front, name), "Frontend-0", TraceLog()) for name in names]
    return GraphApp("Frontend", "The front of a test.", routes)


@pytest.fixture
async def client(app: GraphApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        yield client


# ---------------------------------------------------------------------------- pages


async def test_openapi_lists_each_route_with_its_body(client: httpx.AsyncClient) -> None:
    """The document is valid, and the body's schema is the one that is checked."""
    document = (await client.get("/openapi.json")).json()

    fastapi.openapi.models.OpenAPI.model_validate(document)
    assert ("Frontend", "The front of a test.") == (document["info"]["title"], document["info"]["description"])
    operation = document["paths"]["/fegenerate"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "Give the words back." == operation["summary"]
    assert ["prompt", "request_id"] == schema["required"] == list(schema["properties"])
    assert {"200", "400", "408", "413", "422", "500", "503"} == set(operation["responses"])
    model = document["paths"]["/model"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert ["prompt", "request_id"] == list(model["properties"])


async def test_every_reference_of_the_openapi_document_leads_somewhere(client: httpx.AsyncClient) -> None:
    """The model inside `typed`'s body is found from the root of the page."""
    document = (await client.get("/openapi.json")).json()

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            node = list(node.values())
        if isinstance(node, list):
            for each in node:
                yield from references(each)

    found = set(references(document))
    assert found
    for reference in found:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part.replace("~1", "/").replace("~0", "~")]
        assert "type" in place


async def test_the_docs_page_and_health(client: httpx.AsyncClient) -> None:
    """`/docs` shows the routes; `/healthz` says that the Frontend is alive."""
    docs = await client.get("/docs")

    assert 200 == docs.status_code
    assert "/openapi.json" in docs.text
    assert {"status": "ok"} == (await client.get("/healthz")).json()


# ---------------------------------------------------------------------------- wrong paths


async def test_an_unknown_path_is_404_and_a_wrong_method_405(client: httpx.AsyncClient) -> None:
    """The errors of the web, with the paths there are."""
    answer = await client.post("/generate", json={})
    assert 404 == answer.status_code
    assert answer.json()["message"].startswith(
        "POST /generate: Not Found. There is POST /fegenerate {prompt, request_id}, POST /model {prompt, request_id}, "
    )
    answer = await client.get("/fegenerate")
    assert (405, "POST") == (answer.status_code, answer.headers["allow"])
    assert answer.json()["message"].startswith("GET /fegenerate: Method Not Allowed. There is POST /fegenerate ")


# ---------------------------------------------------------------------------- an app of the reader's own


class Pure:
    """Middleware in plain ASGI."""

    seen: ClassVar[list[str]] = []

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        await self.app(scope, receive, send)


async def test_added_middleware_sees_every_request(app: GraphApp, client: httpx.AsyncClient) -> None:
    """`app.add_middleware` and `@app.middleware("http")` stand before the API's routes too."""
    app.add_middleware(Pure)

    @app.middleware("http")
    async def stamp(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-seen"] = request.url.path
        return response

    Pure.seen.clear()
    answer = await client.post("/fegenerate", json={"prompt": "a", "request_id": "r"}, headers=EVENTS)

    assert (200, "data: a\n\n", "/fegenerate") == (answer.status_code, answer.text, answer.headers["x-seen"])
    assert ["/fegenerate"] == Pure.seen
    assert 422 == (await client.post("/fegenerate", json={}, headers=EVENTS)).status_code
    assert "[1]" == (await client.post("/value", json={"n": 1}, headers=EVENTS)).text


async def test_a_route_of_the_readers_own_stands_beside(app: GraphApp, client: httpx.AsyncClient) -> None:
    """The app is an ordinary FastAPI app."""

    @app.post("/mine")
    async def mine() -> dict[str, int]:
        return {"n": 1}

    assert {"n": 1} == (await client.post("/mine", json={}, headers=EVENTS)).json()
    assert (
        "data: a\n\n"
        == (await client.post("/fegenerate", json={"prompt": "a", "request_id": "r"}, headers=EVENTS)).text
    )
