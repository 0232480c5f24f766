"""Runs what a reader wrote for a limited time: an endless loop ends in a sentence, not in a stuck notebook."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dynlab.lessons.exercise import TooLongError

__all__ = ("within",)

T = TypeVar("T")
GRACE_S = 1.0


class _Work(Generic[T]):
    """One call in a thread of its own, and what came of it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self.result: T | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="dynlab-check", daemon=True)

    def _run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        """Raise `TooLongError` where the thread is now; a thread that waits inside C sees it when it returns."""
        ident = self.thread.ident
        assert ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(TooLongError))
        self.thread.join(GRACE_S)


def within(limit_s: float, function: Callable[[], T]) -> T:
    """Return what a function returns, or raise what it raises.

    Raises:
        TooLongError: if it has not returned after `limit_s` seconds.
    """
    work = _Work(function)
    work.thread.start()
    try:
        work.thread.join(limit_s)
    finally:  # also when the reader interrupts the cell
        if work.thread.is_alive():
            work.end()
    if work.error is not None:
        raise work.error
    if work.result is None:
        raise TooLongError
    return work.result
