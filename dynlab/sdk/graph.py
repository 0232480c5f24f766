"""Which services a graph consists of, and how many of each: worked out before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynlab.config import COMMON, ServiceConfig
from dynlab.errors import ConfigError, DependencyError, GraphError, did_you_mean, listed
from dynlab.routing.modes import PickFunction, RouterMode, RouterSpec, parse_router_mode
from dynlab.sdk.service import DynamoService, reachable

__all__ = ("Graph", "resolve", "settle_router")


@dataclass(frozen=True)
class Graph:
    """The services to start, callees before callers, with the number of instances of each."""

    entry: DynamoService
    services: tuple[DynamoService, ...]
    workers: Mapping[str, int]

    def __getitem__(self, name: str | DynamoService) -> DynamoService:
        for found in self.services:
            if name in (found, found.name):
                return found
        names = [s.name for s in self.services]
        raise GraphError(
            f"No service {name!r} in the graph of {self.entry.name}; it has {listed(names)}."
            f"{did_you_mean(str(name), names)}"
        )


def resolve(
    entry: Any, workers: Mapping[str | DynamoService, int] | None = None, config: ServiceConfig | None = None
) -> Graph:
    """Follow the edges from `entry`, and settle the number of workers: `workers`, else the config, else the decorator.

    A service that a link cut off joins the graph when `workers` names it; one that no edge reaches, such as one
    that is only called through the runtime, when it is named by the service itself: `workers={DummyWorker: 4}`.

    Raises:
        DependencyError: if `entry` is not a service.
        GraphError: for two services of one name, a circle, or an unknown name.
        ConfigError: for a section or key of the config that nothing reads.
    """
    config = config if config is not None else ServiceConfig()
    if not isinstance(entry, DynamoService):
        what = f"the class {entry.__name__}" if isinstance(entry, type) else repr(entry)
        raise DependencyError(f"serve() expects a class decorated with @service(), not {what}.")
    if not isinstance(workers, Mapping | None):
        raise GraphError(f"workers={workers!r}: say of which service, as in workers={{'DummyWorker': 4}}.")
    reached: list[DynamoService] = []
    _visit(entry, [], reached)
    cut_off = {s.name: s for s in reachable(entry) if s not in reached}
    joining = [key if isinstance(key, DynamoService) else cut_off.get(key) for key in workers or {}]
    order: list[DynamoService] = []
    for root in [*filter(None, joining), entry]:
        _visit(root, [], order)
    names = [s.name for s in order]
    for name in names:
        if names.count(name) > 1:
            raise GraphError(
                f"Two services of the graph are named {name!r}; instances are found by name, so rename one class."
            )
    counts = {s.name: _configured(s, config) for s in order}
    for key, count in (workers or {}).items():
        name = key.name if isinstance(key, DynamoService) else key
        if name not in counts:
            raise GraphError(
                f"workers={{{name!r}: {count}}}: no such service in the graph of {entry.name}; it has {listed(names)}."
                f"{did_you_mean(str(name), names)} If no depends() leads to it, "
                f"name it by the class: {{{name}: {count}}}."
            )
        if type(count) is not int or count < 0:
            raise GraphError(f"workers={{{name!r}: {count!r}}}: give a number of instances, 0 or more.")
        counts[name] = count
    _check(order, counts, config)
    return Graph(entry, tuple(order), counts)


def settle_router(router_mode: RouterSpec | None, config: ServiceConfig) -> RouterMode | PickFunction:
    """Settle the deployment's router mode: round robin unless an argument says otherwise.

    Raises:
        ConfigError: for an unknown mode, or when the argument and a service's `router` key disagree.
    """
    if router_mode is None:
        return RouterMode.ROUND_ROBIN
    wanted = parse_router_mode(router_mode)
    for service, section in config.items():
        configured = section.get("router")
        if configured is not None and parse_router_mode(configured) != wanted:
            raise ConfigError(
                f"router_mode={router_mode!r} and the config's {service}.router={configured!r} disagree; give one."
            )
    return wanted


def _visit(node: DynamoService, path: list[DynamoService], order: list[DynamoService]) -> None:
    if node in path:
        circle = " -> ".join(s.name for s in [*path[path.index(node) :], node])
        raise GraphError(f"The graph is a circle: {circle}. Requests go one way; take one edge out.")
    if node in order:
        return
    for callee in node.started_with:
        _visit(callee, [*path, node], order)
    order.append(node)


def _configured(node: DynamoService, config: ServiceConfig) -> int:
    configured = config.workers(node.name)
    return node.workers if configured is None else configured


def _check(order: list[DynamoService], counts: Mapping[str, int], config: ServiceConfig) -> None:
    names = [s.name for s in order]
    # A pruned graph still reads the file of the whole one: sections of services behind a link are fine.
    known = {s.name for found in order for s in [found, *found.dependencies]} | {COMMON}
    for section in config:
        if section not in known and not any(s.sdk_2025 for s in order):
            raise ConfigError(
                f"The config has a section {section!r}, but the graph has {listed(names)}."
                f"{did_you_mean(section, names)}"
            )
    for node in order:
        node.check_config(config)
        if node.apis and counts[node.name] > 1:
            raise GraphError(
                f"{node.name} serves HTTP on one port, so it runs once, not {counts[node.name]} times. "
                "Scale the services behind it."
            )
    serving = [s.name for s in order if s.apis]
    if len(serving) > 1:
        raise GraphError(f"{listed(serving)} both have @api methods; a graph has one HTTP front. Keep @api on one.")
