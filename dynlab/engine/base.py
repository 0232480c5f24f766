"""What goes into an engine and what comes out of it. Times are seconds of whatever clock the caller has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol, TypeAlias

from dynlab.errors import ConfigError

__all__ = ("Engine", "EngineEvent", "Key", "Kind", "Work", "checked_speed", "event_of")

Key: TypeAlias = int | str
Kind: TypeAlias = Literal["started", "first_token", "token", "finished", "refused"]


class Work(NamedTuple):
    """One request, as an engine sees it. `key` tells it apart; what an engine does not ask for may stay as it is."""

    key: Key
    service_s: float = 0.0
    """FifoEngine: how long it takes at speed 1."""
    isl: int = 0
    """MockEngine: tokens of the prompt."""
    osl: int = 1
    """MockEngine: tokens of the answer, at least one."""
    sequence: Sequence[int] = ()
    """MockEngine: sequence hashes of the prompt's full blocks."""
    blocks: Sequence[int] = ()
    """MockEngine: these blocks' own hashes, told with `Stored` events; the sequence hashes if there are none."""


class EngineEvent(NamedTuple):
    """Something that happened to a request. `cached` goes with "started": prompt blocks that were in the cache."""

    kind: Kind
    key: Key
    at: float
    cached: int = 0


# What `EngineEvent(...)` does, in a third of the time: there are two events for each of a million requests.
event_of: Callable[[tuple[Kind, Key, float, int]], EngineEvent] = partial(tuple.__new__, EngineEvent)


class Engine(Protocol):
    """Serves requests in an order and at a pace of its own. Each `now` is at or after the one before."""

    speed: float
    """Twice as fast at 2.0; read it, and change it with `set_speed`."""
    next_at: float
    """When `advance` will next have something to say; infinity if nothing is to come."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""

    @property
    def running(self) -> int:
        """Requests that are served now."""

    def add(self, work: Work, now: float) -> None:
        """Take a request. What that sets off at once is told by the next `advance`."""

    def advance(self, now: float) -> list[EngineEvent]:
        """Let time pass, and tell what has happened since the last call, in the order of time."""

    def cancel(self, key: Key, now: float) -> bool:
        """Hang up: a request leaves with all that it used, and nothing more is said about it. False if it is gone."""

    def set_speed(self, now: float, speed: float) -> None:
        """Go on at another speed, also with what is under way."""

    def drop(self) -> list[Key]:
        """Lose everything, as a worker that dies; return who was there, those that were served first.

        Nothing more is said, also not of what was due: `advance` to the moment of death before. What comes later is
        served as by a new engine. A dead worker tells no events: the router has to forget its blocks by itself.
        """


def checked_speed(speed: float) -> float:
    """Return a speed that time can be divided by.

    Raises:
        ConfigError: unless it is a number above 0.
    """
    if not 0 < speed < math.inf:
        raise ConfigError(f"speed={speed} must be a number above 0; 1.0 is as fast as the work says, 0.5 half that.")
    return speed
