"""Items on the wire: any text survives an event, and any value has a text or an error of its own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynlab.protocols import Annotated, GeneralResponse
from dynlab.serving.frames import error_frame, event_frame, item_text, raw_chunk, read_event

TEXTS = st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\r\n :d")))


def parse(frames: bytes) -> list[tuple[str, str]]:
    """Read events as a browser does: lines end in CRLF, CR or LF; an empty line ends an event."""
    events, lines = [], []
    for line in re.split(r"\r\n|\r|\n", frames.decode()):
        if line:
            lines.append(line)
        elif lines:
            events.append(read_event(lines))
            lines = []
    assert [] == lines, "the last event is whole"
    return events


@given(TEXTS)
@example("")
@example("\n")
@example("\r\n\r")
@example(" leading space, data: and event: error")
@example("data: x\n\ndata: y")
@example("\u2028\x85\x0b\x0c\x1c")
def test_any_text_survives_an_event(text: str) -> None:
    """One item is one event whatever is in it; only the kind of its line ends is lost."""
    assert [("message", re.sub(r"\r\n|\r", "\n", text))] == parse(event_frame(text))


@given(st.lists(TEXTS, max_size=5))
def test_items_stay_apart(texts: list[str]) -> None:
    """Events that follow each other are as many as the items."""
    assert len(texts) == len(parse(b"".join(map(event_frame, texts))))


@given(TEXTS)
def test_a_raw_chunk_is_the_text_itself(text: str) -> None:
    """Without events nothing is added."""
    assert text == raw_chunk(text).decode()


def test_a_lone_surrogate_breaks_no_answer() -> None:
    """Text that UTF-8 cannot say is sent with a question mark."""
    assert (b"data: a?\n\n", b"a?") == (event_frame("a\ud800"), raw_chunk("a\ud800"))


@given(st.text(), st.text())
def test_an_error_event_says_type_and_message(kind: str, message: str) -> None:
    """Its data is one line of JSON whatever the message holds."""
    ((name, data),) = parse(error_frame(kind, message))

    assert ("error", {"type": kind, "detail": message}) == (name, json.loads(data))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: a"], ("message", "a")),
        (["data:a"], ("message", "a")),
        (["data:  a"], ("message", " a")),
        (["data: a", "data: b"], ("message", "a\nb")),
        (["event: error", "data: {}"], ("error", "{}")),
        ([": a comment", "id: 7", "data: a"], ("message", "a")),
        ([": a comment"], ("message", "")),
    ],
)
def test_events_are_read_as_the_standard_says(lines: list[str], expected: tuple[str, str]) -> None:
    """One space after the colon belongs to the frame, data lines are joined, other fields are passed over."""
    assert expected == read_event(lines)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ({"a": 1, "b": [None, True]}, '{"a": 1, "b": [null, true]}'),
        ([1, "é"], '[1, "é"]'),
        (3, "3"),
        (1.5, "1.5"),
        (None, "null"),
        (True, "true"),
        (b"bytes \xc3\xa9", "bytes é"),
        (b"\xff", "\ufffd"),
        (GeneralResponse(worker_output="w", request_id="r"), '{"worker_output":"w","request_id":"r"}'),
        (Annotated("inner"), "inner"),
    ],
)
def test_any_value_has_a_text(item: Any, text: str) -> None:
    """Text is sent as it is, models and other values as JSON, what a client yields by its data."""
    assert text == item_text(item)


def test_what_json_cannot_say_is_a_type_error() -> None:
    """The error names the type."""
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        item_text(object())
