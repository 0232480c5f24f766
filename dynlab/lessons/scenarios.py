"""What a router has to live with, in virtual time: five scenarios of 8 workers, drawn anew with each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from dynlab.routing.modes import RouterMode, RouterSpec
from dynlab.simulate import Kill, MockEngineArgs, Revive, Run, Slow, Workload, simulate
from dynlab.simulate.changes import Change
from dynlab.simulate.service import exponential, giants
from dynlab.simulate.workload import poisson, prefix_families

__all__ = ("SCENARIOS", "WORKERS", "Scenario")

WORKERS = 8
SERVICE_S = 0.1
LOAD = 0.6
"""Share of the time that a worker is busy, if all have the same work."""
RATE = LOAD * WORKERS / SERVICE_S
PROMPTS_PER_S = 19.0
ENGINE = MockEngineArgs(num_gpu_blocks=256, prefill_base_s=0.0, prefill_s_per_token=0.00125)
"""Room for six of the prefixes; a prompt takes 0.8 s to prefill, or 0.16 s where its prefix is cached."""


def _ordinary(requests: int, seed: int) -> Workload:
    return poisson(requests, RATE, service=exponential(SERVICE_S), seed=seed)


def _giants(requests: int, seed: int) -> Workload:
    return poisson(requests, RATE, service=giants(0.05, 10, SERVICE_S), seed=seed)


def _hot_prefix(requests: int, seed: int) -> Workload:
    return prefix_families(max(requests // 3, 1), PROMPTS_PER_S, zipf=1.5, seed=seed)


def _nothing(third_s: float, worker: int) -> Sequence[Change]:
    return ()


def _slow(third_s: float, worker: int) -> Sequence[Change]:
    return Slow(third_s, worker, 0.25), Slow(2 * third_s, worker, 1.0)


def _killed(third_s: float, worker: int) -> Sequence[Change]:
    return Kill(third_s, worker), Revive(2 * third_s, worker)


@dataclass(frozen=True)
class Scenario:
    """Requests, and what happens to one worker for the second third of the time; the seed says to which.

    `draw` takes a number of requests and a seed, `changes` the length of a third in seconds and a worker's number.
    """

    name: str
    about: str
    draw: Callable[[int, int], Workload] = _ordinary
    changes: Callable[[float, int], Sequence[Change]] = _nothing
    has_prompts: bool = False

    @property
    def modes(self) -> list[str]:
        """The router modes that can be raced: "kv" looks at prompts, and only one scenario has any."""
        return [mode.value for mode in RouterMode if self.has_prompts or mode is not RouterMode.KV]

    def run(self, router: RouterSpec, seed: int, requests: int) -> Run:
        """Send the requests by a router; the same seed draws the same requests for each."""
        workload = self.draw(requests, seed)
        worker = Random(f"{seed}/{self.name}").randrange(WORKERS) + 1
        return simulate(
            workload,
            workers=WORKERS,
            router_mode=router,
            seed=seed,
            engine=ENGINE if self.has_prompts else None,
            changes=self.changes(workload.duration_s / 3, worker),
        )


SCENARIOS = (
    Scenario("steady", "service times are exponential, 100 ms in the mean"),
    Scenario("one slow", "one worker is 4 times slower for a while", changes=_slow),
    Scenario("one killed", "one worker is killed, and comes back after a while", changes=_killed),
    Scenario("giants", "5 % of the requests take 10 times as long as the others", draw=_giants),
    Scenario("hot prefix", "nearly half of the prompts begin alike", draw=_hot_prefix, has_prompts=True),
)
