"""Keeps a graph up for the command line, until it is stopped: as threads of this process, or as processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from dynlab.config import ServiceConfig
from dynlab.errors import listed
from dynlab.sdk.graph import Graph, resolve, settle_router
from dynlab.sdk.service import DynamoService
from dynlab.serving.body import keys_of
from dynlab.serving.deployment import Deployment
from dynlab.serving.legacy import query_keys
from dynlab.serving.process import Orders
from dynlab.serving.processes import Processes, environment_for
from dynlab.serving.server import FINISH_S, url_of

__all__ = ("describe", "run_processes", "run_threads")

Tell = Callable[[str], object]
STOPPING = "Stopping: requests under way are finished first; a second Ctrl-C does not wait for them."


def run_threads(start: Callable[[], Deployment], tell: Tell) -> None:
    """Run a deployment until SIGINT or SIGTERM."""
    # A start can take long, when services wait for others; until it is done, both signals break it off.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with start() as deployment:
        stopped = _on_signal()
        for name, count in deployment.workers.items():
            ids = [i.instance_id for i in deployment.instances if i.service.name == name]
            tell(f"{name}: {count} instance{'s' if count != 1 else ''} ({listed(ids)})")
        _announce(deployment.graph.entry, deployment.url, tell)
        shown = 0
        while not stopped.wait(0.1):
            shown = _tell_logs(deployment, shown, tell)
        tell(STOPPING)
        deployment.close(FINISH_S, hurry=False)
        _tell_logs(deployment, shown, tell)
    tell("Stopped.")


def run_processes(
    graph: Graph, orders: Callable[[DynamoService, int], Orders], start_timeout: float, tell: Tell
) -> None:
    """Run a graph as processes until SIGINT or SIGTERM, or until none is left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    first = orders(graph.entry, 0)
    processes = Processes(graph, orders, tell, environment_for(first.discovery))
    try:
        processes.start(start_timeout)
        stopped = _on_signal()
        for name, count in processes.alive.items():
            ids = [p.ready["instance_id"] for p in processes.processes if p.service.name == name and p.ready]
            tell(f"{name}: {count} process{'es' if count != 1 else ''} ({listed(ids)})")
        port = processes.port()
        _announce(graph.entry, None if port is None else url_of(first.host, port), tell)
        while not stopped.wait(0.2):
            if not any(processes.alive.values()):
                tell("No process is left.")
                return
        tell(STOPPING)
        processes.stop(FINISH_S)
    finally:
        processes.kill()
    tell("Stopped.")


def describe(
    entry: DynamoService, counts: dict[str | DynamoService, int], config: ServiceConfig, router_mode: Any, tell: Tell
) -> None:
    """Say what would be started."""
    settle_router(router_mode, config)
    graph = resolve(entry, counts, config)
    for found in graph.services:
        keys = config.for_service(found.name)
        tell(f"{found.namespace}/{found.name} x {graph.workers[found.name]}  {keys or ''}".rstrip())


def _on_signal() -> threading.Event:
    """Return what is set by the first SIGINT or SIGTERM; the second breaks off."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def _announce(entry: DynamoService, url: str | None, tell: Tell) -> None:
    for spec in entry.apis:
        method, at = getattr(entry.inner, spec.attribute), f"{url}/{spec.name}"
        keys, query = keys_of(method), query_keys(spec, method)
        header = "content-type: application/json" if spec.dialect == "0.3" else "accept: text/event-stream"
        body = ", ".join(f'"{key}": "..."' for key in keys if key not in query)
        address = f"'{at}?{'&'.join(f'{key}=...' for key in query)}'" if query else at
        tell(f"POST {at} takes {listed(keys)}")
        tell(f"  curl -N -X POST {address} -H '{header}'" + (f" -d '{{{body}}}'" if body or not query else ""))
    if not entry.apis:
        tell(f"{entry.name} has no @api method, so there is no HTTP.")
    tell("Ctrl-C stops it.")


def _tell_logs(deployment: Deployment, shown: int, tell: Tell) -> int:
    """Tell what the services have logged after the first `shown` lines; return how many there are now."""
    lines, shown = deployment.logs_since(shown)
    for line in lines:
        tell(line)
    return shown
