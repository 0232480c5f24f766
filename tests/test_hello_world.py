"""The graph of the tutorial says who processed and who answered, and obeys its configuration."""

from __future__ import annotations

import ast
import inspect
import json
import time
from pathlib import Path

import pytest

from dynlab import hello_world
from dynlab.errors import ConfigError
from dynlab.hello_world import DummyWorker, Frontend, Processor
from dynlab.protocols import GeneralRequest
from dynlab.serving.serve import serve


def answers(items: list[str]) -> list[str]:
    return [json.loads(item.removeprefix("Response: "))["worker_output"] for item in items]


def test_an_answer_bears_the_marks_of_its_way() -> None:
    """The line of the original's README, with instances for hosts: prompt, `_ProcessedBy_`, `_GeneratedBy_`."""
    with serve(Frontend) as deployment:
        assert [
            (
                'Response: {"worker_output":"Tell me a joke_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0",'
                '"request_id":"id_number"}\n'
            )
        ] == deployment.ask("Tell me a joke", request_id="id_number")


def test_it_is_one_graph_in_one_namespace() -> None:
    """Frontend depends on Processor, Processor on DummyWorker."""
    assert [Processor] == Frontend.dependencies
    assert [DummyWorker] == Processor.dependencies
    assert [("dynamo-demo", name) for name in ("Frontend", "Processor", "DummyWorker")] == [
        found.dynamo_address() for found in (Frontend, Processor, DummyWorker)
    ]


def test_it_fits_on_one_screen() -> None:
    """It is read before anything else."""
    assert len(Path(inspect.getfile(hello_world)).read_text(encoding="utf-8").splitlines()) <= 112


def test_workers_take_turns() -> None:
    """Round robin unless told otherwise."""
    with serve(Frontend, workers={"DummyWorker": 3}) as deployment:
        answered = [answers(deployment.ask("x"))[0].rpartition("_")[2] for _ in range(6)]

    assert ["DummyWorker-0", "DummyWorker-1", "DummyWorker-2"] * 2 == answered


def test_words_can_be_streamed_one_by_one() -> None:
    """`stream_words` makes an item of each word."""
    with serve(Frontend, config={"DummyWorker": {"stream_words": True}}) as deployment:
        assert ["a", "b", "c_ProcessedBy_Processor-0_GeneratedBy_DummyWorker-0"] == answers(deployment.ask("a b c"))


def test_a_worker_can_pretend_to_think() -> None:
    """`first_token_ms` is waited before the first item, `token_ms` before each further one; the trace shows it."""
    config = {"DummyWorker": {"stream_words": True, "first_token_ms": 40, "token_ms": 20}}
    with serve(Frontend, config=config) as deployment:
        deployment.ask("a b c", request_id="slow")
        trace = deployment.traces["slow"]

    assert trace.ttft_ms is not None
    assert trace.ttft_ms >= 40
    assert 2 == len(trace.itl_ms)
    assert sum(trace.itl_ms) >= 35  # the loop may wake a timer up to a clock tick early


def test_the_processor_waits_for_its_workers() -> None:
    """`min_worker` workers are there before it serves; its log says so."""
    with serve(Frontend, workers={"DummyWorker": 2}, config={"Processor": {"min_worker": 2}}) as deployment:
        ids = sorted(i.instance_id for i in deployment.instances if i.service is DummyWorker)
        (line,) = [line for line in deployment.logs() if "workers are all ready" in line]

    assert line.endswith(f"Processor-0: workers are all ready: {ids}")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"DummyWorker": {"first_token_ms": -1}},
            "DummyWorker.first_token_ms=-1: Input should be greater than or equal",
        ),
        (
            {"DummyWorker": {"tokenms": 1}},
            "DummyWorker reads no config key 'tokenms'; it reads first_token_ms, token_ms",
        ),
        ({"Processor": {"router": "fastest"}}, "router_mode='fastest' is no router mode; the modes are round-robin,"),
        ({"Procesor": {"router": "random"}}, "The config has a section 'Procesor', but the graph has DummyWorker,"),
    ],
)
def test_a_wrong_configuration_is_a_sentence(config: dict[str, dict[str, object]], sentence: str) -> None:
    """Before anything answers."""
    with pytest.raises(ConfigError) as raised:
        serve(Frontend, config=config)

    assert str(raised.value).startswith(sentence)


async def test_a_tier_can_be_tried_alone() -> None:
    """A service is a class: call it, and call its method."""
    worker = DummyWorker()
    worker.config.stream_words = True

    stream = worker.begenerate(GeneralRequest(prompt="alone"))

    with pytest.raises(KeyError, match="exists only inside a running service"):
        await anext(stream)


def test_its_own_modules_are_the_public_ones() -> None:
    """The graph uses what a reader can import, and nothing of the machinery below."""
    tree = ast.parse(Path(inspect.getfile(hello_world)).read_text(encoding="utf-8"))
    rooms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}

    assert {"dynlab.config", "dynlab.protocols", "dynlab.sdk.context", "dynlab.sdk.depends"} <= rooms
    assert not {room for room in rooms if room.startswith(("dynlab.runtime", "dynlab.serving"))}


def test_requests_under_way_are_counted_at_every_tier() -> None:
    """While workers think, the Frontend, the Processor and the workers all show what they hold."""
    with serve(Frontend, config={"DummyWorker": {"first_token_ms": 60_000}}) as deployment:
        deployment.ask_many(3, wait=False)
        deadline = time.monotonic() + 10

        while (held := [instance.active for instance in deployment.instances]) != [3, 3, 3]:
            assert time.monotonic() < deadline, held
            time.sleep(0.005)
