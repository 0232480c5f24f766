"""The engine in this process: one loop that it calls back on, and runtimes that are used again and again.

A `DistributedRuntime` that was shut down cannot be used any more, and each one that is made costs a thread and a
megabyte for good (measured: DYNAMO 1.6.1, file discovery). So they are kept, and the next deployment takes them.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import importlib.util
import itertools
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from dynlab.errors import ConfigError
from dynlab.hop import Hop
from dynlab.runtime.ai_dynamo.engine_logs import take_over_stderr
from dynlab.runtime.loops import LoopThread
from dynlab.tracing import RequestTrace

__all__ = ("Engine", "Kept", "Parcel", "TheirClient", "the_engine")

T = TypeVar("T")


class Parcel(NamedTuple):
    """What a request's sender knows of it, for the worker in the same process.

    `arrived` is told the instance; `errors` gets what its handler raised, which the engine makes a text of.
    """

    trace: RequestTrace
    hop: Hop
    arrived: Callable[[int], None]
    errors: list[BaseException]


class TheirClient(NamedTuple):
    """A client of the engine's, and how often it has gone round: it counts, but does not say."""

    client: Any
    turns: Iterator[int]


@dataclass(eq=False)
class Kept:
    """A `DistributedRuntime`; by path, its clients that nobody uses now, and what it ever served."""

    runtime: Any
    idle: dict[str, list[TheirClient]] = field(default_factory=dict)
    served: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    async def client(self, path: str) -> TheirClient:
        """Return a client of an endpoint: each new one would cost a watch for good."""
        if self.idle.get(path):
            return self.idle[path].pop()
        return TheirClient(await self.runtime.endpoint(path).client(), itertools.count())


class Engine:
    """Made once in a process. Its loop and its idle runtimes stay: the engine's own threads do, too.

    Args:
        discovery: "file", or "etcd" at `ETCD_ENDPOINTS`.
        private: find nobody but this process's own instances.
    """

    def __init__(self, discovery: str, private: bool) -> None:
        _check_installed()
        # Dynamo reads these when it is loaded.
        os.environ.setdefault("DYN_EVENT_PLANE", "zmq")  # else it looks for a NATS server
        os.environ["DYN_LOGGING_JSONL"] = "1"
        if private:
            folder = os.environ["DYN_FILE_KV"] = tempfile.mkdtemp(prefix="dynlab-ai-dynamo-")
            atexit.register(shutil.rmtree, folder, True)
        if discovery == "file":  # all are on this machine; else it listens on the machine's address
            os.environ.setdefault("DYN_TCP_RPC_HOST", "127.0.0.1")
        self.discovery = discovery
        take_over_stderr()
        self._binding = importlib.import_module("dynamo.runtime")
        self._lock = threading.Lock()
        self._idle: list[Kept] = []
        self._scopes: list[int] = []  # in use
        self._thread = LoopThread("ai-dynamo")
        self._thread.start()
        self._numbers = itertools.count(1)
        self.parcels: dict[str, Parcel] = {}  # by the number that travels with the request

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._thread.loop

    def new_scope(self) -> int:
        """Return the first number that no deployment has, so that names are used again too."""
        with self._lock:
            number = next(n for n in itertools.count(1) if n not in self._scopes)
            self._scopes.append(number)
            return number

    def end_scope(self, number: int) -> None:
        """A deployment is over."""
        with self._lock:
            if number in self._scopes:
                self._scopes.remove(number)

    def take(self) -> Kept:
        """Return a runtime that nobody uses."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.run(self._make())

    def give(self, runtime: Kept) -> None:
        """Take one back; nothing of it is listed any more."""
        with self._lock:
            self._idle.append(runtime)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the engine's loop, and wait for it; never called there."""
        return self._thread.submit(coroutine).result()

    def send_off(self, parcel: Parcel) -> str:
        """Keep a parcel for the worker, and return the number that travels with the request."""
        number = str(next(self._numbers))
        self.parcels[number] = parcel
        return number

    def context(self, request_id: str, number: str) -> Any:
        """Make the engine's context of a request."""
        return self._binding.Context(request_id, {"dynlab": number})

    async def _make(self) -> Kept:
        return Kept(self._binding.DistributedRuntime(asyncio.get_running_loop(), self.discovery, "tcp"))


_engine: Engine | None = None
_engine_lock = threading.Lock()


def the_engine(discovery: str = "file", private: bool = True) -> Engine:
    """Return this process's engine, started on first use; see `Engine`.

    Raises:
        ConfigError: if `ai-dynamo-runtime` is not installed; says where it can be.
    """
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = Engine(discovery, private)
        return _engine


def _check_installed() -> None:
    if importlib.util.find_spec("dynamo") is None or importlib.util.find_spec("dynamo._core") is None:
        here = f"{platform.system()} on {platform.machine()}"
        can = "pip install 'dynlab[dynamo]'" if sys.platform == "linux" else "use a Linux machine, or a container there"
        raise ConfigError(
            'runtime="ai_dynamo" needs ai-dynamo-runtime, which is not installed. It has wheels for Linux on x86_64 '
            f'and arm64; this is {here}: {can}. runtime="local" runs the same classes in threads.'
        )
