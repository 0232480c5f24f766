"""`allow_nested_run()` lets Dynamo's own scripts run in a cell, and every feature of a graph works after it.

What it patches stays patched for the life of a process, so each test has a process of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PLAIN_LOOPS = """
import asyncio
import dynlab.runtime.loops
dynlab.runtime.loops._new_loop = asyncio.new_event_loop
"""

EVERYTHING = """
import asyncio
import json
import threading

from dynlab import allow_nested_run, serve
from dynlab.errors import RequestFailedError
from dynlab.hello_world import Frontend


def worker(items):
    return json.loads(items[0].removeprefix("Response: "))["worker_output"].rpartition("_")[2]


async def direct(deployment, instance_id):
    client = await deployment.runtime.endpoint("dynamo-demo.DummyWorker.begenerate").client()
    await client.wait_for_instances(at_least=2, timeout=5.0)
    stream = await client.direct({"prompt": "p", "request_id": "r"}, instance_id)
    return [json.loads(item.data())["worker_output"] async for item in stream]


async def left_early(deployment):
    client = await deployment.runtime.endpoint("dynamo-demo.Processor.mdgenerate").client()
    async for item in await client.round_robin({"prompt": "a b c", "request_id": "r"}):
        return item.data()


async def both(deployment):
    return await asyncio.gather(deployment.ask_async("x"), deployment.ask_async("y"))


async def cell():
    # Everything below runs with this loop already running, as in a notebook.
    config = {"DummyWorker": {"stream_words": True}}
    deployment = serve(Frontend, workers={"DummyWorker": 2}, config=config, seed=1)
    assert ["DummyWorker-0", "DummyWorker-1"] == [worker(deployment.ask("x")) for _ in range(2)]
    assert 3 == len(deployment.ask("a b c"))
    batch = deployment.ask_many(40, concurrency=8)
    assert (40, {}) == (batch.done, batch.failures), batch.failures
    with deployment.stream("a b c") as stream:
        assert "a" in next(stream)
    assert 3 == len([item async for item in deployment.stream("a b c")])
    first, second = (i.instance_id for i in deployment.instances if i.service.name == "DummyWorker")

    assert ["p_GeneratedBy_DummyWorker-1"] == asyncio.run(direct(deployment, second))
    assert "a" in asyncio.run(left_early(deployment))
    assert [1, 1] == [len(items) for items in asyncio.run(both(deployment))]
    assert ["p_GeneratedBy_DummyWorker-0"] == await direct(deployment, first)

    deployment.scale("DummyWorker", 3)
    assert "DummyWorker-2" in {worker(deployment.ask("x")) for _ in range(3)}
    deployment.kill("DummyWorker", 0)
    failed = 0
    for _ in range(6):
        try:
            deployment.ask("x")
        except RequestFailedError:
            failed += 1
    assert 1 == failed, failed
    deployment.drain("DummyWorker", 1)
    deployment.router_mode = lambda request, instances: instances[-1]
    assert "DummyWorker-2" == worker(deployment.ask("x"))
    assert deployment.explain().decisions
    deployment.close()
    async with serve(Frontend) as again:
        assert "DummyWorker-0" == worker(await again.ask_async("x"))


async def main():
    print(allow_nested_run())
    await cell()
    asyncio.run(cell())
    assert [] == [t.name for t in threading.enumerate() if t.name.startswith("dynlab-")]


asyncio.run(main())
print("all of it works")
"""

SCRIPT = """
import asyncio
from dynlab import allow_nested_run


async def worker():
    await asyncio.sleep(0)
    return "served"


async def cell():
    try:
        coroutine = worker()
        asyncio.run(coroutine)
    except RuntimeError as error:
        coroutine.close()
        print(error)
    allow_nested_run()
    allow_nested_run()
    print(asyncio.run(worker()))


asyncio.run(cell())
"""

BEFORE_ANY_LOOP = """
import asyncio
import dynlab

dynlab.allow_nested_run()


async def outer():
    return asyncio.run(inner())


async def inner():
    return "inner"


print(asyncio.run(outer()))
"""

UVLOOP = """
import asyncio
import uvloop
from dynlab import DynlabError, allow_nested_run


async def cell():
    task = asyncio.Task
    try:
        allow_nested_run()
    except DynlabError as error:
        print(error)
    assert task is asyncio.Task, "nothing was patched"


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(cell())
"""


def run(program: str, *flags: str) -> tuple[str, str]:
    """Run a program in a fresh interpreter where a ResourceWarning is shown; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", *flags, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert 0 == done.returncode, done.stderr
    # The progress bar of ask_many draws on stderr, and in development mode asyncio says what took a busy machine long.
    noise = re.compile(r"asking|^Executing <.*> took [\d.]+ seconds$")
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if not noise.search(line))


@pytest.mark.parametrize("prelude", ["", PLAIN_LOOPS], ids=["loops of the package", "plain asyncio loops"])
def test_every_feature_works_after_it(prelude: str) -> None:
    """Ask, batch, stream, scale, kill, drain, clients under `asyncio.run`, close; once more in a nested run."""
    printed, complaints = run(prelude + EVERYTHING)

    assert printed.endswith("\nall of it works\n")
    assert "" == complaints.strip()


def test_it_says_what_it_patches() -> None:
    """The sentence names the library, what is slower now, and the way back."""
    printed, _ = run("import dynlab; print(dynlab.allow_nested_run())")

    assert (
        "asyncio.run() now works inside a running loop of this process (nest_asyncio): asyncio.Task and asyncio.Future "
        "are the slower Python ones from here on. Restart the kernel to undo it.\n"
    ) == printed


def test_a_script_that_ends_in_asyncio_run_works_in_a_cell() -> None:
    """Refused before, fine after; applying it twice is fine too."""
    printed, _ = run(SCRIPT)

    assert "asyncio.run() cannot be called from a running event loop\nserved\n" == printed


def test_it_may_come_before_any_loop() -> None:
    """In the first cell of a script, where no loop runs yet."""
    assert "inner\n" == run(BEFORE_ANY_LOOP)[0]


def test_importing_the_package_patches_nothing() -> None:
    """Only who asks for it gets it."""
    printed, _ = run("import asyncio, dynlab; print(asyncio.Task.__module__, hasattr(asyncio, '_nest_patched'))")

    assert "_asyncio False\n" == printed


def test_a_loop_of_uvloop_is_refused() -> None:
    """It cannot be patched; the sentence says what to do, and nothing is patched by half."""
    pytest.importorskip("uvloop")

    printed, _ = run(UVLOOP)

    assert "The loop of this thread is a uvloop.Loop, which nest_asyncio cannot patch. Use `await` instead" in printed
