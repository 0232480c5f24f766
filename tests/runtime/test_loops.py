"""`dynlab.runtime.loops`: a mailbox loses nothing and wakes its loop once; a loop's thread begins and ends cleanly."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dynlab.runtime import loops
from dynlab.runtime.loops import LoopThread, Mailbox
from tests.runtime.cluster import PATIENCE_S, Happened, settled

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@pytest.fixture
def thread(each_loop: str) -> Iterator[LoopThread]:
    """Start a loop's thread, of each kind in turn, and end it."""
    thread = LoopThread("dynlab-test")
    thread.start()
    yield thread
    thread.stop()
    assert thread.join(PATIENCE_S)


async def who() -> str:
    return WHO.get()


# ---------------------------------------------------------------------------- mailbox


async def test_messages_arrive_in_the_order_they_were_posted() -> None:
    """A thousand messages of one sender come as they were sent."""
    got: list[int] = []
    mailbox = Mailbox.here()

    for n in range(1000):
        mailbox.post(got.append, n)
    await settled()

    assert list(range(1000)) == got


async def test_many_posts_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much piles up before the loop looks, it is woken one time, and again for what comes later."""
    loop, wakes = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *args, **kwargs: (wakes.append(args), wake(*args, **kwargs))[1]
    )
    mailbox, got = Mailbox.here(), []

    for _ in range(2):
        for n in range(100):
            mailbox.post(got.append, n)
        await settled()

    assert (200, 2) == (len(got), len(wakes))


async def test_what_is_posted_by_a_delivery_waits_its_turn() -> None:
    """A delivery that posts on and on does not keep the loop from its other work."""
    mailbox, delivered = Mailbox.here(), 0
    enough = asyncio.Event()

    def again(message: None) -> None:
        nonlocal delivered
        delivered += 1
        if not enough.is_set():
            mailbox.post(again, message)

    mailbox.post(again, None)
    await asyncio.wait_for(settled(), PATIENCE_S)
    enough.set()
    await settled()

    assert 1 < delivered <= 20


async def test_a_failing_delivery_does_not_hold_up_those_behind_it() -> None:
    """Its error goes to the loop's handler, and the next message arrives."""
    got: list[int] = []
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    mailbox = Mailbox.here()

    mailbox.post(lambda _: 1 // 0, None)
    mailbox.post(got.append, 2)
    await settled()

    assert [2] == got
    assert [ZeroDivisionError] == [type(problem["exception"]) for problem in problems]


def test_senders_on_many_threads_lose_nothing(thread: LoopThread) -> None:
    """Eight threads post a thousand messages each: all arrive, on the loop's thread, in each sender's order."""
    got: list[tuple[int, int]] = []
    places: set[str] = set()
    all_there = Happened()

    def deliver(message: tuple[int, int]) -> None:
        got.append(message)
        places.add(threading.current_thread().name)
        if len(got) == 8000:
            all_there.set()

    def send(sender: int) -> None:
        for n in range(1000):
            thread.mailbox.post(deliver, (sender, n))

    senders = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    assert all_there.wait(PATIENCE_S)
    assert {"dynlab-test"} == places
    assert [list(range(1000))] * 8 == [[n for s, n in got if s == sender] for sender in range(8)]


async def test_a_loop_has_one_mailbox() -> None:
    """Whoever asks for the mailbox of a loop gets the same, also from another thread."""
    loop = asyncio.get_running_loop()

    assert Mailbox.here() is Mailbox.of(loop)
    assert Mailbox.here() is await asyncio.to_thread(Mailbox.of, loop)


def test_a_closed_loop_takes_no_messages(each_loop: str) -> None:
    """`post` to a loop that is closed says so, each time it is asked."""
    loop = loops._new_loop()
    mailbox = Mailbox.of(loop)
    loop.close()

    assert [False] * 3 == [mailbox.post(lambda _: None, None) for _ in range(3)]


def test_a_loop_closed_with_messages_waiting_takes_no_more(each_loop: str) -> None:
    """What was posted and never delivered must not make the next sender believe that somebody is awake."""
    loop = loops._new_loop()
    mailbox = Mailbox.of(loop)
    assert mailbox.post(lambda _: None, None)
    loop.close()

    assert [False] * 3 == [mailbox.post(lambda _: None, None) for _ in range(3)]


def test_a_forgotten_loop_takes_no_messages(each_loop: str) -> None:
    """A mailbox does not keep its loop alive, and when the loop is gone `post` says so, each time it is asked."""
    loop = loops._new_loop()
    mailbox = Mailbox.of(loop)
    loop.close()
    del loop
    gc.collect()

    assert [False] * 3 == [mailbox.post(lambda _: None, None) for _ in range(3)]


# ---------------------------------------------------------------------------- thread


def test_a_thread_runs_coroutines_under_its_name(thread: LoopThread) -> None:
    """`submit` runs a coroutine on the loop of the named daemon thread."""

    async def where() -> tuple[str, bool, bool]:
        current = threading.current_thread()
        return current.name, current.daemon, asyncio.get_running_loop() is thread.loop

    assert ("dynlab-test", True, True) == thread.submit(where()).result(PATIENCE_S)


def test_the_loop_is_of_the_kind_that_was_asked_for(thread: LoopThread, each_loop: str) -> None:
    """These tests do run on asyncio's loop and on uvloop's."""
    assert each_loop == type(thread.loop).__module__.partition(".")[0]


def test_a_thread_starts_in_an_empty_context(each_loop: str) -> None:
    """Nothing of the cell that started it leaks into a thread, nor of the one that submits to it."""
    token = WHO.set("the reader")
    thread = LoopThread("dynlab-test")
    thread.start()
    try:
        assert "nobody" == thread.submit(who()).result(PATIENCE_S)
    finally:
        WHO.reset(token)
        thread.stop()
        assert thread.join(PATIENCE_S)


def test_a_thread_keeps_the_context_it_is_given(each_loop: str) -> None:
    """What is set in the context is seen by what is submitted and by what is delivered."""
    context = contextvars.Context()
    context.run(WHO.set, "DummyWorker-1")
    thread = LoopThread("dynlab-test", context)
    thread.start()
    delivered: list[str] = []
    arrived = Happened()

    thread.mailbox.post(lambda _: (delivered.append(WHO.get()), arrived.set()), None)
    submitted = thread.submit(who()).result(PATIENCE_S)

    assert arrived.wait(PATIENCE_S)
    thread.stop()
    assert thread.join(PATIENCE_S)
    assert ("DummyWorker-1", ["DummyWorker-1"]) == (submitted, delivered)


def test_stopping_ends_the_thread_and_closes_the_loop(each_loop: str) -> None:
    """After `stop` and `join` the thread is gone, the loop closed, and the mailbox takes nothing."""
    thread = LoopThread("dynlab-test")
    mailbox = thread.mailbox
    thread.start()
    assert thread.is_alive

    thread.stop()

    assert thread.join(PATIENCE_S)
    assert (False, True) == (thread.is_alive, thread.loop.is_closed())
    assert [False] * 2 == [mailbox.post(lambda _: None, None) for _ in range(2)]


def test_stopping_cancels_what_runs(each_loop: str) -> None:
    """A task sees its CancelledError, and a generator its end, before the loop closes."""
    thread = LoopThread("dynlab-test")
    thread.start()
    seen: list[str] = []
    running = Happened()

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            seen.append("generator closed")

    async def work() -> None:
        left_open = numbers()
        await anext(left_open)
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("task cancelled")
            raise

    submitted = thread.submit(work())
    assert running.wait(PATIENCE_S)
    thread.stop()

    assert thread.join(PATIENCE_S)
    assert submitted.cancelled()
    assert {"task cancelled", "generator closed"} == set(seen)


def test_stopping_twice_is_stopping(each_loop: str) -> None:
    """A second `stop`, while tasks are still being cancelled, disturbs nothing; nor does one after the end."""
    thread = LoopThread("dynlab-test")
    thread.start()
    running, cancelled, go_on, finished = Happened(), Happened(), Happened(), Happened()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.to_thread(go_on.wait, PATIENCE_S)
            finished.set()

    thread.submit(work())
    assert running.wait(PATIENCE_S)
    thread.stop()
    assert cancelled.wait(PATIENCE_S)
    thread.stop()
    go_on.set()

    assert thread.join(PATIENCE_S)
    thread.stop()
    assert finished.is_set()


def test_a_blocked_thread_is_reported(each_loop: str) -> None:
    """`join` says False of a thread that a handler still blocks, and True once it is free."""
    thread = LoopThread("dynlab-test")
    thread.start()
    blocked, free = Happened(), Happened()

    async def block() -> None:
        blocked.set()
        free.wait(PATIENCE_S)

    thread.submit(block())
    assert blocked.wait(PATIENCE_S)
    thread.stop()

    assert not thread.join(0.01)
    free.set()
    assert thread.join(PATIENCE_S)


def test_a_thread_may_be_stopped_from_within(each_loop: str) -> None:
    """A coroutine on the loop stops its own thread, and `join` from there says that it still runs."""
    thread = LoopThread("dynlab-test")
    thread.start()

    async def leave() -> bool:
        thread.stop()
        return thread.join(0.0)

    assert not thread.submit(leave()).result(PATIENCE_S)
    assert thread.join(PATIENCE_S)


def test_the_fast_loop_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop a thread gets asyncio's loop."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    loop = loops._new_loop()

    loop.close()
    assert "asyncio" == type(loop).__module__.partition(".")[0]
