"""The client of an endpoint on the real engine: round robin and random are the engine's own, and so is the way there.

The other modes exist in Dynamo, but not in its Python client: dynlab's pickers choose, and the engine sends `direct`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from dynlab.errors import (
    DynlabError,
    InstanceNotFoundError,
    InstancesTimeoutError,
    NoInstancesError,
    PayloadError,
    StreamIncompleteError,
    WorkerUnavailableError,
)
from dynlab.protocols import EndpointId, from_wire, to_wire
from dynlab.routing.modes import PickFunction, RandomPicker, RoundRobinPicker, RouterMode
from dynlab.runtime.ai_dynamo.engine import Engine, Parcel, TheirClient
from dynlab.runtime.client import LocalClient
from dynlab.runtime.context import Context
from dynlab.runtime.reply import Reply, ResponseStream
from dynlab.runtime.request_plane import Call

if TYPE_CHECKING:
    from dynlab.runtime.ai_dynamo.runtime import AiDynamoRuntime

__all__ = ("AiDynamoClient",)

Send: TypeAlias = Callable[..., Awaitable[Any]]
_GONE = ("Unavailable", "DeadlineExceeded", "Disconnected", "CannotConnect", "StreamIncomplete")
"""How the engine's errors begin when a worker is dead, or cut off."""
_POLL_S = 0.01
"""The engine tells of the first instance only; the others are looked for so often."""


class AiDynamoClient(LocalClient):
    """Sends requests over the engine. Lives on the loop that made it; see `LocalClient` for what each method does."""

    def __init__(
        self,
        runtime: AiDynamoRuntime,
        endpoint: EndpointId,
        router: RouterMode | PickFunction | None,
        rng: random.Random,
        engine: Engine,
        theirs: TheirClient,
    ) -> None:
        super().__init__(runtime, endpoint, router, rng)
        self._runtime: AiDynamoRuntime = runtime
        self._engine = engine
        self._theirs, self._turns = theirs
        self._pumps: set[asyncio.Task[None]] = set()
        self._sending: dict[Reply, asyncio.Future[None]] = {}  # until the engine has taken the request, or refused

    def instance_ids(self) -> list[int]:
        """Return the ids that the engine has found, sorted."""
        return sorted(self._theirs.instance_ids())

    async def wait_for_instances(self, at_least: int = 1, timeout: float | None = None) -> list[int]:
        """As on the local runtime: wait until the engine has found so many."""
        try:
            async with asyncio.timeout(timeout):
                while len(ids := self.instance_ids()) < at_least:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            assert timeout is not None
            raise InstancesTimeoutError(self.endpoint, len(ids), at_least, timeout, "") from None
        self._runtime.know(self.endpoint, ids)
        return ids

    async def direct(
        self, request: Any, instance_id: int, annotated: bool = True, context: Context | None = None
    ) -> ResponseStream:
        return await self._taken(await super().direct(request, instance_id, annotated, context))

    async def random(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        return await self._taken(await super().random(request, annotated, context))

    async def round_robin(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        return await self._taken(await super().round_robin(request, annotated, context))

    async def generate(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        return await self._taken(await super().generate(request, annotated, context))

    async def route(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        return await self._taken(await super().route(request, annotated, context))

    async def _taken(self, stream: ResponseStream) -> ResponseStream:
        """Wait until the engine has taken a request; raise what it says if it does not."""
        sending = self._sending.get(stream.reply)
        if sending is not None:
            await sending
            if isinstance(stream.reply.end, BaseException) and not stream.reply.items:
                raise stream.reply.take_end()
        return stream

    def _dispatch(self, reply: Reply) -> None:
        trace = reply.context.trace
        assert trace is not None
        hop = trace.hop(reply.context.hop, self.endpoint.component, self.endpoint.name)
        call = Call(reply.envelope, reply, trace, hop, self._home)
        call.context = Context(reply.envelope.request_id)
        send, arrived = self._way(reply, call)
        parcel = Parcel(trace, hop, arrived, [])
        reply.attach(call)
        if reply not in self._sending:
            self._sending[reply] = asyncio.get_running_loop().create_future()
        pump = asyncio.get_running_loop().create_task(self._pump(reply, call, send, parcel))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    def _way(self, reply: Reply, call: Call) -> tuple[Send, Callable[[int], None]]:
        """Return how to send it, and what to do when it has arrived somewhere."""
        picker = reply.picker
        reply.instance, reply.booking = None, None
        self._runtime.know(self.endpoint, self._theirs.instance_ids())
        if type(picker) is RoundRobinPicker or type(picker) is RandomPicker:
            detail = {"turn": next(self._turns)} if type(picker) is RoundRobinPicker else {}
            seen = self._table.seen()

            def arrived(instance_id: int) -> None:
                if (instance := self._table.find(instance_id)) is not None:
                    call.hop.picked(picker.mode, instance, *seen, detail)
                    self._home.post(self._found, reply, call, instance_id)

            return getattr(self._theirs, "round_robin" if detail else "random"), arrived
        try:
            _, instance, reply.booking = self._table.select(picker, reply.envelope, call.hop, direct=reply.direct)
        except BaseException as error:
            call.hop.ended(type(error).__name__)
            raise
        reply.instance = instance
        return partial(self._theirs.direct, instance_id=instance.instance_id), lambda instance_id: None

    def _found(self, reply: Reply, call: Call, instance_id: int) -> None:
        """The engine has chosen: count the request there, unless it is over."""
        if reply.is_answered_by(call):
            reply.instance = self._table.take(instance_id)

    async def _pump(self, reply: Reply, call: Call, send: Send, parcel: Parcel) -> None:
        """Let the items of an answer come in."""
        number = self._engine.send_off(parcel)
        theirs = self._engine.context(call.envelope.request_id, number)
        assert call.context is not None
        call.context.on_stop(theirs, theirs.stop_generating)
        error: BaseException | None = None
        try:
            # Annotated: of bare items, the engine leaves out those that are None.
            answer = await send(from_wire(call.envelope.wire), context=theirs)
            _done(self._sending.pop(reply, None))
            async for item in answer:
                call.credit -= 1
                reply.deliver(call, to_wire(item.data()))
                if call.credit <= 0:
                    await call.window(call.context)
                if call.context.stopped:
                    break
        except asyncio.CancelledError:
            theirs.stop_generating()
            raise
        except Exception as exc:
            raised = parcel.errors[0] if parcel.errors else None
            error = raised if isinstance(raised, DynlabError) else self._translated(exc, reply, call)
        finally:
            if self._engine.parcels.pop(number, None) is not None and not call.hop.ended_ns:  # it arrived nowhere
                call.hop.ended("stopped" if error is None else type(error).__name__)
        reply.finish(call, error)
        if reply.end is not None:
            _done(self._sending.pop(reply, None))

    def _translated(self, error: Exception, reply: Reply, call: Call) -> Exception:
        """Return what dynlab calls it; an error of a handler stays as the engine tells it."""
        text = str(error)
        if "No workers available" in text:
            return NoInstancesError(self.endpoint, self._table.seen()[2])
        instance_id = call.hop.instance_id if reply.instance is None else reply.instance.instance_id
        if "not found for endpoint" in text:
            return InstanceNotFoundError(self.endpoint, instance_id or 0, self.instance_ids())
        if isinstance(error, TypeError):
            return PayloadError(from_wire(call.envelope.wire), error)
        if text.startswith(_GONE):
            if call.hop.items:
                return StreamIncompleteError(self.endpoint, instance_id or 0, call.hop.items)
            return WorkerUnavailableError(self.endpoint, instance_id)
        error.add_note(f"raised by {call.hop.worker or 'the handler'}, as Dynamo's engine tells it")
        return error


def _done(sending: asyncio.Future[None] | None) -> None:
    if sending is not None and not sending.done():
        sending.set_result(None)
