"""A simulated run as traces, so that it is drawn and explained as a live one is."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from dynlab.errors import ConfigError
from dynlab.hop import MAX_ITEMS, Hop, Roster
from dynlab.protocols import Instance
from dynlab.simulate.routers import ENDPOINT, FIRST_ID, name_of
from dynlab.simulate.run import Outcome, Run
from dynlab.views.traces import Traces

__all__ = ("traces_of",)

_START_NS = 10**9
"""Traces have no time 0: there it means that something has not happened."""
_SAYS = {
    Outcome.OK: "ok",
    Outcome.DROPPED: "QueueFull",
    Outcome.LOST: "StreamIncompleteError",
    Outcome.REFUSED: "CacheFullError",
    Outcome.NOBODY: "NoInstancesError",
}


def traces_of(run: Run, requests: Sequence[int]) -> Traces:
    """Return some requests of a run as traces of one hop, from the pick to the end; request n has the id "n".

    One that waited at the router, or was sent again, also has when it arrived, as the time at which it was sent. A
    decision has the workers that were listed then, and the loads that the router saw, but a request that was sent again
    counts only where it was sent last. What the rule looked at is there if the run kept it. Of an answer's tokens the
    first and the last have their times, the others are spread evenly between them; of an answer that broke off, only
    the first is there.

    Raises:
        ConfigError: for a request that the run does not have.
    """
    for request in requests:
        if request not in range(len(run)):
            raise ConfigError(f"There is no request {request!r}; the run has requests 0 to {len(run) - 1}.")
    traces = Traces(max_requests=max(len(requests), 1), seed=run.seed)
    instances = [Instance(ENDPOINT, FIRST_ID + n, name_of(n + 1)) for n in range(run.workers)]
    since = [absences.at for absences in run.absences]
    rosters: dict[frozenset[int], Roster] = {}  # one for all picks among the same workers
    loads = _loads(run, frozenset(requests))
    for request in requests:
        trace = traces.begin(str(request))
        hop = trace.hop(None, ENDPOINT.component, ENDPOINT.name)
        if worker := int(run.worker[request]):
            _, off, skipped = run.absences[bisect_right(since, run.routed_s[request]) - 1]
            # Where it found a worker dead, it was listed, and not skipped, until then.
            off, skipped = off - {worker}, skipped - {worker}
            if off not in rosters:
                here = [instance for n, instance in enumerate(instances, 1) if n not in off]
                rosters[off] = tuple((instance.instance_id, instance.worker) for instance in here)
            seen = [load for n, load in enumerate(loads[request], 1) if n not in off] if off else loads[request]
            inhibited = tuple(FIRST_ID + n - 1 for n in sorted(skipped - off))
            detail = run.decisions.get(request, {})
            hop.picked(run.router, instances[worker - 1], rosters[off], seen, inhibited, detail)
            hop.thread = f"dynlab-{hop.worker}"
            _times(hop, run, request)
        hop.outcome, hop.ended_ns = _SAYS[Outcome(run.outcome[request])], _ns(run.ended_s[request])
        if hop.begin_ns > (arrived := _ns(run.workload.arrival_s[request])):
            trace.sent_ns = arrived
        traces.end(trace)
    return traces


def _times(hop: Hop, run: Run, request: int) -> None:
    started, first, ended = (float(column[request]) for column in (run.started_s, run.first_token_s, run.ended_s))
    hop.routed_ns = _ns(run.routed_s[request])
    if not np.isnan(started):
        hop.started_ns = _ns(started)
    if not np.isnan(first):
        hop.items = int(run.workload.osl[request]) if run.outcome[request] == Outcome.OK else 1
        hop.item_ns = [_ns(at) for at in np.linspace(first, ended, hop.items)[:MAX_ITEMS]]


def _loads(run: Run, requests: frozenset[int]) -> dict[int, Sequence[int]]:
    """Return how many requests each worker had, as the router saw it, when each of some requests was picked for."""
    found: dict[int, Sequence[int]] = {}
    loads = [0] * run.workers
    shown = [0] * run.workers if run.report_every else loads
    report = run.report_every or math.inf
    until: list[tuple[float, int]] = []  # a heap: when something ends, at which worker
    worker, routed, ended = run.worker.tolist(), run.routed_s.tolist(), run.ended_s.tolist()
    for request in np.argsort(run.routed_s, kind="stable").tolist():  # picks at one time are in the order of arrival
        if len(found) == len(requests):
            break
        while True:
            is_end = bool(until) and until[0][0] <= routed[request]
            now = until[0][0] if is_end else routed[request]
            if run.report_every and now >= report:
                shown, report = loads.copy(), (now // run.report_every + 1) * run.report_every
            if not is_end:
                break
            loads[heapq.heappop(until)[1]] -= 1
        if request in requests:
            # Bytes are the smallest record of loads; above 255 there is no place in them.
            found[request] = bytes(shown) if max(shown) < 256 else tuple(shown)
        if worker[request]:
            loads[worker[request] - 1] += 1
            heapq.heappush(until, (ended[request], worker[request] - 1))
    return found


def _ns(seconds: float) -> int:
    return _START_NS + round(float(seconds) * 1e9)
