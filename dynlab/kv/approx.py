"""What workers probably cache, where they do not tell: what they were sent lately (Dynamo: `ApproxKvIndexer`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dynlab.clock import Clock
from dynlab.kv.events import KvEvent
from dynlab.kv.indexer import KvIndexer

__all__ = ("ApproxKvIndexer",)


class ApproxKvIndexer(KvIndexer):
    """A `KvIndexer` that believes a block to be cached for `ttl_s` after it was last routed, and hears no events."""

    def __init__(self, ttl_s: float, clock: Clock) -> None:
        super().__init__()
        self.ttl_s = ttl_s
        self._clock = clock
        self._routed: deque[tuple[float, int, tuple[int, ...]]] = deque()  # until when, worker, blocks; in that order
        self._until: dict[int, dict[int, float]] = {}  # by worker and block: the latest of those

    def process_routing_decision(self, worker_id: int, sequence: Sequence[int]) -> None:
        """Note that a prompt was sent to a worker; of blocks believed to be there already, the time begins anew."""
        self._forget()
        until = self._clock.now() + self.ttl_s
        self._routed.append((until, worker_id, tuple(sequence)))
        self._until.setdefault(worker_id, {}).update(dict.fromkeys(sequence, until))
        self.store(worker_id, sequence)

    def find_matches(self, sequence: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks of a sequence each worker probably holds; see `KvIndexer`."""
        self._forget()
        return super().find_matches(sequence)

    def apply_event(self, worker_id: int, event: KvEvent) -> None:
        """Do nothing: this index goes by what was routed alone."""

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker that is gone."""
        super().remove_worker(worker_id)
        self._until.pop(worker_id, None)

    def _forget(self) -> None:
        now, routed = self._clock.now(), self._routed
        while routed and routed[0][0] <= now:
            until, worker_id, sequence = routed.popleft()
            known = self._until.get(worker_id, {})
            gone = [block for block in reversed(sequence) if known.get(block) == until]
            for block in gone:
                del known[block]
            self.remove(worker_id, gone)
