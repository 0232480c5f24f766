"""One instance of a service as a process of its own, on the real engine: `dynlab serve --runtime ai_dynamo`.

It logs to standard output, says `READY` and its instance id there, and ends in order on SIGTERM: off the list,
answers under way finished, shutdown hooks run.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, dataclass, field
from typing import Any

from dynlab.config import ServiceConfig
from dynlab.errors import ConfigError
from dynlab.routing.modes import parse_router_mode
from dynlab.sdk.service import DynamoService
from dynlab.serving.instance import ServiceInstance
from dynlab.serving.server import FINISH_S, bind
from dynlab.views.traces import Traces

__all__ = ("READY", "Orders", "orders_of", "run_instance")

READY = "@dynlab ready "
_FORMAT = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


@dataclass(frozen=True)
class Orders:
    """What an instance has to know to start; JSON between the processes."""

    service: str
    number: int
    dynamo_sdk: bool
    discovery: str
    router_mode: str = "round-robin"
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    migration_limit: int = 0
    seed: int | None = None
    host: str = "127.0.0.1"
    port: int = 0

    def dump(self) -> str:
        return json.dumps(asdict(self))


def run_instance(service: DynamoService, orders: Orders) -> int:
    """Run until SIGTERM; return the exit code."""
    from dynlab.runtime.ai_dynamo import AiDynamoPlanes  # noqa: PLC0415 - optional
    from dynlab.runtime.ai_dynamo.engine import the_engine  # noqa: PLC0415

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the launcher says when to stop
    _log_to_stdout()
    engine = the_engine(orders.discovery, private=False)
    planes = AiDynamoPlanes(
        engine=engine,
        scope=None,
        traces=Traces(seed=orders.seed),
        router_mode=parse_router_mode(orders.router_mode),
        migration_limit=orders.migration_limit,
        seed=orders.seed,
    )
    sock = bind(orders.host, orders.port) if service.apis else None
    hostname = socket.gethostname()
    instance = ServiceInstance(service, orders.number, planes, ServiceConfig(orders.config), None, sock, hostname)
    starting = instance.start()
    while not (starting.done() or stopped.wait(0.05)):
        pass
    if not stopped.is_set():
        starting.result()
        _say({"instance_id": instance.instance_id, "port": None if sock is None else sock.getsockname()[1]})
        _wait_for(stopped)
    if instance.state == "serving":
        instance.end().result(FINISH_S)
    instance.stop_thread()
    planes.runtime().shutdown()
    return 0 if instance.join(FINISH_S) else 1


def _wait_for(stopped: threading.Event) -> None:
    """Wait to be stopped, or for the launcher to be gone: nobody would stop this process then."""
    launcher = os.getppid()
    while not stopped.wait(0.5):
        if os.getppid() != launcher:
            return


def _say(ready: dict[str, Any]) -> None:
    sys.stdout.write(f"{READY}{json.dumps(ready)}\n")
    sys.stdout.flush()


def _log_to_stdout() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_FORMAT)
    own = logging.getLogger("dynlab")
    own.setLevel(logging.INFO)
    own.propagate = False
    own.addHandler(handler)
    logging.getLogger("dynlab.ai_dynamo").setLevel(logging.WARNING)  # the engine has lines for each request


def orders_of(text: str) -> Orders:
    """Read what `Orders.dump` wrote.

    Raises:
        ConfigError: if it is something else.
    """
    try:
        return Orders(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"These are no orders for an instance: {text[:60]!r} ({error}).") from None
