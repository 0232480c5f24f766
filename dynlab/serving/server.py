"""uvicorn on a loop that is already running: bound by the caller, stopped without delay."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from dynlab.errors import ConfigError, DeploymentError, PortInUseError
from dynlab.serving.protocol import GraphProtocol

__all__ = ("HttpServer", "bind", "url_of")

GRACE_S = 1
"""How long a stopping server waits for its last answers, in whole seconds as uvicorn takes it."""
FINISH_S = 30
"""The same, when answers are to be finished."""
BACKLOG = 2048
CONCURRENCY = 4096
"""Connections and requests at once; beyond that uvicorn answers 503, so that nothing queues without bound."""


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket in the caller's thread, so that a busy port is an error in the cell.

    Raises:
        PortInUseError: if another program listens there.
        ConfigError: if the port is no port.
        DeploymentError: if the host is no address of this machine, or the port not for everybody.
    """
    if type(port) is not int or not 0 <= port <= 65535:
        raise ConfigError(f"port={port!r} is no port; give a number from 1 to 65535, or 0 for a free one.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only for sockets that say TCP:
    # without it each request on a kept-alive connection takes 45 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port) from None
        raise DeploymentError(
            f"Cannot listen on port {port} of {host!r}: {error.strerror or error}. "
            "Use host='127.0.0.1' for this machine, and port=0 for a free port."
        ) from None
    sock.setblocking(False)
    return sock


def url_of(host: str, port: int) -> str:
    """Return where the server is found."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class HttpServer(uvicorn.Server):
    """Serves one app on a bound socket, on the loop of whoever awaits `start()`."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=GraphProtocol,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                limit_concurrency=CONCURRENCY,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket) -> None:
        """Return once connections are accepted."""
        self._task = asyncio.create_task(self._serve_to_the_end(sock))
        await asyncio.wait([self._task, self._ready], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    async def stop(self, grace_s: int = GRACE_S) -> None:
        """Accept no more, give the answers under way `grace_s` seconds to end, and return."""
        self.config.timeout_graceful_shutdown = grace_s
        self.should_exit = True
        self._stop.set()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, GraphProtocol)
            if grace_s == GRACE_S and connection.flow.write_paused:
                connection.transport.abort()  # its client has stopped reading: nothing would end before its time is up
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    def drop(self) -> None:
        """Close every socket, as the system does when a process dies. Runs on the server's loop."""
        for server in getattr(self, "servers", ()):
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _serve_to_the_end(self, sock: socket.socket) -> None:
        try:
            await self.serve(sockets=[sock])
        finally:
            self.drop()  # uvicorn closes nothing when it is cancelled

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set_result(None)

    async def main_loop(self) -> None:
        """As uvicorn's own, which keeps the Date header right, but awake at once when told to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.1)
