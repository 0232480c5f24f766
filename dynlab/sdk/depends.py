"""`depends(Service)`: the edge of the graph in the class, and the caller of the other service in the instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dynlab.errors import DependencyError, UnknownEndpointError
from dynlab.protocols import EndpointId
from dynlab.runtime.base import Client
from dynlab.sdk.context import dynamo_context

if TYPE_CHECKING:
    from dynlab.sdk.service import DynamoService

__all__ = ("DependencyStream", "Depends", "DynamoClient", "depends")


class Depends:
    """A class attribute. On the class it is this edge; on an instance, the `DynamoClient` of the other service."""

    def __init__(self, on: DynamoService) -> None:
        self.on = on
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        client = DynamoClient(self.on)
        # A non-data descriptor: what is stored in the instance is found first from now on.
        vars(instance)[self.attribute] = client
        return client

    def __repr__(self) -> str:
        return f"depends({self.on.name})"


class DynamoClient:
    """Calls another service: `async for item in self.processor.mdgenerate(request)`.

    Each attribute is an endpoint of the service. A call goes to any of its instances, at random (so it was in
    every release of Dynamo that had `depends`), and yields the data of each item.
    """

    def __init__(self, service: DynamoService) -> None:
        self._service = service
        self.made: dict[str, Client] = {}

    def __getattr__(self, name: str) -> Callable[[Any], DependencyStream]:
        if name.startswith("__"):
            raise AttributeError(name)
        known = [spec.name for spec in self._service.endpoints]
        if name not in known:
            raise UnknownEndpointError(name, self._service.name, known)

        def call(request: Any) -> DependencyStream:
            return DependencyStream(self, name, request)

        vars(self)[name] = call  # found without this method from now on
        return call

    async def get_endpoint(self, name: str) -> Client:
        """Return the client of one endpoint, made on first use."""
        client = self.made.get(name)
        if client is None:
            endpoint = EndpointId(*self._service.dynamo_address(), name)
            path = f"{endpoint.namespace}.{endpoint.component}.{endpoint.name}"
            client = self.made[name] = await dynamo_context["runtime"].endpoint(path).client()
        return client

    def __repr__(self) -> str:
        return f"<DynamoClient of {self._service.name}: {', '.join(spec.name for spec in self._service.endpoints)}>"


class DependencyStream:
    """The items of one call, opened when the first is asked for."""

    __slots__ = ("_client", "_name", "_request", "_stream")

    def __init__(self, client: DynamoClient, name: str, request: Any) -> None:
        self._client, self._name, self._request = client, name, request
        self._stream: Any = None

    def __aiter__(self) -> DependencyStream:
        return self

    def __anext__(self) -> Any:
        return self._first() if self._stream is None else self._stream.__anext__()

    async def _first(self) -> Any:
        client = self._client.made.get(self._name) or await self._client.get_endpoint(self._name)
        self._stream = await client.generate(self._request, annotated=False)
        return await self._stream.__anext__()

    async def aclose(self) -> None:
        """Hang up; does nothing when the answer has ended or was never opened."""
        if self._stream is not None:
            await self._stream.aclose()

    def __await__(self) -> Any:
        raise TypeError(
            f"{self._name}(...) is a stream of items, not one value: write "
            f"`async for item in self.….{self._name}(request)`."
        )


def depends(on: Any) -> Any:
    """Say that a service calls another one, which is then started with it.

    Raises:
        DependencyError: if `on` is not a service.
    """
    if not getattr(on, "is_dynamo_service", False):
        what = f"the class {on.__name__}" if isinstance(on, type) else repr(on)
        raise DependencyError(
            f"depends() expects a class decorated with @service(), not {what}. "
            "Decorate it: @service(dynamo={'namespace': 'dynamo-demo'})."
        )
    return Depends(on)


def edges_of(cls: type) -> list[Depends]:
    """Return the dependencies of a class, those of base classes too."""
    found: dict[str, Depends] = {}
    for base in reversed(cls.__mro__):
        found.update({name: value for name, value in vars(base).items() if isinstance(value, Depends)})
    return list(found.values())
