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

__all__ = ("PublishedCache",)

Snapshot: TypeAlias = Callable[[], Iterable[KvEvent]]


class PublishedCache:
    """The blocks of one instance. Lives on its loop; empty, and at no cost, until a KV router listens."""

    def __init__(self, publisher: Callable[[Snapshot], Publisher], capacity: int, block_size: int) -> None:
        self.block_size = block_size
        self._cache = KvCache(capacity, self._tell)
        self._told: dict[int, tuple[int | None, int]] = {}  # parents come before what is behind them
        self._publisher = publisher(self._snapshot)
        self._nothing = nullcontext(0)

    def __len__(self) -> int:
        return len(self._cache)

    def holding(self, prompt: str) -> AbstractContextManager[int]:
        """Keep a prompt's blocks in use while a request is answered; gives how many were there already."""
        return self._holding(prompt) if self._publisher.is_heard else self._nothing

    @contextmanager
    def _holding(self, prompt: str) -> Iterator[int]:
        blocks = block_hashes(tokenize(prompt), self.block_size)
        sequence = sequence_hashes(blocks)
        try:
            cached = self._cache.hold(sequence, blocks)
        except CacheFullError:  # an engine would wait for room; this one answers without keeping the prompt
            yield self._cache.match(sequence)
            return
        try:
            yield cached
        finally:
            self._cache.release(sequence)

    def _tell(self, event: KvEvent) -> None:
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
