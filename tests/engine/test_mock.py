"""`dynlab.engine.mock`: what takes how long, who waits for what, and that it is as if it went token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynlab.engine import EngineEvent, MockEngine, MockEngineArgs, Work
from dynlab.errors import ConfigError
from dynlab.kv.blocks import block_hashes, sequence_hashes
from dynlab.kv.events import KvEvent, Removed, Stored
from dynlab.kv.indexer import KvIndexer
from tests.engine.test_fifo import times, to_the_end
from tests.kv.test_cache import LruModel

WORKER = 7001
EXACT = MockEngineArgs(
    block_size=4, prefill_base_s=1.0, prefill_s_per_token=0.25, itl_base_s=0.5, itl_per_seq_s=0.25, num_gpu_blocks=64
)
"""Times that are exact in binary: a second and a quarter a token; 0.75 s for a step alone, 1.0 s for one of two."""


def engine(*, tokens: bool = False, speed: float = 1.0, **args: Any) -> MockEngine:
    return MockEngine(replace(EXACT, **args), speed=speed, tokens=tokens)


def prompt(name: str, isl: int) -> list[int]:
    """Return token ids that are another name's from the first on."""
    return [1000 * ord(name) + n for n in range(isl)]


def ask(key: str, isl: int = 4, osl: int = 1, tokens: Sequence[int] | None = None) -> Work:
    """Make a request; without `tokens` its prompt is like nobody else's."""
    tokens = prompt(key, isl) if tokens is None else tokens
    blocks = block_hashes(tokens, EXACT.block_size)
    return Work(key, isl=len(tokens), osl=osl, sequence=sequence_hashes(blocks), blocks=blocks)


def cached(events: list[EngineEvent]) -> dict[int | str, int]:
    """Return how many blocks each request found."""
    return {event.key: event.cached for event in events if event.kind == "started"}


def when_tokens_came(events: list[EngineEvent], key: str) -> list[float]:
    return [event.at for event in events if event.key == key and event.kind in ("first_token", "token")]


# ---------------------------------------------------------------------------- prefill


def test_a_prefill_takes_what_is_to_be_computed() -> None:
    """Eight tokens: a second and eight quarters, then the first token is there, and with osl=1 that is all."""
    machine = engine()
    machine.add(ask("a", isl=8), 10.0)

    assert [
        EngineEvent("started", "a", 10.0, cached=0),
        EngineEvent("first_token", "a", 13.0),
        EngineEvent("finished", "a", 13.0),
    ] == [*machine.advance(10.0), *to_the_end(machine)]


def test_what_is_cached_is_not_computed_again() -> None:
    """Of eleven tokens two blocks of four are there, three tokens are left; of an equal prompt one is computed."""
    machine = engine()
    machine.add(ask("a", isl=8), 0.0)
    to_the_end(machine)

    machine.add(ask("b", tokens=[*prompt("a", 8), 1, 2, 3]), 10.0)
    events = to_the_end(machine)
    machine.add(ask("c", tokens=prompt("a", 8)), 20.0)
    events += to_the_end(machine)

    assert {"b": 2, "c": 2} == cached(events)
    assert {"b": 11.75, "c": 21.25} == times(events, "first_token")


def test_prefills_come_one_after_another() -> None:
    """The second begins when the first has its first token, though the engine has room for both."""
    machine = engine()
    machine.add(ask("a", osl=5), 0.0)
    machine.add(ask("b"), 0.5)

    assert (1, 1) == (machine.waiting, machine.running)
    assert {"a": 0.0, "b": 2.0} == times(to_the_end(machine), "started")


def test_without_prefix_caching_nothing_is_found() -> None:
    """Nor is anything told, nor kept after the end; blocks take their room all the same."""
    told: list[KvEvent] = []
    machine = MockEngine(replace(EXACT, num_gpu_blocks=3, enable_prefix_caching=False), told.append)
    for key in ("a", "b"):
        machine.add(ask(key, tokens=prompt("x", 8)), 0.0)
        assert 3 == machine.active_blocks
    events = to_the_end(machine)

    assert {"a": 0, "b": 0} == cached(events)
    assert {"a": 3.0, "b": 6.0} == times(events, "first_token")
    assert ([], 0, 0) == (told, machine.cached_blocks, machine.active_blocks)


# ---------------------------------------------------------------------------- decode


def test_alone_a_step_takes_its_time() -> None:
    """Five tokens: the first with the prefill, and four steps of 0.75 s. Only their end is told, unless one asks."""
    quiet, told = engine(), engine(tokens=True)
    for machine in (quiet, told):
        machine.add(ask("a", osl=5), 0.0)

    assert ["started", "first_token", "finished"] == [event.kind for event in to_the_end(quiet)]
    events = to_the_end(told)
    assert ["started", "first_token", "token", "token", "token", "token", "finished"] == [e.kind for e in events]
    assert [2.0, 2.75, 3.5, 4.25, 5.0] == when_tokens_came(events, "a")
    assert {"a": 5.0} == times(events, "finished")


def test_who_joins_in_the_middle_of_a_step_slows_its_rest() -> None:
    """At 3.875 half of a step is left to the first: 0.5 s for two, not 0.375 s. And so when the second leaves again."""
    machine = engine(tokens=True)
    machine.add(ask("a", osl=7), 0.0)
    events = machine.advance(2.625)
    machine.add(ask("b", isl=0, osl=3), 2.625)

    events += to_the_end(machine)

    assert [3.875, 4.875, 5.875] == when_tokens_came(events, "b")
    assert [2.0, 2.75, 3.5, 4.375, 5.375, 6.25, 7.0] == when_tokens_came(events, "a")


def test_of_two_things_at_one_time_what_makes_room_comes_first() -> None:
    """The first ends when the second's prefill does."""
    machine = engine()
    machine.add(ask("a", osl=3), 0.0)
    machine.add(ask("b", isl=2), 0.0)

    assert [("finished", "a"), ("first_token", "b"), ("finished", "b")] == [
        (event.kind, event.key) for event in to_the_end(machine) if event.at == 3.5
    ]


def test_speed_counts_for_prefill_and_decode() -> None:
    """Twice as fast from the start; and what is left of either when the speed changes goes on at the new one."""
    fast, slowed = engine(speed=2.0), engine(speed=2.0)
    fast.add(ask("a", osl=5), 0.0)
    assert {"a": 2.5} == times(to_the_end(fast), "finished")

    slowed.add(ask("a", osl=5), 0.0)
    slowed.add(ask("b"), 0.5)  # its prefill is from 1.0 to 2.0
    slowed.set_speed(1.75, 0.5)  # a has made two of four steps, and b three quarters of its prefill

    assert {"a": 1.0, "b": 2.75} == times(slowed.advance(4.5), "first_token")
    assert {"a": 4.75} == times(to_the_end(slowed), "finished")


# ---------------------------------------------------------------------------- waiting, and blocks


def test_at_most_so_many_run() -> None:
    """With two seats the third begins when one is free, not when the prefill is."""
    machine = engine(max_num_seqs=2)
    for key in "abc":
        machine.add(ask(key, osl=10), 0.0)

    events = to_the_end(machine)

    finished = times(events, "finished")
    assert {"a": 0.0, "b": 2.0, "c": finished["a"]} == times(events, "started")


def test_a_seat_counts_while_its_prefill_runs() -> None:
    """With one seat nobody joins before all is said."""
    machine = engine(max_num_seqs=1)
    for key in "ab":
        machine.add(ask(key, osl=2), 0.0)

    assert {"a": 0.0, "b": 2.75} == times(to_the_end(machine), "started")


def test_what_does_not_fit_waits_and_nobody_overtakes() -> None:
    """Of five blocks the first uses three; the second needs three, so the third, who needs one, waits behind it."""
    machine = engine(num_gpu_blocks=5)
    machine.add(ask("a", isl=8, osl=4), 0.0)
    machine.add(ask("b", isl=8, osl=4), 0.0)
    machine.add(ask("c", isl=3, osl=1), 0.0)
    events = machine.advance(4.0)  # the prefill is free by now

    assert (3, 2, 1) == (machine.active_blocks, machine.waiting, machine.running)
    events += to_the_end(machine)
    finished = times(events, "finished")
    assert ["a", "b", "c"] == list(times(events, "started"))
    assert finished["a"] == times(events, "started")["b"]


def test_room_for_the_answer_is_set_aside() -> None:
    """A prompt of one block with an answer of eight tokens uses three blocks from the beginning to the end."""
    machine = engine()
    machine.add(ask("a", isl=4, osl=8), 0.0)
    used = []
    while machine.next_at < math.inf:
        used.append(machine.active_blocks)
        machine.advance(machine.next_at)

    assert [3, 3, 3] == used
    assert (0, 1) == (machine.active_blocks, machine.cached_blocks)


def test_room_for_an_answer_costs_what_was_cached() -> None:
    """Of three prompts a block each is there; a long answer to the last takes the room of the others, and says so."""
    told: list[KvEvent] = []
    machine = MockEngine(replace(EXACT, num_gpu_blocks=4), told.append)
    for key in "abc":
        machine.add(ask(key, isl=4, osl=1), 0.0)
        to_the_end(machine)
    del told[:]

    machine.add(ask("c", isl=4, osl=12), 50.0)

    oldest = [ask(key).sequence[0] for key in "ab"]
    assert [Removed(tuple(oldest))] == told
    assert {"c": 1} == cached(machine.advance(50.0))


def test_who_can_never_fit_is_refused_at_once() -> None:
    """Even while others wait; whoever fits exactly is served."""
    machine = engine(num_gpu_blocks=4)
    machine.add(ask("a", isl=8, osl=8), 0.0)
    machine.add(ask("b", isl=8, osl=8), 1.0)
    machine.add(ask("c", isl=9, osl=8), 2.0)

    assert [("started", "a", 0.0, 0), ("refused", "c", 2.0, 0)] == machine.advance(2.0)
    assert ["a", "b"] == list(times(to_the_end(machine), "finished"))


def test_two_share_the_blocks_of_one_prompt() -> None:
    """Five blocks are enough for two requests of four, three of which are the same."""
    machine = engine(num_gpu_blocks=5)
    for key in "ab":
        machine.add(ask(key, tokens=prompt("x", 12), osl=4), 0.0)
    machine.advance(4.0)

    assert (0, 2, 5) == (machine.waiting, machine.running, machine.active_blocks)


# ---------------------------------------------------------------------------- going


@pytest.mark.parametrize("at", [0.0, 1.0, 3.0, 6.0])
def test_who_hangs_up_makes_room(at: float) -> None:
    """In the queue, in prefill or in the batch: the next begins at once, and no block stays in use."""
    machine = engine(num_gpu_blocks=4)
    machine.add(ask("a", isl=8, osl=8), 0.0)
    machine.add(ask("b", isl=8, osl=8), 0.0)
    machine.advance(at)

    assert machine.cancel("a", at)

    assert {"b": at} == times(to_the_end(machine), "started")
    assert (0, 0) == (machine.active_blocks, machine.running)


def test_who_waits_may_hang_up() -> None:
    """The one behind it waited for its blocks only: it begins at once."""
    machine = engine(num_gpu_blocks=4)
    for key, osl in (("a", 4), ("b", 8), ("c", 4)):
        machine.add(ask(key, isl=4, osl=osl), 0.0)
    events = machine.advance(2.5)
    assert {"a": 0.0} == times(events, "started")

    assert machine.cancel("b", 2.5)

    assert {"c": 2.5} == times(machine.advance(2.5), "started")


def test_one_fewer_in_the_batch_makes_the_rest_faster() -> None:
    """From the moment of hanging up: what was left of the step goes at the pace of one."""
    machine = engine(tokens=True)
    machine.add(ask("a", isl=0, osl=20), 0.0)
    machine.add(ask("b", isl=0, osl=3), 0.0)
    events = machine.advance(3.0)  # b joined at 2.5, and half of its first step is done
    machine.cancel("a", 3.0)

    events += to_the_end(machine)

    assert [2.5, 3.375, 4.125] == when_tokens_came(events, "b")


def test_nothing_is_said_about_who_hung_up() -> None:
    """Not even what would have been told by the next call."""
    machine = engine()
    machine.add(ask("a"), 0.0)
    machine.cancel("a", 1.0)

    assert math.inf == machine.next_at
    assert [] == machine.advance(9.0)


def test_strangers_cannot_hang_up() -> None:
    """Nor one who has finished by then; what it did is still told."""
    machine = engine()
    machine.add(ask("a"), 0.0)

    assert [False, False] == [machine.cancel("x", 1.0), machine.cancel("a", 2.0)]
    assert ["started", "first_token", "finished"] == [event.kind for event in machine.advance(2.0)]


def test_a_dead_worker_loses_all() -> None:
    """Decoding, in prefill, waiting; its cache too, and it tells nobody."""
    told: list[KvEvent] = []
    machine = MockEngine(EXACT, told.append)
    for key in "abcd":
        machine.add(ask(key, osl=50), 0.0)
    machine.advance(5.0)
    del told[:]

    assert ["a", "b", "c", "d"] == machine.drop()
    assert (0, 0, 0, 0, math.inf) == (
        machine.waiting,
        machine.running,
        machine.active_blocks,
        machine.cached_blocks,
        machine.next_at,
    )
    assert [] == told
    machine.add(ask("a"), 9.0)
    assert {"a": 0} == cached(machine.advance(9.0))
    assert {"a": 11.0} == times(to_the_end(machine), "finished")


def test_blocks_have_two_hashes() -> None:
    """A `Stored` event names both; where none of their own are given, the sequence hashes stand for them."""
    told: list[KvEvent] = []
    machine = MockEngine(EXACT, told.append)
    work = ask("a", isl=8)
    machine.add(work, 0.0)
    machine.add(ask("b", isl=8)._replace(blocks=()), 0.0)
    to_the_end(machine)

    other = tuple(ask("b", isl=8).sequence)
    assert [Stored(None, tuple(work.sequence), tuple(work.blocks)), Stored(None, other, other)] == told


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"num_gpu_blocks": 0}, "num_gpu_blocks=0 must be 1 or more"),
        ({"block_size": -4}, "block_size=-4 must be 1 or more"),
        ({"max_num_seqs": 0}, "max_num_seqs=0 must be 1 or more"),
        ({"itl_base_s": -0.1}, "itl_base_s=-0.1 must be a number of seconds, 0 or more"),
        ({"speedup_ratio": 0.0}, "speedup_ratio=0.0 must be a number above 0; 1.0 is real time"),
        ({"prefill_s_per_token": math.nan}, "prefill_s_per_token=nan must be a number of seconds"),
    ],
)
def test_what_could_not_serve_is_refused(args: dict[str, Any], sentence: str) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match=sentence):
        MockEngineArgs(**args)


def test_nothing_may_take_time() -> None:
    """An engine that takes no time at all answers all at once."""
    machine = engine(prefill_base_s=0, prefill_s_per_token=0, itl_base_s=0, itl_per_seq_s=0, tokens=True)
    for key in "ab":
        machine.add(ask(key, osl=3), 1.0)

    one = ["started", "first_token", "token", "token", "finished"]
    assert [(kind, key, 1.0, 0) for key in "ab" for kind in one] == machine.advance(1.0)


# ---------------------------------------------------------------------------- against a model without any cleverness


@dataclass
class Decoding:
    """One in the batch of the model below."""

    work: Work
    room: int
    tokens: int = 1
    progress: float = 0.0  # of its next token


class TokenByToken:
    """The same rules, with each request's progress carried along on its own from one token of anybody to the next."""

    def __init__(self, args: MockEngineArgs) -> None:
        self.args = args
        self.speed = 1.0
        self.now = 0.0
        self.events: list[EngineEvent] = []
        self.cache = LruModel(args.num_gpu_blocks)
        self.queue: list[Work] = []
        self.prefill: Decoding | None = None
        self.prefill_left = 0.0  # seconds at speed 1
        self.batch: list[Decoding] = []

    def tell(self, kind: Any, work: Work, found: int = 0) -> None:
        self.events.append(EngineEvent(kind, work.key, self.now, found))

    def room(self, work: Work) -> int:
        return math.ceil((work.isl + work.osl) / self.args.block_size) - len(work.sequence)

    def go_to(self, until: float) -> None:
        while True:
            step_s = (self.args.itl_base_s + self.args.itl_per_seq_s * len(self.batch)) / self.speed
            left = [(1 - one.progress) * step_s for one in self.batch]
            left.append(self.prefill_left / self.speed if self.prefill else math.inf)
            first = min(range(len(left)), key=left.__getitem__)
            passed = min(left[first], until - self.now)
            for one in self.batch:
                one.progress += passed / step_s
            self.prefill_left -= passed * self.speed
            if passed < left[first]:
                self.now = until
                return
            self.now += passed
            if first < len(self.batch):
                self.token(self.batch[first])
            else:
                self.first_token()

    def token(self, one: Decoding) -> None:
        one.tokens, one.progress = one.tokens + 1, 0.0
        self.tell("token", one.work)
        if one.tokens == one.work.osl:
            self.batch.remove(one)
            self.finish(one)

    def first_token(self) -> None:
        one, self.prefill = self.prefill, None
        assert one is not None
        self.tell("first_token", one.work)
        if one.work.osl == 1:
            self.finish(one)
        else:
            self.batch.append(one)
            self.admit()

    def finish(self, one: Decoding) -> None:
        self.tell("finished", one.work)
        self.let_go(one)
        self.admit()

    def let_go(self, one: Decoding) -> None:
        self.cache.release(one.work.sequence)
        self.cache.capacity += one.room

    def admit(self) -> None:
        if self.prefill or not self.queue or len(self.batch) >= self.args.max_num_seqs:
            return
        work = self.queue[0]
        self.cache.capacity -= self.room(work)
        found = self.cache.hold(work.sequence)
        if found is None:
            self.cache.capacity += self.room(work)
            return
        self.prefill = Decoding(self.queue.pop(0), self.room(work))
        uncached = max(1, work.isl - found * self.args.block_size)
        self.prefill_left = self.args.prefill_base_s + self.args.prefill_s_per_token * uncached
        self.tell("started", work, found)

    def add(self, work: Work, now: float) -> None:
        self.go_to(now)
        if len(work.sequence) + self.room(work) > self.args.num_gpu_blocks:
            self.tell("refused", work)
        else:
            self.queue.append(work)
            self.admit()

    def cancel(self, key: int | str, now: float) -> bool:
        self.go_to(now)
        here = [*self.queue, *(one.work for one in (self.prefill, *self.batch) if one)]
        self.queue = [work for work in self.queue if work.key != key]
        for one in [one for one in self.batch if one.work.key == key]:
            self.batch.remove(one)
            self.let_go(one)
        if self.prefill and self.prefill.work.key == key:
            self.let_go(self.prefill)
            self.prefill = None
        self.admit()
        return any(work.key == key for work in here)

    def set_speed(self, now: float, speed: float) -> None:
        self.go_to(now)
        self.speed = speed


ARGS = MockEngineArgs(
    num_gpu_blocks=9,
    block_size=4,
    max_num_seqs=3,
    prefill_base_s=0.31,
    prefill_s_per_token=0.043,
    itl_base_s=0.17,
    itl_per_seq_s=0.059,
)
REQUEST = st.tuples(st.just("add"), st.sampled_from("xyz"), st.integers(0, 26), st.integers(1, 14))
HANG_UP = st.tuples(st.just("cancel"), st.integers(0, 30))
CHANGE = st.tuples(st.just("speed"), st.sampled_from([0.5, 1.0, 3.0]))
# Odd gaps: where nothing happens at the same time, there is one order only.
SCRIPT = st.lists(st.tuples(st.integers(0, 30), st.one_of(REQUEST, REQUEST, REQUEST, HANG_UP, CHANGE)), max_size=30)


def played(machine: MockEngine | TokenByToken, script: list[tuple[int, Any]]) -> list[bool]:
    """Do to an engine what is written; return whether those who hung up were there."""
    now, there = 0.0, []
    for number, (gap, (what, *details)) in enumerate(script):
        now += 0.0917 * gap + 0.000_713 * math.sqrt(number + 2)
        if what == "add":
            text, isl, osl = details
            machine.add(ask(str(number), tokens=prompt(text, isl), osl=osl), now)
        elif what == "cancel":
            there.append(machine.cancel(str(details[0]), now))
        else:
            machine.set_speed(now, details[0])
    return there


@given(SCRIPT)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_it_is_as_if_it_went_token_by_token(script: list[tuple[int, Any]]) -> None:
    """Who comes, hangs up, and at which speed: the same events at the same times, one by one."""
    model, machine = TokenByToken(ARGS), MockEngine(ARGS, tokens=True)

    assert played(model, script) == played(machine, script)

    model.go_to(1e6)
    events = machine.advance(1e6)
    gone = {str(details[1]) for _, details in script if details[0] == "cancel"}
    expected = [event for event in model.events if event.key not in gone]
    events = [event for event in events if event.key not in gone]
    assert [(e.kind, e.key, e.cached) for e in expected] == [(e.kind, e.key, e.cached) for e in events]
    assert [event.at for event in expected] == pytest.approx([event.at for event in events], rel=1e-9)


class Watched:
    """An engine that is asked for news at each moment when it said it would have some."""

    def __init__(self, machine: MockEngine) -> None:
        self.machine = machine
        self.events: list[EngineEvent] = []

    def go_to(self, now: float) -> None:
        while self.machine.next_at <= now:
            at = self.machine.next_at
            happened = self.machine.advance(at)
            assert {at} == {event.at for event in happened}
            self.events += happened
            assert self.machine.active_blocks <= ARGS.num_gpu_blocks
            assert self.machine.running <= ARGS.max_num_seqs

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.go_to(next(arg for arg in args if isinstance(arg, float)))
            return getattr(self.machine, name)(*args)

        return call


@given(SCRIPT)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_how_often_one_asks_changes_nothing(script: list[tuple[int, Any]]) -> None:
    """At each moment or at the end, with tokens or without: the same to the last bit. An index can follow."""
    index = KvIndexer()
    rarely = MockEngine(ARGS, lambda event: index.apply_event(WORKER, event))
    often = Watched(MockEngine(ARGS, tokens=True))

    assert played(rarely, script) == played(often, script)  # type: ignore[arg-type]

    often.go_to(1e6)
    gone = {str(details[1]) for _, details in script if details[0] == "cancel"}
    assert [event for event in rarely.advance(1e6) if event.key not in gone] == [
        event for event in often.events if event.key not in gone and event.kind != "token"
    ]
    assert (0, 0, 0) == (rarely.active_blocks, rarely.running, rarely.waiting)
    assert rarely.cached_blocks == index.workers.get(WORKER, 0)
