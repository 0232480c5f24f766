"""What the instances log, kept in a ring and never printed into whatever cell happens to run."""

from __future__ import annotations

import logging
import threading
from collections import deque

from dynlab.sdk.context import dynamo_context

__all__ = ("LogBuffer",)

MAX_LINES = 2000
_FORMAT = logging.Formatter("%(asctime)s %(levelname)-7s %(dynlab_worker)s: %(message)s", "%H:%M:%S")


class LogBuffer(logging.Handler):
    """The newest lines of one deployment: of the `dynlab` loggers, and what uvicorn and asyncio complain of.

    A service logs with `logging.getLogger("dynlab.anything").info(...)`.
    """

    def __init__(self, deployment: object) -> None:
        super().__init__()
        self._deployment = deployment
        self._count = 0
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._reading = threading.Lock()
        self.setFormatter(_FORMAT)

    def attach(self) -> None:
        """Begin to listen. The `dynlab` logger goes nowhere else, or its lines would end up in cells."""
        own = logging.getLogger("dynlab")
        own.setLevel(logging.INFO)
        own.propagate = False
        for logger in (own, logging.getLogger("uvicorn.error")):
            logger.addHandler(self)

    def detach(self) -> None:
        for name in ("dynlab", "uvicorn.error"):
            logging.getLogger(name).removeHandler(self)

    def filter(self, record: logging.LogRecord) -> bool:
        return dynamo_context.get("deployment", self._deployment) is self._deployment

    def emit(self, record: logging.LogRecord) -> None:
        record.dynlab_worker = dynamo_context.get("hostname", "deployment")
        line = self.format(record)
        with self._reading:
            self._lines.append(line)
            self._count += 1

    def since(self, seen: int) -> tuple[list[str], int]:
        """Return the lines after the first `seen`, as far as they are kept, and how many there were in all."""
        with self._reading:
            new = self._count - seen
            return list(self._lines)[-new:] if new > 0 else [], self._count

    def lines(self, last: int | None = None) -> list[str]:
        """Return the newest lines, oldest first."""
        with self._reading:
            lines = list(self._lines)
        return lines if last is None else lines[-last:] if last > 0 else []
