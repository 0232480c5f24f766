"""Holds the numbers that a reader's function returned against the right ones, and against those of a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

from dynlab.lessons.exercise import Finding, shown, wrong

__all__ = ("compare", "is_number", "same")

UNITS = (1e-3, 1e3, 1e-6, 1e6)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(got: Sequence[Any], expected: Sequence[float]) -> bool:
    """Tell whether these are the same numbers, but for what a computer rounds."""
    return len(got) == len(expected) and all(
        is_number(a) and isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in zip(got, expected, strict=True)
    )


def compare(
    got: Sequence[float], right: Sequence[float], foreseen: Mapping[str, Sequence[Sequence[float]]], given: str
) -> None:
    """Return if the numbers are right; else end the check with the foreseen mistake, or say how near they are.

    `foreseen` has for each mistake the results that it may lead to; `given` says in words what the function was given.
    """
    if same(got, right):
        return
    text = f"{got[0]:g}" if len(got) == 1 else shown(list(got))
    for mistake, results in foreseen.items():
        if any(same(got, result) for result in results):
            wrong(mistake, got=text, first=got[0], last=got[-1])
    if any(same(got, [value * factor for value in right]) for factor in UNITS):
        raise Finding("close", f"Right in another unit: {text}. What you are given is in milliseconds; stay with it.")
    if same(got, [-value for value in right]) or same(got, right[::-1]):
        raise Finding("close", f"Right but for sign or order: {text}. Later minus sooner, and the first one first.")
    if len(got) == len(right) and all(abs(a - b) <= 1 for a, b in zip(got, right, strict=True)):
        raise Finding("close", f"Right to a millisecond: {text}. Leave the rounding out.")
    raise Finding("mistake", f"{given} you return {text}.")
