"""The router mode "kv": a picker that scores instances by their caches and their load, and books what it sends."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from dynlab.errors import ConfigError, RoutingError, did_you_mean, listed
from dynlab.kv.blocks import tokenize
from dynlab.kv.events import KvEvent
from dynlab.protocols import Envelope, Instance
from dynlab.routing.kv import KvDecision, KvRouter, KvRouterConfig
from dynlab.routing.kv_queue import MAX_NUM_BATCHED_TOKENS, KvQueue
from dynlab.routing.modes import Pick, RouterMode

__all__ = ("COLUMNS", "SIZES", "WEIGHTS", "KvPicker", "checked_settings", "detail_of", "tokens_of")

MAX_WAITING = 10_000
"""Requests that may wait in the router's queue; what comes then is refused."""

COLUMNS = {
    "prefill_tokens": "prefill",
    "overlap_blocks": "overlap",
    "raw_blocks": "raw",
    "credit": "credit",
    "decode_blocks": "decode",
    "active_requests": "requests",
    "cost": "cost",
}
"""What a pick's detail holds of each worker, by the names of a decision's columns."""

SIZES = ("block_size", "max_num_batched_tokens")
"""What the mode may be told of the workers, in tokens (Dynamo: their runtime configuration, not the router's)."""

WEIGHTS = ("prefill_load_scale", "decode_active_request_weight", "router_temperature", "router_track_prefill_tokens")
"""What a pick's detail holds of the router's settings: they explain a cost."""


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of the mode "kv" as they are, if they are.

    Raises:
        ConfigError: for a key that is none of `SIZES` nor a field of `KvRouterConfig`, or an impossible value.
    """
    known = [*SIZES, *(field.name for field in fields(KvRouterConfig))]
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"kv={{{name!r}: ...}}: the KV router has no such setting; there are {listed(known)}."
                f"{did_you_mean(name, known)}"
            )
    for name in SIZES:
        size = settings.get(name, 1)
        if type(size) is not int or size < 1:
            raise ConfigError(f"{name}={size!r} must be a number of tokens, 1 or more.")
    KvRouterConfig(**{name: value for name, value in settings.items() if name not in SIZES})
    return dict(settings)


def tokens_of(request: Any) -> list[int]:
    """Return the token ids of a request: its `token_ids`, or else its `prompt` or `text`, tokenized.

    A request in JSON is read first; of any other, the whole text is taken.
    """
    if isinstance(request, str):
        try:
            parsed = json.loads(request)
        except ValueError:
            return tokenize(request)
        request = parsed if isinstance(parsed, dict) else request
    if isinstance(request, Mapping):
        if "token_ids" in request:
            return list(request["token_ids"])
        request = next((request[key] for key in ("prompt", "text") if key in request), "")
    return tokenize(str(request))


class KvPicker:
    """Picks for one endpoint of one runtime. The runtime calls `prefill_complete` and `free` as answers go on."""

    mode = RouterMode.KV.value

    def __init__(self, router: KvRouter, max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS) -> None:
        self.router = router
        self.may_wait = router.config.router_queue_threshold is not None
        self._queue = KvQueue(router, max_num_batched_tokens)
        self._waiting: dict[Envelope, tuple[str, float, Callable[[], object]]] = {}
        self._called: dict[Envelope, tuple[str, float, KvDecision]] = {}
        self._numbers = itertools.count(1)
        self._listed: set[int] = set()
        self._weights = {name: getattr(router.config, name) for name in WEIGHTS}

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        """Choose the cheapest instance, and book the request there; one that waited has been booked already."""
        ids = [instance.instance_id for instance in instances]
        booking, queued, decision = self._called.pop(request, ("", 0.0, None))
        if decision is None or decision.worker_id not in ids:  # it did not wait, or for somebody who is gone
            self.free(booking)
            decision = self.router.decide(tokens_of(request.data), ids)
            booking = self._name(request)
            self.router.reserve(booking, decision)
        chosen = instances[ids.index(decision.worker_id)]
        detail = {**detail_of(decision), **self._weights}
        return Pick(chosen, {**detail, "queued_s": queued} if queued else detail, booking)

    def enqueue(self, request: Envelope, instances: Sequence[Instance], call: Callable[[], object]) -> None:
        """Book a request, or let it wait while `router_queue_threshold` says so.

        Raises:
            RoutingError: if too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise RoutingError(
                f"{len(self._waiting)} requests wait for a worker with room to prefill, and no more may: send fewer at "
                "once, add workers, or raise router_queue_threshold."
            )
        booking, now = self._name(request), self.router.now()
        decision = self._queue.enqueue(booking, tokens_of(request.data), [i.instance_id for i in instances])
        if decision is None:
            self._waiting[request] = booking, now, call
        else:
            self._called[request] = booking, 0.0, decision

    def is_waiting(self, request: Envelope) -> bool:
        """Tell whether its turn has not come yet."""
        return request in self._waiting

    def leave(self, request: Envelope) -> None:
        """Let a request wait no more, or give back what was booked for it."""
        if request in self._waiting:
            self._queue.cancel(self._waiting.pop(request)[0])
        elif request in self._called:
            self.free(self._called.pop(request)[0])

    def update(self, instances: Sequence[Instance]) -> None:
        """Book those whose turn has come, and call them; without instances, call all."""
        if not self._waiting:
            return
        if not instances:
            for request, (_, _, call) in list(self._waiting.items()):
                self.leave(request)
                call()
            return
        for booking, decision in self._queue.update([instance.instance_id for instance in instances]).items():
            request = next(iter(self._waiting))  # both are in the order of arrival
            _, since, call = self._waiting.pop(request)
            self._called[request] = booking, self.router.now() - since, decision
            call()

    def _name(self, request: Envelope) -> str:
        return f"{request.request_id}/{next(self._numbers)}"

    def prefill_complete(self, booking: str) -> None:
        """The first item came."""
        if booking in self.router.loads:
            self.router.prefill_complete(booking)

    def free(self, booking: str) -> None:
        """The answer has ended."""
        if booking in self.router.loads:
            self.router.free(booking)

    def hear(self, instance_id: int, event: KvEvent | None) -> None:
        """Follow what a worker tells of its cache; None: it will tell everything anew."""
        if event is None:
            self.router.indexer.remove_worker(instance_id)
        else:
            self.router.indexer.apply_event(instance_id, event)

    def keep(self, listed: Iterable[int]) -> None:
        """Forget all instances but those that are listed; one that is only skipped for a while is listed still."""
        here = set(listed)
        for gone in self._listed - here:
            self.router.remove_worker(gone)
        self._listed = here


def detail_of(decision: KvDecision) -> dict[str, Any]:
    """Return what a decision was made from, as plain values that a trace can keep."""
    columns = {name: tuple(decision.columns[column].tolist()) for name, column in COLUMNS.items()}
    return {
        "isl_tokens": decision.isl_tokens,
        "block_size": decision.block_size,
        "workers": decision.workers,
        **columns,
    }
