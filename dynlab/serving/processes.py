"""A graph as processes: one for each instance, started callees first and stopped callers first (2025: circus)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dynlab.errors import DeploymentError, listed
from dynlab.sdk.graph import Graph
from dynlab.sdk.service import DynamoService
from dynlab.serving.process import READY, Orders
from dynlab.serving.server import FINISH_S

__all__ = ("Processes",)

Tell = Callable[[str], object]


class _Process:
    """One instance's process, and the thread that reads what it prints."""

    def __init__(self, service: DynamoService, orders: Orders, environment: Mapping[str, str], tell: Tell) -> None:
        self.service = service
        self.name = f"{service.name}-{orders.number}"
        self.ready: dict[str, Any] | None = None
        self.changed = threading.Event()
        self._tell = tell
        self._stopping = False
        command = [sys.executable, "-m", "dynlab", "serve-instance", orders.dump()]
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the launcher, which stops them in order
        )
        self._reading = threading.Thread(target=self._read, name=f"dynlab-reads-{self.name}", daemon=True)
        self._reading.start()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to leave in order."""
        self._stopping = True
        if self.is_alive:
            self.process.send_signal(signal.SIGTERM)

    def end(self, timeout: float) -> None:
        """Wait for it; one that is not done in time is killed."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._tell(f"{self.name} did not finish within {timeout:g} s and is killed.")
            self.process.kill()
            self.process.wait()
        self._reading.join(1.0)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.startswith(READY):
                    self.ready = json.loads(line.removeprefix(READY))
                    self.changed.set()
                else:
                    self._tell(f"[{self.name}] {line.rstrip()}")
        code = self.process.wait()
        self.changed.set()
        if not self._stopping:
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            self._tell(f"{self.name} is gone: {why}. Nothing restarts it.")


class Processes:
    """The processes of a graph. `tell` gets each line that they print, with the instance's name in front."""

    def __init__(
        self, graph: Graph, orders: Callable[[DynamoService, int], Orders], tell: Tell, environment: Mapping[str, str]
    ) -> None:
        self.graph = graph
        self._orders = orders
        self._tell = tell
        self._environment = environment
        self.processes: list[_Process] = []

    def start(self, timeout: float) -> None:
        """Start all, and wait until they serve. A service that waits for others in a hook does so by itself.

        Raises:
            DeploymentError: if one ends before it serves, or does not serve in time.
        """
        for service in self.graph.services:
            for number in range(self.graph.workers[service.name]):
                orders = self._orders(service, number)
                self.processes.append(_Process(service, orders, self._environment, self._tell))
        deadline = time.monotonic() + timeout
        for process in self.processes:
            process.changed.wait(max(0.0, deadline - time.monotonic()))
            if process.ready is None:
                waiting = [p.name for p in self.processes if p.ready is None]
                gone = [p.name for p in self.processes if not p.is_alive]
                raise DeploymentError(
                    f"{listed(gone)} ended while starting; its lines above say why."
                    if gone
                    else f"{listed(waiting)} did not start within {timeout:g} s. Does a hook wait for workers that are "
                    "not there (min_worker)? Start those first, or give it longer: --start-timeout."
                )

    @property
    def alive(self) -> dict[str, int]:
        """Instances per service whose processes run."""
        return {s.name: sum(p.service is s and p.is_alive for p in self.processes) for s in self.graph.services}

    def port(self) -> int | None:
        """Return the port that the Frontend listens on; None if there is no HTTP."""
        ports = [p.ready["port"] for p in self.processes if p.ready and p.ready["port"]]
        return ports[0] if ports else None

    def stop(self, timeout: float = FINISH_S) -> None:
        """Stop all, callers first: what is under way is finished."""
        for service in reversed(self.graph.services):
            mine = [process for process in self.processes if process.service is service]
            for process in mine:
                process.stop()
            deadline = time.monotonic() + timeout
            for process in mine:
                process.end(max(0.1, deadline - time.monotonic()))

    def kill(self) -> None:
        """End all at once."""
        for process in self.processes:
            process.stop()
            process.process.kill()
        for process in self.processes:
            process.end(5.0)


def environment_for(discovery: str) -> dict[str, str]:
    """Return the environment of the instances: what Dynamo reads, where the user has not said otherwise."""
    quiet = {"DYN_LOG": "warn", "PYTHONUNBUFFERED": "1", "DYN_DISCOVERY_BACKEND": discovery}
    return {**quiet, **os.environ}
