"""`dynlab.engine.fifo`: in which order, until when, and what is left when somebody goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynlab.engine import Engine, EngineEvent, FifoEngine, Work
from dynlab.errors import ConfigError


def to_the_end(engine: Engine) -> list[EngineEvent]:
    """Go from event to event until nothing is to come."""
    events: list[EngineEvent] = []
    while engine.next_at < math.inf:
        at = engine.next_at
        happened = engine.advance(at)
        assert {at} == {event.at for event in happened}, "next_at is when something happens, neither sooner nor later"
        events += happened
    return events


def served(engine: Engine, requests: Sequence[tuple[float, float]]) -> list[EngineEvent]:
    """Give an engine requests of `(arrival, service_s)`, numbered from 0, and return all that it tells."""
    events: list[EngineEvent] = []
    for key, (arrival, service_s) in enumerate(requests):
        while engine.next_at <= arrival:
            events += engine.advance(engine.next_at)
        engine.add(Work(key, service_s), arrival)
    return events + to_the_end(engine)


def times(events: list[EngineEvent], kind: str) -> dict[int | str, float]:
    """Return when this happened to each request, in the order in which it happened."""
    return {event.key: event.at for event in events if event.kind == kind}


# ---------------------------------------------------------------------------- in small


def test_one_after_another_in_order() -> None:
    """Each begins when the one before it ends; the third came when nobody was there."""
    events = served(FifoEngine(), [(0.0, 2.0), (1.0, 0.5), (4.0, 1.0)])

    assert [
        EngineEvent("started", 0, 0.0),
        EngineEvent("finished", 0, 2.0),
        EngineEvent("started", 1, 2.0),
        EngineEvent("finished", 1, 2.5),
        EngineEvent("started", 2, 4.0),
        EngineEvent("finished", 2, 5.0),
    ] == events


def test_as_many_at_a_time_as_there_are_slots() -> None:
    """With two slots the third begins when the first of them is free, which need not be the first that began."""
    events = served(FifoEngine(slots=2), [(0.0, 5.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)])

    assert {0: 0.0, 1: 0.0, 2: 1.0, 3: 2.0} == times(events, "started")
    assert {1: 1.0, 2: 2.0, 3: 3.0, 0: 5.0} == times(events, "finished")


def test_it_says_how_many_wait_and_run() -> None:
    """And when there will be news: at once after a start, else at the next end, never when idle."""
    engine = FifoEngine(slots=2)
    assert math.inf == engine.next_at
    for key in "abc":
        engine.add(Work(key, 2.0), 1.0)

    assert (1, 2, 1.0) == (engine.waiting, engine.running, engine.next_at)
    assert ["a", "b"] == [event.key for event in engine.advance(1.0)]
    assert (1, 2, 3.0) == (engine.waiting, engine.running, engine.next_at)
    to_the_end(engine)
    assert (0, 0, math.inf) == (engine.waiting, engine.running, engine.next_at)


def test_what_was_due_happens_before_a_newcomer() -> None:
    """Although nobody has asked since, the slot was free when the second came; the first call tells all of it."""
    engine = FifoEngine()
    engine.add(Work("a", 1.0), 0.0)
    engine.add(Work("b", 1.0), 5.0)

    assert [("started", "a", 0.0, 0), ("finished", "a", 1.0, 0), ("started", "b", 5.0, 0)] == engine.advance(5.5)


def test_speed_counts_from_the_start() -> None:
    """At speed 4 all takes a quarter."""
    assert {0: 0.5, 1: 0.75} == times(served(FifoEngine(speed=4.0), [(0.0, 2.0), (0.0, 1.0)]), "finished")


def test_a_change_of_speed_meets_what_is_under_way() -> None:
    """Half of ten seconds' work is done; at a quarter of the speed the other half takes twenty."""
    engine = FifoEngine(slots=2)
    engine.add(Work("long", 10.0), 0.0)
    engine.add(Work("short", 6.0), 0.0)
    engine.add(Work("next", 1.0), 0.0)
    engine.advance(0.0)

    engine.set_speed(5.0, 0.25)

    assert (0.25, 9.0) == (engine.speed, engine.next_at)
    assert {"short": 9.0, "next": 13.0, "long": 25.0} == times(to_the_end(engine), "finished")


def test_who_hangs_up_makes_room() -> None:
    """One who waits leaves the queue; for one who is served the next begins at that moment."""
    engine = FifoEngine()
    for key in "abcd":
        engine.add(Work(key, 2.0), 0.0)
    engine.advance(0.0)

    assert [True, True] == [engine.cancel("b", 0.5), engine.cancel("a", 1.0)]

    events = to_the_end(engine)
    assert {"c": 1.0, "d": 3.0} == times(events, "started")
    assert {"c": 3.0, "d": 5.0} == times(events, "finished")


def test_the_first_to_end_may_hang_up() -> None:
    """Of three at a time the next to end is next then."""
    engine = FifoEngine(slots=3)
    for key, service_s in (("a", 1.0), ("b", 10.0), ("c", 2.0)):
        engine.add(Work(key, service_s), 0.0)
    engine.advance(0.0)

    engine.cancel("a", 0.5)

    assert 2.0 == engine.next_at
    assert {"c": 2.0, "b": 10.0} == times(to_the_end(engine), "finished")


def test_who_is_gone_cannot_hang_up() -> None:
    """Neither a stranger, nor one who has finished by then, told or not; nothing changes."""
    engine = FifoEngine()
    engine.add(Work("a", 2.0), 0.0)

    assert [False, False] == [engine.cancel("stranger", 1.0), engine.cancel("a", 2.0)]
    assert [("started", "a", 0.0, 0), ("finished", "a", 2.0, 0)] == engine.advance(2.0)


def test_nothing_is_said_about_who_hung_up() -> None:
    """Not even what would have been told by the next call."""
    engine = FifoEngine()
    engine.add(Work("a", 2.0), 0.0)
    engine.cancel("a", 0.0)

    assert math.inf == engine.next_at
    assert [] == engine.advance(9.0)


def test_a_dead_worker_loses_all() -> None:
    """Those who were served are named first, in the order in which they began; a newcomer is served as ever."""
    engine = FifoEngine(slots=2)
    for key, service_s in (("a", 9.0), ("b", 1.0), ("c", 2.0), ("d", 2.0)):
        engine.add(Work(key, service_s), 0.0)
    engine.advance(1.5)

    assert ["a", "c", "d"] == engine.drop()
    assert (0, 0, math.inf, []) == (engine.waiting, engine.running, engine.next_at, engine.advance(9.0))
    engine.add(Work("e", 1.0), 10.0)
    assert {"e": 11.0} == times(to_the_end(engine), "finished")


@pytest.mark.parametrize("speed", [0, -1.0, math.inf, math.nan])
def test_no_time_can_be_divided_by_such_a_speed(speed: float) -> None:
    """Neither at the beginning nor later; it goes on as before then."""
    engine = FifoEngine()
    with pytest.raises(ConfigError, match=r"speed=.* must be a number above 0"):
        FifoEngine(speed=speed)
    with pytest.raises(ConfigError, match=r"speed=.* must be a number above 0"):
        engine.set_speed(0.0, speed)
    assert 1.0 == engine.speed


def test_it_needs_a_slot() -> None:
    """With none nothing would ever be served."""
    with pytest.raises(ConfigError, match="slots=0 must be 1 or more"):
        FifoEngine(slots=0)


# ---------------------------------------------------------------------------- against the definition

TICKS = st.integers(0, 64).map(lambda n: n / 8)  # eighths are exact, and often equal
ARRIVALS = st.lists(st.tuples(TICKS, TICKS), max_size=30).map(sorted)


@given(ARRIVALS, st.integers(1, 4))
@settings(deadline=None, derandomize=True)
def test_everybody_takes_the_first_slot_that_is_free(requests: list[tuple[float, float]], slots: int) -> None:
    """Whatever comes, when, and how many slots there are: the definition, written down without any engine."""
    free_at = [0.0] * slots
    expected = {}
    for key, (arrival, service_s) in enumerate(requests):
        free_at.sort()
        began = max(arrival, free_at[0])
        free_at[0] = began + service_s
        expected[key] = (began, began + service_s)

    events = served(FifoEngine(slots), requests)

    started, finished = times(events, "started"), times(events, "finished")
    assert expected == {key: (started[key], finished[key]) for key in expected}
    assert list(expected) == list(started)
    assert [event.at for event in events] == sorted(event.at for event in events)
