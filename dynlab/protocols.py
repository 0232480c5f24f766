"""The words that travel between the rooms (Dynamo: `dynamo.runtime`, and the examples' `utils.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgpack
from pydantic import BaseModel

from dynlab.errors import PayloadError

__all__ = (
    "Annotated",
    "Candidate",
    "EndpointId",
    "Envelope",
    "GeneralRequest",
    "GeneralResponse",
    "Instance",
    "Packed",
    "RoutingDecision",
    "Wire",
    "from_wire",
    "to_wire",
)


class GeneralRequest(BaseModel):
    """What the Frontend asks the Processor, and the Processor a worker (examples/multinode, `utils.py`)."""

    prompt: str = "user input"
    request_id: str = "id_string"


class GeneralResponse(BaseModel):
    """What a worker answers (examples/multinode, `utils.py`)."""

    worker_output: str = "generated output"
    request_id: str = "id_string"


@dataclass(frozen=True, slots=True)
class EndpointId:
    """The address of an endpoint, written `namespace.component.endpoint` in code and `ns/comp/ep` in messages."""

    namespace: str
    component: str
    name: str

    @classmethod
    def parse(cls, path: str) -> EndpointId:
        """Read `ns.comp.ep` or `dyn://ns.comp.ep`.

        Raises:
            ValueError: unless there are exactly three parts, none of them empty.
        """
        parts = path.removeprefix("dyn://").split(".")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{path!r} is no endpoint path; write namespace.component.endpoint, three parts.")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.component}/{self.name}"


class Instance:
    """One worker that serves an endpoint, as a picker sees it.

    `active_requests` counts the requests in flight that *this runtime* sent there: +1 when picked,
    -1 when the answer ends or is dropped (Dynamo counts the same way, per process and endpoint).
    `device` is what it computes on: "cpu", or the name of an accelerator.
    """

    __slots__ = ("active_requests", "device", "endpoint", "instance_id", "worker")

    def __init__(
        self, endpoint: EndpointId, instance_id: int, worker: str, active_requests: int = 0, device: str = "cpu"
    ) -> None:
        self.endpoint = endpoint
        self.instance_id = instance_id
        self.worker = worker  # "DummyWorker-2": the service's name and its number, as its thread is named
        self.active_requests = active_requests
        self.device = device

    def __repr__(self) -> str:
        return f"<Instance {self.instance_id} {self.worker}: {self.active_requests} active>"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One instance at the moment of a pick: its load in requests, and whether it could be chosen."""

    instance_id: int
    worker: str
    active_requests: int
    eligible: bool = True


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Who was chosen, among whom, by which rule. `detail` holds what the rule looked at."""

    mode: str
    instance_id: int
    candidates: tuple[Candidate, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chosen(self) -> Candidate:
        return next(c for c in self.candidates if c.instance_id == self.instance_id)


class Packed(bytes):
    """A dict or list as MessagePack, Dynamo's wire format: packed once, unpacked only where a handler looks."""


Wire: TypeAlias = str | int | float | bool | bytes | Packed | None
_PLAIN = frozenset((str, int, float, bool, bytes, type(None)))
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # MessagePack has no longer ones


def _listable(value: object) -> list[Any]:
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, int):  # it has come here because MessagePack has no form for it
        raise TypeError(f"an integer of {value.bit_length()} bits is outside of -2**63 to 2**64 - 1")
    raise TypeError(f"unsupported type {type(value).__name__}")


def to_wire(value: Any) -> Wire:
    """Make a value safe to hand to another thread; what cannot change travels as it is.

    Raises:
        PayloadError: for objects that MessagePack has no form for (as in Dynamo: pydantic models too).
    """
    kind = type(value)
    if kind in _PLAIN and (kind is not int or _MIN_INT <= value <= _MAX_INT):
        return value  # type: ignore[no-any-return]
    try:
        return Packed(msgpack.packb(value, default=_listable))
    except (TypeError, ValueError, OverflowError) as exc:
        raise PayloadError(value, exc) from None


def from_wire(wire: Wire) -> Any:
    """Read what `to_wire` made; tuples and sets have become lists."""
    return msgpack.unpackb(wire, strict_map_key=False) if type(wire) is Packed else wire


class Envelope:
    """A request on its way to an endpoint: what a picker may look at."""

    __slots__ = ("endpoint", "request_id", "wire")

    def __init__(self, endpoint: EndpointId, request_id: str, wire: Wire) -> None:
        self.endpoint, self.request_id, self.wire = endpoint, request_id, wire

    @property
    def data(self) -> Any:
        """The request as the handler will get it, before it is parsed into a model."""
        return from_wire(self.wire)


class Annotated:
    """One item of an answer, as Dynamo's clients yield it: call `.data()`."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def data(self) -> Any:
        return from_wire(self._wire)

    def id(self) -> str | None:
        return None

    def event(self) -> str | None:
        return None

    def comments(self) -> list[str] | None:
        return None

    def is_error(self) -> bool:
        """Always False: errors are raised by the stream, they are not items."""
        return False

    def __repr__(self) -> str:
        return f"Annotated({self.data()!r})"
