"""`serve(Frontend)`: starts a graph in background threads and hands back a `Deployment` to hold it by."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dynlab.config import ServiceConfig
from dynlab.errors import ConfigError, did_you_mean, listed
from dynlab.routing.modes import RouterSpec
from dynlab.runtime.discovery import LEASE_TTL_S, Discovery
from dynlab.runtime.local import LocalPlanes
from dynlab.sdk.graph import resolve, settle_router
from dynlab.sdk.service import DynamoService
from dynlab.serving.deployment import Deployment
from dynlab.views.traces import Traces

__all__ = ("serve",)

_running: dict[str, Deployment] = {}
_registry_lock = threading.RLock()


def serve(
    entry: Any,
    *,
    workers: Mapping[str | DynamoService, int] | None = None,
    router_mode: RouterSpec | None = None,
    config: Mapping[str, Any] | str | Path | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    migration_limit: int = 0,
    kv: Mapping[str, Any] | None = None,
    runtime: Literal["local", "ai_dynamo"] = "local",
    lease_ttl_s: float = LEASE_TTL_S,
    start_timeout: float = 30.0,
    name: str | None = None,
) -> Deployment:
    """Run a graph in this process: one thread per instance, and HTTP in front. Safe to run again.

    A deployment of the same `name` (by default, the entry's) in this process is closed first.

    Args:
        entry: the service that requests enter, usually the Frontend.
        workers: instances per service, `{"DummyWorker": 4}`; the rest run as many as they say.
        router_mode: a mode's name or a function `pick(request, instances)`; round robin unless given.
        config: `{service: {key: value}}` or the path of a YAML file of that form.
        overrides: `--Service.key=value` arguments that replace keys of `config`.
        seed: makes every random choice the same in the next run.
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        migration_limit: how often a request that a dead worker left unanswered is sent to another one.
        kv: what the router mode "kv" is told: `block_size`, and the fields of `KvRouterConfig`.
        runtime: "local", threads and nothing else; or "ai_dynamo", the same threads on Dynamo's Rust runtime, which
            finds instances and carries requests (Linux; `pip install 'dynlab[dynamo]'`).
        lease_ttl_s: seconds until a killed worker leaves the list of instances.
        start_timeout: seconds that all services together may take to start.
        name: tells deployments apart, when several run at once.

    Raises:
        GraphError: if the graph, `workers` or the configuration cannot be right; nothing has started then.
        PortInUseError: if another program listens on `port`.
        DeploymentError: if a service does not start in time; whatever a service raises while starting, as it is.
    """
    settings = ServiceConfig.load(config, list(overrides))
    graph = resolve(entry, workers, settings)
    if migration_limit < 0:
        raise ConfigError(f"migration_limit={migration_limit} must be 0 or more; 0 sends nothing again.")
    planes = _planes_of(runtime)(
        discovery=Discovery(ttl_s=lease_ttl_s),
        traces=Traces(seed=seed),
        router_mode=settle_router(router_mode, settings),
        migration_limit=migration_limit,
        kv=_kv_settings(kv),
        seed=seed,
    )
    key = name or graph.entry.name
    with _registry_lock:
        previous = _running.get(key)
        if previous is not None and port and port == previous.port:
            previous.close()
        deployment = Deployment(key, graph, planes, settings, host, port, _forget)
        if previous is not None:
            previous.close()  # only now: a port that another program holds costs nobody the graph that runs
        _running[key] = deployment
        deployment.start(start_timeout)
    return deployment


def _planes_of(runtime: str) -> type[LocalPlanes]:
    known = ("local", "ai_dynamo")
    if runtime not in known:
        raise ConfigError(f"runtime={runtime!r} is none; there are {listed(known)}.{did_you_mean(str(runtime), known)}")
    if runtime == "local":
        return LocalPlanes
    from dynlab.runtime.ai_dynamo import AiDynamoPlanes  # noqa: PLC0415 - optional, and slow to load

    return AiDynamoPlanes


def _kv_settings(kv: Mapping[str, Any] | None) -> dict[str, Any]:
    if not kv:
        return {}
    from dynlab.routing.kv_picker import checked_settings  # noqa: PLC0415 - NumPy loads slowly

    return checked_settings(kv)


def _forget(deployment: Deployment) -> None:
    if _running.get(deployment.name) is deployment:
        del _running[deployment.name]


@atexit.register
def _close_all() -> None:
    for deployment in list(_running.values()):
        deployment.close(timeout=1.0)
