"""`dynlab.routing.kv_history`: each early version's scores, worked out by hand, and its choice."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dynlab.routing.kv_history import (
    ForwardPassMetrics,
    SimilarPrompt,
    cost_v0_1_0,
    first_lowest,
    highest,
    logit_v0_1_1,
    logit_v0_3_0,
    similar_prompt,
)

ISL, BLOCK = 64, 16
WAITING = {
    1: ForwardPassMetrics(overlap_blocks=2, gpu_cache_usage_perc=0.5, num_requests_waiting=4),
    2: ForwardPassMetrics(overlap_blocks=1, gpu_cache_usage_perc=0.25, num_requests_waiting=1),
    3: ForwardPassMetrics(gpu_cache_usage_perc=0.125),
}
IDLE = {1: ForwardPassMetrics(), 2: ForwardPassMetrics()}


def loaded(blocks: int, slots: int, overlap: int = 0) -> ForwardPassMetrics:
    """Make the report of an engine with 100 blocks and 10 slots."""
    return ForwardPassMetrics(
        overlap, kv_active_blocks=blocks, kv_total_blocks=100, request_active_slots=slots, request_total_slots=10
    )


# ---------------------------------------------------------------------------- v0.1.0


def test_v0_1_0_uses_caches_where_loads_are_alike() -> None:
    """Loads of 20 and 20 blocks: alpha is 0.3, and half the prompt cached makes the difference."""
    costs = cost_v0_1_0({1: loaded(20, 1, overlap=2), 2: loaded(20, 5)}, ISL, BLOCK)

    assert {
        1: 0.3 * (0.2 - 20) + 0.7 * 0.5 + 0.1 * 0.1,
        2: 0.3 * (0.2 - 20) + 0.7 * 1.0 + 0.1 * 0.5,
    } == pytest.approx(costs)
    assert 1 == first_lowest(costs)


def test_v0_1_0_balances_where_loads_differ() -> None:
    """Loads of 90 and 10 blocks: alpha is 0.7, and the cached half of the prompt is given up for the idler worker."""
    costs = cost_v0_1_0({1: loaded(90, 1, overlap=2), 2: loaded(10, 1)}, ISL, BLOCK)

    assert {
        1: 0.7 * (0.9 - 50) + 0.3 * 0.5 + 0.1 * 0.1,
        2: 0.7 * (0.1 - 50) + 0.3 * 1.0 + 0.1 * 0.1,
    } == pytest.approx(costs)
    assert 2 == first_lowest(costs)


def test_v0_1_0_leaves_out_who_is_full() -> None:
    """All slots or all blocks taken: no score; and where all are full, no worker."""
    assert [3] == list(cost_v0_1_0({1: loaded(100, 1), 2: loaded(1, 10), 3: loaded(99, 9)}, ISL, BLOCK))
    assert first_lowest(cost_v0_1_0({1: loaded(100, 1)}, ISL, BLOCK)) is None
    assert first_lowest(cost_v0_1_0({}, ISL, BLOCK)) is None


def test_v0_1_0_takes_the_first_of_equals() -> None:
    """Ties go to whoever stands first."""
    assert 2 == first_lowest(cost_v0_1_0({2: loaded(1, 1), 1: loaded(1, 1)}, ISL, BLOCK))


# ---------------------------------------------------------------------------- v0.1.1


def test_v0_1_1() -> None:
    """2 * (2 * 16 / 64) - 0.5 - 4 / 4 and 2 * 0 - 0.1 - 1 / 4."""
    logits = logit_v0_1_1({1: loaded(50, 4, overlap=2), 2: loaded(10, 1)}, ISL, BLOCK)

    assert {1: -0.5, 2: -0.35} == pytest.approx(logits)
    assert 2 == highest(logits, random.Random(7))


def test_v0_1_1_finds_no_worker_while_all_are_idle() -> None:
    """The bug of its time: the very first request could not be routed."""
    assert {} == logit_v0_1_1(IDLE, ISL, BLOCK)
    assert highest({}, random.Random(7)) is None


# ---------------------------------------------------------------------------- up to v0.3.1


def test_v0_3_0() -> None:
    """2 * 0.5 - 0.5 - 4/4, 2 * 0.25 - 0.25 - 1/4 and 0 - 0.125 - 0."""
    logits = logit_v0_3_0(WAITING, ISL, BLOCK)

    assert {1: -0.5, 2: 0.0, 3: -0.125} == logits
    assert 2 == highest(logits, random.Random(7))


def test_v0_3_1_has_weights() -> None:
    """With the waiting requests left out and the overlap doubled, the cache decides."""
    logits = logit_v0_3_0(WAITING, ISL, BLOCK, overlap_score_weight=4.0, waiting_requests_weight=0.0)

    assert {1: 1.5, 2: 0.75, 3: -0.125} == logits


def test_nobody_waits() -> None:
    """Nothing is divided by 0: waiting counts nothing."""
    assert {1: 0.0, 2: 0.0} == logit_v0_3_0(IDLE, ISL, BLOCK)


def test_all_zero_is_no_choice_to_the_python_router() -> None:
    """It left the choice to its caller; Rust drew lots."""
    logits = logit_v0_3_0(IDLE, ISL, BLOCK)

    assert highest(logits, random.Random(7), none_if_all_zero=True) is None
    assert highest(logits, random.Random(7)) in IDLE


def test_ties_are_broken_by_lot() -> None:
    """Of three, two of which are best, both are drawn about as often."""
    rng = random.Random(7)

    drawn = Counter(highest({1: 0.5, 2: 0.5, 3: 0.1}, rng) for _ in range(1000))

    assert {1, 2} == set(drawn)
    assert abs(drawn[1] - 500) < 60


# ---------------------------------------------------------------------------- the disaggregation skeleton

JOKE, SERIES, FACT = "Tell me a joke", "Which team won 2020 World Series", "Tell me a fact"
PREFILL = "This is prefill disagg serving example"


def test_likeness_stands_in_for_a_cache() -> None:
    """The README's prompts: a new worker each for the joke and the World Series, the joke's for the fact at .7143."""
    cache: dict[int, str] = {}
    chosen = []
    for prompt in (JOKE, SERIES, FACT, PREFILL):
        choice = similar_prompt(prompt, cache, [7001, 7002])
        chosen.append((choice.worker_id, choice.hit_rate and round(choice.hit_rate, 4)))
        if choice.hit_rate is None:
            cache[choice.worker_id] = prompt

    assert [(7001, None), (7002, None), (7001, 0.7143), (7001, 0.2692)] == chosen


def test_an_unused_worker_is_preferred_to_an_unlike_prompt() -> None:
    """At or below the threshold the next worker without a prompt is taken, in the order of the list."""
    assert SimilarPrompt(9, None) == similar_prompt(SERIES, {7: JOKE}, [7, 9, 8])
    assert 7 == similar_prompt(JOKE, {7: JOKE}, [7, 9, 8]).worker_id
