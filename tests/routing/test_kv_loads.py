"""`dynlab.routing.kv_loads` and `kv_tracker`: what is booked counts, once where it is shared, until it is released."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from dynlab.errors import ReservationError
from dynlab.routing.kv_loads import EXPIRES_S, Reservation, WorkerLoads
from dynlab.routing.kv_tracker import BlockTracker

Row = tuple[float, float, float]


def book(loads: WorkerLoads, name: str, worker: int, *sequence: int, prefill: int = 0, now: float = 0.0) -> None:
    loads.add(name, Reservation(worker, prefill, sequence, now + EXPIRES_S))


def row(loads: WorkerLoads, worker: int, now: float = 0.0) -> Row:
    """Return one worker's tokens to prefill, blocks in use and requests."""
    prefill, blocks, requests = loads.columns([worker], now)
    return float(prefill[0]), float(blocks[0]), float(requests[0])


# ---------------------------------------------------------------------------- sums


def test_what_is_booked_counts_until_it_is_freed() -> None:
    """A request is tokens to prefill until its first token, and blocks and a request until its end."""
    loads = WorkerLoads()

    book(loads, "a", 1, 10, 11, prefill=40)
    assert (40, 2, 1) == row(loads, 1)
    loads.prefill_complete("a")
    loads.prefill_complete("a")
    assert (0, 2, 1) == row(loads, 1)
    loads.add_output_block("a")
    assert (0, 3, 1) == row(loads, 1)
    loads.free("a")
    assert (0, 0, 0) == row(loads, 1)
    assert "a" not in loads


def test_freeing_takes_back_what_is_not_prefilled() -> None:
    """A request that ends before its first token leaves no prefill behind."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10, prefill=40)
    book(loads, "b", 1, 20, prefill=2)

    loads.free("a")

    assert (2, 1, 1) == row(loads, 1)


def test_equal_prefixes_count_once() -> None:
    """Blocks that two requests at one worker share are one; at another worker they are others."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10, 11, 12)
    book(loads, "b", 1, 10, 11, 22)
    book(loads, "c", 2, 10, 11)

    assert [4, 2] == loads.columns([1, 2], 0.0)[1].tolist()
    assert {1: 2, 2: 2} == loads.shared([10, 11, 99])
    loads.free("a")
    assert {1: 2, 2: 2} == loads.shared([10, 11, 12])
    loads.free("b")
    assert {2: 2} == loads.shared([10, 11, 12])
    assert [0, 2] == loads.columns([1, 2], 0.0)[1].tolist()


def test_columns_are_in_the_order_asked_for() -> None:
    """One entry a worker, zeros for one that was sent nothing, however many workers there are."""
    loads = WorkerLoads()
    for worker in range(100):
        book(loads, f"r{worker}", worker, prefill=worker)
    loads.remove_worker(50)

    assert [7.0, 0.0, 99.0, 0.0] == loads.columns([7, 50, 99, 12345], 0.0)[0].tolist()
    book(loads, "new", 12345, prefill=5)
    assert [0.0, 5.0, 98.0] == loads.columns([50, 12345, 98], 0.0)[0].tolist()


def test_a_worker_that_is_gone_takes_its_requests_along() -> None:
    """They are booked no more, and their names are free."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10)
    book(loads, "b", 2, 10)

    loads.remove_worker(1)
    loads.remove_worker(1)

    assert ["b"] == [name for name in ("a", "b") if name in loads]
    assert {2: 1} == loads.shared([10])
    book(loads, "a", 1, 20)
    assert (0, 1, 1) == row(loads, 1)


@pytest.mark.parametrize("ask", ["prefill_complete", "add_output_block", "free"])
def test_what_is_not_booked_is_refused(ask: str) -> None:
    """The sentence has Dynamo's words."""
    with pytest.raises(ReservationError, match="reservation r-1 not found"):
        getattr(WorkerLoads(), ask)("r-1")


def test_a_request_is_booked_once() -> None:
    """The second booking is refused and changes nothing."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10)

    with pytest.raises(ReservationError, match="reservation a exists already"):
        book(loads, "a", 2, 20, prefill=9)

    assert [0, 0] == loads.columns([1, 2], 0.0)[0].tolist()
    assert [1, 0] == loads.columns([1, 2], 0.0)[2].tolist()


# ---------------------------------------------------------------------------- time


def test_a_request_that_nobody_freed_is_forgotten() -> None:
    """Booked at 0 and at 40 s and looked at every 30 s, one is there until 330 s, the other until 360."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10, prefill=4, now=0.0)
    book(loads, "b", 1, 10, 11, prefill=5, now=40.0)

    seen = {now: row(loads, 1, float(now)) for now in range(0, 390, 30)}

    assert {(9, 2, 2)} == {seen[now] for now in range(0, 330, 30)}
    assert ((5, 2, 1), (0, 0, 0)) == (seen[330], seen[360])
    assert "a" not in loads


def test_between_two_looks_nothing_is_forgotten() -> None:
    """A request is 300 s old at 305 s, but the look is at 320 s."""
    loads = WorkerLoads()
    book(loads, "a", 1, 10, now=5.0)

    assert (0, 1, 1) == row(loads, 1, now=290.0)
    assert (0, 1, 1) == row(loads, 1, now=319.9)
    assert (0, 0, 0) == row(loads, 1, now=320.0)


# ---------------------------------------------------------------------------- fractions


def test_a_fraction_is_for_what_one_request_alone_uses() -> None:
    """Of [1, 2, 3] and an answer's block only what no other request shares counts less; later sharing changes nothing.

    Two requests share [1]; the first has [2, 3] and one answer's block for itself: 1 + 3 * 0.5 and 1 for [9] of the
    other. A third that shares [1, 2, 3] finds them counting what they did; so do they when the first has gone.
    """
    tracker = BlockTracker()
    first, second = tracker.acquire_prompt([1, 2, 3]), tracker.acquire_prompt([1, 9])
    outputs: list[float] = []
    tracker.append_output(outputs)
    tracker.set_fraction(first, outputs, 0.5)
    assert 4 == tracker.active_blocks  # 3.5

    third = tracker.acquire_prompt([1, 2, 3, 4])
    assert 5 == tracker.active_blocks  # 4.5
    assert 0 == tracker.release(first, outputs)
    assert 4 == tracker.active_blocks  # 1 + 0.5 + 0.5 + 1 + 1
    assert 3 == tracker.release(third, [])
    assert 2 == tracker.active_blocks
    assert 2 == tracker.release(second, [])
    assert 0 == tracker.active_blocks


@pytest.mark.parametrize(("fraction", "blocks"), [(0.0, 0), (0.1, 0), (0.125, 1), (0.25, 1), (0.375, 2), (1.0, 4)])
def test_half_a_block_is_one(fraction: float, blocks: int) -> None:
    """Three blocks of a prompt and one of an answer: the sum is rounded, a half upwards."""
    tracker = BlockTracker()
    edge, outputs = tracker.acquire_prompt([1, 2, 3]), list[float]()
    tracker.append_output(outputs)

    tracker.set_fraction(edge, outputs, fraction)

    assert blocks == tracker.active_blocks


def test_sums_do_not_wear_out() -> None:
    """Adding and taking back 0.1 for ever leaves no rest: with nothing in use the sum is 0."""
    tracker = BlockTracker()
    for n in range(1000):
        edge, outputs = tracker.acquire_prompt([1, 2, n + 3]), list[float]()
        for _ in range(3):
            tracker.append_output(outputs)
            tracker.set_fraction(edge, outputs, 0.1)
        tracker.release(edge, outputs)

    assert (0.0, 0.0) == (tracker._prompt_total, tracker._output_total)
    assert not tracker._root.children


@dataclass
class Asked:
    """A request of the plain model: its blocks, and its answer's, each with a name of its own."""

    edge: object
    sequence: list[int]
    outputs: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize("seed", range(10))
def test_it_counts_what_a_plain_count_counts(seed: int) -> None:
    """Over random requests: each block 1, or the fraction last given while one request alone used it."""
    rng = random.Random(seed)
    tracker, uses, weights = BlockTracker(), Counter[object](), dict[object, float]()
    live: list[Asked] = []
    for step in range(400):
        kind = rng.random()
        if kind < 0.35 or not live:
            base = rng.randrange(3) * 100
            sequence = [*range(base, base + rng.randint(0, 12)), *range(1000 * step, 1000 * step + rng.randint(0, 3))]
            if step == 0:
                sequence = []
            live.append(Asked(tracker.acquire_prompt(sequence), sequence))
            uses.update(sequence)
        elif kind < 0.75:
            asked = rng.choice(live)
            tracker.append_output(asked.outputs)
            asked.names.append(f"out {step}")
            uses[f"out {step}"] += 1
            if kind < 0.6:
                fraction = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0])  # sums of these are exact in any order
                tracker.set_fraction(asked.edge, asked.outputs, fraction)  # type: ignore[arg-type]
                weights.update({b: fraction for b in (*asked.sequence, *asked.names) if uses[b] == 1})
        else:
            asked = live.pop(rng.randrange(len(live)))
            uses.subtract([*asked.sequence, *asked.names])
            unused = [block for block in asked.sequence if not uses[block]]
            assert len(unused) == tracker.release(asked.edge, asked.outputs)  # type: ignore[arg-type]
            uses += Counter()
            weights = {block: weight for block, weight in weights.items() if block in uses}
        assert math.floor(sum(weights.get(block, 1.0) for block in uses) + 0.5) == tracker.active_blocks
