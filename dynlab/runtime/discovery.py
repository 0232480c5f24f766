"""Discovery plane: which instances serve an endpoint right now (Dynamo keeps this in etcd or in files).

An instance lives as long as its lease. A clean shutdown revokes the lease at once; a worker that dies just
stops renewing it, so for up to `ttl_s` everybody still believes in it - as in Dynamo.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynlab.clock import Clock, WallClock
from dynlab.protocols import EndpointId
from dynlab.runtime.loops import Mailbox

if TYPE_CHECKING:
    from dynlab.runtime.request_plane import EndpointServer

__all__ = ("Discovery", "Lease", "Registration")

FIRST_ID = 7001
"""Instance ids start here, so that a reader can say them aloud; Dynamo's are random or etcd's."""
LEASE_TTL_S = 10.0
"""Dynamo's default for file and etcd discovery (`ETCD_LEASE_TTL`)."""


@dataclass(eq=False, slots=True)
class Lease:
    """The right of one instance to be listed. `lease_id` is the instance id, as in Dynamo."""

    lease_id: int
    expires_at: float | None = None  # None while its owner is alive and renews it


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """One instance of one endpoint: where its requests go; no `server` if it lives in another process."""

    endpoint: EndpointId
    lease: Lease
    worker: str
    server: EndpointServer | None = field(repr=False)
    device: str = "cpu"

    @property
    def instance_id(self) -> int:
        return self.lease.lease_id


class Discovery:
    """The table of instances. Any thread may use it; everything happens under one lock.

    `version` grows with every change, so that a client can keep its own copy while nothing changes.
    """

    def __init__(self, *, ttl_s: float = LEASE_TTL_S, clock: Clock | None = None) -> None:
        self.ttl_s = ttl_s
        self.clock: Clock = clock or WallClock()
        self.version = 0
        self._lock = threading.Lock()
        self._ids = itertools.count(FIRST_ID)
        self._table: dict[EndpointId, dict[int, Registration]] = {}
        self.is_lapsing = False  # a lease will run out: then `version` alone does not tell that nothing changed
        self._lapsing: list[Lease] = []
        self._watchers: dict[object, tuple[Mailbox, Callable[[], None]]] = {}

    def grant(self, lease_id: int | None = None) -> Lease:
        """Give a new instance its lease, with the next number, or with one that others gave it."""
        return Lease(next(self._ids) if lease_id is None else lease_id)

    def register(
        self, endpoint: EndpointId, lease: Lease, worker: str, server: EndpointServer | None, device: str = "cpu"
    ) -> Registration:
        """List an instance; a second registration under the same lease replaces the first."""
        registration = Registration(endpoint, lease, worker, server, device)
        with self._lock:
            self._table.setdefault(endpoint, {})[lease.lease_id] = registration
            self._changed()
        return registration

    def unregister(self, registration: Registration) -> None:
        """Take one endpoint of an instance off the list."""
        with self._lock:
            self._remove(lambda listed: listed is registration)

    def revoke(self, lease: Lease) -> None:
        """Take an instance off the list at once: it said goodbye."""
        with self._lock:
            self._remove(lambda listed: listed.lease is lease)

    def lapse(self, lease: Lease) -> None:
        """Stop renewing a lease: the instance is gone, and the list finds out after `ttl_s` seconds."""
        with self._lock:
            if lease.expires_at is None:
                lease.expires_at = self.clock.now() + self.ttl_s
                self._lapsing.append(lease)
                self.is_lapsing = True
                self._notify()  # nothing has changed yet, but watchers must know when it will

    def instances(self, endpoint: EndpointId) -> list[Registration]:
        """Return who serves the endpoint, sorted by id."""
        with self._lock:
            self._expire()
            found = self._table.get(endpoint, {})
            return [found[instance_id] for instance_id in sorted(found)]

    def endpoints(self) -> list[EndpointId]:
        """Return every endpoint that has an instance."""
        with self._lock:
            self._expire()
            return [endpoint for endpoint, found in self._table.items() if found]

    def current_version(self) -> int:
        """Return `version` after dropping leases that have run out; cheap when none is lapsing."""
        if self._lapsing:
            with self._lock:
                self._expire()
        return self.version

    async def watch(self, endpoint: EndpointId) -> AsyncGenerator[list[Registration], None]:
        """Yield the instances of an endpoint now, and again after each change, lapsed leases included."""
        changed = asyncio.Event()
        key = object()
        with self._lock:
            self._watchers[key] = (Mailbox.here(), changed.set)
        try:
            seen: list[Registration] | None = None
            while True:
                changed.clear()
                found = self.instances(endpoint)
                if found != seen:
                    seen = found
                    yield found
                    continue
                await self._change(changed)
        finally:
            with self._lock:
                del self._watchers[key]

    async def _change(self, changed: asyncio.Event) -> None:
        """Wait for a change of the table, or for the moment the next lease runs out."""
        with self._lock:
            deadlines = [lease.expires_at for lease in self._lapsing if lease.expires_at is not None]
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(changed.wait())]
        if deadlines:
            waiting.append(asyncio.ensure_future(self.clock.sleep(max(0.0, min(deadlines) - self.clock.now()))))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _remove(self, goes: Callable[[Registration], bool]) -> None:
        for found in self._table.values():
            for instance_id in [instance_id for instance_id, listed in found.items() if goes(listed)]:
                del found[instance_id]
                self._changed()

    def _expire(self) -> None:
        if not self._lapsing:
            return
        now = self.clock.now()
        gone = [lease for lease in self._lapsing if lease.expires_at is not None and lease.expires_at <= now]
        if gone:
            self._lapsing = [lease for lease in self._lapsing if lease not in gone]
            self.is_lapsing = bool(self._lapsing)
            self._remove(lambda listed: listed.lease in gone)

    def _changed(self) -> None:
        self.version += 1
        self._notify()

    def _notify(self) -> None:
        watchers: Sequence[tuple[Mailbox, Callable[[], None]]] = list(self._watchers.values())
        for mailbox, notify in watchers:
            mailbox.post(notify)
