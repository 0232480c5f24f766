"""`dynlab.kv.indexer`: it finds what a walk over plain sets finds, and keeps nothing that nobody holds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from dynlab.errors import KvEventError
from dynlab.kv.events import Cleared, Removed, Stored
from dynlab.kv.indexer import KvIndexer

Found = dict[int, int]


def stored(indexer: KvIndexer, worker: int, *blocks: int, behind: int | None = None) -> None:
    indexer.apply_event(worker, Stored(behind, blocks, blocks))


def empty(indexer: KvIndexer) -> bool:
    """Whether nothing is kept, however long it was used."""
    return not (len(indexer) or indexer._runs or indexer._root.children or any(indexer._islands.values()))


# ---------------------------------------------------------------------------- in small


def test_each_worker_is_found_as_far_as_its_blocks_reach() -> None:
    """Who holds none of a prompt is left out; behind its last known block nobody holds anything."""
    indexer = KvIndexer()
    stored(indexer, 1, 10, 11, 12)
    stored(indexer, 2, 10, 11, 22)
    stored(indexer, 3, 30)

    assert {1: 3, 2: 2} == indexer.find_matches([10, 11, 12, 13])
    assert {1: 2, 2: 3} == indexer.find_matches((10, 11, 22))
    assert {1: 1, 2: 1} == indexer.find_matches([10])
    assert {3: 1} == indexer.find_matches([30, 11])
    assert {} == indexer.find_matches([11, 12]) == indexer.find_matches([])
    assert {1: 3, 2: 3, 3: 1} == indexer.workers
    assert 5 == len(indexer)


def test_blocks_come_behind_a_parent() -> None:
    """An answer's blocks are stored one by one behind the prompt's, and are found as its going on."""
    indexer = KvIndexer()
    stored(indexer, 1, 10, 11)
    stored(indexer, 1, 12, behind=11)
    stored(indexer, 2, 10, 11)
    stored(indexer, 2, 22, 23, behind=11)

    assert {1: 3, 2: 2} == indexer.find_matches([10, 11, 12])
    assert {1: 2, 2: 4} == indexer.find_matches([10, 11, 22, 23])


def test_storing_again_changes_nothing() -> None:
    """The same event twice counts once."""
    indexer = KvIndexer()
    for _ in range(2):
        stored(indexer, 1, 10, 11)
        stored(indexer, 1, 10)

    assert {1: 2} == indexer.workers == indexer.find_matches([10, 11])


def test_removed_and_cleared() -> None:
    """What goes is found no more; a cleared worker is still known, one that is gone is not."""
    indexer = KvIndexer()
    for worker in (1, 2, 3):
        stored(indexer, worker, 10, 11, 12)

    indexer.apply_event(1, Removed((12, 11)))
    indexer.apply_event(2, Cleared())
    assert {1: 1, 3: 3} == indexer.find_matches([10, 11, 12])
    assert {1: 1, 2: 0, 3: 3} == indexer.workers

    indexer.remove_worker(3)
    indexer.remove_worker(4)
    assert {1: 1, 2: 0} == indexer.workers
    assert 1 == len(indexer)
    indexer.apply_event(1, Removed((10,)))
    assert empty(indexer)


@pytest.mark.parametrize("holder", [1, 2], ids=["nobody holds it", "another worker holds it"])
def test_an_unknown_parent_is_refused(holder: int) -> None:
    """Blocks behind one that this worker does not hold: with the words of Dynamo, and nothing changes."""
    indexer = KvIndexer()
    stored(indexer, holder, 10, 11)

    with pytest.raises(KvEventError, match="Failed to find parent block 99 at worker 1: an event before this one"):
        stored(indexer, 1, 12, behind=99)
    if holder == 2:
        with pytest.raises(KvEventError, match="Failed to find parent block 11 at worker 1"):
            stored(indexer, 1, 12, behind=11)
    assert {holder: 2} == indexer.workers


@pytest.mark.parametrize("holder", [1, 2], ids=["nobody holds it", "another worker holds it"])
def test_an_unknown_block_is_refused(holder: int) -> None:
    """The removal of what this worker does not hold: with the words of Dynamo; what stands before it has gone."""
    indexer = KvIndexer()
    stored(indexer, holder, 10, 11)
    stored(indexer, 1, 20)

    with pytest.raises(KvEventError, match="Failed to find block 99 at worker 1: an event before this one"):
        indexer.apply_event(1, Removed((20, 99)))
    with pytest.raises(KvEventError, match="Failed to find block 20 at worker 1"):
        indexer.apply_event(1, Removed((20,)))
    if holder == 2:
        with pytest.raises(KvEventError, match="Failed to find block 11 at worker 1"):
            indexer.apply_event(1, Removed((11,)))
    with pytest.raises(KvEventError, match="Failed to find block 10 at worker 77"):
        indexer.apply_event(77, Removed((10,)))


def test_a_walk_stops_at_a_hole() -> None:
    """Blocks behind one that is gone cannot be reached, until it comes back; meanwhile they may go, or more come."""
    indexer = KvIndexer()
    stored(indexer, 1, 10, 11, 12, 13)
    stored(indexer, 2, 10, 11, 12)
    prompt = [10, 11, 12, 13, 14]

    indexer.apply_event(1, Removed((11,)))
    assert {1: 1, 2: 3} == indexer.find_matches(prompt)
    assert {1: 3, 2: 3} == indexer.workers
    stored(indexer, 1, 14, behind=13)
    assert {1: 1, 2: 3} == indexer.find_matches(prompt)
    stored(indexer, 1, 11, behind=10)
    assert {1: 5, 2: 3} == indexer.find_matches(prompt)

    indexer.apply_event(1, Removed((12,)))
    indexer.apply_event(1, Removed((14, 10)))
    assert {1: 2, 2: 3} == indexer.workers
    assert {2: 3} == indexer.find_matches(prompt)
    stored(indexer, 1, 10)
    assert {1: 2, 2: 3} == indexer.find_matches(prompt)
    indexer.remove_worker(1)
    indexer.remove_worker(2)
    assert empty(indexer)


def test_blocks_without_a_fork_are_one_run() -> None:
    """However they came, and also after a fork is none any more: a look-up takes a step a fork, not a block."""
    indexer = KvIndexer()
    for block in range(10, 30):
        stored(indexer, 1, block, behind=block - 1 if block > 10 else None)
    assert 1 == len(set(indexer._runs.values()))

    stored(indexer, 2, *range(10, 20), 99)
    assert 3 == len(set(indexer._runs.values()))
    indexer.apply_event(2, Removed((99,)))
    assert 1 == len(set(indexer._runs.values()))
    assert {1: 20, 2: 10} == indexer.find_matches(range(10, 40))


# ---------------------------------------------------------------------------- against plain sets


class Blocks:
    """A made-up tree of blocks: each has a parent, a lower number."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.parents: dict[int, int | None] = {}
        self.children: dict[int | None, list[int]] = {None: []}
        for block in range(1, size):
            # Mostly on from the one before, as prompts are long and forks few.
            parent = block - 1 if block > 1 and rng.random() < 0.8 else rng.choice([None, *range(1, block)])
            self.parents[block] = parent
            self.children[block] = []
            self.children[parent].append(block)

    def prompt(self, last: int) -> list[int]:
        """Return the blocks from the beginning to this one."""
        blocks: list[int] = []
        block: int | None = last
        while block is not None:
            blocks.append(block)
            block = self.parents[block]
        return blocks[::-1]

    def leaf_first(self, rng: random.Random, held: set[int]) -> Iterator[int]:
        """Give up some blocks, none of them before one behind it."""
        block: int | None = rng.choice(sorted(b for b in held if not held.intersection(self.children[b])))
        gone: set[int] = set()
        while block in held and not (held - gone).intersection(self.children[block]) and rng.random() < 0.8:
            yield block
            gone.add(block)
            block = self.parents[block]


def walk(held: dict[int, set[int]], prompt: Sequence[int]) -> Found:
    """Find how far each worker's blocks go without a gap."""
    found = {
        worker: next((n for n, block in enumerate(prompt) if block not in blocks), len(prompt))
        for worker, blocks in held.items()
    }
    return {worker: n for worker, n in found.items() if n}


def live(seed: int, steps: int, workers: int, *, holes: bool) -> None:
    """Let workers store and remove at random, and look things up after each step."""
    rng = random.Random(seed)
    tree = Blocks(rng, rng.choice([20, 60, 250]))
    indexer, held = KvIndexer(), dict[int, set[int]]()
    for _ in range(steps):
        worker = rng.randrange(workers)
        blocks = held.get(worker, set())
        kind = rng.random()
        if kind < 0.5 or not blocks:
            prompt = tree.prompt(rng.randrange(1, len(tree.parents)))
            cut = rng.choice([0, *(n for n, block in enumerate(prompt, 1) if block in blocks)])
            stored(indexer, worker, *prompt[cut:], behind=prompt[cut - 1] if cut else None)
            held.setdefault(worker, set()).update(prompt[cut:])
        elif kind < 0.96:
            gone = [rng.choice(sorted(blocks))] if holes and kind < 0.7 else list(tree.leaf_first(rng, blocks))
            indexer.apply_event(worker, Removed(tuple(gone)))
            blocks.difference_update(gone)
        elif kind < 0.98:
            indexer.apply_event(worker, Cleared())
            blocks.clear()
        else:
            indexer.remove_worker(worker)
            del held[worker]
        assert {w: len(b) for w, b in sorted(held.items())} == indexer.workers
        for _ in range(2):
            prompt = [*tree.prompt(rng.randrange(1, len(tree.parents))), 10**6][: rng.randint(1, 99)]
            assert walk(held, prompt) == indexer.find_matches(prompt)
        if not holes:
            assert len(set().union(*held.values())) == len(indexer)
    for worker in held:
        indexer.remove_worker(worker)
    assert empty(indexer)


@pytest.mark.parametrize("workers", [1, 3, 16, 64])
@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_walk_finds(workers: int, seed: int) -> None:
    """With caches that give up leaves first: every look-up, every count; and at the end nothing is left."""
    live(seed, 300, workers, holes=False)


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_walk_finds_with_holes(workers: int, seed: int) -> None:
    """With caches that give up any block at any time: every look-up and every count just the same."""
    live(100 + seed, 300, workers, holes=True)


# ---------------------------------------------------------------------------- what cannot be


def test_a_block_has_one_place() -> None:
    """A hash that is known behind one block cannot come behind another, nor twice in one prompt."""
    indexer = KvIndexer()
    stored(indexer, 1, 10, 11)

    for worker, blocks in ((2, (20, 11)), (1, (30, 31, 30))):
        with pytest.raises(KvEventError, match="blocks behind one another: some of them are known"):
            stored(indexer, worker, *blocks)

    assert {1: 2, 2: 0} == indexer.workers


@pytest.mark.parametrize("seed", range(5))
def test_nonsense_does_no_harm(seed: int) -> None:
    """Whatever engines without sense tell, it is refused or followed; when they are gone, nothing is left."""
    rng = random.Random(seed)
    for _ in range(60):
        indexer, refused = KvIndexer(), 0
        for _ in range(80):
            worker, some = rng.randrange(3), tuple(rng.choices(range(12), k=rng.randint(0, 4)))
            told = rng.choice([Stored(rng.choice([None, 3, 7]), some, some), Stored(None, some, some), Removed(some)])
            try:
                indexer.apply_event(worker, told)
            except KvEventError:
                refused += 1
            assert set(indexer.find_matches(some)) <= {0, 1, 2}
        assert refused
        for worker in range(3):
            indexer.remove_worker(worker)
        assert empty(indexer)
