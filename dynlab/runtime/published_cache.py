"""A worker's KV cache that tells the routers what it holds (Dynamo: an engine's cache behind a `KvEventPublisher`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

from dynlab.errors import CacheFullError
from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.kv.cache import KvCache
from dynlab.kv.events import Cleared, KvEvent, Removed, Stored
from dynlab.runtime.event_plane import Publisher

__all__ = ("KvPublisher", "OpenPublisher", "PublishedCache")

OpenPublisher: TypeAlias = Callable[[Callable[[], Iterable[KvEvent]]], Publisher]
"""Lets an instance publish; it is given what makes the events that lead to what there is now."""


class KvPublisher:
    """Passes on what a cache tells, and tells newcomers what there is. Lives on the instance's loop."""

    def __init__(self, publisher: OpenPublisher) -> None:
        self._told: dict[int, tuple[int | None, int]] = {}  # parents come before what is behind them
        self._publisher = publisher(self._snapshot)

    @property
    def is_heard(self) -> bool:
        """True once a KV router listens."""
        return self._publisher.is_heard

    def tell(self, event: KvEvent) -> None:
        """Take an event of the cache."""
        match event:
            case Stored(parent, hashes, tokens):
                for block, own in zip(hashes, tokens, strict=True):
                    self._told[block] = (parent, own)
                    parent = block
            case Removed(hashes):
                for block in hashes:
                    del self._told[block]
            case Cleared():
                self._told.clear()
        self._publisher.publish(event)

    def _snapshot(self) -> list[KvEvent]:
        return [Stored(parent, (block,), (own,)) for block, (parent, own) in self._told.items()]


class PublishedCache:
    """The blocks of one instance. Lives on its loop; empty, and at no cost, until a KV router listens."""

    def __init__(self, publisher: OpenPublisher, capacity: int, block_size: int) -> None:
        self.block_size = block_size
        self._capacity = capacity
        self._publisher = KvPublisher(publisher)
        self._cache = KvCache(capacity, self._publisher.tell)
        self._nothing = nullcontext(0)
        self.blocks_asked = 0
        self.blocks_found = 0

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def total_blocks(self) -> int:
        """Blocks that it has room for."""
        return self._capacity

    @property
    def active_blocks(self) -> int:
        """Blocks that requests use."""
        return self._capacity - int(self._cache.free)

    def holding(self, prompt: str) -> AbstractContextManager[int]:
        """Keep a prompt's blocks in use while a request is answered; gives how many were there already."""
        return self._holding(prompt) if self._publisher.is_heard else self._nothing

    @contextmanager
    def _holding(self, prompt: str) -> Iterator[int]:
        blocks = block_hashes(tokenize(prompt), self.block_size)
        sequence = sequence_hashes(blocks)
        self.blocks_asked += len(sequence)
        try:
            cached = self._cache.hold(sequence, blocks)
        except CacheFullError:  # an engine would wait for room; this one answers without keeping the prompt
            cached = self._cache.match(sequence)
            self.blocks_found += cached
            yield cached
            return
        self.blocks_found += cached
        try:
            yield cached
        finally:
            self._cache.release(sequence)
