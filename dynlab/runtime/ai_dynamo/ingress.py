"""The worker's end of the engine's request plane: a request goes to the instance's own thread, its items come back.

Runs on the engine's loop. So a worker that blocks its thread hurts only itself, and can be killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from dynlab.errors import DynlabError, StreamIncompleteError, WorkerUnavailableError
from dynlab.protocols import Envelope, from_wire, to_wire
from dynlab.runtime.ai_dynamo.engine import Engine, Parcel
from dynlab.runtime.loops import Mailbox
from dynlab.runtime.reply import Inbox
from dynlab.runtime.request_plane import Call, EndpointServer
from dynlab.trace_log import TraceLog

__all__ = ("Ingress",)


class Ingress:
    """What the engine calls for each request to one endpoint of one runtime, whoever uses the runtime.

    The engine never lets go of what it calls, so there is one for each endpoint, and `serve` says who answers now.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._server: EndpointServer | None = None
        self._traces: TraceLog[Any] | None = None

    def serve(self, server: EndpointServer | None, traces: TraceLog[Any] | None) -> None:
        """Let this one answer from now on; None: nobody."""
        self._server, self._traces = server, traces

    async def answer(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        server = self._server
        if server is None:
            raise _engine_error("WorkerUnavailable", "the instance has left")
        parcel = self._parcel(server, context)
        trace, hop = parcel.trace, parcel.hop
        inbox = Inbox(Mailbox.here())
        call = Call(Envelope(server.endpoint, context.id(), to_wire(request)), inbox, trace, hop, server.home)
        inbox.attach(call)
        try:
            server.submit(call)
        except WorkerUnavailableError as error:
            hop.ended(type(error).__name__)
            raise _engine_error("WorkerUnavailable", str(error)) from None
        stopped = asyncio.ensure_future(context.async_killed_or_stopped())
        try:
            while True:
                while inbox.items:
                    yield from_wire(inbox.take())
                if inbox.end is not None:
                    break
                await asyncio.wait({inbox.more(), stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return
        finally:
            stopped.cancel()
            call.home.post(call.stop)
        end = inbox.end
        if isinstance(end, BaseException):
            parcel.errors.append(end)
            if isinstance(end, StreamIncompleteError) and end.instance_id == server.instance_id:
                raise _engine_error("StreamIncomplete", str(end))
            if isinstance(end, DynlabError):  # of a tier further on: the engine shall not take this worker for dead
                raise RuntimeError(f"{type(end).__name__}: {end}")
            raise end

    def _parcel(self, server: EndpointServer, context: Any) -> Parcel:
        """Find what the sender keeps of the request, if it is in this process; else its trace begins here."""
        parcel = self._engine.parcels.pop((context.metadata or {}).get("dynlab", ""), None)
        if parcel is not None:
            parcel.arrived(server.instance_id)
            return parcel
        assert self._traces is not None
        trace = self._traces.begin(context.id())
        hop = trace.hop(None, server.endpoint.component, server.endpoint.name)
        hop.instance_id, hop.worker = server.instance_id, server.worker
        return Parcel(trace, hop, lambda instance_id: None, [])


def _engine_error(kind: str, text: str) -> Exception:
    """Make an error of the engine's own: it skips a worker that says it is gone, and no other."""
    import dynamo.llm.exceptions  # noqa: PLC0415 - optional

    error: Exception = getattr(dynamo.llm.exceptions, kind)(text)
    return error
