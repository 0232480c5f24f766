"""The marks on methods as the SDK of 2025 spelled them, release by release."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, TypeVar

from dynlab.sdk import endpoint as plain
from dynlab.sdk.endpoint import ApiSpec, HookSpec

__all__ = (
    "DynamoTransport",
    "abstract_endpoint",
    "abstract_names",
    "api",
    "dynamo_api",
    "dynamo_endpoint",
    "endpoint",
    "is_of_0_3",
    "liveness",
    "readiness",
)

F = TypeVar("F", bound=Callable[..., Any])
_ABSTRACT = "__dynlab_abstract__"
_OF_0_3 = "__dynlab_of_0_3__"


class DynamoTransport(Enum):
    """How an endpoint is reached (0.2.1 and later): by other services, or over HTTP."""

    DEFAULT = auto()
    HTTP = auto()


def dynamo_endpoint(function: Any = None, /, *, name: str | None = None, is_api: bool = False) -> Any:
    """Mark an endpoint (until 0.2.1); with `is_api=True`, one that is reached over HTTP (0.2.0)."""
    if isinstance(function, str):  # the name was a positional argument then
        function, name = None, function
    return _decorator(function, lambda method: _mark_api(method, name) if is_api else _mark(method, name))


def dynamo_api(function: Any = None, /, *, name: str | None = None, **_: Any) -> Any:
    """Mark a method that is reached over HTTP (0.2.1)."""
    return api(function, name=name)


def endpoint(
    function: Any = None, /, *, name: str | None = None, transports: Sequence[DynamoTransport] = (), **_: Any
) -> Any:
    """Mark an endpoint (0.3)."""
    if isinstance(function, str):
        function, name = None, function
    http = DynamoTransport.HTTP in transports
    return _decorator(function, lambda method: _of_0_3(_mark_api(method, name) if http else _mark(method, name)))


def api(function: Any = None, /, *, name: str | None = None, **_: Any) -> Any:
    """Mark a method that is reached over HTTP: `@api` of 0.1, where its arguments are keys, or `@api()` of 0.3.

    In brackets it is 0.3's, unless the method is an async generator: with those 0.3 answered 500.
    """
    if isinstance(function, str):
        function, name = None, function
    bare = function is not None
    return _decorator(function, lambda method: _mark_api(method, name, bare=bare))


def abstract_endpoint(function: F) -> F:
    """Mark a method of an interface, an `AbstractService`, that each service which implements it must offer (0.3)."""
    setattr(function, _ABSTRACT, True)
    return abstractmethod(function)


def liveness(function: F) -> F:
    """Ask this method, sync or async, on `GET /healthz`: 200 if it returns something true, else 503 (0.3)."""
    return _probe(function, "liveness")


def readiness(function: F) -> F:
    """Ask this method, sync or async, on `GET /readyz`: 200 if it returns something true, else 503 (0.3)."""
    return _probe(function, "readiness")


def abstract_names(cls: type) -> dict[str, bool]:
    """Return the endpoints that the interfaces of a class require, and whether the class itself declares each."""
    return {
        name: base is cls
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if getattr(value, _ABSTRACT, False)
    }


def is_of_0_3(cls: type) -> bool:
    """True if a mark of the class was made in a way that only 0.3 knew."""
    return any(
        getattr(value, _OF_0_3, False) or getattr(value, _ABSTRACT, False)
        for base in cls.__mro__
        for value in vars(base).values()
    )


def _decorator(function: Any, mark: Callable[[Any], Any]) -> Any:
    return mark if function is None else mark(function)


def _mark(method: Any, name: str | None) -> Any:
    return plain.dynamo_endpoint(name=name)(method)


def _mark_api(method: Any, name: str | None, *, bare: bool = False) -> Any:
    marked = plain.api(name=(name or "").lstrip("/") or None)(method)
    spec: ApiSpec = getattr(marked, plain.MARK)
    bento = bare or inspect.isasyncgenfunction(method)
    setattr(marked, plain.MARK, ApiSpec(spec.name, spec.attribute, "0.1" if bento else "0.3"))
    return marked


def _of_0_3(method: Any) -> Any:
    setattr(method, _OF_0_3, True)
    return method


def _probe(method: F, kind: str) -> F:
    plain.require_named_method(f"@{kind}", method)
    marked = getattr(method, plain.MARK, None)
    both = f"{marked.when} {kind}" if isinstance(marked, HookSpec) else kind
    setattr(method, plain.MARK, HookSpec(both, method.__name__))
    return _of_0_3(method)  # type: ignore[no-any-return]
