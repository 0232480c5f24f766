"""What every runtime offers, so that one graph runs on threads or on the real engine (Dynamo: `dynamo.runtime`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from dynlab.protocols import EndpointId
from dynlab.routing.modes import RouterSpec
from dynlab.runtime.context import Context
from dynlab.runtime.reply import ResponseStream

__all__ = ("Client", "Component", "Endpoint", "Namespace", "Runtime")


class Client(Protocol):
    """Sends requests to the instances of one endpoint. Lives on the loop that made it."""

    def instance_ids(self) -> list[int]:
        """Return the ids of the instances that are listed now."""

    async def wait_for_instances(self, at_least: int = 1, timeout: float | None = None) -> list[int]:
        """Wait until that many instances are listed, and return their ids."""

    async def direct(
        self, request: Any, instance_id: int, annotated: bool = True, context: Context | None = None
    ) -> ResponseStream:
        """Send to one instance."""

    async def random(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to any instance."""

    async def round_robin(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to the next instance in turn."""

    async def generate(self, request: Any, annotated: bool = True, context: Context | None = None) -> ResponseStream:
        """Send to any instance: in Dynamo's Python client this is `random`, whatever the router mode."""


class Endpoint(Protocol):
    """One name under which a component answers."""

    endpoint_id: EndpointId

    async def client(self, router_mode: RouterSpec | None = None) -> Client:
        """Make a client on the running loop."""

    def serve_endpoint(self, handler: Callable[..., Any]) -> Awaitable[None]:
        """List this instance and answer with `handler`; the result is done when the runtime shuts down."""


class Component(Protocol):
    """One tier: the endpoints that its instances serve."""

    def endpoint(self, name: str) -> Endpoint:
        """Address one of its endpoints."""


class Namespace(Protocol):
    """What keeps two graphs apart."""

    def component(self, name: str) -> Component:
        """Address one of its components."""


class Runtime(Protocol):
    """One instance's connection to the planes."""

    def namespace(self, name: str) -> Namespace:
        """Address a namespace (2025; 1.6.1 has only `endpoint`)."""

    def endpoint(self, path: str) -> Endpoint:
        """Address an endpoint by `namespace.component.endpoint`."""

    def shutdown(self) -> None:
        """Leave the planes: no longer listed, no longer answering."""
