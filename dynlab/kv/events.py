"""What a worker tells about its cache: stored, removed, cleared (Dynamo: `KvCacheEvent`, lib/kv-router)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ("Cleared", "KvEvent", "Removed", "Stored", "event_data")


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks came into the cache, one after the other, behind the block `parent_hash` (None: at the beginning).

    `block_hashes` are sequence hashes, `tokens_hashes` the blocks' own.
    """

    parent_hash: int | None
    block_hashes: tuple[int, ...]
    tokens_hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """Blocks left the cache; `block_hashes` are sequence hashes."""

    block_hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cleared:
    """The cache is empty."""


KvEvent: TypeAlias = Stored | Removed | Cleared


def event_data(event: KvEvent) -> Any:
    """Return the event as Dynamo writes it in JSON, the `data` of a `KvCacheEvent`."""
    match event:
        case Stored(parent, hashes, tokens):
            blocks = [{"block_hash": h, "tokens_hash": t} for h, t in zip(hashes, tokens, strict=True)]
            return {"stored": {"parent_hash": parent, "blocks": blocks}}
        case Removed(hashes):
            return {"removed": {"block_hashes": list(hashes)}}
        case Cleared():
            return "cleared"
