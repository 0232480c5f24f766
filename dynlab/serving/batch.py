"""Many requests under way at once: how far they are, what was answered, what failed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from typing import Any

import httpx
from tqdm.auto import tqdm as auto_tqdm

from dynlab.clock import now_ns
from dynlab.runtime.loops import LoopThread
from dynlab.serving.answers import TIMEOUT_S, Question, failure, stamp, unanswered
from dynlab.trace_log import TraceLog

__all__ = ("Batch",)


class _Progress(auto_tqdm):  # type: ignore[misc]
    """A progress bar without tqdm's monitor thread, which would outlive it."""

    monitor_interval = 0

    @classmethod
    def unseen(cls) -> bool:
        """True where nobody watches: in a program whose output goes to a file."""
        in_notebook = any(base.__name__ == "tqdm_notebook" for base in cls.__mro__)
        return not in_notebook and not sys.stderr.isatty()


class Batch:
    """Many requests under way: how many are done, what was answered, what failed.

    `answers[n]` is the text of request n, or None while it is missing; `failures` maps request ids to what
    went wrong.
    """

    def __init__(self, questions: Sequence[Question], concurrency: int, traces: TraceLog[Any]) -> None:
        self.total = len(questions)
        self.request_ids = [question.request_id for question in questions]
        self.answers: list[str | None] = [None] * self.total
        self.failures: dict[str, str] = {}
        self._questions = questions
        self._concurrency = concurrency
        self._traces = traces
        self._began_ns = self._ended_ns = 0
        self._finished = threading.Event()
        self._thread = LoopThread("dynlab-ask-many")
        self._running: Any = None

    @property
    def done(self) -> int:
        """Requests that were answered or have failed."""
        return self.total - sum(answer is None for answer in self.answers) + len(self.failures)

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    @property
    def elapsed_s(self) -> float:
        return ((self._ended_ns or now_ns()) - self._began_ns) / 1e9

    @property
    def traces(self) -> TraceLog[Any]:
        """The traces of this batch alone, to plot."""
        return self._traces.only(self.request_ids)

    def start(self, wait: bool) -> Batch:
        self._began_ns = now_ns()
        self._thread.start()
        self._running = self._thread.submit(self._run())
        self._running.add_done_callback(self._finish)
        return self.wait() if wait else self

    def wait(self, timeout: float | None = None) -> Batch:
        """Wait for the rest, with a progress bar; an interrupt cancels what has not been sent."""
        hidden = self.finished or _Progress.unseen()
        try:
            with _Progress(total=self.total, desc="asking", unit="request", leave=False, disable=hidden) as bar:
                deadline = None if timeout is None else now_ns() + timeout * 1e9
                while not self._finished.wait(0.05) and (deadline is None or now_ns() < deadline):
                    bar.update(self.done - bar.n)
                bar.update(self.done - bar.n)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if self.finished:
            self._thread.join(5.0)
        return self

    def cancel(self) -> None:
        """Hang up on what is under way, and send no more."""
        if self._running is not None:
            self._running.cancel()
        self._finished.wait(5.0)
        self._thread.join(5.0)

    async def _run(self) -> None:
        queue = iter(enumerate(self._questions))

        async def ask_in_turn() -> None:
            # A client each: the connection pool of one shared by many tasks is what costs most.
            async with httpx.AsyncClient(
                timeout=TIMEOUT_S, trust_env=False, verify=False
            ) as client:  # plain HTTP: no certificates to load
                for place, question in queue:
                    await self._ask(client, place, question)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, self.total)):
                group.create_task(ask_in_turn())

    async def _ask(self, client: httpx.AsyncClient, place: int, question: Question) -> None:
        sent = now_ns()
        try:
            # Without the accept header: the answer's text is wanted whole, not its items.
            response = await client.post(question.url, **question.arguments())
        except httpx.HTTPError as error:
            self.failures[question.request_id] = unanswered(question.url, error)
            return
        if response.status_code == 200:
            self.answers[place] = response.text
            stamp(self._traces, question.request_id, sent)
        else:
            self.failures[question.request_id] = str(failure(response.status_code, response.content))

    def _finish(self, _: Any) -> None:
        self._ended_ns = now_ns()
        self._thread.stop()
        self._finished.set()

    def __repr__(self) -> str:
        state = f"in {self.elapsed_s:.2f} s" if self.finished else "so far"
        return f"<Batch: {self.done} of {self.total} answered {state}, {len(self.failures)} failed>"
