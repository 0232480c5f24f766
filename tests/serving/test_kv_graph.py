"""The hello world with the router mode "kv": equal prompts find their cache, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynlab.errors import ConfigError
from dynlab.hello_world import Frontend
from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

FAMILIES = [f"you are a helpful assistant who knows all there is to know about {topic}" for topic in ("cats", "tea")]


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with serve(
        Frontend, workers={"DummyWorker": 4}, router_mode="kv", kv={"block_size": 4}, seed=7, name="kv"
    ) as deployment:
        yield deployment


def hits(deployment: Deployment, prefix: str) -> list[int]:
    """How many blocks of the prompt were cached where each request of a batch went."""
    found = []
    for trace in deployment.traces:
        if trace.request_id.startswith(prefix):
            decision = trace.decisions[-1]
            place = decision.detail["workers"].index(decision.instance_id)
            found.append(int(decision.detail["overlap_blocks"][place]))
    return found


def test_prompts_find_what_is_cached(deployment: Deployment) -> None:
    """One after the other, so that each has been told before the next: from the second on, the family is there."""
    for n in range(8):
        deployment.ask(f"{FAMILIES[0]} question {n}", request_id=f"cats-{n}")

    found = hits(deployment, "cats")

    assert "21 of 32 prompt blocks were cached" in deployment._repr_html_()
    assert 0 == found[0]
    assert [3] * 7 == found[1:]  # 14 words make 3 whole blocks of 4
    assert 1 == sum(1 for n in deployment.traces.requests_per_worker().values() if n)


def test_every_answer_comes_under_load(deployment: Deployment) -> None:
    """Many at once, two families: all answered, none booked afterwards, and most find their prefix."""
    prompts = [f"{FAMILIES[n % 2]} question {n}" for n in range(200)]
    batch = deployment.ask_many(prompts, concurrency=16)

    assert 0 == len(batch.failures)
    assert sum(1 for blocks in hits(deployment, "b1-") if blocks) > 100


def test_without_events_the_router_assumes_what_is_cached() -> None:
    """Nobody listens, so the workers keep nothing, and the router goes by what it sent where."""
    kv = {"block_size": 4, "use_kv_events": False}
    with serve(Frontend, workers={"DummyWorker": 4}, router_mode="kv", kv=kv, seed=7, name="assumed") as deployment:
        for n in range(4):
            deployment.ask(f"{FAMILIES[0]} question {n}", request_id=f"cats-{n}")

        assert [0, 3, 3, 3] == hits(deployment, "cats")
        assert {} == deployment.kv_index().workers


def test_the_mode_may_change_while_it_runs(deployment: Deployment) -> None:
    """Back and forth, without a restart."""
    for mode in ("random", "kv", "round-robin", "kv"):
        deployment.router_mode = mode
        deployment.ask(FAMILIES[0])

        assert mode == deployment.traces.last.decisions[-1].mode


def test_a_dead_worker_costs_one_request(deployment: Deployment) -> None:
    """Its cache would win, so the next request meets it; then it is skipped, and the others serve."""
    deployment.ask(FAMILIES[0])
    chosen = deployment.traces.last.decisions[-1].instance_id
    deployment.kill("DummyWorker", chosen)
    deployment.planes.migration_limit = 1

    assert 1 == len(deployment.ask(FAMILIES[0], request_id="after"))
    assert chosen != deployment.traces["after"].decisions[-1].instance_id


def test_the_caches_can_be_looked_into(deployment: Deployment) -> None:
    """Their index is a copy of what is there at that moment."""
    before = deployment.kv_index()
    deployment.ask(f"{FAMILIES[0]} question", request_id="r")
    sequence = sequence_hashes(block_hashes(tokenize(FAMILIES[0]), 4))

    assert {} == before.find_matches(sequence)
    assert {deployment.traces["r"].decisions[-1].instance_id: 3} == deployment.kv_index().find_matches(sequence)


def test_a_wrong_setting_is_an_error_in_the_cell() -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError, match="Did you mean 'router_temperature'"):
        serve(Frontend, router_mode="kv", kv={"router_temperatur": 1})


def test_with_a_threshold_requests_wait_at_the_router() -> None:
    """Every prompt is enough for a worker to prefill, so of 32 at once most wait; all are answered."""
    kv = {"block_size": 4, "router_queue_threshold": 0.5, "max_num_batched_tokens": 8}
    with serve(Frontend, workers={"DummyWorker": 2}, router_mode="kv", kv=kv, seed=7, name="queue") as deployment:
        batch = deployment.ask_many([f"{FAMILIES[0]} question {n}" for n in range(200)], concurrency=32)

        assert 0 == len(batch.failures)
        waited = [trace for trace in deployment.traces if trace.decisions[-1].detail.get("queued_s")]
        assert len(waited) > 20
