"""The only source of time: the wall clock, or a virtual one that a test or a simulation moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

__all__ = ("Clock", "VirtualClock", "WallClock", "now_ns")

# Traces use this one directly: nanoseconds, monotonic, equal in every thread of the process.
# (perf_counter, not monotonic: on Windows the latter ticks only every 15 ms.)
now_ns = time.perf_counter_ns


class Clock(Protocol):
    """What runtime and engine ask of time, in seconds."""

    def now(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return once `seconds` of this clock have passed."""


class WallClock:
    """Real time, run `speedup_ratio` times as fast (Dynamo's mocker has the same knob)."""

    def __init__(self, speedup_ratio: float = 1.0) -> None:
        if speedup_ratio <= 0:
            raise ValueError(f"speedup_ratio={speedup_ratio} must be above 0; 1.0 is real time.")
        self.speedup_ratio = speedup_ratio

    def now(self) -> float:
        return time.perf_counter() * self.speedup_ratio

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speedup_ratio)


class VirtualClock:
    """Time that stands still until `advance()`; sleepers wake in the order of their deadlines.

    Lives on one event loop, like every object that is awaited; `now()` and `advance()` may also be
    used without any loop.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:  # no time has to pass, so nobody has to advance it
            await asyncio.sleep(0)
            return
        waking = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waking))
        await waking

    def advance(self, seconds: float) -> None:
        """Move time forward and wake every sleeper whose deadline has come."""
        if seconds < 0:
            raise ValueError(f"advance({seconds}): time only moves forward.")
        self.reach(self._now + seconds)

    def reach(self, now: float) -> None:
        """Move time forward to a point that others set, as `advance` does; one that is past changes nothing."""
        self._now = max(self._now, now)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waking = heapq.heappop(self._sleepers)
            if not waking.done():
                waking.set_result(None)
