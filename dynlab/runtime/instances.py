"""One runtime's view of an endpoint: who serves it, how many requests it has there, who just failed it.

(Dynamo: `lib/runtime/src/component/client.rs` keeps the same three things per process and endpoint.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dynlab.errors import NoInstancesError
from dynlab.hop import Hop, Roster
from dynlab.protocols import EndpointId, Envelope, Instance
from dynlab.routing.modes import Bookkeeper, Picker
from dynlab.runtime.discovery import Discovery

if TYPE_CHECKING:
    from dynlab.runtime.request_plane import EndpointServer

__all__ = ("INHIBITED_S", "InstanceTable", "next_tick")

INHIBITED_S = 5.0
"""How often a failed instance is given another chance (`DYN_RUNTIME_INHIBITED_DURATION_SECS`)."""


def next_tick(now: float, since: float = 0.0, every: float = INHIBITED_S) -> float:
    """Return when those that failed until now are tried again: at the next of the ticks that began at `since`."""
    return since + (math.floor((now - since) / every) + 1) * every


class InstanceTable:
    """Picks instances and counts what is in flight; shared by all clients of a runtime, on whatever loop."""

    def __init__(self, discovery: Discovery, endpoint: EndpointId, inhibited_s: float = INHIBITED_S) -> None:
        self._discovery = discovery
        self._endpoint = endpoint
        self._inhibited_s = inhibited_s
        self._since = discovery.clock.now()
        # Reentrant, because it is held while a reader's pick function runs, and that may look at the client.
        self._lock = threading.RLock()
        self._version = -1
        self._servers: dict[int, EndpointServer | None] = {}
        self._instances: tuple[Instance, ...] = ()
        self._roster: Roster = ()
        self._inhibited: dict[int, float] = {}
        self._bookkeepers: list[Bookkeeper] = []

    def keep_books(self, bookkeeper: Bookkeeper) -> None:
        """Tell a picker that keeps books, from now on, who is listed and how its requests go."""
        with self._lock:
            self._bookkeepers.append(bookkeeper)
            bookkeeper.keep(instance.instance_id for instance in self._refresh())

    def select(
        self, picker: Picker, request: Envelope, hop: Hop, *, direct: bool = False
    ) -> tuple[EndpointServer | None, Instance, str | None]:
        """Pick an instance and count the request as in flight there; the hop keeps what was seen.

        Returns where to send it, if that is in this process, the instance, and what the picker booked, if it does.

        A failed instance is skipped, but not by a direct call, which names its instance itself.

        Raises:
            NoInstancesError: if nobody is listed, or all who are have just failed.
        """
        with self._lock:
            if self._discovery.version != self._version or self._discovery.is_lapsing:
                self._refresh()
            instances = self._instances
            eligible, inhibited = self._eligible(direct)
            chosen, detail, booking = picker.pick(request, eligible)
            seen = [instance.active_requests for instance in instances]
            try:  # bytes are the smallest record of a load, and nothing that the garbage collector would visit
                loads: Sequence[int] = bytes(seen)
            except ValueError:  # one has 256 or more
                loads = tuple(seen)
            hop.picked(picker.mode, chosen, self._roster, loads, inhibited, detail)
            chosen.active_requests += 1
            return self._servers[chosen.instance_id], chosen, booking

    def enqueue(self, bookkeeper: Bookkeeper, request: Envelope, call: Callable[[], object]) -> None:
        """Let a picker book a request, or let it wait until `call`; raises as `select` does."""
        with self._lock:
            self._refresh()
            bookkeeper.enqueue(request, self._eligible()[0], call)

    def leave(self, bookkeeper: Bookkeeper, request: Envelope) -> None:
        """A request that was enqueued will not be sent."""
        with self._lock:
            bookkeeper.leave(request)
            self._go_on(bookkeeper)

    def answering(self, bookkeeper: Bookkeeper, booking: str) -> None:
        """The first item of a booked request came."""
        with self._lock:
            bookkeeper.prefill_complete(booking)
            self._go_on(bookkeeper)

    def seen(self) -> tuple[Roster, Sequence[int], tuple[int, ...]]:
        """Return who is listed, their requests in flight, and the ids of those who failed just now."""
        with self._lock:
            instances = self._refresh()
            inhibited = self._still_inhibited() if self._inhibited else ()
            return self._roster, tuple(instance.active_requests for instance in instances), inhibited

    def find(self, instance_id: int) -> Instance | None:
        """Return an instance that is listed; None if it is not."""
        with self._lock:
            return next((i for i in self._refresh() if i.instance_id == instance_id), None)

    def take(self, instance_id: int) -> Instance | None:
        """Count a request that somebody else sent there; None if it is not listed."""
        with self._lock:
            instance = self.find(instance_id)
            if instance is not None:
                instance.active_requests += 1
            return instance

    def release(self, instance: Instance) -> None:
        """A request sent there has ended."""
        with self._lock:
            instance.active_requests -= 1

    def free(self, bookkeeper: Bookkeeper, booking: str) -> None:
        """A booked request has ended."""
        with self._lock:
            bookkeeper.free(booking)
            self._go_on(bookkeeper)

    def hear(self, bookkeeper: Bookkeeper, instance_id: int, event: Any) -> None:
        """A worker tells something; it is not heard any more once it is off the list."""
        with self._lock:
            if any(instance.instance_id == instance_id for instance in self._refresh()):
                bookkeeper.hear(instance_id, event)

    def report_down(self, instance: Instance) -> None:
        """Skip an instance until the next tick of `inhibited_s` since this table began; it is then tried again."""
        if self._inhibited_s > 0:
            with self._lock:
                until = next_tick(self._discovery.clock.now(), self._since, self._inhibited_s)
                self._inhibited[instance.instance_id] = until

    def instances(self) -> tuple[Instance, ...]:
        """Return who is listed, sorted by id; failed instances too, as Dynamo's `instance_ids()` does."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> tuple[Instance, ...]:
        version = self._discovery.current_version()
        if version != self._version:
            known = {instance.instance_id: instance for instance in self._instances}
            registrations = self._discovery.instances(self._endpoint)
            self._version = version
            self._servers = {r.instance_id: r.server for r in registrations}
            self._instances = tuple(
                known.get(r.instance_id) or Instance(self._endpoint, r.instance_id, r.worker, device=r.device)
                for r in registrations
            )
            self._roster = tuple((instance.instance_id, instance.worker) for instance in self._instances)
            for bookkeeper in self._bookkeepers:
                bookkeeper.keep(instance.instance_id for instance in self._instances)
        return self._instances

    def _eligible(self, direct: bool = False) -> tuple[tuple[Instance, ...], tuple[int, ...]]:
        """Return who can be chosen, and the ids of those who failed just now.

        Raises:
            NoInstancesError: if nobody is left.
        """
        eligible = self._instances
        inhibited = self._still_inhibited() if self._inhibited else ()
        if inhibited and not direct:
            eligible = tuple(instance for instance in eligible if instance.instance_id not in inhibited)
        if not eligible:
            raise NoInstancesError(self._endpoint, sorted(inhibited))
        return eligible, inhibited

    def _go_on(self, bookkeeper: Bookkeeper) -> None:
        """Let requests go whose turn has come; if there is nobody to go to, all: they shall hear that."""
        try:
            self._refresh()
            eligible = self._eligible()[0]
        except NoInstancesError:
            eligible = ()
        bookkeeper.update(eligible)

    def _still_inhibited(self) -> tuple[int, ...]:
        now = self._discovery.clock.now()
        self._inhibited = {instance_id: until for instance_id, until in self._inhibited.items() if until > now}
        return tuple(self._inhibited)
