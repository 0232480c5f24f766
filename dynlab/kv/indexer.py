"""Who holds how much of a prompt (Dynamo: `KvIndexer` and `RadixTree`, lib/kv-router/src/indexer).

One dict from sequence hash to the workers that hold the block, as the bits of a number. Equal sequence hashes mean
equal prefixes, so no tree is needed to find one; and since caches give up leaves first, who holds a block also
holds all before it. Then the workers only become fewer along a prompt: where the same hold a block and one far
behind it, nothing has happened in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress, repeat

from dynlab.errors import KvEventError
from dynlab.kv.events import Cleared, KvEvent, Removed, Stored

__all__ = ("KvIndexer",)

_STRETCH = 16
"""Blocks that are looked at together, or passed over together."""
_FLAGS = bytes.maketrans(b"01", b"\0\1")


class KvIndexer:
    """The blocks of all workers. Worker ids are any integers; a worker is known from its first event on."""

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}  # a bit for each worker that holds the block
        self._parents: dict[int, int | None] = {}
        self._children: dict[int, set[int]] = {}
        self._places: dict[int, int] = {}  # which bit is whose
        self._workers: list[int] = []  # whose bit is at a place
        self._bits: list[int] = []
        self._spare: list[int] = []  # places of workers that are gone
        self._blocks: dict[int, int] = {}  # how many each worker holds
        self._holes = 0
        """Blocks that are held although the one before them is not: then only a walk tells the truth."""

    def __len__(self) -> int:
        """Different blocks that anyone holds."""
        return len(self._holders)

    @property
    def workers(self) -> dict[int, int]:
        """How many blocks each worker holds."""
        return dict(sorted(self._blocks.items()))

    def apply_event(self, worker_id: int, event: KvEvent) -> None:
        """Follow what a worker tells of its cache.

        Raises:
            KvEventError: if it names a block that this worker does not hold as far as one knows.
        """
        match event:
            case Stored(parent, hashes, _):
                self.store(worker_id, hashes, parent)
            case Removed(hashes):
                self.remove(worker_id, hashes)
            case Cleared():
                self._clear(worker_id)

    def store(self, worker_id: int, hashes: Iterable[int], parent: int | None = None) -> None:
        """Note that a worker holds these blocks, one behind the other, behind `parent`."""
        holders = self._holders
        if parent is not None and not holders.get(parent, 0) & self._bit(worker_id):
            raise KvEventError("parent block", parent, worker_id)
        bit = self._bit(worker_id) or self._new_bit(worker_id)
        for block in hashes:
            held = holders.get(block, 0)
            if not held:
                self._parents[block] = parent
                if parent is not None:
                    self._children.setdefault(parent, set()).add(block)
            if not held & bit:
                holders[block] = held | bit
                self._blocks[worker_id] += 1
                if self._holes:
                    self._holes -= self._stranded(block, bit)
            parent = block

    def remove(self, worker_id: int, hashes: Iterable[int]) -> None:
        """Note that a worker holds these blocks no more."""
        bit = self._bit(worker_id)
        for block in hashes:
            if not self._holders.get(block, 0) & bit:
                raise KvEventError("block", block, worker_id)
            self._drop(worker_id, block, bit)

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker that is gone."""
        if worker_id in self._places:
            self._clear(worker_id)
            self._spare.append(self._places.pop(worker_id))
            del self._blocks[worker_id]

    def find_matches(self, sequence: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks of a sequence each worker holds; who holds none is left out.

        Args:
            sequence: sequence hashes, from `sequence_hashes`.
        """
        scores: dict[int, int] = {}
        holders, workers, bits = self._holders.get, self._workers, self._bits
        left = holders(sequence[0], 0) if sequence else 0
        for start in range(0, len(sequence), _STRETCH):
            stretch = sequence[start : start + _STRETCH]
            if holders(stretch[-1], 0) == left and not self._holes:
                continue
            for depth, held in enumerate(map(holders, stretch, repeat(0)), start):
                if held != left:
                    gone = left & ~held
                    left ^= gone
                    if gone:
                        place = gone.bit_length() - 1
                        scores[workers[place]] = depth
                        gone ^= bits[place]
                        if gone:
                            self._score(scores, gone, depth)
            if not left:
                return scores
        self._score(scores, left, len(sequence))
        return scores

    def _score(self, scores: dict[int, int], gone: int, depth: int) -> None:
        workers, bits = self._workers, self._bits
        if gone.bit_count() > len(bits) >> 3:  # many: one call into C for all, with a flag for each worker
            flags = f"{gone:b}".encode().translate(_FLAGS)[::-1]
            scores.update(dict.fromkeys(compress(workers, flags), depth))
            return
        while gone:
            place = gone.bit_length() - 1
            scores[workers[place]] = depth
            gone ^= bits[place]

    def _bit(self, worker_id: int) -> int:
        place = self._places.get(worker_id)
        return 0 if place is None else self._bits[place]

    def _new_bit(self, worker_id: int) -> int:
        if self._spare:  # taken again, so that the numbers stay short
            place = self._spare.pop()
            self._workers[place] = worker_id
        else:
            place = len(self._workers)
            self._workers.append(worker_id)
            self._bits.append(1 << place)
        self._places[worker_id], self._blocks[worker_id] = place, 0
        return self._bits[place]

    def _clear(self, worker_id: int) -> None:
        bit = self._bit(worker_id)
        held = [block for block, mask in self._holders.items() if mask & bit]
        for block in reversed(held):  # what was stored last goes first: no holes on the way
            self._drop(worker_id, block, bit)

    def _drop(self, worker_id: int, block: int, bit: int) -> None:
        holders, parent = self._holders, self._parents[block]
        if parent is not None and not holders.get(parent, 0) & bit:
            self._holes -= 1
        self._holes += self._stranded(block, bit)
        self._blocks[worker_id] -= 1
        holders[block] ^= bit
        if not holders[block]:
            del holders[block], self._parents[block]
            if parent is not None:
                self._children[parent].remove(block)
                if not self._children[parent]:
                    del self._children[parent]

    def _stranded(self, block: int, bit: int) -> int:
        """Count the blocks right behind this one that a worker holds: without it, each is a hole."""
        return sum(1 for child in self._children.get(block, ()) if self._holders[child] & bit)
