"""What stands between a simulated run and the routers: who is listed, and what they see of the load."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from dynlab.kv.events import KvEvent
from dynlab.protocols import EndpointId, Envelope, Instance, to_wire
from dynlab.routing.fleet import Fleet
from dynlab.routing.modes import PickFunction, RouterMode, make_picker
from dynlab.runtime.discovery import FIRST_ID
from dynlab.simulate.run import Absences
from dynlab.simulate.workload import Workload

__all__ = ("ENDPOINT", "FIRST_ID", "Listed", "PlainRouting", "Routing", "Seen", "Time", "name_of")

ENDPOINT = EndpointId("dynamo-demo", "DummyWorker", "begenerate")
Seen: TypeAlias = Mapping[str, Any] | None


class Time(Protocol):
    """What a router may ask of the simulation."""

    now: float

    def call_at(self, at: float, what: Callable[[], object]) -> None:
        """Have something done at a time."""

    def send(self, request: int) -> None:
        """Go on with a request that was kept back."""


class Routing(Protocol):
    """A router in a simulated run. Workers are counted from 0."""

    keep: bool
    """Say what was looked at; else it may be None, where it costs time to say."""
    absences: list[Absences]
    """Who could not be chosen, in the order of time."""

    def pick(self, request: int) -> tuple[int | None, Seen]:
        """Choose a worker, and say what was looked at; (None, None): nobody is there, (None, {}): it has to wait."""

    def answering(self, request: int) -> None:
        """Its first token came."""

    def ended(self, request: int, worker: int) -> None:
        """A request that was sent to a worker has ended there, well or not."""

    def listener(self, worker: int) -> Callable[[KvEvent], None] | None:
        """Return who hears what a worker's cache tells."""

    def skip(self, worker: int, until: float) -> bool:
        """Leave a worker out that failed; False if it is left out already."""

    def look_again(self) -> None:
        """Give those whose time is over another chance."""

    def left(self, worker: int) -> None:
        """A worker is off the list."""

    def came(self, worker: int) -> None:
        """A worker is on the list, new and empty."""


def name_of(worker: int) -> str:
    """Return the name of the worker with this number, counted from 1."""
    return f"{ENDPOINT.component}-{worker}"


class Listed(ABC):
    """Who can be chosen: those on the list, without those that are skipped for a while."""

    def __init__(self, devices: Sequence[str], time: Time) -> None:
        self.time = time
        self.keep = False
        self.instances = [
            Instance(ENDPOINT, FIRST_ID + n, name_of(n + 1), device=device) for n, device in enumerate(devices)
        ]
        self.absences: list[Absences] = []
        self._off: set[int] = set()
        self._skipped: dict[int, float] = {}
        self.relist()

    def relist(self) -> None:
        """Find out anew who can be chosen."""
        self._skipped = {worker: until for worker, until in self._skipped.items() if until > self.time.now}
        away = self._off | self._skipped.keys()
        self.here = {n for n in range(len(self.instances)) if n not in away}
        off, skipped = (frozenset(n + 1 for n in some) for some in (self._off, self._skipped))
        self.absences.append(Absences(self.time.now, off, skipped))
        self.chosen_from([self.instances[n] for n in sorted(self.here)])

    @abstractmethod
    def chosen_from(self, instances: list[Instance]) -> None:
        """Others can be chosen from now on."""

    def skip(self, worker: int, until: float) -> bool:
        if worker in self._skipped:
            return False
        self._skipped[worker] = until
        self.relist()
        return True

    def look_again(self) -> None:
        self.relist()

    def left(self, worker: int) -> None:
        self._off.add(worker)
        self.relist()

    def came(self, worker: int) -> None:
        self._off.discard(worker)
        self._skipped.pop(worker, None)
        self.relist()


class PlainRouting(Listed):
    """All modes but "kv": a picker, and the number of requests at each worker, fresh or as it was reported."""

    def __init__(
        self,
        workload: Workload,
        devices: Sequence[str],
        router: RouterMode | PickFunction,
        rng: random.Random,
        report_every: float | None,
        time: Time,
    ) -> None:
        self._workload = workload
        self._picker = make_picker(router, rng)
        self._is_direct = router is RouterMode.DIRECT
        self._by_load = router in (RouterMode.LEAST_LOADED, RouterMode.DEVICE_AWARE_WEIGHTED)
        self._asks = not isinstance(router, RouterMode)
        self._envelope = Envelope(ENDPOINT, "", None)  # no mode of Dynamo's looks at it
        self._every = report_every
        self._reported = 0.0
        self._next = math.inf if report_every is None else report_every
        self._loads = [0] * len(devices)  # what the workers would report now
        self._changed: set[int] = set()  # who would report something else than the last time
        super().__init__(devices, time)

    def chosen_from(self, instances: list[Instance]) -> None:
        self._fleet = Fleet(instances) if self._by_load else None
        self._among = tuple(instances) if self._fleet is None else self._fleet

    def skip(self, worker: int, until: float) -> bool:
        """A direct call names its worker itself, and goes to one that has just failed, too."""
        return not self._is_direct and super().skip(worker, until)

    def pick(self, request: int) -> tuple[int | None, Seen]:
        if not self.here:
            return None, None
        if self.time.now >= self._next:
            self._report()
        envelope = self._asked(request) if self._asks else self._envelope
        instance, detail, _ = self._picker.pick(envelope, self._among)
        worker = instance.instance_id - FIRST_ID
        if self._every is not None:
            self._loads[worker] += 1
            self._changed.add(worker)
        elif self._fleet is not None:
            self._fleet.add(instance)
        else:
            instance.active_requests += 1
        return worker, detail

    def answering(self, request: int) -> None:
        """Nothing is booked."""

    def ended(self, request: int, worker: int) -> None:
        if self._every is not None:
            if self.time.now >= self._next:
                self._report()
            self._loads[worker] -= 1
            self._changed.add(worker)
        elif self._fleet is not None and worker in self.here:
            self._fleet.release(self.instances[worker])
        else:
            self.instances[worker].active_requests -= 1

    def listener(self, worker: int) -> None:
        """Nobody hears."""

    def _report(self) -> None:
        """Show the loads of the last multiple of `report_every`: they are those of now, before the next one changes."""
        every, now = self._every, self.time.now
        assert every is not None
        number = int(now // every)
        number += (number + 1) * every <= now  # a product is rounded, a floor is not
        self._reported, self._next = number * every, (number + 1) * every
        for worker in self._changed:
            instance, load = self.instances[worker], self._loads[worker]
            if self._fleet is not None and worker in self.here:
                self._fleet.report(instance, load)
            else:
                instance.active_requests = load
        self._changed.clear()

    def _asked(self, request: int) -> Envelope:
        workload = self._workload
        data = {
            "request_id": str(request),
            "now_s": self.time.now,
            "reported_s": self._reported if self._every is not None else self.time.now,
            "isl": int(workload.isl[request]),
            "osl": int(workload.osl[request]),
            "family": int(workload.family[request]),
        }
        return Envelope(ENDPOINT, str(request), to_wire(data))
