"""What dynlab's client does is what Dynamo's does: the same questions, asked of both.

The answers expected here are written down; the local runtime must give them, and so must `ai-dynamo-runtime` 1.6.1.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import parity_scenarios

SCRIPT = Path(parity_scenarios.__file__)
EXPECTED: dict[str, Any] = {
    "round_robin_goes_by_ascending_id": [0, 1, 2, 3, 0, 1, 2, 3, 0],
    "only_round_robin_moves_its_turn": [0, 1, 2, 0, 1],
    "each_client_has_its_own_turn": [[0, 1], [0, 1], [2, 0]],
    "the_turn_counts_on_when_workers_join": [0, 1, 0, 0, 1, 2, 0],
    "generate_is_random": {"both are used": True, "not in turn": True},
    "an_empty_set_is_an_error": [True, True],
    "an_unknown_id_is_an_error": [True, True],
    "waiting_returns_the_ids": True,
    "a_path_has_three_parts": ["ValueError", "ValueError", "", ""],
    "values_travel": [
        *("'a'", "1", "1.5", "True", "None", "[1, 2]", "[1, 2]", "{'b': 1, 'a': [2]}", "{1: 2}"),
        *("b'x'", "{'k': b'x'}", "9223372036854775808", "[3]", "''"),
    ],
    "models_do_not_travel": ["TypeError", True],
    "items_are_annotated": [None, None, None, False, True],
    "raw_items_are_bare": [{"a": 1}],
    "no_items_are_an_empty_stream": [],
    "an_error_comes_after_the_items_before_it": [[[], "ValueError", True], [[0, 1, 2], "ValueError", True]],
    "stopping_ends_the_stream_in_silence": {"items": True, "context": True},
    "dropping_the_stream_stops_the_worker": 0,
    "a_second_handler_replaces_the_first": 1,
    "leaving_the_list_can_be_taken_back": [0, 1],
}


@pytest.fixture(scope="module")
def local() -> dict[str, Any]:
    return asyncio.run(parity_scenarios.run_all("local"))


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    return ask("real")


@pytest.fixture(scope="module")
def ai_dynamo() -> dict[str, Any]:
    return ask("ai_dynamo")


def ask(kind: str) -> dict[str, Any]:
    """Return the answers from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    asked = subprocess.run(
        [sys.executable, str(SCRIPT), kind], env=environment, capture_output=True, text=True, timeout=100
    )
    assert 0 == asked.returncode, asked.stderr[-2000:]
    answers: dict[str, Any] = json.loads(asked.stdout)
    return answers


def test_every_scenario_has_its_answer() -> None:
    """Nothing is asked that nobody looks at."""
    assert set(EXPECTED) == set(parity_scenarios.SCENARIOS)


@pytest.mark.parametrize("scenario", EXPECTED)
def test_dynlab_answers_so(scenario: str, local: dict[str, Any]) -> None:
    """The local runtime's client does what is written down."""
    assert EXPECTED[scenario] == local[scenario]


@pytest.mark.needs_real_engine
@pytest.mark.parametrize("scenario", EXPECTED)
def test_dynamo_answers_so(scenario: str, real: dict[str, Any]) -> None:
    """What is written down is what Dynamo does."""
    assert EXPECTED[scenario] == real[scenario]


@pytest.mark.needs_real_engine
@pytest.mark.parametrize("scenario", EXPECTED)
def test_dynlab_on_the_engine_answers_so(scenario: str, ai_dynamo: dict[str, Any]) -> None:
    """dynlab's client on Dynamo's runtime does what is written down."""
    assert EXPECTED[scenario] == ai_dynamo[scenario]
