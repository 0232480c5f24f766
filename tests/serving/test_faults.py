"""What a graph promises while its workers die, block and stall, and while its clients leave, stop reading or stay."""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import RequestFailedError
from dynlab.runtime.discovery import LEASE_TTL_S, Discovery
from dynlab.runtime.instances import INHIBITED_S
from dynlab.runtime.reply import WINDOW
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving import serve as serve_module
from dynlab.serving.deployment import Deployment
from dynlab.serving.instance import ServiceInstance
from dynlab.serving.serve import serve

WAIT_S = 20.0
"""How long a test waits for what must come; only a failing one waits that long."""
WORKERS = 5
EVENTS = "text/event-stream"

ITEM = 65_536
"""Characters of an item that fills buffers quickly."""
BUFFERS = 8 * 1024 * 1024
"""More than all buffers below the windows hold: the transport's 64 KB, two portions of the Frontend's answer, and what
the system keeps for the two ends of a socket (on Linux at most 4 MB and, here, 4 KB)."""
MAX_ITEMS = 2_000
"""Where a worker that nothing holds back would end, before it fills this machine's memory."""


def threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("dynlab-"))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event to wait on."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


# ---------------------------------------------------------------------------- the graph


class Seen:
    """What the services below wait for, and what they tell."""

    asking: set[str]
    opened: threading.Event
    entered: threading.Semaphore
    closed: threading.Semaphore
    produced: int

    @classmethod
    def reset(cls) -> None:
        cls.asking = set()
        cls.opened = threading.Event()
        cls.entered, cls.closed = threading.Semaphore(0), threading.Semaphore(0)
        cls.produced = 0


@pytest.fixture(autouse=True)
def seen() -> Iterator[None]:
    Seen.reset()
    yield
    Seen.opened.set()


def stop_the_thread(how: str) -> None:
    if how == "sleep":
        while not Seen.opened.is_set():
            time.sleep(0.001)
    else:
        Seen.opened.wait(WAIT_S)


@service(dynamo={"namespace": "faults"}, workers=WORKERS)
class Worker:
    @dynamo_endpoint()
    async def one(self, request):
        """Think, then answer; between the item and the end there is nothing to wait for."""
        await asyncio.sleep(0.002)
        yield f"{request} by {dynamo_context['hostname']}"

    @dynamo_endpoint()
    async def two(self, request):
        await asyncio.sleep(0.001)
        yield request
        await asyncio.sleep(0.001)
        yield dynamo_context["hostname"]

    @dynamo_endpoint()
    async def quick(self, request):
        yield dynamo_context["hostname"]

    @dynamo_endpoint()
    async def block(self, request):
        """Stop the whole thread, as `time.sleep` or a long calculation does."""
        if dynamo_context["hostname"] == "Worker-0":
            stop_the_thread(request)
        yield dynamo_context["hostname"]

    @dynamo_endpoint()
    async def flood(self, request):
        try:
            while Seen.produced < MAX_ITEMS:
                Seen.produced += 1
                yield f"{Seen.produced:08}".ljust(ITEM, ".")
        finally:
            Seen.closed.release()

    @dynamo_endpoint()
    async def count(self, request, context):
        """Yield numbers up to the point where the reader will leave; go on when it has."""
        try:
            for n in range(request["items"]):
                if n == request["leave_after"]:
                    Seen.entered.release()
                    await context.async_killed_or_stopped()
                yield str(n)
            if request["leave_after"] == request["items"]:
                Seen.entered.release()
                await context.async_killed_or_stopped()
        finally:
            Seen.closed.release()

    @dynamo_endpoint()
    async def run(self, request):
        """Yield without ever waiting for the reader to do something."""
        Seen.entered.release()
        try:
            for n in range(500):
                yield str(n)
                await asyncio.sleep(0)
        finally:
            Seen.closed.release()

    @dynamo_endpoint()
    async def idle(self, request):
        yield "first"
        await asyncio.get_running_loop().create_future()

    @dynamo_endpoint()
    async def busy(self, request):
        while True:
            yield "on and on"
            await asyncio.sleep(0.05)


@service(dynamo={"namespace": "faults"})
class Processor:
    worker = depends(Worker)

    @async_on_start
    async def connect(self) -> None:
        component = dynamo_context["runtime"].namespace("faults").component("Worker")
        names = ("one", "two", "quick", "block", "flood", "count", "run", "idle", "busy")
        self.clients = {name: await component.endpoint(name).client() for name in names}

    @dynamo_endpoint()
    async def process(self, request):
        number = request["number"]
        Seen.asking.add(number)
        try:
            async for item in await self.clients[request["name"]].round_robin(request["body"], annotated=False):
                yield item
        finally:
            Seen.asking.discard(number)


@service(dynamo={"namespace": "faults"})
class Front:
    processor = depends(Processor)

    async def call(self, name: str, body: Any, number: str = "") -> AsyncIterator[Any]:
        async for item in self.processor.process({"name": name, "body": body, "number": number}):
            yield item

    @api
    async def one(self, prompt: str, request_id: str):
        async for item in self.call("one", prompt, request_id):
            yield item

    @api
    async def two(self, prompt: str, request_id: str):
        async for item in self.call("two", prompt, request_id):
            yield item

    @api
    async def any(self, name: str, body: Any = None):
        async for item in self.call(name, body):
            yield item


# ---------------------------------------------------------------------------- a client that is fast, and one by hand


class Answer(NamedTuple):
    status: int
    body: str


def post_bytes(path: str, body: Any, accept: str = EVENTS, *, request_id: str | None = None) -> bytes:
    content = json.dumps(body)
    named = "" if request_id is None else f"x-request-id: {request_id}\r\n"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n{named}content-length: {len(content)}\r\n\r\n"
    return (head + content).encode()


async def ask_all(deployment: Deployment, api: str, prompts: list[str], concurrency: int) -> dict[str, Answer]:
    """Ask every prompt once, with itself as request id; the same as `ask_many`, but the answers are events."""
    answers: dict[str, Answer] = {}
    queue = iter(prompts)

    async def ask_in_turn() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", deployment.port)
        with closing(writer):
            for prompt in queue:
                writer.write(post_bytes(f"/{api}", {"prompt": prompt, "request_id": prompt}))
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if announced := re.search(r"content-length: (\d+)", head):
                    body = await reader.readexactly(int(announced[1]))
                else:
                    body = b""
                    while size := int(await reader.readline(), 16):
                        body += await reader.readexactly(size)
                        await reader.readline()
                    await reader.readline()
                assert prompt not in answers
                answers[prompt] = Answer(int(head.split(" ", 2)[1]), body.decode())
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(ask_in_turn())
    return answers


def open_stream(
    deployment: Deployment, name: str, body: Any = None, accept: str = EVENTS, receive_buffer: int | None = None
) -> tuple[socket.socket, http.client.HTTPResponse]:
    """Send a request by hand; nothing is read of the answer but its head."""
    sock = send(deployment, name, body, accept, receive_buffer)
    response = http.client.HTTPResponse(sock, method="POST")
    response.begin()
    assert 200 == response.status
    return sock, response


def send(
    deployment: Deployment, name: str, body: Any = None, accept: str = EVENTS, receive_buffer: int | None = None
) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # only before connecting does it hold
    sock.settimeout(WAIT_S)
    sock.connect(("127.0.0.1", deployment.port))
    sock.sendall(post_bytes("/any", {"name": name, "body": body}, accept))
    return sock


# ---------------------------------------------------------------------------- killing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """The clock by which leases lapse and failed instances are forgiven; the test moves it."""
    clock = VirtualClock()
    monkeypatch.setattr(serve_module, "Discovery", functools.partial(Discovery, clock=clock))
    return clock


class Killer:
    """Kills one or two workers of a graph under load at a time, chosen by a seed, and starts others in their place.

    Between two rounds it waits until every request has ended that could have met a dead worker of the first. So no
    request meets more than two of them.
    """

    def __init__(self, deployment: Deployment, clock: VirtualClock, seed: int, *, between_steps: bool) -> None:
        self.killed: set[int] = set()
        self.rounds = 0
        self._deployment = deployment
        self._clock = clock
        self._random = random.Random(seed)
        self._between_steps = between_steps
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dynlab-killer")
        self._failed: BaseException | None = None

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._enough.set()
        self._thread.join(WAIT_S)
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                self._round()
        except BaseException as error:
            self._failed = error

    def _round(self) -> None:
        alive = [i for i in self._deployment.instances if i.service.name == "Worker" and i.state == "serving"]
        for instance in self._random.sample(alive, self._random.choice((1, 2))):
            while instance.state == "serving" and not self._enough.is_set():
                if not self._between_steps:
                    self._kill_at_work(instance)
                    time.sleep(0.001)
                else:
                    done = threading.Event()
                    instance.thread.mailbox.post(functools.partial(self._kill_and_tell, instance), done)
                    assert done.wait(WAIT_S)
        self._deployment.scale("Worker", WORKERS)
        self._clock.advance(LEASE_TTL_S)  # the dead leave the list
        under_way = set(Seen.asking)
        until(lambda: self._enough.is_set() or not under_way & Seen.asking)
        self.rounds += 1

    def _kill_at_work(self, instance: ServiceInstance) -> None:
        """Kill an instance if it has requests, wherever its thread is just now."""
        if instance.active and instance.state == "serving":
            self._deployment.kill("Worker", instance.number)
            self.killed.add(instance.instance_id)

    def _kill_and_tell(self, instance: ServiceInstance, done: threading.Event) -> None:
        self._kill_at_work(instance)
        done.set()


def tries(trace: Any) -> list[Any]:
    """The hops of a request to workers, in the order of the tries."""
    return [hop for hop in trace.hops if hop.service == "Worker"]


REQUESTS = 5_000
ROUNDS = 20
"""So often at least workers are killed; on a machine that starts threads slowly more requests are sent meanwhile."""


async def ask_while_killing(deployment: Deployment, api: str, killer: Killer) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    with killer:
        while not answers or killer.rounds < ROUNDS:
            more = range(len(answers), len(answers) + (1_000 if answers else REQUESTS))
            answers |= await ask_all(deployment, api, [f"p{n}" for n in more], 64)
    return answers


@pytest.mark.slow
async def test_with_migration_no_request_is_lost_while_workers_die(clock: VirtualClock) -> None:
    """Each of 5,000 requests gets its one right answer although hundreds of them lose their worker under their hands.

    What is promised: a request whose worker dies before its first item is sent to another worker, up to
    `migration_limit` times. Here it needs two at most, for a round kills two. A worker that dies after its item and
    before its end leaves the stream incomplete even so, as `test_without_migration_...` shows; these workers have
    nothing to wait for in between and are killed between two steps of their loop, so that none dies there.
    """
    async with serve(Front, migration_limit=3, seed=1) as deployment:
        killer = Killer(deployment, clock, 1, between_steps=True)
        answers = await ask_while_killing(deployment, "one", killer)

        assert len(answers) >= REQUESTS
        outcomes: Counter[str] = Counter()
        for prompt, answer in answers.items():
            *broken, last = tries(deployment.traces[prompt])
            assert (200, f"data: {prompt} by {last.worker}\n\n") == answer
            assert ("ok", 1) == (last.outcome, last.items)
            assert {hop.instance_id for hop in broken} <= killer.killed
            outcomes.update(hop.outcome for hop in broken)
        assert {"StreamIncompleteError", "WorkerUnavailableError"} >= set(outcomes)
        assert outcomes["StreamIncompleteError"] >= len(killer.killed) >= ROUNDS, (outcomes, killer.rounds)


@pytest.mark.slow
async def test_without_migration_just_the_requests_of_killed_workers_fail(clock: VirtualClock) -> None:
    """Of 5,000 requests those fail that a kill broke off or that ran into a dead worker, and no other.

    Before the first item it is HTTP 500 with StreamIncompleteError, or 503 with WorkerUnavailableError; after it an
    error event that follows what was answered until then.
    """
    async with serve(Front, seed=2) as deployment:
        killer = Killer(deployment, clock, 2, between_steps=False)
        answers = await ask_while_killing(deployment, "two", killer)

        assert len(answers) >= REQUESTS
        hops = {trace.request_id: tries(trace) for trace in deployment.traces}
        assert {1} == {len(tried) for tried in hops.values()}
        broken = {prompt for prompt in answers if hops[prompt][0].instance_id in killer.killed}
        broken -= {prompt for prompt in broken if hops[prompt][0].outcome == "ok"}  # answered before the kill
        kinds: Counter[str] = Counter()
        for prompt, (status, text) in answers.items():
            hop = hops[prompt][0]
            whole = f"data: {prompt}\n\ndata: {hop.worker}\n\n"
            if prompt not in broken:
                assert (200, whole, "ok") == (status, text, hop.outcome)
                continue
            if status == 200:
                *came, error = text.removesuffix("\n\n").split("\n\n")
                kind = json.loads(error.removeprefix("event: error\ndata: "))["type"]
                assert whole.startswith("\n\n".join([*came, ""]))
                assert "StreamIncompleteError" == kind
            else:
                kind = json.loads(text)["type"]
                assert {"StreamIncompleteError": 500, "WorkerUnavailableError": 503}[kind] == status
            assert kind == hop.outcome
            kinds[f"{status} {kind}"] += 1
        assert {"200 StreamIncompleteError", "500 StreamIncompleteError"} <= set(kinds)
        assert sum(kinds.values()) >= len(killer.killed) >= ROUNDS, (kinds, killer.rounds)


def test_a_dead_worker_is_skipped_for_five_seconds_and_then_tried_again(clock: VirtualClock) -> None:
    """One request in five seconds pays for a dead worker that discovery still lists; the others never notice.

    As measured on Dynamo: the first call to it fails, then it is skipped until the next tick of five seconds, tried
    once more, and after ten seconds it is off the list. A worker that is started meanwhile gets its share at once.
    """
    assert 5.0 == INHIBITED_S
    dead = "503 WorkerUnavailableError"
    answered: list[str] = []

    def ask(times: int) -> Counter[str]:
        before = len(answered)
        for _ in range(times):
            try:
                answered.extend(deployment.ask("quick", api="any"))
            except RequestFailedError as error:
                answered.append(f"{error.status} {error.message.partition(':')[0]}")
        return Counter(answered[before:])

    with serve(Front, workers={"Worker": 3}) as deployment:
        deployment.kill("Worker", 1)
        found_dead = ask(9)
        assert (1, {"Worker-0", "Worker-2"}) == (found_dead.pop(dead), set(found_dead))
        clock.advance(4.99)
        assert {"Worker-0": 10, "Worker-2": 10} == ask(20)
        assert ["Worker-1"] == [c.worker for c in deployment.explain().decisions[-1].candidates if not c.eligible]

        clock.advance(0.01)
        tried_again = ask(20)
        assert (1, {"Worker-0", "Worker-2"}) == (tried_again.pop(dead), set(tried_again))
        deployment.scale("Worker", 3)
        assert {"Worker-0": 10, "Worker-2": 10, "Worker-3": 10} == ask(30)

        clock.advance(4.99)
        assert {"Worker-0", "Worker-2", "Worker-3"} == set(ask(30))
        clock.advance(0.01)
        assert {"Worker-0": 10, "Worker-2": 10, "Worker-3": 10} == ask(30)
        assert 3 == len(deployment.explain().decisions[-1].candidates)


# ---------------------------------------------------------------------------- blocking


@pytest.mark.parametrize("how", ["sleep", "wait"])
def test_a_blocked_thread_delays_just_the_requests_it_has(how: str) -> None:
    """Of forty requests at once over five workers, one of which stops its thread, the 32 of the others are answered.

    The eight that round robin gave to the blocked one are answered when it goes on.
    """
    with serve(Front) as deployment:
        batch = deployment.ask_many([{"name": "block", "body": how}] * 40, concurrency=40, api="any", wait=False)
        until(lambda: batch.done == 32)
        until(lambda: all(len(trace.hops) == 3 for trace in batch.traces) and len(batch.traces) == 40)
        workers = {trace.request_id: tries(trace)[0].worker for trace in batch.traces}
        waiting = {i for i, answer in zip(batch.request_ids, batch.answers, strict=True) if answer is None}
        assert {request_id for request_id, worker in workers.items() if worker == "Worker-0"} == waiting
        assert 8 == len(waiting)

        Seen.opened.set()

        assert [workers[request_id] for request_id in batch.request_ids] == batch.wait().answers


# ---------------------------------------------------------------------------- a reader that stops reading


def stands_still(deployment: Deployment) -> bool:
    """True if nothing is produced while twenty others are served."""
    before = Seen.produced
    assert WORKERS == len({deployment.ask("quick", api="any")[0] for _ in range(4 * WORKERS)})
    return before == Seen.produced


def test_a_reader_who_stops_reading_stops_the_worker() -> None:
    """Unread items fill two windows, between the three tiers, and the buffers below; then the worker waits.

    Others are served meanwhile, by the same workers. When the reader goes on, so does the worker, and no item is lost;
    when the reader leaves, the worker's generator is closed.
    """
    bound = 2 * WINDOW + 2 + BUFFERS // ITEM  # a window below each of the two upper tiers, and an item in their hands

    with serve(Front) as deployment:
        sock, response = open_stream(deployment, "flood", accept="text/plain", receive_buffer=4096)
        with sock, response:
            until(lambda: Seen.produced >= 2 * WINDOW)
            until(lambda: stands_still(deployment))
            assert 2 * WINDOW <= Seen.produced <= bound

            for number in range(1, bound + 1):
                assert f"{number:08}".ljust(ITEM, ".").encode() == response.read(ITEM)
            until(lambda: Seen.produced >= bound + 2 * WINDOW)
            until(lambda: stands_still(deployment))
            assert Seen.produced <= 2 * bound
            assert not Seen.closed.acquire(blocking=False)

        assert Seen.closed.acquire(timeout=WAIT_S)
        until(lambda: 0 == sum(instance.active for instance in deployment.instances))


# ---------------------------------------------------------------------------- streams that are left


ITEMS = 5 * WINDOW


def tasks(deployment: Deployment) -> dict[str, int]:
    """Tasks on the loop of each instance."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1  # without this one

    return {i.worker: i.thread.submit(count()).result(WAIT_S) for i in deployment.instances if i.state == "serving"}


def assert_all_free(deployment: Deployment, tasks_before: dict[str, int]) -> None:
    """Every request has ended on every tier, nobody counts one as in flight, and no task is left of them."""
    until(lambda: {0} == {instance.active for instance in deployment.instances})
    until(lambda: all(trace.is_over for trace in deployment.traces))
    for instance in [*deployment.instances, deployment]:
        for table in instance.runtime._tables.values():
            until(lambda table=table: 0 == sum(each.active_requests for each in table.instances()))
    until(lambda: tasks_before == tasks(deployment))
    assert not Seen.asking


POINTS = pytest.mark.parametrize("leave_after", [0, 1, WINDOW + 1, ITEMS - 1, ITEMS])
"""Before the first item, after it, in the middle, before the last, and after the last but before the end."""


@POINTS
@pytest.mark.parametrize("accept", [EVENTS, "text/plain"])
def test_a_client_may_hang_up_at_any_point(leave_after: int, accept: str) -> None:
    """The worker's generator is closed, the traces say stopped, and no tier has anything left of the request."""
    with serve(Front, workers={"Worker": 2}) as deployment:
        before = tasks(deployment)
        body = {"items": ITEMS, "leave_after": leave_after}
        sock = send(deployment, "count", body, accept)
        with sock:
            if leave_after:
                response = http.client.HTTPResponse(sock, method="POST")
                with response:
                    response.begin()
                    numbers = [str(n) for n in range(leave_after)]
                    text = "".join(f"data: {n}\n\n" for n in numbers) if accept == EVENTS else "".join(numbers)
                    assert text.encode() == response.read(len(text))
            assert Seen.entered.acquire(timeout=WAIT_S)

        assert Seen.closed.acquire(timeout=WAIT_S)
        assert_all_free(deployment, before)
        assert {"stopped"} == {hop.outcome for hop in deployment.traces.last.hops}
        assert ["x"] == deployment.ask("one", "x", api="any")[0].split(" by ")[:1]
        assert_all_free(deployment, before)


@POINTS
@pytest.mark.parametrize("how", ["closed", "dropped", "cancelled"])
def test_a_client_in_a_thread_may_leave_its_stream_at_any_point(leave_after: int, how: str) -> None:
    """Closed, dropped, or left by a task that was cancelled: it ends on both tiers below."""

    async def read(path: str, body: Any, reached: asyncio.Event) -> None:
        client = await deployment.runtime.endpoint(path).client()
        stream = await client.round_robin(body, annotated=False)
        for n in range(leave_after):
            assert str(n) == await anext(stream)
        assert await asyncio.to_thread(Seen.entered.acquire, timeout=WAIT_S)
        reached.set()
        if how == "closed":
            await stream.aclose()
        elif how == "cancelled":
            await anext(stream)

    async def leave() -> None:
        reached = asyncio.Event()
        request = {"name": "count", "body": {"items": ITEMS, "leave_after": leave_after}, "number": "n"}
        reading = asyncio.create_task(read("faults.Processor.process", request, reached))
        await reached.wait()
        if how == "cancelled":
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        else:
            await reading
        del reading
        assert await asyncio.to_thread(Seen.closed.acquire, timeout=WAIT_S)

    with serve(Front, workers={"Worker": 2}) as deployment:
        before = tasks(deployment)
        failures: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(leave())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run, name="dynlab-reader")
        thread.start()
        thread.join(WAIT_S)

        assert [] == failures
        assert_all_free(deployment, before)


def test_two_hundred_clients_leave_wherever_they_are() -> None:
    """Without any signal from the worker: each hangs up after a number of bytes drawn by lot, none included."""
    draw = random.Random(3)
    with serve(Front, workers={"Worker": 2}) as deployment:
        before = tasks(deployment)
        for _ in range(200):
            with send(deployment, "run") as sock:
                for _ in range(draw.randrange(4)):
                    sock.recv(draw.choice((1, 200, 1000)))

        for _ in range(3):  # their connections come after all others, and so do their requests
            deployment.ask("quick", api="any")
        assert_all_free(deployment, before)
        entered = sum(iter(lambda: Seen.entered.acquire(blocking=False), False))
        assert entered == sum(iter(lambda: Seen.closed.acquire(blocking=False), False))
        assert entered > 0


# ---------------------------------------------------------------------------- closing


def close_in_time(close: Callable[[], float]) -> None:
    """Require that one of three tries takes less than a second, for the machine may be busy with other things."""
    took = []
    while len(took) < 3 and min(took, default=1.0) >= 1.0:
        took.append(close())
    assert min(took) < 1.0, took


def close_with_open_streams(name: str) -> float:
    """Return how many seconds `close()` takes while two hundred clients are in the middle of their streams."""
    with ExitStack() as open_sockets:
        deployment = open_sockets.enter_context(serve(Front))
        streams = [open_stream(deployment, name) for _ in range(200)]
        for sock, response in streams:
            open_sockets.enter_context(sock)
            open_sockets.enter_context(response)
        for _, response in streams:
            assert b"data: " == response.read(6)
        assert 200 * 3 == sum(instance.active for instance in deployment.instances)

        began = time.perf_counter()
        deployment.close()
        took = time.perf_counter() - began

        assert [] == threads()
        for _, response in streams:
            assert b"DeploymentError" in response.read()
    return took


@pytest.mark.parametrize("name", ["idle", "busy"])
def test_close_ends_two_hundred_open_streams_within_a_second(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whether their workers are silent or go on yielding; every client is told, nothing is printed, no thread stays."""
    close_in_time(lambda: close_with_open_streams(name))
    assert ("", "") == capfd.readouterr()


def close_with_stalled_readers() -> float:
    """Return how many seconds `close()` takes while three clients do not read what they are sent."""
    Seen.reset()
    with ExitStack() as open_sockets:
        deployment = open_sockets.enter_context(serve(Front))
        for _ in range(3):
            sock, response = open_stream(deployment, "flood", accept="text/plain", receive_buffer=4096)
            open_sockets.enter_context(sock)
            open_sockets.enter_context(response)
        until(lambda: Seen.produced >= 3 * 2 * WINDOW)
        until(lambda: stands_still(deployment))

        began = time.perf_counter()
        deployment.close()
        took = time.perf_counter() - began

        assert [] == threads()
        assert [] == [line for line in deployment.logs() if "ERROR" in line]
    return took


def test_close_does_not_wait_for_clients_who_stopped_reading(capfd: pytest.CaptureFixture[str]) -> None:
    """Who cannot be told, because all buffers are full, is cut off: in the same second, and without a traceback."""
    close_in_time(close_with_stalled_readers)
    assert ("", "") == capfd.readouterr()
