"""A running graph: ask it, look at it, change it, break it, close it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dynlab.config import ServiceConfig
from dynlab.errors import DeploymentError
from dynlab.kv.indexer import KvIndexer
from dynlab.routing.modes import PickFunction, RouterMode, RouterSpec, parse_router_mode, router_name
from dynlab.runtime.local import LocalPlanes
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.graph import Graph
from dynlab.sdk.service import DynamoService
from dynlab.serving.body import keys_of
from dynlab.serving.instance import ServiceInstance
from dynlab.serving.logs import LogBuffer
from dynlab.serving.server import bind, url_of
from dynlab.serving.supervisor import Supervisor
from dynlab.views.traces import Traces

if TYPE_CHECKING:
    from dynlab.serving.answers import AnswerStream
    from dynlab.serving.asking import Asker
    from dynlab.serving.batch import Batch
    from dynlab.views.explanation import Explanation

__all__ = ("Deployment",)

log = logging.getLogger("dynlab.serving")


class Deployment:
    """What `serve` returns; also a context manager. `on_close` is called once, when it begins to close."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        planes: LocalPlanes,
        config: ServiceConfig,
        host: str,
        port: int,
        on_close: Callable[[Deployment], None],
    ) -> None:
        self.name = name
        self.graph = graph
        self.planes = planes
        self.config = config
        self.runtime = planes.runtime()
        self.apis = {spec.name: keys_of(getattr(graph.entry.inner, spec.attribute)) for spec in graph.entry.apis}
        self.state = "starting"
        self._on_close = on_close
        self._lock = threading.RLock()
        self._logs = LogBuffer(self)
        self._batches: list[Batch] = []
        self._asker: Asker | None = None
        self._sock = bind(host, port) if graph.entry.apis else None
        self.host, self.port = host, 0 if self._sock is None else int(self._sock.getsockname()[1])
        self.url = None if self._sock is None else url_of(host, self.port)
        self._supervisor = Supervisor(graph, planes, config, self, self._sock)

    def ask(self, *args: Any, api: str | None = None, **body: Any) -> list[str]:
        """Send one request over HTTP and return its items; positional values fill the keys in their order.

        A `request_id` is made up when the API takes one and none is given.

        Raises:
            RequestFailedError: if the Frontend answers with an error; it says which, and what had come.
        """
        return list(self._http().stream(args, body, api))

    async def ask_async(self, *args: Any, api: str | None = None, **body: Any) -> list[str]:
        """As `ask`, for async code: other tasks of the loop go on meanwhile."""
        return [item async for item in self._http().stream(args, body, api)]

    def stream(self, *args: Any, api: str | None = None, **body: Any) -> AnswerStream:
        """Send one request and read its items as they arrive, with `for` or `async for`."""
        return self._http().stream(args, body, api)

    def ask_many(
        self,
        prompts: int | Iterable[Any],
        *,
        concurrency: int = 32,
        wait: bool = True,
        api: str | None = None,
        **body: Any,
    ) -> Batch:
        """Send many requests, `concurrency` at a time; a number makes as many prompts up.

        Waits for the answers with a progress bar, or, with `wait=False`, returns at once with the handle.
        """
        batch = self._http().many(prompts, concurrency, wait, api, body)
        self._batches = [b for b in self._batches if not b.finished] + [batch]
        return batch

    @property
    def traces(self) -> Traces:
        """What happened to each request: `traces["r-1"].plot()`, `traces.plot_routing()`."""
        return self.planes.traces  # type: ignore[return-value]

    def explain(self, request_id: str | None = None) -> Explanation:
        """Why this worker: every candidate of every pick of a request, by default of the last one."""
        from dynlab.views.explanation import Explanation  # noqa: PLC0415

        return Explanation.of(self.traces.last if request_id is None else self.traces[request_id])

    def kv_index(self, timeout: float = 1.0) -> KvIndexer:
        """Return what the workers' KV caches hold now; a worker that is busy for `timeout` seconds is left out."""
        index = KvIndexer()
        for instance_id, events in self.planes.events.snapshots(timeout).items():
            for event in events:
                index.apply_event(instance_id, event)
        return index

    def logs(self, last: int | None = None) -> list[str]:
        """Return what the services logged, oldest first."""
        return self._logs.lines(last)

    def logs_since(self, seen: int) -> tuple[list[str], int]:
        """Return the lines after the first `seen`, and how many there are by then: to follow the log."""
        return self._logs.since(seen)

    @property
    def workers(self) -> dict[str, int]:
        """Instances per service that are alive."""
        return {s.name: len(self._supervisor.alive(s.name)) for s in self.graph.services}

    @property
    def instances(self) -> list[ServiceInstance]:
        """Every instance that was started, ended ones too."""
        return list(self._supervisor.instances)

    @property
    def router_mode(self) -> RouterMode | PickFunction:
        """How clients pick whose own mode is not set; assign a name or a pick function to change it."""
        return self.planes.router_mode

    @router_mode.setter
    def router_mode(self, spec: RouterSpec) -> None:
        self.planes.router_mode = parse_router_mode(spec)

    def scale(self, service: str | DynamoService, workers: int, *, timeout: float = 30.0) -> None:
        """Start or drain instances until `workers` of them are alive; the newest go first."""
        self._open()._supervisor.scale(service, workers, timeout)

    def kill(self, service: str | DynamoService, worker: int) -> None:
        """Kill one instance, by its number or its instance id, as if its process had died.

        Answers under way break off. Discovery still lists it until its lease lapses, so a first request may
        run into it; then it is skipped for a while.
        """
        (instance := self._open()._supervisor.one(service, worker)).kill()
        log.info("killed %s", instance.worker)

    def drain(self, service: str | DynamoService, worker: int, *, timeout: float = 30.0) -> None:
        """Let one instance finish what it has, give it nothing new, and end it."""
        supervisor = self._open()._supervisor
        supervisor.end([supervisor.one(service, worker)], timeout)

    def close(self, timeout: float = 5.0, *, hurry: bool = True) -> None:
        """End every stream, server, loop and thread. Closing twice does nothing.

        Answers under way break off, or, with `hurry=False`, are finished first if they are within `timeout`
        seconds for each service.
        """
        with self._lock:
            if self.state == "closed":
                return
            self.state = "closed"
            self._on_close(self)
            for batch in self._batches:
                batch.cancel()
            self._supervisor.end_all(timeout, hurry)
            self.runtime.shutdown()
            if self._asker is not None:
                self._asker.close()
            if self._sock is not None:
                self._sock.close()
            self._logs.detach()

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Deployment:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        counts = "".join(f", {n} {service}" for service, n in self.workers.items())
        return f"<Deployment {self.name}: {self.state} at {self.url or 'no port'}{counts}>"

    def _repr_html_(self) -> str:
        from dynlab.views.card import CardRow, CardTier, card_html  # noqa: PLC0415

        rows = [(i.service, CardRow.of(i, self.planes.discovery)) for i in self.instances]
        tiers = [
            CardTier(s.name, s.endpoints, s.dependencies, [row for of, row in rows if of is s])
            for s in reversed(self.graph.services)  # in the order of a request's way
        ]
        return card_html(self.name, self.state, self.url, router_name(self.router_mode), self.apis, tiers, self.traces)

    def start(self, timeout: float) -> None:
        """Start every instance; `serve` has done so. Whatever fails closes all that has begun."""
        self._logs.attach()
        try:
            self._supervisor.start_all(timeout)
        except BaseException:
            self.close()
            raise
        self.state = "running"

    def _open(self) -> Deployment:
        if self.state == "closed":
            raise DeploymentError(f"The deployment {self.name!r} is closed; run the cell with serve(...) again.")
        return self

    def _http(self) -> Asker:
        url = self._open().url
        if url is None:
            raise DeploymentError(
                f"{self.graph.entry.name} has no @api method, so nobody can ask it over HTTP. "
                "Use a client: await deployment.runtime.endpoint('namespace.component.endpoint').client()."
            )
        here = threading.current_thread().name
        if dynamo_context.get("deployment") is self and here in {i.thread.name for i in self.instances}:
            raise DeploymentError("A service asked its own deployment and would wait for itself; use depends().")
        with self._lock:
            if self._asker is None:
                from dynlab.serving.asking import Asker  # noqa: PLC0415 - httpx loads slowly

                self._asker = Asker(url, self.apis, self.traces)
            return self._asker
