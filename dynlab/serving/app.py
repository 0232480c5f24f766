"""The FastAPI app of a graph: where its API routes are found, and documented."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dynlab.errors import listed
from dynlab.runtime.local import LocalPlanes
from dynlab.serving.http import ApiRoute

if TYPE_CHECKING:
    from dynlab.serving.metrics import GraphMetrics

__all__ = ("GraphApp",)


class GraphApp(FastAPI):
    """The FastAPI app of a graph: its API routes, `/docs`, `/openapi.json`, `/healthz` and `/metrics`.

    `/metrics` tells of the routes, and of who answers in `planes`.
    """

    def __init__(
        self, title: str, description: str, routes: Iterable[ApiRoute], planes: LocalPlanes | None = None
    ) -> None:
        super().__init__(title=title, description=description)
        self._planes = planes
        self._metrics: GraphMetrics | None = None
        self.api_routes = {route.path: route for route in routes}
        for route in self.api_routes.values():
            self._document(route)
        self.add_api_route("/healthz", _healthz, methods=["GET"], summary="Is the Frontend alive?")
        self.add_api_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)
        for status in (404, 405):
            self.add_exception_handler(status, self._nothing_here)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        # Middleware that a reader added must see every request; without any, the route is called directly.
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware:
            route = self.api_routes.get(scope["path"])
            if route is not None:
                return route(scope, receive, send)
        return super().__call__(scope, receive, send)

    @property
    def metrics(self) -> GraphMetrics:
        """What the graph has counted."""
        if self._metrics is None:
            from dynlab.serving.metrics import GraphMetrics  # noqa: PLC0415 - only who scrapes waits for its library

            self._metrics = GraphMetrics(self.title, self.api_routes.values(), self._planes)
        return self._metrics

    def close(self) -> None:
        """End all answers under way; runs on the app's loop."""
        for route in self.api_routes.values():
            route.close()

    async def _nothing_here(self, request: Request, error: Exception) -> Response:
        """Answer a wrong path or method with the paths there are."""
        assert isinstance(error, HTTPException)
        there = [f"POST {path} {{{', '.join(route.body.keys)}}}" for path, route in self.api_routes.items()]
        message = f"{request.method} {request.url.path}: {error.detail}. There is {listed([*there, 'GET /docs'])}."
        report = {"detail": error.detail, "message": message}
        return JSONResponse(report, status_code=error.status_code, headers=error.headers)

    def _document(self, route: ApiRoute) -> None:
        schema = route.body.schema()
        body = {"required": bool(schema.get("required")), "content": {"application/json": {"schema": schema}}}
        text = {"schema": {"type": "string"}}
        streamed = {"text/event-stream": text, "text/plain": text}
        answer = streamed if route.streams else {"application/json": {"schema": {}}}
        error = {"application/json": {"schema": {"type": "object"}}}
        what = "The items, one by one" if route.streams else "What the method returned"
        responses: dict[int | str, dict[str, Any]] = {200: {"description": what, "content": answer}}
        for status, meaning in _STATUSES.items():
            responses[status] = {"description": meaning, "content": error}
        self.add_api_route(
            route.path,
            _call,
            methods=["POST"],
            name=route.name,
            operation_id=route.name,
            summary=(inspect.getdoc(route.method) or route.name).splitlines()[0],
            response_class=Response,
            responses=responses,
            openapi_extra={"requestBody": body},
        )


_STATUSES = {
    400: "The body is no JSON",
    408: "The body came too slowly",
    413: "The body is too large",
    422: "Keys are missing or unknown",
    500: "A handler raised an error before its first item",
    503: "No worker is available",
}


class _AsgiResponse(Response):
    """Lets a route answer for itself from inside FastAPI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["app"].api_routes[scope["route"].path](scope, receive, send)


# Outside of the class: FastAPI remembers the functions of routes for good, and so all that they refer to.
async def _call(request: Request) -> Response:
    return _AsgiResponse()


async def _healthz() -> dict[str, str]:
    return {"status": "ok"}


async def _metrics(request: Request) -> Response:
    app: GraphApp = request.app
    text, content_type = app.metrics.exposition(request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})
