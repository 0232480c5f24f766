"""Streams of random numbers, one for each thing that is drawn, and checks of what a reader asks for."""

from __future__ import annotations

from enum import IntEnum
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dynlab.errors import ConfigError

__all__ = (
    "MOST_WHOLE",
    "Floats",
    "Ints",
    "Stream",
    "fraction",
    "poisson_arrivals",
    "positive",
    "restarting_sum",
    "rng_of",
    "whole",
)

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

_SMALLEST, _LARGEST = 1e-9, 1e9
_MOST_REQUESTS = 100_000_000
MOST_WHOLE = 2**31 - 1


class Stream(IntEnum):
    """What is drawn. The number seeds its stream: with another one, all that lessons say of a seed is wrong."""

    ARRIVALS = 1
    SERVICE = 2
    FAMILIES = 3
    LENGTHS = 4
    BURSTS = 5


def rng_of(seed: int, stream: Stream) -> np.random.Generator:
    """Return a stream of random numbers that depends on nothing but the seed and what is drawn.

    Raises:
        ConfigError: if `seed` is no whole number of 0 or more.
    """
    if not _is_whole(seed, 0, None):
        raise ConfigError(f"seed={seed!r} must be a whole number, 0 or more.")
    return np.random.default_rng([int(seed), int(stream)])


def poisson_arrivals(n: int, rate: float, seed: int) -> Floats:
    """Return when each of n requests comes, in seconds, shape (n,): independent of each other, `rate` a second.

    Raises:
        ConfigError: for a count, rate or seed that is none.
    """
    if not _is_whole(n, 1, _MOST_REQUESTS):
        raise ConfigError(f"n={n!r} must be a whole number of requests, from 1 to {_MOST_REQUESTS:,}.")
    positive(rate=rate)
    # Drawn at rate 1 and stretched, so that another rate has the same arrivals.
    arrivals: Floats = np.cumsum(rng_of(seed, Stream.ARRIVALS).exponential(1.0, n)) / rate
    return arrivals


def restarting_sum(values: Ints, starts: Ints) -> Ints:
    """Return running sums that begin anew at each of the indices in `starts`, the first of which is 0."""
    sums = np.cumsum(values)
    before = np.concatenate([[0], sums])[starts]
    return np.asarray(sums - np.repeat(before, np.diff(np.append(starts, len(values)))), np.int64)


def positive(*, least: float | None = None, **values: float) -> None:
    """Check arguments by name: above 0, or `least` or more; and none that is too large or small to calculate with.

    Raises:
        ConfigError: if one is no such number.
    """
    for name, value in values.items():
        if not _is_number(value) or not (_SMALLEST if least is None else least) <= value <= _LARGEST:
            allowed = f"above 0 ({_SMALLEST:g} to {_LARGEST:g})" if least is None else f"from {least:g} to {_LARGEST:g}"
            raise ConfigError(f"{name}={value!r} must be a number {allowed}.")


def fraction(**values: float) -> None:
    """Check arguments by name: parts of a whole.

    Raises:
        ConfigError: if one is not above 0 and below 1.
    """
    for name, value in values.items():
        if not _is_number(value) or not 0 < value < 1:
            raise ConfigError(f"{name}={value!r} must be a share: above 0 and below 1.")


def whole(*, least: int = 1, **values: int) -> None:
    """Check arguments by name.

    Raises:
        ConfigError: if one is no whole number, or below `least`.
    """
    for name, value in values.items():
        if not _is_whole(value, least, MOST_WHOLE):
            raise ConfigError(f"{name}={value!r} must be a whole number from {least} to {MOST_WHOLE:,}.")


def _is_number(value: object) -> bool:
    return type(value) is not bool and isinstance(value, Real)


def _is_whole(value: object, least: int, most: int | None) -> bool:
    # Numbers out of NumPy arrays are as good as Python's own; True is none of them.
    if type(value) is bool or not isinstance(value, Integral):
        return False
    return least <= int(value) and (most is None or int(value) <= most)
