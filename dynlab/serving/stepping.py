"""Awaiting what may be there already: so that all that is ready leaves in one write, and no clock is started for it."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar

__all__ = ("Begun", "await_or_first")

T = TypeVar("T")


class Begun(Generic[T]):
    """An awaitable that has taken its first step: `is_done` with its `value`, or to be awaited.

    It is stepped by hand. What it waits for, a future of the running task, is handed to the task when this is
    awaited, which is as good as at once: the task looks whether it is done by then.
    """

    __slots__ = ("_step", "_waits_for", "is_done", "value")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._step = awaitable.__await__()
        self.is_done = False
        try:
            self._waits_for = next(self._step)
        except StopIteration as done:
            self.is_done = True
            self.value: T = done.value

    def give_up(self, error: BaseException) -> None:
        """Tell it why nobody will wait for it: it is in the middle of its work."""
        with suppress(StopIteration):
            self._step.throw(error)

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        while True:
            try:
                sent = yield waits_for
            except BaseException as exc:
                advance: Callable[[Any], Any] = self._step.throw
                argument: Any = exc
            else:
                advance, argument = self._step.send, sent
            try:
                waits_for = advance(argument)
            except StopIteration as done:
                value: T = done.value
                return value


@types.coroutine
def await_or_first(awaitable: Awaitable[T], first: Callable[[], Awaitable[None]]) -> Generator[Any, Any, T]:
    """Await something; only if it is not there yet, await `first()` before it."""
    begun = Begun(awaitable)
    if begun.is_done:
        return begun.value
    try:
        yield from first().__await__()
    except BaseException as exc:
        begun.give_up(exc)
        raise
    return (yield from begun.__await__())
