"""A run in virtual time: the live graph's routers over thousands of engines, from one event to the next.

Nothing here decides anything of its own: who is picked says `dynlab.routing`, how long it takes `dynlab.engine`, what
is cached `dynlab.kv`. A request takes no time on its way; the live graph adds what its threads and HTTP cost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dynlab.engine import MockEngineArgs
from dynlab.errors import ConfigError
from dynlab.routing.modes import RouterMode, RouterSpec, parse_router_mode, router_name
from dynlab.simulate.changes import Change, Slow
from dynlab.simulate.draws import whole
from dynlab.simulate.kv_routing import KvRouting
from dynlab.simulate.routers import PlainRouting, Routing
from dynlab.simulate.run import Run
from dynlab.simulate.workload import Workload
from dynlab.simulate.world import World

__all__ = ("simulate",)


def simulate(
    workload: Workload,
    *,
    workers: int = 8,
    router_mode: RouterSpec = RouterMode.ROUND_ROBIN,
    seed: int = 0,
    engine: MockEngineArgs | None = None,
    speeds: Sequence[float] | None = None,
    devices: Sequence[str] | None = None,
    report_every: float | None = None,
    queue_limit: int | None = None,
    changes: Sequence[Change] = (),
    migration_limit: int = 0,
    kv: Mapping[str, Any] | None = None,
    event_delay_s: float = 0.0,
    keep_decisions: bool = False,
) -> Run:
    """Send a workload to workers, in virtual time.

    Of what happens at one time, `changes` come first, then what ends, then who arrives.

    Args:
        workload: who comes when, and wants what.
        workers: how many; their instance ids count from 7001, as in the live graph.
        router_mode: a mode's name or a function `pick(request, instances)`; the request's data is a dict of
            `request_id`, `now_s`, `reported_s` (when the loads were looked at), `isl`, `osl` and `family`.
        seed: of the router's draws. The same workload and seed give the same run.
        engine: what a worker is. By default it serves one request after another, each for its `service_s`;
            a workload of prompts needs `MockEngineArgs`.
        speeds: one for each worker; 1 by default.
        devices: one for each worker, "cpu" by default; "device-aware-weighted" asks for them.
        report_every: pickers see the workers' loads as they were at the last multiple of so many seconds ("bulletin
            board", Mitzenmacher 2000). By default the router counts what it sent and what ended, as Dynamo does.
        queue_limit: a worker with so many waiting takes no more: dropped. None: there is no limit.
        changes: `Kill`, `Revive` and `Slow`. Who died is found out as in the live graph: by a request that fails, and
            for good when its lease has run out.
        migration_limit: how often a request that a dead worker left without an item is sent again; never by "direct".
        kv: fields of `KvRouterConfig`, and `max_num_batched_tokens`, for the router mode "kv".
        event_delay_s: how long KV events take to the router.
        keep_decisions: keep what the router looked at for each request, for `run.traces()`; takes memory.

    Raises:
        ConfigError: if an argument cannot be; says which, and what can.
        PickError: if a pick function returns none of the instances.
    """
    router = parse_router_mode(router_mode)
    whole(workers=workers)
    for name, given in (("speeds", speeds), ("devices", devices)):
        if given is not None and len(given) != workers:
            raise ConfigError(f"{name} has {len(given)} entries for {workers} workers.")
    _check_engine(workload, engine)
    _check_changes(changes, workers)
    if queue_limit is not None:
        whole(least=0, queue_limit=queue_limit)
    whole(least=0, migration_limit=migration_limit)
    if report_every is not None and not 0 < report_every < math.inf:
        raise ConfigError(f"report_every={report_every!r} must be a number of seconds above 0; None is always fresh.")
    if not 0 <= event_delay_s < math.inf:
        raise ConfigError(f"event_delay_s={event_delay_s!r} must be a number of seconds, 0 or more.")
    tries = 0 if router is RouterMode.DIRECT else migration_limit
    world = World(workload, engine, [1.0] * workers if speeds is None else speeds, queue_limit, tries)
    kinds = ["cpu"] * workers if devices is None else devices
    if router is RouterMode.KV:
        _check_kv(workload, kv or {}, report_every)
        routing: Routing = KvRouting(workload, kinds, kv or {}, seed, event_delay_s, world)
    elif kv:
        raise ConfigError(f'kv={dict(kv)!r} is for router_mode="kv"; the mode is {router_name(router)}.')
    else:
        routing = PlainRouting(workload, kinds, router, random.Random(f"{seed}/router"), report_every, world)
    routing.keep = keep_decisions
    world.run(routing, changes)
    return world.result(router_name(router), seed, report_every)


def _check_engine(workload: Workload, engine: MockEngineArgs | None) -> None:
    if engine is None:
        if workload.has_prompts:
            raise ConfigError(f"{workload!r} has prompts: say what they take, engine=MockEngineArgs(...).")
    elif not workload.has_prompts:
        raise ConfigError(f"{workload!r} has service times: engine= is for prompts, leave it out.")
    elif engine.block_size != workload.block_size:
        raise ConfigError(
            f"block_size={engine.block_size} of the engine is not the workload's; give MockEngineArgs("
            f"block_size={workload.block_size}, ...)."
        )


def _check_changes(changes: Sequence[Change], workers: int) -> None:
    for change in changes:
        if change.worker not in range(1, workers + 1):
            raise ConfigError(f"{change}: there is no worker {change.worker}; they are 1 to {workers}.")
        if not 0 <= change.at < math.inf:
            raise ConfigError(f"{change}: at={change.at!r} must be a number of seconds, 0 or more.")
        if isinstance(change, Slow) and not 0 < change.speed < math.inf:
            raise ConfigError(f"{change}: speed={change.speed!r} must be a number above 0; Kill() stops a worker.")


def _check_kv(workload: Workload, kv: Mapping[str, Any], report_every: float | None) -> None:
    if not workload.has_prompts:
        raise ConfigError('router_mode="kv" needs prompts; this workload has service times. Take prefix_families().')
    if report_every is not None:
        raise ConfigError('report_every is not for the mode "kv", which keeps books of its own; see event_delay_s.')
    if kv.get("block_size", workload.block_size) != workload.block_size:
        raise ConfigError(
            f"kv={{'block_size': {kv['block_size']!r}}} is not the workload's {workload.block_size}; leave it out."
        )
