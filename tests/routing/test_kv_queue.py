"""`dynlab.routing.kv_queue`: who waits, for how long, and in which order they go. Beside Dynamo's: test_kv_parity."""

from __future__ import annotations

import random

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import RoutingError
from dynlab.routing.kv import KvRouter, KvRouterConfig
from dynlab.routing.kv_queue import KvQueue

WORKERS = [1, 2]


def queue(threshold: float | None = 0.5, tokens: int = 100) -> KvQueue:
    config = KvRouterConfig(router_queue_threshold=threshold)
    return KvQueue(KvRouter(4, config, rng=random.Random(7), clock=VirtualClock()), tokens)


def prompt(n: int, tokens: int) -> list[int]:
    """Return a prompt that shares nothing with those of other numbers."""
    return [1000 * n + token for token in range(tokens)]


def fill(queue: KvQueue, *tokens: int) -> None:
    """Send one prompt to each worker, called `first-1` and so on; all of them go at once."""
    for n, length in enumerate(tokens, 1):
        assert queue.enqueue(f"first-{n}", prompt(n, length), [n]) is not None


def test_a_request_waits_while_all_have_more_than_the_share() -> None:
    """With 0.5 of 100 tokens, 51 at each of two workers are too many; 50 at one of them are not."""
    full, half = queue(), queue()
    fill(full, 51, 51)
    fill(half, 51, 50)

    assert full.enqueue("r", prompt(9, 8), WORKERS) is None
    assert half.enqueue("r", prompt(9, 8), WORKERS) is not None
    assert (1, 8) == (full.pending_count, full.pending_isl_tokens)
    assert (0, 0) == (half.pending_count, half.pending_isl_tokens)


@pytest.mark.parametrize("ends", ["prefill_complete", "free"])
def test_it_goes_when_a_worker_has_less(ends: str) -> None:
    """When a prefill is complete, or a request is freed; it goes to the worker that has room then."""
    waiting = queue()
    fill(waiting, 60, 60)
    waiting.enqueue("r", prompt(9, 8), WORKERS)
    assert {} == waiting.update(WORKERS)

    getattr(waiting.router, ends)("first-2")
    went = waiting.update(WORKERS)

    assert {"r": 2} == {name: decision.worker_id for name, decision in went.items()}
    assert 0 == waiting.pending_count
    assert "r" in waiting.router.loads


def test_first_come_first_served() -> None:
    """They go in the order in which they came, until all workers have more than the share again."""
    waiting = queue()
    fill(waiting, 60, 60)
    for n, tokens in enumerate((8, 8, 60, 8)):
        assert waiting.enqueue(f"r{n}", prompt(9 + n, tokens), WORKERS) is None

    waiting.router.prefill_complete("first-1")
    assert ["r0", "r1", "r2"] == list(waiting.update(WORKERS))
    waiting.router.prefill_complete("first-2")
    assert ["r3"] == list(waiting.update(WORKERS))


def test_nobody_overtakes() -> None:
    """While others wait a newcomer waits too, even if there is room by now."""
    waiting = queue()
    fill(waiting, 60, 60)
    waiting.enqueue("r0", prompt(9, 8), WORKERS)
    waiting.router.free("first-1")

    assert waiting.enqueue("r1", prompt(10, 8), WORKERS) is None
    assert ["r0", "r1"] == list(waiting.update(WORKERS))


def test_who_gave_up_waits_no_more() -> None:
    """A cancelled request is not booked when its turn would come."""
    waiting = queue()
    fill(waiting, 60, 60)
    for n in range(3):
        waiting.enqueue(f"r{n}", prompt(9 + n, 8), WORKERS)

    waiting.cancel("r1")
    waiting.cancel("stranger")
    waiting.router.free("first-1")

    assert ["r0", "r2"] == list(waiting.update(WORKERS))


def test_without_a_threshold_nobody_waits() -> None:
    """Whatever there is to prefill."""
    never = queue(threshold=None)
    fill(never, 10_000, 10_000)

    assert never.enqueue("r", prompt(9, 8), WORKERS) is not None


def test_a_threshold_of_0_lets_one_at_a_time_prefill() -> None:
    """A worker with anything to prefill at all is busy."""
    strict = queue(threshold=0.0)
    fill(strict, 1, 1)
    assert strict.enqueue("r", prompt(9, 8), WORKERS) is None

    strict.router.prefill_complete("first-1")

    assert ["r"] == list(strict.update(WORKERS))


def test_without_workers_nobody_goes() -> None:
    """Who waits goes on waiting when all workers have gone; a newcomer is told that there are none."""
    waiting = queue()
    fill(waiting, 60)
    waiting.enqueue("r", prompt(9, 8), [1])
    waiting.router.remove_worker(1)

    assert {} == waiting.update([])
    assert 1 == waiting.pending_count
    with pytest.raises(RoutingError):
        queue().enqueue("r", prompt(9, 8), [])
