"""The exercises, one file a notebook, by number."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from dynlab.lessons.exercise import Exercise

__all__ = ("EXERCISES", "LESSONS")

LESSONS = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09")
"""The notebooks that have exercises."""


class _Exercises(Mapping[str, Exercise]):
    """A notebook's are imported when one of them is asked for: some need NumPy and the simulator."""

    def __getitem__(self, number: str) -> Exercise:
        for exercise in _of(number[:2]) if number[:2] in LESSONS else ():
            if exercise.number == number:
                return exercise
        raise KeyError(number)

    def __iter__(self) -> Iterator[str]:
        return (exercise.number for lesson in LESSONS for exercise in _of(lesson))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _of(lesson: str) -> tuple[Exercise, ...]:
    exercises: tuple[Exercise, ...] = importlib.import_module(f"dynlab.lessons.exercises.ex{lesson}").EXERCISES
    return exercises


EXERCISES: Mapping[str, Exercise] = _Exercises()
