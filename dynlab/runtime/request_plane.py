"""Request plane: where a request crosses from the caller's thread to the worker's, and its items come back.

Each object lives on one loop. `Reply` and `ResponseStream` live on the caller's, `EndpointServer` and its `Call`s
on the worker's; what one wants of the other it posts to the other's mailbox. A worker may be `WINDOW` items ahead
of its reader; then it waits, so a slow reader slows the worker and memory stays bounded.
(Dynamo's request plane is TCP; what a reader sees of it is the same.)
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias

from dynlab.errors import EndpointDefinitionError, RequestCancelledError, StreamIncompleteError, WorkerUnavailableError
from dynlab.hop import Hop
from dynlab.protocols import EndpointId, Envelope, Wire, from_wire, to_wire
from dynlab.runtime.context import Context, current_context
from dynlab.runtime.loops import Mailbox
from dynlab.runtime.reply import WINDOW, Inbox
from dynlab.runtime.tally import Tally
from dynlab.tracing import RequestTrace

__all__ = ("Call", "EndpointServer", "Handler", "as_handler")

Handler: TypeAlias = Callable[[Any, Context], AsyncGenerator[Any, None]]
"""What an endpoint runs for one request: an async generator function of the request and its context."""


class Call:
    """One request at a worker. Made by the caller; from `EndpointServer.submit` on it lives on the worker's loop."""

    __slots__ = ("_more", "context", "credit", "envelope", "home", "hop", "reply", "trace")

    def __init__(self, envelope: Envelope, reply: Inbox, trace: RequestTrace, hop: Hop, home: Mailbox) -> None:
        self.envelope = envelope
        self.home = home
        self.reply = reply
        self.trace = trace
        self.hop = hop
        self.credit = WINDOW
        self.context: Context | None = None
        self._more: asyncio.Future[None] | None = None

    def grant(self, items: int) -> None:
        """The reader took items: as many more may be sent."""
        self.credit += items
        self._wake()

    def stop(self) -> None:
        """The reader hung up."""
        if self.context is not None:
            self.context.stop_generating()
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    def send(self, wire: Wire) -> bool:
        """Give one item to the reader; False when the window is full now: await `window` before the next."""
        self.credit -= 1
        self.reply.home.post(self.reply.deliver, self, wire)
        return self.credit > 0

    async def window(self, context: Context) -> None:
        """Wait until the reader, a whole window behind, has caught up by half or has hung up."""
        while self.credit <= 0 and not context.stopped:
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    def end(self, error: BaseException | None) -> None:
        """Close the answer; callable from any thread."""
        self.reply.home.post(self.reply.finish, self, error)


class EndpointServer:
    """One endpoint on one instance: takes calls from any thread, runs its handler on its own loop."""

    def __init__(self, endpoint: EndpointId, instance_id: int, worker: str, handler: Handler, home: Mailbox) -> None:
        self.endpoint = endpoint
        self.instance_id = instance_id
        self.worker = worker
        self._handler = handler
        self.home = home
        self.tally = Tally()
        self._thread = f"dynlab-{worker}"
        self._calls: dict[Call, asyncio.Task[None] | None] = {}
        self._dead = False
        self._idle: asyncio.Event | None = None
        self._hurried = False

    @property
    def active(self) -> int:
        """Requests that were taken and are not answered yet."""
        return len(self._calls)

    def submit(self, call: Call) -> None:
        """Take a call. Runs on the caller's thread.

        Raises:
            WorkerUnavailableError: if the worker is dead.
        """
        # Listed before it is posted, and `_dead` is looked at after: `die()` sets `_dead` first and then
        # answers all that is listed, so no call can fall between the two.
        self._calls[call] = None
        if self._dead or not self.home.post(self._accept, call):
            self._calls.pop(call, None)
            raise WorkerUnavailableError(self.endpoint, self.instance_id)

    def die(self) -> None:
        """Refuse further calls and break off those under way, as a process that is killed does."""
        self._dead = True
        for call in list(self._calls):
            self._break_off(call)

    async def drained(self, *, hurry: bool = False) -> None:
        """Wait until every call that was taken is answered; in a hurry, break them off. Runs on the worker's loop.

        A handler that nobody listens to any more is not waited for: it is cancelled.
        """
        self._idle = asyncio.Event()
        self._hurried = hurry
        for call, task in list(self._calls.items()):
            if task is not None and (hurry or (call.context is not None and call.context.stopped)):
                # A task that is cancelled before its first step never takes it: then the call is given up here.
                task.add_done_callback(lambda _, call=call: self._give_up(call))  # type: ignore[misc]
                task.cancel()
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    def _break_off(self, call: Call) -> None:
        call.hop.ended("StreamIncompleteError")
        call.end(StreamIncompleteError(self.endpoint, self.instance_id, call.hop.items))

    def _give_up(self, call: Call) -> None:
        if call in self._calls:
            del self._calls[call]
            self._break_off(call)
            if self._idle is not None:
                self._idle.set()

    def _accept(self, call: Call) -> None:
        if self._hurried:
            self._give_up(call)
            return
        call.context = context = Context(call.envelope.request_id)
        context.trace, context.hop = call.trace, call.hop
        task = asyncio.get_running_loop().create_task(self._answer(call, context))
        if call in self._calls:  # the task must be referenced somewhere, or it may be collected
            self._calls[call] = task

    async def _answer(self, call: Call, context: Context) -> None:
        current_context.set(context)
        hop = call.hop
        hop.started(self._thread)
        self.tally.begun += 1
        error: BaseException | None = None
        try:
            if not context.stopped and not self._dead:
                items = self._handler(from_wire(call.envelope.wire), context)
                try:
                    async for item in items:
                        hop.item()
                        if not call.send(to_wire(item)):
                            await call.window(context)
                        if context.is_stopped():
                            break
                except BaseException:
                    await items.aclose()
                    raise
                if context.is_stopped():  # else it has come to its end by itself, and has nothing to close
                    await items.aclose()
        except asyncio.CancelledError:
            # A handler that is cancelled while its worker leaves did not do so itself.
            error = (
                RequestCancelledError(self.endpoint, self.instance_id)
                if self._idle is None
                else StreamIncompleteError(self.endpoint, self.instance_id, hop.items)
            )
        except BaseException as exc:
            error = self._noted(exc)
        finally:
            self._calls.pop(call, None)
            if self._idle is not None:
                self._idle.set()
        if self._dead:
            if hop.outcome != "running":
                return  # `die` has told the caller
            # `die` is at work just now, and may not have found this call any more.
            error = StreamIncompleteError(self.endpoint, self.instance_id, hop.items)
        hop.ended("stopped" if context.stopped else type(error).__name__ if error else "ok")
        self.tally.ended(hop)
        context.stop_generating()  # what the handler left open below ends too
        call.end(error)

    def _noted(self, error: BaseException) -> BaseException:
        """Say on the handler's own exception where it happened; it keeps its type on its way up."""
        if isinstance(error, SystemExit | KeyboardInterrupt | GeneratorExit):
            # These would end the caller's loop, not just its request.
            error = RuntimeError(f"the handler raised {type(error).__name__}: {error}")
        error.add_note(f"raised by {self.endpoint} on instance {self.instance_id} ({self.worker})")
        return error


def as_handler(function: Callable[..., Any]) -> Handler:
    """Bring `f(request)` and `f(request, context)` to one shape."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "coroutine" if inspect.iscoroutinefunction(function) else "plain generator"
        raise EndpointDefinitionError(
            f"The handler {getattr(function, '__name__', function)} is a {kind}; an endpoint streams its answer, "
            "so write `async def` with `yield`."
        )
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) >= 2 and (positional[1].name == "context" or positional[1].default is inspect.Parameter.empty):
        return function

    def without_context(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        generator: AsyncGenerator[Any, None] = function(request)
        return generator

    return without_context
