"""The caller's end of an answer: items wait here until they are read, or until nobody wants them any more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dynlab.protocols import Annotated, Wire, from_wire
from dynlab.runtime.context import Context
from dynlab.runtime.loops import Mailbox

if TYPE_CHECKING:
    from dynlab.runtime.request_plane import Call, EndpointServer

__all__ = ("WINDOW", "Reply", "ResponseStream")

WINDOW = 64
"""Items that may be under way between a worker and its reader."""


class Reply:
    """The caller's end of one answer: what has come and was not read yet. Lives on the caller's loop.

    Kept apart from `ResponseStream`, so that a reader who drops the stream is noticed although the call at
    the worker still refers to this.
    """

    __slots__ = (
        "_call",
        "_end",
        "_items",
        "_resend",
        "_server",
        "_settle",
        "_taken",
        "_waiter",
        "context",
        "home",
        "instance_id",
    )

    def __init__(self, home: Mailbox, context: Context | None, resend: Callable[[Reply, BaseException], bool]) -> None:
        self.home = home
        self.context = context
        self._resend = resend
        self._items: deque[Wire] = deque()
        self._taken = 0
        self._end: BaseException | type[StopAsyncIteration] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._call: Call | None = None
        self._server: Mailbox | None = None
        self._settle: Callable[[BaseException | None], None] | None = None
        self.instance_id: int | None = None
        if context is not None:
            context.on_stop(self, self.close)

    @property
    def is_open(self) -> bool:
        return self._end is None

    def attach(self, call: Call, server: EndpointServer, settle: Callable[[BaseException | None], None]) -> None:
        """Take the answer from this call; `settle` is told once how it ended."""
        self.instance_id = server.instance_id
        self._call, self._server, self._settle = call, server.home, settle

    def deliver(self, message: tuple[Call, Wire]) -> None:
        """An item came."""
        call, wire = message
        if call is self._call:
            self._items.append(wire)
            self._wake()

    def finish(self, message: tuple[Call, BaseException | None]) -> None:
        """The worker is done, or dead. A request that has yielded nothing may be sent again elsewhere."""
        call, error = message
        if call is not self._call:
            return
        self._settled(error)
        untouched = not self._items and not self._taken
        if error is not None and untouched and self._resend(self, error):
            return
        self._close(StopAsyncIteration if error is None else error)

    def close(self) -> None:
        """Hang up: the worker is told, unread items are dropped, a waiting reader sees the end."""
        if self._end is None:
            if self._call is not None and self._server is not None:
                self._server.post(self._call.stop, None)
            self._items.clear()
            self._settled(None)
            self._close(StopAsyncIteration)

    async def next(self) -> Wire:
        """Take the next item, waiting for it; errors come after the items that were sent before them."""
        while not self._items:
            if self._end is not None:
                # Raised once: whoever reads on sees a plain end, as with any iterator.
                end, self._end = self._end, StopAsyncIteration
                raise end
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._taken += 1
        if self._taken % (WINDOW // 2) == 0 and self._end is None:
            assert self._call is not None and self._server is not None
            self._server.post(self._call.grant, WINDOW // 2)
        return self._items.popleft()

    def _close(self, end: BaseException | type[StopAsyncIteration]) -> None:
        self._end = end
        self._call = self._server = None
        if self.context is not None:
            self.context.forget(self)
        self._wake()

    def _settled(self, error: BaseException | None) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ResponseStream:
    """The items of one answer, read with `async for` on the loop that asked.

    Close it with `aclose()`, or just drop it: the worker is told and its generator closed at the next item.
    """

    __slots__ = ("_annotated", "_reply")

    def __init__(self, reply: Reply, annotated: bool) -> None:
        self._reply = reply
        self._annotated = annotated

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> Any:
        wire = await self._reply.next()
        return Annotated(wire) if self._annotated else from_wire(wire)

    async def aclose(self) -> None:
        """Hang up; does nothing when the answer has ended."""
        self._reply.close()

    def __del__(self) -> None:
        # May run on any thread, wherever the last reference went or the collector ran.
        reply = self._reply
        if reply.is_open:
            reply.home.post(lambda _: reply.close(), None)
