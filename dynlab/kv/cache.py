"""One worker's KV cache: which blocks it holds, which it gives up first, and what it tells about that.

Least recently used goes first. Of a prompt's blocks the last becomes idle first; so the block that is idle longest
never has another behind it, and no block is given up before those that could not be used without it. (So do real
engines; Dynamo's index relies on it.)
"""

from __future__ import annotations

from collections import OrderedDict
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
        self._uses: dict[int, int] = {}  # how many requests use a block, of all that are held
        self._idle: OrderedDict[int, None] = OrderedDict()  # those that nobody uses, the longest idle first

    def __len__(self) -> int:
        return len(self._uses)

    def __contains__(self, block: object) -> bool:
        return block in self._uses

    @property
    def free(self) -> float:
        """Blocks that could come in without one in use having to go."""
        in_use = len(self._uses) - len(self._idle)
        return float("inf") if self.capacity is None else self.capacity - in_use

    def match(self, sequence: Sequence[int]) -> int:
        """Return how many leading blocks of the sequence are held."""
        uses = self._uses
        for n, block in enumerate(sequence):
            if block not in uses:
                return n
        return len(sequence)

    def hold(self, sequence: Sequence[int], tokens_hashes: Sequence[int]) -> int:
        """Bring a sequence in, use all of its blocks, and return how many were there already.

        Raises:
            CacheFullError: if even without the blocks that nobody uses there is no room; nothing has changed then.
        """
        uses, idle = self._uses, self._idle
        cached = self.match(sequence)
        need = len(sequence) - cached
        over = 0 if self.capacity is None else max(0, len(uses) + need - self.capacity)
        if over > len(idle) - sum(map(idle.__contains__, sequence[:cached])):
            raise CacheFullError(
                f"{need} more blocks do not fit: the cache has room for {self.capacity}, and "
                f"{len(uses) - len(idle)} are in use. Send a shorter prompt, wait for requests to end, or give the "
                "worker a larger cache."
            )
        for block in sequence[:cached]:
            uses[block] += 1
            idle.pop(block, None)
        if over:
            self._tell(Removed(tuple(self._evict() for _ in range(over))))
        if need:
            uses.update(dict.fromkeys(sequence[cached:], 1))
            before = sequence[cached - 1] if cached else None
            self._tell(Stored(before, tuple(sequence[cached:]), tuple(tokens_hashes[cached:])))
        return cached

    def release(self, sequence: Sequence[int]) -> None:
        """Stop using the blocks of a sequence; they stay until their room is needed."""
        uses = self._uses
        for block in reversed(sequence):
            uses[block] -= 1
            if not uses[block]:
                self._idle[block] = None

    def clear(self) -> None:
        """Drop everything that nobody uses, and say so."""
        all_idle = len(self._idle) == len(self._uses)
        gone = tuple(self._evict() for _ in range(len(self._idle)))
        if all_idle:
            self._tell(Cleared())
        elif gone:
            self._tell(Removed(gone))

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        del self._uses[block]
        return block
