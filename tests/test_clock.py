"""`dynlab.clock`: real time that may run fast, and time that moves by hand."""

from __future__ import annotations

import asyncio

import pytest

from dynlab.clock import VirtualClock, WallClock, now_ns


async def until_waiting(*tasks: asyncio.Task[None]) -> None:
    """Let tasks run up to where they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert [] == [task for task in tasks if task.done()]


def test_now_ns_never_goes_back() -> None:
    """A thousand readings in a row are in order."""
    readings = [now_ns() for _ in range(1000)]

    assert sorted(readings) == readings


async def test_the_wall_clock_runs_as_fast_as_told() -> None:
    """At a thousand times real time, sleeping fifty seconds takes fifty to some hundred of them."""
    clock = WallClock(speedup_ratio=1000.0)
    begin, began_ns = clock.now(), now_ns()

    await clock.sleep(50.0)

    assert 49.0 <= clock.now() - begin
    assert (now_ns() - began_ns) < 10e9


def test_the_wall_clock_follows_the_monotonic_one() -> None:
    """Without a speed-up, `now()` is the time of the traces, in seconds."""
    before, reading, after = now_ns(), WallClock().now(), now_ns()

    assert before / 1e9 <= reading <= after / 1e9


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_wall_clock_cannot_stand_still_or_run_back(ratio: float) -> None:
    """A speed-up of zero or less is refused."""
    with pytest.raises(ValueError, match=r"must be above 0; 1\.0 is real time"):
        WallClock(ratio)


def test_virtual_time_stands_still() -> None:
    """`now()` is what was advanced, and nothing else; no loop is needed."""
    clock = VirtualClock(start=100.0)
    assert 100.0 == clock.now()

    clock.advance(2.5)
    clock.advance(0.0)

    assert 102.5 == clock.now()


def test_virtual_time_only_moves_forward() -> None:
    """A negative step is refused."""
    with pytest.raises(ValueError, match="time only moves forward"):
        VirtualClock().advance(-1.0)


async def test_sleepers_wake_at_their_deadline_and_not_before() -> None:
    """A sleeper of five seconds sleeps on at 4.9 and wakes at 5."""
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await until_waiting(sleeper)

    clock.advance(4.9)
    await until_waiting(sleeper)
    clock.advance(0.1 + 1e-9)

    await asyncio.wait_for(sleeper, 5.0)


async def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    """One step past all deadlines wakes the earliest first; equal deadlines in the order of falling asleep."""
    clock = VirtualClock()
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    tasks = [
        asyncio.create_task(sleeper(name, seconds))
        for name, seconds in [("late", 3.0), ("first", 1.0), ("second", 2.0), ("also second", 2.0)]
    ]
    await until_waiting(*tasks)

    clock.advance(10.0)
    await asyncio.wait_for(asyncio.gather(*tasks), 5.0)

    assert ["first", "second", "also second", "late"] == woken


async def test_a_cancelled_sleeper_holds_up_nobody() -> None:
    """Advancing past the deadline of a sleeper that gave up wakes the others."""
    clock = VirtualClock()
    quitter, sleeper = (asyncio.create_task(clock.sleep(1.0)) for _ in range(2))
    await until_waiting(quitter, sleeper)
    quitter.cancel()

    clock.advance(1.0)
    await asyncio.wait_for(sleeper, 5.0)

    await asyncio.wait([quitter])
    assert quitter.cancelled()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_has_passed_at_once(seconds: float) -> None:
    """Sleeping for nothing ends although nobody advances, as on the wall clock."""
    await asyncio.wait_for(VirtualClock().sleep(seconds), 5.0)
