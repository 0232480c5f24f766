"""`/metrics`: the numbers are right, and Prometheus reads them. That they are Dynamo's: `test_metrics_parity`."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import httpx
import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from dynlab.errors import RequestFailedError
from dynlab.hello_world import Frontend
from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.app import GraphApp
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from tests.serving.scraping import COMPONENT, FRONTEND, buckets, samples, scrape, until, value

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


GATE = threading.Event()


@service(dynamo={"namespace": "test"})
class Worker:
    @dynamo_endpoint()
    async def generate(self, request: dict[str, Any]) -> AsyncIterator[str]:
        if request["word"] == "wrong":
            raise ValueError("wrong")
        yield request["word"]
        while request["word"] == "wait" and not GATE.is_set():
            await asyncio.sleep(0.001)
        yield request["word"]


@service(dynamo={"namespace": "test"})
class Front:
    worker = depends(Worker)

    @api
    async def stream(self, word: str) -> AsyncIterator[str]:
        async for item in self.worker.generate({"word": word}):
            yield item

    @api
    async def metrics(self, word: str) -> str:
        """An API of that name is asked with POST."""
        return word


@pytest.fixture
def gated() -> Iterator[Deployment]:
    GATE.clear()
    with serve(Front, workers={"Worker": 2}, name="gated") as deployment:
        yield deployment
        GATE.set()


# ---------------------------------------------------------------------------- counting


def test_every_tier_counts_its_requests() -> None:
    """Sixteen requests over two workers: sixteen at the Frontend and the Processor, eight at each worker."""
    with serve(Frontend, workers={"DummyWorker": 2}, name="count") as deployment:
        deployment.ask_many(16, concurrency=4)
        until(lambda: value(scrape(deployment), COMPONENT + "request_duration_seconds_count") == 32)
        seen = scrape(deployment)

    ok = {
        "status": "success",
        "error_type": "",
        "endpoint": "fegenerate",
        "request_type": "stream",
        "model": "Frontend",
    }
    assert 16 == value(seen, FRONTEND + "requests_total", **ok) == value(seen, FRONTEND + "requests_total")
    assert 16 == value(seen, FRONTEND + "requests_started_total") == value(seen, FRONTEND + "output_tokens_total")
    assert 16 == value(seen, FRONTEND + "request_duration_seconds_count")
    assert 16 == value(seen, FRONTEND + "time_to_first_token_seconds_count")
    assert 0 == value(seen, FRONTEND + "inter_token_latency_seconds_count")
    assert 0 == value(seen, FRONTEND + "inflight_requests")
    per_worker = {
        (s.labels["dynamo_component"], s.labels["dynamo_endpoint"], s.labels["worker_id"]): s.value
        for s in seen
        if s.name == COMPONENT + "requests_total" and s.labels["dynamo_namespace"] == "dynamo-demo"
    }
    ids = sorted(worker for _, _, worker in per_worker)
    assert ["7001", "7002", "7003"] == ids
    assert [8, 8, 16] == sorted(per_worker.values())
    assert 16 == per_worker["Processor", "mdgenerate", next(w for c, _, w in per_worker if c == "Processor")]


def test_durations_are_those_of_the_trace() -> None:
    """Sums are exact, and each request and gap is in the bucket of its length."""
    config = {"DummyWorker": {"stream_words": True, "first_token_ms": 12, "token_ms": 3}}
    with serve(Frontend, config=config, name="durations") as deployment:
        deployment.ask("one two three four", request_id="r")
        hop = deployment.traces["r"].hops[0]
        seen = scrape(deployment)

    times = hop.item_ns
    assert hop.ended_ns - hop.started_ns == round(1e9 * value(seen, FRONTEND + "request_duration_seconds_sum"))
    assert times[0] - hop.started_ns == round(1e9 * value(seen, FRONTEND + "time_to_first_token_seconds_sum"))
    assert times[-1] - times[0] == round(1e9 * value(seen, FRONTEND + "inter_token_latency_seconds_sum"))
    gaps = [(later - sooner) / 1e9 for sooner, later in pairwise(times)]
    for bound, count in buckets(seen, FRONTEND + "inter_token_latency_seconds").items():
        assert sum(gap <= bound for gap in gaps) == count


def test_what_is_under_way_is_seen(gated: Deployment) -> None:
    """A request in flight is counted as started, with the items that it has; its worker is at work on it."""
    asked = threading.Thread(target=gated.ask, args=("wait",), name="asker")
    asked.start()
    until(lambda: value(scrape(gated), FRONTEND + "output_tokens_total") == 1)
    seen = scrape(gated)
    GATE.set()
    asked.join()
    after = scrape(gated)

    assert (1, 1) == (value(seen, FRONTEND + "inflight_requests"), value(seen, FRONTEND + "requests_started_total"))
    assert (0, 0) == (value(seen, FRONTEND + "requests_total"), value(seen, FRONTEND + "queued_requests"))
    assert (1, 1) == (value(seen, COMPONENT + "inflight_requests"), value(seen, COMPONENT + "requests_total"))
    assert (0, 2) == (value(after, FRONTEND + "inflight_requests"), value(after, FRONTEND + "output_tokens_total"))


def test_failures_have_dynamos_error_types(gated: Deployment) -> None:
    """A handler that raises is `internal`, nobody there is `unavailable`, a client that leaves is `cancelled`."""
    with pytest.raises(RequestFailedError):
        gated.ask("wrong")
    with httpx.stream("POST", f"{gated.url}/stream", json={"word": "wait"}) as answer:
        next(answer.iter_raw())
    until(lambda: value(scrape(gated), FRONTEND + "disconnected_clients") == 1)
    GATE.set()  # a handler learns at its next item that nobody wants it
    until(lambda: value(scrape(gated), COMPONENT + "cancellation_total") == 1)
    gated.scale(Worker, 0)
    with pytest.raises(RequestFailedError):
        gated.ask("fine")

    of = Counter({s.labels["error_type"]: s.value for s in scrape(gated) if s.name == FRONTEND + "requests_total"})
    assert {"internal": 1, "cancelled": 1, "unavailable": 1} == of


def test_a_body_that_is_refused_is_no_request(gated: Deployment) -> None:
    """As in Dynamo, what never became a request is not counted; nor are other pages, `/metrics` among them."""
    assert 400 == httpx.post(f"{gated.url}/stream", content=b"{").status_code
    assert 422 == httpx.post(f"{gated.url}/stream", json={}).status_code
    assert 404 == httpx.get(f"{gated.url}/nowhere").status_code

    assert 0 == value(scrape(gated), FRONTEND + "requests_started_total")


def test_a_method_without_yield_is_unary(gated: Deployment) -> None:
    """`request_type` says how an API answers; histograms are of all APIs together, as Dynamo's are of all endpoints."""
    gated.ask("a", api="metrics")
    gated.ask("a", api="stream")
    seen = scrape(gated)

    assert 1 == value(seen, FRONTEND + "requests_total", endpoint="metrics", request_type="unary")
    assert 1 == value(seen, FRONTEND + "requests_total", endpoint="stream", request_type="stream")
    assert 2 == value(seen, FRONTEND + "request_duration_seconds_count")


def test_a_worker_that_is_gone_tells_no_more(gated: Deployment) -> None:
    """Dynamo's workers take their numbers with them; a new one begins at 0."""

    def ids() -> list[str]:
        seen = scrape(gated)
        return sorted(s.labels["worker_id"] for s in seen if s.name == COMPONENT + "requests_total")

    gated.ask("a")
    assert ["7001", "7002"] == ids()
    gated.kill(Worker, 7001)
    assert ["7002"] == ids()
    gated.scale(Worker, 2)
    gated.drain(Worker, 7002)

    (worker,) = ids()
    assert worker not in ("7001", "7002")
    assert 0 == value(scrape(gated), COMPONENT + "requests_total")


@pytest.mark.parametrize("engine", [None, {"num_gpu_blocks": 64, "speedup_ratio": 1000.0}], ids=["cache", "engine"])
def test_kv_blocks_are_told(engine: dict[str, Any] | None) -> None:
    """What a worker has room for, how much is in use, and how much of its prompts it had: of two equal ones, half."""
    worker = {"kv_blocks": 64} if engine is None else {"engine": engine}
    settings: dict[str, Any] = {"router_mode": "kv", "kv": {"block_size": 4}, "config": {"DummyWorker": worker}}
    with serve(Frontend, workers={"DummyWorker": 1}, name="kv", **settings) as deployment:
        assert not [s for s in scrape(deployment) if s.name == COMPONENT + "kv_cache_hit_rate"]
        for _ in range(2):
            deployment.ask("one two three four five six seven eight")
        until(lambda: value(scrape(deployment), COMPONENT + "gpu_cache_usage_percent") == 0)
        seen = scrape(deployment)

    assert 64 == value(seen, COMPONENT + "total_blocks", dynamo_component="DummyWorker")
    assert 0.5 == value(seen, COMPONENT + "kv_cache_hit_rate")


# ---------------------------------------------------------------------------- the page


def test_both_formats_by_accept(gated: Deployment) -> None:
    """Prometheus's text unless OpenMetrics is asked for; each has its content type and is read by its own parser."""
    gated.ask("a")
    url = f"{gated.url}/metrics"
    text, open_text = httpx.get(url), httpx.get(url, headers={"accept": f"{OPEN};q=0.9,*/*;q=0.1"})

    assert text.headers["content-type"].startswith("text/plain; version=0.0.4; charset=utf-8")
    assert open_text.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    families, open_families = list(read_prometheus(text.text)), list(read_openmetrics(open_text.text))
    assert {f.name: f.type for f in families} == {f.name: f.type for f in open_families}
    assert all(family.documentation for family in families)


def test_it_is_no_api_of_the_graph(gated: Deployment) -> None:
    """Neither the OpenAPI page nor the deployment lists it; an API of that name is asked beside it."""
    assert {"stream", "metrics"} == set(gated.apis)
    paths = httpx.get(f"{gated.url}/openapi.json").json()["paths"]
    assert {"/stream", "/metrics", "/healthz"} == set(paths)
    assert ["post"] == list(paths["/metrics"])
    assert "a" == httpx.post(f"{gated.url}/metrics", json={"word": "a"}).json()


def test_each_deployment_has_its_own() -> None:
    """Two graphs in one process do not see each other's requests, and Prometheus's global registry sees none."""
    with serve(Frontend, name="one") as one, serve(Frontend, name="two") as two:
        one.ask("a")

        assert 1 == value(scrape(one), FRONTEND + "requests_total")
        assert 0 == value(scrape(two), FRONTEND + "requests_total")
        assert "dynamo_" not in prometheus_client.generate_latest().decode()
        planes = one.planes
    assert {} == planes.serving


def test_an_app_without_apis_or_workers_has_a_page() -> None:
    """No histogram without a route, and nothing that a parser stumbles over."""
    text, _ = GraphApp("Nobody", "", []).metrics.exposition("")

    assert {0.0} == {sample.value for sample in samples(text.decode())}
