"""Reading `/metrics` in tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families as read_prometheus
from prometheus_client.samples import Sample

from dynlab.serving.deployment import Deployment

FRONTEND, COMPONENT = "dynamo_frontend_", "dynamo_component_"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


def samples(text: str) -> list[Sample]:
    return [sample for family in read_prometheus(text) for sample in family.samples]


def scrape(deployment: Deployment) -> list[Sample]:
    answer = httpx.get(f"{deployment.url}/metrics")
    assert 200 == answer.status_code
    return samples(answer.text)


def value(of: list[Sample], name: str, **labels: str) -> float:
    """Add up the samples of a name that have these labels."""
    return sum(s.value for s in of if s.name == name and labels.items() <= s.labels.items())


def buckets(of: list[Sample], name: str) -> dict[float, float]:
    return {float(s.labels["le"]): s.value for s in of if s.name == f"{name}_bucket"}
