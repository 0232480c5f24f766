"""uvicorn's HTTP protocol, with one write for a short answer, and with limits on the head of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ("HEAD_LIMIT", "HEAD_TIMEOUT_S", "GraphProtocol")

HEAD_LIMIT = 65_536
"""Bytes of a request's first line and headers; a longer head is answered 431."""
HEAD_TIMEOUT_S = 10.0
"""How long a client may take for them; a slower one is cut off."""
KEPT_BYTES = 65_536
"""What may wait for the end of the loop's turn; more is written at once, so that a slow reader is noticed."""


class GraphProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_OneWrite(transport))  # type: ignore[arg-type]
        self._head_bytes = 0
        self._head_clock: asyncio.TimerHandle | None = self.loop.call_later(HEAD_TIMEOUT_S, self._cut_off)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn makes a scope when a head begins, and a cycle for it when the head has ended.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            if self._head_clock is not None:
                self._head_bytes = 0
                self._stop_clock()
            return
        self._head_bytes += len(data)
        if self._head_clock is None:
            self._head_clock = self.loop.call_later(HEAD_TIMEOUT_S, self._cut_off)
        if self._head_bytes > HEAD_LIMIT and not self.transport.is_closing():
            text = f"The first line and the headers may have {HEAD_LIMIT} bytes."
            head = f"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: {len(text)}\r\nconnection: close"
            self.transport.write(f"{head}\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n{text}".encode())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    def _cut_off(self) -> None:
        self.transport.close()


class _OneWrite:
    """A transport that gathers what is written during one turn of the loop: a write costs as much as a tier."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._kept: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(data)
        self._size += len(data)
        if self._size > KEPT_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._kept:
            data = b"".join(self._kept)
            self._kept.clear()
            self._size = 0
            if not self._transport.is_closing():  # the client may have left since
                self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
