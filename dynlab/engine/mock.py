"""MockEngine: prefill and decode that take time and fill KV blocks (Dynamo: the mocker, lib/mocker, in small).

Waiting queue -> prefill, one request after another -> decode batch. What takes how long are straight lines instead
of measured tables, the answer's blocks are not kept for later prompts, and a prefill does not slow the batch down.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence

from dynlab.engine.args import MockEngineArgs
from dynlab.engine.base import EngineEvent, Key, Work, checked_speed, event_of
from dynlab.errors import CacheFullError
from dynlab.kv.cache import KvCache
from dynlab.kv.events import KvEvent

__all__ = ("MockEngine",)


class _Request:
    """A request from its admission on."""

    __slots__ = ("base", "key", "number", "osl", "room", "sequence", "tokens")

    def __init__(self, work: Work, sequence: Sequence[int], room: int, number: int) -> None:
        self.key = work.key
        self.osl = work.osl
        self.sequence = sequence
        self.room = room  # blocks kept for what no hash is known of: the prompt's tail, and the answer
        self.number = number  # the how many-th that was admitted
        self.base = 0.0  # where the batch's step counter was when it joined
        self.tokens = 1


class MockEngine:
    """One worker's engine. Tells "started", "first_token", "finished" and "refused"; with `tokens`, each "token" too.

    A request is admitted when nobody is in prefill, fewer than `max_num_seqs` run, and its blocks fit; until then it
    waits, and nobody overtakes it. Room for its whole answer is set aside from admission to the end, so nobody has to
    be preempted later (a real engine admits more, and preempts when it erred). Who could never fit is refused at once.

    Prefill takes `prefill_base_s + prefill_s_per_token * uncached` seconds and ends with the first token; of a prompt
    that is cached to the end, one token is still computed. All that decode make a step together, in
    `itl_base_s + itl_per_seq_s * (how many they are)` seconds. When their number changes in the middle of a step, the
    rest of it takes as long as is right for the new number.

    `on_event` hears what comes into the cache and what leaves it. A prompt's blocks are there from its admission on,
    also if it hangs up before its prefill is through.
    """

    # Between two changes of the batch all of it moves on evenly. So one counter of steps is kept for all, and who
    # joins at 7.25 to make 100 steps leaves at 107.25: nothing is done per token, unless tokens are to be told.

    def __init__(
        self,
        args: MockEngineArgs,
        on_event: Callable[[KvEvent], None] | None = None,
        speed: float = 1.0,
        tokens: bool = False,
    ) -> None:
        self.args = args
        self.speed = checked_speed(speed)
        self.next_at = math.inf
        self._on_event = on_event
        self._tokens = tokens
        self._count = 0
        self._waiting: deque[tuple[Work, int]] = deque()  # with the blocks that it takes
        self._told: list[EngineEvent] = []  # what `advance` has yet to say
        self._begin()

    def _begin(self) -> None:
        self._cache = KvCache(self.args.num_gpu_blocks, self._on_event)
        self._room = 0  # blocks set aside for answers; the cache's capacity is what is left
        self._prefilling: _Request | None = None
        self._prefill_at = math.inf  # when that ends
        self._batch: list[tuple[float, int, _Request]] = []  # a heap: the step at which one has something to say
        self._steps = 0.0  # the counter, as it was
        self._since = 0.0  # at this time
        self._step_s = 0.0
        self._decode_at = math.inf  # when the first in the heap is due

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._batch) + (self._prefilling is not None)

    @property
    def active_blocks(self) -> int:
        """Blocks that requests use, with those set aside for answers (Dynamo's metric `kv_active_blocks`)."""
        return self.args.num_gpu_blocks - int(self._cache.free)

    @property
    def cached_blocks(self) -> int:
        """Blocks that a prompt may find, used ones included."""
        return len(self._cache)

    def add(self, work: Work, now: float) -> None:
        if self.next_at <= now:
            self._run(now)
        if (blocks := self.blocks_of(work)) > self.args.num_gpu_blocks:
            self._told.append(event_of(("refused", work.key, now, 0)))
        else:
            self._waiting.append((work, blocks))
            if self._prefilling is None:
                self._admit(now)
        if self._told and now < self.next_at:
            self.next_at = now

    def blocks_of(self, work: Work) -> int:
        """Return how many blocks a request takes, with all of its answer."""
        blocks = -(-(work.isl + work.osl) // self.args.block_size)
        return blocks if blocks > len(work.sequence) else len(work.sequence)

    def advance(self, now: float) -> list[EngineEvent]:
        self._run(now)
        told, self._told = self._told, []
        prefill_at, decode_at = self._prefill_at, self._decode_at
        self.next_at = prefill_at if prefill_at < decode_at else decode_at
        return told

    def cancel(self, key: Key, now: float) -> bool:
        self._run(now)
        if (found := next((entry for entry in self._waiting if entry[0].key == key), None)) is not None:
            self._waiting.remove(found)
        elif self._prefilling is not None and self._prefilling.key == key:
            self._release(self._prefilling)
            self._prefilling, self._prefill_at = None, math.inf
        elif (entry := next((entry for entry in self._batch if entry[2].key == key), None)) is not None:
            self._count_steps(now)
            self._batch.remove(entry)
            heapq.heapify(self._batch)
            self._pace()
            self._release(entry[2])
        else:
            return False
        self._told = [event for event in self._told if event.key != key]
        self._admit(now)  # perhaps it was what the others waited for
        self._reckon()
        return True

    def set_speed(self, now: float, speed: float) -> None:
        checked_speed(speed)
        self._run(now)
        self._count_steps(now)
        if self._prefilling is not None:
            self._prefill_at = now + (self._prefill_at - now) * self.speed / speed
        self.speed = speed
        self._pace()
        self._reckon()

    def drop(self) -> list[Key]:
        keys = [request.key for _, _, request in sorted(self._batch, key=lambda entry: entry[1])]
        keys += [self._prefilling.key] if self._prefilling is not None else []
        keys += [work.key for work, _ in self._waiting]
        self._waiting.clear()
        self._told = []
        self._begin()
        self.next_at = math.inf
        return keys

    # ------------------------------------------------------------------------ what happens

    def _run(self, now: float) -> None:
        """Let everything happen that is due by now; of two things at one time, what makes room comes first."""
        while True:
            if self._decode_at <= self._prefill_at:
                if self._decode_at > now:
                    return
                self._step()
            elif self._prefill_at <= now:
                self._first_token()
            else:
                return

    def _admit(self, at: float) -> None:
        """Let the first in the queue begin its prefill, if it may."""
        waiting = self._waiting
        if self._prefilling is not None or not waiting or len(self._batch) >= self.args.max_num_seqs:
            return
        args = self.args
        work, blocks = waiting[0]
        sequence = work.sequence if args.enable_prefix_caching else ()
        room = blocks - len(sequence)
        self._set_aside(room)
        try:
            cached = self._cache.hold(sequence, work.blocks or sequence)
        except CacheFullError:
            self._set_aside(-room)
            return
        waiting.popleft()
        self._count += 1
        self._prefilling = _Request(work, sequence, room, self._count)
        uncached = work.isl - cached * args.block_size
        self._prefill_at = at + (args.prefill_base_s + max(1, uncached) * args.prefill_s_per_token) / self.speed
        self._told.append(event_of(("started", work.key, at, cached)))

    def _first_token(self) -> None:
        """A prefill ends: its request joins the batch, and the next one may begin."""
        request, at = self._prefilling, self._prefill_at
        assert request is not None
        self._prefilling, self._prefill_at = None, math.inf
        self._told.append(event_of(("first_token", request.key, at, 0)))
        if request.osl <= 1:
            self._finish(request, at)
            return
        self._count_steps(at)
        request.base = self._steps
        heapq.heappush(self._batch, (request.base + (1 if self._tokens else request.osl - 1), request.number, request))
        self._pace()
        if self._waiting:
            self._admit(at)

    def _step(self) -> None:
        """The first in the heap has come to its step."""
        step, number, request = self._batch[0]
        at = self._decode_at
        if self._tokens:
            request.tokens += 1
            self._told.append(event_of(("token", request.key, at, 0)))
            if request.tokens < request.osl:
                heapq.heapreplace(self._batch, (request.base + request.tokens, number, request))
                self._pace()
                return
        heapq.heappop(self._batch)
        self._steps, self._since = step, at
        self._pace()
        self._finish(request, at)

    def _finish(self, request: _Request, at: float) -> None:
        self._told.append(event_of(("finished", request.key, at, 0)))
        self._release(request)
        if self._waiting:
            self._admit(at)

    def _release(self, request: _Request) -> None:
        self._set_aside(-request.room)
        self._cache.release(request.sequence)

    def _set_aside(self, blocks: int) -> None:
        self._room += blocks
        self._cache.capacity = self.args.num_gpu_blocks - self._room

    # ------------------------------------------------------------------------ the batch's pace

    def _count_steps(self, at: float) -> None:
        """Bring the counter up to a time at which the batch or its pace changes; it starts anew with each batch."""
        self._steps = self._steps + (at - self._since) / self._step_s if self._batch else 0.0
        self._since = at

    def _pace(self) -> None:
        """Set how long a step takes from here on, and when the first in the heap is due."""
        batch, since = self._batch, self._since
        if not batch:
            self._decode_at = math.inf
            return
        self._step_s = (self.args.itl_base_s + self.args.itl_per_seq_s * len(batch)) / self.speed
        due = since + (batch[0][0] - self._steps) * self._step_s
        self._decode_at = due if due > since else since  # rounding must not take it back in time

    def _reckon(self) -> None:
        """Set `next_at` anew, after more than time has passed."""
        first = self._told[0].at if self._told else math.inf
        self.next_at = min(first, self._prefill_at, self._decode_at)
