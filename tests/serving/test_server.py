"""The listening socket is bound in the caller's thread, and says in a sentence why it cannot be."""

from __future__ import annotations

import errno
import inspect
import socket

import pytest

from dynlab.errors import ConfigError, DeploymentError, PortInUseError
from dynlab.hello_world import Frontend
from dynlab.serving.serve import serve
from dynlab.serving.server import bind


def test_port_0_is_a_free_port_on_this_machine_alone() -> None:
    """A notebook's server listens on 127.0.0.1 unless it is told otherwise."""
    assert "127.0.0.1" == inspect.signature(serve).parameters["host"].default
    with serve(Frontend) as deployment:
        assert ("127.0.0.1", deployment.port) == deployment._sock.getsockname()
        assert f"http://127.0.0.1:{deployment.port}" == deployment.url
        assert deployment.port > 0


def test_the_socket_says_that_it_is_tcp() -> None:
    """Without the protocol asyncio leaves Nagle's algorithm on, and each kept-alive request takes 45 ms."""
    with bind("127.0.0.1", 0) as sock:
        assert socket.IPPROTO_TCP == sock.proto
        assert not sock.getblocking()


def test_a_busy_port_is_an_error_in_the_cell() -> None:
    """The sentence says the port, the host and the way out; the error is also an OSError."""
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(PortInUseError) as raised:
            bind("127.0.0.1", port)

    assert (
        f"Port {port} on 127.0.0.1 is taken by another program. Use serve(..., port=0) for a free one, "
        "or close what listens there and run the cell again."
    ) == str(raised.value)
    assert isinstance(raised.value, OSError)


def test_a_port_is_free_again_at_once() -> None:
    """`serve(port=N)` can be run again without waiting for old connections to be forgotten."""
    with serve(Frontend) as deployment:
        deployment.ask("x")
        port = deployment.port

    with serve(Frontend, port=port) as again:
        assert 1 == len(again.ask("x"))


@pytest.mark.parametrize("port", ["3000", 65536, -1, 3000.0, None, True])
def test_what_is_no_port_is_refused(port: object) -> None:
    """The sentence names the range."""
    with pytest.raises(ConfigError) as raised:
        bind("127.0.0.1", port)

    assert f"port={port!r} is no port; give a number from 1 to 65535, or 0 for a free one." == str(raised.value)


def test_a_host_of_another_machine_is_refused() -> None:
    """An address for documentation is nobody's."""
    with pytest.raises(DeploymentError) as raised:
        bind("192.0.2.7", 0)

    assert str(raised.value).startswith("Cannot listen on port 0 of '192.0.2.7': Cannot assign requested address.")


def test_a_port_that_needs_rights_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 80 belongs to the administrator on many machines."""

    def forbid(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbid)

    with pytest.raises(DeploymentError, match=r"Cannot listen on port 80 of '127\.0\.0\.1': Permission denied"):
        bind("127.0.0.1", 80)


def test_an_ipv6_host_has_brackets_in_the_url() -> None:
    """`[::1]`, where this machine has it."""
    try:
        bind("::1", 0).close()
    except DeploymentError:
        pytest.skip("this machine has no IPv6")

    with serve(Frontend, host="::1") as deployment:
        assert f"http://[::1]:{deployment.port}" == deployment.url
        assert 1 == len(deployment.ask("x"))
