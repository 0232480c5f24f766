"""`@api` methods as HTTP routes with streamed answers (Dynamo 0.1: BentoML's `@api`; 0.2 and 0.3: FastAPI).

A route reads the body once with a compiled model and talks ASGI itself, because FastAPI's own request
handling costs more than all three tiers. The same routes stand in the FastAPI app: for its OpenAPI page, and for
apps with middleware of their own.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from dynlab.errors import DeploymentError, InstancesTimeoutError, NoInstancesError, WorkerUnavailableError, listed
from dynlab.runtime.context import Context, current_context
from dynlab.sdk.endpoint import ApiSpec
from dynlab.serving.body import Body, BodyError, read_body
from dynlab.serving.frames import error_frame, event_frame, item_text, raw_chunk
from dynlab.tracing import TraceLog

__all__ = ("ApiRoute", "GraphApp")

HANG_UP_AFTER_S = 0.02
"""Only answers that take longer are watched for a client that hangs up: a watch costs as much as a short answer."""

_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_NO_CACHE = (b"cache-control", b"no-cache")
_NO_MORE = object()


class ApiRoute:
    """One `@api` method: `POST /name`."""

    def __init__(self, spec: ApiSpec, method: Callable[..., Any], worker: str, traces: TraceLog[Any]) -> None:
        self.path = f"/{spec.name}"
        self.name = spec.name
        self.body = Body(self.path, method)
        self.method = method
        self.streams = inspect.isasyncgenfunction(method)
        self._worker = worker
        self._service = worker.rpartition("-")[0]
        self._thread = f"dynlab-{worker}"
        self._traces = traces
        self._numbers = itertools.count(1)
        self._active: set[Context] = set()
        self._closing = False

    def close(self) -> None:
        """End the answers under way; runs on the route's loop."""
        self._closing = True
        for context in list(self._active):
            context.stop_generating()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        try:
            arguments = self.body.read(await read_body(headers, receive))
        except BodyError as error:
            await _reply(send, error.status, {"detail": error.detail, "message": error.message})
            return
        except ConnectionError:
            return  # the client left in the middle of its body
        context = self._begin(headers, arguments)
        self._active.add(context)
        watch = _HangUpWatch(receive, context)
        try:
            await self._answer(
                arguments, context, b"text/event-stream" in headers.get(b"accept", b""), scope, receive, send
            )
        finally:
            watch.cancel()
            self._active.discard(context)
            context.stop_generating()

    def _begin(self, headers: dict[bytes, bytes], arguments: dict[str, Any]) -> Context:
        given = arguments.get("request_id")
        header = headers.get(b"x-request-id")
        request_id = header.decode("latin-1") if header else given if isinstance(given, str) and given else None
        context = Context(request_id or f"http-{next(self._numbers)}")
        context.trace = trace = self._traces.begin(context.id())
        context.hop = hop = trace.hop(None, self._service, self.name)
        hop.worker = self._worker
        hop.started(self._thread)
        current_context.set(context)
        return context

    async def _answer(
        self, arguments: dict[str, Any], context: Context, events: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        hop = context.hop
        assert hop is not None
        sent = False
        outcome = "ok"
        try:
            if self.streams:
                async with aclosing(self.method(**arguments)) as items:
                    while not context.is_stopped():
                        item = await anext(items, _NO_MORE)
                        if item is _NO_MORE or context.is_stopped():
                            break
                        text = item_text(item)
                        if not sent:
                            sent = True
                            await _start(send, events)
                        hop.item()
                        frame = event_frame(text) if events else raw_chunk(text)
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
            else:
                response = _response(await self.method(**arguments))
                sent = True
                hop.item()
                await response(scope, receive, send)
                return
            if self._closing and context.is_stopped():
                raise DeploymentError("The deployment was closed before the answer was complete. Serve it again.")
            if context.is_stopped():
                outcome = "stopped"
            elif not sent:
                sent = True
                await _start(send, events)
            if sent:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        except Exception as error:
            outcome = type(error).__name__
            await self._fail(error, sent, events, send)
        finally:
            hop.ended(outcome)

    async def _fail(self, error: Exception, sent: bool, events: bool, send: Send) -> None:
        """Report an error: as a status before the first item, as an event after it."""
        message = str(error) or type(error).__name__
        if not sent:
            gone = isinstance(
                error, NoInstancesError | WorkerUnavailableError | InstancesTimeoutError | DeploymentError
            )
            notes = list(getattr(error, "__notes__", ()))
            report = {"detail": message, "type": type(error).__name__, "notes": notes}
            await _reply(send, 503 if gone else 500, report)
        elif events:
            frame = error_frame(type(error).__name__, message)
            await send({"type": "http.response.body", "body": frame, "more_body": False})
        # Bare text has no way to say it: the chunked body is left without its end, so the client sees it break off.


class _HangUpWatch:
    """Tells the context when the client leaves; sleeps first, for most answers are over before that."""

    def __init__(self, receive: Receive, context: Context) -> None:
        self._receive = receive
        self._context = context
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(HANG_UP_AFTER_S, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._context.stop_generating()

    def cancel(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class GraphApp(FastAPI):
    """The FastAPI app of a graph: its API routes, `/docs`, `/openapi.json`, and `/healthz`."""

    def __init__(self, title: str, description: str, routes: Iterable[ApiRoute]) -> None:
        super().__init__(title=title, description=description)
        self.api_routes = {route.path: route for route in routes}
        for route in self.api_routes.values():
            self._document(route)
        self.add_api_route("/healthz", _healthz, methods=["GET"], summary="Is the Frontend alive?")
        for status in (404, 405):
            self.add_exception_handler(status, self._nothing_here)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Middleware that a reader added must see every request; without any, the route is called directly.
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware:
            route = self.api_routes.get(scope["path"])
            if route is not None:
                await route(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

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
        async def call(request: Request) -> Response:
            return _AsgiResponse(route)

        body = {"required": True, "content": {"application/json": {"schema": route.body.schema()}}}
        answer = {"text/event-stream": {"schema": {"type": "string"}}, "text/plain": {"schema": {"type": "string"}}}
        error = {"application/json": {"schema": {"type": "object"}}}
        responses: dict[int | str, dict[str, Any]] = {200: {"description": "The items, one by one", "content": answer}}
        for status, meaning in _STATUSES.items():
            responses[status] = {"description": meaning, "content": error}
        self.add_api_route(
            route.path,
            call,
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

    def __init__(self, route: ApiRoute) -> None:
        super().__init__()
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._route(scope, receive, send)


async def _healthz() -> dict[str, str]:
    return {"status": "ok"}


async def _start(send: Send, events: bool) -> None:
    headers = [_EVENTS, _NO_CACHE] if events else [_TEXT]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _reply(send: Send, status: int, content: Any) -> None:
    body = json.dumps(content, default=str).encode()
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _response(value: Any) -> Response:
    """Make a response of what a method without `yield` returned: its own, or the value as JSON."""
    if isinstance(value, Response):
        return value
    text = item_text(value)
    return Response(json.dumps(text) if isinstance(value, str | bytes) else text, media_type="application/json")
