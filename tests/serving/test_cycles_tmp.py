"""Opening and closing a graph again and again leaves the process as it was."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import tracemalloc
import weakref
from collections.abc import Iterator

import pytest

from dynlab.hello_world import Frontend
from dynlab.sdk.endpoint import async_on_start
from dynlab.sdk.service import service
from dynlab.serving.deployment import serve

CYCLES = 50
DESCRIPTORS = "/proc/self/fd"


@service(dynamo={"namespace": "test"}, workers=2)
class Broken:
    @async_on_start
    def start(self) -> None:
        raise LookupError("no model here")


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def descriptors() -> int:
    return len(os.listdir(DESCRIPTORS))


def use() -> None:
    """A whole life: asked, scaled, killed, hung up on, closed."""
    with serve(Frontend, workers={"DummyWorker": 2}, config={"DummyWorker": {"stream_words": True}}) as deployment:
        deployment.ask("one two")
        deployment.ask_many(4)
        with deployment.stream("three four") as stream:
            next(stream)
        deployment.scale("DummyWorker", 3)
        deployment.kill("DummyWorker", 0)


def settled() -> None:
    """Let threads end and unreachable objects go."""
    for thread in threading.enumerate():
        if thread.name.startswith("dynlab-"):
            thread.join(5.0)
    gc.collect()


@pytest.mark.skipif(not os.path.isdir(DESCRIPTORS), reason="this system does not list a process's descriptors")
@pytest.mark.slow
def test_fifty_lives_leave_threads_sockets_and_memory_as_they_were(traced: None) -> None:
    """No thread, no descriptor, and less than 4 KiB a cycle stay behind."""
    for _ in range(3):  # what is loaded or cached on first use
        use()
    settled()
    threads, open_before, bytes_before = threading.active_count(), descriptors(), tracemalloc.get_traced_memory()[0]

    SNAP = [tracemalloc.take_snapshot()]
    for _ in range(CYCLES):
        use()
    settled()

    assert threads == threading.active_count()
    assert open_before == descriptors()
    snap = tracemalloc.take_snapshot()
    print(*snap.compare_to(SNAP[0], "lineno")[:12], sep="\n")
    grown = tracemalloc.get_traced_memory()[0] - bytes_before
    assert grown < CYCLES * 4096, f"{grown / CYCLES:.0f} bytes a cycle"


@pytest.mark.skipif(not os.path.isdir(DESCRIPTORS), reason="this system does not list a process's descriptors")
def test_failed_starts_leave_nothing_either() -> None:
    """A cell that fails is run again and again; so it may."""

    def fail() -> None:
        with pytest.raises(LookupError):
            serve(Broken)

    fail()
    settled()
    threads, open_before = threading.active_count(), descriptors()

    for _ in range(20):
        fail()
    settled()

    assert (threads, open_before) == (threading.active_count(), descriptors())


def test_what_is_closed_can_be_collected() -> None:
    """Nothing in the package keeps a closed deployment alive."""
    with serve(Frontend) as deployment:
        deployment.ask("x")
        gone = weakref.ref(deployment)
    del deployment
    settled()

    assert gone() is None


async def test_lives_in_an_event_loop() -> None:
    """From a cell with its loop running, and with clients of that loop left open."""
    for _ in range(5):
        async with serve(Frontend) as deployment:
            client = await deployment.runtime.endpoint("dynamo-demo.DummyWorker.begenerate").client()
            stream = await client.random({"prompt": "p"})
            assert "p_GeneratedBy_DummyWorker-0" in (await anext(stream)).data()
            assert 1 == len(await deployment.ask_async("x"))

    assert 1 == len(asyncio.all_tasks())
