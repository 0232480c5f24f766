"""The HTTP of 2025, for services decorated with `dynamo.sdk`: BentoML's of Dynamo 0.1, and FastAPI's of 0.2 and 0.3."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from dynlab.errors import DeploymentError
from dynlab.sdk.endpoint import ApiSpec, arguments_of
from dynlab.sdk.service import DynamoService
from dynlab.serving.body import Body, BodyError, read_body
from dynlab.serving.frames import FRAMED, error_frame, event_frame
from dynlab.serving.http import ApiRoute
from dynlab.trace_log import TraceLog

__all__ = ("BentoRoute", "FastApiRoute", "add_probes", "make_route", "query_keys")

log = logging.getLogger("dynlab.serving")

_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_FRAMED = FRAMED.encode()
_UNEXPECTED = "An unexpected error has occurred, please check the server log."


def make_route(
    service: DynamoService, spec: ApiSpec, method: Callable[..., Any], worker: str, traces: TraceLog[Any]
) -> ApiRoute:
    """Make the route of an `@api` method, in the dialect that it is written for."""
    if spec.dialect == "0.1":
        return BentoRoute(spec, method, worker, traces)
    if spec.dialect == "0.3":
        app = service.extras.get("app")
        return FastApiRoute(spec, method, worker, traces, app if isinstance(app, FastAPI) else None)
    return ApiRoute(spec, method, worker, traces)


def query_keys(spec: ApiSpec, method: Callable[..., Any]) -> list[str]:
    """Return the arguments of an `@api` method that are in the address, `?key=value`, and not in the body."""
    if spec.dialect != "0.3":
        return []
    return [
        a.name
        for a in arguments_of(method)
        if not (isinstance(a.annotation, type) and issubclass(a.annotation, BaseModel))
    ]


def add_probes(app: FastAPI, service: DynamoService, service_object: object) -> None:
    """Let `@liveness` answer `GET /healthz` and `/livez`, and `@readiness` `GET /readyz`; who has none is well."""
    if not service.sdk_2025:
        return
    for path, kind in (("/healthz", "liveness"), ("/livez", "liveness"), ("/readyz", "readiness")):
        marked = [getattr(service_object, hook.attribute) for hook in service.hooks if kind in hook.when.split()]
        if marked or path != "/healthz":
            # A route of Starlette's: FastAPI would keep the method, and with it the service, for good.
            app.router.routes.insert(0, Route(path, _probe(marked[0] if marked else None), methods=["GET"]))


def _probe(method: Callable[[], Any] | None) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            result = True if method is None else method()
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:
            return PlainTextResponse(str(error), status_code=500)
        return Response(status_code=200 if result else 503)

    return answer


# ---------------------------------------------------------------------------- 0.1


class BentoRoute(ApiRoute):
    """`@api` of Dynamo 0.1: an event stream of bare text, 400 for a body that does not fit, 500 for all that fails."""

    def __init__(self, spec: ApiSpec, method: Callable[..., Any], worker: str, traces: TraceLog[Any]) -> None:
        super().__init__(spec, method, worker, traces)
        self.body = _BentoBody(self.path, method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        framed = any(name == b"accept" and _FRAMED in value for name, value in scope["headers"])
        if not framed:
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"accept"]}
        held: list[Message] = []

        async def translate(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] != 200:
                    held.append(message)  # until its body is known
                    return
                if self.streams:
                    message = {**message, "headers": [_EVENTS]}
            elif held:
                status, body = _bento_error(held[0]["status"], json.loads(message["body"]))
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await send({**held.pop(), "status": status, "headers": headers})
                message = {**message, "body": body}
            await send(message)

        await super().__call__(scope, receive, translate)


class _BentoBody(Body):
    """Keys that are no argument are left aside, and errors are pydantic's own."""

    def read(self, body: bytes) -> dict[str, Any]:
        try:
            given = json.loads(body)
        except ValueError:
            return super().read(body)
        if isinstance(given, dict):
            body = json.dumps({key: value for key, value in given.items() if key in self.keys}).encode()
        return super().read(body)

    def _explain(self, error: ValidationError) -> BodyError:
        detail = json.loads(error.json(include_context=False, include_input=False))
        return BodyError(400, detail, super()._explain(error).message)


def _bento_error(status: int, report: dict[str, Any]) -> tuple[int, bytes]:
    """Say an error as BentoML did, and what dynlab knows of it besides."""
    own = report.get("type") == "ValidationError" and not report["notes"]  # notes name the tier it comes from
    if isinstance(report["detail"], list):
        count = len(report["detail"])
        report = {"error": f"{count} validation error{'s' if count > 1 else ''} for Input", **report}
    elif own:
        status, report = 400, {"error": report["detail"].partition("\n")[0], **report}
    elif status >= 500:
        status, report = 500, {"error": _UNEXPECTED, **report}
    else:
        report = {"error": report["message"], **report}
    return status, json.dumps(report).encode()


# ---------------------------------------------------------------------------- 0.2 and 0.3


class FastApiRoute(ApiRoute):
    """`@dynamo_api()` and `@api()`: FastAPI calls the method itself, so its rules hold for arguments and answers.

    A model is the body, a plain argument a query parameter; the method returns what FastAPI can answer with, such
    as a `StreamingResponse`. The middleware of the service's own `app=` is kept.
    """

    def __init__(
        self,
        spec: ApiSpec,
        method: Callable[..., Any],
        worker: str,
        traces: TraceLog[Any],
        app: FastAPI | None,
    ) -> None:
        super().__init__(spec, method, worker, traces)
        self.query = query_keys(spec, method)
        self._app = _app_of(method.__func__, self.path, app)  # type: ignore[attr-defined]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(scope["headers"])
        own = _FRAMED in headers.get(b"accept", b"")
        out = _Watched(self, send, own)
        try:
            body = await read_body(headers, receive)
        except BodyError as error:
            await PlainTextResponse(error.message, error.status)(scope, receive, send)
            return
        except ConnectionError:
            return  # the client left in the middle of its body
        given = _object(body)
        out.context = context = self._begin(headers, given)
        if own and not scope["query_string"]:  # dynlab's own client has every argument in the body
            query = urlencode({key: given[key] for key in given if key in self.query}, doseq=True)
            scope = {**scope, "query_string": query.encode()}
        self._took(context, receive)
        outcome = "ok"
        try:
            _method.set(self.method)
            await self._app(scope, _replay(body, receive), out)
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        except Exception as error:
            outcome = type(error).__name__
            log.warning("%s failed: %s: %s", self.path, outcome, str(error))
            await out.broke_off(error)
        finally:
            assert context.hop is not None
            context.hop.ended("stopped" if outcome == "ok" and context.is_stopped() else outcome)
            self._over(context)


class _Watched:
    """Where FastAPI sends to: counts the items of the trace, and frames them for dynlab's own client."""

    def __init__(self, route: FastApiRoute, send: Send, framed: bool) -> None:
        self._route, self._send, self._framed = route, send, framed
        self.context: Any = None
        self._status = 0

    async def __call__(self, message: Message) -> None:
        if self._route._closing:
            raise DeploymentError("The deployment was closed before the answer was complete. Serve it again.")
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._framed and self._status == 200:
                message = {**message, "headers": [_EVENTS]}
        elif message.get("body"):
            self.context.hop.item()
            if self._framed and self._status == 200:
                message = {**message, "body": event_frame(message["body"].decode("utf-8", "replace"))}
        await self._send(message)

    async def broke_off(self, error: Exception) -> None:
        """Tell dynlab's own client why; to another the chunked body is left without its end."""
        if self._framed and self._status == 200:
            frame = error_frame(type(error).__name__, str(error))
            await self._send({"type": "http.response.body", "body": frame, "more_body": False})


_method: ContextVar[Callable[..., Any]] = ContextVar("dynlab_fastapi_method")


@lru_cache(maxsize=256)
def _app_of(function: Callable[..., Any], path: str, own: FastAPI | None) -> FastAPI:
    """Make the app that calls a method of whichever instance the request is for."""

    # FastAPI remembers the functions of routes for good: this one knows the method of the class, and no instance.
    async def call(**arguments: Any) -> Any:
        return await _method.get()(**arguments)

    signature = inspect.signature(function, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    call.__name__ = function.__name__
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    extras: dict[str, Any] = {}
    if own is not None:
        extras = {"middleware": own.user_middleware, "exception_handlers": own.exception_handlers}
    app = FastAPI(openapi_url=None, **extras)
    app.add_api_route(path, call, methods=["POST"])
    return app


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already once more, then what comes."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return whole.pop() if whole else await receive()

    return again
