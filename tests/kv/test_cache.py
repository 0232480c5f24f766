"""`dynlab.kv.cache`: who goes first, who never goes, and that what it tells is what it does."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dynlab.errors import CacheFullError
from dynlab.kv.blocks import sequence_hashes
from dynlab.kv.cache import KvCache
from dynlab.kv.events import Cleared, KvEvent, Removed, Stored
from dynlab.kv.indexer import KvIndexer

WORKER = 7


def prompt(*blocks: int) -> list[int]:
    """Return the sequence hashes of blocks with these hashes."""
    return sequence_hashes(blocks)


def use(cache: KvCache, sequence: Sequence[int]) -> int:
    """Hold a sequence and release it at once; its blocks' own hashes do not matter."""
    cached = cache.hold(sequence, sequence)
    cache.release(sequence)
    return cached


# ---------------------------------------------------------------------------- in small


def test_what_was_used_is_found_again() -> None:
    """The leading blocks that are held are matched, up to the first that is not."""
    cache = KvCache(8)

    assert [0, 3, 2, 0] == [use(cache, prompt(*p)) for p in ([1, 2, 3], [1, 2, 3], [1, 2, 9], [2, 3])]
    assert 2 == cache.match(prompt(1, 2, 8, 3))
    assert 6 == len(cache)


def test_the_least_recently_used_leaf_goes_first() -> None:
    """Of [1, 2] and the later [1, 3], block 2 goes, then 3; their parent stays until both are gone."""
    cache = KvCache(3)
    use(cache, prompt(1, 2))
    use(cache, prompt(1, 3))

    use(cache, prompt(4))
    assert [1, 2, 1] == [cache.match(prompt(*p)) for p in ([1, 2], [1, 3], [4])]
    use(cache, prompt(5))
    assert [1, 1, 1] == [cache.match(prompt(*p)) for p in ([1, 3], [4], [5])]
    use(cache, prompt(6))
    assert [0, 1, 1, 1] == [cache.match(prompt(*p)) for p in ([1], [4], [5], [6])]


def test_what_is_in_use_stays() -> None:
    """Even the oldest stays while it is held, and all that is in use together may fill the cache."""
    cache = KvCache(4)
    held = prompt(1, 2)
    cache.hold(held, held)
    use(cache, prompt(3))
    use(cache, prompt(4))
    assert 2 == cache.free

    use(cache, prompt(5, 6))

    assert 2 == cache.match(held)
    assert [0, 0, 2] == [cache.match(prompt(*p)) for p in ([3], [4], [5, 6])]


def test_a_block_held_twice_is_released_twice() -> None:
    """Two requests share [1]; after one has ended the other's blocks still stay."""
    cache = KvCache(2)
    one, two = prompt(1), prompt(1, 2)
    cache.hold(one, one)
    cache.hold(two, two)
    cache.release(one)

    with pytest.raises(CacheFullError):
        cache.hold(prompt(3), [3])
    cache.release(two)
    assert 0 == use(cache, prompt(3))
    assert 1 == cache.match(two)


def test_a_prompt_that_does_not_fit_changes_nothing() -> None:
    """Refused is a prompt for whose blocks there is no room beside those in use; nothing went, nobody was told."""
    told: list[KvEvent] = []
    cache = KvCache(4, told.append)
    held = prompt(1, 2)
    cache.hold(held, held)
    use(cache, prompt(3))
    use(cache, prompt(4))
    before = list(told)

    with pytest.raises(CacheFullError, match="3 more blocks do not fit: the cache has room for 4, and 2 are in use"):
        use(cache, prompt(3, 5, 6, 7))

    assert before == told
    use(cache, prompt(8))  # 3 was the first to go, and still is
    assert [0, 1, 1, 2] == [cache.match(prompt(*p)) for p in ([3], [4], [8], [1, 2])]


def test_clearing_leaves_what_is_in_use() -> None:
    """With nothing in use a cache says that it is empty; else it names what went."""
    told: list[KvEvent] = []
    cache = KvCache(None, told.append)
    held = prompt(1, 2)
    cache.hold(held, held)
    use(cache, prompt(1, 2, 3))

    cache.clear()
    assert [Removed((prompt(1, 2, 3)[2],))] == told[2:]
    cache.clear()
    assert 3 == len(told)
    cache.release(held)
    cache.clear()
    assert Cleared() == told[-1]
    assert 0 == len(cache)


def test_without_a_bound_nothing_goes() -> None:
    """A cache of capacity None takes everything."""
    cache = KvCache(None)
    for n in range(1000):
        use(cache, prompt(n, n + 1))

    assert 2000 == len(cache)
    assert float("inf") == cache.free


# ---------------------------------------------------------------------------- against a model without any cleverness


class LruModel:
    """Blocks in a list, the least recently used first, looked through from the start each time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks: list[int] = []
        self.parents: dict[int, int | None] = {}
        self.uses: dict[int, int] = {}

    def idle_leaves(self) -> list[int]:
        parents = {self.parents[block] for block in self.blocks}
        return [block for block in self.blocks if block not in parents and not self.uses.get(block)]

    def hold(self, sequence: Sequence[int]) -> int | None:
        """Return how many were cached; None, and no change, if there is no room."""
        before = list(self.blocks), dict(self.uses)
        cached = next((n for n, block in enumerate(sequence) if block not in self.blocks), len(sequence))
        for block in sequence[:cached]:
            self.uses[block] = self.uses.get(block, 0) + 1
        while len(self.blocks) + len(sequence) - cached > self.capacity:
            if not (leaves := self.idle_leaves()):
                self.blocks, self.uses = before
                return None
            self.blocks.remove(leaves[0])
        for parent, block in zip([None, *sequence], sequence, strict=False):
            if block not in self.blocks:
                self.blocks.append(block)
                self.parents[block] = parent
                self.uses[block] = 1
        return cached

    def release(self, sequence: Sequence[int]) -> None:
        for block in reversed(sequence):
            self.uses[block] -= 1
            if not self.uses[block]:
                self.blocks.remove(block)
                self.blocks.append(block)


PROMPTS = st.lists(st.integers(1, 3), min_size=0, max_size=7).map(lambda blocks: sequence_hashes(blocks))


class CacheMachine(RuleBasedStateMachine):
    """Hold and release prompts that share much in a cache that has little room."""

    def __init__(self) -> None:
        super().__init__()
        self.model = LruModel(10)
        self.indexer = KvIndexer()
        self.parents: dict[int, int | None] = {}
        self.cache = KvCache(10, self.hear)
        self.held: list[list[int]] = []

    def hear(self, event: KvEvent) -> None:
        """Follow the events; no block goes before the one behind it, none comes without the one before it."""
        match event:
            case Stored(parent, hashes, tokens_hashes):
                assert parent is None or parent in self.parents
                assert tuple(block + 1 for block in hashes) == tokens_hashes
                self.parents.update(zip(hashes, (parent, *hashes), strict=False))
            case Removed(hashes):
                for block in hashes:
                    del self.parents[block]
                    assert block not in self.parents.values()
            case Cleared():
                self.parents.clear()
        self.indexer.apply_event(WORKER, event)

    @rule(sequence=PROMPTS)
    def hold(self, sequence: list[int]) -> None:
        expected = self.model.hold(sequence)
        if expected is None:
            with pytest.raises(CacheFullError):
                self.cache.hold(sequence, [block + 1 for block in sequence])
        else:
            assert expected == self.cache.hold(sequence, [block + 1 for block in sequence])
            self.held.append(sequence)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        sequence = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.model.release(sequence)
        self.cache.release(sequence)

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.blocks = [block for block in self.model.blocks if self.model.uses.get(block)]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Equal content here, in the model, and as the events tell it; never more than fits."""
        assert set(self.model.blocks) == set(self.parents)
        assert len(self.cache) == len(self.parents) == self.indexer.workers.get(WORKER, 0) == len(self.indexer) <= 10
        assert all(block in self.cache for block in self.parents)
        used = sum(1 for block in self.model.blocks if self.model.uses.get(block))
        assert 10 - used == self.cache.free

    @rule(sequence=PROMPTS)
    def match(self, sequence: list[int]) -> None:
        """What is matched here is what an index matches that heard the events."""
        assert self.cache.match(sequence) == self.indexer.find_matches(sequence).get(WORKER, 0)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True)


@pytest.mark.parametrize("capacity", [8, 20, 60, 1000])
def test_hit_rates_are_an_lru_caches(capacity: int) -> None:
    """Over 400 requests of a made-up chat, each hit and each miss is the plain model's."""
    rng = random.Random(capacity)
    cache, model = KvCache(capacity), LruModel(capacity)
    chats: list[list[int]] = [[0]]
    hits = []
    for n in range(400):
        chat = rng.choice(chats[-6:])
        chat = [*chat, *range(100 * n, 100 * n + rng.randint(0, 2))] if len(chat) < 7 else [0, n]
        chats.append(chat)
        sequence = prompt(*chat)
        hits.append(use(cache, sequence))
        assert hits[-1] == model.hold(sequence)
        model.release(sequence)

    assert 400 < sum(hits)
