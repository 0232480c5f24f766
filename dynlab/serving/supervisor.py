"""Starts, watches and ends the instances of a graph, as Dynamo's launcher did with processes (2025: circus)."""

from __future__ import annotations

import concurrent.futures
import logging
import socket
import threading
import time

from dynlab.config import ServiceConfig
from dynlab.errors import DeploymentError, GraphError, listed
from dynlab.runtime.local import LocalPlanes
from dynlab.sdk.graph import Graph
from dynlab.sdk.service import DynamoService
from dynlab.serving.instance import ServiceInstance

__all__ = ("Supervisor",)

log = logging.getLogger("dynlab.serving")


class Supervisor:
    """The instances of one deployment. Called from the reader's threads; never from an instance's own."""

    def __init__(
        self,
        graph: Graph,
        planes: LocalPlanes,
        config: ServiceConfig,
        deployment: object,
        sock: socket.socket | None,
    ) -> None:
        self.instances: list[ServiceInstance] = []
        self._graph = graph
        self._planes = planes
        self._config = config
        self._deployment = deployment
        self._sock = sock
        self._numbers = dict.fromkeys((s.name for s in graph.services), 0)
        self._lock = threading.RLock()

    def start_all(self, timeout: float) -> None:
        """Start every instance of the graph; raises what `scale` raises."""
        with self._lock:
            self._start(
                [self._add(s) for s in self._graph.services for _ in range(self._graph.workers[s.name])], timeout
            )

    def scale(self, name: str | DynamoService, workers: int, timeout: float) -> None:
        """Start or drain instances until `workers` of them are alive; the newest go first.

        Raises:
            GraphError: if there is no such service, or it cannot have that many instances.
            DeploymentError: if an instance does not start in time; whatever a service raises while starting.
        """
        service = self._graph[name]
        name = service.name
        if type(workers) is not int or workers < 0:
            raise GraphError(f"scale({name!r}, {workers!r}): give a number of instances, 0 or more.")
        if service.apis:
            raise GraphError(f"{name} serves HTTP on one port and runs once. Scale the services behind it.")
        with self._lock:
            alive = self.alive(name)
            added = [self._add(service) for _ in range(workers - len(alive))]
            try:
                self._start(added, timeout)
            except BaseException:
                self.end(added, timeout)
                raise
            self.end(alive[workers:], timeout)

    def end_all(self, timeout: float, hurry: bool) -> None:
        """End everything, callers first: who might still send is gone before those it would send to."""
        with self._lock:
            for service in reversed(self._graph.services):
                self.end([i for i in self.instances if i.service is service], timeout, hurry=hurry)

    def end(self, instances: list[ServiceInstance], timeout: float, *, hurry: bool = False) -> None:
        """End instances together: in order those that serve, at once those that do not."""
        deadline = time.monotonic() + timeout
        leaving = {i.end(hurry=hurry): i for i in instances if i.state == "serving"}
        concurrent.futures.wait(leaving, timeout)
        for instance in instances:
            instance.stop_thread()
        for instance in instances:
            if not instance.join(max(0.1, deadline - time.monotonic())):
                log.warning("%s still blocks its thread, which ends when its handler returns", instance.worker)

    def alive(self, name: str) -> list[ServiceInstance]:
        """Return the instances of a service that serve or are about to."""
        return [i for i in self.instances if i.service.name == name and i.state in ("starting", "serving")]

    def one(self, name: str | DynamoService, worker: int) -> ServiceInstance:
        """Find a live instance by its number or its instance id.

        Raises:
            GraphError: if there is no such service.
            DeploymentError: if no live instance of it has the number or id.
        """
        name = self._graph[name].name
        alive = self.alive(name)
        for instance in alive:
            if worker in (instance.number, instance.instance_id):
                return instance
        raise DeploymentError(
            f"{name} has no live instance {worker!r}; it has "
            f"{listed(f'{i.number} (id {i.instance_id})' for i in alive)}."
        )

    def _add(self, service: DynamoService) -> ServiceInstance:
        number = self._numbers[service.name]
        self._numbers[service.name] += 1
        sock = self._sock if service is self._graph.entry else None
        instance = ServiceInstance(service, number, self._planes, self._config, self._deployment, sock)
        self.instances.append(instance)
        return instance

    def _start(self, instances: list[ServiceInstance], timeout: float) -> None:
        """Start all at once, as processes would be, and wait for all; the first failure is raised."""
        starting = {instance.start(): instance for instance in instances}
        done, waiting = concurrent.futures.wait(starting, timeout, concurrent.futures.FIRST_EXCEPTION)
        for future in done:
            error = future.exception()
            if error is not None:
                error.add_note(f"raised while {starting[future].worker} was starting")
                raise error
        if waiting:
            late = listed(sorted(starting[future].worker for future in waiting))
            raise DeploymentError(
                f"{late} did not start within {timeout:g} s. Does an @async_on_start hook wait for a service that "
                "is not part of this graph? Add that one, or give it longer: start_timeout= of serve(), timeout= of "
                "scale()."
            )
