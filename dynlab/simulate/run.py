"""What came of a simulated run, in columns: one entry a request, in the order of arrival."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynlab.errors import ConfigError
from dynlab.simulate.draws import Floats, Ints
from dynlab.simulate.workload import Workload

if TYPE_CHECKING:
    from dynlab.views.traces import Traces

__all__ = ("Absences", "Outcome", "Run")

_ASKED = ("arrival_s", "service_s", "isl", "osl", "sequences", "family")
_CAME = ("worker", "routed_s", "started_s", "first_token_s", "ended_s", "cached_blocks", "outcome")


class Outcome(IntEnum):
    """How a request ended."""

    OK = 0
    DROPPED = 1
    """Its worker had too many waiting."""
    LOST = 2
    """Its worker died."""
    REFUSED = 3
    """No worker could ever hold its prompt."""
    NOBODY = 4
    """No worker was there."""


class Absences(NamedTuple):
    """Who could not be chosen from a time on, by their numbers from 1: who was off the list, and who was skipped."""

    at: float
    off: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Run:
    """A run. Times are seconds of virtual time; nan for what did not happen.

    Args:
        workload: the requests.
        router: the router mode, or the name of the pick function.
        seed: of the router's draws; the workload has its own.
        workers: how many workers there were.
        worker: the number of the worker that answered, or was the last to try; from 1, 0 for none.
        routed_s: when that worker was chosen: at its arrival, unless it waited at the router or was sent again.
        started_s: when a worker began with it.
        first_token_s: when its first item came; with service times, the only one.
        ended_s: when it had ended, well or not.
        cached_blocks: of its prompt, in the cache of its worker.
        outcome: an `Outcome`.
        decisions: what the router looked at, by request; only where it was asked for.
        absences: who could not be chosen, from when on.
        report_every: how often the router saw the workers' loads; None: it counted itself.
    """

    workload: Workload
    router: str
    seed: int
    workers: int
    worker: Ints
    routed_s: Floats
    started_s: Floats
    first_token_s: Floats
    ended_s: Floats
    cached_blocks: Ints
    outcome: NDArray[np.int8]
    decisions: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    absences: Sequence[Absences] = (Absences(0.0),)
    report_every: float | None = None

    def __len__(self) -> int:
        return len(self.worker)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which were answered."""
        return np.asarray(self.outcome == Outcome.OK)

    @property
    def wait_s(self) -> Floats:
        """From arrival to the start of service, of those answered; shape (answered,)."""
        return (self.started_s - self.workload.arrival_s)[self.ok]

    @property
    def time_s(self) -> Floats:
        """From arrival to the end ("time in system"), of those answered."""
        return (self.ended_s - self.workload.arrival_s)[self.ok]

    @property
    def ttft_s(self) -> Floats:
        """From arrival to the first token, of those answered."""
        return (self.first_token_s - self.workload.arrival_s)[self.ok]

    @property
    def itl_s(self) -> Floats:
        """Mean time between two tokens of each answer of more than one."""
        osl = self.workload.osl
        long = self.ok & (osl > 1)
        return np.asarray((self.ended_s - self.first_token_s)[long] / (osl[long] - 1))

    @property
    def requests_per_worker(self) -> Ints:
        """How many each worker was the last to try; shape (workers,)."""
        return np.bincount(self.worker, minlength=self.workers + 1)[1:]

    @property
    def work_per_worker(self) -> Floats:
        """Seconds of service, or prompt tokens, that each worker was the last to be sent; shape (workers,)."""
        work = self.workload.isl if self.workload.has_prompts else self.workload.service_s
        return np.asarray(np.bincount(self.worker, work, self.workers + 1)[1:], np.float64)

    @property
    def hit_rate(self) -> float:
        """Blocks found in caches, of all full prompt blocks of those answered; nan where there are no prompts."""
        blocks = np.fromiter(map(len, self.workload.sequences), np.int64, len(self))[self.ok].sum()
        return float(self.cached_blocks[self.ok].sum() / blocks) if blocks else float("nan")

    @property
    def dropped(self) -> float:
        """The share of requests that got no answer, for whatever reason."""
        return float(1.0 - self.ok.mean())

    @property
    def end_s(self) -> float:
        """When the last request had ended."""
        return float(np.nanmax(self.ended_s))

    @property
    def goodput(self) -> float:
        """Answered requests per second, from the first arrival to the last end; nan if that is no time at all."""
        took = self.end_s - float(self.workload.arrival_s[0])
        return float(self.ok.sum() / took) if took else float("nan")

    @property
    def max_load(self) -> int:
        """The most requests that any worker was sent."""
        return int(self.requests_per_worker.max())

    def steady(self, share: float = 0.1) -> Run:
        """Return the run without the first share of its requests, which met empty workers.

        Raises:
            ConfigError: unless the share is at least 0 and below 1.
        """
        if not 0 <= share < 1:
            raise ConfigError(f"share={share!r} must be at least 0 and below 1: that part is left out.")
        return self.part(int(len(self) * share), len(self))

    def part(self, first: int, end: int) -> Run:
        """Return requests number `first` up to `end`, with their times as they were; its traces know of no others."""
        asked, came = (
            {name: getattr(of, name)[first:end] for name in names}
            for of, names in ((self.workload, _ASKED), (self, _CAME))
        )
        kept = {n - first: seen for n, seen in self.decisions.items() if first <= n < end}
        return dataclasses.replace(self, workload=dataclasses.replace(self.workload, **asked), **came, decisions=kept)

    def traces(self, requests: Sequence[int] | None = None) -> Traces:
        """Return requests as traces, for the pictures of `Traces`; by default the first 10,000."""
        from dynlab.simulate.traced import traces_of  # noqa: PLC0415 - views are loaded when somebody looks

        return traces_of(self, range(min(len(self), 10_000)) if requests is None else requests)

    def __repr__(self) -> str:
        said = [f"{len(self):,} requests over {self.workers:,} workers"]
        if self.ok.any():
            what, times = ("TTFT", self.ttft_s) if self.workload.has_prompts else ("time in system", self.time_s)
            said.append(f"{what} mean {times.mean():.3g} s, p99 {np.quantile(times, 0.99):.3g} s")
        if self.workload.has_prompts and not np.isnan(self.hit_rate):
            said.append(f"{self.hit_rate:.1%} of blocks cached")
        if self.dropped:
            said.append(f"{self.dropped:.1%} without an answer")
        return f"<Run {self.router}: {', '.join(said)}, seed {self.seed}>"
