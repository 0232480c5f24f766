"""What the KV router has sent where and is not done yet (Dynamo: `ActiveSequences`, lib/kv-router/src/sequences)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dynlab.errors import ReservationError
from dynlab.kv.indexer import KvIndexer

__all__ = ("EXPIRES_S", "Reservation", "WorkerLoads")

EXPIRES_S = 300.0
"""A request that nobody freed is forgotten after so many seconds."""
CHECK_S = 30.0
"""How often that is looked for."""


@dataclass(slots=True)
class Reservation:
    """One request at its worker: prompt tokens to prefill, its prompt's blocks, the blocks its answer has filled."""

    worker_id: int
    prefill_tokens: int
    sequence: tuple[int, ...]
    expires_at: float
    outputs: list[int] = field(default_factory=list)


class _Load:
    """One worker's sums."""

    __slots__ = ("fractions", "prefill", "requests", "uses")

    def __init__(self) -> None:
        self.prefill = 0
        self.requests = 0
        self.uses: dict[int, int] = {}  # how many requests use a block
        self.fractions: dict[int, float] = {}  # what a block counts whose weight has decayed

    @property
    def blocks(self) -> int:
        """Different blocks in use, rounded where some count less than one."""
        if not self.fractions:
            return len(self.uses)
        return math.floor(len(self.uses) - sum(1.0 - f for f in self.fractions.values()) + 0.5)


class WorkerLoads:
    """The books of all workers."""

    def __init__(self) -> None:
        self._loads: dict[int, _Load] = {}
        self._booked: dict[str, Reservation] = {}
        self._prompts = KvIndexer()  # which worker has which prompt's blocks in use
        self._next_check = 0.0

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._booked

    def columns(self, workers: Sequence[int], now: float) -> tuple[NDArray[np.float64], ...]:
        """Return tokens to prefill, blocks in use and requests, one entry a worker."""
        self._expire(now)
        found = [self._loads.get(worker) for worker in workers]
        rows = [(0, 0, 0) if load is None else (load.prefill, load.blocks, load.requests) for load in found]
        table = np.array(rows, dtype=np.float64)
        return table[:, 0], table[:, 1], table[:, 2]

    def shared(self, sequence: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks of a prompt are in use at each worker already."""
        return self._prompts.find_matches(sequence)

    def add(self, request_id: str, booked: Reservation) -> None:
        """Book a request.

        Raises:
            ReservationError: if it is booked already.
        """
        if request_id in self._booked:
            raise ReservationError(request_id, "is booked already")
        self._booked[request_id] = booked
        load = self._loads.setdefault(booked.worker_id, _Load())
        load.prefill += booked.prefill_tokens
        load.requests += 1
        for block in booked.sequence:
            load.uses[block] = load.uses.get(block, 0) + 1
        self._prompts.store(booked.worker_id, booked.sequence)

    def prefill_complete(self, request_id: str) -> None:
        """Nothing is left to prefill of it."""
        booked = self._find(request_id)
        self._loads[booked.worker_id].prefill -= booked.prefill_tokens
        booked.prefill_tokens = 0

    def add_output_block(self, request_id: str, decay_fraction: float | None, block: int) -> None:
        """Count one more block, which no other request shares."""
        booked = self._find(request_id)
        load = self._loads[booked.worker_id]
        booked.outputs.append(block)
        load.uses[block] = 1
        if decay_fraction is not None:
            for own in (*booked.sequence, *booked.outputs):
                if load.uses[own] == 1:
                    load.fractions[own] = decay_fraction

    def free(self, request_id: str) -> None:
        """Release all that it has."""
        self.prefill_complete(request_id)
        booked = self._booked.pop(request_id)
        load = self._loads[booked.worker_id]
        load.requests -= 1
        gone: list[int] = []
        for block in (*booked.outputs, *reversed(booked.sequence)):
            load.uses[block] -= 1
            if not load.uses[block]:
                del load.uses[block]
                load.fractions.pop(block, None)
                gone.append(block)
        self._prompts.remove(booked.worker_id, gone[len(booked.outputs) :])

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker, and what it was sent."""
        self._loads.pop(worker_id, None)
        self._prompts.remove_worker(worker_id)
        self._booked = {name: booked for name, booked in self._booked.items() if booked.worker_id != worker_id}

    def _find(self, request_id: str) -> Reservation:
        booked = self._booked.get(request_id)
        if booked is None:
            raise ReservationError(request_id, "not found")
        return booked

    def _expire(self, now: float) -> None:
        if now < self._next_check:
            return
        self._next_check = now + CHECK_S
        for request_id in [name for name, booked in self._booked.items() if booked.expires_at <= now]:
            self.free(request_id)
