"""The router mode "kv" in a simulated run: who is told what of the caches and when, and who waits at the router."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from dynlab.clock import VirtualClock
from dynlab.kv.events import KvEvent
from dynlab.protocols import Instance
from dynlab.routing.kv import KvDecision, KvRouter, KvRouterConfig
from dynlab.routing.kv_picker import WEIGHTS, checked_settings, detail_of
from dynlab.routing.kv_queue import MAX_NUM_BATCHED_TOKENS, KvQueue
from dynlab.simulate.routers import FIRST_ID, Listed, Seen, Time
from dynlab.simulate.workload import Workload

__all__ = ("KvRouting",)


class KvRouting(Listed):
    """The mode "kv": scores by caches and by what was sent where. Caches tell at once, or after a delay."""

    def __init__(
        self,
        workload: Workload,
        devices: Sequence[str],
        settings: Mapping[str, Any],
        seed: int,
        event_delay_s: float,
        time: Time,
    ) -> None:
        self._workload = workload
        self._clock = VirtualClock()
        given = checked_settings({**settings, "block_size": workload.block_size})
        most = given.pop("max_num_batched_tokens", MAX_NUM_BATCHED_TOKENS)
        size = given.pop("block_size")
        rng = random.Random(f"{seed}/router")
        self._router = KvRouter(size, KvRouterConfig(**given), rng=rng, clock=self._clock)
        self._queue = KvQueue(self._router, most)
        self._weights = {name: getattr(self._router.config, name) for name in WEIGHTS}
        self._since: dict[str, float] = {}  # who waits in the queue, since when
        self._called: dict[str, KvDecision] = {}  # whose turn it is
        self._sent: set[int] = set()
        self._is_calling = False
        self._delay = event_delay_s
        self._lives = [0] * len(devices)  # how often each worker began anew
        super().__init__(devices, time)

    def chosen_from(self, instances: list[Instance]) -> None:
        # Who waits in the queue is not told: as in the live graph, it moves on when something ends.
        self._ids = tuple(instance.instance_id for instance in instances)

    def pick(self, request: int) -> tuple[int | None, Seen]:
        name, now = str(request), self.time.now
        self._clock.reach(now)
        queued = now - self._since.pop(name, now)
        called = self._called.pop(name, None)
        decision = called if called is not None and called.worker_id in self._ids else None
        if called is not None and decision is None:  # its worker failed while others were called
            self._router.free(name)
        if not self._ids:
            return None, None
        if decision is None:
            tokens, sequence = range(int(self._workload.isl[request])), self._workload.sequences[request]
            if called is None and request not in self._sent:
                decision = self._queue.enqueue(name, tokens, self._ids, sequence)
            else:  # it had its turn in the queue: the live client sends it again at once
                decision = self._router.decide(tokens, self._ids, sequence)
                self._router.reserve(name, decision)
        if decision is None:
            self._since[name] = now
            return None, {}
        self._sent.add(request)
        return decision.worker_id - FIRST_ID, self._seen(decision, queued) if self.keep else None

    def _seen(self, decision: KvDecision, queued_s: float) -> dict[str, Any]:
        """Return what the live graph's traces have of a pick."""
        seen = {**detail_of(decision), **self._weights}
        return {**seen, "queued_s": queued_s} if queued_s else seen

    def answering(self, request: int) -> None:
        if str(request) in self._router.loads:  # else it was forgotten: with its worker, or because it took too long
            self._router.prefill_complete(str(request))
        self._update()

    def ended(self, request: int, worker: int) -> None:
        if str(request) in self._router.loads:
            self._router.free(str(request))
        self._update()

    def listener(self, worker: int) -> Callable[[KvEvent], None] | None:
        if not self._router.config.use_kv_events:
            return None
        return partial(self._told, worker)

    def left(self, worker: int) -> None:
        self._router.remove_worker(FIRST_ID + worker)
        super().left(worker)

    def came(self, worker: int) -> None:
        self._lives[worker] += 1
        self._router.indexer.remove_worker(FIRST_ID + worker)
        super().came(worker)

    def _told(self, worker: int, event: KvEvent) -> None:
        life = self._lives[worker]
        if self._delay:
            self.time.call_at(self.time.now + self._delay, partial(self._hear, worker, life, event))
        else:
            self._hear(worker, life, event)

    def _hear(self, worker: int, life: int, event: KvEvent) -> None:
        if life == self._lives[worker] and worker not in self._off:
            self._router.indexer.apply_event(FIRST_ID + worker, event)

    def _update(self) -> None:
        """Send those on whose turn it is; if nobody is there to go to, all shall hear that."""
        if self._is_calling:  # by one that was sent on, and ended at once: those below look again
            return
        self._is_calling = True
        self._clock.reach(self.time.now)
        while self._queue.pending_count:
            went = self._queue.update(self._ids) if self._ids else dict.fromkeys(self._queue.clear())
            for name, decision in went.items():
                if decision is not None:
                    self._called[name] = decision
                self.time.send(int(name))
            if not went:
                break
        self._is_calling = False
