"""`dynlab.protocols`: addresses, and what a value looks like after it has travelled."""

from __future__ import annotations

import math
from collections import OrderedDict
from datetime import date
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynlab.errors import PayloadError
from dynlab.protocols import (
    Annotated,
    Candidate,
    EndpointId,
    Envelope,
    GeneralRequest,
    GeneralResponse,
    Instance,
    Packed,
    RoutingDecision,
    from_wire,
    to_wire,
)

ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")

NAMES = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1)
KEYS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
PLAIN = KEYS | st.floats(allow_nan=False)
PAYLOADS = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


# ---------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("prefix", ["", "dyn://"])
def test_an_endpoint_path_has_three_parts(prefix: str) -> None:
    """`ns.comp.ep` and `dyn://ns.comp.ep` are the same address, shown as `ns/comp/ep`."""
    parsed = EndpointId.parse(f"{prefix}dynamo-demo.DummyWorker.begenerate")

    assert ENDPOINT == parsed
    assert "dynamo-demo/DummyWorker/begenerate" == str(parsed)


@pytest.mark.parametrize("path", ["", "a.b", "a.b.c.d", "a..c", ".b.c", "dyn://a.b", "dyn://", "a/b/c"])
def test_any_other_path_is_refused(path: str) -> None:
    """Two parts, four parts and empty parts are no address; the sentence shows the form."""
    with pytest.raises(ValueError, match=r"is no endpoint path; write namespace\.component\.endpoint, three parts"):
        EndpointId.parse(path)


@given(NAMES.filter(lambda name: not name.startswith("dyn://")), NAMES, NAMES)
def test_an_address_survives_being_written_and_read(namespace: str, component: str, name: str) -> None:
    """Whatever the three names are, writing them with dots and parsing that gives them back."""
    assert EndpointId(namespace, component, name) == EndpointId.parse(f"{namespace}.{component}.{name}")


# ---------------------------------------------------------------------------- what travels


@given(PAYLOADS)
def test_plain_values_arrive_as_they_were_sent(value: Any) -> None:
    """Strings, numbers, None, bytes, and lists and dicts of them (keys of any of these kinds) arrive unchanged."""
    arrived = from_wire(to_wire(value))

    assert value == arrived
    assert type(value) is type(arrived)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        ({"pair": (1, 2)}, {"pair": [1, 2]}),
        ({1}, [1]),
        (frozenset({1}), [1]),
        ([{1}], [[1]]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (StrEnum("Color", ["RED"]).RED, "red"),
        (Packed(b"\x01"), b"\x01"),
    ],
    ids=repr,
)
def test_other_collections_become_lists_and_dicts(sent: Any, arrives: Any) -> None:
    """Tuples and sets arrive as lists, kinds of dict, str and bytes as the plain kind."""
    arrived = from_wire(to_wire(sent))

    assert arrives == arrived
    assert type(arrives) is type(arrived)


def test_the_order_of_keys_is_kept() -> None:
    """A dict arrives in the order in which it was written, integer keys too."""
    assert ["b", "a", 2, 1] == list(from_wire(to_wire({"b": 0, "a": 0, 2: 0, 1: 0})))


def test_nan_and_infinity_arrive() -> None:
    """Floats travel as floats, not as JSON."""
    nan, infinite = from_wire(to_wire([math.nan, math.inf]))

    assert math.isnan(nan)
    assert math.inf == infinite


def test_what_is_changed_after_sending_does_not_change_what_arrives() -> None:
    """A value is packed when it is sent, deep down too."""
    request: dict[str, Any] = {"prompt": "a", "tags": ["x"]}

    wire = to_wire(request)
    request["prompt"] = "b"
    request["tags"].append("y")

    assert {"prompt": "a", "tags": ["x"]} == from_wire(wire)


def test_every_reader_gets_a_dict_of_its_own() -> None:
    """Two looks at one item do not share it."""
    item = Annotated(to_wire({"tags": []}))

    item.data()["tags"].append("mine")

    assert {"tags": []} == item.data()


@pytest.mark.parametrize("value", ["text", 1, 1.5, True, None, b"bytes"], ids=repr)
def test_what_cannot_change_is_handed_over_as_it_is(value: Any) -> None:
    """An immutable value is not copied at all: the hot path of a chunk of text costs nothing."""
    assert value is from_wire(to_wire(value))


@pytest.mark.parametrize("value", [GeneralRequest(), {"request": GeneralRequest()}, [GeneralResponse()]])
def test_models_are_refused(value: Any) -> None:
    """As in Dynamo a pydantic model cannot travel, nor anything that holds one."""
    with pytest.raises(PayloadError, match="cannot travel between tiers: unsupported type General"):
        to_wire(value)


def test_a_refused_model_is_told_how_to_travel() -> None:
    """The sentence names the two methods that make a model into a payload."""
    with pytest.raises(PayloadError, match=r"Send `\.model_dump\(\)` or `\.model_dump_json\(\)` of it"):
        to_wire(GeneralRequest())


@pytest.mark.parametrize(
    "value", [object(), date(2025, 3, 18), 1j, [print], {"x": iter(())}], ids=lambda value: type(value).__name__
)
def test_other_objects_are_refused(value: Any) -> None:
    """What has no form on the wire is refused where it is sent, not where it arrives."""
    with pytest.raises(PayloadError, match="Send str, int, float, bool, None, bytes, or lists and dicts of them"):
        to_wire(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, [2**64], {"n": -(2**63) - 1}], ids=repr)
def test_integers_have_64_bits(value: Any) -> None:
    """Integers travel from -2**63 to 2**64 - 1, as in Dynamo; others are refused."""
    with pytest.raises(PayloadError, match="cannot travel"):
        to_wire(value)


def test_a_list_that_holds_itself_is_refused() -> None:
    """A circle has no end to pack."""
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(PayloadError, match="recursion limit"):
        to_wire(circle)


# ---------------------------------------------------------------------------- the words


def test_an_envelope_shows_what_the_handler_will_get() -> None:
    """A picker reads `request.data`."""
    assert {"prompt": [1, 2]} == Envelope(ENDPOINT, "r-1", to_wire({"prompt": (1, 2)})).data


def test_an_item_answers_as_dynamos_do() -> None:
    """`data()` is the value; `id`, `event` and `comments` are None and `is_error` is False, for plain items."""
    item = Annotated(to_wire({"n": 1}))

    assert ({"n": 1}, None, None, None, False) == (
        item.data(),
        item.id(),
        item.event(),
        item.comments(),
        item.is_error(),
    )
    assert "Annotated({'n': 1})" == repr(item)


def test_a_decision_knows_its_chosen_candidate() -> None:
    """`chosen` is the candidate with the chosen id."""
    idle, busy = Candidate(7001, "DummyWorker-1", 0), Candidate(7002, "DummyWorker-2", 3)

    assert busy is RoutingDecision("direct", 7002, (idle, busy)).chosen


def test_an_instance_shows_its_load() -> None:
    """A reader who prints what a pick function gets sees id, worker and requests in flight."""
    assert "<Instance 7001 DummyWorker-1: 2 active>" == repr(Instance(ENDPOINT, 7001, "DummyWorker-1", 2))


def test_the_examples_defaults() -> None:
    """The two models have the defaults of Dynamo's multinode example."""
    assert {"prompt": "user input", "request_id": "id_string"} == GeneralRequest().model_dump()
    assert {"worker_output": "generated output", "request_id": "id_string"} == GeneralResponse().model_dump()
