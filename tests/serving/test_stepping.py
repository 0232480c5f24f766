"""What is ready is taken as it is; only for what is not there yet is something done before it is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dynlab.serving.stepping import await_or_first

SEEN: list[str] = []


@pytest.fixture
def first() -> Callable[[], Awaitable[None]]:
    SEEN.clear()

    async def note() -> None:
        SEEN.append("first")
        await asyncio.sleep(0)
        SEEN.append("first done")

    return note


async def ready(value: str) -> str:
    return value


async def after(*events: asyncio.Event) -> str:
    for event in events:
        await event.wait()
        SEEN.append("event")
    return "late"


async def test_what_is_ready_is_taken_at_once(first: Callable[[], Awaitable[None]]) -> None:
    """`first` is not called."""
    assert "there" == await await_or_first(ready("there"), first)
    assert [] == SEEN


async def test_what_is_not_ready_is_awaited_after_first(first: Callable[[], Awaitable[None]]) -> None:
    """However often it waits, `first` is called once."""
    one, two = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, one.set)
    asyncio.get_running_loop().call_later(0.002, two.set)

    assert "late" == await await_or_first(after(one, two), first)
    assert ["first", "first done", "event", "event"] == SEEN


async def test_what_becomes_ready_during_first_is_not_missed() -> None:
    """The event comes while `first` waits."""
    event = asyncio.Event()

    async def set_it() -> None:
        event.set()
        await asyncio.sleep(0.001)

    assert "late" == await asyncio.wait_for(await_or_first(after(event), set_it), 5.0)


async def test_errors_pass(first: Callable[[], Awaitable[None]]) -> None:
    """At once or later."""

    async def fail(wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        raise LookupError("gone")

    for wait in (False, True):
        with pytest.raises(LookupError, match="gone"):
            await await_or_first(fail(wait), first)
    assert ["first", "first done"] == SEEN


async def test_what_is_given_up_sees_why() -> None:
    """When `first` fails, the awaitable in the middle of its work is told, and may clean up."""
    seen: list[BaseException] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except ConnectionError as error:
            seen.append(error)
            raise

    async def fail() -> None:
        raise ConnectionError("the client left")

    with pytest.raises(ConnectionError, match="the client left"):
        await await_or_first(work(), fail)
    assert ["the client left"] == [str(error) for error in seen]


async def test_a_cancellation_reaches_the_awaitable(first: Callable[[], Awaitable[None]]) -> None:
    """As it would without the step between."""
    event = asyncio.Event()
    task = asyncio.ensure_future(asyncio.wait_for(await_or_first(after(event), first), 5.0))
    while SEEN != ["first", "first done"]:
        await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["first", "first done"] == SEEN
