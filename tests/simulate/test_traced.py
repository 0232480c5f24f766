"""`dynlab.simulate.traced`: simulated requests as traces, and the pictures of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dynlab.engine import MockEngineArgs
from dynlab.errors import ConfigError, TraceNotFoundError
from dynlab.protocols import Envelope, Instance
from dynlab.simulate.changes import Kill
from dynlab.simulate.service import exponential
from dynlab.simulate.simulator import simulate
from dynlab.simulate.workload import Workload, poisson, prefix_families
from dynlab.views.figure import Picture
from dynlab.views.latency import plot_latency, runs_of
from dynlab.views.timeline import ms_above_zero, timeline_of


def arriving(*arrivals: float, service: float = 1.0) -> Workload:
    n = len(arrivals)
    return Workload(
        name="by hand",
        arrival_s=np.array(arrivals, np.float64),
        service_s=np.full(n, service),
        isl=np.zeros(n, np.int64),
        osl=np.ones(n, np.int64),
        sequences=[()] * n,
        family=np.full(n, -1, np.int64),
    )


def test_a_trace_has_the_times_of_its_request() -> None:
    """In milliseconds of virtual time, to the nanosecond; request 2 waited behind request 0."""
    run = simulate(arriving(0, 0.25, 0.5), workers=2)

    traces = run.traces()

    assert ["0", "1", "2"] == [trace.request_id for trace in traces]
    waited = traces["2"]
    assert (1500.0, 1500.0, "ok") == (waited.duration_ms, waited.ttft_ms, waited.outcome)
    hop = waited.hops[0]
    assert (500_000_000, 1_000_000_000, 2_000_000_000) == tuple(
        t - traces["0"].begin_ns for t in (hop.routed_ns, hop.started_ns, hop.ended_ns)
    )
    assert ("DummyWorker-1", 7001, "begenerate") == (hop.worker, hop.instance_id, hop.endpoint)
    assert [2, 1] == list(traces.requests_per_worker().values())
    assert run.time_s.tolist() == pytest.approx([trace.duration_ms / 1e3 for trace in traces])


def test_a_decision_has_the_loads_that_the_router_saw() -> None:
    """What a pick function was shown is what the trace says: fresh, and as it was reported."""
    for every in (None, 4.0):
        shown: list[list[int]] = []

        def mine(request: Envelope, instances: Sequence[Instance], shown: list[list[int]] = shown) -> Instance:
            shown.append([instance.active_requests for instance in instances])
            return min(instances, key=lambda instance: instance.active_requests)

        workload = poisson(300, 3.0, service=exponential(), seed=4)
        run = simulate(workload, workers=4, router_mode=mine, report_every=every, queue_limit=3)

        traces = run.traces()

        decisions = [trace.decisions[0] for trace in traces]
        assert shown == [[c.active_requests for c in decision.candidates] for decision in decisions]
        assert {"mine()"} == {decision.mode for decision in decisions}
        assert run.worker.tolist() == [decision.instance_id - 7000 for decision in decisions]


def test_who_was_skipped_or_gone_is_no_candidate() -> None:
    """After a death: skipped at first, then no longer listed; the one that found it dead had it for a candidate."""
    run = simulate(arriving(0, 1, 3, 6, 13, service=0.9), workers=2, changes=[Kill(1.5, 2)])

    traces = run.traces()

    eligible = [[c.instance_id for c in trace.decisions[0].candidates if c.eligible] for trace in traces]
    assert ["ok", "StreamIncompleteError", "ok", "StreamIncompleteError", "ok"] == [t.outcome for t in traces]
    assert [[7001, 7002], [7001, 7002], [7001], [7001, 7002], [7001]] == eligible
    assert [2, 2, 2, 2, 1] == [len(trace.decisions[0].candidates) for trace in traces]


def test_a_dead_worker_is_not_called_idle() -> None:
    """One of two workers dies at once, the other has much to do: nothing is wasted."""
    run = simulate(arriving(0, 0.1, *np.linspace(0.2, 3.0, 30)), workers=2, changes=[Kill(0.05, 2)])

    timeline = timeline_of(run.traces())

    assert ["DummyWorker-1", "DummyWorker-2"] == [lane.worker for lane in timeline.lanes]
    assert [31, 1] == [lane.requests for lane in timeline.lanes]
    assert 0 == ms_above_zero(timeline.wasted)
    assert 25_000 < ms_above_zero(timeline.queued)
    assert (100.0,) == timeline.lanes[1].failed_ms


def test_who_was_sent_again_was_sent_when_it_arrived() -> None:
    """The hop is that of the last worker; the request's time is counted from its arrival on."""
    run = simulate(arriving(0, 0.5, 1.0, service=4.0), workers=2, changes=[Kill(2.0, 1)], migration_limit=1)

    trace = run.traces()["0"]

    assert ("ok", 1, "DummyWorker-2") == (trace.outcome, len(trace.hops), trace.hops[0].worker)
    assert run.time_s[0] * 1e3 == pytest.approx(trace.duration_ms)
    assert 2_000_000_000 == trace.hops[0].routed_ns - trace.sent_ns
    assert 0 == run.traces()["1"].sent_ns


def test_what_failed_says_how() -> None:
    """A name as the live graph's errors have; a request that found nobody has no worker."""
    run = simulate(arriving(0, 0, 0, 5, 6), workers=1, queue_limit=1, changes=[Kill(3.0, 1)])

    traces = run.traces()

    outcomes = ["ok", "ok", "QueueFull", "StreamIncompleteError", "NoInstancesError"]
    # The worker dies idle, so the request at 5 finds out; at 6 it is skipped, until 10.
    assert outcomes == [trace.outcome for trace in traces]
    assert "" == traces["4"].hops[0].worker


def test_tokens_are_spread_between_the_first_and_the_last() -> None:
    """Three tokens, the second in the middle; of an answer that broke off there is only the first."""
    engine = MockEngineArgs(prefill_base_s=1.0, prefill_s_per_token=0.0, itl_base_s=2.0, itl_per_seq_s=0.0)
    workload = prefix_families(2, 0.01, osl=3, seed=2)
    dies = Kill(float(workload.arrival_s[1]) + 2.5, 2)

    traces = simulate(workload, workers=2, engine=engine, changes=[dies]).traces()

    assert (1000.0, [2000.0, 2000.0]) == (traces["0"].ttft_ms, traces["0"].itl_ms)
    assert ("StreamIncompleteError", 1) == (traces["1"].outcome, traces["1"].hops[0].items)


def test_only_some_requests() -> None:
    """In the order asked for, up to any that there is; the loads are those of the whole run."""
    run = simulate(poisson(50, 3.5, seed=1), workers=4)

    traces = run.traces(range(30, 40))

    assert [str(n) for n in range(30, 40)] == [trace.request_id for trace in traces]
    assert run.traces()["35"].decisions == traces["35"].decisions
    assert ["7", "3"] == [trace.request_id for trace in run.traces([7, 3])]
    with pytest.raises(TraceNotFoundError):
        traces["5"]
    with pytest.raises(ConfigError, match="no request 50; the run has requests 0 to 49"):
        run.traces([50])


def test_pictures_of_a_simulated_run() -> None:
    """Routing, picks, lanes, latency and a score card, as of a live one: with n, seed, and units."""
    run = simulate(poisson(200, 3.4, service=exponential(), seed=1), workers=4, router_mode="least-loaded", seed=5)
    traces = run.traces()

    pictures: list[Picture] = [
        traces.plot_routing(),
        traces.plot_picks(),
        traces.plot_lanes(),
        traces.plot_latency(),
        traces["150"].plot(),
    ]

    for picture in pictures:
        assert "<svg" in picture._repr_html_() or "data:image" in picture._repr_html_()
    axes = plot_latency(traces)
    assert "n = 200 · seed = 5" in axes.get_xlabel()
    assert run.time_s.mean() * 1e3 == pytest.approx(runs_of(traces)[0].mean)


def test_a_kv_decision_explains_itself() -> None:
    """With `keep_decisions`, each trace has its score card."""
    run = simulate(
        prefix_families(20, 4.0, seed=1), workers=3, router_mode="kv", engine=MockEngineArgs(), keep_decisions=True
    )

    trace = run.traces()["15"]

    assert 3 == len(trace.decisions[0].detail["cost"])
    assert "blocks" in trace.plot_score_card()._repr_html_()
