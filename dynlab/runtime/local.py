"""The local runtime: namespace, component, endpoint, client, with threads for processes (Dynamo: `DistributedRuntime`).

As in Dynamo, one runtime is one instance's connection to the planes: it has one lease, so it can be at most
one instance of an endpoint. All runtimes of a deployment share the same `LocalPlanes`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dynlab.clock import Clock, WallClock
from dynlab.engine import MockEngineArgs
from dynlab.kv.blocks import BLOCK_SIZE
from dynlab.protocols import EndpointId
from dynlab.routing.modes import Picker, PickFunction, RouterMode, RouterSpec, parse_router_mode
from dynlab.runtime.client import LocalClient
from dynlab.runtime.discovery import Discovery, Lease, Registration
from dynlab.runtime.event_plane import EventPlane, Subscription
from dynlab.runtime.instances import INHIBITED_S, InstanceTable
from dynlab.runtime.live_engine import LiveEngine
from dynlab.runtime.loops import Mailbox
from dynlab.runtime.published_cache import OpenPublisher, PublishedCache
from dynlab.runtime.request_plane import EndpointServer, Handler, as_handler
from dynlab.trace_log import TraceLog

__all__ = ("LocalComponent", "LocalEndpoint", "LocalNamespace", "LocalPlanes", "LocalRuntime")


@dataclass
class LocalPlanes:
    """What the instances of a deployment share; `router_mode` and `migration_limit` may be changed while it runs.

    `kv` are the keys of a `KvRouterConfig`, and `block_size`.
    """

    discovery: Discovery = field(default_factory=Discovery)
    events: EventPlane = field(default_factory=EventPlane)
    traces: TraceLog[Any] = field(default_factory=TraceLog)
    kv: Mapping[str, Any] = field(default_factory=dict)
    router_mode: RouterMode | PickFunction = RouterMode.ROUND_ROBIN
    migration_limit: int = 0
    seed: int | None = None
    inhibited_s: float = INHIBITED_S
    serving: dict[LocalRuntime, None] = field(default_factory=dict, repr=False)  # those that answer, in their order

    def runtime(self, worker: str = "reader", device: str = "cpu") -> LocalRuntime:
        """Connect one more instance; see `LocalRuntime`."""
        return LocalRuntime(self, worker, device)


class LocalRuntime:
    """One instance's connection to the planes; `worker` names it in traces and errors, `device` is what it has."""

    def __init__(self, planes: LocalPlanes | None = None, worker: str = "reader", device: str = "cpu") -> None:
        self.planes = planes if planes is not None else LocalPlanes()
        self.worker = worker
        self.device = device
        self.servers: list[EndpointServer] = []
        self.caches: dict[EndpointId, PublishedCache | LiveEngine] = {}
        self._lease: Lease | None = None
        self._tables: dict[EndpointId, InstanceTable] = {}
        self._kv_pickers: dict[EndpointId, Picker] = {}
        self._subscriptions: list[Subscription] = []
        self._clients = itertools.count()
        self._requests = itertools.count(1)
        self._serving: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def lease(self) -> Lease:
        """The lease that makes this runtime an instance; taken on first use."""
        if self._lease is None:
            self._lease = self.planes.discovery.grant()
        return self._lease

    def namespace(self, name: str) -> LocalNamespace:
        return LocalNamespace(self, name)

    def endpoint(self, path: str) -> LocalEndpoint:
        """Address an endpoint by `namespace.component.endpoint`, with or without `dyn://`.

        Raises:
            ValueError: unless the path has exactly three parts.
        """
        return LocalEndpoint(self, EndpointId.parse(path))

    async def make_client(self, endpoint: EndpointId, router: RouterMode | PickFunction | None) -> LocalClient:
        """Make a client of an endpoint on the running loop; see `LocalEndpoint.client`."""
        return LocalClient(self, endpoint, router, self.client_rng(endpoint))

    async def list_again(self, endpoint: EndpointId, listed: bool) -> None:
        """Nobody but the discovery plane has a list."""

    def shutdown(self) -> None:
        """Leave the planes in order: off the list at once; what `serve_endpoint` returned is done."""
        self._closed = True
        self._hush()
        if self._lease is not None:
            self.planes.discovery.revoke(self._lease)
        self._finish_serving()

    def die(self) -> None:
        """Vanish as a killed process does: calls break off, and discovery finds out when the lease lapses."""
        self._closed = True
        self._hush()
        for server in self.servers:
            server.die()
        if self._lease is not None:
            self.planes.discovery.lapse(self._lease)

    def _hush(self) -> None:
        """Neither tell nor hear any more."""
        self.planes.serving.pop(self, None)
        if self._lease is not None:
            self.planes.events.leave(self._lease.lease_id)
        for subscription in self._subscriptions:
            subscription.close()

    def table(self, endpoint: EndpointId) -> InstanceTable:
        """Return this runtime's view of an endpoint, shared by its clients."""
        return self._tables.setdefault(
            endpoint, InstanceTable(self.planes.discovery, endpoint, self.planes.inhibited_s)
        )

    def kv_picker(self, endpoint: EndpointId) -> Picker:
        """Return this runtime's KV router of an endpoint, shared by its clients; made on the running loop."""
        picker = self._kv_pickers.get(endpoint)
        if picker is None:
            # NumPy takes as long to load as the rest of the runtime; the other modes do without it.
            from dynlab.routing.kv import KvRouter, KvRouterConfig  # noqa: PLC0415
            from dynlab.routing.kv_picker import KvPicker  # noqa: PLC0415
            from dynlab.routing.kv_queue import MAX_NUM_BATCHED_TOKENS  # noqa: PLC0415

            settings = dict(self.planes.kv)
            size = settings.pop("block_size", BLOCK_SIZE)
            most = settings.pop("max_num_batched_tokens", MAX_NUM_BATCHED_TOKENS)
            config = KvRouterConfig(**settings)
            clock = self.planes.discovery.clock
            router = KvRouter(size, config, rng=self.client_rng(endpoint), clock=clock)
            picker = made = KvPicker(router, most)
            table = self.table(endpoint)
            table.keep_books(made)
            self._kv_pickers[endpoint] = made
            if config.use_kv_events:  # else it assumes that what it sends is cached
                self._subscriptions.append(self.planes.events.subscribe(endpoint, partial(table.hear, made)))
        return picker

    def next_request_id(self) -> str:
        return f"{self.worker}-{next(self._requests)}"

    def client_rng(self, endpoint: EndpointId) -> random.Random:
        """Give each client its own stream of random numbers, the same in every run with the same seed."""
        number = next(self._clients)
        seed = self.planes.seed
        return random.Random() if seed is None else random.Random(f"{seed}/{self.worker}/{endpoint}/{number}")

    def listen(self, endpoint: EndpointId, handler: Handler) -> Registration:
        """Answer calls to the endpoint on the running loop, and list this instance."""
        server = EndpointServer(endpoint, self.lease.lease_id, self.worker, handler, Mailbox.here())
        # One that is replaced stays as long as it has calls to answer: they must end with this runtime.
        self.servers = [*(s for s in self.servers if s.endpoint != endpoint or s.active), server]
        self.planes.serving[self] = None
        return self.planes.discovery.register(endpoint, self.lease, self.worker, server, self.device)

    def serving(self) -> asyncio.Future[None]:
        """Return a future that is done when this runtime has shut down."""
        future = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(None)
        self._serving.append(future)
        return future

    def _finish_serving(self) -> None:
        for future in self._serving:
            # The future belongs to the loop that served; shutdown() may be called from any thread.
            Mailbox.of(future.get_loop()).post(lambda f: f.done() or f.set_result(None), future)
        self._serving.clear()

    def __repr__(self) -> str:
        return f"<LocalRuntime of {self.worker}>"


@dataclass(frozen=True)
class LocalNamespace:
    """What keeps two graphs apart."""

    runtime: LocalRuntime
    name: str

    def component(self, name: str) -> LocalComponent:
        return LocalComponent(self.runtime, self.name, name)


@dataclass(frozen=True)
class LocalComponent:
    """One tier of a graph."""

    runtime: LocalRuntime
    namespace: str
    name: str

    def endpoint(self, name: str) -> LocalEndpoint:
        return LocalEndpoint(self.runtime, EndpointId(self.namespace, self.name, name))

    def create_service(self) -> None:
        """Does nothing; Dynamo needed this call in 2025, before it served an endpoint."""


class LocalEndpoint:
    """One name under which a component answers."""

    def __init__(self, runtime: LocalRuntime, endpoint_id: EndpointId) -> None:
        self.runtime = runtime
        self.endpoint_id = endpoint_id
        self._registration: Registration | None = None

    async def client(self, router_mode: RouterSpec | None = None) -> LocalClient:
        """Make a client on the running loop; `router_mode` is what its `route` follows."""
        router = None if router_mode is None else parse_router_mode(router_mode)
        return await self.runtime.make_client(self.endpoint_id, router)

    def serve_endpoint(self, handler: Callable[..., Any]) -> asyncio.Future[None]:
        """Answer with `handler`, an async generator of `(request)` or `(request, context)`, on the running loop.

        The instance is listed when this returns; the future is done when the runtime has shut down.

        Raises:
            EndpointDefinitionError: if the handler is no async generator.
        """
        self._registration = self.runtime.listen(self.endpoint_id, as_handler(handler))
        return self.runtime.serving()

    def kv_cache(self, blocks: int) -> PublishedCache:
        """Give this instance a KV cache of so many blocks that tells the endpoint's KV routers what it holds."""
        cache = self.runtime.caches[self.endpoint_id] = PublishedCache(self._publisher, blocks, self._block_size)
        return cache

    def engine(self, args: MockEngineArgs, clock: Clock | None = None) -> LiveEngine:
        """Give this instance an engine that tells the endpoint's KV routers what it holds.

        Without a clock it runs in real time, or `speedup_ratio` times as fast.

        Raises:
            ConfigError: if `args` ask for blocks of another size than that of the KV routers here.
        """
        clock = clock or WallClock(args.speedup_ratio)
        engine = LiveEngine(args.with_block_size(self._block_size), clock, self._publisher)
        self.runtime.caches[self.endpoint_id] = engine
        return engine

    @property
    def _block_size(self) -> int:
        return int(self.runtime.planes.kv.get("block_size", BLOCK_SIZE))

    @property
    def _publisher(self) -> OpenPublisher:
        return partial(self.runtime.planes.events.publisher, self.endpoint_id, self.runtime.lease.lease_id)

    async def unregister_endpoint_instance(self) -> None:
        """Take this instance off the list; calls under way go on."""
        if self._registration is not None:
            self.runtime.planes.discovery.unregister(self._registration)
            await self.runtime.list_again(self.endpoint_id, listed=False)

    async def register_endpoint_instance(self) -> None:
        """Put it back on the list."""
        if self._registration is not None:
            server = self._registration.server
            self._registration = self.runtime.planes.discovery.register(
                self.endpoint_id, self.runtime.lease, self.runtime.worker, server, self.runtime.device
            )
            await self.runtime.list_again(self.endpoint_id, listed=True)

    def lease_id(self) -> int:
        return self.runtime.lease.lease_id

    def connection_id(self) -> int:
        """The name of `lease_id` in 1.6.1."""
        return self.runtime.lease.lease_id

    def __repr__(self) -> str:
        return f"<LocalEndpoint {self.endpoint_id}>"
