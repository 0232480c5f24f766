"""A body is read once, by a model made of the method's signature, and every mistake in it is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from dynlab.protocols import GeneralRequest
from dynlab.serving import body as body_module
from dynlab.serving.body import Body, BodyError, read_body


class Inner(BaseModel):
    n: int


class Methods:
    async def blog(self, prompt, request_id): ...

    async def typed(self, prompt: str, times: int = 1, how: Literal["a", "b"] = "a") -> AsyncIterator[str]: ...

    async def bounded(self, n: Annotated[int, Field(ge=1, le=3)]): ...

    async def whole(self, request: GeneralRequest): ...

    async def nested(self, inner: Inner, more: list[Inner] | None = None): ...

    async def nothing(self): ...

    async def awkward(self, json, copy, model_config, schema): ...


def body(name: str) -> Body:
    return Body(f"/{name}", getattr(Methods(), name))


def refused(name: str, content: bytes) -> BodyError:
    with pytest.raises(BodyError) as raised:
        body(name).read(content)
    return raised.value


# ---------------------------------------------------------------------------- what fits


def test_arguments_are_keys() -> None:
    """`fegenerate(self, prompt, request_id)` takes just these keys, and any value without annotation."""
    assert ["prompt", "request_id"] == body("blog").keys
    assert {"prompt": ["any"], "request_id": None} == body("blog").read(b'{"prompt": ["any"], "request_id": null}')


def test_a_key_with_a_default_may_be_left_out() -> None:
    """The method's own default counts then, so the key is not passed at all."""
    assert {"prompt": "p"} == body("typed").read(b'{"prompt": "p"}')
    assert {"prompt": "p", "times": 3, "how": "b"} == body("typed").read(b'{"prompt":"p","times":3,"how":"b"}')


def test_a_single_model_is_the_whole_body() -> None:
    """As in Dynamo 0.3: the keys are the model's, its defaults count, and the method gets the model."""
    assert ["prompt", "request_id"] == body("whole").keys
    assert {"request": GeneralRequest(prompt="p")} == body("whole").read(b'{"prompt": "p"}')


def test_nested_models_arrive_as_models() -> None:
    """An argument that is a model is made from its object."""
    assert {"inner": Inner(n=1), "more": [Inner(n=2)]} == body("nested").read(b'{"inner":{"n":1},"more":[{"n":2}]}')


def test_a_method_without_arguments_takes_an_empty_body() -> None:
    """`curl -X POST url` is enough."""
    assert {} == body("nothing").read(b"") == body("nothing").read(b"{}")


def test_any_name_can_be_a_key() -> None:
    """Names that mean something to pydantic are ordinary arguments here."""
    values = {"json": 1, "copy": 2, "model_config": 3, "schema": 4}

    assert values == body("awkward").read(json.dumps(values).encode())


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none()), max_size=4))
def test_no_object_is_an_error_without_a_sentence(value: dict[str, Any]) -> None:
    """Whatever the keys, it is read, or refused with 422."""
    content = json.dumps(value).encode()
    if value.keys() == {"prompt", "request_id"}:
        assert value == body("blog").read(content)
    else:
        error = refused("blog", content)
        assert 422 == error.status
        assert error.message.startswith("POST /blog takes the keys prompt, request_id; ")


# ---------------------------------------------------------------------------- what does not


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("blog", b"{}", "missing: prompt, request_id."),
        ("blog", b"", "missing: prompt, request_id."),
        ("blog", b'{"promt":1,"request_id":2}', "missing: prompt; unknown: promt. Did you mean 'prompt'?"),
        ("blog", b'{"prompt":1,"request_id":2,"a":3,"b":4}', "unknown: a, b."),
        ("blog", b"[1]", "the body: Input should be an object."),
        ("blog", b"null", "the body: Input should be an object."),
    ],
)
def test_missing_and_unknown_keys_are_all_named(name: str, content: bytes, message: str) -> None:
    """422 says which keys there are, which are missing, which are unknown, and the likely typo."""
    error = refused(name, content)

    assert 422 == error.status
    assert f"POST /{name} takes the keys prompt, request_id; {message}" == error.message


def test_wrong_values_are_named_by_their_key() -> None:
    """Each wrong value is said, with what pydantic expects."""
    error = refused("typed", b'{"prompt": 1, "times": "x", "how": "c"}')

    assert (
        "POST /typed takes the keys prompt, times, how; prompt: Input should be a valid string; times: Input should be "
        "a valid integer, unable to parse string as an integer; how: Input should be 'a' or 'b'."
    ) == error.message
    assert [["body", "prompt"], ["body", "times"], ["body", "how"]] == [each["loc"] for each in error.detail]


def test_annotations_with_limits_are_kept() -> None:
    """`Annotated[int, Field(ge=1)]` is checked."""
    assert (
        "POST /bounded takes the keys n; n: Input should be less than or equal to 3."
        == refused("bounded", b'{"n": 4}').message
    )


def test_a_wrong_key_deep_inside_is_named_with_its_path() -> None:
    """`more.0.n` says where."""
    assert "missing: more.0.n" in refused("nested", b'{"inner": {"n": 1}, "more": [{}]}').message


@pytest.mark.parametrize("content", [b"{", b'{"prompt": "x"', b"prompt=x", b"\xff", b'{"prompt": "\\ud800"}', b"   "])
def test_what_is_no_json_is_400(content: bytes) -> None:
    """The sentence says where the text stops being JSON."""
    error = refused("blog", content)

    assert 400 == error.status
    assert error.message.startswith("The body is no JSON: ")


def test_an_error_does_not_send_the_prompt_back() -> None:
    """A report stays small and valid JSON, whatever was sent: NaN is no JSON, and four megabytes are no message."""
    error = refused("typed", b'{"prompt": NaN, "times": "' + b"x" * 10_000 + b'"}')

    assert len(json.dumps(error.detail, allow_nan=False)) < 500


# ---------------------------------------------------------------------------- the schema


def test_the_schema_says_what_may_be_sent() -> None:
    """Required keys, types and limits, and that there are no others."""
    schema = body("typed").schema()

    assert ["prompt"] == schema["required"]
    assert "integer" == schema["properties"]["times"]["type"]
    assert schema["additionalProperties"] is False


# ---------------------------------------------------------------------------- receiving


def receiving(*messages: dict[str, Any]) -> Any:
    """Play an ASGI server that has these messages, and then no more."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else await asyncio.get_running_loop().create_future()

    return receive


async def test_a_body_in_parts_is_joined() -> None:
    """Chunks are one body."""
    receive = receiving(
        {"type": "http.request", "body": b'{"a"', "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b": 1}"},
    )

    assert b'{"a": 1}' == await read_body({}, receive)


async def test_a_client_that_leaves_in_the_middle_is_a_connection_error() -> None:
    """There is nobody to answer."""
    receive = receiving({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"})

    with pytest.raises(ConnectionError):
        await read_body({}, receive)


@pytest.mark.parametrize(
    "messages", [(), ({"type": "http.request", "body": b"ab", "more_body": True},)], ids=["no body", "half a body"]
)
async def test_a_body_that_does_not_come_is_408(messages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the first byte is late or the last, the client is told after `BODY_TIMEOUT_S`."""
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.02)

    with pytest.raises(BodyError) as raised:
        await read_body({b"content-length": b"4"}, receiving(*messages))

    assert 408 == raised.value.status
    came = 2 * len(messages)
    assert f"The body did not arrive within 0.02 s; {came} bytes did. Send it faster." == raised.value.message


async def test_a_body_that_announces_too_much_is_413_unread() -> None:
    """What is too large by its own word is not received at all."""
    with pytest.raises(BodyError) as raised:
        await read_body({b"content-length": b"5000000"}, receiving())

    assert 413 == raised.value.status
    assert (
        "The body has 5000000 bytes or more; at most 4194304 are taken. Send a shorter prompt." == raised.value.message
    )


async def test_a_body_that_grows_too_large_is_413() -> None:
    """A chunked body has no length to announce; it is counted."""
    part = {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    with pytest.raises(BodyError) as raised:
        await read_body({}, receiving(*[part] * 5))

    assert 413 == raised.value.status
