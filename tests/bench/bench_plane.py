"""The request plane by itself, without HTTP, beside what asyncio offers: `python bench_plane.py --rounds 3`.

A caller's thread and a worker's, each with its loop; the worker does nothing, so what is measured is the crossing.
All ways run in this one process, one after the other, round after round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, when run as a script

from tests.bench.crossings import LOOPS, WAYS, Ask, chain
from tests.bench.report import Figure, Table, about, add_options, measured, only, write

__all__ = ("Load", "main", "table")

REQUEST = '{"prompt":"test prompt str","request_id":"r-1"}'
ITEM = '{"worker_output":"test prompt str_GeneratedBy_DummyWorker-0","request_id":"r-1"}'
STREAM = 64
"""Items of a long answer."""
MANY, SOME = 64, 16
"""Requests in flight: with short answers, and with long ones."""


@dataclass(frozen=True)
class Load:
    """What to measure on loops of one kind, and for how many seconds each."""

    loop: str
    seconds: float


async def one_item(request: str) -> AsyncGenerator[str, None]:
    yield ITEM


async def many_items(request: str) -> AsyncGenerator[str, None]:
    for _ in range(STREAM):
        yield ITEM


async def one_by_one(ask: Ask, seconds: float) -> float:
    """Return the median time of one request, in us."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while not times or time.perf_counter() < deadline:
        began = time.perf_counter()
        async for item in ask(REQUEST):
            assert item is not None
        times.append(time.perf_counter() - began)
    return median(times) * 1e6


async def side_by_side(ask: Ask, seconds: float, width: int) -> tuple[int, float]:
    """Keep `width` requests in flight; returns how many items came, and the seconds that took."""
    began = time.perf_counter()

    async def read() -> int:
        items = 0
        while not items or time.perf_counter() < began + seconds:
            async for _ in ask(REQUEST):
                items += 1
        return items

    items = sum(await asyncio.gather(*(read() for _ in range(width))))
    return items, time.perf_counter() - began


# ---------------------------------------------------------------------------- what is measured: each of one way, once


def round_trip(load: Load, way: str) -> dict[str, float]:
    return {"round_trip": _latency_us(load, way, hops=1)}


def two_hops(load: Load, way: str) -> dict[str, float]:
    """Three threads: the one in the middle passes on what it gets."""
    return {"hop": _latency_us(load, way, hops=2) / 2}


def _latency_us(load: Load, way: str, hops: int) -> float:
    with chain(way, load.loop, one_item, hops=hops) as (caller, ask):
        caller.submit(one_by_one(ask, load.seconds / 5)).result()  # warm
        gc.collect()
        return caller.submit(one_by_one(ask, load.seconds)).result()


def in_flight(load: Load, way: str) -> dict[str, float]:
    answers, seconds, cpu_s = _throughput(load, way, one_item, MANY)
    return {"rate": answers / seconds, "cpu": cpu_s / answers * 1e6}


def streams(load: Load, way: str) -> dict[str, float]:
    items, seconds, cpu_s = _throughput(load, way, many_items, SOME)
    return {"items": items / seconds, "item_cpu": cpu_s / items * 1e6}


def _throughput(load: Load, way: str, handler: Ask, width: int) -> tuple[int, float, float]:
    """Return items, seconds, and the seconds of CPU that both threads together took."""
    with chain(way, load.loop, handler, streaming=handler is many_items) as (caller, ask):
        caller.submit(side_by_side(ask, load.seconds / 5, width)).result()  # warm
        gc.collect()
        before = time.process_time()
        items, seconds = caller.submit(side_by_side(ask, load.seconds, width)).result()
        return items, seconds, time.process_time() - before


def table(load: Load) -> Table:
    """Return what there is to measure on loops of one kind."""
    many, long = partial(in_flight, load), partial(streams, load)
    figures = {
        "round_trip": Figure("us, one request with one item, one after the other", False, partial(round_trip, load)),
        "hop": Figure("us a hop, the same over two hops", False, partial(two_hops, load)),
        "rate": Figure(f"requests/s, {MANY} in flight", True, many),
        "cpu": Figure(f"us of CPU a request, {MANY} in flight", False, many),
        "items": Figure(f"items/s, {STREAM}-item answers, {SOME} in flight", True, long),
        "item_cpu": Figure(f"us of CPU an item, {STREAM}-item answers, {SOME} in flight", False, long),
    }
    return Table(load.loop, WAYS, tuple(("dynlab", way) for way in WAYS if way != "dynlab"), figures)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each measuring lasts (default: 0.5)")
    parser.add_argument("--loop", choices=LOOPS, help="loops of one kind only")
    add_options(parser)
    given = parser.parse_args(arguments)
    seconds, rounds = (0.02, 1) if given.quick else (given.seconds, given.rounds)
    loops = LOOPS if given.loop is None else (given.loop,)
    chosen = only([table(Load(loop, seconds)) for loop in loops], [name for name in given.only.split(",") if name])
    write(chosen, measured(chosen, rounds), about(rounds=rounds, seconds=seconds), given.json)


if __name__ == "__main__":
    main()
