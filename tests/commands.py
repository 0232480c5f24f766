"""The `dynlab` command as a program of its own: started, watched, and stopped by a signal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dynlab

ROOT = Path(dynlab.__file__).parents[1]
WAIT_S = 60.0
# Whoever runs the tests in the background has SIGINT ignored, and what they start inherits that.
_START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "dynlab", *sys.argv[1:]])
"""


class Command:
    """A `dynlab` command that runs; what it has printed is in `output`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str) -> str:
        """Return the first match in the output, waiting for it while the command runs."""
        self.wait_until(lambda: re.search(pattern, self.output) is not None, pattern)
        found = re.search(pattern, self.output)
        assert found is not None
        return found.group(0)

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not happened():
            ended = self.process.poll() is not None
            assert happened() or (not ended and time.monotonic() < deadline), f"no {what!r} in:\n{self.output}"
            time.sleep(0.02)

    def stop(self, *signals: int) -> int:
        """Send signals, and return the exit status."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[Command]:
    """Run a command that goes on; kill it in the end, should it still run."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(cwd / "jupyter")}
    environment |= {"JUPYTER_CONFIG_DIR": str(cwd / "jupyter"), "COLUMNS": "120"}
    log = cwd / "output.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Command(process, log)
    finally:
        process.kill()
        process.wait()
