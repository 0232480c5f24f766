"""One answer as it comes in over HTTP: read item by item, hung up on, and what is said when it fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from dynlab.clock import now_ns
from dynlab.errors import DeploymentError, RequestFailedError
from dynlab.serving.frames import FRAMED, read_event
from dynlab.trace_log import TraceLog

__all__ = ("TIMEOUT_S", "AnswerStream", "Question", "failure", "stamp", "unanswered")

TIMEOUT_S = 60.0


class Question:
    """A request that is ready to be sent: where to, its body as bytes, and the id its trace will have."""

    __slots__ = ("content", "request_id", "url", "worded")

    def __init__(self, url: str, request_id: str, content: bytes, worded: bool) -> None:
        self.url, self.request_id, self.content = url, request_id, content
        self.worded = worded  # the body says the id itself, so no header need: one could not say every text

    def arguments(self, accept: str = "*/*") -> dict[str, Any]:
        """Return what httpx takes."""
        headers = {"accept": accept, "content-type": "application/json"}
        if not self.worded:
            headers["x-request-id"] = self.request_id
        return {"content": self.content, "headers": headers}


class AnswerStream:
    """The items of one answer as they arrive: read it with `for`, or with `async for` in async code.

    `close()` or leaving the `with` block hangs up, which stops the worker.
    """

    def __init__(self, client: httpx.Client, question: Question, traces: TraceLog[Any]) -> None:
        self.request_id = question.request_id
        self._client = client
        self._question = question
        self._traces = traces
        self._items: list[str] = []
        self._rest = ""
        self._iterator: Iterator[str] | None = None

    def __iter__(self) -> Iterator[str]:
        if self._iterator is None:
            self._iterator = self._read()
        return self._iterator

    def __next__(self) -> str:
        return next(iter(self))

    async def __aiter__(self) -> AsyncIterator[str]:
        with _explained(self._question.url, self._items):
            async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=False) as client:
                sent = now_ns()
                async with client.stream("POST", self._question.url, **self._arguments()) as response:
                    if response.status_code != 200:
                        raise failure(response.status_code, await response.aread())
                    async for text in response.aiter_text():
                        for item in self._whole(text):
                            yield item
                stamp(self._traces, self.request_id, sent)

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
        with (
            _explained(self._question.url, self._items),
            self._client.stream("POST", self._question.url, **self._arguments()) as response,
        ):
            if response.status_code != 200:
                raise failure(response.status_code, response.read())
            for text in response.iter_text():
                yield from self._whole(text)
        stamp(self._traces, self.request_id, sent)

    def _arguments(self) -> dict[str, Any]:
        return self._question.arguments(accept=FRAMED)

    def _whole(self, text: str) -> Iterator[str]:
        """Yield the data of each event that is whole now, and keep the rest."""
        # Not by httpx's lines: it ends them at every character that Unicode calls a line end.
        *events, self._rest = (self._rest + text).split("\n\n")
        for event in events:
            name, data = read_event(event.split("\n"))
            if name == "error":
                error = json.loads(data)
                raise RequestFailedError(200, f"{error['type']}: {error['detail']}", self._items)
            self._items.append(data)
            yield data


@contextmanager
def _explained(url: str, items: Sequence[str]) -> Iterator[None]:
    """Say in one sentence what httpx says in its own words."""
    try:
        yield
    except httpx.HTTPError as error:
        raise DeploymentError(unanswered(url, error, len(items))) from None


def unanswered(url: str, error: httpx.HTTPError, items: int = 0) -> str:
    """Say that no answer came, or not all of it."""
    if isinstance(error, httpx.TimeoutException):
        happened = f"sent nothing for {TIMEOUT_S:g} s"
    elif isinstance(error, httpx.ConnectError):
        happened = "takes no requests; it was killed or closed"
    else:
        happened = "broke off its answer"
    after = f" after {items} item(s)" if items else ""
    return f"The Frontend at {url} {happened}{after} ({type(error).__name__}). See deployment.logs(), or serve again."


def failure(status: int, content: bytes) -> RequestFailedError:
    """Make the error of an answer that is none."""
    try:
        report = json.loads(content)
        message = report.get("message") or f"{report['type']}: {report['detail']}"
    except (ValueError, KeyError, AttributeError, TypeError):
        message = content.decode("utf-8", "replace")[:200]
    return RequestFailedError(status, str(message))


def stamp(traces: TraceLog[Any], request_id: str, sent_ns: int) -> None:
    """Add the client's own times to the trace, unless it has left the log."""
    traces.stamp(request_id, sent_ns, now_ns())
