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
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Response
from starlette.types import Receive, Scope, Send

from dynlab.errors import DeploymentError, InstancesTimeoutError, NoInstancesError, WorkerUnavailableError
from dynlab.hop import Hop
from dynlab.runtime.context import Context, current_context
from dynlab.runtime.tally import ApiTally
from dynlab.sdk.endpoint import ApiSpec
from dynlab.serving.body import Body, BodyError, read_body
from dynlab.serving.frames import error_frame, event_frame, item_text, raw_chunk
from dynlab.serving.stepping import await_or_first
from dynlab.trace_log import TraceLog

__all__ = ("UNAVAILABLE", "ApiRoute")

FLUSH_BYTES = 65_536
"""A handler that never waits still sends its items in portions of this size."""
HANG_UP_AFTER_S = 0.05
"""Only answers that take longer are watched for a client that hangs up: a watch costs as much as a short answer."""

UNAVAILABLE = (NoInstancesError, WorkerUnavailableError, InstancesTimeoutError, DeploymentError)
"""Errors that say that nobody was there to answer: 503."""

_JSON = (b"content-type", b"application/json")
_START_EVENTS = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")],
}
_START_TEXT = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain; charset=utf-8")],
}


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
        self.tally = ApiTally()
        self._active: dict[Context, Receive] = {}
        self._watch = _HangUpWatch(self._active)
        self._closing = False

    @property
    def active(self) -> int:
        """Requests that have come and are not answered yet."""
        return len(self._active)

    @property
    def underway(self) -> list[Hop]:
        """What has come of those so far."""
        return [context.hop for context in list(self._active) if context.hop is not None]

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
        self._took(context, receive)
        try:
            await self._answer(
                arguments, context, b"text/event-stream" in headers.get(b"accept", b""), scope, receive, send
            )
        finally:
            self._over(context)

    def _took(self, context: Context, receive: Receive) -> None:
        """Count a request as under way, and see whether its client stays."""
        self._active[context] = receive
        self._watch.begin()

    def _over(self, context: Context) -> None:
        """It is answered, or was given up: what it began below ends too."""
        del self._active[context]
        self._watch.end(context)
        context.stop_generating()
        if context.trace is not None:
            self._traces.end(context.trace)

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
        out = _Output(send, events)
        outcome = "ok"
        try:
            if not self.streams:
                response = _response(await self.method(**arguments))
                hop.item()
                await response(scope, receive, send)
                return
            items = self.method(**arguments)
            try:
                while not context.stopped:
                    coming = items.__anext__()
                    item = await (await_or_first(coming, out.flush) if out.is_ready else coming)
                    if context.is_stopped():
                        break
                    frame = event_frame(item_text(item)) if events else raw_chunk(item_text(item))
                    hop.item()
                    if out.add(frame):
                        await out.flush()
            except StopAsyncIteration:
                pass
            except BaseException:
                await items.aclose()
                raise
            if context.is_stopped():
                await items.aclose()
                if self._closing:
                    raise DeploymentError("The deployment was closed before the answer was complete. Serve it again.")
                outcome = "stopped"
            else:
                await out.end()
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        except Exception as error:
            outcome = type(error).__name__
            await _fail(error, out)
        finally:
            hop.ended(outcome)
            self.tally.ended(hop)


class _Output:
    """The response under way: frames that are ready are joined, and leave when the handler has to wait."""

    def __init__(self, send: Send, events: bool) -> None:
        self.send = send
        self.events = events
        self.is_ready = False
        self._ready: list[bytes] = []
        self._size = 0
        self._started = False

    @property
    def begun(self) -> bool:
        """True once there was an item: from then on the status is 200."""
        return self._started or self.is_ready

    def add(self, frame: bytes) -> bool:
        """Take a frame; True when so much is ready that it should leave now."""
        self.is_ready = True
        self._ready.append(frame)
        self._size += len(frame)
        return self._size >= FLUSH_BYTES

    async def flush(self) -> None:
        """Send what is ready."""
        if self.is_ready:
            await self._send(True)

    async def end(self) -> None:
        """Send what is ready, and the end."""
        await self._send(False)

    async def _send(self, more: bool) -> None:
        body = self._ready[0] if len(self._ready) == 1 else b"".join(self._ready)
        self._ready.clear()
        self._size = 0
        self.is_ready = False
        if not self._started:
            self._started = True
            await self.send(_START_EVENTS if self.events else _START_TEXT)
        await self.send({"type": "http.response.body", "body": body, "more_body": more})


async def _fail(error: Exception, out: _Output) -> None:
    """Report an error: as a status before the first item, as an event after it."""
    kind, message = type(error).__name__, str(error) or type(error).__name__
    if not out.begun:
        gone = isinstance(error, UNAVAILABLE)
        report = {"detail": message, "type": kind, "notes": list(getattr(error, "__notes__", ()))}
        await _reply(out.send, 503 if gone else 500, report)
    elif out.events:
        out.add(error_frame(kind, message))
        await out.end()
    else:
        # Bare text has no way to say it: the chunked body is left without its end, so the client sees it break off.
        await out.flush()


class _HangUpWatch:
    """Tells a request when its client leaves. Looks only after those that take long: a watch is a task of its own."""

    def __init__(self, active: Mapping[Context, Receive]) -> None:
        self._active = active
        self._seen: set[Context] = set()
        self._tasks: dict[Context, asyncio.Task[None]] = {}
        self._ticking = False

    def begin(self) -> None:
        """A request has come."""
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(HANG_UP_AFTER_S, self._tick)

    def end(self, context: Context) -> None:
        """It is answered."""
        if self._tasks:
            task = self._tasks.pop(context, None)
            if task is not None:
                task.cancel()

    def _tick(self) -> None:
        """Watch those that were there at the last tick already."""
        loop = asyncio.get_running_loop()
        for context in self._seen & self._active.keys() - self._tasks.keys():
            self._tasks[context] = loop.create_task(self._watch(self._active[context], context))
        self._seen = set(self._active)
        self._ticking = bool(self._active)
        if self._ticking:
            loop.call_later(HANG_UP_AFTER_S, self._tick)

    async def _watch(self, receive: Receive, context: Context) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        context.stop_generating()


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
