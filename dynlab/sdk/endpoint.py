"""What a service offers: `@dynamo_endpoint` to other services, `@api` over HTTP, and the hooks around its life."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from dynlab.errors import EndpointDefinitionError
from dynlab.runtime.context import Context
from dynlab.runtime.request_plane import Handler

__all__ = (
    "ApiSpec",
    "EndpointSpec",
    "api",
    "async_on_start",
    "dynamo_endpoint",
    "endpoint",
    "on_shutdown",
    "specs_of",
)

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__dynlab_spec__"


@dataclass(frozen=True)
class EndpointSpec:
    """A method that other services may call: its endpoint name, and the method's own."""

    name: str
    attribute: str


@dataclass(frozen=True)
class ApiSpec:
    """A method that is reached over HTTP: `POST /name`.

    `dialect` says how bodies and answers look on the wire: as in Dynamo "0.1" (BentoML) or "0.3" (FastAPI), or
    dynlab's own.
    """

    name: str
    attribute: str
    dialect: str = ""


@dataclass(frozen=True)
class HookSpec:
    """A method to be run once, when the service starts or shuts down, or whenever it is asked for its health."""

    when: str
    attribute: str


@overload
def dynamo_endpoint(function: F, /) -> F: ...
@overload
def dynamo_endpoint(function: None = None, /, *, name: str | None = None) -> Callable[[F], F]: ...
def dynamo_endpoint(function: Any = None, /, *, name: str | None = None) -> Any:
    """Let other services call this method; with or without brackets. `name` defaults to the method's.

    The method is an async generator: each `yield` is one item of the answer. When its request is annotated
    with a pydantic model, a str is parsed as JSON and a dict is validated.

    Raises:
        EndpointDefinitionError: if the method is no async generator, or takes no request.
    """

    def mark(method: Any) -> Any:
        require_named_method("@dynamo_endpoint()", method)
        if not inspect.isasyncgenfunction(method):
            raise EndpointDefinitionError(
                f"@dynamo_endpoint() on {method.__qualname__}: it is no async generator; an endpoint streams its "
                "answer. Write `async def` and `yield` at least one item."
            )
        if len(inspect.signature(method).parameters) < 2:
            raise EndpointDefinitionError(
                f"@dynamo_endpoint() on {method.__qualname__}: it takes no request. "
                f"Write `async def {method.__name__}(self, request)`."
            )
        setattr(method, MARK, EndpointSpec(name or method.__name__, method.__name__))
        return method

    return mark if function is None else mark(function)


endpoint = dynamo_endpoint
"""The spelling of Dynamo 0.3."""


@overload
def api(function: F, /) -> F: ...
@overload
def api(function: None = None, /, *, name: str | None = None) -> Callable[[F], F]: ...
def api(function: Any = None, /, *, name: str | None = None) -> Any:
    """Serve this method as `POST /name`; with or without brackets. Its arguments are the keys of the JSON body.

    Raises:
        EndpointDefinitionError: if the method is not `async def`, or has arguments that no key can name.
    """

    def mark(method: Any) -> Any:
        require_named_method("@api", method)
        if not (inspect.isasyncgenfunction(method) or inspect.iscoroutinefunction(method)):
            raise EndpointDefinitionError(f"@api on {method.__qualname__}: write `async def`, best with `yield`.")
        odd = [p.name for p in _arguments(method) if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
        if odd:
            raise EndpointDefinitionError(
                f"@api on {method.__qualname__}: {', '.join(odd)} cannot be a key of a JSON body; "
                "name each argument, as in `fegenerate(self, prompt, request_id)`."
            )
        setattr(method, MARK, ApiSpec(name or method.__name__, method.__name__))
        return method

    return mark if function is None else mark(function)


def async_on_start(method: F) -> F:
    """Run this method once before the service serves; sync or async; several run in the order they are written."""
    require_named_method("@async_on_start", method)
    setattr(method, MARK, HookSpec("start", method.__name__))
    return method


def on_shutdown(method: F) -> F:
    """Run this method once when the service shuts down in order; not when it is killed."""
    require_named_method("@on_shutdown", method)
    setattr(method, MARK, HookSpec("shutdown", method.__name__))
    return method


def specs_of(cls: type) -> Iterator[EndpointSpec | ApiSpec | HookSpec]:
    """Yield what the methods of a class are marked as, base classes first, in the order they are written."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            spec = getattr(value, MARK, None) if callable(value) else None
            if spec is not None:
                found[attribute] = spec
            elif attribute in found and not callable(value):
                del found[attribute]
    yield from found.values()


def bind(method: Callable[..., AsyncGenerator[Any, None]]) -> Handler:
    """Make a bound endpoint method a handler: it parses the request and passes the context where it is taken."""
    arguments = list(inspect.signature(method).parameters.values())
    model = _request_model(method, arguments[0].name)
    takes_context = len(arguments) > 1 and (arguments[1].name == "context" or _required(arguments[1]))

    def handler(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        if model is not None:
            request = _parse(model, request)
        return method(request, context) if takes_context else method(request)

    return handler


def arguments_of(method: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return a method's arguments without `self`, with their annotations resolved."""
    hints = _hints(method, include_extras=True)
    return [p.replace(annotation=hints.get(p.name, p.empty)) for p in _arguments(method)]


def _arguments(method: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(method).parameters.values() if p.name != "self"]


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind == parameter.POSITIONAL_OR_KEYWORD


def _request_model(method: Callable[..., Any], argument: str) -> type[BaseModel] | None:
    annotation = _hints(method).get(argument)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _hints(method: Callable[..., Any], *, include_extras: bool = False) -> dict[str, Any]:
    """Resolve annotations, which are strings under `from __future__ import annotations`."""
    try:
        return typing.get_type_hints(method, include_extras=include_extras)
    except (NameError, AttributeError, TypeError) as exc:
        raise EndpointDefinitionError(
            f"An annotation of {method.__qualname__} cannot be resolved: {exc}. Import the name at the top of the file."
        ) from None


_TEXT = (str, bytes)


def _parse(model: type[BaseModel], request: Any) -> BaseModel:
    """Read a request as Dynamo does: JSON text or a dict; anything else is the caller's mistake."""
    if isinstance(request, _TEXT):
        return model.model_validate_json(request)
    if isinstance(request, dict):
        return model.model_validate(request)
    raise ValueError(
        f"Invalid request: {request!r} is {type(request).__name__}; send a {model.__name__} as "
        "`.model_dump_json()` or `.model_dump()`."
    )


def require_named_method(decorator: str, method: Any) -> None:
    """Refuse to mark what is no function."""
    if not inspect.isfunction(method):
        raise EndpointDefinitionError(f"{decorator} belongs on a method of a service, not on {method!r}.")
