"""One event loop in one named thread, and the mailbox by which other threads reach a loop."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

__all__ = ("LoopThread", "Mailbox")

T = TypeVar("T")
log = logging.getLogger("dynlab.runtime")


class Mailbox:
    """What other threads hand to one loop, taken in one wake-up however much has piled up.

    Waking a loop costs a system call and, when it sleeps, tens of microseconds; so a sender wakes it only
    when nobody has yet, and the loop then delivers everything that is there.
    """

    __slots__ = ("__weakref__", "_awake", "_context", "_loop", "_queue")

    _known: ClassVar[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox]] = weakref.WeakKeyDictionary()
    _known_lock = threading.Lock()

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        # A weak reference, or the entry in `_known` would keep its own key alive.
        self._loop = weakref.ref(loop)
        self._context = context
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Mailbox:
        """Return the one mailbox of a loop, made on first use."""
        with cls._known_lock:
            mailbox = cls._known.get(loop)
            if mailbox is None:
                mailbox = cls._known[loop] = cls(loop, contextvars.copy_context())
        return mailbox

    @classmethod
    def here(cls) -> Mailbox:
        """Return the mailbox of the running loop."""
        return cls.of(asyncio.get_running_loop())

    @classmethod
    def forget(cls, loop: asyncio.AbstractEventLoop) -> None:
        """Let go of a closed loop: its mailbox's context may lead back to it, and would keep both for good."""
        with cls._known_lock:
            cls._known.pop(loop, None)

    def post(self, deliver: Callable[..., None], *message: Any) -> bool:
        """Have `deliver(*message)` called on the loop; False if the loop is closed and never will.

        Callable from any thread. Messages of one sender arrive in the order they were posted.
        """
        loop = self._loop()
        # Asked each time: a loop that was closed between a wake-up and its drain leaves `_awake` set for good.
        if loop is None or loop.is_closed():
            self._queue.clear()
            return False
        self._queue.append((deliver, message))
        # Append first, then look: `_drain` clears the flag first, then takes, so whichever of the two
        # threads comes second sees the other's step and no message is left behind asleep.
        if not self._awake:
            self._awake = True
            try:
                loop.call_soon_threadsafe(self._drain, context=self._context)
            except RuntimeError:  # closed just now
                self._queue.clear()
                return False
        return True

    def _drain(self) -> None:
        self._awake = False
        queue = self._queue
        # Only what is there now: a flood of messages must not starve the loop's sockets and timers.
        for _ in range(len(queue)):
            deliver, message = queue.popleft()
            try:
                deliver(*message)
            except Exception as exc:  # the messages behind it must still arrive
                asyncio.get_running_loop().call_exception_handler({"message": "delivery failed", "exception": exc})


def _log_unseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("%s", context["message"], exc_info=context.get("exception"))


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make a loop without touching the policy; uvloop's where it is installed, as Dynamo does."""
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415 - the one optional accelerator: absent on Windows

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


class LoopThread:
    """An event loop that runs in a daemon thread of its own, from `start()` to `stop()`."""

    def __init__(self, name: str, context: contextvars.Context | None = None) -> None:
        self.name = name
        self.loop = _new_loop()
        # What nobody awaits is told in the deployment's log; asyncio's own logger prints into the reader's cell.
        self.loop.set_exception_handler(_log_unseen)
        # By default an empty one: nothing of the reader's cell leaks into a service.
        self._context = context if context is not None else contextvars.Context()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopped = False

    @property
    def mailbox(self) -> Mailbox:
        return Mailbox.of(self.loop)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        # The mailbox delivers in the thread's own context, so it is made there.
        self._context.run(Mailbox.of, self.loop)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, in the thread's context; for control paths, not for requests."""
        # A copy, because the thread is inside its own context for as long as it lives.
        return self._context.copy().run(asyncio.run_coroutine_threadsafe, coroutine, self.loop)

    def stop(self) -> None:
        """Have the loop cancel what runs and end; returns at once. Stopping again changes nothing."""
        if not self._stopped:  # a second one would break off the cancelling
            self._stopped = True
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; False if a handler still blocks it."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._context.run(self._run_loop)

    def _run_loop(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            self._cancel_all()
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            Mailbox.forget(loop)

    def _cancel_all(self) -> None:
        """Let every task see its CancelledError and every generator its end, before the loop closes."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:  # bounded: a handler that swallows its cancellation must not hold the thread
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
