"""KV-aware routing: the cost of each worker, and what it books (Dynamo: lib/kv-router/src/scheduling, 1.6.1).

For a prompt of L tokens with full blocks h, block size B, and each worker w that may be chosen:

    A      = prompt tokens of requests on w that are not prefilled yet
    c      = leading blocks of h in w's cache
    raw    = (A + L) / B
    credit = overlap_score_credit / (1 + decay * ((A - min A) / B) / ceil(L / B))
    decode = different blocks of requests on w and of h, and their output blocks
    cost   = prefill_load_scale * max(0, raw - credit * c) + decode + decode_active_request_weight * requests on w

The lowest cost wins, equal ones by lot; with a temperature the others have their chances too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from dynlab.clock import Clock, WallClock
from dynlab.errors import ConfigError, RoutingError
from dynlab.kv.approx import ApproxKvIndexer
from dynlab.kv.blocks import BLOCK_SIZE, block_hashes, sequence_hashes
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.kv_loads import EXPIRES_S, Reservation, WorkerLoads

__all__ = ("KvDecision", "KvRouter", "KvRouterConfig", "KvTerms")

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KvRouterConfig:
    """What Dynamo's router may be told, with its names and defaults (`KvRouterConfig`, 1.6.1).

    Args:
        overlap_score_credit: how many blocks of prefill a cached block saves.
        overlap_score_credit_decay: how much less it counts at a worker with more prefill to do than the least.
        prefill_load_scale: how much a block to prefill counts beside a block to decode with.
        decode_active_request_weight: blocks that each request on a worker counts in addition.
        router_temperature: 0 takes the cheapest; more gives dearer ones their chance.
        use_kv_events: workers tell what they cache; else the router assumes that they cache what it sends them.
        router_track_prefill_tokens: count the prompts that are still to be prefilled.
        router_track_output_blocks: count the blocks that answers fill as they grow.
        router_assume_kv_reuse: requests with the same prefix share its blocks; else each has its own.
        router_ttl_secs: for how long a block is assumed to be cached when workers do not tell.
        router_queue_threshold: hold requests back while every worker has more than this share of
            `max_num_batched_tokens` to prefill; None never does.

    Raises:
        ConfigError: if a number is negative.
    """

    overlap_score_credit: float = 1.0
    overlap_score_credit_decay: float = 0.0
    prefill_load_scale: float = 1.0
    decode_active_request_weight: float = 0.0
    router_temperature: float = 0.0
    use_kv_events: bool = True
    router_track_prefill_tokens: bool = True
    router_track_output_blocks: bool = False
    router_assume_kv_reuse: bool = True
    router_ttl_secs: float = 120.0
    router_queue_threshold: float | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name}={value!r} must be a number of 0 or more.")


_NUMBERS = (
    "overlap_score_credit",
    "overlap_score_credit_decay",
    "prefill_load_scale",
    "decode_active_request_weight",
    "router_temperature",
    "router_ttl_secs",
    "router_queue_threshold",
)


@dataclass(frozen=True, slots=True)
class KvTerms:
    """What one worker's cost is made of; all but `cost`, `credit` and `raw` are counts."""

    worker_id: int
    prefill_tokens: int
    overlap_blocks: int
    raw: float
    credit: float
    decode_blocks: int
    active_requests: int
    cost: float


@dataclass(frozen=True, eq=False)
class KvDecision:
    """A choice: the worker, and the columns that it was made from, one entry a worker."""

    worker_id: int
    workers: tuple[int, ...]
    isl_tokens: int
    block_size: int
    sequence: tuple[int, ...]
    columns: dict[str, Column]

    def __repr__(self) -> str:
        terms = self.terms
        lines = [f"worker {self.worker_id}: {self.overlap_blocks} of {len(self.sequence)} blocks cached"]
        for term in terms:
            arrow = "->" if term.worker_id == self.worker_id else "  "
            prefill = f"prefill {term.raw:g} - {term.credit:g} * {term.overlap_blocks} cached"
            lines.append(f"{arrow} {term.worker_id}  {prefill}, decode {term.decode_blocks}: cost {term.cost:g}")
        return "\n".join(lines)

    @property
    def overlap_blocks(self) -> int:
        return int(self.columns["overlap"][self.workers.index(self.worker_id)])

    @property
    def terms(self) -> list[KvTerms]:
        """Every worker's cost, term by term."""
        names = ("prefill", "overlap", "raw", "credit", "decode", "requests", "cost")
        rows = zip(self.workers, *(self.columns[name].tolist() for name in names), strict=True)
        return [
            KvTerms(worker, int(prefill), int(overlap), raw, credit, int(decode), int(requests), cost)
            for worker, prefill, overlap, raw, credit, decode, requests, cost in rows
        ]


class KvRouter:
    """Chooses workers by cost, and keeps the books of what it sent where. Lives on one thread."""

    def __init__(
        self,
        block_size: int = BLOCK_SIZE,
        config: KvRouterConfig | None = None,
        *,
        indexer: KvIndexer | None = None,
        rng: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.block_size = block_size
        self.config = config if config is not None else KvRouterConfig()
        self.loads = WorkerLoads()
        self._rng = rng if rng is not None else random.Random()
        self._clock: Clock = clock if clock is not None else WallClock()
        if indexer is None:
            events = self.config.use_kv_events
            indexer = KvIndexer() if events else ApproxKvIndexer(self.config.router_ttl_secs, self._clock)
        self.indexer = indexer

    def now(self) -> float:
        """Return the seconds of the router's clock."""
        return self._clock.now()

    def hashes(self, tokens: Sequence[int]) -> list[int]:
        """Return the sequence hashes of a prompt's full blocks."""
        return sequence_hashes(block_hashes(tokens, self.block_size))

    def decide(
        self, tokens: Sequence[int], workers: Sequence[int], sequence: Sequence[int] | None = None
    ) -> KvDecision:
        """Choose among `workers` without booking anything.

        Args:
            tokens: the prompt's token ids.
            workers: the ids that may be chosen; at least one.
            sequence: the prompt's sequence hashes, if they are known already.

        Raises:
            RoutingError: if there are no workers.
        """
        if not workers:
            raise RoutingError("The KV router was given no workers to choose from.")
        hashes = self.hashes(tokens) if sequence is None else sequence
        columns = self._columns(len(tokens), hashes, workers)
        place = self._draw(columns["cost"])
        return KvDecision(workers[place], tuple(workers), len(tokens), self.block_size, tuple(hashes), columns)

    def explain(self, tokens: Sequence[int], workers: Sequence[int] | None = None) -> KvDecision:
        """Say who would be chosen now, and why; nothing is booked, and no later choice is another for it.

        Args:
            tokens: the prompt's token ids.
            workers: the ids that may be chosen; by default all that hold blocks or requests.

        Raises:
            RoutingError: if there are none.
        """
        known = {*self.indexer.workers, *self.loads.workers} if workers is None else workers
        state = self._rng.getstate()
        try:
            return self.decide(tokens, sorted(known))
        finally:
            self._rng.setstate(state)

    def _columns(self, isl: int, hashes: Sequence[int], workers: Sequence[int]) -> dict[str, Column]:
        config, size = self.config, self.block_size
        prefill, active, requests = self.loads.columns(workers, self._clock.now())
        overlap = _column(self.indexer.find_matches(hashes), workers)
        decode = active + len(hashes)
        if config.router_assume_kv_reuse:
            decode -= _column(self.loads.shared(hashes), workers)
        raw = (prefill + isl) / size
        credit = np.full(len(workers), config.overlap_score_credit)
        if config.overlap_score_credit_decay and isl:
            ahead = (prefill - prefill.min()) / size / math.ceil(isl / size)
            credit /= 1.0 + config.overlap_score_credit_decay * ahead
        if config.router_track_prefill_tokens:
            cost = config.prefill_load_scale * np.maximum(0.0, raw - credit * overlap) + decode
        else:
            cost = np.maximum(0.0, decode - credit * overlap)
        cost += config.decode_active_request_weight * requests
        return {
            "prefill": prefill,
            "overlap": overlap,
            "raw": raw,
            "credit": credit,
            "decode": decode,
            "requests": requests,
            "cost": cost,
        }

    def _draw(self, cost: Column) -> int:
        least, most, temperature = float(cost.min()), float(cost.max()), self.config.router_temperature
        if temperature == 0 or least == most:
            best = np.flatnonzero(cost == least)
            return int(best[int(self._rng.random() * len(best))])
        chances = np.exp(-(cost - least) / ((most - least) * temperature)).cumsum()
        return int(np.searchsorted(chances, self._rng.random() * chances[-1], side="right"))

    def reserve(self, request_id: str, decision: KvDecision) -> None:
        """Book a decision: the worker has this prompt to prefill and its blocks to decode with.

        Raises:
            ReservationError: if the request is booked already.
        """
        tokens = decision.isl_tokens
        cached = min(decision.overlap_blocks * self.block_size, tokens)
        prefill = tokens - cached if self.config.router_track_prefill_tokens else 0
        sequence = decision.sequence
        if not self.config.router_assume_kv_reuse:
            sequence = tuple(self._rng.getrandbits(64) for _ in sequence)
        booked = Reservation(decision.worker_id, prefill, sequence, self._clock.now() + EXPIRES_S)
        self.loads.add(request_id, booked)
        if isinstance(self.indexer, ApproxKvIndexer):
            self.indexer.process_routing_decision(decision.worker_id, decision.sequence)

    def prefill_complete(self, request_id: str) -> None:
        """The prompt is prefilled: the first token came."""
        self.loads.prefill_complete(request_id)

    def add_output_block(self, request_id: str, decay_fraction: float | None = None) -> None:
        """The answer has filled another block; `decay_fraction` is what blocks that only it uses count from now on.

        Raises:
            ConfigError: if the fraction is none.
        """
        if decay_fraction is not None and not 0.0 <= decay_fraction <= 1.0:
            raise ConfigError(f"decay_fraction={decay_fraction!r} must be between 0.0 and 1.0.")
        self.loads.add_output_block(request_id, decay_fraction)

    def free(self, request_id: str) -> None:
        """The request has ended."""
        self.loads.free(request_id)

    def is_saturated(self, workers: Sequence[int], max_num_batched_tokens: int) -> bool:
        """Tell whether every worker has more than its share of `router_queue_threshold` to prefill; see `KvQueue`."""
        threshold = self.config.router_queue_threshold
        if threshold is None or not workers:
            return False
        prefill, _, _ = self.loads.columns(workers, self._clock.now())
        return bool((prefill > threshold * max_num_batched_tokens).all())

    def remove_worker(self, worker_id: int) -> None:
        """Forget a worker that is gone: what it holds, and what it was sent."""
        self.indexer.remove_worker(worker_id)
        self.loads.remove_worker(worker_id)


def _column(values: dict[int, int], workers: Sequence[int]) -> Column:
    return np.fromiter(map(values.get, workers, repeat(0)), np.float64, len(workers))
