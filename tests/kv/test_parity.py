"""Hashes and index are what `ai-dynamo-runtime` 1.6.1 makes of the same; whole decisions: tests/test_kv_parity.py."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dynlab.errors import KvEventError
from dynlab.kv.blocks import block_hashes, sequence_hashes
from dynlab.kv.cache import KvCache
from dynlab.kv.events import Cleared, KvEvent, Stored, event_data
from dynlab.kv.indexer import KvIndexer

pytestmark = pytest.mark.needs_real_engine

B = 4


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module reads how much to log when it is first imported."""
    monkeypatch.setenv("DYN_LOG", "error")


# ---------------------------------------------------------------------------- hashes


def test_block_hashes() -> None:
    """2,000 random prompts, of 0 to 600 tokens in blocks of 1 to 64, some for an adapter or a namespace."""
    from dynamo._core import compute_block_hash_for_seq

    rng = random.Random(1)
    for _ in range(2_000):
        tokens = [
            rng.choice([0, 2**32 - 1, rng.randrange(2**32), rng.randrange(1000)]) for _ in range(rng.randint(0, 600))
        ]
        size = rng.randint(1, 64)
        adapter, namespace = (rng.choice([None, None, "", "a", "an adapter", "naïve/Zoë"]) for _ in range(2))

        expected = compute_block_hash_for_seq(tokens, size, lora_name=adapter, cache_namespace=namespace)

        assert expected == block_hashes(tokens, size, adapter, namespace)


@pytest.mark.parametrize("tokens", [[1, -1], [1, 2**32], [1, 1.5], [1, "1"], [1, None]], ids=str)
def test_what_is_no_token_is_none_there_either(tokens: list[Any]) -> None:
    """Both refuse the same; and what is a number for one is a number for the other."""
    from dynamo._core import compute_block_hash_for_seq

    with pytest.raises((OverflowError, TypeError)):
        compute_block_hash_for_seq(tokens, 2)
    with pytest.raises(ValueError, match="is no token id"):
        block_hashes(tokens, 2)
    assert compute_block_hash_for_seq([True, 2], 2) == block_hashes([True, 2], 2)


# ---------------------------------------------------------------------------- the index


class Trees:
    """Dynamo's `RadixTree` and dynlab's index, told the same."""

    def __init__(self) -> None:
        from dynamo._core import RadixTree

        self.tree, self.indexer = RadixTree(), KvIndexer()

    def apply(self, worker: int, event: KvEvent) -> None:
        self.tree.apply_event(worker, json.dumps({"event_id": 0, "data": event_data(event)}).encode())
        self.indexer.apply_event(worker, event)

    def assert_equal(self, tokens: Sequence[int]) -> None:
        """Assert that both find the same workers, equally far."""
        blocks = block_hashes(tokens, B)
        found = self.indexer.find_matches(sequence_hashes(blocks))
        assert self.tree.find_matches(blocks).scores == {(worker, 0): depth for worker, depth in found.items()}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("workers", [1, 4, 16, 64])
def test_the_index_finds_what_the_radix_tree_finds(workers: int, seed: int) -> None:
    """Workers with small caches serve prompts that share much, are cleared, and leave: every look-up is equal."""
    rng = random.Random(seed)
    trees = Trees()
    caches = {w: KvCache(rng.choice([5, 20, 100]), lambda event, w=w: trees.apply(w, event)) for w in range(workers)}
    prompts = [[rng.randrange(99) for _ in range(B * 30)]]
    for _ in range(200):
        prompt = rng.choice(prompts[-8:])
        prompt = prompt[: B * rng.randint(1, len(prompt) // B)] + [
            rng.randrange(99) for _ in range(rng.randint(0, 5 * B))
        ]
        prompts.append(prompt)
        worker = rng.randrange(workers)
        blocks = block_hashes(prompt, B)[: caches[worker].capacity]
        sequence = sequence_hashes(blocks)
        caches[worker].hold(sequence, blocks)
        caches[worker].release(sequence)
        if rng.random() < 0.03:
            caches[worker].clear()
        if rng.random() < 0.02:
            trees.tree.remove_worker(worker)
            trees.indexer.remove_worker(worker)
            caches[worker] = KvCache(20, lambda event, w=worker: trees.apply(w, event))
        for _ in range(3):
            asked = rng.choice(prompts)
            trees.assert_equal(asked[: rng.randint(0, len(asked))])


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"removed": {"block_hashes": [99]}}, "Failed to find block"),
        (
            {"stored": {"parent_hash": 99, "blocks": [{"block_hash": 5, "tokens_hash": 5}]}},
            "Failed to find parent block",
        ),
    ],
    ids=["an unknown block", "an unknown parent"],
)
@pytest.mark.parametrize("worker", [1, 2], ids=["of this worker", "of another"])
def test_the_index_refuses_what_the_radix_tree_refuses(event: dict[str, Any], words: str, worker: int) -> None:
    """A block that the worker does not hold, even if another does: both say so with the same words."""
    trees = Trees()
    trees.apply(worker, Stored(None, (99 if worker == 2 else 98,), (1,)))
    if "stored" in event:
        mine: Callable[[], None] = lambda: trees.indexer.store(1, [5], 99)  # noqa: E731
    else:
        mine = lambda: trees.indexer.remove(1, [99])  # noqa: E731

    with pytest.raises(RuntimeError, match=words):
        trees.tree.apply_event(1, json.dumps({"event_id": 0, "data": event}).encode())
    with pytest.raises(KvEventError, match=words):
        mine()


def test_every_event_is_read() -> None:
    """What `event_data` writes, the radix tree reads: stored behind nothing and behind a block, removed, cleared."""
    trees = Trees()
    told: list[KvEvent] = []
    cache = KvCache(3, told.append)
    for last in ((1, 2), (1, 2, 3), (1, 4)):
        tokens = [token for token in last for _ in range(B)]
        cache.hold(sequence_hashes(block_hashes(tokens, B)), block_hashes(tokens, B))
        cache.release(sequence_hashes(block_hashes(tokens, B)))
    told.append(Cleared())
    assert ["Stored", "Stored", "Removed", "Stored", "Cleared"] == [type(event).__name__ for event in told]

    for event in told:
        trees.apply(7, event)
        for last in ((1, 2, 3), (1, 4)):
            trees.assert_equal([token for token in last for _ in range(B)])
