"""The router mode "kv": a picker that scores instances by their caches and their load, and books what it sends."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from dynlab.errors import ConfigError, did_you_mean, listed
from dynlab.kv.blocks import tokenize
from dynlab.kv.events import KvEvent
from dynlab.protocols import Envelope, Instance
from dynlab.routing.kv import KvDecision, KvRouter, KvRouterConfig
from dynlab.routing.modes import Pick, RouterMode

__all__ = ("COLUMNS", "WEIGHTS", "KvPicker", "checked_settings", "tokens_of")

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


WEIGHTS = ("prefill_load_scale", "decode_active_request_weight", "router_temperature", "router_track_prefill_tokens")
"""What a pick's detail holds of the router's settings: they explain a cost."""


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of the mode "kv" as they are, if they are.

    Raises:
        ConfigError: for a key that is neither `block_size` nor a field of `KvRouterConfig`, or an impossible value.
    """
    known = ["block_size", *(field.name for field in fields(KvRouterConfig))]
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"kv={{{name!r}: ...}}: the KV router has no such setting; there are {listed(known)}."
                f"{did_you_mean(name, known)}"
            )
    size = settings.get("block_size", 1)
    if type(size) is not int or size < 1:
        raise ConfigError(f"block_size={size!r} must be a number of tokens, 1 or more.")
    KvRouterConfig(**{name: value for name, value in settings.items() if name != "block_size"})
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

    def __init__(self, router: KvRouter) -> None:
        self.router = router
        self._numbers = itertools.count(1)
        self._listed: set[int] = set()
        self._weights = {name: getattr(router.config, name) for name in WEIGHTS}

    def pick(self, request: Envelope, instances: Sequence[Instance]) -> Pick:
        """Choose the cheapest instance, and book the request there."""
        decision = self.router.decide(tokens_of(request.data), [instance.instance_id for instance in instances])
        booking = f"{request.request_id}/{next(self._numbers)}"
        self.router.reserve(booking, decision)
        chosen = next(i for i in instances if i.instance_id == decision.worker_id)
        return Pick(chosen, {**_detail(decision), **self._weights}, booking)

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


def _detail(decision: KvDecision) -> dict[str, Any]:
    columns = {name: tuple(decision.columns[column].tolist()) for name, column in COLUMNS.items()}
    return {
        "isl_tokens": decision.isl_tokens,
        "block_size": decision.block_size,
        "workers": decision.workers,
        **columns,
    }
