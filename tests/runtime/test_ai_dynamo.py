"""`dynlab.runtime.ai_dynamo`: the same graph on Dynamo's Rust runtime. What its clients do: `test_parity`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynlab import serve
from dynlab.errors import ConfigError
from dynlab.hello_world import Frontend
from dynlab.runtime.ai_dynamo import engine
from tests import ai_dynamo_scenarios

SCRIPT = Path(ai_dynamo_scenarios.__file__)
EXPECTED: dict[str, Any] = {
    "the_blogs_classes_run_unchanged": {
        "items": True,
        "prompt": True,
        "names": sorted(f"DummyWorker-{n}" for n in (0, 1, 2, 3) for _ in range(2)),
        "counts": [2, 2, 2, 2],
    },
    "every_stop_is_traced": {
        "hops": [["Frontend", "ok", 1, True], ["Processor", "ok", 1, True], ["DummyWorker", "ok", 1, True]],
        "in order": True,
        "explained": True,
        "drawn": True,
        "card": True,
    },
    "all_modes_route": {
        "round-robin": [0, 16, False],
        "random": [0, 16, False],
        "power-of-two": [0, 16, False],
        "kv": [0, 16, False],
        "direct": [0, 16, True],
        "least-loaded": [0, 16, False],
        "device-aware-weighted": [0, 16, False],
        "function": [0, 16, True],
    },
    "a_killed_worker_costs_one_request_and_is_skipped": {"failures": 1, "says": True, "after scale": [0, 3]},
    "a_request_that_a_dead_worker_left_goes_elsewhere": 0,
    "items_stream_and_errors_are_told": {
        "items": ["a 0", "a 1", "a 2"],
        "wrong": ["RequestFailedError", True],
        "late": ["RequestFailedError", True],
    },
    "who_hangs_up_stops_the_worker": ["long 0", True, 0],
    "closing_in_the_middle_is_quiet": [4, []],
    "fifty_lives_leave_nothing": {"threads": True, "descriptors": True, "megabytes": True},
    "what_the_engine_says_is_in_the_logs": True,
}


@pytest.fixture(scope="module")
def asked() -> subprocess.CompletedProcess[str]:
    """The answers, and all that the process printed."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=110)


def test_every_scenario_has_its_answer() -> None:
    """Nothing is asked that nobody looks at."""
    assert set(EXPECTED) == set(ai_dynamo_scenarios.SCENARIOS)


@pytest.mark.needs_real_engine
@pytest.mark.parametrize("scenario", EXPECTED)
def test_the_graph_on_the_engine(scenario: str, asked: subprocess.CompletedProcess[str]) -> None:
    """What the same graph does on threads, it does there."""
    assert 0 == asked.returncode, asked.stderr[-2000:]
    assert EXPECTED[scenario] == json.loads(asked.stdout)[scenario]


@pytest.mark.needs_real_engine
def test_nothing_is_printed(asked: subprocess.CompletedProcess[str]) -> None:
    """Neither the engine's lines, which come from Rust, nor tracebacks of handlers reach the reader's output."""
    assert "" == asked.stderr


def test_where_it_is_not_installed_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing, where it can be had, and what runs here."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(engine, "_engine", None)

    with pytest.raises(ConfigError, match=r"needs ai-dynamo-runtime, .* x86_64 and arm64.* runtime=\"local\" runs"):
        serve(Frontend, runtime="ai_dynamo")


def test_a_runtime_that_is_none_is_named() -> None:
    """With those that there are."""
    with pytest.raises(ConfigError, match=r"runtime='ai-dynamo' is none; .*Did you mean 'ai_dynamo'"):
        serve(Frontend, runtime="ai-dynamo")  # type: ignore[arg-type]
