"""What can go wrong, as a tree. Each sentence says what happened, the value, what exists, what to do.

DynlabError
  GraphError                 the graph is written wrongly; raised before a thread starts
    DependencyError          depends() or link() on something that is no service (also a TypeError)
    EndpointDefinitionError  an @dynamo_endpoint or @api method of the wrong shape (also a TypeError)
    UnknownEndpointError     a name that no endpoint has (also an AttributeError)
    OutsideServiceError      dynamo_context is read where it does not exist (also a KeyError)
    ConfigError              a service, key or value that nothing reads (also a ValueError)
  DeploymentError            a graph could not start, or is used after it was closed
    PortInUseError           another program listens there (also an OSError)
    RequestFailedError       the Frontend answered a request with an error
  TraceNotFoundError         no trace of that request is kept (also a LookupError)
  TraceFileError             a file that is no trace of dynlab (also a ValueError)
  RoutingError               no worker could be chosen
    NoInstancesError         nobody serves the endpoint now
    InstanceNotFoundError    a direct call to an id that is not there
    InstancesTimeoutError    too few instances came in time (also a TimeoutError)
    WorkerUnavailableError   the chosen worker does not answer (also a ConnectionError)
    PickError                a reader's pick function chose something that is no instance
  StreamError                a request broke off
    StreamIncompleteError    the worker died in the middle of its answer
    RequestCancelledError    the handler gave up although nobody asked it to
    PayloadError             a value that cannot travel between tiers (also a TypeError)
  KvError                    a KV cache or its index was told something that cannot be
    TokensError              token ids or a block size that are none (also a ValueError)
    CacheFullError           a prompt has more blocks than the cache has room
    KvEventError             an event about blocks that the index does not know (also a ValueError)
    ReservationError         a request that the KV router has not booked, or has (also a LookupError)
"""

from __future__ import annotations

import difflib
import linecache
import os
import traceback
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynlab.protocols import EndpointId

__all__ = (
    "CacheFullError",
    "ConfigError",
    "DependencyError",
    "DeploymentError",
    "DynlabError",
    "EndpointDefinitionError",
    "GraphError",
    "InstanceNotFoundError",
    "InstancesTimeoutError",
    "KvError",
    "KvEventError",
    "NoInstancesError",
    "OutsideServiceError",
    "PayloadError",
    "PickError",
    "PortInUseError",
    "RequestCancelledError",
    "RequestFailedError",
    "ReservationError",
    "RoutingError",
    "StreamError",
    "StreamIncompleteError",
    "TokensError",
    "TraceFileError",
    "TraceNotFoundError",
    "UnknownEndpointError",
    "WorkerUnavailableError",
    "did_you_mean",
    "listed",
)

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")  # ends in a slash: dynlab/, not dynlab-notes/


def listed(values: Iterable[object]) -> str:
    """Join what exists for a sentence: `7001, 7002`, or `none`."""
    return ", ".join(map(str, values)) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest known name, or nothing when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


class DynlabError(Exception):
    """The root: `except DynlabError` catches whatever dynlab itself raises."""

    def _render_traceback_(self) -> list[str]:
        """Tell IPython how to show this error: the sentence and the reader's own line, without dynlab's frames."""
        lines = [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]
        where = _readers_line(self.__traceback__)
        return [*lines, where] if where else lines


class GraphError(DynlabError):
    """The graph is written wrongly; raised before anything starts."""


class DependencyError(GraphError, TypeError):
    """`depends()` or `link()` was given something that is not a service."""


class EndpointDefinitionError(GraphError, TypeError):
    """A method marked as endpoint or API has a shape that cannot serve requests."""


class UnknownEndpointError(GraphError, AttributeError):
    """A service was asked for an endpoint that it does not have."""

    def __init__(self, endpoint: str, service: str, available: Sequence[str]) -> None:
        self.endpoint, self.service, self.available = endpoint, service, tuple(available)
        super().__init__(
            f"No Dynamo endpoint {endpoint!r} found on service {service!r}. "
            f"Available endpoints: {listed(available)}.{did_you_mean(endpoint, available)}"
        )


class OutsideServiceError(GraphError, KeyError):
    """`dynamo_context` was asked for what it does not hold, or outside of any service."""

    __str__ = Exception.__str__  # KeyError would show the sentence in quotes


class ConfigError(GraphError, ValueError):
    """The configuration names a service, a key or a value that nothing reads."""


class DeploymentError(DynlabError):
    """A graph could not start, or a deployment is used after it was closed."""


class PortInUseError(DeploymentError, OSError):
    """Another program already listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        super().__init__(
            f"Port {port} on {host} is taken by another program. "
            f"Use serve(..., port=0) for a free one, or close what listens there and run the cell again."
        )


class RequestFailedError(DeploymentError):
    """The Frontend answered with an error; `items` holds what had arrived before it."""

    def __init__(self, status: int, message: str, items: Sequence[str] = ()) -> None:
        self.status, self.message, self.items = status, message, tuple(items)
        came = f" after {len(items)} item(s)" if items else ""
        super().__init__(f"The Frontend answered HTTP {status}{came}: {message}")


class TraceNotFoundError(DynlabError, LookupError):
    """No trace of that request is kept: it was never sent, or is older than the log is long."""

    def __init__(self, request_id: object, known: Sequence[str], kept: int) -> None:
        self.request_id = request_id
        newest = listed(repr(k) for k in known[-3:])
        super().__init__(
            f"No trace of request {request_id!r}; {kept} are kept, the newest: {newest}."
            f"{did_you_mean(str(request_id), known)}"
        )


class TraceFileError(DynlabError, ValueError):
    """A file does not hold traces that dynlab wrote."""


class RoutingError(DynlabError):
    """No worker could be chosen for a request."""


class NoInstancesError(RoutingError):
    """Nobody serves the endpoint, or everybody who does was just found dead."""

    def __init__(self, endpoint: EndpointId, inhibited: Sequence[int] = ()) -> None:
        self.endpoint, self.inhibited = endpoint, tuple(inhibited)
        why = (
            f"instances {listed(inhibited)} failed a moment ago and are skipped for a while"
            if inhibited
            else "no instance has registered"
        )
        super().__init__(f"No workers available for endpoint {endpoint}: {why}. Start or revive one with scale().")


class InstanceNotFoundError(RoutingError):
    """A request names an instance that does not serve the endpoint."""

    def __init__(self, endpoint: EndpointId, instance_id: int, available: Sequence[int]) -> None:
        self.endpoint, self.instance_id, self.available = endpoint, instance_id, tuple(available)
        super().__init__(
            f"instance_id={instance_id} not found for endpoint {endpoint}; available: {listed(available)}."
        )


class InstancesTimeoutError(RoutingError, TimeoutError):
    """Fewer instances than asked for appeared in time."""

    def __init__(self, endpoint: EndpointId, found: int, at_least: int, timeout: float, hint: str = "") -> None:
        self.endpoint, self.found, self.at_least, self.timeout = endpoint, found, at_least, timeout
        super().__init__(
            f"Only {found} of {at_least} instances of {endpoint} appeared within {timeout:g} s."
            f"{hint or ' Start more workers, or ask for fewer.'}"
        )


class WorkerUnavailableError(RoutingError, ConnectionError):
    """The chosen worker does not answer: its process, here its thread, is gone. None: the engine did not say which."""

    def __init__(self, endpoint: EndpointId, instance_id: int | None) -> None:
        self.endpoint, self.instance_id = endpoint, instance_id
        super().__init__(
            f"Connection to instance_id={instance_id or '?'} of endpoint {endpoint} failed: the worker is dead. "
            "It is skipped for a while; send again, or serve with migration_limit=1 to have that done for you."
        )


class PickError(RoutingError):
    """A reader's pick function chose something that is no instance of the endpoint."""

    def __init__(self, picked: object, available: Sequence[int]) -> None:
        self.picked, self.available = picked, tuple(available)
        super().__init__(
            f"The pick function returned {picked!r} ({type(picked).__name__}); it must return one of the "
            f"instances it was given: {listed(available)}. Is a `return` missing?"
        )


class StreamError(DynlabError):
    """A request broke off between tiers."""


class StreamIncompleteError(StreamError):
    """The worker died while it was answering."""

    def __init__(self, endpoint: EndpointId, instance_id: int, items: int) -> None:
        self.endpoint, self.instance_id, self.items = endpoint, instance_id, items
        super().__init__(
            f"Stream from instance_id={instance_id} of endpoint {endpoint} ended after {items} item(s) "
            "because the worker died or was closed. Send the request again."
        )


class RequestCancelledError(StreamError):
    """The handler was cancelled although its caller still listens."""

    def __init__(self, endpoint: EndpointId, instance_id: int) -> None:
        self.endpoint, self.instance_id = endpoint, instance_id
        super().__init__(f"The handler of {endpoint} on instance_id={instance_id} cancelled itself. Send again.")


class PayloadError(StreamError, TypeError):
    """A value that cannot travel between tiers."""

    def __init__(self, value: object, cause: object) -> None:
        self.value = value
        hint = " Send str, int, float, bool, None, bytes, or lists and dicts of them."
        if hasattr(value, "model_dump_json"):
            hint = " Send `.model_dump()` or `.model_dump_json()` of it."
        elif isinstance(value, int):
            hint = " Send a longer one as str."
        super().__init__(f"A {type(value).__name__} cannot travel between tiers: {cause}.{hint}")


class KvError(DynlabError):
    """A KV cache or its index was told something that cannot be."""


class TokensError(KvError, ValueError):
    """Token ids or a block size that are none."""


class CacheFullError(KvError):
    """A prompt has more blocks than the cache can make room for."""


class KvEventError(KvError, ValueError):
    """An event names a block that the index does not know at that worker."""


class ReservationError(KvError, LookupError):
    """The KV router was told about a request that it has not booked, or was to book one twice."""


def _readers_line(tb: TracebackType | None) -> str:
    """Find the innermost line outside dynlab and the standard machinery: what the reader wrote."""
    found = ""
    for frame, lineno in traceback.walk_tb(tb):
        filename = frame.f_code.co_filename
        own = filename.startswith(_PACKAGE) and "hello_world" not in filename
        if not own and "site-packages" not in filename and "/lib/python" not in filename:
            line = linecache.getline(filename, lineno, frame.f_globals).strip()
            if line:
                found = f"  line {lineno}, in {frame.f_code.co_name}: {line}"
    return found
