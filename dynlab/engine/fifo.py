"""The worker of queueing theory: so many at a time, the rest wait in the order in which they came."""

from __future__ import annotations

import heapq
import math
from collections import deque

from dynlab.engine.base import EngineEvent, Key, Work, checked_speed, event_of
from dynlab.errors import ConfigError

__all__ = ("FifoEngine",)


class FifoEngine:
    """Serves `slots` requests at a time, each for `service_s / speed` seconds. Tells "started" and "finished".

    Of a million requests over a thousand workers each comes by here twice, so it is written for speed.
    """

    __slots__ = ("_count", "_queue", "_serving", "_told", "next_at", "slots", "speed")

    def __init__(self, slots: int = 1, speed: float = 1.0) -> None:
        if slots < 1:
            raise ConfigError(f"slots={slots} must be 1 or more: so many requests are served at a time.")
        self.slots = slots
        self.speed = checked_speed(speed)
        self.next_at = math.inf
        self._queue: deque[Work] = deque()
        self._serving: list[tuple[float, int, Key]] = []  # a heap: until when, the how many-th, who
        self._count = 0
        self._told: list[EngineEvent] = []  # what `advance` has yet to say

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def running(self) -> int:
        return len(self._serving)

    def add(self, work: Work, now: float) -> None:
        if self.next_at <= now:
            self._run(now)
        if len(self._serving) < self.slots:
            self._start(work, now)
            if now < self.next_at:
                self.next_at = now
        else:
            self._queue.append(work)

    def advance(self, now: float) -> list[EngineEvent]:
        serving = self._serving
        if serving and serving[0][0] <= now:
            self._run(now)
        told, self._told = self._told, []
        self.next_at = serving[0][0] if serving else math.inf
        return told

    def cancel(self, key: Key, now: float) -> bool:
        self._run(now)
        for work in self._queue:
            if work.key == key:
                self._queue.remove(work)
                break
        else:
            left = [entry for entry in self._serving if entry[2] != key]
            if len(left) == len(self._serving):
                return False
            heapq.heapify(left)
            self._serving = left
            if self._queue:
                self._start(self._queue.popleft(), now)
        self._told = [event for event in self._told if event.key != key]
        self._reckon()
        return True

    def set_speed(self, now: float, speed: float) -> None:
        checked_speed(speed)
        self._run(now)
        slower = self.speed / speed
        self.speed = speed
        self._serving = [(now + (until - now) * slower, count, key) for until, count, key in self._serving]
        heapq.heapify(self._serving)
        self._reckon()

    def drop(self) -> list[Key]:
        keys = [key for _, _, key in sorted(self._serving, key=lambda entry: entry[1])]
        keys += [work.key for work in self._queue]
        self._serving, self._told = [], []
        self._queue.clear()
        self.next_at = math.inf
        return keys

    def _run(self, now: float) -> None:
        """Let everything happen that is due by now."""
        serving, queue, told = self._serving, self._queue, self._told
        while serving and serving[0][0] <= now:
            at, _, key = serving[0]
            told.append(event_of(("finished", key, at, 0)))
            if queue:
                work = queue.popleft()
                told.append(event_of(("started", work.key, at, 0)))
                self._count += 1
                heapq.heapreplace(serving, (at + work.service_s / self.speed, self._count, work.key))
            else:
                heapq.heappop(serving)

    def _start(self, work: Work, at: float) -> None:
        self._told.append(event_of(("started", work.key, at, 0)))
        self._count += 1
        heapq.heappush(self._serving, (at + work.service_s / self.speed, self._count, work.key))

    def _reckon(self) -> None:
        """Set `next_at` anew, after more than time has passed."""
        first = self._told[0].at if self._told else math.inf
        self.next_at = min(first, self._serving[0][0] if self._serving else math.inf)
