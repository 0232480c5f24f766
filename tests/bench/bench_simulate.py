"""Simulated runs: how long a million requests take, and a trace by KV: `python bench_simulate.py --rounds 3`.

The peer is SimPy, the discrete-event library that a Python programmer would write such a simulation with: the same
arrivals, service times and routing. Both must find the same end for every request before they are measured.
What one KV decision costs, from 8 to 4,096 workers and from 16 to 1,024 blocks, beside the wheel: see bench_kv.py.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # this checkout, when run as a script

from dynlab.engine import MockEngineArgs
from dynlab.routing.modes import RouterMode
from dynlab.simulate.chats import chats
from dynlab.simulate.service import exponential
from dynlab.simulate.simulator import simulate
from dynlab.simulate.trace_formats import mooncake
from dynlab.simulate.workload import Workload, poisson
from tests.bench.report import Aim, Figure, Table, about, add_options, measured, only, write

__all__ = ("main", "tables")

LOAD = 0.9
MODES = tuple(mode for mode in RouterMode if mode is not RouterMode.KV)
"""All that know nothing of prompts."""
ENGINE = MockEngineArgs(block_size=512, num_gpu_blocks=2_000, prefill_s_per_token=0.000_12)
"""A worker with room for a million tokens, that computes 8,300 of a prompt in a second."""


@dataclass(frozen=True)
class Sizes:
    """What to measure."""

    requests: int = 1_000_000
    workers: int = 1_000
    prompts: int = 12_000
    kv_workers: int = 16
    compared: int = 100_000
    """Requests that SimPy has to serve too."""
    compared_workers: tuple[int, ...] = (8, 1_000)


QUICK = Sizes(requests=2_000, workers=20, prompts=100, kv_workers=4, compared=1_000, compared_workers=(8,))


def timed(call: Callable[[], object], name: str) -> dict[str, float]:
    """Run once; seconds on the wall and of the processor, which differ where others are busy too."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {name: time.perf_counter() - wall, f"{name}_cpu": time.process_time() - cpu}


@lru_cache(maxsize=1)
def queueing(requests: int, workers: int) -> Workload:
    """Return requests that keep workers busy for nine tenths of the time, each a second in the mean."""
    return poisson(requests, LOAD * workers, service=exponential(), seed=1)


def many(mode: RouterMode, sizes: Sizes, subject: str) -> dict[str, float]:
    """Simulate all requests by a mode; for the one that asks for devices, half of the workers are accelerators."""
    workload, workers = queueing(sizes.requests, sizes.workers), sizes.workers
    devices = ["cuda"] * (workers // 2) + ["cpu"] * (workers - workers // 2)
    return timed(lambda: simulate(workload, workers=workers, router_mode=mode, devices=devices), mode.value)


def memory(subject: str) -> dict[str, float]:
    """Return the most memory that this process ever had; with nothing else measured, that of a million requests."""
    import resource

    return {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)}


@lru_cache(maxsize=2)
def prompts(trace: Path | None, sizes: Sizes) -> Workload:
    """Return a trace, or chats that resemble Mooncake's in their number, length and rate."""
    if trace is not None:
        return mooncake(trace)
    return chats(sizes.prompts, 3.4, block_size=ENGINE.block_size, osl=343, seed=1)


def by_kv(name: str, trace: Path | None, sizes: Sizes, subject: str) -> dict[str, float]:
    """Simulate prompts over engines by the KV router."""
    workload = prompts(trace, sizes)
    return timed(lambda: simulate(workload, workers=sizes.kv_workers, router_mode="kv", engine=ENGINE), name)


# ---------------------------------------------------------------------------- beside SimPy


def by_simpy(workload: Workload, workers: int) -> list[float]:
    """Serve requests in turn with SimPy, as its manual does: a process each, and a resource for each worker."""
    import simpy

    env = simpy.Environment()
    servers = [simpy.Resource(env) for _ in range(workers)]
    ended = [0.0] * len(workload)

    def request(number: int, service_s: float) -> Any:
        with servers[number % workers].request() as turn:
            yield turn
            yield env.timeout(service_s)
            ended[number] = env.now

    def arrivals() -> Any:
        both = zip(workload.arrival_s.tolist(), workload.service_s.tolist(), strict=True)
        for number, (arrival_s, service_s) in enumerate(both):
            yield env.timeout(arrival_s - env.now)
            env.process(request(number, service_s))

    env.process(arrivals())
    env.run()
    return ended


@lru_cache(maxsize=1)
def checked(requests: int, workers: int) -> Workload:
    """Return requests for both, once they agree about each."""
    workload = queueing(requests, workers)
    run = simulate(workload, workers=workers, router_mode="round-robin")
    assert np.abs(run.ended_s - by_simpy(workload, workers)).max() < 1e-6
    return workload


def compared(requests: int, workers: int, subject: str) -> dict[str, float]:
    """Let workers serve in turn; requests per millisecond of the processor."""
    workload = checked(requests, workers)
    calls: dict[str, Callable[[], object]] = {
        "dynlab": lambda: simulate(workload, workers=workers, router_mode="round-robin"),
        "simpy": lambda: by_simpy(workload, workers),
    }
    took = timed(calls[subject], "all")
    return {f"in_turn_{workers}": requests / took["all_cpu"] / 1e3}


# ---------------------------------------------------------------------------- all of it


def tables(sizes: Sizes, trace: Path | None = None) -> list[Table]:
    """Return what there is to measure."""

    def seconds(name: str, measure: Any, most: float) -> dict[str, Figure]:
        return {
            name: Figure("s", False, measure, Aim("dynlab", most)),
            f"{name}_cpu": Figure("s", False, measure),
        }

    modes: dict[str, Figure] = {}
    for mode in MODES:
        modes |= seconds(mode.value, partial(many, mode, sizes), 20.0)
    modes["memory"] = Figure("MB", False, memory, Aim("dynlab", 1_000))
    kv = seconds("chats", partial(by_kv, "chats", None, sizes), 5.0)
    if trace is not None:
        kv |= seconds("trace", partial(by_kv, "trace", trace, sizes), 5.0)
    beside = {
        f"in_turn_{workers}": Figure(
            "requests/ms", True, partial(compared, sizes.compared, workers), Aim("dynlab/simpy", 1.0, at_least=True)
        )
        for workers in sizes.compared_workers
    }
    return [
        Table(f"{sizes.requests:,} requests over {sizes.workers:,} workers", ("dynlab",), (), modes),
        Table(f"prompts over {sizes.kv_workers} workers by kv", ("dynlab",), (), kv),
        Table(f"{sizes.compared:,} requests in turn", ("dynlab", "simpy"), (("dynlab", "simpy"),), beside),
    ]


def known_trace() -> Path | None:
    folder = os.environ.get("DYNLAB_TRACE_DIR")
    file = Path(folder or "", "mooncake_conversation_trace.jsonl")
    return file if folder and file.is_file() else None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    said = "a trace in Mooncake's format, for the KV router (default: that in DYNLAB_TRACE_DIR, if there is one)"
    parser.add_argument("--trace", type=Path, metavar="FILE", default=known_trace(), help=said)
    add_options(parser)
    given = parser.parse_args(arguments)
    sizes, rounds = (QUICK, 1) if given.quick else (Sizes(), given.rounds)
    chosen = only(tables(sizes, given.trace), [name for name in given.only.split(",") if name])
    setting = about(rounds=rounds, simpy=version("simpy"), trace=given.trace.name if given.trace else None)
    write(chosen, measured(chosen, rounds), setting, given.json)


if __name__ == "__main__":
    main()
