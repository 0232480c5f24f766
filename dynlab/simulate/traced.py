"""A simulated run as traces, so that it is drawn and explained as a live one is."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from dynlab.errors import ConfigError
from dynlab.hop import MAX_ITEMS, Hop
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
    decision's loads are the requests that each worker had at that moment; with `report_every`, the router saw older
    ones. A request that was sent again counts only where it was sent last. What the rule looked at is there if the run
    kept it. Of an answer's tokens the first and the last have their times, the others are spread evenly between them;
    of an answer that broke off, only the first is there.

    Raises:
        ConfigError: for a request that the run does not have.
    """
    for request in requests:
        if request not in range(len(run)):
            raise ConfigError(f"There is no request {request!r}; the run has requests 0 to {len(run) - 1}.")
    traces = Traces(max_requests=max(len(requests), 1), seed=run.seed)
    instances = [Instance(ENDPOINT, FIRST_ID + n, name_of(n + 1)) for n in range(run.workers)]
    roster = tuple((instance.instance_id, instance.worker) for instance in instances)
    loads = _loads(run, frozenset(requests))
    for request in requests:
        trace = traces.begin(str(request))
        hop = trace.hop(None, ENDPOINT.component, ENDPOINT.name)
        if worker := int(run.worker[request]):
            seen = run.decisions.get(request, {})
            hop.picked(run.router, instances[worker - 1], roster, loads[request], (), seen)
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
    """Return how many requests each worker had when each of some requests was picked for."""
    found: dict[int, Sequence[int]] = {}
    loads = [0] * run.workers
    here: list[tuple[float, int]] = []  # a heap: until when, at which worker
    worker, routed, ended = run.worker.tolist(), run.routed_s.tolist(), run.ended_s.tolist()
    for request in np.argsort(run.routed_s, kind="stable").tolist():  # picks at one time are in the order of arrival
        if len(found) == len(requests):
            break
        while here and here[0][0] <= routed[request]:
            loads[heapq.heappop(here)[1]] -= 1
        if request in requests:
            # Bytes are the smallest record of loads; above 255 there is no place in them.
            found[request] = bytes(loads) if max(loads) < 256 else tuple(loads)
        if worker[request]:
            loads[worker[request] - 1] += 1
            heapq.heappush(here, (ended[request], worker[request] - 1))
    return found


def _ns(seconds: float) -> int:
    return _START_NS + round(float(seconds) * 1e9)
