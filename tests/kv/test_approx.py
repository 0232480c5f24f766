"""`dynlab.kv.approx`: a block is believed to be cached for so long after it was last routed, not a moment longer."""

from __future__ import annotations

import random

import pytest

from dynlab.clock import VirtualClock
from dynlab.kv.approx import ApproxKvIndexer
from dynlab.kv.events import Cleared, Removed, Stored


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_blocks_are_believed_for_their_time(clock: VirtualClock) -> None:
    """Of what was sent with a time of 120 s, all is found after 119 s and nothing after 120."""
    indexer = ApproxKvIndexer(120.0, clock)
    indexer.process_routing_decision(1, [10, 11, 12])

    clock.advance(119.0)
    assert {1: 3} == indexer.find_matches([10, 11, 12])
    clock.advance(1.0)
    assert {} == indexer.find_matches([10, 11, 12])
    assert 0 == len(indexer)


def test_only_what_is_routed_again_stays_longer(clock: VirtualClock) -> None:
    """A prompt that shares two blocks keeps those two; the third goes when its own time is over."""
    indexer = ApproxKvIndexer(120.0, clock)
    indexer.process_routing_decision(1, [10, 11, 12])
    clock.advance(100.0)
    indexer.process_routing_decision(1, [10, 11])
    indexer.process_routing_decision(2, [10])

    clock.advance(20.0)
    assert {1: 2, 2: 1} == indexer.find_matches([10, 11, 12])
    clock.advance(99.0)
    assert {1: 2, 2: 1} == indexer.find_matches([10, 11, 12])
    clock.advance(1.0)
    assert {} == indexer.find_matches([10, 11, 12])


def test_looking_up_is_no_use(clock: VirtualClock) -> None:
    """Only routing begins the time anew; a look-up does not."""
    indexer = ApproxKvIndexer(1.0, clock)
    indexer.process_routing_decision(1, [10])
    for _ in range(4):
        clock.advance(0.2)
        assert {1: 1} == indexer.find_matches([10])

    clock.advance(0.2)
    assert {} == indexer.find_matches([10])


def test_a_worker_that_comes_back_has_nothing(clock: VirtualClock) -> None:
    """What was sent before it left is forgotten, and does not end the time of what is sent after."""
    indexer = ApproxKvIndexer(10.0, clock)
    indexer.process_routing_decision(1, [10, 11])
    indexer.remove_worker(1)
    assert {} == indexer.find_matches([10])
    clock.advance(5.0)
    indexer.process_routing_decision(1, [10])

    clock.advance(5.0)
    assert {1: 1} == indexer.find_matches([10, 11])
    clock.advance(5.0)
    assert {} == indexer.find_matches([10, 11])


def test_it_hears_no_events(clock: VirtualClock) -> None:
    """What workers tell is passed over, so that nothing is lost that was assumed."""
    indexer = ApproxKvIndexer(10.0, clock)
    indexer.process_routing_decision(1, [10])

    for event in (Stored(None, (20,), (2,)), Removed((10,)), Cleared()):
        indexer.apply_event(1, event)

    assert {1: 1} == indexer.workers
    assert {} == indexer.find_matches([20])


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_what_the_times_say(clock: VirtualClock, seed: int) -> None:
    """Over random prompts, workers and waits, a walk over (worker, block) -> time of routing finds the same."""
    rng = random.Random(seed)
    indexer = ApproxKvIndexer(10.0, clock)
    routed: dict[int, dict[int, float]] = {worker: {} for worker in range(4)}
    prompts = [[base * 100 + n for n in range(20)] for base in range(3)]
    for base in range(3, 20):
        prompts.append(
            [*rng.choice(prompts)[: rng.randint(1, 20)], *(base * 100 + n for n in range(rng.randint(0, 9)))]
        )
    for _ in range(400):
        clock.advance(rng.choice([0.0, 0.5, 1.5]))
        worker, prompt = rng.randrange(4), rng.choice(prompts)
        prompt = prompt[: rng.randint(0, len(prompt))]
        if rng.random() < 0.02:
            indexer.remove_worker(worker)
            routed[worker].clear()
        else:
            indexer.process_routing_decision(worker, prompt)
            routed[worker].update(dict.fromkeys(prompt, clock.now()))
        asked = rng.choice(prompts)
        found = {
            w: next((n for n, b in enumerate(asked) if times.get(b, -99.0) + 10.0 <= clock.now()), len(asked))
            for w, times in routed.items()
        }
        assert {w: n for w, n in found.items() if n} == indexer.find_matches(asked)

    clock.advance(10.0)
    assert {} == indexer.find_matches(prompts[0])
    assert 0 == len(indexer)
