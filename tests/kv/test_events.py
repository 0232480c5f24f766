"""`dynlab.kv.events`: what a worker tells, and how Dynamo writes it. That Dynamo reads it: see test_kv_parity."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from dynlab.kv.events import Cleared, KvEvent, Removed, Stored, event_data


@pytest.mark.parametrize(
    ("event", "written"),
    [
        (
            Stored(None, (3, 4), (1, 2)),
            (
                '{"stored": {"parent_hash": null, "blocks": '
                '[{"block_hash": 3, "tokens_hash": 1}, {"block_hash": 4, "tokens_hash": 2}]}}'
            ),
        ),
        (Stored(4, (), ()), '{"stored": {"parent_hash": 4, "blocks": []}}'),
        (Removed((4, 3)), '{"removed": {"block_hashes": [4, 3]}}'),
        (Cleared(), '"cleared"'),
    ],
    ids=["stored", "stored nothing", "removed", "cleared"],
)
def test_an_event_in_json(event: KvEvent, written: str) -> None:
    """An event is written as the `data` of Dynamo's `KvCacheEvent`."""
    assert written == json.dumps(event_data(event))


def test_each_block_has_both_hashes() -> None:
    """An event with more hashes of one kind than of the other cannot be written."""
    with pytest.raises(ValueError, match="shorter"):
        event_data(Stored(None, (1, 2), (1,)))


def test_an_event_stays_as_it_was_told() -> None:
    """Events travel between threads, so they cannot be changed; equal ones are equal."""
    event = Removed((1,))

    with pytest.raises(FrozenInstanceError):
        event.block_hashes = ()  # type: ignore[misc]
    assert {Removed((1,)), Cleared()} == {event, Cleared()}
