"""What the mode "kv" reads of a request, and what may be set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynlab.errors import ConfigError
from dynlab.kv.blocks import tokenize
from dynlab.kv.events import Stored
from dynlab.protocols import EndpointId, Envelope, Instance
from dynlab.routing.kv import KvRouter, KvRouterConfig
from dynlab.routing.kv_picker import KvPicker, checked_settings, tokens_of

ENDPOINT = EndpointId("ns", "Worker", "generate")
INSTANCES = [Instance(ENDPOINT, 7001 + n, f"W-{n}") for n in range(3)]


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        ("a b", tokenize("a b")),
        ({"prompt": "a b", "request_id": "r"}, tokenize("a b")),
        (json.dumps({"prompt": "a b", "request_id": "r"}), tokenize("a b")),
        ({"text": "a b"}, tokenize("a b")),
        ({"token_ids": [1, 2, 3], "prompt": "a b"}, [1, 2, 3]),
        ("[1, 2]", tokenize("[1, 2]")),
        ({"other": 1}, []),
        (None, tokenize("None")),
    ],
    ids=["text", "a prompt", "a prompt in JSON", "a text", "token ids", "JSON of something else", "nothing", "None"],
)
def test_the_prompt_of_a_request_is_found(request_: Any, tokens: list[int]) -> None:
    """Token ids are taken as they are; of all else the text is tokenized."""
    assert tokens == tokens_of(request_)


def pick(picker: KvPicker, tokens: list[int]) -> Any:
    return picker.pick(Envelope(ENDPOINT, "r", json.dumps({"token_ids": tokens})), INSTANCES)


def test_a_pick_is_booked_until_it_is_freed() -> None:
    """The same request id twice is two bookings; what is freed twice is freed once."""
    picker = KvPicker(KvRouter(4))
    one, two = (pick(picker, list(range(8))) for _ in range(2))
    assert one.booking != two.booking
    assert {one.booking, two.booking} == {b for b in (one.booking, two.booking) if b in picker.router.loads}

    picker.prefill_complete(one.booking)
    for booking in (one.booking, two.booking, two.booking):
        picker.free(booking)

    assert one.booking not in picker.router.loads
    assert two.booking not in picker.router.loads


def test_who_is_off_the_list_is_forgotten() -> None:
    """Cache and books of an instance that left are gone; those of the others stay."""
    picker = KvPicker(KvRouter(4))
    picker.keep([7001, 7002])
    for instance_id in (7001, 7002):
        picker.hear(instance_id, Stored(None, (1, 2), (1, 2)))

    picker.keep([7002, 7003])

    assert {7002: 2} == picker.router.indexer.find_matches([1, 2])


def test_a_cache_that_is_told_anew_is_forgotten_first() -> None:
    """None instead of an event."""
    picker = KvPicker(KvRouter(4))
    picker.hear(7001, Stored(None, (1, 2), (1, 2)))

    picker.hear(7001, None)
    picker.hear(7001, Stored(None, (1,), (1,)))

    assert {7001: 1} == picker.router.indexer.find_matches([1, 2])


def test_settings_are_those_of_the_router() -> None:
    """What may be set passes as it is."""
    settings = {"block_size": 4, "overlap_score_credit": 0.5, "router_temperature": 1.0}

    assert settings == checked_settings(settings)
    assert KvRouterConfig(overlap_score_credit=0.5, router_temperature=1.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"overlap_credit": 1}, r"no such setting; there are block_size, .* Did you mean 'overlap_score_credit'\?"),
        ({"block_size": 0}, r"block_size=0 must be a number of tokens, 1 or more\."),
        ({"router_temperature": -1}, r"router_temperature=-1 must be a number of 0 or more\."),
    ],
    ids=["an unknown name", "no block", "a negative temperature"],
)
def test_other_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    """The sentence says what there is."""
    with pytest.raises(ConfigError, match=sentence):
        checked_settings(settings)
