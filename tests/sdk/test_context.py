"""`dynamo_context` is another dict in every instance, and hooks run once each in the order they are written."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dynlab.config import ServiceConfig
from dynlab.errors import OutsideServiceError
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, async_on_start, dynamo_endpoint, on_shutdown
from dynlab.sdk.service import service
from dynlab.serving.serve import serve

SEEN: list[tuple[str, str]] = []
"""What hooks and handlers note: `(worker, what)`."""


def note(what: str) -> None:
    SEEN.append((dynamo_context["hostname"], what))


@pytest.fixture(autouse=True)
def forgotten() -> None:
    SEEN.clear()


@service(dynamo={"namespace": "test"}, workers=2)
class Worker:
    def __init__(self) -> None:
        note("init")

    @async_on_start
    def zebra(self) -> None:
        note("zebra, sync")

    @async_on_start
    async def ant(self) -> None:
        await asyncio.sleep(0)
        note("ant, async")

    @on_shutdown
    async def late(self) -> None:
        await asyncio.sleep(0)
        note("late, async")

    @on_shutdown
    def early(self) -> None:
        note("early, sync")

    @dynamo_endpoint()
    async def begenerate(self, request):
        dynamo_context.setdefault("served", []).append(request)
        own = {key: dynamo_context[key] for key in ("service_name", "namespace", "worker_id", "hostname", "served")}
        yield own | {
            "lease": dynamo_context["endpoints"][0].lease_id(),
            "component": dynamo_context["component"].name,
            "thread": threading.current_thread().name,
            "config": ServiceConfig.get_instance().for_service("Worker"),
        }

    @dynamo_endpoint
    async def missing(self, request):
        yield dynamo_context["runtme"]


@service(dynamo={"namespace": "test"})
class Frontend:
    worker = depends(Worker)

    @api
    async def both(self):
        client = await self.worker.get_endpoint("begenerate")
        for n in range(4):
            async for item in await client.round_robin(f"r{n}"):
                yield item.data()

    @api
    async def missing(self):
        async for item in self.worker.missing(1):
            yield item


# ---------------------------------------------------------------------------- the context


def test_each_instance_has_its_own_values() -> None:
    """Two workers in one process see their own name, number, lease and what they stored themselves."""
    import json

    with serve(Frontend, config={"Worker": {"key": 1}}) as deployment:
        seen: list[dict[str, Any]] = [json.loads(item) for item in deployment.ask(api="both")]
        ids = [i.instance_id for i in deployment.instances if i.service.name == "Worker"]

    zero = {
        "service_name": "Worker",
        "namespace": "test",
        "worker_id": 0,
        "hostname": "Worker-0",
        "served": ["r0"],
        "lease": ids[0],
        "component": "Worker",
        "thread": "dynlab-Worker-0",
        "config": {"key": 1},
    }
    assert zero == seen[0]
    assert ("Worker-1", 1, ids[1]) == (seen[1]["hostname"], seen[1]["worker_id"], seen[1]["lease"])
    assert [["r0"], ["r1"], ["r0", "r2"], ["r1", "r3"]] == [each["served"] for each in seen]


def test_a_missing_key_names_the_keys_there_are() -> None:
    """A misspelt key in a handler is a sentence with the closest one."""
    with serve(Frontend) as deployment, pytest.raises(Exception, match="HTTP 500") as raised:
        deployment.ask(api="missing")

    assert "dynamo_context has no 'runtme'; it has " in str(raised.value)
    assert "Did you mean 'runtime'?" in str(raised.value)


def test_outside_of_a_service_it_says_so() -> None:
    """In a cell there is no context; the error is a KeyError whose sentence has no quotes around it."""
    with pytest.raises(KeyError) as raised:
        dynamo_context["runtime"]

    assert isinstance(raised.value, OutsideServiceError)
    assert (
        "dynamo_context['runtime'] exists only inside a running service: in a handler, an @async_on_start hook or "
        "__init__. In a cell, use deployment.runtime."
    ) == str(raised.value)


def test_outside_of_a_service_it_is_empty() -> None:
    """Asking whether a key is there, and `get`, are no errors."""
    assert (0, [], False, None) == (
        len(dynamo_context),
        list(dynamo_context),
        "runtime" in dynamo_context,
        dynamo_context.get("runtime"),
    )
    assert "dynamo_context(outside of a service)" == repr(dynamo_context)


def test_it_can_be_filled_by_hand_for_a_test_of_one_method() -> None:
    """A reader who calls a handler without a runtime may set what it reads."""

    def in_a_context_of_its_own() -> list[str]:
        dynamo_context["hostname"] = "here"
        dynamo_context["gone"] = 1
        del dynamo_context["gone"]
        return list(dynamo_context)

    import contextvars

    assert ["hostname"] == contextvars.Context().run(in_a_context_of_its_own)
    assert "hostname" not in dynamo_context


# ---------------------------------------------------------------------------- hooks


def test_hooks_run_once_each_in_the_order_they_are_written() -> None:
    """First `__init__`, then the start hooks, sync or async; on the way out the shutdown hooks."""
    with serve(Frontend) as deployment:
        started = list(SEEN)
        deployment.scale("Worker", 1)
        drained = SEEN[len(started) :]

    for worker in ("Worker-0", "Worker-1"):
        assert ["init", "zebra, sync", "ant, async"] == [what for who, what in started if who == worker]
    assert [("Worker-1", "late, async"), ("Worker-1", "early, sync")] == drained
    assert [("Worker-0", "late, async"), ("Worker-0", "early, sync")] == SEEN[len(started) + 2 :]


def test_a_killed_worker_runs_no_shutdown_hook() -> None:
    """A process that is killed says no goodbye."""
    with serve(Frontend) as deployment:
        deployment.kill("Worker", 0)
        killed = [what for who, what in SEEN if who == "Worker-0"]

    assert ["init", "zebra, sync", "ant, async"] == killed
    assert ("Worker-1", "early, sync") in SEEN
    assert ("Worker-0", "early, sync") not in SEEN
