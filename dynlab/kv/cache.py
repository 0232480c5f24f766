"""One worker's KV cache: which blocks it holds, which it gives up first, and what it tells about that.

Least recently used goes first, and among those a leaf: a block is never given up before the blocks behind it, for
they could not be used without it. (So do real engines; Dynamo's index relies on it.)
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

from dynlab.errors import CacheFullError
from dynlab.kv.events import Cleared, KvEvent, Removed, Stored

__all__ = ("KvCache",)


class KvCache:
    """At most `capacity` blocks, by sequence hash; `on_event` is told what comes and goes. None: no bound.

    Blocks in use, between `hold` and `release`, are not given up.
    """

    def __init__(self, capacity: int | None, on_event: Callable[[KvEvent], None] | None = None) -> None:
        self.capacity = capacity
        self._tell = on_event or (lambda event: None)
        self._parents: dict[int, int | None] = {}
        self._children: dict[int, int] = {}  # how many blocks held here come right behind it
        self._uses: dict[int, int] = {}
        self._clock = itertools.count()
        self._last: dict[int, int] = {}  # when a block that nobody uses was last used
        self._leaves: list[tuple[int, int]] = []  # heap of (last used, block); some entries are out of date

    def __len__(self) -> int:
        return len(self._parents)

    def __contains__(self, block: object) -> bool:
        return block in self._parents

    @property
    def free(self) -> float:
        """Blocks that could come in without one in use having to go."""
        return float("inf") if self.capacity is None else self.capacity - len(self._uses)

    def match(self, sequence: Sequence[int]) -> int:
        """Return how many leading blocks of the sequence are held."""
        parents = self._parents
        for n, block in enumerate(sequence):
            if block not in parents:
                return n
        return len(sequence)

    def hold(self, sequence: Sequence[int], tokens_hashes: Sequence[int]) -> int:
        """Bring a sequence in, use all of its blocks, and return how many were there already.

        Raises:
            CacheFullError: if even without the blocks that nobody uses there is no room; nothing has changed then.
        """
        cached = self.match(sequence)
        need = len(sequence) - cached
        over = 0 if self.capacity is None else max(0, len(self) + need - self.capacity)
        # An idle block may stand behind one in use, but never the other way round: so all idle ones can go.
        if over > len(self._last) - sum(block in self._last for block in sequence[:cached]):
            raise CacheFullError(
                f"{need} more blocks do not fit: the cache has room for {self.capacity}, and {len(self._uses)} are in "
                "use. Send a shorter prompt, wait for requests to end, or give the worker a larger cache."
            )
        for block in sequence[:cached]:
            self._use(block)
        if over:
            self._tell(Removed(tuple(self._evict() for _ in range(over))))
        before = parent = sequence[cached - 1] if cached else None
        for block in sequence[cached:]:
            self._parents[block] = parent
            if parent is not None:
                self._children[parent] = self._children.get(parent, 0) + 1
            self._uses[block] = 1
            parent = block
        if need:
            self._tell(Stored(before, tuple(sequence[cached:]), tuple(tokens_hashes[cached:])))
        return cached

    def release(self, sequence: Sequence[int]) -> None:
        """Stop using the blocks of a sequence; they stay until their room is needed."""
        for block in reversed(sequence):  # the last one becomes idle first, and is given up first
            self._unuse(block)

    def clear(self) -> None:
        """Drop everything that nobody uses, and say so."""
        if self._uses:
            gone = [self._evict() for _ in range(len(self._parents) - len(self._uses))]
            if gone:
                self._tell(Removed(tuple(gone)))
            return
        for held in (self._parents, self._children, self._last, self._leaves):
            held.clear()
        self._tell(Cleared())

    def _use(self, block: int) -> None:
        self._uses[block] = self._uses.get(block, 0) + 1
        self._last.pop(block, None)

    def _unuse(self, block: int) -> None:
        left = self._uses[block] - 1
        if left:
            self._uses[block] = left
            return
        del self._uses[block]
        self._last[block] = next(self._clock)
        self._note_leaf(block)

    def _note_leaf(self, block: int) -> None:
        if block in self._last and not self._children.get(block):
            heapq.heappush(self._leaves, (self._last[block], block))
        if len(self._leaves) > 2 * len(self._last) + 64:
            self._leaves = [entry for entry in self._leaves if self._is_leaf(*entry)]
            heapq.heapify(self._leaves)

    def _is_leaf(self, last: int, block: int) -> bool:
        return self._last.get(block) == last and not self._children.get(block)

    def _evict(self) -> int:
        while True:
            last, block = heapq.heappop(self._leaves)
            if self._is_leaf(last, block):
                break
        del self._last[block]
        parent = self._parents.pop(block)
        self._children.pop(block, None)
        if parent is not None:
            self._children[parent] -= 1
            self._note_leaf(parent)
        return block
