"""What the KV router has sent where and is not done yet (Dynamo: `ActiveSequences`, lib/kv-router/src/sequences)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from dynlab.errors import ReservationError
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.kv_tracker import BlockTracker, Edge

__all__ = ("EXPIRES_S", "Reservation", "WorkerLoads")

EXPIRES_S = 300.0
"""A request that nobody freed is forgotten after more than so many seconds."""
CHECK_S = 30.0
"""How often that is looked for."""


@dataclass(slots=True)
class Reservation:
    """One request at its worker: prompt tokens to prefill, its prompt's blocks, what its answer's blocks count."""

    worker_id: int
    prefill_tokens: int
    sequence: tuple[int, ...]
    expires_at: float
    outputs: list[float] = field(default_factory=list)


class _Load:
    """One worker's sums; `column` is where they stand in the table."""

    __slots__ = ("blocks", "column", "prefill", "requests")

    def __init__(self, column: int) -> None:
        self.column = column
        self.prefill = 0
        self.blocks = BlockTracker()
        self.requests = 0


class WorkerLoads:
    """The books of all workers."""

    def __init__(self) -> None:
        self._loads: dict[int, _Load] = {}
        self._booked: dict[str, tuple[Reservation, Edge]] = {}
        self._prompts = KvIndexer()  # which worker has which prompt's blocks in use
        self._next_check = 0.0
        # Tokens to prefill, blocks in use, requests: a column a worker, the first for workers that have nothing.
        self._table = np.zeros((3, 16))
        self._columns: dict[int, int] = {}
        self._spare: list[int] = []

    @property
    def workers(self) -> list[int]:
        """Who was sent something since it came."""
        return list(self._loads)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._booked

    def columns(self, workers: Sequence[int], now: float) -> tuple[NDArray[np.float64], ...]:
        """Return tokens to prefill, blocks in use and requests, one entry a worker."""
        self._expire(now)
        places = np.fromiter(map(self._columns.get, workers, repeat(0)), np.intp, len(workers))
        prefill, blocks, requests = self._table[:, places]
        return prefill, blocks, requests

    def shared(self, sequence: Sequence[int]) -> dict[int, int]:
        """Return how many leading blocks of a prompt are in use at each worker already."""
        return self._prompts.find_matches(sequence)

    def add(self, request_id: str, booked: Reservation) -> None:
        """Book a request.

        Raises:
            ReservationError: if it is booked already.
        """
        if request_id in self._booked:
            raise ReservationError(f"reservation {request_id} exists already: reserve() a request once.")
        load = self._load(booked.worker_id)
        load.prefill += booked.prefill_tokens
        load.requests += 1
        self._booked[request_id] = booked, load.blocks.acquire_prompt(booked.sequence)
        self._prompts.store(booked.worker_id, booked.sequence)
        self._write(load)

    def prefill_complete(self, request_id: str) -> None:
        """Nothing is left to prefill of it."""
        booked, _ = self._find(request_id)
        load = self._loads[booked.worker_id]
        load.prefill -= booked.prefill_tokens
        booked.prefill_tokens = 0
        self._write(load)

    def add_output_block(self, request_id: str, decay_fraction: float | None = None) -> None:
        """Count one more block, which no other request shares; see `BlockTracker` for what the fraction does."""
        booked, edge = self._find(request_id)
        load = self._loads[booked.worker_id]
        load.blocks.append_output(booked.outputs)
        if decay_fraction is not None:
            load.blocks.set_fraction(edge, booked.outputs, decay_fraction)
        self._write(load)

    def free(self, request_id: str) -> None:
        """Release all that it has."""
        booked, edge = self._find(request_id)
        del self._booked[request_id]
        load = self._loads[booked.worker_id]
        load.prefill -= booked.prefill_tokens
        load.requests -= 1
        unused = load.blocks.release(edge, booked.outputs)
        self._prompts.remove(booked.worker_id, booked.sequence[: -unused - 1 : -1])
        self._write(load)

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker, and what it was sent."""
        load = self._loads.pop(worker_id, None)
        if load is not None:
            self._table[:, load.column] = 0
            self._spare.append(self._columns.pop(worker_id))
            self._prompts.remove_worker(worker_id)
            here = [name for name, (booked, _) in self._booked.items() if booked.worker_id == worker_id]
            for request_id in here:
                del self._booked[request_id]

    def _find(self, request_id: str) -> tuple[Reservation, Edge]:
        found = self._booked.get(request_id)
        if found is None:
            raise ReservationError(
                f"reservation {request_id} not found: reserve() a request before all else, and free() it once."
            )
        return found

    def _load(self, worker_id: int) -> _Load:
        load = self._loads.get(worker_id)
        if load is None:
            column = self._spare.pop() if self._spare else len(self._columns) + 1
            if column == self._table.shape[1]:
                self._table = np.pad(self._table, ((0, 0), (0, column)))
            load = self._loads[worker_id] = _Load(column)
            self._columns[worker_id] = column
        return load

    def _write(self, load: _Load) -> None:
        self._table[:, load.column] = load.prefill, load.blocks.active_blocks, load.requests

    def _expire(self, now: float) -> None:
        if now < self._next_check:
            return
        self._next_check = now + CHECK_S
        for request_id in [name for name, (booked, _) in self._booked.items() if booked.expires_at < now]:
            self.free(request_id)
