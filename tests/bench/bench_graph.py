"""The three-tier graph beside apps that have no tiers, in one run: `make bench`, or `python bench_graph.py --rounds 3`.

Measures all in turn, a round after the other; what counts is the ratio of the medians. Load comes from wrk, a
compiled generator, in a process of its own. Prints tables, and with `--json FILE` writes all runs, medians, spreads
and ratios. CPU seconds count what the app itself has used, so they say the most on a machine that others use too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, when run as a script

from tests.bench.apps import NAMES
from tests.bench.report import Aim, Figure, Table, about, add_options, measured, only, write

__all__ = ("App", "Settings", "main", "read_wrk", "tables")

HERE = Path(__file__).parent
BODY = '{"prompt":"test prompt str","request_id":"r-1"}'
LUA = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{BODY}'
"""
STREAM = 64
"""Items of a long answer."""
WORKERS = ("1", "4", "16", "64")
START_STOP = ("4", "64", "256")
WITHOUT_WRK = {"start", "ready", "memory", "ttft", "started", "stopped"}


@dataclass(frozen=True)
class Settings:
    """How long to load an app, and to warm it up before; wrk takes whole seconds."""

    seconds: int = 3
    warm_s: int = 1


@dataclass(frozen=True)
class App:
    """A server that has answered once: `start_s` after its process began, `ready_s` after its imports did."""

    url: str
    pid: int
    start_s: float
    ready_s: float

    def wrk(self, connections: int, seconds: int) -> dict[str, float]:
        """Load the app."""
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(LUA)
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, self.url]
            return read_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def warm(self, settings: Settings) -> None:
        if settings.warm_s:
            self.wrk(8, settings.warm_s)

    def memory_mib(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found.group(1)) / 1024

    def cpu_s(self) -> float:
        """Return the seconds that the app has computed since it began, its own and the system's on its behalf."""
        # The name of the program comes second, in brackets, and may hold anything.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_wrk(said: str) -> dict[str, float]:
    """Read wrk's report: how many `requests`, their `rate` a second, and the latencies `p50` and `p99` in us.

    Raises:
        SystemExit: if there was any answer but 200, or none at all.
    """
    units = {"us": 1.0, "ms": 1e3, "s": 1e6}
    found = {
        f"p{q}": float(n) * units[unit] for q, n, unit in re.findall(r"^ +(50|99)%\s+([\d.]+)(us|ms|s)$", said, re.M)
    }
    requests, rate = re.search(r"^ +(\d+) requests in ", said, re.M), re.search(r"^Requests/sec: +([\d.]+)", said, re.M)
    errors = "Non-2xx" in said or "Socket errors" in said
    if errors or requests is None or rate is None or not int(requests[1]):
        raise SystemExit(f"the load met errors:\n{said}")
    return {"requests": float(requests[1]), "rate": float(rate[1]), **found}


@contextmanager
def running(name: str, *more: str) -> Iterator[App]:
    """Start an app and ask it once; it has to end in order."""
    began = time.monotonic()
    with _program("apps.py", name, *more) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{name} did not start")
            port, importing = line.split()
            url = f"http://127.0.0.1:{port}/fegenerate"
            request = urllib.request.Request(url, BODY.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as response:
                response.read()
            answered = time.monotonic()
            yield App(url, process.pid, answered - began, answered - float(importing))
            process.stdin.close()
            if process.wait(30) != 0:
                raise SystemExit(f"{name} ended with {process.returncode}")
        finally:
            process.kill()


def _program(script: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _said(script: str, *arguments: str) -> Any:
    """Return the JSON that a program prints."""
    with _program(script, *arguments) as process:
        said, _ = process.communicate(timeout=120)
    if process.returncode != 0:
        raise SystemExit(f"{script} ended with {process.returncode}")
    return json.loads(said)


# ---------------------------------------------------------------------------- what is measured: each of one app, once


def idle(_: Settings, name: str) -> dict[str, float]:
    with running(name) as app:
        return {"start": app.start_s, "ready": app.ready_s, "memory": app.memory_mib()}


def alone(settings: Settings, name: str) -> dict[str, float]:
    """One connection: a request begins when the one before is answered."""
    with running(name) as app:
        app.warm(settings)
        found = app.wrk(1, settings.seconds)
        return {"p50": found["p50"], "p99": found["p99"]}


def crowd(settings: Settings, name: str, *more: str) -> dict[str, float]:
    """64 connections."""
    with running(name, *more) as app:
        app.warm(settings)
        before = app.cpu_s()
        found = app.wrk(64, settings.seconds)
        cpu = (app.cpu_s() - before) / found["requests"] * 1000
        return {"rate": found["rate"], "p99_64": found["p99"] / 1e3, "cpu": cpu}


def streams(settings: Settings, name: str) -> dict[str, float]:
    """16 connections and long answers."""
    with running(name, "--items", str(STREAM)) as app:
        app.warm(settings)
        return {"items": STREAM * app.wrk(16, settings.seconds)["rate"]}


def first_items(settings: Settings, name: str) -> dict[str, float]:
    """The worker waits between its items, so the first must not wait for the others."""
    with running(name, "--items", "8", "--gap-ms", "5") as app:
        return {"ttft": median(_said("first_byte.py", app.url, BODY, str(settings.seconds)))}


def workers(settings: Settings, count: str) -> dict[str, float]:
    """64 connections to the graph with so many workers."""
    found = crowd(settings, "graph", "--workers", count)
    return {"workers_rate": found["rate"], "workers_cpu": found["cpu"]}


def start_stop(_: Settings, count: str) -> dict[str, float]:
    found: dict[str, float] = _said("startstop.py", "--workers", count)
    return found


def tables(settings: Settings) -> list[Table]:
    """Return what there is to measure, with the aims of the design."""
    quiet, single, many = partial(idle, settings), partial(alone, settings), partial(crowd, settings)
    long, first = partial(streams, settings), partial(first_items, settings)
    scaled, begun = partial(workers, settings), partial(start_stop, settings)
    apps = {
        "start": Figure("s from process start to the first answer", False, quiet),
        "ready": Figure("s from its imports to the first answer", False, quiet, Aim("graph", 0.6)),
        "memory": Figure("MiB after the first answer", False, quiet, Aim("graph/one", 1.5)),
        "p50": Figure("us, one connection", False, single, Aim("graph/one", 1)),
        "p99": Figure("us, one connection", False, single, Aim("graph/one", 1)),
        "rate": Figure("requests/s, 64 connections", True, many, Aim("graph/one", 2, at_least=True)),
        "p99_64": Figure("ms, 64 connections", False, many),
        "cpu": Figure("s of CPU for 1,000 requests, 64 connections", False, many),
        "items": Figure("items/s, 64-item answers, 16 connections", True, long, Aim("graph/one", 1, at_least=True)),
        "ttft": Figure("ms to the first of 8 items that come every 5 ms", False, first),
    }
    scaling = {
        "workers_rate": Figure("requests/s, 64 connections", True, scaled, Aim("64/4", 0.8, at_least=True)),
        "workers_cpu": Figure("s of CPU for 1,000 requests, 64 connections", False, scaled),
    }
    starting = {
        "started": Figure("s until serve() returns", False, begun, Aim("256", 2)),
        "stopped": Figure("s until close() returns", False, begun, Aim("256", 2)),
    }
    return [
        Table("apps", NAMES, (("graph", "one"), ("graph", "chained")), apps),
        Table("workers", WORKERS, (("1", "4"), ("16", "4"), ("64", "4")), scaling),
        Table("workers, start and stop", START_STOP, (("64", "4"), ("256", "4")), starting),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3, help="how long each load lasts (default: 3)")
    add_options(parser)
    given = parser.parse_args(arguments)
    settings = Settings(1, 0) if given.quick else Settings(given.seconds)
    rounds = 1 if given.quick else given.rounds
    chosen = only(tables(settings), [name for name in given.only.split(",") if name])
    if not Path("/proc/self/stat").exists():
        sys.exit("Memory and CPU time are read from /proc, which this system has not. Run it on Linux.")
    if shutil.which("wrk") is None and any(table.figures.keys() - WITHOUT_WRK for table in chosen):
        sys.exit("wrk is not installed. On Debian and Ubuntu: sudo apt install wrk.")
    setting = about(rounds=rounds, seconds=settings.seconds)
    write(chosen, measured(chosen, rounds), setting, given.json)


if __name__ == "__main__":
    main()
