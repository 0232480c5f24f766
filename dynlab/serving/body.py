"""The JSON body of an `@api` method: its keys are the method's arguments, checked once by a compiled model."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NotRequired

from pydantic import BaseModel, TypeAdapter, ValidationError, with_config
from starlette.types import Message, Receive
from typing_extensions import TypedDict

from dynlab.errors import did_you_mean, listed
from dynlab.sdk.endpoint import arguments_of
from dynlab.serving.stepping import Begun

__all__ = ("Body", "BodyError", "keys_of", "read_body")

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request body; a larger one is answered 413."""
BODY_TIMEOUT_S = 10.0
"""How long a client may take to send its body; a slower one is answered 408."""


class BodyError(Exception):
    """A body that the method cannot be called with: the HTTP status and what to tell the client."""

    def __init__(self, status: int, detail: Any, message: str) -> None:
        super().__init__(message)
        self.status, self.detail, self.message = status, detail, message


class Body:
    """Reads bodies for one method.

    Arguments without annotation take any value; those with a default may be left out. A single argument that
    is a pydantic model is the whole body, as in Dynamo 0.3.
    """

    def __init__(self, path: str, method: Callable[..., Any]) -> None:
        self.path = path
        arguments = arguments_of(method)
        self.keys = [argument.name for argument in arguments]
        self._whole = ""
        if len(arguments) == 1 and _is_model(arguments[0].annotation):
            self._whole = arguments[0].name
            self.keys = list(arguments[0].annotation.model_fields)
            self._adapter: TypeAdapter[Any] = TypeAdapter(arguments[0].annotation)
        else:
            # A TypedDict, not a model: any name may be a key, `json` and `copy` too, and out comes a plain dict.
            fields = {argument.name: _field(argument) for argument in arguments}
            shape = TypedDict(f"{method.__name__}_body", fields)  # type: ignore[misc]
            self._adapter = TypeAdapter(with_config(extra="forbid")(shape))
        self._validate = self._adapter.validator.validate_json

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema, for the OpenAPI page: what it refers to is found from the page's root."""
        here = f"#/paths/{self.path.replace('~', '~0').replace('/', '~1')}/post/requestBody/content/application~1json"
        return self._adapter.json_schema(ref_template=here + "/schema/$defs/{model}")

    def read(self, body: bytes) -> dict[str, Any]:
        """Return the method's arguments.

        Raises:
            BodyError: with 400 if the body is no JSON, 422 if its keys or values are not the method's.
        """
        try:
            value = self._validate(body or b"{}")  # whoever sends nothing is told which keys are missing
        except ValidationError as exc:
            raise self._explain(exc) from None
        return {self._whole: value} if self._whole else value

    def _explain(self, error: ValidationError) -> BodyError:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            return BodyError(400, errors[0]["msg"], f"The body is no JSON: {errors[0]['msg']}.")
        detail = [{**e, "loc": ["body", *e["loc"]]} for e in errors]
        missing = [_key(e) for e in errors if e["type"] == "missing"]
        unknown = [_key(e) for e in errors if e["type"] == "extra_forbidden"]
        other = [f"{_key(e)}: {e['msg']}" for e in errors if e["type"] not in ("missing", "extra_forbidden")]
        parts = [
            f"missing: {listed(missing)}" if missing else "",
            f"unknown: {listed(unknown)}" if unknown else "",
            *other,
        ]
        hints = "".join(did_you_mean(key, missing or self.keys) for key in unknown)
        return BodyError(
            422,
            detail,
            f"POST {self.path} takes the keys {listed(self.keys)}; {'; '.join(filter(None, parts))}.{hints}",
        )


def keys_of(method: Callable[..., Any]) -> list[str]:
    """Return the keys that the body of a method has."""
    return Body("", method).keys


def _field(argument: inspect.Parameter) -> Any:
    kind = Any if argument.annotation is argument.empty else argument.annotation
    return kind if argument.default is argument.empty else NotRequired[kind]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _key(error: Any) -> str:
    return ".".join(map(str, error["loc"])) or "the body"


async def read_body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """Receive a whole request body.

    Raises:
        BodyError: with 413 if it is too large, 408 if it comes too slowly.
        ConnectionError: if the client leaves in the middle of it.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > BODY_LIMIT:
        raise _too_large(int(announced))
    parts = bytearray()
    receiving = Begun(receive())
    try:
        # Most bodies come with their headers, and need no clock.
        if receiving.is_done and _add(receiving.value, parts):
            return bytes(parts)
        async with asyncio.timeout(BODY_TIMEOUT_S):
            if not receiving.is_done and _add(await receiving, parts):
                return bytes(parts)
            while not _add(await receive(), parts):
                pass
            return bytes(parts)
    except TimeoutError:
        text = f"The body did not arrive within {BODY_TIMEOUT_S:g} s; {len(parts)} bytes did. Send it faster."
        raise BodyError(408, text, text) from None


def _add(message: Message, body: bytearray) -> bool:
    """Add what came; True at the end of the body."""
    if message["type"] == "http.disconnect":
        raise ConnectionError
    body += message["body"]
    if len(body) > BODY_LIMIT:
        raise _too_large(len(body))
    return not message.get("more_body", False)


def _too_large(size: int) -> BodyError:
    text = f"The body has {size} bytes or more; at most {BODY_LIMIT} are taken. Send a shorter prompt."
    return BodyError(413, text, text)
