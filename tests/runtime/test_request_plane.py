"""`dynlab.runtime.request_plane` and `reply`: a request crosses to the worker's thread, and its items come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import BaseModel

from dynlab.errors import PayloadError, RequestCancelledError, StreamIncompleteError
from dynlab.runtime.context import Context
from dynlab.runtime.reply import WINDOW, ResponseStream
from tests.runtime.cluster import PATIENCE_S, Cluster, Happened, data, first, settled

pytestmark = pytest.mark.usefixtures("each_loop")

INNER = "test.Inner.generate"


async def read(stream: ResponseStream, count: int | None = None) -> list[Any]:
    """Read so many items, or all."""
    items: list[Any] = []
    while count is None or len(items) < count:
        try:
            items.append((await asyncio.wait_for(anext(stream), PATIENCE_S)).data())
        except StopAsyncIteration:
            break
    return items


async def numbers(request: int) -> AsyncGenerator[int, None]:
    for n in range(request):
        yield n


class Endless:
    """A handler that counts for ever, and says what became of it."""

    def __init__(self) -> None:
        self.produced = 0
        self.begun = Happened()
        self.closed = Happened()
        self.stopped = Happened()

    async def __call__(self, request: Any, context: Context) -> AsyncGenerator[int, None]:
        self.begun.set()
        try:
            while True:
                yield self.produced
                self.produced += 1
                await asyncio.sleep(0)
        except GeneratorExit:
            if context.is_stopped():
                self.stopped.set()
            self.closed.set()
            raise


def endless(handler: Endless) -> Any:
    """Make a function of it: a handler is recognised by its signature."""

    async def count(request: Any, context: Context) -> AsyncGenerator[int, None]:
        async with contextlib.aclosing(handler(request, context)) as items:
            async for item in items:
                yield item

    return count


# ---------------------------------------------------------------------------- items


async def test_items_come_in_order(cluster: Cluster) -> None:
    """A thousand items, many windows full, arrive as they were sent, each once."""
    await cluster.worker(numbers)

    assert list(range(1000)) == await data((await cluster.client()).random(1000))


async def test_no_items_are_an_empty_stream(cluster: Cluster) -> None:
    """A handler that yields nothing ends the stream without an error, and it stays ended."""
    await cluster.worker(numbers)
    stream = await (await cluster.client()).random(0)

    assert ([], []) == (await read(stream), await read(stream))


async def test_a_handler_runs_on_its_workers_thread(cluster: Cluster) -> None:
    """Each instance answers from the thread that bears its name."""

    async def where(request: Any) -> AsyncGenerator[str, None]:
        yield threading.current_thread().name

    await cluster.worker(where)
    await cluster.worker(where)
    client = await cluster.client()

    assert ["dynlab-Worker-1", "dynlab-Worker-2"] == [await first(client.round_robin(None)) for _ in range(2)]


async def test_a_handler_gets_the_request_and_its_context(cluster: Cluster) -> None:
    """The context carries the request's id from tier to tier."""

    async def tell(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        yield [request, context.id(), context.is_stopped()]

    await cluster.worker(tell)

    assert [{"n": [1]}, "r-7", False] == await first(
        (await cluster.client()).random({"n": (1,)}, context=Context("r-7"))
    )


async def test_nobody_can_change_what_was_sent(cluster: Cluster) -> None:
    """Neither the caller changes the worker's request afterwards, nor the worker the caller's or an item it yielded."""
    look, changed = Happened(), Happened()

    async def change(request: Any) -> AsyncGenerator[Any, None]:
        await asyncio.to_thread(look.wait, PATIENCE_S)
        yield request
        request["n"] = "changed by the worker"
        yield request
        changed.set()

    await cluster.worker(change)
    request = {"n": 1}
    stream = await (await cluster.client()).random(request)
    request["n"] = 2
    look.set()
    await changed.wait_here()

    assert [{"n": 1}, {"n": "changed by the worker"}] == await read(stream)
    assert {"n": 2} == request


async def test_many_streams_at_once(cluster: Cluster) -> None:
    """Two hundred streams of fifty items over four workers: nothing is lost, mixed up or left in flight."""

    async def tagged(request: int) -> AsyncGenerator[list[int], None]:
        for n in range(50):
            yield [request, n]
            await asyncio.sleep(0)

    for _ in range(4):
        await cluster.worker(tagged)
    client = await cluster.client()

    answers = await asyncio.gather(*(data(client.round_robin(k)) for k in range(200)))

    assert [[[k, n] for n in range(50)] for k in range(200)] == answers
    assert [0, 0, 0, 0] == cluster.active()


# ---------------------------------------------------------------------------- window


async def test_a_worker_runs_at_most_a_window_ahead(cluster: Cluster) -> None:
    """A reader who does not read holds the worker at `WINDOW` items; what is read lets as many more come."""
    produced: list[int] = []
    reached = {WINDOW: Happened(), WINDOW * 3 // 2: Happened()}

    async def count(request: int) -> AsyncGenerator[int, None]:
        for n in range(request):
            produced.append(n)
            if len(produced) in reached:
                reached[len(produced)].set()
            yield n

    worker = await cluster.worker(count)
    stream = await (await cluster.client()).random(1000)
    await reached[WINDOW].wait_here()
    await worker.settled()
    assert WINDOW == len(produced)

    begun = await read(stream, WINDOW // 2)
    await reached[WINDOW * 3 // 2].wait_here()
    await worker.settled()
    assert WINDOW * 3 // 2 == len(produced)

    assert list(range(1000)) == begun + await read(stream)


async def test_a_slow_reader_loses_nothing(cluster: Cluster) -> None:
    """A reader who does other work between the items gets them all."""
    await cluster.worker(numbers)
    items: list[int] = []

    async for item in await (await cluster.client()).random(300):
        items.append(item.data())
        await settled()

    assert list(range(300)) == items


async def test_a_stalled_stream_holds_up_no_other(cluster: Cluster) -> None:
    """While one answer waits for its reader, the same worker answers others."""
    await cluster.worker(numbers)
    client = await cluster.client()
    stalled = await client.random(1000)

    assert list(range(500)) == await data(client.random(500))
    await stalled.aclose()


# ---------------------------------------------------------------------------- errors


async def test_an_error_comes_after_the_items_before_it(cluster: Cluster) -> None:
    """However late the reader reads, the items that were sent come first, then the handler's own exception."""
    raised = Happened()

    async def fail(request: int) -> AsyncGenerator[int, None]:
        for n in range(request):
            yield n
        raised.set()
        raise LookupError("out of words")

    await cluster.worker(fail)
    for count in (0, 3):
        stream = await (await cluster.client()).random(count)
        await raised.wait_here()
        await settled()

        assert list(range(count)) == await read(stream, count)
        with pytest.raises(LookupError, match="out of words"):
            await anext(stream)


async def test_an_error_is_raised_once(cluster: Cluster) -> None:
    """Whoever reads on after the error sees a plain end."""

    async def fail(request: Any) -> AsyncGenerator[int, None]:
        raise LookupError
        yield

    await cluster.worker(fail)
    stream = await (await cluster.client()).random(None)
    with pytest.raises(LookupError):
        await anext(stream)

    assert [] == await read(stream)


async def test_an_error_keeps_its_type_and_tells_its_way_over_two_hops(cluster: Cluster) -> None:
    """The reader catches what the innermost handler raised, with one note from each instance it passed."""

    async def inner(request: Any) -> AsyncGenerator[Any, None]:
        yield 1
        raise ZeroDivisionError("no")

    await cluster.worker(inner, INNER)
    await cluster.worker(relay(cluster))
    stream = await (await cluster.client()).random(None)

    assert [1] == await read(stream, 1)
    with pytest.raises(ZeroDivisionError, match="no") as caught:
        await anext(stream)
    assert [
        "raised by test/Inner/generate on instance 7001 (Worker-1)",
        "raised by test/Worker/generate on instance 7002 (Worker-2)",
    ] == caught.value.__notes__


def relay(cluster: Cluster) -> Any:
    """A middle tier: it passes on what the inner tier yields."""

    async def middle(request: Any) -> AsyncGenerator[Any, None]:
        client = await cluster.workers[-1].runtime.endpoint(INNER).client()
        async for item in await client.round_robin(request):
            yield item.data()

    return middle


@pytest.mark.parametrize("exit_with", [SystemExit, KeyboardInterrupt])
async def test_a_handler_cannot_end_a_loop(cluster: Cluster, exit_with: type[BaseException]) -> None:
    """`sys.exit()` in a handler fails its own request, on the caller's side too; the worker goes on answering."""

    async def leave(request: Any) -> AsyncGenerator[str, None]:
        if request == "leave":
            raise exit_with("bye")
        yield "still here"

    await cluster.worker(leave)
    client = await cluster.client()

    with pytest.raises(RuntimeError, match=f"the handler raised {exit_with.__name__}: bye"):
        await data(client.random("leave"))

    assert ["still here"] == await data(client.random("stay"))


async def test_a_handler_that_cancels_itself(cluster: Cluster) -> None:
    """A CancelledError that nobody asked for does not cancel the caller's task."""

    async def quit_work(request: Any) -> AsyncGenerator[int, None]:
        yield 1
        raise asyncio.CancelledError

    await cluster.worker(quit_work)
    stream = await (await cluster.client()).random(None)

    assert [1] == await read(stream, 1)
    with pytest.raises(RequestCancelledError, match="cancelled itself"):
        await anext(stream)


async def test_an_item_that_cannot_travel_is_the_handlers_error(cluster: Cluster) -> None:
    """Yielding a model raises PayloadError at the reader, after the items before it, and closes the generator."""
    closed = Happened()

    class Answer(BaseModel):
        text: str = ""

    async def answer(request: Any) -> AsyncGenerator[Any, None]:
        try:
            yield 1
            yield Answer()
        finally:
            closed.set()

    await cluster.worker(answer)
    stream = await (await cluster.client()).random(None)

    assert [1] == await read(stream, 1)
    with pytest.raises(PayloadError, match="Answer cannot travel"):
        await anext(stream)
    assert closed.is_set()


async def test_a_request_that_cannot_travel_is_the_callers_error(cluster: Cluster) -> None:
    """A model as a request raises where it is sent, and nothing is in flight afterwards."""
    await cluster.worker(numbers)

    with pytest.raises(PayloadError):
        await (await cluster.client()).random(object())

    assert [0] == cluster.active()


# ---------------------------------------------------------------------------- death


async def test_a_worker_that_dies_in_the_middle(cluster: Cluster) -> None:
    """The reader gets the items that were sent, then StreamIncompleteError with their number."""
    sent = Happened()

    async def stall(request: Any) -> AsyncGenerator[int, None]:
        yield from_first
        yield 1
        sent.set()
        await asyncio.Event().wait()

    from_first = 0
    worker = await cluster.worker(stall)
    stream = await (await cluster.client()).random(None)
    await sent.wait_here()
    worker.kill()

    assert [0, 1] == await read(stream, 2)
    with pytest.raises(StreamIncompleteError, match="7001 of endpoint test/Worker/generate ended after 2 item"):
        await anext(stream)
    assert [0] == cluster.active()


async def test_a_blocked_worker_can_die(cluster: Cluster) -> None:
    """A handler that blocks its thread does not keep its reader waiting when the worker is killed."""
    blocked, free = Happened(), Happened()

    async def block(request: Any) -> AsyncGenerator[int, None]:
        yield 1
        blocked.set()
        free.wait(PATIENCE_S)

    worker = await cluster.worker(block)
    stream = await (await cluster.client()).random(None)
    await blocked.wait_here()
    worker.kill()
    try:
        assert [1] == await read(stream, 1)
        with pytest.raises(StreamIncompleteError):
            await anext(stream)
    finally:
        free.set()


async def test_a_request_that_was_not_begun_breaks_off_too(cluster: Cluster) -> None:
    """What waits at a blocked worker when it dies fails, and is never begun."""
    blocked, free, begun = Happened(), Happened(), []

    async def block(request: Any) -> AsyncGenerator[int, None]:
        begun.append(request)
        blocked.set()
        free.wait(PATIENCE_S)
        yield 1

    worker = await cluster.worker(block)
    client = await cluster.client()
    streams = [await client.random("first")]
    await blocked.wait_here()
    streams.append(await client.random("second"))
    worker.kill()
    try:
        for stream in streams:
            with pytest.raises(StreamIncompleteError, match="after 0 item"):
                await anext(stream)
    finally:
        free.set()
        assert worker.thread.join(PATIENCE_S)
    assert ["first"] == begun


async def test_a_replaced_handler_dies_with_its_worker(cluster: Cluster) -> None:
    """A call that an earlier handler of the endpoint still answers breaks off like the others."""
    begun = Happened()

    async def stall(request: Any) -> AsyncGenerator[int, None]:
        begun.set()
        await asyncio.Event().wait()
        yield 1

    worker = await cluster.worker(stall)
    stream = await (await cluster.client()).random(None)
    await begun.wait_here()
    await worker.serve(numbers)
    worker.kill()

    with pytest.raises(StreamIncompleteError):
        await anext(stream)


# ---------------------------------------------------------------------------- hanging up


async def test_closing_a_stream_closes_the_generator(cluster: Cluster) -> None:
    """`aclose` reaches the worker: its context is stopped, and its generator sees GeneratorExit."""
    handler = Endless()
    await cluster.worker(endless(handler))
    stream = await (await cluster.client()).random(None)
    assert [0, 1, 2] == await read(stream, 3)

    await stream.aclose()
    await stream.aclose()

    await handler.closed.wait_here()
    assert handler.stopped.is_set()
    assert ([], [0]) == (await read(stream), cluster.active())


async def test_dropping_a_stream_closes_the_generator(cluster: Cluster) -> None:
    """Who breaks out of the loop and forgets the stream has hung up, even while a Context of theirs is kept."""
    handler = Endless()
    await cluster.worker(endless(handler))
    context = Context("r-1")

    async for item in await (await cluster.client()).random(None, context=context):
        if item.data() == 2:
            break

    await handler.closed.wait_here()
    await settled()
    assert ([0], False) == (cluster.active(), context.is_stopped())


async def test_a_stream_may_be_dropped_on_another_thread(cluster: Cluster) -> None:
    """The collector runs wherever it likes: the stream is closed on its own loop all the same."""
    handler = Endless()
    await cluster.worker(endless(handler))
    held = [await (await cluster.client()).random(None)]
    await handler.begun.wait_here()

    await asyncio.to_thread(held.clear)

    await handler.closed.wait_here()
    await settled()
    assert [0] == cluster.active()


async def test_a_cancelled_reader_hangs_up(cluster: Cluster) -> None:
    """Cancelling the task that reads closes the worker's generator."""
    handler = Endless()
    await cluster.worker(endless(handler))
    client = await cluster.client()
    reading = asyncio.create_task(data(client.random(None)))
    await handler.begun.wait_here()

    reading.cancel()
    await asyncio.wait([reading])

    await handler.closed.wait_here()
    assert [0] == cluster.active()


async def test_hanging_up_reaches_the_innermost_tier(cluster: Cluster) -> None:
    """The reader's goodbye closes the middle tier's stream, and with it the inner worker's generator."""
    handler = Endless()
    await cluster.worker(endless(handler), INNER)
    await cluster.worker(relay(cluster))
    stream = await (await cluster.client()).random(None)
    assert [0, 1, 2] == await read(stream, 3)

    await stream.aclose()

    await handler.closed.wait_here()
    assert handler.stopped.is_set()


async def test_who_hangs_up_before_the_handler_begins_is_not_answered(cluster: Cluster) -> None:
    """A request that is taken back while its worker is busy is never begun."""
    blocked, free, begun = Happened(), Happened(), []

    async def note(request: Any) -> AsyncGenerator[int, None]:
        begun.append(request)
        yield 1

    async def block() -> None:
        blocked.set()
        free.wait(PATIENCE_S)

    worker = await cluster.worker(note)
    worker.thread.submit(block())
    await blocked.wait_here()
    await (await (await cluster.client()).random("taken back")).aclose()
    free.set()
    await worker.settled()

    assert ([], [0]) == (begun, cluster.active())


async def test_stopping_a_context_ends_its_stream_in_silence(cluster: Cluster) -> None:
    """`stop_generating` ends the caller's stream without an error; the handler sees `is_stopped` at its next look."""
    handler = Endless()
    await cluster.worker(endless(handler))
    context = Context("r-1")
    stream = await (await cluster.client()).random(None, context=context)
    assert [0, 1] == await read(stream, 2)

    context.stop_generating()

    assert ([], [0]) == (await read(stream), cluster.active())
    await handler.stopped.wait_here()


async def test_a_handler_may_wait_for_the_stop(cluster: Cluster) -> None:
    """`async_killed_or_stopped` wakes a handler that has nothing to yield."""
    told: list[bool] = []
    ended = Happened()

    async def wait(request: Any, context: Context) -> AsyncGenerator[int, None]:
        yield 1
        told.append(await context.async_killed_or_stopped())
        told.append(context.is_stopped())
        ended.set()

    await cluster.worker(wait)
    context = Context("r-1")
    stream = await (await cluster.client()).random(None, context=context)
    assert [1] == await read(stream, 1)

    context.stop_generating()

    await ended.wait_here()
    assert [True, True] == told


async def test_a_stop_wakes_a_waiting_reader(cluster: Cluster) -> None:
    """A task that waits for an item sees the end."""

    async def stall(request: Any, context: Context) -> AsyncGenerator[int, None]:
        await context.async_killed_or_stopped()
        yield 1

    await cluster.worker(stall)
    context = Context("r-1")
    stream = await (await cluster.client()).random(None, context=context)
    reading = asyncio.create_task(read(stream))
    await settled()

    context.stop_generating()

    assert [] == await asyncio.wait_for(reading, PATIENCE_S)


async def test_a_stopped_context_sends_nothing(cluster: Cluster) -> None:
    """A request under a context that is stopped already is an empty stream; no worker hears of it."""
    begun: list[Any] = []

    async def note(request: Any) -> AsyncGenerator[int, None]:
        begun.append(request)
        yield 1

    worker = await cluster.worker(note)
    context = Context("r-1")
    context.stop_generating()

    assert [] == await data((await cluster.client()).random(None, context=context))
    await worker.settled()
    assert [] == begun


async def test_a_finished_handler_stops_what_it_left_open(cluster: Cluster) -> None:
    """A handler that keeps a stream of its own open and returns has hung up on it."""
    handler = Endless()
    kept: list[ResponseStream] = []

    async def careless(request: Any) -> AsyncGenerator[Any, None]:
        client = await cluster.workers[-1].runtime.endpoint(INNER).client()
        kept.append(await client.random(None))
        yield (await anext(kept[0])).data()

    await cluster.worker(endless(handler), INNER)
    await cluster.worker(careless)

    assert [0] == await data((await cluster.client()).random(None))
    await handler.closed.wait_here()


# ---------------------------------------------------------------------------- leaving


async def test_a_worker_that_leaves_finishes_its_answers(cluster: Cluster) -> None:
    """`drained` waits for the calls under way, and their readers get all items."""
    begun, go_on = Happened(), Happened()

    async def slow(request: Any) -> AsyncGenerator[int, None]:
        yield 1
        begun.set()
        await asyncio.to_thread(go_on.wait, PATIENCE_S)
        yield 2

    worker = await cluster.worker(slow)
    stream = await (await cluster.client()).random(None)
    await begun.wait_here()
    (server,) = worker.runtime.servers
    worker.runtime.shutdown()
    leaving = asyncio.create_task(worker.run(server.drained()))
    await worker.settled()
    assert (1, False) == (server.active, leaving.done())

    go_on.set()

    await leaving
    assert (0, [1, 2]) == (server.active, await read(stream))


async def test_a_worker_in_a_hurry_breaks_its_answers_off(cluster: Cluster) -> None:
    """`drained(hurry=True)` cancels the calls under way; their readers see an incomplete stream."""
    begun = Happened()

    async def stall(request: Any) -> AsyncGenerator[int, None]:
        yield 1
        begun.set()
        await asyncio.Event().wait()

    worker = await cluster.worker(stall)
    stream = await (await cluster.client()).random(None)
    await begun.wait_here()
    (server,) = worker.runtime.servers

    await worker.run(server.drained(hurry=True))

    assert [1] == await read(stream, 1)
    with pytest.raises(StreamIncompleteError):
        await anext(stream)
