"""`@service`: makes a class one tier of a graph (Dynamo 0.1-0.3: `dynamo.sdk.service`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dynlab.config import LAUNCHER_KEYS, ServiceConfig
from dynlab.errors import ConfigError, DependencyError, GraphError, did_you_mean, listed
from dynlab.sdk.depends import edges_of
from dynlab.sdk.endpoint import ApiSpec, EndpointSpec, HookSpec, specs_of

__all__ = ("DynamoService", "service")

DEFAULT_NAMESPACE = "default"
_DYNAMO_KEYS = ("enabled", "namespace", "name", "custom_lease", "component_type")


class DynamoService:
    """One tier: the class (`inner`), its name, where it is found, what it offers and on whom it depends.

    Calling it makes an instance of the class, without any runtime: handy for tests of one method.
    """

    is_dynamo_service = True
    sdk_2025 = False
    """True for one that was decorated with `dynamo.sdk` (`dynlab.sdk.legacy`): what the SDK let pass is let pass."""

    def __init__(
        self,
        inner: type,
        *,
        namespace: str,
        workers: int,
        config: type[BaseModel] | None,
        resources: Mapping[str, Any],
        extras: Mapping[str, Any],
    ) -> None:
        self.inner = _instantiable(inner)
        self.name = inner.__name__
        self.namespace = namespace
        self.workers = workers
        self.config_model = config
        self.resources = dict(resources)
        self.extras = dict(extras)
        self.links: list[DynamoService] = []
        self.linked_from = False
        specs = list(specs_of(inner))
        self.endpoints = [spec for spec in specs if isinstance(spec, EndpointSpec)]
        self.apis = [spec for spec in specs if isinstance(spec, ApiSpec)]
        self.hooks = [spec for spec in specs if isinstance(spec, HookSpec)]
        _require_distinct(self.name, "endpoint", [spec.name for spec in self.endpoints])
        _require_distinct(self.name, "API", [spec.name for spec in self.apis])
        self.dependencies: list[DynamoService] = list(dict.fromkeys(edge.on for edge in edges_of(inner)))
        self.__doc__ = inner.__doc__
        self.__module__ = inner.__module__
        self.__qualname__ = inner.__qualname__

    @property
    def wants_gpu(self) -> bool:
        """True if its `resources` ask for one: the router mode device-aware-weighted takes it at its word."""
        return str(self.resources.get("gpu", 0)) not in ("0", "")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def dynamo_address(self) -> tuple[str, str]:
        """Return `(namespace, name)`: where the instances of this service register."""
        return self.namespace, self.name

    def own_context(self, number: int) -> dict[str, Any]:
        """Return what `dynamo_context` holds of this service alone in its instance `number`, counted from 0."""
        return {"worker_id": number}

    def link(self, other: DynamoService) -> DynamoService:
        """Keep the edge from this service to `other` and return `other`, so that links chain.

        As soon as a service takes part in any link, only its linked dependencies are started with it: this is
        how one graph file is cut into the tiers that run on different machines.

        Raises:
            DependencyError: if `other` is not a service.
            GraphError: if the link closes a circle.
        """
        if not isinstance(other, DynamoService):
            raise DependencyError(
                f"{self.name}.link() expects a service, not {other!r}. Decorate the class: @service()"
            )
        if self in reachable(other):
            raise GraphError(
                f"{self.name}.link({other.name}) closes a circle: {other.name} already leads to {self.name}. "
                "Requests go one way; take one of the links out."
            )
        if other not in self.links:
            self.links.append(other)
        other.linked_from = True
        return other

    @property
    def started_with(self) -> list[DynamoService]:
        """The services that start together with this one: what is linked, or else all dependencies."""
        return list(self.links) if self.links or self.linked_from else list(self.dependencies)

    def check_config(self, config: ServiceConfig) -> None:
        """Hold this service's section against its model.

        Raises:
            ConfigError: for a key that the service does not read, or a value of the wrong kind.
        """
        if self.config_model is None:
            return
        section = config.for_service(self.name)
        known = list(self.config_model.model_fields)
        for key in section:
            if key not in known:
                raise ConfigError(
                    f"{self.name} reads no config key {key!r}; it reads {listed(known)}, and {listed(LAUNCHER_KEYS)} "
                    f"are read by the launcher.{did_you_mean(key, known)}"
                )
        try:
            self.config_model.model_validate(section)
        except ValidationError as exc:
            first = exc.errors()[0]
            key = ".".join(map(str, first["loc"]))
            said = first["msg"].removeprefix("Value error, ").rstrip(".")  # the sentence of an error of our own
            raise ConfigError(f"{self.name}.{key}={first['input']!r}: {said}.") from None

    def __repr__(self) -> str:
        return f"<DynamoService {self.namespace}/{self.name}>"


S = TypeVar("S", bound=DynamoService)


def service(
    cls: type | None = None,
    /,
    *,
    dynamo: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    workers: int = 1,
    config: type[BaseModel] | None = None,
    **extras: Any,
) -> Any:
    """Make a class a service; with or without brackets.

    Args:
        dynamo: `{"namespace": ...}` says where its instances register; Dynamo's other keys are accepted.
        resources: cpu, memory, gpu. Threads need none; "gpu" says what `device-aware-weighted` is to see.
        workers: instances to start, unless `serve()` or the configuration says otherwise.
        config: a pydantic model of the keys the service reads; with it, a misspelt key is refused at once.
        extras: `image=`, `app=`, `envs=` and what else Dynamo's decorator took; kept, without effect here.

    Raises:
        GraphError: if an argument or the class cannot be right.
    """
    make: Callable[[Any], DynamoService] = partial(
        build,
        DynamoService,
        dynamo=dynamo or {},
        resources=resources or {},
        workers=workers,
        config=config,
        extras=extras,
    )
    return make if cls is None else make(cls)


def build(
    kind: type[S],
    inner: Any,
    *,
    dynamo: Mapping[str, Any],
    resources: Mapping[str, Any],
    workers: int,
    config: type[BaseModel] | None,
    extras: Mapping[str, Any],
) -> S:
    """Make a service of a class, as `service` says, or refuse to."""
    if isinstance(inner, DynamoService):
        raise DependencyError(f"{inner.name} is a service already; @service() belongs on it once.")
    if not isinstance(inner, type):
        raise DependencyError(f"@service() belongs on a class, not on {inner!r}.")
    for key in dynamo:
        if key not in _DYNAMO_KEYS:
            raise ConfigError(
                f"@service(dynamo=...) of {inner.__name__} has no key {key!r}; it has {listed(_DYNAMO_KEYS)}."
                f"{did_you_mean(key, _DYNAMO_KEYS)}"
            )
    if type(workers) is not int or workers < 0:
        raise ConfigError(f"@service(workers={workers!r}) of {inner.__name__}: give a number of instances, 0 or more.")
    return kind(
        inner,
        namespace=dynamo.get("namespace") or DEFAULT_NAMESPACE,
        workers=workers,
        config=config,
        resources=resources,
        extras=extras,
    )


def _instantiable(cls: type) -> type:
    """The blog's `class Processor(Protocol)`: typing refuses to make instances of it, but not of a subclass."""
    if getattr(cls, "_is_protocol", False):
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})
    return cls


def _require_distinct(service_name: str, kind: str, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise GraphError(f"{service_name} has two {kind} methods named {twice!r}; give one another name=.")


def reachable(start: DynamoService) -> list[DynamoService]:
    """Return a service and all that it leads to, by any edge."""
    found = [start]
    for node in found:
        found.extend(n for n in [*node.links, *node.dependencies] if n not in found)
    return found
