"""`/metrics`: what the tiers have counted, as Prometheus reads it, by the names that Dynamo 1.6.1 has for it.

Nothing is counted here: each tier keeps a tally of its own, and a scrape reads them. In Dynamo each process has a
`/metrics` of its own, so a worker's numbers end with it; here the Frontend tells them all, of those who answer now.
A graph has no model: the Frontend's name stands in that label. `worker_id` is the instance id as dynlab shows it,
where a worker of Dynamo writes its own in hexadecimal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dynlab.runtime.local import LocalPlanes, LocalRuntime
from dynlab.runtime.request_plane import EndpointServer
from dynlab.runtime.tally import SECOND, Histogram
from dynlab.serving.http import UNAVAILABLE, ApiRoute

__all__ = ("GraphCollector", "GraphMetrics")

Labels: TypeAlias = Mapping[str, str]

_UNAVAILABLE = frozenset(error.__name__ for error in UNAVAILABLE)
"""Outcomes that Dynamo calls `unavailable`."""


class GraphMetrics:
    """The registry of one deployment; it goes with the app that holds it."""

    def __init__(self, model: str, routes: Iterable[ApiRoute], planes: LocalPlanes | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(GraphCollector(model, routes, planes))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type: Prometheus's own, or that of OpenMetrics if it is asked for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class GraphCollector(Collector):
    """Reads the tallies of a deployment's tiers whenever it is scraped."""

    def __init__(self, model: str, routes: Iterable[ApiRoute], planes: LocalPlanes | None) -> None:
        self._model = {"model": model}
        self._routes = list(routes)
        self._planes = planes

    def describe(self) -> Iterable[Metric]:
        """Promise nothing: who answers is known only when somebody asks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._frontend()
        serving = list(self._planes.serving) if self._planes is not None else []
        # Of two servers of one endpoint the later has replaced the other.
        servers = [(r, s) for r in serving for s in {server.endpoint: server for server in r.servers}.values()]
        yield from _components(servers)
        yield from _caches(servers)

    def _frontend(self) -> Iterator[Metric]:
        model, routes = self._model, self._routes
        name = "dynamo_frontend_"
        ended: Counter[tuple[tuple[str, str], ...]] = Counter()
        started: list[tuple[Labels, float]] = []
        for route in routes:
            labels = {**model, "endpoint": route.name, "request_type": "stream" if route.streams else "unary"}
            outcomes = dict(route.tally.outcomes)
            started.append((labels, sum(outcomes.values()) + route.active))
            for outcome, count in outcomes.items():
                ended[*labels.items(), *_status(outcome).items()] += count
        underway = [hop for route in routes for hop in route.underway]
        tallies = [route.tally for route in routes]
        yield _counter(name + "requests", "Requests that are over", [(dict(of), n) for of, n in ended.items()])
        yield _counter(name + "requests_started", "Requests that have come", started)
        yield _gauge(name + "inflight_requests", "Requests that are not over yet", [(model, len(underway))])
        waiting = sum(not hop.items for hop in underway)
        yield _gauge(name + "queued_requests", "Requests that wait for their first item", [(model, waiting)])
        gone = sum(tally.outcomes["stopped"] for tally in tallies)
        yield _gauge(name + "disconnected_clients", "Clients that hung up before the end", [({}, gone)])
        items = sum(tally.items for tally in tallies) + sum(hop.items for hop in underway)
        yield _counter(name + "output_tokens", "Items that the Frontend sent", [(model, items)])
        for what, meaning, histograms in (
            ("request_duration_seconds", "From a request to the end of its answer", [t.durations for t in tallies]),
            ("time_to_first_token_seconds", "From a request to its first item", [t.ttft for t in tallies]),
            ("inter_token_latency_seconds", "From one item of an answer to the next", [t.itl for t in tallies]),
        ):
            yield _histogram(name + what, meaning, [(model, Histogram.total(histograms))] if histograms else [])


def _components(servers: list[tuple[LocalRuntime, EndpointServer]]) -> Iterator[Metric]:
    name = "dynamo_component_"
    tallies = [(_labels(server), server.tally) for _, server in servers]
    yield _counter(name + "requests", "Requests that a worker took up", [(of, t.begun) for of, t in tallies])
    yield _gauge(name + "inflight_requests", "Requests that it is at work on", [(of, t.inflight) for of, t in tallies])
    cancelled = [(of, t.cancelled) for of, t in tallies]
    yield _counter(name + "cancellation", "Requests that nobody wanted any more", cancelled)
    durations = [(of, t.durations) for of, t in tallies]
    yield _histogram(name + "request_duration_seconds", "How long a worker was at work on a request", durations)


def _caches(servers: list[tuple[LocalRuntime, EndpointServer]]) -> Iterator[Metric]:
    name = "dynamo_component_"
    caches = [(_labels(s), cache) for r, s in servers if (cache := r.caches.get(s.endpoint)) is not None]
    total = [(of, cache.total_blocks) for of, cache in caches]
    yield _gauge(name + "total_blocks", "KV blocks that a worker has room for", total)
    usage = [(of, cache.active_blocks / cache.total_blocks) for of, cache in caches]
    yield _gauge(name + "gpu_cache_usage_percent", "How much of them requests use (0.0-1.0)", usage)
    rate = [(of, cache.blocks_found / cache.blocks_asked) for of, cache in caches if cache.blocks_asked]
    yield _gauge(name + "kv_cache_hit_rate", "How much of its prompts was there already (0.0-1.0)", rate)


def _labels(server: EndpointServer) -> Labels:
    endpoint = server.endpoint
    return {
        "dynamo_namespace": endpoint.namespace,
        "dynamo_component": endpoint.component,
        "dynamo_endpoint": endpoint.name,
        "worker_id": str(server.instance_id),
    }


def _status(outcome: str) -> Labels:
    if outcome == "ok":
        return {"status": "success", "error_type": ""}
    if outcome == "stopped":
        return {"status": "error", "error_type": "cancelled"}
    return {"status": "error", "error_type": "unavailable" if outcome in _UNAVAILABLE else "internal"}


def _counter(name: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    metric = Metric(name, meaning, "counter")
    for labels, value in samples:
        metric.add_sample(f"{name}_total", dict(labels), value)
    return metric


def _gauge(name: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    metric = Metric(name, meaning, "gauge")
    for labels, value in samples:
        metric.add_sample(name, dict(labels), value)
    return metric


def _histogram(name: str, meaning: str, histograms: Iterable[tuple[Labels, Histogram]]) -> Metric:
    metric = Metric(name, meaning, "histogram")
    for labels, histogram in histograms:
        counts = list(accumulate(histogram.counts))  # one copy, so that what is counted meanwhile does not tear it
        for bound, count in zip((*map(float, histogram.bounds_s), "+Inf"), counts, strict=True):
            metric.add_sample(f"{name}_bucket", {**labels, "le": str(bound)}, count)
        metric.add_sample(f"{name}_sum", dict(labels), histogram.sum_ns / SECOND)
        metric.add_sample(f"{name}_count", dict(labels), counts[-1])
    return metric
