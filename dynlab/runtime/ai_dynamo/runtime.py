"""One instance's connection to the real engine (Dynamo: `DistributedRuntime`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dynlab.protocols import EndpointId
from dynlab.routing.modes import PickFunction, RouterMode
from dynlab.runtime.ai_dynamo.client import AiDynamoClient
from dynlab.runtime.ai_dynamo.engine import Engine, TheirClient, the_engine
from dynlab.runtime.ai_dynamo.ingress import Ingress
from dynlab.runtime.discovery import Lease, Registration
from dynlab.runtime.local import LocalPlanes, LocalRuntime
from dynlab.runtime.request_plane import EndpointServer, Handler

__all__ = ("AiDynamoPlanes", "AiDynamoRuntime")

FIND_S = 10.0
"""A new client of the engine finds instances within milliseconds."""


@dataclass
class AiDynamoPlanes(LocalPlanes):
    """What the instances of a deployment on the engine share.

    The engine finds instances by itself; dynlab's own table has their names. `scope` is added to namespaces, so that
    two deployments in one process do not find each other's instances; None: it is to be found from elsewhere.
    """

    engine: Engine = field(default_factory=the_engine)
    scope: int | None = 0
    runtimes: list[AiDynamoRuntime] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.scope is not None:
            self.scope = self.engine.new_scope()

    def runtime(self, worker: str = "reader", device: str = "cpu") -> AiDynamoRuntime:
        return AiDynamoRuntime(self, worker, device)


class AiDynamoRuntime(LocalRuntime):
    """As `LocalRuntime`, on the engine. Its instance id is the engine's, a long number."""

    def __init__(self, planes: AiDynamoPlanes | None = None, worker: str = "reader", device: str = "cpu") -> None:
        planes = planes if planes is not None else AiDynamoPlanes()
        super().__init__(planes, worker, device)
        self._engine, self._scope = planes.engine, planes.scope
        self._theirs = self._engine.take()
        self._in_use: list[tuple[str, TheirClient]] = []
        self._served: dict[EndpointId, Any] = {}
        self._known: dict[EndpointId, frozenset[int]] = {}
        planes.runtimes.append(self)
        self._mates = planes.runtimes

    @property
    def lease(self) -> Lease:
        """The engine's own: it lives as long as this runtime serves."""
        if self._lease is None:
            probe = self._theirs.runtime.endpoint(self._path(EndpointId("dynlab", "lease", "id")))
            self._lease = self.planes.discovery.grant(probe.connection_id())
        return self._lease

    async def make_client(self, endpoint: EndpointId, router: RouterMode | PickFunction | None) -> AiDynamoClient:
        path = self._path(endpoint)
        theirs = await self._theirs.client(path)
        self._in_use.append((path, theirs))
        client = AiDynamoClient(self, endpoint, router, self.client_rng(endpoint), self._engine, theirs)
        # Who is listed here already is found by a new client of the engine a little later.
        with contextlib.suppress(TimeoutError):  # else its first request says that nobody is there
            await client.wait_for_instances(len(self.table(endpoint).instances()), timeout=FIND_S)
        return client

    def listen(self, endpoint: EndpointId, handler: Handler) -> Registration:
        registration = super().listen(endpoint, handler)
        assert registration.server is not None
        self._served[endpoint] = self._engine.run(self._serve(endpoint, registration.server))
        return registration

    def know(self, endpoint: EndpointId, ids: Sequence[int]) -> None:
        """Bring dynlab's own table up to what the engine has found: instances of other processes have no thread here.

        Called for each request, so nothing is done unless something has changed.
        """
        found = frozenset(ids)
        if self._scope is not None or found == self._known.get(endpoint):
            return
        self._known[endpoint] = found
        discovery = self.planes.discovery
        listed = {registration.instance_id: registration for registration in discovery.instances(endpoint)}
        for instance_id in found - listed.keys():
            lease = discovery.grant(instance_id)
            discovery.register(endpoint, lease, f"{endpoint.component}-{instance_id}", None)
        for instance_id, registration in listed.items():
            if instance_id not in found and registration.server is None:
                discovery.unregister(registration)

    async def list_again(self, endpoint: EndpointId, listed: bool) -> None:
        """Put an endpoint of this instance on the engine's list, or take it off."""
        theirs = self._served[endpoint]
        change = theirs.register_endpoint_instance if listed else theirs.unregister_endpoint_instance
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_call(change), self._engine.loop))

    def shutdown(self) -> None:
        super().shutdown()
        self._leave()
        if self.worker == "reader":  # the deployment closes: whoever was killed is forgotten now
            for runtime in list(self._mates):
                runtime._leave()
            if self._scope is not None:
                self._engine.end_scope(self._scope)

    def die(self) -> None:
        super().die()
        # The engine lists it until its lease has run out: its calls fail until then, and it is skipped.
        self._engine.loop.call_soon_threadsafe(self._engine.loop.call_later, self.planes.discovery.ttl_s, self._lapse)

    def _lapse(self) -> None:
        asyncio.get_running_loop().create_task(self._withdraw())

    def _leave(self) -> None:
        if self in self._mates:
            self._engine.run(self._withdraw())

    async def _withdraw(self) -> None:
        """Take everything off the engine's list, and give the runtime back."""
        if self in self._mates:
            self._mates.remove(self)
            for endpoint, theirs in self._served.items():
                await theirs.unregister_endpoint_instance()
                self._theirs.served[self._path(endpoint)][1].serve(None, None)
            for path, client in self._in_use:
                self._theirs.idle.setdefault(path, []).append(client)
            self._engine.give(self._theirs)

    async def _serve(self, endpoint: EndpointId, server: EndpointServer) -> Any:
        path, served = self._path(endpoint), self._theirs.served
        if path not in served:
            served[path] = theirs, ingress = self._theirs.runtime.endpoint(path), Ingress(self._engine)
            theirs.serve_endpoint(ingress.answer)
        theirs, ingress = served[path]
        ingress.serve(server, self.planes.traces)
        await theirs.register_endpoint_instance()
        return theirs

    def _path(self, endpoint: EndpointId) -> str:
        scope = "" if self._scope is None else f"_{self._scope}"
        return f"{endpoint.namespace}{scope}.{endpoint.component}.{endpoint.name}"

    def __repr__(self) -> str:
        return f"<AiDynamoRuntime of {self.worker}>"


async def _call(change: Any) -> None:
    await change()
