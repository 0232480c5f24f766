"""Keeps what the engine prints out of the notebook: its lines go to `deployment.logs()`.

Rust writes to file descriptor 2, whatever `sys.stderr` is, and a notebook shows both. So the descriptor becomes a
pipe; lines that are the engine's are logged, all others go where they would have gone. Tracebacks of handlers are
written to `sys.stderr` by threads that Python did not start; they are logged too.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sys
import threading
from typing import Any, TextIO

__all__ = ("take_over_stderr",)

log = logging.getLogger("dynlab.ai_dynamo")
_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING}
_SAID = ("time", "level", "file", "line", "target", "message", "span_name", "trace_id", "span_id")


def take_over_stderr() -> None:
    """Begin to take the engine's lines, for as long as the process lives: idle runtimes write, too."""
    sys.stderr.flush()
    reading, writing = os.pipe()
    terminal = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    threading.Thread(target=_pass_on, args=(reading, terminal), name="ai-dynamo-logs", daemon=True).start()
    own = sys.stderr
    with contextlib.suppress(OSError, ValueError):  # a notebook's has no descriptor
        if own.fileno() == 2:  # what Python itself writes need not go through the pipe
            own = os.fdopen(os.dup(terminal), "w", buffering=1, errors="backslashreplace")
    sys.stderr = _Stderr(own)
    atexit.register(_say_no_more, terminal)


def _say_no_more(terminal: int) -> None:
    """Let Python go on to write to the terminal, and the engine, which ends later, to nobody."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
        sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


class _Stderr:
    """`sys.stderr` as it was, except for threads that the engine started."""

    def __init__(self, own: TextIO) -> None:
        self.own = own
        self._said = threading.local()

    def write(self, text: str) -> int:
        if not isinstance(threading.current_thread(), threading._DummyThread):
            return self.own.write(text)
        said = getattr(self._said, "text", "") + text
        *lines, self._said.text = said.split("\n")
        for line in lines:
            log.warning("%s", line)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def _pass_on(reading: int, terminal: int) -> None:
    ours = False
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            said = _engine_line(line)
            if said is not None:
                log.log(*said)
            elif line.strip() or not ours:  # some of the engine's lines end twice
                with contextlib.suppress(OSError):
                    os.write(terminal, line)
            ours = said is not None
    os.close(terminal)


def _engine_line(line: bytes) -> tuple[int, str] | None:
    """Return level and text of a line that the engine wrote."""
    if not line.startswith(b'{"time"'):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if "target" not in said:
        return None
    more = " ".join(f"{name}={value}" for name, value in said.items() if name not in _SAID)
    return _LEVELS.get(said.get("level"), logging.INFO), f"ai-dynamo: {str(said.get('message', '')).strip()} {more}"
