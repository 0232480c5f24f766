"""`dynlab.kv.cache` over an hour of a real chat service's requests."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from dynlab.kv.cache import KvCache
from tests.kv.test_cache import use

TRACE = (
    Path(os.environ.get("DYNLAB_TRACE_DIR", Path(__file__).parents[3] / "shared" / "data"))
    / "mooncake_conversation_trace.jsonl"
)


def plain_lru_hits(requests: Iterable[Sequence[int]], capacity: int, *, last_first: bool) -> int:
    """Count the prefix hits of an LRU of single blocks, that touches a prompt's first or last block first."""
    blocks: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for sequence in requests:
        hits += next((n for n, block in enumerate(sequence) if block not in blocks), len(sequence))
        for block in reversed(sequence) if last_first else sequence:
            blocks[block] = None
            blocks.move_to_end(block)
        while len(blocks) > capacity:
            blocks.popitem(last=False)
    return hits


# No `unavailable`: the data is no part of the project, so CI may be without it.
@pytest.mark.skipif(not TRACE.exists(), reason=f"{TRACE} is not there; DYNLAB_TRACE_DIR says where it is")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("capacity", "rate"),
    [
        (10**9, 0.366),
        (100_000, 0.364),
        (50_000, 0.355),
        (30_000, 0.326),
        (10_000, 0.211),
        (5_859, 0.136),
        (1_000, 0.044),
    ],
)
def test_hit_rates_of_an_hour_of_chat(capacity: int, rate: float) -> None:
    """Over the Mooncake conversation trace the hits are those of a plain LRU that touches a prompt's last block first.

    The known rates are of one that touches the first block first, and so loses beginnings whose rest is of no use
    then: that costs it half a hit in a thousand blocks.
    """
    requests = [json.loads(line)["hash_ids"] for line in TRACE.read_text(encoding="utf-8").splitlines()]
    blocks = sum(map(len, requests))
    cache = KvCache(capacity)

    hits = sum(use(cache, sequence) for sequence in requests)

    assert plain_lru_hits(requests, capacity, last_first=True) == hits
    known = plain_lru_hits(requests, capacity, last_first=False)
    assert rate == round(known / blocks, 3)
    assert 0 <= hits - known <= blocks / 1000
