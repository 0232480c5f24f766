"""Event plane: what workers tell everybody who once asked for it (Dynamo: events over NATS or ZMQ).

A publisher lives on its worker's loop, a subscription on its reader's, and between them each event crosses once.
Whoever comes late is told first what there is, then what changes; whoever falls too far behind is told anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeAlias

from dynlab.protocols import EndpointId
from dynlab.runtime.loops import Mailbox

__all__ = ("PENDING", "EventPlane", "Publisher", "Subscription")

PENDING = 10_000
"""Events that may wait for one reader; when more come, they are dropped and the reader is told everything anew."""

Deliver: TypeAlias = Callable[[int, Any], None]
"""Called on the reader's loop with the instance id and the event; None for an event: forget what it told."""


class Publisher:
    """One instance's voice. Lives on its loop; `snapshot` gives the events that lead to what there is now."""

    def __init__(self, instance_id: int, home: Mailbox, snapshot: Callable[[], Iterable[Any]]) -> None:
        self.instance_id = instance_id
        self.home = home
        self._snapshot = snapshot
        self._readers: list[Subscription] = []

    @property
    def is_heard(self) -> bool:
        """True once somebody listens."""
        return bool(self._readers)

    def publish(self, event: Any) -> None:
        """Tell everybody who listens."""
        for reader in tuple(self._readers):
            if not reader.offer(self, event):
                self._readers.remove(reader)

    def snapshot(self) -> Future[list[Any]]:
        """Ask for what there is, from any thread."""
        answer: Future[list[Any]] = Future()
        self.home.post(lambda: answer.set_result(list(self._snapshot())))
        return answer

    def welcome(self, reader: Subscription) -> None:
        """Tell a new reader what there is. Runs on the publisher's loop, so nothing changes meanwhile."""
        if reader not in self._readers and all(reader.offer(self, event) for event in self._snapshot()):
            self._readers.append(reader)


class Subscription:
    """One reader. Lives on the loop that subscribed."""

    def __init__(self, home: Mailbox, deliver: Deliver) -> None:
        self.home = home
        self._deliver = deliver
        self._lock = threading.Lock()
        self._pending = 0
        self._lost: set[Publisher] = set()
        self._closed = False

    def offer(self, publisher: Publisher, event: Any) -> bool:
        """Take an event from a publisher's thread; False if this reader is gone, or too far behind."""
        with self._lock:
            if self._closed:
                return False
            if self._pending >= PENDING:
                self._lost.add(publisher)
                return False
            self._pending += 1
        return self.home.post(self._arrive, publisher, event)

    def close(self) -> None:
        """Listen no more."""
        with self._lock:
            self._closed = True

    def _arrive(self, publisher: Publisher, event: Any) -> None:
        with self._lock:
            self._pending -= 1
            lost = list(self._lost) if not self._pending else []
            self._lost.difference_update(lost)
            if self._closed:
                return
        self._deliver(publisher.instance_id, event)
        for behind in lost:
            self._deliver(behind.instance_id, None)
            behind.home.post(behind.welcome, self)


class EventPlane:
    """Who tells what, and who listens, by endpoint. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._publishers: dict[EndpointId, list[Publisher]] = {}
        self._readers: dict[EndpointId, list[Subscription]] = {}

    def publisher(self, endpoint: EndpointId, instance_id: int, snapshot: Callable[[], Iterable[Any]]) -> Publisher:
        """Let an instance publish, from the running loop on."""
        publisher = Publisher(instance_id, Mailbox.here(), snapshot)
        with self._lock:
            self._publishers.setdefault(endpoint, []).append(publisher)
            readers = list(self._readers.get(endpoint, ()))
        for reader in readers:
            publisher.welcome(reader)
        return publisher

    def subscribe(self, endpoint: EndpointId, deliver: Deliver) -> Subscription:
        """Listen to all instances of an endpoint, those that come later too, on the running loop."""
        reader = Subscription(Mailbox.here(), deliver)
        with self._lock:
            self._readers.setdefault(endpoint, []).append(reader)
            publishers = list(self._publishers.get(endpoint, ()))
        for publisher in publishers:
            publisher.home.post(publisher.welcome, reader)
        return reader

    def snapshots(self, timeout: float) -> dict[int, list[Any]]:
        """Ask every publisher what there is now, from a thread that runs none of them; who is too busy is left out."""
        with self._lock:
            publishers = [publisher for each in self._publishers.values() for publisher in each]
        asked = {publisher.instance_id: publisher.snapshot() for publisher in publishers}
        done, _ = wait(asked.values(), timeout)
        return {instance_id: future.result() for instance_id, future in asked.items() if future in done}

    def leave(self, instance_id: int) -> None:
        """Forget what an instance published; its readers learn from discovery that it is gone."""
        with self._lock:
            for publishers in self._publishers.values():
                publishers[:] = [p for p in publishers if p.instance_id != instance_id]
