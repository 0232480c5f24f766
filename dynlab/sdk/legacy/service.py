"""`@service`, `depends` and `link` as the SDK of 2025 had them, on top of dynlab's own."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dynlab.errors import GraphError, listed
from dynlab.sdk import depends as plain
from dynlab.sdk.context import dynamo_context
from dynlab.sdk.legacy.endpoint import abstract_names, is_of_0_3
from dynlab.sdk.service import DynamoService, build

__all__ = (
    "DYNAMO_IMAGE",
    "AbstractService",
    "LegacyService",
    "LinkError",
    "default_port",
    "depends",
    "server_context",
    "service",
)

DYNAMO_IMAGE = os.environ.get("DYNAMO_IMAGE", "dynamo:latest-vllm")
"""What `@service(image=...)` was given; it mattered to `dynamo build` alone."""


class LinkError(GraphError, ValueError):
    """A link that no dependency asks for, or more than one (0.3)."""


class AbstractService(ABC):  # noqa: B024 - the endpoints that are abstract are those of the interfaces
    """The base of interfaces: classes that say which endpoints a dependency has, and not who serves them (0.3)."""


class LegacyService(DynamoService):
    """A service of a graph file of 2025. `interface` is true for one that others have to implement."""

    sdk_2025 = True

    def __init__(self, inner: type, **arguments: Any) -> None:
        required = abstract_names(inner)
        self.interface = any(required.values())
        super().__init__(inner, **arguments)
        if not self.interface:
            self._require(required)

    def _require(self, required: Mapping[str, bool]) -> None:
        offered = [spec.attribute for spec in self.endpoints]
        wrong = [name for name in required if not callable(getattr(self.inner, name))]
        bare = [name for name in required if name not in [*offered, *wrong]]
        inherited = [name for name in bare if name not in vars(self.inner)]
        undecorated = [name for name in bare if name not in inherited]
        problems = [
            f"missing implementation(s): {listed(inherited)}" if inherited else "",
            f"method(s) not decorated with @endpoint: {listed(undecorated)}" if undecorated else "",
            *(f"{name} must be callable, got {type(getattr(self.inner, name)).__name__}" for name in wrong),
        ]
        if any(problems):
            raise InterfaceError(f"{self.name} violates Dynamo interface: {'; '.join(filter(None, problems))}.")

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """Let a class inherit from a service: it inherits from its class."""
        return (self.inner,)

    @property
    def started_with(self) -> list[DynamoService]:
        """The services that start together with this one; an interface cannot start."""
        if self.interface:
            raise GraphError(
                f"{self.name} is an interface, and no service is linked to implement it. "
                f"Say which: Caller.link(Implementation), where Implementation inherits from {self.name}."
            )
        return super().started_with

    def own_context(self, number: int) -> dict[str, Any]:
        """Return the keys that were otherwise then: workers were counted from 1."""
        return {"worker_id": number + 1, "runner_map": "{}"}

    def link(self, other: DynamoService) -> DynamoService:
        """Keep the edge from this service to `other`, which takes the place of the interface it implements.

        Raises:
            LinkError: in a graph of 0.3, if `other` is and inherits from none of the dependencies, or several.
            DependencyError: if `other` is not a service.
            GraphError: if the link closes a circle.
        """
        if isinstance(other, DynamoService):
            edges = [edge for edge in plain.edges_of(self.inner) if issubclass(other.inner, edge.on.inner)]
            if len(edges) != 1 and (is_of_0_3(self.inner) or is_of_0_3(other.inner)):
                self._refuse(other, edges)
            for edge in edges[:1]:
                self.dependencies[self.dependencies.index(edge.on)] = other
                edge.on = other
        return super().link(other)

    def _refuse(self, other: DynamoService, edges: list[plain.Depends]) -> None:
        if edges:
            names = listed(edge.attribute for edge in edges)
            raise LinkError(f"{other.name} fulfills multiple dependencies required by {self.name}: {names}.")
        known = listed(found.name for found in self.dependencies)
        raise LinkError(
            f"{other.name} does not fulfill any dependencies required by {self.name}, which depends on {known}. "
            f"Add depends({other.name}) to {self.name}, or take the link out."
        )


class InterfaceError(GraphError, TypeError):
    """A service does not offer what its interface requires (0.3)."""


def service(
    inner: Any = None,
    /,
    *,
    dynamo: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    workers: int | str = 1,
    **extras: Any,
) -> Any:
    """Make a class a service; see `dynlab.service`. `workers="cpu_count"` is one for each core (0.1.1)."""
    make: Callable[[Any], LegacyService] = partial(
        build,
        LegacyService,
        dynamo=dynamo or {},
        resources=resources or {},
        workers=(os.cpu_count() or 1) if workers == "cpu_count" else workers,  # type: ignore[arg-type]
        config=None,
        extras=extras,
    )
    return make if inner is None else make(inner)


def depends(on: Any = None, **_: Any) -> Any:
    """Say that a service calls another one, or one that implements an interface; see `dynlab.depends`."""
    if isinstance(on, type) and issubclass(on, AbstractService):
        on = service()(on)
    return plain.depends(on)


class ServerContext:
    """`server_context`: BentoML's names for what `dynamo_context` says (until 0.2)."""

    @property
    def service_name(self) -> str:
        return str(dynamo_context["service_name"])

    @property
    def worker_index(self) -> int:
        """Which of its service's workers this is, from 1."""
        return int(dynamo_context["worker_id"])


server_context = ServerContext()


def default_port(entry: DynamoService) -> int:
    """Return where Dynamo served this HTTP front: 3000 in 0.1, 8000 later, or what the environment says."""
    dialects = {spec.dialect for spec in entry.apis}
    variable, port = ("DYNAMO_PORT", 8000) if "0.3" in dialects else ("BENTOML_PORT", 3000)
    given = os.environ.get(variable, "") if entry.sdk_2025 else ""
    return int(given) if given.isdigit() else port
