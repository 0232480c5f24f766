"""`/metrics` has the names, labels, buckets and ways of counting of `ai-dynamo-runtime` 1.6.1's own pages."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as read_prometheus
from prometheus_client.samples import Sample

from dynlab.hello_world import Frontend
from dynlab.runtime.context import Context
from dynlab.runtime.local import LocalPlanes
from dynlab.serving.metrics import GraphMetrics
from dynlab.serving.serve import serve
from tests.serving.scraping import COMPONENT, FRONTEND, samples, value

pytestmark = pytest.mark.needs_real_engine

ENGINE = Path(__file__).with_name("engine_metrics.py")


@pytest.fixture(scope="module")
def engine() -> dict[str, list[Sample]]:
    """What the real engine's own pages say; `engine_metrics.py` has the requests."""
    done = subprocess.run([sys.executable, str(ENGINE)], capture_output=True, text=True, timeout=100)
    assert 0 == done.returncode, done.stderr[-2000:]
    return {page: samples(text) for page, text in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def page() -> str:
    """What dynlab's page says, of workers that keep KV blocks."""
    with serve(Frontend, router_mode="kv", kv={"block_size": 4}, name="parity") as deployment:
        deployment.ask("one two three four five")
        return httpx.get(f"{deployment.url}/metrics").text


def shape(of: list[Sample]) -> dict[str, set[frozenset[str]]]:
    """Return each name with the sets of labels it comes with, and bounds of buckets."""
    found: dict[str, set[frozenset[str]]] = {}
    for sample in of:
        bound = {f"le={float(sample.labels['le'])}"} if "le" in sample.labels else set()
        found.setdefault(sample.name, set()).add(frozenset(sample.labels.keys() | bound))
    return found


async def four_requests() -> list[Sample]:
    """Do to a worker of dynlab what `engine_metrics.py` does to the engine's."""
    planes = LocalPlanes()
    runtime = planes.runtime("Worker-0")

    async def generate(request: Any, context: Context) -> AsyncIterator[int]:
        if request["is"] == "wrong":
            raise ValueError("wrong")
        yield 1
        while request["is"] in ("long", "under way") and not context.is_stopped():
            await asyncio.sleep(0.001)

    endpoint = runtime.endpoint("ns.Worker.generate")
    endpoint.serve_endpoint(generate)
    client = await endpoint.client()
    async for _ in await client.round_robin({"is": "fine"}):
        pass
    with pytest.raises(ValueError, match="wrong"):
        async for _ in await client.round_robin({"is": "wrong"}):
            pass
    context = Context("long")
    async for _ in await client.round_robin({"is": "long"}, context=context):
        context.stop_generating()
    under_way = await client.round_robin({"is": "under way"})
    await anext(under_way)
    while runtime.servers[0].active != 1:
        await asyncio.sleep(0)
    text, _ = GraphMetrics("m", [], planes).exposition("")
    await under_way.aclose()
    while runtime.servers[0].active:
        await asyncio.sleep(0)
    runtime.shutdown()
    return [sample for sample in samples(text.decode()) if sample.name.startswith(COMPONENT)]


async def test_a_worker_counts_as_the_engines_does(engine: dict[str, list[Sample]]) -> None:
    """Of four requests, one is fine, one raises, one is stopped, one is under way: names, labels, buckets, numbers."""
    ours, theirs = await four_requests(), engine["worker"]

    shapes = shape(theirs)
    assert {name: shapes.get(name) for name in shape(ours)} == shape(ours)
    for name in ("requests_total", "inflight_requests", "request_duration_seconds_count"):
        assert value(theirs, COMPONENT + name) == value(ours, COMPONENT + name)
    # On a busy machine the engine now and then counts the one that raised as cancelled too.
    assert 1 == value(ours, COMPONENT + "cancellation_total") <= value(theirs, COMPONENT + "cancellation_total")


def test_the_frontend_has_the_engines_names(engine: dict[str, list[Sample]], page: str) -> None:
    """Names, labels and buckets are those of the engine's HTTP service; it shows an ITL only of its own models."""
    ours, theirs = shape(samples(page)), shape(engine["frontend"])
    ours = {name: labels for name, labels in ours.items() if name.startswith(FRONTEND) and "inter_token" not in name}

    assert {name: theirs.get(name) for name in ours} == ours


def test_every_name_is_one_of_the_wheels(page: str) -> None:
    """Prefixes, names, labels and values of labels stand in its `prometheus_names`, KV and ITL ones too."""
    from dynamo import prometheus_names as names

    def constants(*groups: Any) -> set[str]:
        return {text for group in groups for key, text in vars(group).items() if key.isupper()}

    families = [f.name + "_total" * (f.type == "counter") for f in read_prometheus(page)]
    prefixes = names.name_prefix
    known = {f"{prefixes.FRONTEND}_{name}" for name in constants(names.frontend_service)}
    known |= {f"{prefixes.COMPONENT}_{name}" for name in constants(names.work_handler, names.kvstats)}
    assert 16 == len(families)
    assert set() == set(families) - known
    labels = {label for sample in samples(page) for label in sample.labels if label.startswith(("dynamo", "worker"))}
    assert constants(names.labels) >= labels
    service_names = names.frontend_service
    assert {"", "cancelled", "unavailable", "internal"} <= constants(service_names.error_type)
    assert {"stream", "unary"} == constants(service_names.request_type)
    assert {"success", "error"} == constants(service_names.status)
