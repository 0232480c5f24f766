"""The caller's end of an answer: items wait here until they are read, or until nobody wants them any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dynlab.protocols import Annotated, Envelope, Instance, Wire, from_wire
from dynlab.routing.modes import Picker
from dynlab.runtime.context import Context
from dynlab.runtime.loops import Mailbox

if TYPE_CHECKING:
    from dynlab.runtime.request_plane import Call

__all__ = ("WINDOW", "Inbox", "Reply", "ResponseStream", "Sender")

WINDOW = 64
"""Items that may be under way between a worker and its reader."""

End: TypeAlias = BaseException | type[StopAsyncIteration]


class Sender(Protocol):
    """Who sent the request, and is told how it went."""

    def settle(self, reply: Reply, error: BaseException | None) -> None:
        """The request sent to the reply's instance has ended."""

    def answering(self, reply: Reply) -> None:
        """The first item of a booked request came."""

    def resend(self, reply: Reply, error: BaseException) -> bool:
        """Send a request that failed with nothing answered once more; False if that will not be."""


class Inbox:
    """Where the items of a call arrive and wait to be read. Lives on the loop of whoever reads them."""

    __slots__ = ("_call", "_taken", "_waiter", "end", "home", "items")

    def __init__(self, home: Mailbox) -> None:
        self.home = home
        self.items: list[Wire] = []  # at most a window: short enough to take from its front
        self.end: End | None = None
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None
        self._call: Call | None = None

    def attach(self, call: Call) -> None:
        """Take the answer from this call."""
        self._call = call

    def deliver(self, call: Call, wire: Wire) -> None:
        """An item came."""
        self.items.append(wire)
        self.wake()

    def finish(self, call: Call, error: BaseException | None) -> None:
        """The worker is done, or dead."""
        self.end = StopAsyncIteration if error is None else error
        self.wake()

    def take(self) -> Wire:
        """Take the next of the items that have come."""
        self._taken += 1
        if self._taken % (WINDOW // 2) == 0 and self._call is not None:
            self._call.home.post(self._call.grant, WINDOW // 2)
        return self.items.pop(0)

    def more(self) -> asyncio.Future[None]:
        """Return what is done once something comes."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        return waiter

    def wake(self) -> None:
        """Let whoever waits for `more` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Reply(Inbox):
    """The caller's end of one answer: what has come and was not read yet. Lives on the caller's loop.

    Kept apart from `ResponseStream`, so that a reader who drops the stream is noticed although the call at
    the worker still refers to this.
    """

    __slots__ = ("_sender", "booking", "context", "direct", "envelope", "instance", "is_over", "picker", "tries_left")

    def __init__(
        self,
        home: Mailbox,
        context: Context,
        sender: Sender,
        envelope: Envelope,
        picker: Picker,
        direct: bool,
        tries_left: int,
    ) -> None:
        super().__init__(home)
        self.context = context
        self.envelope = envelope
        self.picker = picker
        self.direct = direct
        self.tries_left = tries_left
        self.is_over = False  # the reader has seen the end, or has hung up
        self.instance: Instance | None = None
        self.booking: str | None = None
        self._sender = sender
        context.on_stop(self, self.close)

    def is_answered_by(self, call: Call) -> bool:
        """Tell whether this call is still what the answer is taken from."""
        return call is self._call

    def deliver(self, call: Call, wire: Wire) -> None:
        """An item came."""
        if call is self._call:
            if self.booking is not None and not self._taken and not self.items:
                self._sender.answering(self)
            self.items.append(wire)
            self.wake()

    def finish(self, call: Call, error: BaseException | None) -> None:
        """The worker is done, or dead. A request that has yielded nothing may be sent again elsewhere."""
        if call is not self._call:
            return
        self._settle(error)
        if error is None:
            self.end = StopAsyncIteration
        elif self.items or self._taken or not self._sender.resend(self, error):
            self.end = error
        else:
            return
        self.wake()

    def close(self) -> None:
        """Hang up: the worker is told, unread items are dropped, a waiting reader sees the end."""
        if self.is_over:
            return
        if self._call is not None:
            self._call.home.post(self._call.stop)
            self._settle(None)
        self.items.clear()
        self.end = StopAsyncIteration
        self._over()
        self.wake()

    def take_end(self) -> End:
        """Take the end, to be raised once: whoever reads on sees a plain end, as with any iterator."""
        end, self.end = self.end, StopAsyncIteration
        assert end is not None
        if not self.is_over:
            self._over()
        return end

    def _over(self) -> None:
        self.is_over = True
        self.context.forget(self)

    def _settle(self, error: BaseException | None) -> None:
        self._call = None
        self._sender.settle(self, error)


class ResponseStream:
    """The items of one answer, read with `async for` on the loop that asked.

    Close it with `aclose()`, or just drop it: the worker is told and its generator closed at the next item.
    """

    __slots__ = ("_annotated", "reply")

    def __init__(self, reply: Reply, annotated: bool) -> None:
        self.reply = reply
        self._annotated = annotated

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> Any:
        reply = self.reply
        # Errors come after the items that were sent before them.
        while not reply.items:
            if reply.end is not None:
                raise reply.take_end()
            await reply.more()
        wire = reply.take()
        return Annotated(wire) if self._annotated else from_wire(wire)

    async def aclose(self) -> None:
        """Hang up: what was not read is dropped."""
        self.reply.close()

    def __del__(self) -> None:
        # May run on any thread, wherever the last reference went or the collector ran.
        reply = self.reply
        if not reply.is_over:
            reply.home.post(reply.close)
