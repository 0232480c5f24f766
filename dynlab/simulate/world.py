"""What a simulated run is made of: engines, a clock that jumps to whatever is next, and the columns that it fills."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from dynlab.engine import Engine, FifoEngine, MockEngine, MockEngineArgs, Work
from dynlab.runtime.discovery import LEASE_TTL_S
from dynlab.runtime.instances import next_tick
from dynlab.simulate.changes import Change, Kill, Slow
from dynlab.simulate.routers import Routing
from dynlab.simulate.run import Outcome, Run
from dynlab.simulate.workload import Workload

__all__ = ("World",)

# What `Work(...)` does, in half the time: there is one for each of a million requests.
_work_of: Callable[[tuple[Any, ...]], Work] = partial(tuple.__new__, Work)


class World:
    """Workers, counted from 0, and what became of each request so far. It is the `Time` of its router."""

    def __init__(
        self,
        workload: Workload,
        engine: MockEngineArgs | None,
        speeds: Sequence[float],
        queue_limit: int | None,
        migration_limit: int,
    ) -> None:
        self.now = 0.0
        self._workload = workload
        self._args = engine
        self._speeds = list(speeds)
        self._limit = queue_limit
        self._tries = migration_limit
        self._tried: dict[int, int] = {}  # how often a request was sent again
        self._engines: list[Engine] = []
        self._dead: set[int] = set()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []  # a heap: when, the how many-th, what to call
        self._order = 0
        self._wakes: list[tuple[float, int]] = []  # a heap: when, which engine
        self._due = [math.inf] * len(speeds)  # the wake that counts, of each engine
        n = len(workload)
        self._worker = array("q", bytes(8 * n))
        self._routed, self._started, self._first, self._ended = (array("d", [math.nan]) * n for _ in range(4))
        self._cached = array("q", bytes(8 * n))
        self._outcome = bytearray(n)
        self._decisions: dict[int, Mapping[str, Any]] = {}
        # Numbers of Python's own are read faster than NumPy's.
        self._service = workload.service_s.tolist() if engine is None else []
        self._tokens = [] if engine is None else list(zip(workload.isl.tolist(), workload.osl.tolist(), strict=True))

    def call_at(self, at: float, what: Callable[[], object]) -> None:
        """Have something done at a time; of two things at one time, the first that was asked for is done first."""
        self._order += 1
        heapq.heappush(self._agenda, (at, self._order, what))

    def run(self, routing: Routing, changes: Sequence[Change]) -> None:
        """Let all requests come, and all that was begun end."""
        self._routing = routing
        self._engines = [self._engine(worker) for worker in range(len(self._speeds))]
        for change in sorted(changes, key=lambda change: change.at):
            self.call_at(change.at, partial(self._change, change))
        for request, arrival in enumerate(self._workload.arrival_s.tolist()):
            self._advance(arrival)
            self.now = arrival
            self.send(request)
        self._advance(math.inf)

    def result(self, router: str, seed: int, report_every: float | None) -> Run:
        """Return the columns."""
        outcome = np.frombuffer(bytes(self._outcome), np.int8)
        ended, first = np.array(self._ended), np.array(self._first)
        return Run(
            workload=self._workload,
            router=router,
            seed=seed,
            workers=len(self._engines),
            worker=np.array(self._worker),
            routed_s=np.array(self._routed),
            started_s=np.array(self._started),
            first_token_s=np.where(outcome == Outcome.OK, ended, first) if self._args is None else first,
            ended_s=ended,
            cached_blocks=np.array(self._cached),
            outcome=outcome,
            decisions=self._decisions,
            absences=self._routing.absences,
            report_every=report_every,
        )

    def _advance(self, until: float) -> None:
        """Do all that is due before or at a time."""
        wakes, agenda, due = self._wakes, self._agenda, self._due
        while True:
            at = wakes[0][0] if wakes else math.inf
            if agenda and agenda[0][0] <= at and agenda[0][0] <= until:
                self.now, _, call = heapq.heappop(agenda)
                call()
            elif at <= until and wakes:
                worker = heapq.heappop(wakes)[1]
                if at == due[worker]:  # else the engine was asked since then
                    due[worker] = math.inf
                    self.now = at
                    self._look(worker)
            else:
                return

    # ------------------------------------------------------------------------ requests

    def send(self, request: int) -> None:
        """Let the router choose, and hand the request over; a router may also keep it back and send it later."""
        routing = self._routing
        while True:
            worker, seen = routing.pick(request)
            if worker is None:
                if seen is None:  # nobody is there; who was sent before hears of the worker that died
                    self._end(request, Outcome.LOST if request in self._tried else Outcome.NOBODY)
                return
            self._worker[request] = worker + 1
            self._routed[request] = self.now
            if routing.keep and seen is not None:
                self._decisions[request] = seen
            if worker not in self._dead:
                break
            self._report_down(worker)
            routing.ended(request, worker)
            if not self._may_try_again(request):
                self._end(request, Outcome.LOST)
                return
        engine = self._engines[worker]
        if self._args is None:
            work = _work_of((request, self._service[request], 0, 1, (), ()))
        else:
            work = _work_of((request, 0.0, *self._tokens[request], self._workload.sequences[request], ()))
        engine.add(work, self.now)
        if self._limit is not None and engine.waiting > self._limit:
            engine.cancel(request, self.now)
            self._fail(request, worker, Outcome.DROPPED)
        if engine.next_at <= self.now:
            self._look(worker)
        elif engine.next_at < self._due[worker]:
            self._wake(worker, engine.next_at)

    def _look(self, worker: int) -> None:
        """Hear what an engine has to say now, and find out when to ask again."""
        engine, routing = self._engines[worker], self._routing
        request: Any  # the key that it was given
        for kind, request, at, cached in engine.advance(self.now):
            if kind == "finished":
                self._ended[request] = at
                routing.ended(request, worker)
            elif kind == "started":
                self._started[request] = at
                self._cached[request] = cached
            elif kind == "first_token":
                self._first[request] = at
                routing.answering(request)
            else:
                self._fail(request, worker, Outcome.REFUSED)
        if engine.next_at < self._due[worker]:
            self._wake(worker, engine.next_at)

    def _wake(self, worker: int, at: float) -> None:
        self._due[worker] = at
        heapq.heappush(self._wakes, (at, worker))

    def _fail(self, request: int, worker: int, outcome: Outcome) -> None:
        self._routing.ended(request, worker)
        self._end(request, outcome)

    def _end(self, request: int, outcome: Outcome) -> None:
        self._ended[request] = self.now
        self._outcome[request] = outcome

    def _may_try_again(self, request: int) -> bool:
        """Take one of the tries of a request that a dead worker left, unless it has said something of it already."""
        tried = self._tried.get(request, 0)
        if tried >= self._tries or not math.isnan(self._first[request]):
            return False
        self._tried[request] = tried + 1
        self._started[request], self._cached[request] = math.nan, 0
        return True

    # ------------------------------------------------------------------------ workers that come and go

    def _engine(self, worker: int) -> Engine:
        speed = self._speeds[worker]
        if self._args is None:
            return FifoEngine(speed=speed)
        return MockEngine(self._args, self._routing.listener(worker), speed)

    def _change(self, change: Change) -> None:
        worker = change.worker - 1
        if isinstance(change, Slow):
            self._speeds[worker] = change.speed
            if worker not in self._dead:
                self._engines[worker].set_speed(self.now, change.speed)
                self._look(worker)
        elif isinstance(change, Kill):
            if worker not in self._dead:
                self._kill(worker)
        elif worker in self._dead:
            self._dead.remove(worker)
            self._engines[worker] = self._engine(worker)
            self._routing.came(worker)

    def _kill(self, worker: int) -> None:
        self._look(worker)
        engine = self._engines[worker]
        self._dead.add(worker)
        self._due[worker] = math.inf
        self.call_at(self.now + LEASE_TTL_S, partial(self._lapse, worker, engine))
        lost: list[Any] = engine.drop()
        if lost:
            self._report_down(worker)
        for request in lost:
            self._routing.ended(request, worker)
        for request in lost:
            if self._may_try_again(request):
                self.send(request)
            else:
                self._end(request, Outcome.LOST)

    def _lapse(self, worker: int, died: Engine) -> None:
        """The lease of a worker that died has run out; one that came back has another."""
        if self._engines[worker] is died:
            self._routing.left(worker)

    def _report_down(self, worker: int) -> None:
        """Skip a worker that failed until the next tick, as `InstanceTable` does."""
        tick = next_tick(self.now)
        if self._routing.skip(worker, tick):
            self.call_at(tick, self._routing.look_again)
