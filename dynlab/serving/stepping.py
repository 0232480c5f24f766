"""Awaiting what may be there already: so that all that is ready leaves in one write."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ("await_or_first",)

T = TypeVar("T")


@types.coroutine
def await_or_first(awaitable: Awaitable[T], first: Callable[[], Awaitable[None]]) -> Generator[Any, Any, T]:
    """Await something; only if it is not there yet, await `first()` before it.

    It steps the awaitable by hand. What the awaitable waits for, a future of the running task, is handed to the
    task after `first()` is done, which is as good as at once: the task looks whether it is done by then.
    """
    step = awaitable.__await__()
    try:
        waits_for = next(step)
    except StopIteration as done:
        value: T = done.value
        return value
    try:
        yield from first().__await__()
    except BaseException as exc:
        # The awaitable is in the middle of its work: it must see why it is given up.
        with suppress(StopIteration):
            step.throw(exc)
        raise
    while True:
        try:
            sent = yield waits_for
        except BaseException as exc:
            advance: Callable[[Any], Any] = step.throw
            argument: Any = exc
        else:
            advance, argument = step.send, sent
        try:
            waits_for = advance(argument)
        except StopIteration as done:
            value = done.value
            return value
