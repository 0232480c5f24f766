"""`dynlab.runtime.instances`: who can be picked, how much each has to do, and who is skipped because it failed."""

from __future__ import annotations

import random

import pytest

from dynlab.clock import VirtualClock
from dynlab.errors import NoInstancesError
from dynlab.hop import Hop
from dynlab.protocols import Envelope, Instance
from dynlab.routing.modes import DirectPicker, LeastLoadedPicker, Picker, RoundRobinPicker
from dynlab.runtime.discovery import Discovery
from dynlab.runtime.instances import InstanceTable
from tests.runtime.cluster import ENDPOINT
from tests.runtime.test_discovery import join

REQUEST = Envelope(ENDPOINT, "r-1", None)
STARTED_AT = 1000.0


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=STARTED_AT)


@pytest.fixture
def discovery(clock: VirtualClock) -> Discovery:
    return Discovery(clock=clock)


@pytest.fixture
def table(discovery: Discovery) -> InstanceTable:
    """A table of three instances, 7001 to 7003, that begins to tick at 1000 s."""
    for _ in range(3):
        join(discovery)
    return InstanceTable(discovery, ENDPOINT, inhibited_s=5.0)


def select(table: InstanceTable, picker: Picker | None = None, *, direct: bool = False) -> Instance:
    return table.select(picker or RoundRobinPicker(), REQUEST, Hop(None, "Worker", "generate"), direct=direct)[1]


def eligible(table: InstanceTable) -> list[int]:
    """Return the ids that can be picked now."""
    seen: list[int] = []

    def look(request: Envelope, instances: object) -> None:
        seen.extend(instance.instance_id for instance in instances)  # type: ignore[attr-defined]

    class Looking(RoundRobinPicker):
        def pick(self, request: Envelope, instances):  # type: ignore[no-untyped-def]
            look(request, instances)
            return super().pick(request, instances)

    table.release(select(table, Looking()))
    return seen


# ---------------------------------------------------------------------------- who is there


def test_the_table_follows_discovery(table: InstanceTable, discovery: Discovery) -> None:
    """Who joins and leaves is seen at the next pick."""
    joined = join(discovery)
    assert [7001, 7002, 7003, 7004] == eligible(table)

    discovery.unregister(joined)

    assert [7001, 7002, 7003] == eligible(table)


def test_a_pick_comes_with_its_server(table: InstanceTable) -> None:
    """The server says where the picked instance's requests go; a rule without books has booked nothing."""
    server, instance, booking = table.select(DirectPicker(7002), REQUEST, Hop(None, "Worker", "generate"))

    assert (7002, 7002, None) == (server.instance_id, instance.instance_id, booking)


def test_nobody_there(discovery: Discovery) -> None:
    """With no instance listed a pick raises Dynamo's sentence."""
    with pytest.raises(NoInstancesError, match=f"No workers available for endpoint {ENDPOINT}: no instance has"):
        select(InstanceTable(discovery, ENDPOINT))


def test_a_pick_leaves_its_candidates_in_the_hop(table: InstanceTable) -> None:
    """The hop knows all that were listed, their loads before the pick, and who could not be chosen."""
    busy = select(table, DirectPicker(7001))
    table.report_down(table.instances()[2])
    hop = Hop(None, "Worker", "generate")

    table.select(RoundRobinPicker(), REQUEST, hop)

    assert hop.decision is not None
    assert [(7001, 1, True), (7002, 0, True), (7003, 0, False)] == [
        (candidate.instance_id, candidate.active_requests, candidate.eligible) for candidate in hop.decision.candidates
    ]
    assert ("round-robin", 7001, {"turn": 0}) == (hop.decision.mode, busy.instance_id, hop.decision.detail)


# ---------------------------------------------------------------------------- in flight


def test_requests_in_flight_are_counted(table: InstanceTable) -> None:
    """A pick adds one, a release takes one away, and load-aware pickers see the difference."""
    first = select(table, DirectPicker(7001))
    second = select(table, DirectPicker(7002))
    assert [1, 1, 0] == [instance.active_requests for instance in table.instances()]
    assert 7003 == select(table, LeastLoadedPicker(random.Random(7))).instance_id

    table.release(first)
    table.release(second)

    assert [0, 0, 1] == [instance.active_requests for instance in table.instances()]


def test_counts_survive_a_change_of_the_list(table: InstanceTable, discovery: Discovery) -> None:
    """Somebody else's joining or leaving does not forget what is in flight."""
    select(table, DirectPicker(7003))
    discovery.unregister(discovery.instances(ENDPOINT)[0])
    join(discovery)

    assert [(7002, 0), (7003, 1), (7004, 0)] == [(i.instance_id, i.active_requests) for i in table.instances()]


# ---------------------------------------------------------------------------- who failed


@pytest.mark.parametrize("failed_at", [0.0, 1.0, 4.9])
def test_a_failed_instance_is_skipped_until_the_next_tick(
    table: InstanceTable, clock: VirtualClock, failed_at: float
) -> None:
    """Ticks are five seconds apart from when the table began; whenever it failed, the next tick gives it a chance."""
    clock.advance(failed_at)

    table.report_down(table.instances()[1])

    assert [7001, 7003] == eligible(table)
    clock.advance(4.99 - failed_at)
    assert [7001, 7003] == eligible(table)
    clock.advance(0.01)
    assert [7001, 7002, 7003] == eligible(table)


def test_whoever_fails_again_is_skipped_again(table: InstanceTable, clock: VirtualClock) -> None:
    """A dead worker costs one failed call per tick."""
    table.report_down(table.instances()[1])
    clock.advance(5.0)
    assert [7001, 7002, 7003] == eligible(table)

    table.report_down(table.instances()[1])

    assert [7001, 7003] == eligible(table)
    clock.advance(5.0)
    assert [7001, 7002, 7003] == eligible(table)


def test_a_failed_instance_is_still_listed(table: InstanceTable) -> None:
    """`instances` names it, as Dynamo's `instance_ids()` does."""
    table.report_down(table.instances()[1])

    assert [7001, 7002, 7003] == [instance.instance_id for instance in table.instances()]


def test_a_direct_call_ignores_failures(table: InstanceTable) -> None:
    """Who names an instance gets it, however it failed."""
    table.report_down(table.instances()[1])

    assert 7002 == select(table, DirectPicker(7002), direct=True).instance_id


def test_when_all_have_failed_they_are_named(table: InstanceTable) -> None:
    """The sentence says that there are workers, and that they are being skipped."""
    for instance in table.instances():
        table.report_down(instance)

    with pytest.raises(NoInstancesError, match="instances 7001, 7002, 7003 failed a moment ago") as caught:
        select(table)

    assert (7001, 7002, 7003) == caught.value.inhibited


def test_skipping_can_be_turned_off(discovery: Discovery) -> None:
    """With no duration, as with `DYN_RUNTIME_INHIBITED_DURATION_SECS=0`, a failed instance stays in the choice."""
    join(discovery)
    table = InstanceTable(discovery, ENDPOINT, inhibited_s=0.0)

    table.report_down(table.instances()[0])

    assert [7001] == eligible(table)


def test_a_pick_function_may_look_at_the_table(table: InstanceTable) -> None:
    """A reader's own router asks its client for the instances while it picks."""

    class Looking(RoundRobinPicker):
        def pick(self, request: Envelope, instances):  # type: ignore[no-untyped-def]
            assert list(table.instances()) == list(instances)
            return super().pick(request, instances)

    assert 7001 == select(table, Looking()).instance_id
