"""The exercises of the notebooks: check an answer, ask for a hint, see a solution."""

from dynlab.lessons.check import check, hint, solution

__all__ = ("check", "hint", "solution")
