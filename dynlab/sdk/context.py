"""`dynamo_context`: what a service may ask about itself while it runs (Dynamo 0.1-0.3: a dict per process)."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any

from dynlab.errors import OutsideServiceError, did_you_mean, listed

__all__ = ("DynamoContext", "dynamo_context")

_values: ContextVar[dict[str, Any] | None] = ContextVar("dynlab_dynamo_context", default=None)


class DynamoContext(MutableMapping[str, Any]):
    """A dict that is another one in every instance: in Dynamo a service is a process, here it is a thread.

    Keys: `runtime`, `component`, `endpoints`, `service_name`, `namespace`, `worker_id` (from 0 here, from 1 in
    Dynamo) and `hostname`, which is the instance's name, as if each thread were a machine of its own.
    """

    def __getitem__(self, key: str) -> Any:
        values = _values.get()
        if values is None:
            raise OutsideServiceError(
                f"dynamo_context[{key!r}] exists only inside a running service: in a handler, an @async_on_start "
                "hook or __init__. In a cell, use deployment.runtime."
            )
        if key not in values:
            raise OutsideServiceError(
                f"dynamo_context has no {key!r}; it has {listed(sorted(values))}.{did_you_mean(key, values)}"
            )
        return values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._own()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._own()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_values.get() or {})

    def __len__(self) -> int:
        return len(_values.get() or {})

    def __contains__(self, key: object) -> bool:
        return key in (_values.get() or {})

    def enter(self, **values: Any) -> None:
        """Begin an instance's own context; tasks that it starts inherit it."""
        _values.set(values)

    def _own(self) -> dict[str, Any]:
        values = _values.get()
        if values is None:
            values = {}
            _values.set(values)
        return values

    def __repr__(self) -> str:
        return f"dynamo_context({_values.get() or 'outside of a service'})"


dynamo_context = DynamoContext()
