"""Requests that wait while all workers have enough to prefill (Dynamo: `SchedulerQueue`, policy fcfs).

With `router_queue_threshold` F, a request waits while every worker has more than F * max_num_batched_tokens to
prefill, or while others wait already: nobody overtakes. Each `prefill_complete` and `free` may let some go.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynlab.routing.kv import KvDecision, KvRouter

__all__ = ("MAX_NUM_BATCHED_TOKENS", "KvQueue")

MAX_NUM_BATCHED_TOKENS = 10_000_000
"""What a worker that says nothing is taken to prefill at once: so much that nobody ever waits."""


class KvQueue:
    """Books requests at a router, or lets them wait, the first come the first served.

    Dynamo asks its index once, when a request comes, and again if it waited for ten seconds; here the index is asked
    when the request goes.
    """

    def __init__(self, router: KvRouter, max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS) -> None:
        self.router = router
        self.max_num_batched_tokens = max_num_batched_tokens
        self._waiting: dict[str, tuple[Sequence[int], Sequence[int] | None]] = {}

    @property
    def pending_count(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def pending_isl_tokens(self) -> int:
        """How long their prompts are together."""
        return sum(len(tokens) for tokens, _ in self._waiting.values())

    def enqueue(
        self, request_id: str, tokens: Sequence[int], workers: Sequence[int], sequence: Sequence[int] | None = None
    ) -> KvDecision | None:
        """Book a request and return the decision, or let it wait and return None; see `KvRouter.decide`."""
        if self._waiting or self.router.is_saturated(workers, self.max_num_batched_tokens):
            self._waiting[request_id] = tokens, sequence
            return None
        return self._book(request_id, tokens, workers, sequence)

    def update(self, workers: Sequence[int]) -> dict[str, KvDecision]:
        """Book those whose turn has come, each after the other; to be called after `prefill_complete` and `free`."""
        booked: dict[str, KvDecision] = {}
        while self._waiting and workers and not self.router.is_saturated(workers, self.max_num_batched_tokens):
            request_id, prompt = next(iter(self._waiting.items()))
            booked[request_id] = self._book(request_id, prompt[0], workers, prompt[1])
            del self._waiting[request_id]
        return booked

    def cancel(self, request_id: str) -> None:
        """Let a request wait no more."""
        self._waiting.pop(request_id, None)

    def clear(self) -> list[str]:
        """Let nobody wait any more, and return who did."""
        left = list(self._waiting)
        self._waiting.clear()
        return left

    def _book(
        self, request_id: str, tokens: Sequence[int], workers: Sequence[int], sequence: Sequence[int] | None
    ) -> KvDecision:
        decision = self.router.decide(tokens, workers, sequence)
        self.router.reserve(request_id, decision)
        return decision
