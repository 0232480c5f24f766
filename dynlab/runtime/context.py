"""The context of a request: its id, and the word that nobody wants the answer any more (Dynamo: `Context`)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from dynlab.hop import Hop
from dynlab.tracing import RequestTrace

__all__ = ("Context", "current_context")

_ids = itertools.count(1)


class Context:
    """One hop's view of a request. Lives on the loop of the handler, or of the caller who made it.

    A handler that takes `(request, context)` gets it. Calls that the handler makes are linked to it: when
    the caller hangs up, they end too. (In Dynamo only the calls that are passed `context=` are linked.)
    """

    __slots__ = ("_id", "_metadata", "_on_stop", "hop", "stopped", "trace")

    def __init__(self, id: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self._id = id if id is not None else f"r-{next(_ids)}"
        self._metadata = dict(metadata) if metadata else None
        self.stopped = False
        self._on_stop: dict[object, Callable[[], None]] | None = None
        self.trace: RequestTrace | None = None
        self.hop: Hop | None = None

    def id(self) -> str:
        return self._id

    @property
    def metadata(self) -> dict[str, Any]:
        """What was given along with the request."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    def is_stopped(self) -> bool:
        """True once the caller hung up or `stop_generating()` was called: stop working."""
        return self.stopped

    def is_killed(self) -> bool:
        """Always False, as in Dynamo's Python binding, which has no way to kill a request."""
        return False

    def stop_generating(self) -> None:
        """End the answer: streams opened under this context end silently, and their workers are told."""
        if self.stopped:
            return
        self.stopped = True
        waiting, self._on_stop = self._on_stop, None
        if waiting:
            for stop in list(waiting.values()):
                stop()

    async def async_killed_or_stopped(self) -> bool:
        """Wait until the answer is no longer wanted, then return True."""
        if not self.stopped:
            stopped = asyncio.get_running_loop().create_future()
            self.on_stop(stopped, lambda: None if stopped.done() else stopped.set_result(None))
            try:
                await stopped
            finally:
                self.forget(stopped)
        return True

    def on_stop(self, key: object, stop: Callable[[], None]) -> None:
        """Call `stop` when the request is stopped; at once if it already is."""
        if self.stopped:
            stop()
        elif self._on_stop is None:
            self._on_stop = {key: stop}
        else:
            self._on_stop[key] = stop

    def forget(self, key: object) -> None:
        """Take back an `on_stop`."""
        if self._on_stop is not None:
            self._on_stop.pop(key, None)


current_context: ContextVar[Context | None] = ContextVar("dynlab_context", default=None)
"""The request that the running handler works on; calls it makes join the same trace."""
