"""Asking the Frontend over real HTTP from a cell: once, as a stream, or many times at once."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx
from tqdm.auto import tqdm as auto_tqdm

from dynlab.clock import now_ns
from dynlab.errors import DeploymentError, DynlabError, RequestFailedError
from dynlab.runtime.loops import LoopThread
from dynlab.serving.frames import read_event
from dynlab.tracing import TraceLog

__all__ = ("AnswerStream", "Asker", "Batch")

TIMEOUT_S = 60.0


class _Progress(auto_tqdm):  # type: ignore[misc]
    """A progress bar without tqdm's monitor thread, which would outlive it."""

    monitor_interval = 0


_HEADERS = {"accept": "text/event-stream"}


class Asker:
    """Sends requests to one Frontend, and adds to their traces when they were sent and answered."""

    def __init__(self, url: str, apis: Mapping[str, Sequence[str]], traces: TraceLog[Any]) -> None:
        self.url = url
        self._apis = apis
        self._traces = traces
        self._numbers = itertools.count(1)
        self._batches = itertools.count(1)
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def stream(self, args: Sequence[Any], body: Mapping[str, Any], api: str | None) -> AnswerStream:
        """Prepare one request; it is sent when the first item is asked for."""
        name = self._api(api)
        request = self._body(name, args, body)
        request_id = request.get("request_id")
        if not isinstance(request_id, str) or not request_id:
            request_id = f"ask-{next(self._numbers)}"
            if "request_id" in self._apis[name]:
                request.setdefault("request_id", request_id)
        return AnswerStream(self._client, f"{self.url}/{name}", request, request_id, self._traces)

    def many(
        self, prompts: int | Iterable[Any], concurrency: int, wait: bool, api: str | None, body: Mapping[str, Any]
    ) -> Batch:
        """Send many requests from a thread of their own, `concurrency` at a time."""
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency} must be at least 1.")
        name = self._api(api)
        keys = self._apis[name]
        each = [f"prompt {n}" for n in range(prompts)] if isinstance(prompts, int) else list(prompts)
        batch = next(self._batches)
        width = len(str(len(each)))
        requests: list[tuple[str, dict[str, Any]]] = []
        for n, prompt in enumerate(each):
            request_id = f"b{batch}-{n:0{width}}"
            request = dict(prompt) if isinstance(prompt, Mapping) else self._body(name, [prompt], body)
            if "request_id" in keys:
                request.setdefault("request_id", request_id)
            requests.append((str(request.get("request_id", request_id)), request))
        return Batch(f"{self.url}/{name}", requests, concurrency, self._traces).start(wait)

    def _api(self, api: str | None) -> str:
        if api is None:
            return next(iter(self._apis))
        if api not in self._apis:
            raise DeploymentError(f"The Frontend has no @api method {api!r}; it has {', '.join(self._apis)}.")
        return api

    def _body(self, name: str, args: Sequence[Any], body: Mapping[str, Any]) -> dict[str, Any]:
        keys = self._apis[name]
        if len(args) > len(keys):
            raise DeploymentError(f"{name} takes the keys {', '.join(keys)}; {len(args)} values were given.")
        return {**dict(zip(keys, args, strict=False)), **body}


class AnswerStream:
    """The items of one answer as they arrive: read it with `for`, or with `async for` in async code.

    `close()` or leaving the `with` block hangs up, which stops the worker.
    """

    def __init__(
        self, client: httpx.Client, url: str, body: dict[str, Any], request_id: str, traces: TraceLog[Any]
    ) -> None:
        self.request_id = request_id
        self._client = client
        self._url = url
        self._body = body
        self._traces = traces
        self._items: list[str] = []
        self._iterator: Iterator[str] | None = None

    def __iter__(self) -> Iterator[str]:
        if self._iterator is None:
            self._iterator = self._read()
        return self._iterator

    def __next__(self) -> str:
        return next(iter(self))

    async def __aiter__(self) -> AsyncIterator[str]:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            sent = now_ns()
            async with client.stream("POST", self._url, **self._arguments()) as response:
                if response.status_code != 200:
                    raise _failure(response.status_code, await response.aread())
                lines: list[str] = []
                async for line in response.aiter_lines():
                    if (item := self._event(lines, line)) is not None:
                        yield item
            self._stamp(sent)

    def close(self) -> None:
        """Hang up."""
        if self._iterator is not None:
            self._iterator.close()  # type: ignore[attr-defined]

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read(self) -> Iterator[str]:
        sent = now_ns()
        with self._client.stream("POST", self._url, **self._arguments()) as response:
            if response.status_code != 200:
                raise _failure(response.status_code, response.read())
            lines: list[str] = []
            for line in response.iter_lines():
                if (item := self._event(lines, line)) is not None:
                    yield item
        self._stamp(sent)

    def _arguments(self) -> dict[str, Any]:
        return {"json": self._body, "headers": {**_HEADERS, "x-request-id": self.request_id}}

    def _event(self, lines: list[str], line: str) -> str | None:
        """Collect lines until an event is whole; return its data then."""
        if line:
            lines.append(line)
            return None
        if not lines:
            return None
        name, data = read_event(lines)
        lines.clear()
        if name == "error":
            error = json.loads(data)
            raise RequestFailedError(200, f"{error['type']}: {error['detail']}", self._items)
        self._items.append(data)
        return data

    def _stamp(self, sent_ns: int) -> None:
        _stamp(self._traces, self.request_id, sent_ns)


class Batch:
    """Many requests under way: how many are done, what was answered, what failed.

    `answers[n]` is the text of request n, or None while it is missing; `failures` maps request ids to what
    went wrong.
    """

    def __init__(
        self, url: str, requests: Sequence[tuple[str, dict[str, Any]]], concurrency: int, traces: TraceLog[Any]
    ) -> None:
        self.total = len(requests)
        self.request_ids = [request_id for request_id, _ in requests]
        self.answers: list[str | None] = [None] * self.total
        self.failures: dict[str, str] = {}
        self._url = url
        self._requests = requests
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
        try:
            with _Progress(total=self.total, desc="asking", unit="request", leave=False, disable=self.finished) as bar:
                deadline = None if timeout is None else now_ns() + timeout * 1e9
                while not self._finished.wait(0.05) and (deadline is None or now_ns() < deadline):
                    bar.update(self.done - bar.n)
                bar.update(self.done - bar.n)
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self

    def cancel(self) -> None:
        """Hang up on what is under way, and send no more."""
        if self._running is not None:
            self._running.cancel()
        self._finished.wait(5.0)
        self._thread.join(5.0)

    async def _run(self) -> None:
        queue = iter(enumerate(self._requests))

        async def ask_in_turn() -> None:
            # A client each: the connection pool of one shared by many tasks is what costs most.
            async with httpx.AsyncClient(
                timeout=TIMEOUT_S, trust_env=False, verify=False
            ) as client:  # plain HTTP: no certificates to load
                for place, (request_id, body) in queue:
                    await self._ask(client, place, request_id, body)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, self.total)):
                group.create_task(ask_in_turn())

    async def _ask(self, client: httpx.AsyncClient, place: int, request_id: str, body: dict[str, Any]) -> None:
        sent = now_ns()
        try:
            # Without the accept header: the answer's text is wanted whole, not its items.
            response = await client.post(self._url, json=body, headers={"x-request-id": request_id})
        except httpx.HTTPError as error:
            self.failures[request_id] = f"{type(error).__name__}: {error}"
            return
        if response.status_code == 200:
            self.answers[place] = response.text
            _stamp(self._traces, request_id, sent)
        else:
            self.failures[request_id] = str(_failure(response.status_code, response.content))

    def _finish(self, _: Any) -> None:
        self._ended_ns = now_ns()
        self._thread.stop()
        self._finished.set()

    def __repr__(self) -> str:
        state = f"in {self.elapsed_s:.2f} s" if self.finished else "so far"
        return f"<Batch: {self.done} of {self.total} answered {state}, {len(self.failures)} failed>"


def _failure(status: int, content: bytes) -> DynlabError:
    try:
        report = json.loads(content)
        message = report.get("message") or f"{report['type']}: {report['detail']}"
    except (ValueError, KeyError, AttributeError, TypeError):
        message = content.decode("utf-8", "replace")[:200]
    return RequestFailedError(status, str(message))


def _stamp(traces: TraceLog[Any], request_id: str, sent_ns: int) -> None:
    """Add the client's own times to the trace, unless it has left the log."""
    answered = now_ns()
    with suppress(LookupError):
        trace = traces[request_id]
        trace.sent_ns, trace.answered_ns = sent_ns, answered
