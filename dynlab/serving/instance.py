"""One instance of one service: its thread, its start in Dynamo's order, and its three ways to end."""

from __future__ import annotations

import contextvars
import inspect
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dynlab.config import ServiceConfig
from dynlab.protocols import EndpointId
from dynlab.runtime.local import LocalPlanes
from dynlab.runtime.loops import LoopThread
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.endpoint import bind
from dynlab.sdk.service import DynamoService
from dynlab.serving.app import GraphApp
from dynlab.serving.legacy import add_probes, make_route
from dynlab.serving.server import FINISH_S, GRACE_S, HttpServer

__all__ = ("ServiceInstance",)

log = logging.getLogger("dynlab.serving")


class ServiceInstance:
    """A service at work. `state` is starting, serving, draining, dead or closed."""

    def __init__(
        self,
        service: DynamoService,
        number: int,
        planes: LocalPlanes,
        config: ServiceConfig,
        deployment: object,
        sock: socket.socket | None = None,
        hostname: str | None = None,
    ) -> None:
        self.service = service
        self.number = number
        self.worker = f"{service.name}-{number}"
        self.runtime = planes.runtime(self.worker, "cuda" if service.wants_gpu else "cpu")
        self.instance_id = self.runtime.lease.lease_id
        self.state = "starting"
        self.started_at = time.time()
        self._sock = sock
        self._server: HttpServer | None = None
        self._app: GraphApp | None = None
        self._service_object: Any = None
        component = self.runtime.namespace(service.namespace).component(service.name)
        context = contextvars.Context()
        context.run(
            dynamo_context.enter,
            runtime=self.runtime,
            component=component,
            endpoints=[component.endpoint(spec.name) for spec in service.endpoints],
            service_name=service.name,
            namespace=service.namespace,
            hostname=hostname or self.worker,
            deployment=deployment,
            **service.own_context(number),
        )
        context.run(config.activate)
        self.thread = LoopThread(f"dynlab-{self.worker}", context)

    @property
    def active(self) -> int:
        """Requests that its endpoints and its API have taken and not answered yet."""
        routes = self._app.api_routes.values() if self._app is not None else ()
        return sum(taker.active for taker in (*self.runtime.servers, *routes))

    def start(self) -> Future[None]:
        """Begin; the future is done when the instance serves, or has failed to."""
        self.thread.start()
        return self.thread.submit(self._begin())

    def end(self, *, hurry: bool = False) -> Future[None]:
        """Leave in order: off the list, answers under way finished (in a hurry: broken off), `@on_shutdown` run."""
        self.state = "draining"
        return self.thread.submit(self._leave(hurry))

    def kill(self) -> None:
        """Vanish as a killed process does: no goodbye, no hooks; the list still names it until its lease lapses."""
        self.state = "dead"
        self.runtime.die()
        server = self._server
        if server is not None:
            self.thread.mailbox.post(server.drop)
        self.thread.stop()

    def stop_thread(self) -> None:
        """Have the loop end; join it with `join`."""
        self.thread.stop()

    def join(self, timeout: float) -> bool:
        """Wait for the thread; False if a handler still blocks it."""
        joined = self.thread.join(timeout)
        if self.state != "dead":
            self.state = "closed"
        if self._sock is not None:
            self._sock.close()
        return joined

    async def _begin(self) -> None:
        # Dynamo's order: construct, run the start hooks, then register - so a service that waits for
        # others in a hook is not listed before it has found them.
        try:
            self._service_object = self.service()
            await self._run_hooks("start")
        except (SystemExit, KeyboardInterrupt) as error:
            # It would end this loop without a word; a process would have ended with it.
            raise RuntimeError(f"{self.worker} raised {type(error).__name__}: {error} while starting") from error
        for spec in self.service.endpoints:
            endpoint = EndpointId(*self.service.dynamo_address(), spec.name)
            handler = bind(getattr(self._service_object, spec.attribute))
            self.runtime.listen(endpoint, handler)
        if self._sock is not None:
            await self._serve_http(self._sock)
        self.state = "serving"
        log.info("serving as instance %d", self.instance_id)

    async def _serve_http(self, sock: socket.socket) -> None:
        traces = self.runtime.planes.traces
        routes = [
            make_route(self.service, spec, getattr(self._service_object, spec.attribute), self.worker, traces)
            for spec in self.service.apis
        ]
        described = inspect.getdoc(self.service.inner) or ""
        self._app = GraphApp(self.service.name, described, routes, self.runtime.planes)
        add_probes(self._app, self.service, self._service_object)
        self._server = HttpServer(self._app)
        await self._server.start(sock)

    async def _leave(self, hurry: bool) -> None:
        if self._app is not None and self._server is not None:
            if hurry:
                self._app.close()
            await self._server.stop(GRACE_S if hurry else FINISH_S)
        self.runtime.shutdown()
        for server in self.runtime.servers:
            await server.drained(hurry=hurry)
        await self._run_hooks("shutdown")
        log.info("left")

    async def _run_hooks(self, when: str) -> None:
        for hook in self.service.hooks:
            if hook.when == when:
                method: Callable[[], Any] = getattr(self._service_object, hook.attribute)
                result = method()
                if inspect.isawaitable(result):
                    await result

    def __repr__(self) -> str:
        return f"<ServiceInstance {self.worker} {self.instance_id}: {self.state}>"
