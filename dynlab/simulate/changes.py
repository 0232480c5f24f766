"""What happens to workers in the middle of a simulated run. `worker` is its number, from 1; `at` is in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ("Change", "Kill", "Revive", "Slow")


@dataclass(frozen=True, slots=True)
class Kill:
    """The worker vanishes, with all that it was doing."""

    at: float
    worker: int


@dataclass(frozen=True, slots=True)
class Revive:
    """The worker comes back, empty and listed at once, under its old id; in the live graph it would get a new one."""

    at: float
    worker: int


@dataclass(frozen=True, slots=True)
class Slow:
    """The worker goes on at another speed: 0.25 is a quarter of what the work says, 1 as it says."""

    at: float
    worker: int
    speed: float


Change: TypeAlias = Kill | Revive | Slow
