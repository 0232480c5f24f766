"""The benchmarks run, name all their figures, and read and compare numbers rightly; how fast anything is, they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from dynlab import serve
from dynlab.hello_world import Frontend
from dynlab.serving.server import HttpServer
from tests.bench import bench_graph, bench_plane, fastapi_app, first_byte, report
from tests.bench.bench_graph import Settings, read_wrk
from tests.bench.crossings import LOOPS, WAYS, Ask, chain
from tests.bench.report import Aim, Figure, Table

# Not `needs_programs`: CI has no wrk, and what only `make bench` needs may be missing there.
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not on PATH")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")
QUICK = Settings(seconds=1, warm_s=0)
WRK = """Running 1s test @ http://127.0.0.1:36141/fegenerate
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.87ms    3.21ms  48.10ms   89.50%
    Req/Sec     6.60k   412.03     7.12k    70.00%
  Latency Distribution
     50%  930.00us
     75%   10.20ms
     90%   12.00ms
     99%    1.25s
  6571 requests in 1.00s, 1.91MB read
Requests/sec:   6553.21
Transfer/sec:      1.90MB
"""


# ---------------------------------------------------------------------------- numbers


def test_a_report_of_wrk_is_read() -> None:
    """Latencies come in three units, and only the 50% and 99% of the distribution are meant."""
    assert {"requests": 6571, "rate": 6553.21, "p50": 930, "p99": 1.25e6} == read_wrk(WRK)


@pytest.mark.parametrize(
    "said",
    [
        WRK + "  Non-2xx or 3xx responses: 3\n",
        WRK + "  Socket errors: connect 0, read 2, write 0, timeout 0\n",
        WRK.replace("6571 requests", "0 requests"),
        "",
    ],
)
def test_a_load_that_met_errors_is_no_measurement(said: str) -> None:
    """A server that refuses requests answers many of them a second."""
    with pytest.raises(SystemExit, match="the load met errors"):
        read_wrk(said)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n2a\r\n", False),
        (b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n2a\r\nR", True),
        (b"HTTP/1.1 200 OK\r\ndate: now\r\n\r\n10\r\n\n", True),
    ],
)
def test_the_first_byte_is_one_of_the_body(received: bytes, expected: bool) -> None:
    """Neither the head of an answer nor the size of a chunk is a token."""
    assert expected == first_byte.has_body(received)


def figure(values: dict[str, list[float]], aim: Aim | None = None) -> tuple[dict[str, Any], str]:
    """Return the result of one figure of two subjects, and its row."""
    table = Table("t", ("a", "b"), (("a", "b"),), {"rate": Figure("1/s", True, lambda _: {}, aim)})
    result = table.result({name: [{"rate": value} for value in values[name]] for name in values})
    return result["rate"], table.text(result).splitlines()[1]


def test_ratios_are_of_medians() -> None:
    """One round in which the machine was busy does not count; the spread shows it."""
    found, row = figure({"a": [4.0, 1.0, 6.0], "b": [2.0, 2.0, 2.0]})

    assert {"a": 4.0, "b": 2.0} == found["medians"]
    assert {"a/b": 2.0} == found["ratios"]
    assert {"a/b": [2.0, 0.5, 3.0]} == found["ratios_by_round"]
    assert "rate, 1/s (+)  4 (1-6)  2 (2-2)  2 (0.5-3)" == row


@pytest.mark.parametrize(
    ("aim", "value", "met"),
    [
        (Aim("a/b", 2, at_least=True), 2.0, True),
        (Aim("a/b", 2.01, at_least=True), 2.0, False),
        (Aim("a/b", 1.5), 2.0, False),
        (Aim("a", 4), 4.0, True),
    ],
)
def test_an_aim_is_met_or_not(aim: Aim, value: float, met: bool) -> None:
    """An aim bounds a ratio or one subject, from below or from above, and is said beside the ratio."""
    found, row = figure({"a": [4.0], "b": [2.0]}, aim)

    assert {"text": str(aim), "value": value, "met": met} == found["aim"]
    assert row.endswith(f"{aim}: met" if met else f"{aim}: not met")


def test_who_comes_first_changes_every_round() -> None:
    """All subjects go through one measuring before the next begins, and a shared one runs once."""
    order: list[str] = []

    def measure(name: str, subject: str) -> dict[str, float]:
        order.append(name + subject)
        return {"x": 1.0, "y": 2.0} if name == "m" else {"z": 3.0}

    shared, other = partial(measure, "m"), partial(measure, "n")
    figures = {"x": Figure("", True, shared), "y": Figure("", True, shared), "z": Figure("", True, other)}

    runs = report.measured([Table("t", ("a", "b", "c"), (), figures)], rounds=2)

    assert ["ma", "mb", "mc", "na", "nb", "nc", "mb", "mc", "ma", "nb", "nc", "na"] == order
    assert [{"x": 1.0, "y": 2.0, "z": 3.0}] * 2 == runs["t"]["c"]


def test_only_the_named_figures_are_measured() -> None:
    """A table without any of them is left out, and a name that is none is answered with those there are."""
    tables = bench_graph.tables(QUICK)

    kept = report.only(tables, ["ttft", "p50"])

    assert [("apps", ["p50", "ttft"])] == [(table.name, list(table.figures)) for table in kept]
    assert tables == report.only(tables, [])
    with pytest.raises(SystemExit, match=r"no figure p51; there are: start, ready, .*stopped\."):
        report.only(tables, ["p51"])


# ---------------------------------------------------------------------------- the apps


async def test_the_peers_run_on_the_same_server() -> None:
    """uvicorn is set up alike on all sides; what dynlab adds to its protocol is part of what is measured."""
    ours = HttpServer(FastAPI()).config
    peers = fastapi_app.server(FastAPI()).config
    for config in (ours, peers):
        config.load()

    assert {name: getattr(ours, name) for name in fastapi_app.SETTINGS} == fastapi_app.SETTINGS
    alike = ("ws_protocol_class", "lifespan_class", "timeout_keep_alive", "log_level", "workers")
    for name in alike:
        assert getattr(ours, name) == getattr(peers, name), name
    assert "uvicorn.protocols.http.httptools_impl" == peers.http_protocol_class.__module__
    assert issubclass(ours.http_protocol_class, peers.http_protocol_class)


@pytest.mark.skipif("uvloop" not in LOOPS, reason="uvloop is not installed")
def test_the_graph_runs_on_uvloop() -> None:
    """As the peers do."""
    with serve(Frontend) as deployment:
        assert {"uvloop"} == {type(instance.thread.loop).__module__ for instance in deployment.instances}


# ---------------------------------------------------------------------------- the harness


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started or loaded: every measuring yields 1 for the figures that it is there for."""
    real = bench_graph.tables(QUICK)
    for measure in {f.measure for table in real for f in table.figures.values()}:
        names = [name for table in real for name, f in table.figures.items() if f.measure is measure]
        monkeypatch.setattr(bench_graph, measure.func.__name__, lambda *_, names=names: dict.fromkeys(names, 1.0))
    monkeypatch.setattr(shutil, "which", lambda name: name)


@needs_linux
def test_all_figures_and_ratios_are_written(faked: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds each figure's unit, runs, medians and ratios, and the verdict on each aim of the design."""
    bench_graph.main(["--rounds", "2", "--json", str(tmp_path / "graph.json")])

    written = json.loads((tmp_path / "graph.json").read_text())
    apps, scaling, starting = written["tables"].values()
    assert ["start", "ready", "memory", "p50", "p99", "rate", "p99_64", "cpu", "items", "ttft"] == list(apps)
    for found in apps.values():
        assert {"graph": [1.0, 1.0], "one": [1.0, 1.0], "chained": [1.0, 1.0]} == found["runs"]
        assert {"graph/one": 1.0, "graph/chained": 1.0} == found["ratios"]
    assert {"1/4": 1.0, "16/4": 1.0, "64/4": 1.0} == scaling["workers_rate"]["ratios"]
    assert {"64/4": 1.0, "256/4": 1.0} == starting["started"]["ratios"] == starting["stopped"]["ratios"]
    aims = {name: f["aim"]["met"] for found in (apps, scaling, starting) for name, f in found.items() if "aim" in f}
    met = dict.fromkeys(("memory", "p50", "p99", "items", "workers_rate", "started", "stopped"), True)
    assert met | {"ready": False, "rate": False} == aims
    assert (2, 3) == (written["about"]["rounds"], written["about"]["seconds"])
    printed = capsys.readouterr().out
    assert "graph/one >= 2: not met" in printed
    assert "64/4 >= 0.8: met" in printed


@needs_linux
@pytest.mark.parametrize(
    ("measure", "subject", "seconds"),
    [
        (bench_graph.idle, "graph", 0),
        (bench_graph.first_items, "one", 0),
        (bench_graph.start_stop, "4", 0),
        pytest.param(bench_graph.alone, "one", 1, marks=needs_wrk),
        pytest.param(bench_graph.streams, "chained", 1, marks=needs_wrk),
        pytest.param(bench_graph.workers, "2", 1, marks=needs_wrk),
    ],
)
def test_a_measuring_yields_its_figures(
    measure: Callable[[Settings, str], dict[str, float]], subject: str, seconds: int
) -> None:
    """Each runs against a real app, and finds what the tables ask it for, all of it above nothing."""
    tables = bench_graph.tables(QUICK)
    asked = [name for t in tables for name, f in t.figures.items() if f.measure.func is measure]

    found = measure(Settings(seconds, warm_s=0), subject)

    assert sorted(asked) == sorted(found)
    assert all(value > 0 for value in found.values()), found


@needs_linux
def test_without_wrk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a figure needs wrk, and before anything is measured."""
    monkeypatch.setattr(shutil, "which", lambda name: None)

    with pytest.raises(SystemExit, match="wrk is not installed"):
        bench_graph.main(["--only", "start,rate"])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_chain_brings_every_item_back(loop: str, way: str, streaming: bool) -> None:
    """Over two hops on loops of the kind asked for, in order; whatever is compared does the same work."""

    async def count(request: str) -> AsyncGenerator[str, None]:
        for n in range(100):
            yield f"{request}-{n}"

    async def read(ask: Ask) -> list[str]:
        return [item async for item in ask("r")]

    with chain(way, loop, count, hops=2, streaming=streaming) as (caller, ask):
        assert loop == type(caller.loop).__module__.partition(".")[0]
        assert [f"r-{n}" for n in range(100)] == caller.submit(read(ask)).result(10)


def test_the_plane_is_measured_on_each_loop(tmp_path: Path) -> None:
    """A short round names every figure, and its ratio to both of asyncio's ways."""
    bench_plane.main(["--quick", "--json", str(tmp_path / "plane.json")])

    written = json.loads((tmp_path / "plane.json").read_text())
    assert list(LOOPS) == list(written["tables"])
    for figures in written["tables"].values():
        assert ["round_trip", "hop", "rate", "cpu", "items", "item_cpu"] == list(figures)
        for found in figures.values():
            assert list(WAYS) == list(found["medians"])
            assert ["dynlab/run_coroutine_threadsafe", "dynlab/queue"] == list(found["ratios"])
            assert all(ratio > 0 for ratio in found["ratios"].values())


@pytest.mark.parametrize("script", ["bench_graph.py", "bench_plane.py"])
def test_each_runs_as_a_script(script: str, tmp_path: Path) -> None:
    """From any folder, with nothing set."""
    command = [sys.executable, str(Path(bench_graph.__file__).with_name(script)), "--help"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "--only FIGURE,..." in ran.stdout
