"""`dynlab.runtime.context`: a request's id, and the word that nobody wants the answer any more."""

from __future__ import annotations

import asyncio

from dynlab.runtime.context import Context
from tests.runtime.cluster import PATIENCE_S, settled


def test_a_context_has_an_id() -> None:
    """The one it is given, or one of its own."""
    assert "r-1" == Context("r-1").id()
    assert Context().id() != Context().id()


def test_metadata_is_the_contexts_own() -> None:
    """A context copies what it is given."""
    given = {"user": "reader"}
    context = Context("r-1", metadata=given)
    given["user"] = "somebody else"

    assert {"user": "reader"} == context.metadata
    assert {} == Context().metadata


def test_a_context_is_stopped_once_and_for_all() -> None:
    """`stop_generating` sets `is_stopped`; `is_killed` stays False, as in Dynamo's Python binding."""
    context = Context()
    assert (False, False) == (context.is_stopped(), context.is_killed())

    context.stop_generating()
    context.stop_generating()

    assert (True, False) == (context.is_stopped(), context.is_killed())


async def test_waiting_for_the_stop() -> None:
    """`async_killed_or_stopped` waits until the stop and says True, to everyone who waits."""
    context = Context()
    waiting = [asyncio.create_task(context.async_killed_or_stopped()) for _ in range(2)]
    await settled()
    assert [False, False] == [task.done() for task in waiting]

    context.stop_generating()

    assert [True, True] == await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)


async def test_a_stop_that_has_come_is_not_waited_for() -> None:
    """`async_killed_or_stopped` of a stopped request returns at once."""
    context = Context()
    context.stop_generating()

    assert await asyncio.wait_for(context.async_killed_or_stopped(), PATIENCE_S)


async def test_who_gives_up_waiting_is_forgotten() -> None:
    """A cancelled waiter is not called when the stop comes."""
    context = Context()
    waiting = asyncio.create_task(context.async_killed_or_stopped())
    await settled()
    waiting.cancel()
    await asyncio.wait([waiting])

    context.stop_generating()

    assert waiting.cancelled()


def test_a_stop_calls_who_asked_for_it_once() -> None:
    """Each `on_stop` is called one time, in order; one that was taken back is not; a late one is called at once."""
    context, called = Context(), []
    for name in ("first", "taken back", "second"):
        context.on_stop(name, lambda name=name: called.append(name))  # type: ignore[misc]
    context.forget("taken back")
    context.forget("never there")

    context.stop_generating()
    context.stop_generating()
    context.on_stop("late", lambda: called.append("late"))

    assert ["first", "second", "late"] == called


def test_a_stop_may_take_others_back() -> None:
    """Whoever is told of the stop closes its stream, which forgets itself: that must not disturb the telling."""
    context, called = Context(), []

    def stop(name: str) -> None:
        called.append(name)
        context.forget(name)

    context.on_stop("a", lambda: stop("a"))
    context.on_stop("b", lambda: stop("b"))

    context.stop_generating()

    assert ["a", "b"] == called
