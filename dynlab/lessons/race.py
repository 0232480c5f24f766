"""Races a reader's pick function against all router modes, in scenarios and with seeds that it has not seen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from html import escape
from statistics import median
from typing import Any

import numpy as np

from dynlab.errors import ConfigError, listed
from dynlab.lessons.exercise import Finding, Stumbled, is_empty, need_function
from dynlab.lessons.scenarios import SCENARIOS, Scenario
from dynlab.lessons.watched import Fault, Remark, Watched, remarks_on
from dynlab.routing.modes import RouterMode, RouterSpec
from dynlab.simulate import Run
from dynlab.simulate.draws import Floats
from dynlab.views.duel import duel_picture
from dynlab.views.figure import Picture, Table

__all__ = ("SEEDS", "Race", "race")

SEEDS = (9101, 9102, 9103, 9104)
REQUESTS = 4000
GOLD = 1.05
"""How many times as high as the best mode's a p99 may be."""
BASELINE = RouterMode.ROUND_ROBIN.value


@dataclass(frozen=True, eq=False, repr=False)
class Race:
    """What came of it: `p99_s` by router, then by scenario; if there is none, `fault` says why.

    p99 is over the requests of all seeds, and one without an answer took forever: where they are more than 1 %, p99
    is infinite. `lost` counts them over all scenarios. `decision_us`, the median, is told and not judged.
    """

    name: str
    pick: Any
    seeds: tuple[int, ...]
    requests: int
    fault: Remark | None = None
    p99_s: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    decision_us: float = math.nan
    remarks: tuple[Remark, ...] = ()

    def best(self, scenario: str) -> str:
        """Return the router mode with the lowest p99 in a scenario."""
        modes = {name: p99[scenario] for name, p99 in self.p99_s.items() if name != self.name and scenario in p99}
        return min(modes, key=modes.__getitem__)

    def behind(self, router: str) -> float:
        """Return how many times as high as the best mode's its p99 is, in the scenario where this is most."""
        return max(p99 / self.p99_s[self.best(name)][name] for name, p99 in self.p99_s[router].items())

    @property
    def not_beaten(self) -> list[str]:
        """The scenarios in which it does not beat round robin."""
        own, baseline = self.p99_s[self.name], self.p99_s[BASELINE]
        return [name for name in own if not own[name] < baseline[name]]

    @property
    def not_gold(self) -> list[str]:
        """The scenarios in which it is not within 5 % of the best mode."""
        own = self.p99_s[self.name]
        return [name for name in own if not own[name] <= GOLD * self.p99_s[self.best(name)][name]]

    @property
    def passed(self) -> bool:
        """It beats round robin in each scenario."""
        return self.fault is None and not self.not_beaten

    @property
    def gold(self) -> bool:
        """It passed, and is within 5 % of the best mode in each scenario."""
        return self.passed and not self.not_gold

    @property
    def finding(self) -> str:
        """What came of it, in a sentence."""
        if self.fault is not None:
            return self.fault.said
        if not self.passed:
            return f"Not passed: it does not beat round-robin in {listed(self._against(self.not_beaten))}."
        passed = f"it beats round-robin in all {len(SCENARIOS)} scenarios"
        if not self.gold:
            return f"Passed: {passed}. Not within 5 % of the best yet: {listed(self._against(self.not_gold))}."
        return f"Gold: {passed}, and its p99 is within 5 % of the best mode's in each."

    def _against(self, scenarios: Sequence[str]) -> list[str]:
        """Say how it and the mode that it is held against did."""
        others = {name: self.best(name) if self.passed else BASELINE for name in scenarios}
        return [
            f"{name} ({_text(self.p99_s[self.name][name], ' s')}, {other} {_text(self.p99_s[other][name], ' s')})"
            for name, other in others.items()
        ]

    def table(self) -> Table:
        """Return all numbers: its own row, then the modes, the best first."""
        names = [scenario.name for scenario in SCENARIOS]
        modes = sorted(
            (name for name in self.p99_s if name != self.name),
            key=lambda name: (len(self.p99_s[name]) < len(names), self.behind(name)),
        )
        rows = [
            (
                f"→ {name}" if name == self.name else name,
                *(_text(self.p99_s[name][scenario]) if scenario in self.p99_s[name] else "-" for scenario in names),
                f"{self.behind(name):.2f}" if len(self.p99_s[name]) == len(names) else "-",
                self.lost[name],
            )
            for name in [self.name, *modes]
        ]
        return Table(("p99 in s", *names, "at worst, times the best", "no answer"), rows)

    @property
    def note(self) -> str:
        """What the numbers are of."""
        prompts = " and ".join(scenario.name for scenario in SCENARIOS if scenario.has_prompts)
        return (
            f"p99 of the time in the system; n = {len(self.seeds)} seeds of {self.requests:,} requests "
            f"({self.requests // 3:,} in {prompts}), seeds {listed(self.seeds)}. "
            f"A decision took {self.decision_us:.1f} µs in the median."
        )

    def plot_lanes(self, scenario: str = "one slow", requests: int = 300) -> Picture:
        """Draw it and the scenario's best mode lane by lane, on the same few requests.

        Raises:
            ConfigError: if there is no such scenario, or if the function cannot route.
        """
        drawn = _named(scenario)
        if self.fault is not None:
            raise ConfigError(f"There are no lanes to draw. {self.fault.said}")
        best, seed = self.best(scenario), self.seeds[0]
        routers: dict[str, RouterSpec] = {self.name: Watched(self.pick, scenario), best: best}
        return duel_picture({name: drawn.run(by, seed, requests).traces() for name, by in routers.items()})

    def __repr__(self) -> str:
        if self.fault is not None:
            return f"{self.name}: {self.finding}"
        table = self.table()
        columns = list(zip(*[table.header, *([str(value) for value in row] for row in table.rows)], strict=True))
        wide = [max(map(len, column)) for column in columns]
        lines = ["  ".join(_aligned(row, wide)) for row in zip(*columns, strict=True)]
        return "\n".join([f"{self.name}: {self.finding}", *(said for _, said in self.remarks), *lines, self.note])

    def _repr_html_(self) -> str:
        said = "<br>".join(_html(text) for text in (self.finding, *(said for _, said in self.remarks)))
        if self.fault is not None:
            return f'<div role="group" style="max-width:44em"><b>{escape(self.name)}</b>: {said}</div>'
        return (
            f'<div role="group" aria-label="{escape(f"{self.name}: {self.finding}")}"><b>{escape(self.name)}</b>: '
            f'{said}{self.table().html()}<div style="font-size:smaller">{escape(self.note)}</div></div>'
        )


def race(pick: Any, *, seeds: Sequence[int] = SEEDS, requests: int = REQUESTS) -> Race:
    """Let a pick function route in each scenario with each seed, and then each router mode the same requests.

    Args:
        pick: `pick(request, instances)` returns one of the instances, or its id. Instance ids differ from run to run.
        seeds: of the requests, and of what happens to whom.
        requests: of each run; a third of them where they are prompts.

    Whatever the function does wrong is said in the result; nothing is raised for it.
    """
    result = partial(Race, f"{getattr(pick, '__name__', 'pick')}()", pick, tuple(seeds), requests)
    try:
        if is_empty(pick):
            raise Fault("empty", "Nothing to race yet: the function has no body.")
        need_function(pick, "pick", "request", "instances")
        watched = {scenario.name: [Watched(pick, scenario.name) for _ in seeds] for scenario in SCENARIOS}
        own = {
            scenario.name: [
                _times(scenario.run(router, seed, requests))
                for router, seed in zip(watched[scenario.name], seeds, strict=True)
            ]
            for scenario in SCENARIOS
        }
    except Fault as fault:
        return result(fault=fault.remark)
    except Stumbled as stumbled:
        return result(fault=Remark("raises", str(stumbled)))
    except Finding as finding:
        return result(fault=Remark("no function", finding.verdict.message))
    times = {result().name: own}
    for mode in RouterMode:
        times[mode.value] = {
            scenario.name: [_times_of(mode.value, scenario.name, seed, requests) for seed in seeds]
            for scenario in SCENARIOS
            if mode.value in scenario.modes
        }
    joined = {name: {each: np.concatenate(runs) for each, runs in of.items()} for name, of in times.items()}
    flat = [run for runs in watched.values() for run in runs]
    return result(
        p99_s={name: {each: _p99(times_s) for each, times_s in of.items()} for name, of in joined.items()},
        lost={name: sum(int(np.isinf(times_s).sum()) for times_s in of.values()) for name, of in joined.items()},
        decision_us=median(took for run in flat for took in run.took_ns) / 1000,
        remarks=remarks_on(flat),
    )


def _times(run: Run) -> Floats:
    """Return the time in the system of all requests; infinite for those without an answer."""
    return np.where(run.ok, run.ended_s - run.workload.arrival_s, np.inf)


@lru_cache(maxsize=1024)
def _times_of(mode: str, scenario: str, seed: int, requests: int) -> Floats:
    """Return the times under a router mode: they are the same in each race."""
    if mode == RouterMode.DEVICE_AWARE_WEIGHTED:  # all workers are on one kind of device: it is the same rule
        return _times_of(RouterMode.LEAST_LOADED.value, scenario, seed, requests)
    return _times(_named(scenario).run(mode, seed, requests))


def _named(scenario: str) -> Scenario:
    found = [each for each in SCENARIOS if each.name == scenario]
    if not found:
        raise ConfigError(f"There is no scenario {scenario!r}; there are {listed([s.name for s in SCENARIOS])}.")
    return found[0]


def _p99(times_s: Floats) -> float:
    """Return the nearest rank, as the pictures do."""
    return float(np.sort(times_s)[math.ceil(0.99 * len(times_s)) - 1])


def _text(seconds: float, unit: str = "") -> str:
    return "never" if math.isinf(seconds) else f"{seconds:.{2 if seconds < 10 else 0}f}{unit}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]


def _html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
