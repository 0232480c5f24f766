"""The three-tier graph beside apps that have no tiers, in one run: `make bench`, or `python bench_graph.py --rounds 3`.

Each round measures every app once, in turn, so that a drift of the machine's speed hits all alike; what counts is
the ratio of the medians. Load comes from wrk, a compiled generator, in a process of its own. Prints a table, and
with `--json FILE` writes medians, spreads and ratios.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
APPS = ("graph", "one", "chained")
BODY = '{"prompt":"test prompt str","request_id":"r-1"}'
LUA = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{BODY}'
"""
# What is measured, its unit, and whether more is better.
FIGURES = {
    "start": ("s to the first answer", False),
    "memory": ("MiB after the first answer", False),
    "p50": ("us, one connection", False),
    "p99": ("us, one connection", False),
    "rate": ("requests/s, 64 connections", True),
    "p99_64": ("ms, 64 connections", False),
    "items": ("items/s, 64-item answers, 16 connections", True),
}


@contextmanager
def running(name: str, *more: str) -> Iterator[tuple[str, int, float]]:
    """Start an app; yields its URL, process id, and the seconds until its first answer."""
    began = time.perf_counter()
    command = [sys.executable, str(HERE / "apps.py"), name, *more]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as app:
        assert app.stdout is not None
        url = f"http://127.0.0.1:{int(app.stdout.readline())}/fegenerate"
        ask(url)
        try:
            yield url, app.pid, time.perf_counter() - began
        finally:
            app.terminate()


def ask(url: str) -> None:
    request = urllib.request.Request(url, BODY.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        response.read()


def wrk(url: str, connections: int, seconds: int, script: Path) -> dict[str, float]:
    """Load the app; returns requests/s and latencies in us. Any answer but 200 ends the measurement."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"the load met errors:\n{said}")
    units = {"us": 1.0, "ms": 1e3, "s": 1e6}
    latencies = {
        f"p{percent}": float(value) * units[unit]
        for percent, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", said)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert rate is not None, said
    return {"rate": float(rate.group(1)), **latencies}


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


def measure(name: str, seconds: int, script: Path) -> dict[str, float]:
    """Measure one app once."""
    figures: dict[str, float] = {}
    with running(name) as (url, pid, start):
        figures["start"], figures["memory"] = start, resident_mib(pid)
        wrk(url, 8, 1, script)  # warm
        alone = wrk(url, 1, seconds, script)
        figures["p50"], figures["p99"] = alone["p50"], alone["p99"]
        many = wrk(url, 64, seconds, script)
        figures["rate"], figures["p99_64"] = many["rate"], many["p99"] / 1e3
    with running(name, "--items", "64") as (url, _, _):
        wrk(url, 8, 1, script)
        figures["items"] = 64 * wrk(url, 16, seconds, script)["rate"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed. On Debian and Ubuntu: sudo apt install wrk.")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in APPS}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(LUA)
        for number in range(1, given.rounds + 1):
            for name in APPS:
                runs[name].append(measure(name, given.seconds, script))
            print(f"round {number} of {given.rounds}", file=sys.stderr)
    result = report(runs)
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1))


def report(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Print a row a figure: medians, spreads, and the graph's ratio to each peer."""
    result: dict[str, Any] = {}
    print(f"{'':<46}" + "".join(f"{name:>26}" for name in APPS) + "   graph/one  graph/chained")
    for figure, (unit, more_is_better) in FIGURES.items():
        values = {name: [run[figure] for run in runs[name]] for name in APPS}
        medians = {name: median(values[name]) for name in APPS}
        ratios = {name: medians["graph"] / medians[name] for name in APPS if name != "graph"}
        cells = "".join(f"{f'{medians[n]:.4g} ({min(values[n]):.4g}-{max(values[n]):.4g})':>26}" for n in APPS)
        sign = "+" if more_is_better else "-"
        ratio_cells = f"{ratios['one']:>12.2f} {ratios['chained']:>14.2f}"
        print(f"{f'{figure}, {unit} ({sign})':<46}{cells}{ratio_cells}")
        result[figure] = {"unit": unit, "more_is_better": more_is_better, "runs": values, "ratios": ratios}
    return result


if __name__ == "__main__":
    main()
