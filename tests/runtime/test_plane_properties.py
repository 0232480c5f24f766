"""The request plane under any interleaving: what holds for a stream whatever worker, reader and death do, and when."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from dynlab.errors import NoInstancesError, RequestCancelledError, StreamIncompleteError, WorkerUnavailableError
from dynlab.runtime import loops
from dynlab.runtime.context import Context
from dynlab.runtime.reply import WINDOW, ResponseStream
from tests.runtime.cluster import PATIENCE_S, Cluster, Worker, settled

BROKEN = (StreamIncompleteError, WorkerUnavailableError, NoInstancesError)
"""What a reader may get when a worker was killed, and never otherwise."""
ERRORS = (LookupError, ZeroDivisionError, asyncio.CancelledError)
LEAVING = ("close", "drop", "stop")
LOOPS = ["asyncio"] if importlib.util.find_spec("uvloop") is None else ["asyncio", "uvloop"]

# Around the edges of the window, where what is granted matters, as often as anywhere.
COUNTS = st.integers(0, 3 * WINDOW) | st.sampled_from(
    [edge + d for edge in (WINDOW // 2, WINDOW, WINDOW * 3 // 2, WINDOW * 2) for d in (-1, 0, 1)]
)
FEW = st.integers(0, 5) | COUNTS


@dataclass(frozen=True)
class Script:
    """What the worker and the reader of one stream do."""

    items: int
    error: type[BaseException] | None = None
    """What the handler raises after its items, if anything."""
    pace: int = 0
    """The handler lets others run after so many items; 0 is never."""
    take: int = 0
    """After so many items the reader stalls, and then does `then`."""
    stalls: bool = False
    then: str = "read on"
    lag: int = 0
    """The reader lets others run so often between two items."""


def scripts(then: tuple[str, ...]) -> st.SearchStrategy[Script]:
    return st.builds(
        Script,
        items=FEW,
        error=st.none() | st.sampled_from(ERRORS),
        pace=st.integers(0, 3),
        take=FEW,
        stalls=st.booleans(),
        then=st.sampled_from(then),
        lag=st.integers(0, 2),
    )


@dataclass(frozen=True)
class Kill:
    """A worker is killed when the reader of a stream has taken so many items."""

    worker: int
    by: int
    at: int


@dataclass
class Attempt:
    """What one run of the handler did. Written by the worker's thread."""

    worker: str
    sent: int = 0
    ahead: int = 0
    over: bool = False


@dataclass
class Run:
    """What became of one stream. Written by the reader's loop, but for the attempts."""

    script: Script
    number: int
    went_far: asyncio.Event
    """The worker has sent all that it can while the reader stalls, or its attempt is over."""
    got: list[Any] = field(default_factory=list)
    taken: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    outcome: str | type[BaseException] = "running"
    sent_while_stalled: int | None = None

    @property
    def reach(self) -> int:
        """How far a worker can get while its reader has taken `take` items: half windows are granted."""
        granted = WINDOW + self.script.take // (WINDOW // 2) * (WINDOW // 2)
        return min(self.script.items, granted)

    @property
    def expected(self) -> list[Any]:
        """What the handler yields if nobody breaks it off."""
        return [[self.number, n] for n in range(self.script.items)]

    @property
    def expected_end(self) -> str | type[BaseException]:
        """What comes after the items; a handler that cancels itself must not cancel its reader."""
        if self.script.error is asyncio.CancelledError:
            return RequestCancelledError
        return self.script.error or "ended"


class Play:
    """Some streams over some workers, played to their end on a loop of their own."""

    def __init__(self, workers: int, scripts: list[Script], kill: Kill | None = None, migration: int = 0) -> None:
        self.workers = workers
        self.scripts = scripts
        self.kill = kill
        self.migration = migration
        self.runs: list[Run] = []
        self.killed: Worker | None = None

    def run(self) -> list[Run]:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._play())
        return self.runs

    async def _play(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.cluster = cluster = Cluster()
        cluster.planes.migration_limit = self.migration
        self.runs = [Run(script, number, asyncio.Event()) for number, script in enumerate(self.scripts)]
        try:
            for n in range(self.workers):
                await cluster.worker(self._handler(f"Worker-{n + 1}"))
            client = await cluster.client()
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as readers:
                for run in self.runs:
                    readers.create_task(self._read(client, run))
            await self._nothing_is_left()
        finally:
            cluster.close()

    def _handler(self, worker: str) -> Callable[..., Any]:
        async def play(request: int) -> AsyncGenerator[list[int], None]:
            run = self.runs[request]
            script = run.script
            attempt = Attempt(worker)
            run.attempts.append(attempt)
            try:
                for n in range(script.items):
                    attempt.sent += 1
                    attempt.ahead = max(attempt.ahead, attempt.sent - run.taken)
                    if attempt.sent == run.reach:
                        self.loop.call_soon_threadsafe(run.went_far.set)
                    yield [request, n]
                    if script.pace and n % script.pace == 0:
                        await asyncio.sleep(0)
                if script.error is not None:
                    raise script.error("as the script says")
            finally:
                attempt.over = True
                self.loop.call_soon_threadsafe(run.went_far.set)

        return play

    async def _read(self, client: Any, run: Run) -> None:
        """Send the request and read as the script says."""
        script = run.script
        context = Context(f"r-{run.number}")
        try:
            stream: ResponseStream = await client.round_robin(run.number, context=context)
            self._kill_if_due(run)
            while run.taken < script.take:
                await self._take(stream, run)
            if script.stalls:
                await run.went_far.wait()
                run.sent_while_stalled = sum(attempt.sent for attempt in run.attempts)
            if script.then == "read on":
                while True:
                    await self._take(stream, run)
            run.outcome = "left"
            if script.then == "close":
                await stream.aclose()
            elif script.then == "stop":
                context.stop_generating()
            if script.then != "drop":
                assert [] == [item async for item in stream]
        except StopAsyncIteration:
            run.outcome = "ended"
        except Exception as error:
            run.outcome = type(error)

    async def _take(self, stream: ResponseStream, run: Run) -> None:
        item = (await anext(stream)).data()
        run.taken += 1
        run.got.append(item)
        self._kill_if_due(run)
        for _ in range(run.script.lag):
            await asyncio.sleep(0)

    def _kill_if_due(self, run: Run) -> None:
        if self.kill is None or self.killed is not None or (run.number, run.taken) != (self.kill.by, self.kill.at):
            return
        self.killed = self.cluster.workers[self.kill.worker % self.workers]
        self.killed.kill()
        for other in self.runs:  # who stalls for it would wait for ever
            other.went_far.set()

    async def _nothing_is_left(self) -> None:
        """Nothing is in flight, no handler is open, and no loop has a task."""
        await settled()  # the drop of a stream is posted
        for worker in self.cluster.workers:
            if worker is self.killed:
                assert worker.thread.join(PATIENCE_S)
            else:
                await worker.run(nothing_runs())
                assert [0] == [server.active for server in worker.runtime.servers]
        assert [0] * self.workers == self.cluster.active()
        assert all(attempt.over for run in self.runs for attempt in run.attempts)
        assert {asyncio.current_task()} == asyncio.all_tasks()


async def nothing_runs() -> None:
    """Wait until the loop has no other task."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.fixture(params=LOOPS)
def loop_kind(request: pytest.FixtureRequest) -> Any:
    """Run the examples of a test with threads on this kind of loop."""
    if request.param == "asyncio":
        with mock.patch.object(loops, "_new_loop", asyncio.new_event_loop):
            yield request.param
    else:
        yield request.param


def many(examples: int) -> settings:
    # The kind of loop stays the same for all examples of a test, so its fixture may too.
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, suppress_health_check=quiet)


def assert_sound(run: Run) -> None:
    """What holds for every stream: a prefix, in order, nothing twice, and no worker beyond the window."""
    assert run.expected[: len(run.got)] == run.got
    assert len(run.got) <= max((attempt.sent for attempt in run.attempts), default=0)
    # One more: an item is taken a moment before the reader has counted it.
    assert [] == [attempt.ahead for attempt in run.attempts if attempt.ahead > WINDOW + 1]


def assert_whole(run: Run) -> None:
    """What a reader gets who reads to the end of a stream that nobody broke."""
    assert (run.expected, run.expected_end) == (run.got, run.outcome)


# ---------------------------------------------------------------------------- properties


@pytest.mark.usefixtures("loop_kind")
@many(50)
@given(st.integers(1, 2), st.lists(scripts(("read on",)), min_size=1, max_size=4))
def test_who_reads_to_the_end_gets_everything(workers: int, scripts: list[Script]) -> None:
    """All items once and in order, then the handler's error with its type; and each stall holds the worker exactly."""
    for run in Play(workers, scripts).run():
        assert_sound(run)
        assert_whole(run)
        assert 1 == len(run.attempts)
        if run.sent_while_stalled is not None:
            assert run.reach == run.sent_while_stalled


@pytest.mark.usefixtures("loop_kind")
@many(50)
@given(st.integers(1, 2), st.lists(scripts(("read on", *LEAVING)), min_size=1, max_size=4))
def test_who_leaves_disturbs_nobody(workers: int, scripts: list[Script]) -> None:
    """A reader may close, drop or stop its stream after any item: it has a prefix, all others have everything."""
    for run in Play(workers, scripts).run():
        assert_sound(run)
        event(str(run.outcome))
        if run.outcome == "left":
            assert run.script.take == len(run.got)
        else:
            assert_whole(run)


@pytest.mark.usefixtures("loop_kind")
@many(60)
@given(
    workers=st.integers(1, 3),
    scripts=st.lists(scripts(("read on", "read on", *LEAVING)), min_size=1, max_size=5),
    kill=st.builds(Kill, worker=st.integers(0, 2), by=st.integers(0, 2), at=FEW),
    migration=st.integers(0, 2),
)
def test_a_killed_worker_breaks_its_own_streams_only(
    workers: int, scripts: list[Script], kill: Kill, migration: int
) -> None:
    """Each stream is whole, or left, or ends after a prefix with an error that says the worker is gone."""
    play = Play(workers, scripts, kill, migration)
    for run in play.run():
        assert_sound(run)
        event(str(run.outcome))
        if run.outcome in BROKEN:
            names = {attempt.worker for attempt in run.attempts}
            assert play.killed is not None
            assert names <= {play.killed.name}
        elif run.outcome == "left":
            assert run.script.take == len(run.got)
        else:
            assert_whole(run)


@pytest.mark.usefixtures("loop_kind")
async def test_a_worker_that_dies_just_as_it_answers(cluster: Cluster) -> None:
    """Death between a handler's end and the word of it leaves no reader waiting: the stream breaks off."""

    async def one(request: Any) -> AsyncGenerator[int, None]:
        yield 1

    worker = await cluster.worker(one)
    (server,) = worker.runtime.servers

    class DiesOnceAnswered(dict[Any, Any]):
        def pop(self, *key: Any) -> Any:
            taken_off = super().pop(*key)
            server.die()
            return taken_off

    with mock.patch.object(server, "_calls", DiesOnceAnswered()):
        stream = await (await cluster.client()).random(None)
        assert 1 == (await anext(stream)).data()
        with pytest.raises(StreamIncompleteError, match="after 1 item"):
            await asyncio.wait_for(anext(stream), PATIENCE_S)

    assert [0] == cluster.active()


@pytest.mark.parametrize("steps", [0, 1], ids=["not taken yet", "taken, not begun"])
async def test_who_leaves_in_a_hurry_answers_what_has_not_begun(cluster: Cluster, steps: int) -> None:
    """Calls that wait in the mailbox, or whose task has not taken its first step, are broken off, not forgotten."""

    async def handler(request: Any) -> AsyncGenerator[int, None]:
        yield 1

    worker = await cluster.worker(handler)
    client = await cluster.client()
    (server,) = worker.runtime.servers
    posted, busy = threading.Event(), threading.Event()

    async def leave() -> None:
        busy.set()
        posted.wait(PATIENCE_S)  # the loop is held, so what is posted meanwhile lies in the mailbox
        for _ in range(steps):
            await asyncio.sleep(0)
        await server.drained(hurry=True)

    leaving = asyncio.create_task(worker.run(leave()))
    await asyncio.to_thread(busy.wait, PATIENCE_S)
    streams = [await client.random(0) for _ in range(2)]
    posted.set()
    await leaving

    for stream in streams:
        with pytest.raises(StreamIncompleteError):
            await asyncio.wait_for(anext(stream), PATIENCE_S)
    assert (0, [0]) == (server.active, cluster.active())
