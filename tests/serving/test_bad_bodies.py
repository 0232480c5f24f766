"""Whatever bytes come over the socket, they are refused with a 4xx or cut off, and the next request is served."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from dynlab.sdk.depends import depends
from dynlab.sdk.endpoint import api, dynamo_endpoint
from dynlab.sdk.service import service
from dynlab.serving import body as body_module
from dynlab.serving import protocol as protocol_module
from dynlab.serving.body import BODY_LIMIT
from dynlab.serving.deployment import Deployment
from dynlab.serving.serve import serve

WAIT_S = 10.0
GOOD = b'{"value": "good"}'


@service(dynamo={"namespace": "bad"})
class Echo:
    @dynamo_endpoint()
    async def echo(self, request):
        yield request


@service(dynamo={"namespace": "bad"})
class Front:
    echo = depends(Echo)

    @api
    async def echoed(self, value):
        """Take anything, to a worker and back."""
        async for item in self.echo.echo(value):
            yield item

    @api
    async def size(self, value: str):
        yield str(len(value))


@pytest.fixture(scope="module")
def served() -> Iterator[Deployment]:
    with serve(Front, name="bad bodies") as deployment:
        yield deployment


@pytest.fixture
def deployment(served: Deployment) -> Iterator[Deployment]:
    """The deployment of all these tests. After each it still serves, and has logged no error and no traceback."""
    _, before = served.logs_since(0)
    yield served
    assert ["good"] == served.ask("good", api="echoed")
    assert [] == [line for line in served.logs_since(before)[0] if "ERROR" in line or "Traceback" in line]


def message(
    content: bytes = GOOD, *headers: bytes, line: bytes = b"POST /echoed HTTP/1.1", announced: int | None = -1
) -> bytes:
    """Write a request; `announced` is its content-length, by default the right one, and None for none."""
    lines = [line, b"host: x", *headers]
    if announced is not None:
        lines.append(b"content-length: %d" % (len(content) if announced == -1 else announced))
    return b"\r\n".join([*lines, b"", content])


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return message(body, b"transfer-encoding: chunked", announced=None)


class Connection:
    """One socket, and what comes back on it."""

    def __init__(self, deployment: Deployment, *parts: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", deployment.port), timeout=WAIT_S)
        self.send(*parts)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.sock.sendall(part)

    def answer(self) -> tuple[int, str]:
        """Read one answer: its status and body."""
        with http.client.HTTPResponse(self.sock, method="POST") as response:
            response.begin()
            return response.status, response.read().decode()

    def sentence(self, status: int) -> str:
        """Read an answer of that status, and return what it says to people."""
        came, text = self.answer()
        assert status == came, text
        said: str = json.loads(text)["message"]
        return said

    def serves(self) -> bool:
        """True if this same connection answers a good request."""
        self.send(message())
        return self.answer() == (200, "good")

    def is_cut_off(self) -> bool:
        """True if the other side has closed."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True


# ---------------------------------------------------------------------------- what is no JSON


def value(content: bytes) -> bytes:
    return b'{"value": ' + content + b"}"


NO_JSON = {
    "100,000 brackets": value(b"[" * 100_000 + b"]" * 100_000),
    "100,000 brackets left open": value(b"[" * 100_000),
    "100,000 braces": value(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "201 brackets": value(b"[" * 201 + b"]" * 201),
    "bytes that are no UTF-8": value(b'"\xff\xfe"'),
    "an overlong slash": value(b'"\xc0\xaf"'),
    "a surrogate in UTF-8": value(b'"\xed\xa0\x80"'),
    "half a character": value(b'"\xe6\x9d"'),
    "a lone high surrogate": value(b'"\\ud800"'),
    "a lone low surrogate": value(b'"\\udc00"'),
    "a lone surrogate as key": b'{"\\ud800": 1}',
    "two high surrogates": value(b'"\\ud83d\\ud83d"'),
    "NUL in a text": value(b'"a\x00b"'),
    "NUL at the end": GOOD + b"\x00",
    "nothing but NUL": b"\x00" * 100,
    "a number of 4,301 digits": value(b"9" * 4_301),
    "a number of a million digits": value(b"-" + b"9" * 1_000_000),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "two documents": GOOD + GOOD,
    "a line end in a text": value(b'"a\nb"'),
    "a form": b"value=good",
    "gzip": gzip.compress(GOOD),
}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_400_and_the_connection_goes_on(deployment: Deployment, content: bytes) -> None:
    """The sentence says where; the same connection answers the next request."""
    with Connection(deployment, message(content)) as connection:
        assert connection.sentence(400).startswith("The body is no JSON: Invalid JSON: ")
        assert connection.serves()


@pytest.mark.parametrize("header", [b"content-encoding: gzip", b"content-type: application/json; charset=utf-16"])
def test_no_encoding_is_undone(deployment: Deployment, header: bytes) -> None:
    """A body is UTF-8 as it is, whatever its headers call it."""
    content = gzip.compress(GOOD) if b"gzip" in header else GOOD.decode().encode("utf-16")
    with Connection(deployment, message(content, header)) as connection:
        assert connection.sentence(400).startswith("The body is no JSON: ")
        assert connection.serves()
        connection.send(message(GOOD, header))
        assert (200, "good") == connection.answer()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"value": "first", "value": "last"}', "last"),
        (value(b'"a\\u0000b"'), "a\x00b"),
        (value(b'"\\ud83d\\uddfc"'), "🗼"),
        (value(b"[" * 190 + b"]" * 190), "[" * 190 + "]" * 190),
        (value(b"18446744073709551615"), "18446744073709551615"),
        (value(b"-9223372036854775808"), "-9223372036854775808"),
    ],
    ids=["a key twice", "an escaped NUL", "a pair of surrogates", "190 brackets", "2**64 - 1", "-2**63"],
)
def test_what_is_odd_but_json_is_taken(deployment: Deployment, content: bytes, text: str) -> None:
    """Of a key that comes twice the last counts; all else arrives at the worker, and comes back, as it was sent."""
    with Connection(deployment, message(content)) as connection:
        assert (200, text) == connection.answer()


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**4299], ids=["2**64", "-2**63 - 1", "4,300 digits"])
def test_a_number_too_large_to_travel_is_named(deployment: Deployment, number: int) -> None:
    """Any integer is JSON, and a handler may take it; between tiers it has at most 64 bits, as in Dynamo."""
    with Connection(deployment, message(value(str(number).encode()))) as connection:
        status, text = connection.answer()
        assert 500 == status
        assert f"an integer of {number.bit_length()} bits is outside of -2**63 to 2**64 - 1. Send a longer" in text
        assert connection.serves()


# ---------------------------------------------------------------------------- what is no HTTP


NO_HTTP = {
    "control characters": b"\x00\x01\x02\x03\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method in small letters": message(line=b"post /echoed HTTP/1.1"),
    "an unknown method": message(line=b"BREW /echoed HTTP/1.1"),
    "an unknown version": message(line=b"POST /echoed HTTP/9.9"),
    "CONNECT": message(line=b"CONNECT a:1 HTTP/1.1"),
    "a space in the path": message(line=b"POST /ec hoed HTTP/1.1"),
    "NUL in the path": message(line=b"POST /ec\x00hoed HTTP/1.1"),
    "a path that is no ASCII": message(line="POST /größe HTTP/1.1".encode()),
    "a query of 100 KB": message(b"", line=b"POST /echoed?" + b"a" * 100_000 + b" HTTP/1.1"),
    "line feeds alone": message().replace(b"\r\n", b"\n"),
    "a header without a colon": message(GOOD, b"nonsense"),
    "a header without a name": message(GOOD, b": x"),
    "a header with NUL": message(GOOD, b"x-a: a\x00b"),
    "a control character in a header's name": message(GOOD, b"x\x01: b"),
    "a folded header": message(GOOD, b"x-a: b\r\n c"),
    "a negative length": message(announced=-5),
    "a length in words": message(GOOD, b"content-length: long", announced=None),
    "a length with underscores": message(GOOD, b"content-length: 1_7", announced=None),
    "an empty length": message(GOOD, b"content-length:", announced=None),
    "a length of 5,000 digits": message(GOOD, b"content-length: " + b"9" * 5_000, announced=None),
    "two lengths": message(GOOD, b"content-length: 18"),
    "a length and chunks": message(GOOD, b"transfer-encoding: chunked"),
    "an unknown transfer encoding": message(GOOD, b"transfer-encoding: nonsense", announced=None),
    "gzip as transfer encoding": message(gzip.compress(GOOD), b"transfer-encoding: gzip", announced=None),
    "a chunk without a size": chunked(GOOD).replace(b"11\r\n", b"zz\r\n"),
    "a negative chunk": chunked(GOOD).replace(b"11\r\n", b"-11\r\n"),
    "a chunk of 2**68 bytes": chunked(GOOD).replace(b"11\r\n", b"f" * 17 + b"\r\n"),
    "a chunk that is longer than its size": chunked(GOOD).replace(b"11\r\n", b"10\r\n"),
}


@pytest.mark.parametrize("content", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_400_and_the_end_of_the_connection(deployment: Deployment, content: bytes) -> None:
    """Where a request would end nobody knows, so nothing more is read."""
    with Connection(deployment, content) as connection:
        assert (400, "Invalid HTTP request received.") == connection.answer()
        assert connection.is_cut_off()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /ec%00hoed HTTP/1.1", 404),
        (b"POST /%ff%fe HTTP/1.1", 404),
        (b"POST /%zz HTTP/1.1", 404),
        (b"POST //echoed HTTP/1.1", 404),
        (b"POST /../../etc/passwd HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"TRACE /echoed HTTP/1.1", 405),
        (b"DELETE /echoed HTTP/1.1", 405),
        (b"POST /openapi.json HTTP/1.1", 405),
    ],
)
def test_odd_paths_and_methods_are_told_what_there_is(deployment: Deployment, line: bytes, status: int) -> None:
    """And their bodies are read over, so that the connection goes on."""
    with Connection(deployment, message(line=line)) as connection:
        assert "There is POST /echoed {value}" in connection.sentence(status)
        assert connection.serves()


def test_a_wish_for_another_protocol_is_not_fulfilled(deployment: Deployment) -> None:
    """Who wants to upgrade gets an answer by HTTP/1.1."""
    with Connection(deployment, message(GOOD, b"connection: upgrade", b"upgrade: websocket")) as connection:
        assert connection.answer()[0] in (200, 422)  # 422 where uvicorn takes the body for the other protocol's


@pytest.mark.parametrize(
    "content",
    [
        message(GOOD, b"x-a: " + b"a" * 10_000_000),
        message(GOOD, *[b"x-%d: y" % n for n in range(100_000)]),
        message(GOOD, b"x-request-id: " + b"a" * 1_000_000),
        message(b"", line=b"POST /" + b"a" * 1_000_000 + b" HTTP/1.1"),
    ],
    ids=["a header of ten megabytes", "100,000 headers", "a request id of a megabyte", "a path of a megabyte"],
)
def test_a_head_has_a_limit(deployment: Deployment, content: bytes) -> None:
    """431, or cut off where the client goes on sending."""
    with Connection(deployment) as connection:
        try:
            connection.send(content)
            assert 431 == connection.answer()[0]
        except ConnectionError:
            pass


@pytest.mark.parametrize("sent", [b"", b"POST /echoed HTTP/1.1\r\nhost:", message(GOOD) + b"POST /ech"], ids=repr)
def test_half_a_head_is_cut_off(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """A client that says nothing, or stops in the middle of a head, keeps no connection."""
    monkeypatch.setattr(protocol_module, "HEAD_TIMEOUT_S", 0.2)
    with Connection(deployment, sent) as connection:
        if sent.startswith(message(GOOD)):
            assert 200 == connection.answer()[0]
        assert connection.is_cut_off()


# ---------------------------------------------------------------------------- too much


def text_of(length: int) -> bytes:
    """A body of so many bytes."""
    return value(b'"' + b"x" * (length - len(value(b'""'))) + b'"')


def test_the_limit_is_exact(deployment: Deployment) -> None:
    """Four megabytes are taken; a byte more is refused, and read over all the same."""
    with Connection(deployment) as connection:
        for _ in range(2):
            connection.send(message(text_of(BODY_LIMIT), line=b"POST /size HTTP/1.1"))
            assert 200 == connection.answer()[0]
            connection.send(message(text_of(BODY_LIMIT + 1), line=b"POST /size HTTP/1.1"))
            assert f"The body has {BODY_LIMIT + 1} bytes or more" in connection.sentence(413)
        assert connection.serves()


@pytest.mark.parametrize("size", [1_000, 1_000_000, BODY_LIMIT + 1])
def test_chunks_are_counted(deployment: Deployment, size: int) -> None:
    """Small ones, large ones, and one alone; what comes after the answer is read over."""
    with Connection(deployment, chunked(*[b" " * size] * (BODY_LIMIT // size + 1))) as connection:
        assert f"at most {BODY_LIMIT} are taken" in connection.sentence(413)
        assert connection.serves()


def test_who_asks_before_sending_need_not_send(deployment: Deployment) -> None:
    """`Expect: 100-continue` with too large a body is refused at once; with another one it is asked for."""
    with Connection(deployment, message(b"", b"expect: 100-continue", announced=BODY_LIMIT + 1)) as connection:
        assert connection.sock.recv(65_536).startswith(b"HTTP/1.1 413 ")
    with Connection(deployment, message(b"", b"expect: 100-continue", announced=len(GOOD))) as connection:
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == connection.sock.recv(65_536)
        connection.send(GOOD)
        assert (200, "good") == connection.answer()


@pytest.mark.parametrize("announced", [2**63, 2**64 - 1])
def test_a_length_no_machine_has_is_413(deployment: Deployment, announced: int) -> None:
    """It is believed, and refused."""
    with Connection(deployment, message(announced=announced)) as connection:
        assert f"The body has {announced} bytes or more" in connection.sentence(413)


# ---------------------------------------------------------------------------- too little


TRUNCATED = {
    "nothing": b"",
    "in the request line": b"POST /ech",
    "in a header": message()[:40],
    "before the body": message(b"", announced=17),
    "in the body": message(announced=18),
    "in a chunk's size": message(b"1", b"transfer-encoding: chunked", announced=None),
    "in a chunk": chunked(GOOD)[:-15],
    "before the last chunk": chunked(GOOD)[:-5],
}


@pytest.mark.parametrize("how", ["half closed", "closed", "reset"])
@pytest.mark.parametrize("content", TRUNCATED.values(), ids=TRUNCATED)
def test_a_client_that_leaves_in_the_middle_is_forgotten(deployment: Deployment, content: bytes, how: str) -> None:
    """There is nobody to answer: no trace, no line in the logs, whichever way it goes."""
    traces, lines = len(deployment.traces), deployment.logs_since(0)[1]
    with Connection(deployment, content) as connection:
        if how == "half closed":
            connection.sock.shutdown(socket.SHUT_WR)
            assert connection.is_cut_off()
        elif how == "reset":
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Connection(deployment) as connection:
        assert connection.serves()
    assert (traces + 1, lines) == (len(deployment.traces), deployment.logs_since(0)[1])


# ---------------------------------------------------------------------------- too slow


@pytest.mark.parametrize("chunks", [False, True], ids=["length", "chunks"])
def test_a_body_that_trickles_is_408(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, chunks: bool) -> None:
    """The time counts for the whole body, so a byte now and then does not hold the Frontend.

    Who sends the rest all the same is read over, and may go on.
    """
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.1)
    content = chunked(*[b"%c" % byte for byte in text_of(10_000)]) if chunks else message(text_of(10_000))
    body = content.index(b"\r\n\r\n") + 4
    with Connection(deployment, content[:body]) as connection:
        connection.sock.settimeout(0.002)
        began = time.monotonic()
        sent = body
        while True:
            connection.send(content[sent : sent + 6])
            sent += 6
            with suppress(TimeoutError):
                if connection.sock.recv(65_536, socket.MSG_PEEK):
                    break
            assert time.monotonic() - began < WAIT_S
        connection.sock.settimeout(WAIT_S)
        assert re.match(r"The body did not arrive within 0\.1 s; \d+ bytes did\.", connection.sentence(408))
        monkeypatch.undo()
        connection.send(content[sent:])
        assert connection.serves()


def test_slow_clients_hold_up_nobody(deployment: Deployment) -> None:
    """While a hundred connections have sent half of a head or body, others are answered; and in the end they too."""
    with ExitStack() as stack:
        waiting = [stack.enter_context(Connection(deployment, message()[: 30 if n % 2 else -5])) for n in range(100)]
        assert {"good"} == {deployment.ask("good", api="echoed")[0] for _ in range(20)}
        for n, connection in enumerate(waiting):
            connection.send(message()[30 if n % 2 else -5 :])
        assert {(200, "good")} == {connection.answer() for connection in waiting}


# ---------------------------------------------------------------------------- anything


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Change, remove, repeat and put in a few bytes."""
    damage = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(damage))
        end = start + draw.choice((0, 1, 1, 2, 5, 20))
        put = draw.choice((b"", b"\x00", b"\r\n", b"0", b"9" * 20, b"\xff", b"{", b'"', b":", draw.randbytes(3)))
        damage[start:end] = draw.choice((put, bytes(damage[start:end]) * 2))
        damage = damage or bytearray(content)
    return bytes(damage)


def damaged_request(draw: random.Random) -> bytes:
    """A request with a damaged body, or one that is damaged as a whole."""
    match draw.randrange(4):
        case 0:
            return message(damaged(draw, GOOD))
        case 1:
            return chunked(damaged(draw, GOOD[:5]), damaged(draw, GOOD[5:]))
        case 2:
            return damaged(draw, chunked(GOOD[:5], GOOD[5:]))
    return damaged(draw, message())


def test_damaged_requests_are_refused_or_cut_off(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two thousand requests that were damaged by lot none is an error of the server."""
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.5)
    draw = random.Random(4)
    seen: dict[int, bytes] = {}
    for _ in range(20):
        with ExitStack() as stack:
            sent = [
                (content, Connection(deployment, content)) for content in [damaged_request(draw) for _ in range(100)]
            ]
            for _, connection in sent:
                stack.enter_context(connection)
            # What can be answered is answered while these are; the rest waits for more, and gets nonsense.
            assert {"good"} == {deployment.ask("good", api="echoed")[0] for _ in range(10)}
            for content, connection in sent:
                for status in statuses(connection):
                    seen.setdefault(status, content)

    assert {200, 400, 404, 422} <= set(seen) <= {100, 200, 307, 400, 404, 405, 408, 413, 422}, seen


def statuses(connection: Connection) -> list[int]:
    """Put an end to a request that may be unfinished, and return the statuses of all answers on its connection."""
    came = b""
    with suppress(ConnectionError):
        connection.send(b"\x00" * 200)
        # Refused for its length or slowness a body is still read over; after any other answer the nonsense ends it all.
        while not re.search(rb"HTTP/1\.1 4(13|08) ", came) and (part := connection.sock.recv(65_536)):
            came += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", came)]
