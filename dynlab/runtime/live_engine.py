"""A `MockEngine` at work on an instance's loop: what the machine says will happen is waited for, on a `Clock`."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from dynlab.clock import Clock
from dynlab.engine import EngineEvent, MockEngine, MockEngineArgs, Work
from dynlab.errors import CacheFullError
from dynlab.kv.blocks import block_hashes, sequence_hashes, tokenize
from dynlab.runtime.context import current_context
from dynlab.runtime.published_cache import KvPublisher, OpenPublisher

__all__ = ("Generation", "LiveEngine", "Token")


class Token(NamedTuple):
    """One token of an answer: its number, from 0, and when the engine had it, in seconds of its clock."""

    number: int
    at: float


class Generation:
    """One request in an engine: an async iterator of its tokens, each as soon as its time has come.

    All times are the engine's own. They are exact however late a busy loop gets to deliver a token.
    """

    def __init__(self, added_at: float) -> None:
        self.added_at = added_at
        self.started_at: float | None = None  # when its prefill began; None while it waits in the queue
        self.first_token_at: float | None = None
        self.cached_blocks = 0
        self._tokens: deque[Token] = deque()
        self._count = 0
        self.is_over = False
        self._news: asyncio.Future[None] | None = None

    @property
    def queued_s(self) -> float | None:
        """Seconds it waited until its prefill began."""
        return None if self.started_at is None else self.started_at - self.added_at

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, in seconds: waiting and prefill."""
        return None if self.first_token_at is None else self.first_token_at - self.added_at

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Token:
        while not self._tokens:
            if self.is_over:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._tokens.popleft()

    def hear(self, event: EngineEvent) -> None:
        """Take what the engine says of this request."""
        if event.kind == "started":
            self.started_at, self.cached_blocks = event.at, event.cached
            return
        if event.kind == "finished":
            self.is_over = True
        else:
            if event.kind == "first_token":
                self.first_token_at = event.at
            self._tokens.append(Token(self._count, event.at))
            self._count += 1
        self._wake()

    def end(self) -> None:
        """Let there be no further tokens."""
        self._tokens.clear()
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class LiveEngine:
    """One instance's engine, whose blocks the KV routers are told. Lives on the instance's loop.

    While anything is to come, one task waits for it; an engine without requests has none.
    """

    def __init__(self, args: MockEngineArgs, clock: Clock, publisher: OpenPublisher) -> None:
        self.args = args
        self.clock = clock
        self._machine = MockEngine(args, KvPublisher(publisher).tell, tokens=True)
        self._answers: dict[int | str, Generation] = {}
        self._keys = itertools.count(1)
        self._timer: asyncio.Task[None] | None = None
        self._wakes_at = math.inf
        self.blocks_asked = 0
        self.blocks_found = 0

    @property
    def total_blocks(self) -> int:
        """Blocks that it has room for."""
        return self.args.num_gpu_blocks

    @property
    def waiting(self) -> int:
        """Requests in its queue."""
        return self._machine.waiting

    @property
    def running(self) -> int:
        """Requests in prefill and decode."""
        return self._machine.running

    @property
    def active_blocks(self) -> int:
        """Blocks in use, with those set aside for answers."""
        return self._machine.active_blocks

    @contextmanager
    def generating(self, prompt: str | Sequence[int], osl: int) -> Iterator[Generation]:
        """Have an answer of `osl` tokens made to a text or to token ids.

        Leaving the block before the end hangs up, and so does the caller of the request whose handler this is:
        then there are no further tokens.

        Raises:
            CacheFullError: if prompt and answer together have more blocks than the engine.
        """
        tokens = tokenize(prompt) if isinstance(prompt, str) else prompt
        blocks = block_hashes(tokens, self.args.block_size)
        work = Work(next(self._keys), isl=len(tokens), osl=osl, sequence=sequence_hashes(blocks), blocks=blocks)
        if (needed := self._machine.blocks_of(work)) > self.args.num_gpu_blocks:
            raise CacheFullError(
                f"A prompt of {work.isl} tokens and an answer of {osl} need {needed} blocks of {self.args.block_size} "
                f"tokens; the engine has num_gpu_blocks={self.args.num_gpu_blocks}. Send a shorter prompt, ask for a "
                "shorter answer, or give the engine more blocks."
            )
        now = self.clock.now()
        answer = self._answers[work.key] = Generation(now)
        context = current_context.get()
        try:
            self._machine.add(work, now)
            self._go_on()
            if context is not None:  # a handler that waits for its first token does not see that nobody wants it
                context.on_stop(answer, lambda: self._hang_up(work.key))
            yield answer
        finally:
            if context is not None:
                context.forget(answer)
            self._hang_up(work.key)
            if answer.started_at is not None:
                self.blocks_asked += len(blocks)
                self.blocks_found += answer.cached_blocks

    def _hang_up(self, key: int | str) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None and not answer.is_over:
            answer.end()
            self._machine.cancel(key, self.clock.now())
            self._go_on()

    def _go_on(self) -> None:
        """Pass on what has happened by now, and have somebody awake when more will have."""
        self._deliver()
        due = self._machine.next_at
        if self._timer is not None and not self._wakes_at <= due < math.inf:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due < math.inf:
            self._wakes_at = due
            self._timer = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (due := self._machine.next_at) < math.inf:
            self._wakes_at = due
            await self.clock.sleep(due - self.clock.now())
            self._deliver()
        self._timer = None

    def _deliver(self) -> None:
        for event in self._machine.advance(self.clock.now()):
            if (answer := self._answers.get(event.key)) is not None:
                answer.hear(event)
