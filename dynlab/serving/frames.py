"""How the items of an answer look on the wire: server-sent events, or the bare text."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from dynlab.protocols import Annotated

__all__ = ("FRAMED", "error_frame", "event_frame", "item_text", "raw_chunk", "read_event")

FRAMED = "text/event-stream; framing=data"
"""What dynlab's own client accepts: each item in a `data:` frame, even from an API that never framed in 2025."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def item_text(item: Any) -> str:
    """Return an item as the text that is sent: a str as it is, a model or any other value as JSON.

    Raises:
        TypeError: if JSON has no form for the value.
    """
    if type(item) is str:
        return item
    if isinstance(item, Annotated):
        return item_text(item.data())
    if isinstance(item, BaseModel):
        return item.model_dump_json()
    if isinstance(item, bytes):
        return item.decode("utf-8", "replace")
    return json.dumps(item, ensure_ascii=False)


def raw_chunk(text: str) -> bytes:
    """The text itself, as Dynamo 0.1 sent it to every client."""
    return text.encode("utf-8", "replace")


def event_frame(text: str) -> bytes:
    """One server-sent event; a text of several lines takes several `data:` lines."""
    if "\n" in text or "\r" in text:
        text = _LINE_END.sub("\ndata: ", text)
    return f"data: {text}\n\n".encode("utf-8", "replace")


def error_frame(kind: str, message: str) -> bytes:
    """The event that ends a stream which broke off after its first item."""
    return f"event: error\ndata: {json.dumps({'type': kind, 'detail': message})}\n\n".encode()


def read_event(lines: list[str]) -> tuple[str, str]:
    """Read the lines of one event: its name (`message` unless it has one) and its data."""
    name = next((line[6:].strip() for line in lines if line.startswith("event:")), "message")
    data = [line[5:].removeprefix(" ") for line in lines if line.startswith("data:")]
    return name, "\n".join(data)
