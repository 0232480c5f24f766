"""Workers with engines of their own: answers word by word, prompts that are found again, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dynlab.engine import MockEngineArgs
from dynlab.errors import ConfigError, RequestFailedError
from dynlab.hello_world import DummyWorker, Frontend
from dynlab.protocols import GeneralRequest
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.endpoint import async_on_start, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve
from tests.serving.test_kv_graph import FAMILIES, hits
from tests.timed_front import front_of

FAST = {"speedup_ratio": 1000.0}
"""A prefill of 16.5 ms takes as many microseconds."""
SLOW = {"itl_base_s": 3600.0, "itl_per_seq_s": 0.0}
"""The first word comes soon, the second after an hour."""


def words(items: list[str]) -> list[str]:
    return [json.loads(item.removeprefix("Response: "))["worker_output"] for item in items]


def graph(engine: dict[str, Any], workers: int = 1, **more: Any) -> Deployment:
    config = {"DummyWorker": {"engine": engine, **more.pop("config", {})}}
    return serve(Frontend, workers={"DummyWorker": workers}, config=config, name="engines", seed=7, **more)


@pytest.fixture
def by_cache() -> Iterator[Deployment]:
    """Yield a graph of four workers with engines, behind a KV router."""
    with graph(FAST, 4, router_mode="kv", kv={"block_size": 4}) as deployment:
        yield deployment


# ---------------------------------------------------------------------------- answers


def test_an_engine_makes_the_answer_word_by_word() -> None:
    """The same words as without, each an item of its own; the trace has a time for each."""
    with graph(FAST) as deployment:
        assert ["a", "b", "c_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"] == words(deployment.ask("a b c"))
        assert 2 == len(deployment.traces.last.itl_ms)


def test_how_long_an_answer_is_can_be_said() -> None:
    """With `osl` the words come over and over, or not all of them."""
    for osl, expected in ((1, ["a"]), (5, ["a", "b_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"] * 2 + ["a"])):
        with graph(FAST, config={"osl": osl}) as deployment:
            assert expected == words(deployment.ask("a b"))


def test_an_engine_takes_its_time() -> None:
    """A prefill of at least 40 ms, then two steps of 20 ms."""
    with graph({"prefill_base_s": 0.04, "itl_base_s": 0.02, "itl_per_seq_s": 0.0}) as deployment:
        deployment.ask("a b c", request_id="slow")
        trace = deployment.traces["slow"]

    assert trace.ttft_ms is not None
    assert trace.ttft_ms >= 39  # the loop may wake a timer up to a clock tick early
    assert trace.ttft_ms + sum(trace.itl_ms) >= 78


def test_every_answer_comes_under_load() -> None:
    """Of 200 at once over two workers that serve four each, with little room: all words of all answers."""
    with graph(FAST | {"max_num_seqs": 4, "num_gpu_blocks": 8}, 2) as deployment:
        batch = deployment.ask_many([f"{FAMILIES[n % 2]} {n}" for n in range(200)], concurrency=32)

        assert 0 == len(batch.failures)
        assert {15} == {(answer or "").count("Response: ") for answer in batch.answers}


# ---------------------------------------------------------------------------- caches


def test_prompts_find_what_an_engine_has(by_cache: Deployment) -> None:
    """From the second on, the family is there; the card says so."""
    for n in range(8):
        by_cache.ask(f"{FAMILIES[0]} question {n}", request_id=f"cats-{n}")

    assert [0] + [3] * 7 == hits(by_cache, "cats")
    assert "21 of 32 prompt blocks were cached" in by_cache._repr_html_()
    assert 1 == len(by_cache.kv_index().workers)


def test_who_hangs_up_leaves_its_blocks_to_others(by_cache: Deployment) -> None:
    """In the middle of the answer; what was computed of the prompt is found by the next."""
    with by_cache.stream(f"{FAMILIES[0]} question 1", request_id="cats-1") as stream:
        next(stream)

    by_cache.ask(f"{FAMILIES[0]} question 2", request_id="cats-2")

    assert [0, 3] == hits(by_cache, "cats")


@service(dynamo={"namespace": "timed"})
class TimedWorker:
    """Answers with what its engine's own clock says."""

    @async_on_start
    async def open_engine(self) -> None:
        endpoint = dynamo_context["component"].endpoint("begenerate")
        self.engine = endpoint.engine(MockEngineArgs(prefill_base_s=1.0, prefill_s_per_token=0.5, **FAST))

    @dynamo_endpoint()
    async def begenerate(self, request: GeneralRequest) -> AsyncIterator[dict[str, Any]]:
        with self.engine.generating(request.prompt, 1) as tokens:
            async for _ in tokens:
                yield {"ttft_s": tokens.ttft_s, "cached": tokens.cached_blocks, "by": dynamo_context["hostname"]}


def test_an_equal_prompt_has_its_first_token_sooner() -> None:
    """By the engine's own clock: 14 words take 1 s and 7 s; when three blocks are cached, two words are left."""
    front = front_of(TimedWorker)
    with serve(front, workers={"TimedWorker": 3}, router_mode="kv", kv={"block_size": 4}, name="timed") as deployment:
        first, *later = [json.loads(item) for _ in range(4) for item in deployment.ask(FAMILIES[0])]

    assert {"ttft_s": pytest.approx(8.0, rel=1e-6), "cached": 0, "by": first["by"]} == first
    assert [{"ttft_s": pytest.approx(2.0, rel=1e-6), "cached": 3, "by": first["by"]}] * 3 == later


# ---------------------------------------------------------------------------- what goes wrong


def test_a_prompt_that_can_never_fit_is_a_sentence() -> None:
    """The asker is told, and the next one is served."""
    with graph(FAST | {"num_gpu_blocks": 2}) as deployment:
        with pytest.raises(RequestFailedError, match=r"answer of 40 need 6 blocks of 16 .* num_gpu_blocks=2"):
            deployment.ask(" ".join(["word"] * 40))

        assert 2 == len(deployment.ask("short prompt"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"engine": {"num_gpu_blocks": 0}}, "num_gpu_blocks=0 must be 1 or more.$"),
        ({"engine": {"num_gpu_block": 9}}, "DummyWorker.engine.num_gpu_block=9: Unexpected keyword argument.$"),
        ({"engine": {"itl_base_s": "soon"}}, "DummyWorker.engine.itl_base_s='soon': Input should be a valid number"),
        ({"engine": {"block_size": 8}}, "block_size=8, but KV routers reckon with blocks of 16 tokens"),
        ({"engine": {}, "osl": 0}, "DummyWorker.osl=0: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_engine_is_an_error_in_the_cell(config: dict[str, Any], sentence: str) -> None:
    """And nothing is left running."""
    with pytest.raises(ConfigError, match=sentence):
        serve(Frontend, config={"DummyWorker": config}, name="engines")


def test_an_engine_can_be_set_from_the_command_line() -> None:
    """As one value in JSON, or key by key."""
    for override in ('--DummyWorker.engine={"num_gpu_blocks": 2}', "--DummyWorker.engine.num_gpu_blocks=2"):
        with (
            serve(Frontend, overrides=[override], name="engines") as deployment,
            pytest.raises(RequestFailedError, match="num_gpu_blocks=2"),
        ):
            deployment.ask(" ".join(["word"] * 40))


# ---------------------------------------------------------------------------- going


def test_answers_under_way_do_not_hold_up_the_end() -> None:
    """Killing and closing do not wait for a word that is an hour away, nor for those who wait behind it."""
    with graph(SLOW | {"max_num_seqs": 1}, 2) as deployment:
        streams = [deployment.stream("one two three") for _ in range(4)]
        for stream in streams[:2]:
            assert ["one"] == words([next(stream)])
        deployment.kill("DummyWorker", 0)

    for stream in streams:
        stream.close()


async def test_no_task_outlives_a_deployment() -> None:
    """Neither here nor on the threads that are gone."""
    async with graph(SLOW, 2) as deployment:
        client = await deployment.runtime.endpoint("dynamo-demo.DummyWorker.begenerate").client()
        stream = await client.random({"prompt": "one two", "request_id": "r"})
        assert ["one"] == words([(await anext(stream)).data()])

    assert 1 == len(asyncio.all_tasks())
    assert not [i for i in deployment.instances if i.service is DummyWorker and i.thread.is_alive]
