"""`dynlab.routing.kv`: what a reservation changes, and what ends it; and the settings."""

from __future__ import annotations

import math

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import ConfigError, ReservationError
from dynlab.kv.approx import ApproxKvIndexer
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.kv import KvRouterConfig
from tests.routing.test_kv import OTHER, PROMPT, costs, router, send, uneven


def test_workers_tell_what_they_cache() -> None:
    """With KV events on, a booked prompt is in no cache until its worker says so."""
    made = router()
    send(made, "a", 1, PROMPT, prefilled=True)

    assert {} == made.indexer.find_matches(made.hashes(PROMPT))
    assert type(made.indexer) is KvIndexer


def test_without_events_caches_are_assumed() -> None:
    """A booked prompt is taken for cached at once, and for `router_ttl_secs` after it was routed last."""
    clock = VirtualClock()
    made = router(KvRouterConfig(use_kv_events=False, router_ttl_secs=60.0), clock)
    assert isinstance(made.indexer, ApproxKvIndexer)
    send(made, "a", 1, PROMPT, prefilled=True)
    made.free("a")

    clock.advance(59.0)
    assert {1: 8.0, 2: 16.0} == costs(made.decide(PROMPT, [1, 2]))
    clock.advance(1.0)
    assert {1: 16.0, 2: 16.0} == costs(made.decide(PROMPT, [1, 2]))


def test_what_is_cached_need_not_be_prefilled() -> None:
    """Of 30 tokens with seven full blocks cached two are left to prefill; the tail is never cached."""
    made = router()
    made.indexer.store(1, made.hashes(PROMPT))
    send(made, "a", 1, PROMPT[:30])
    send(made, "b", 1, PROMPT)

    assert 2 == made.decide(OTHER[:4], [1]).terms[0].prefill_tokens


def test_answers_fill_blocks() -> None:
    """Each counts one; with a fraction, all blocks that only this request uses count that much."""
    made = router()
    send(made, "a", 1, PROMPT, prefilled=True)
    for _ in range(2):
        made.add_output_block("a")
    assert 11 == made.decide(OTHER[:4], [1]).terms[0].decode_blocks

    made.add_output_block("a", decay_fraction=0.5)

    assert 1 + 6 == made.decide(OTHER[:4], [1]).terms[0].decode_blocks  # 5.5, rounded


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_fraction_is_between_0_and_1(fraction: float) -> None:
    """Anything else is refused with Dynamo's words."""
    made = router()
    send(made, "a", 1, PROMPT)

    with pytest.raises(ConfigError, match=r"decay_fraction=.* must be between 0\.0 and 1\.0"):
        made.add_output_block("a", decay_fraction=fraction)


def test_a_request_is_reserved_once_and_freed_once() -> None:
    """Otherwise the error names it."""
    made = router()
    send(made, "a", 1, PROMPT)

    with pytest.raises(ReservationError, match="reservation a exists already"):
        send(made, "a", 1, PROMPT)
    made.free("a")
    with pytest.raises(ReservationError, match="reservation a not found"):
        made.free("a")


def test_a_reservation_that_nobody_freed_is_forgotten() -> None:
    """After 300 s, at the next decision that comes 30 s or more after the last look."""
    clock = VirtualClock()
    made = router(clock=clock)
    send(made, "a", 1, PROMPT)

    clock.advance(300.0)
    assert 1 == made.decide(PROMPT, [1]).terms[0].active_requests
    clock.advance(30.0)
    assert 0 == made.decide(PROMPT, [1]).terms[0].active_requests


def test_a_worker_that_is_gone_leaves_nothing() -> None:
    """Neither what it cached nor what it was sent."""
    made = uneven(KvRouterConfig(use_kv_events=False))

    made.remove_worker(2)

    assert {1: 18.0, 2: 16.0, 3: 16.0} == costs(made.decide(PROMPT, [1, 2, 3]))
    assert [1] == list(made.indexer.find_matches(made.hashes(OTHER[:12])))


def test_equal_seeds_choose_equally() -> None:
    """Two routers of one seed make the same hundred choices."""
    first, again = (router(KvRouterConfig(router_temperature=1.0)) for _ in range(2))

    assert [first.decide(PROMPT, range(9)).worker_id for _ in range(100)] == [
        again.decide(PROMPT, range(9)).worker_id for _ in range(100)
    ]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["overlap_score_credit", "router_temperature", "router_queue_threshold"])
def test_settings_are_numbers_of_0_or_more(name: str, value: float) -> None:
    """The error names the setting and the value."""
    with pytest.raises(ConfigError, match=rf"{name}={value} must be a number of 0 or more"):
        KvRouterConfig(**{name: value})
