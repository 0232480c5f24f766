"""Discovery: an instance is listed while its lease lives, and whoever watches is told of each change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dynlab.clock import VirtualClock
from dynlab.protocols import EndpointId
from dynlab.runtime.discovery import Discovery, Lease, Registration
from dynlab.runtime.loops import Mailbox
from dynlab.runtime.request_plane import EndpointServer
from tests.runtime.cluster import ENDPOINT, PATIENCE_S, settled

OTHER = EndpointId("test", "Other", "generate")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def discovery(clock: VirtualClock) -> Discovery:
    return Discovery(ttl_s=10.0, clock=clock)


def join(discovery: Discovery, endpoint: EndpointId = ENDPOINT, lease: Lease | None = None) -> Registration:
    """List an instance that nobody will call."""
    lease = lease or discovery.grant()
    loop = asyncio.new_event_loop()
    server = EndpointServer(endpoint, lease.lease_id, "Worker", lambda request, context: None, Mailbox.of(loop))  # type: ignore[arg-type,return-value]
    loop.close()
    return discovery.register(endpoint, lease, "Worker", server)


def ids(discovery: Discovery, endpoint: EndpointId = ENDPOINT) -> list[int]:
    return [registration.instance_id for registration in discovery.instances(endpoint)]


# ---------------------------------------------------------------------------- the list


def test_ids_are_said_aloud(discovery: Discovery) -> None:
    """Leases count up from 7001, and the lease's number is the instance's id."""
    assert [7001, 7002, 7003] == [join(discovery).instance_id for _ in range(3)]
    assert [7001, 7002, 7003] == ids(discovery)


def test_the_list_is_sorted_by_id(discovery: Discovery) -> None:
    """Whoever registers first, the ids ascend."""
    one, two, three = (discovery.grant() for _ in range(3))

    for lease in (three, one, two):
        join(discovery, lease=lease)

    assert [7001, 7002, 7003] == ids(discovery)


def test_endpoints_are_kept_apart(discovery: Discovery) -> None:
    """An instance is listed for what it serves; `endpoints` names what has an instance."""
    lease = discovery.grant()
    join(discovery, ENDPOINT, lease)
    other = join(discovery, OTHER, lease)
    assert [ENDPOINT, OTHER] == discovery.endpoints()

    discovery.unregister(other)

    assert ([7001], []) == (ids(discovery), ids(discovery, OTHER))
    assert [ENDPOINT] == discovery.endpoints()


def test_registering_again_replaces(discovery: Discovery) -> None:
    """Under one lease an endpoint has one instance: the last one registered."""
    lease = discovery.grant()
    join(discovery, lease=lease)

    second = join(discovery, lease=lease)

    assert [second] == discovery.instances(ENDPOINT)


def test_the_replaced_registration_cannot_take_its_successor_off(discovery: Discovery) -> None:
    """Unregistering what is no longer listed changes nothing."""
    lease = discovery.grant()
    first, second = join(discovery, lease=lease), join(discovery, lease=lease)

    discovery.unregister(first)

    assert [second] == discovery.instances(ENDPOINT)


def test_a_revoked_lease_is_off_every_list_at_once(discovery: Discovery) -> None:
    """A clean shutdown takes all endpoints of the instance off, and nobody else's."""
    lease = discovery.grant()
    join(discovery, ENDPOINT, lease)
    join(discovery, OTHER, lease)
    join(discovery)

    discovery.revoke(lease)

    assert ([7002], []) == (ids(discovery), ids(discovery, OTHER))


# ---------------------------------------------------------------------------- leases


def test_a_dead_instance_is_believed_in_until_its_lease_runs_out(discovery: Discovery, clock: VirtualClock) -> None:
    """After the death the list names it for ten seconds more, as Dynamo's does."""
    dead = join(discovery)
    join(discovery)
    clock.advance(100.0)

    discovery.lapse(dead.lease)
    clock.advance(9.999)
    assert [7001, 7002] == ids(discovery)
    clock.advance(0.002)

    assert [7002] == ids(discovery)


def test_each_lease_runs_out_by_itself(discovery: Discovery, clock: VirtualClock) -> None:
    """Two that die one after the other leave the list one after the other."""
    first, second = join(discovery), join(discovery)

    discovery.lapse(first.lease)
    clock.advance(6.0)
    discovery.lapse(second.lease)
    clock.advance(6.0)
    assert [7002] == ids(discovery)
    clock.advance(6.0)

    assert [] == ids(discovery)


def test_dying_twice_does_not_prolong_the_lease(discovery: Discovery, clock: VirtualClock) -> None:
    """The ten seconds count from the first death."""
    dead = join(discovery)

    discovery.lapse(dead.lease)
    clock.advance(6.0)
    discovery.lapse(dead.lease)
    clock.advance(6.0)

    assert [] == ids(discovery)


def test_a_dead_instance_can_still_be_revoked(discovery: Discovery, clock: VirtualClock) -> None:
    """Whoever cleans up after a dead worker need not wait; the lease then runs out without effect."""
    dead = join(discovery)
    discovery.lapse(dead.lease)

    discovery.revoke(dead.lease)
    assert [] == ids(discovery)
    clock.advance(20.0)

    assert [] == ids(discovery)


# ---------------------------------------------------------------------------- version


def test_the_version_grows_with_each_change_and_only_then(discovery: Discovery, clock: VirtualClock) -> None:
    """A client that remembers the version need not copy the list while nothing changes."""
    versions = [discovery.current_version()]

    def changes() -> bool:
        versions.append(discovery.current_version())
        return versions[-1] > versions[-2]

    assert not changes()
    one, two, three = join(discovery), join(discovery), join(discovery)
    assert changes()
    discovery.instances(ENDPOINT)
    assert not changes()
    discovery.unregister(one)
    assert changes()
    discovery.revoke(two.lease)
    assert changes()
    discovery.revoke(two.lease)
    assert not changes()
    discovery.lapse(three.lease)
    clock.advance(9.0)
    assert not changes()
    clock.advance(2.0)
    assert changes()


# ---------------------------------------------------------------------------- watching


class Watch:
    """Someone who watches, one look at a time."""

    def __init__(self, discovery: Discovery) -> None:
        self._watching: AsyncIterator[list[Registration]] = discovery.watch(ENDPOINT)
        self._look: asyncio.Task[list[Registration]] | None = None

    def look(self) -> asyncio.Task[list[Registration]]:
        if self._look is None:
            self._look = asyncio.create_task(anext(self._watching))  # type: ignore[arg-type]
        return self._look

    async def sees(self) -> list[int]:
        look = await asyncio.wait_for(self.look(), PATIENCE_S)
        self._look = None  # taken; one that is done but was not looked at yet stays
        return [registration.instance_id for registration in look]

    async def sees_nothing_new(self) -> bool:
        look = self.look()
        await settled()
        return not look.done()

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._look
        watching: Any = self._watching
        await watching.aclose()


@pytest.fixture
async def watch(discovery: Discovery) -> AsyncIterator[Watch]:
    watch = Watch(discovery)
    yield watch
    await watch.close()


async def test_a_watch_begins_with_what_is_there(discovery: Discovery, watch: Watch) -> None:
    """The first look does not wait: it shows the list as it is, empty too."""
    assert [] == await watch.sees()
    assert await watch.sees_nothing_new()


async def test_a_watch_wakes_when_an_instance_joins_and_leaves(discovery: Discovery, watch: Watch) -> None:
    """Each change of the endpoint's list is seen; other endpoints' changes are not."""
    assert [] == await watch.sees()
    assert await watch.sees_nothing_new()

    one = join(discovery)
    assert [7001] == await watch.sees()
    assert await watch.sees_nothing_new()

    two = join(discovery)
    assert [7001, 7002] == await watch.sees()
    assert await watch.sees_nothing_new()

    join(discovery, OTHER)
    assert await watch.sees_nothing_new()

    discovery.unregister(one)
    assert [7002] == await watch.sees()
    assert await watch.sees_nothing_new()

    discovery.revoke(two.lease)
    assert [] == await watch.sees()


async def test_a_watch_wakes_when_a_lease_runs_out(discovery: Discovery, watch: Watch, clock: VirtualClock) -> None:
    """A lease that begins to lapse while somebody already watches wakes them when it is over, not before."""
    dead = join(discovery)
    assert [7001] == await watch.sees()
    assert await watch.sees_nothing_new()

    discovery.lapse(dead.lease)
    assert await watch.sees_nothing_new()
    clock.advance(9.0)
    assert await watch.sees_nothing_new()
    clock.advance(1.0)

    assert [] == await watch.sees()


async def test_a_watch_is_told_from_other_threads(discovery: Discovery, watch: Watch) -> None:
    """Instances register on their own threads, and the watcher wakes on its loop."""
    assert [] == await watch.sees()
    assert await watch.sees_nothing_new()

    await asyncio.to_thread(join, discovery)

    assert [7001] == await watch.sees()


async def test_two_watchers_both_see_a_change(discovery: Discovery, watch: Watch) -> None:
    """Nobody takes a change away from anybody."""
    other = Watch(discovery)
    assert ([], []) == (await watch.sees(), await other.sees())

    join(discovery)

    assert ([7001], [7001]) == (await watch.sees(), await other.sees())
    await other.close()
