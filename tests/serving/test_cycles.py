"""Opening and closing a graph again and again leaves the process as it was."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from dynlab.hello_world import Frontend
from dynlab.sdk.endpoint import async_on_start
from dynlab.sdk.service import service
from dynlab.serving.serve import serve

ROOT = Path(__file__).parents[2]
DESCRIPTORS = Path("/proc/self/fd")

CYCLES = 50
LIVES = f"""
import gc, os, threading, tracemalloc
from dynlab import serve
from dynlab.hello_world import Frontend


def use():
    words = {{"DummyWorker": {{"stream_words": True}}}}
    with serve(Frontend, workers={{"DummyWorker": 2}}, config=words) as deployment:
        deployment.ask("one two")
        deployment.ask_many(4)
        with deployment.stream("three four") as stream:
            next(stream)
        deployment.scale("DummyWorker", 3)
        deployment.kill("DummyWorker", 0)


def left():
    for thread in threading.enumerate():
        if thread.name.startswith("dynlab-"):
            thread.join(5.0)
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0]


tracemalloc.start()
for _ in range(3):  # what is loaded or cached on first use
    use()
before = left()
for _ in range({CYCLES}):
    use()
print(*(now - then for now, then in zip(left(), before)))
"""
"""A whole life - asked, hung up on, scaled, killed, closed - fifty times, away from what pytest itself keeps."""

needs_descriptors = pytest.mark.skipif(
    not DESCRIPTORS.is_dir(), reason="this system does not list a process's descriptors"
)


@service(dynamo={"namespace": "test"}, workers=2)
class Broken:
    @async_on_start
    def start(self) -> None:
        raise LookupError("no model here")


def settled() -> tuple[int, int]:
    """Let threads end and unreachable objects go; return how many threads and descriptors there are."""
    for thread in threading.enumerate():
        if thread.name.startswith("dynlab-"):
            thread.join(5.0)
    gc.collect()
    return threading.active_count(), len(list(DESCRIPTORS.iterdir()))


@needs_descriptors
@pytest.mark.slow
def test_fifty_lives_leave_threads_sockets_and_memory_as_they_were() -> None:
    """No thread and no descriptor; of memory, what libraries cache: 4 KB a cycle, where a kept graph is 1,700."""
    done = subprocess.run([sys.executable, "-c", LIVES], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stderr

    threads, descriptors, grown = map(int, done.stdout.split())

    assert (0, 0) == (threads, descriptors)
    assert grown < CYCLES * 16_384, f"{grown / CYCLES:.0f} bytes a cycle"


@needs_descriptors
def test_failed_starts_leave_nothing_either() -> None:
    """A cell that fails is run again and again; so it may."""

    def fail() -> None:
        with pytest.raises(LookupError):
            serve(Broken)

    fail()
    before = settled()

    for _ in range(20):
        fail()

    assert before == settled()


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
