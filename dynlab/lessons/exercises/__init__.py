"""The exercises, one file a notebook, by number."""

from dynlab.lessons.exercise import Exercise
from dynlab.lessons.exercises import ex00, ex01, ex02, ex03, ex07

__all__ = ("EXERCISES",)

EXERCISES: dict[str, Exercise] = {
    exercise.number: exercise for module in (ex00, ex01, ex02, ex03, ex07) for exercise in module.EXERCISES
}
