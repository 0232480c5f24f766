"""Time to first token: `first_byte.py URL BODY SECONDS` prints the milliseconds of each request as a JSON list.

One request after the other over one kept-alive connection, for so many seconds: from the send of a request to the
first byte of its body. (wrk times whole answers.)
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from urllib.parse import urlsplit

__all__ = ("has_body", "request_bytes", "times_ms")

# The head, then the size of the first chunk, then a byte of it.
_FIRST_BYTE = re.compile(rb"\r\n\r\n[0-9a-fA-F]*[1-9a-fA-F][0-9a-fA-F]*\r\n.", re.DOTALL)
# Items are lines of JSON, so this stands nowhere in them.
_END = b"\r\n0\r\n\r\n"
_WARM = 3


def request_bytes(host: str, path: str, body: str) -> bytes:
    """Write a request down as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode("ascii")


def has_body(received: bytes) -> bool:
    """True once a byte of a chunked body is among what was received."""
    return _FIRST_BYTE.search(received) is not None


def times_ms(url: str, body: str, seconds: float) -> list[float]:
    """Ask for so long, and at least once after warming up; returns the time to the first byte of each answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    request = request_bytes(parts.netloc, parts.path, body)
    times: list[float] = []
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_WARM):
            _ask(connection, request)
        deadline = time.perf_counter() + seconds
        while not times or time.perf_counter() < deadline:
            times.append(_ask(connection, request))
    return times


def _ask(connection: socket.socket, request: bytes) -> float:
    received = b""
    began = time.perf_counter()
    connection.sendall(request)
    while not has_body(received):
        received += _some(connection, received)
        if not received.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"no answer but an error: {received!r}")
    first_ms = (time.perf_counter() - began) * 1e3
    while not received.endswith(_END):
        received += _some(connection, received)
    return first_ms


def _some(connection: socket.socket, before: bytes) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise SystemExit(f"the answer broke off after {before!r}")
    return data


if __name__ == "__main__":
    print(json.dumps(times_ms(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
