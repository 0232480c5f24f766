"""What the mode "kv" reads of a request, and what may be set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import ConfigError, RoutingError
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


def waiting_picker(tokens: int = 8) -> KvPicker:
    """Return a picker whose first request, of so many tokens, is enough for the only instance."""
    return KvPicker(KvRouter(4, KvRouterConfig(router_queue_threshold=0.0), clock=VirtualClock()), tokens)


def test_who_waits_is_booked_before_it_is_called() -> None:
    """So that the next in the queue sees it; the pick then takes what was booked."""
    picker, calls = waiting_picker(), []
    envelopes = [Envelope(ENDPOINT, f"r{n}", json.dumps({"token_ids": [n] * 8})) for n in range(3)]
    for n, envelope in enumerate(envelopes):
        picker.enqueue(envelope, INSTANCES[:1], lambda n=n: calls.append(n))
    picked = picker.pick(envelopes[0], INSTANCES[:1])
    assert [False, True, True] == [picker.is_waiting(envelope) for envelope in envelopes]

    picker.free(str(picked.booking))
    picker.update(INSTANCES[:1])

    assert [1] == calls
    assert [False, True] == [picker.is_waiting(envelope) for envelope in envelopes[1:]]
    assert [8.0] == picker.router.loads.columns([7001], 0.0)[0].tolist()
    assert 7001 == picker.pick(envelopes[1], INSTANCES).instance.instance_id


def test_what_was_booked_for_somebody_who_left_is_given_back() -> None:
    """By a request that nobody wants any more, or that finds its instance gone."""
    picker = waiting_picker()
    one, two = (Envelope(ENDPOINT, name, json.dumps({"token_ids": [1] * 8})) for name in "ab")
    picker.enqueue(one, INSTANCES[:1], lambda: None)
    picker.leave(one)
    assert [0.0] == picker.router.loads.columns([7001], 0.0)[0].tolist()

    picker.enqueue(two, INSTANCES[:1], lambda: None)
    picked = picker.pick(two, INSTANCES[1:2])

    assert 7002 == picked.instance.instance_id
    assert [0.0, 8.0] == picker.router.loads.columns([7001, 7002], 0.0)[0].tolist()


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes when it is full is refused with what to do about it."""
    monkeypatch.setattr("dynlab.routing.kv_picker.MAX_WAITING", 2)
    picker = waiting_picker()
    for n in range(3):  # the first goes at once
        picker.enqueue(Envelope(ENDPOINT, f"r{n}", json.dumps({"token_ids": [n] * 8})), INSTANCES[:1], lambda: None)

    with pytest.raises(RoutingError, match=r"2 requests wait .* raise router_queue_threshold"):
        picker.enqueue(Envelope(ENDPOINT, "r", "{}"), INSTANCES[:1], lambda: None)
