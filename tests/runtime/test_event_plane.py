"""Whatever a publisher tells arrives at every reader, in order and whole, however late or slow the reader is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from dynlab.runtime import event_plane
from dynlab.runtime.event_plane import EventPlane, Publisher, Subscription
from dynlab.runtime.loops import LoopThread
from tests.runtime.cluster import ENDPOINT, PATIENCE_S, settled


class Voice:
    """A publisher in a thread of its own, which counts; its snapshot is all that it has said."""

    def __init__(self, plane: EventPlane, instance_id: int) -> None:
        self.said: list[Any] = []
        self.thread = LoopThread(f"dynlab-voice-{instance_id}")
        self.thread.start()

        async def begin() -> Publisher:
            return plane.publisher(ENDPOINT, instance_id, lambda: list(self.said))

        self.publisher = self.thread.submit(begin()).result(PATIENCE_S)

    def say(self, *events: Any) -> None:
        async def publish() -> None:
            for event in events:
                self.said.append(event)
                self.publisher.publish(event)

        self.thread.submit(publish()).result(PATIENCE_S)

    def close(self) -> None:
        self.thread.stop()
        assert self.thread.join(PATIENCE_S)


@pytest.fixture
def plane() -> EventPlane:
    return EventPlane()


@pytest.fixture
def voice(plane: EventPlane) -> Iterator[Voice]:
    voice = Voice(plane, 7001)
    yield voice
    voice.close()


class Reader:
    """What one subscription has heard: `{instance id: [events]}`; forgotten when it is to be told anew."""

    def __init__(self, plane: EventPlane) -> None:
        self.heard: dict[int, list[Any]] = {}
        self.forgotten = 0
        self._came = asyncio.Event()
        self.subscription: Subscription = plane.subscribe(ENDPOINT, self._hear)

    def _hear(self, instance_id: int, event: Any) -> None:
        if event is None:
            self.forgotten += 1
            self.heard.pop(instance_id, None)
        else:
            self.heard.setdefault(instance_id, []).append(event)
        self._came.set()

    async def until(self, expected: dict[int, list[Any]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.heard != expected:
                self._came.clear()
                await self._came.wait()


async def test_a_reader_hears_what_is_said(plane: EventPlane, voice: Voice) -> None:
    """In the order in which it was said."""
    reader = Reader(plane)

    voice.say(*range(100))

    await reader.until({7001: list(range(100))})


async def test_who_comes_late_is_told_what_there_is_first(plane: EventPlane, voice: Voice) -> None:
    """Then what is new, and nothing twice."""
    voice.say("a", "b")
    reader = Reader(plane)
    await reader.until({7001: ["a", "b"]})

    voice.say("c")

    await reader.until({7001: ["a", "b", "c"]})


async def test_a_publisher_that_comes_late_is_heard(plane: EventPlane) -> None:
    """A reader hears every instance of its endpoint, also one that joins after it."""
    reader = Reader(plane)
    voice = Voice(plane, 7002)

    voice.say("here")

    await reader.until({7002: ["here"]})
    voice.close()


async def test_a_publisher_knows_whether_anyone_listens(plane: EventPlane, voice: Voice) -> None:
    """So that a cache nobody asks for costs nothing."""
    assert not voice.publisher.is_heard
    reader = Reader(plane)
    voice.say("x")
    await reader.until({7001: ["x"]})

    assert voice.publisher.is_heard
    reader.subscription.close()
    voice.say("y")

    assert not voice.publisher.is_heard
    assert {7001: ["x"]} == reader.heard


async def test_who_is_too_far_behind_is_told_anew(
    plane: EventPlane, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most `PENDING` events wait for a reader; one that lost some forgets, and hears all of it again."""
    monkeypatch.setattr(event_plane, "PENDING", 8)
    reader = Reader(plane)
    voice.say("first")
    await reader.until({7001: ["first"]})

    voice.say(*range(20))  # while this loop, the reader's, is busy waiting

    assert reader.subscription._pending <= 8
    voice.said = ["all"]
    await reader.until({7001: ["all"]})
    assert 1 == reader.forgotten


async def test_who_has_left_is_not_announced_to_newcomers(plane: EventPlane, voice: Voice) -> None:
    """`leave` takes an instance out of the plane."""
    voice.say("x")
    plane.leave(7001)
    reader = Reader(plane)
    await settled()

    assert {} == reader.heard
