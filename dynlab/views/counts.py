"""Who was chosen how often: the numbers and the sentences behind the routing pictures. No drawing here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Real
from typing import Any, TypeAlias

from dynlab.errors import did_you_mean, listed
from dynlab.tracing import TraceLog

__all__ = (
    "Choice",
    "Guess",
    "Tally",
    "checked_guess",
    "modes_text",
    "picks_sentence",
    "routing_sentence",
    "tally",
    "worker_number",
)

Guess: TypeAlias = Sequence[float] | Mapping[str, float] | Mapping[int, float]
"""A reader's prediction: one number a worker in order, or `{worker: number}` by name, number or instance id."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One pick: the chosen worker's place in the fixed order, and the mode that chose it."""

    place: int
    mode: str


@dataclass(frozen=True, slots=True)
class Tally:
    """All choices among the workers of one service, which keep the order of their instance ids."""

    service: str
    workers: tuple[str, ...]
    instance_ids: tuple[int, ...]
    choices: tuple[Choice, ...]
    seed: int | None

    @property
    def counts(self) -> list[int]:
        counted = Counter(choice.place for choice in self.choices)
        return [counted[place] for place in range(len(self.workers))]

    @property
    def even_share(self) -> float:
        return len(self.choices) / len(self.workers) if self.workers else 0.0

    @property
    def modes(self) -> dict[str, list[int]]:
        """Counts per worker of each mode, in the order in which the modes were first used."""
        found = {choice.mode: [0] * len(self.workers) for choice in self.choices}
        for choice in self.choices:
            found[choice.mode][choice.place] += 1
        return found


def tally(traces: TraceLog[Any], service: str | None = None) -> Tally:
    """Read the choices of one service out of traces; by default of the service that answers last."""
    picked = [(hop, decision) for hop in traces.hops_to(service) if (decision := hop.decision)]
    # A worker that was stopped and started again has the same name and a new id: one place, the first id's.
    first_id: dict[str, int] = {}
    for instance_id, worker in sorted({(c.instance_id, c.worker) for _, d in picked for c in d.candidates}):
        first_id.setdefault(worker, instance_id)
    places = {worker: place for place, worker in enumerate(first_id)}
    return Tally(
        service=picked[0][0].service if picked else service or "",
        workers=tuple(first_id),
        instance_ids=tuple(first_id.values()),
        choices=tuple(Choice(places[hop.worker], decision.mode) for hop, decision in picked),
        seed=traces.seed,
    )


def worker_number(worker: str) -> str:
    """Return the number that ends a worker's name, or the whole name without one."""
    found = re.search(r"-(\d+)$", worker)
    return found[1] if found else worker


def checked_guess(guess: Guess, counted: Tally) -> list[float | None]:
    """Bring a guess into the order of the workers; None where a mapping says nothing.

    Raises:
        ValueError: if it does not fit the workers, or holds something that is no count.
    """
    if isinstance(guess, Mapping):
        placed = _placed(guess, counted)
    else:
        placed = list(guess)
        if len(placed) != len(counted.workers):
            raise ValueError(
                f"guess has {len(placed)} number(s), but {len(counted.workers)} worker(s) served requests: "
                f"{listed(counted.workers)}. Give one number for each of them, in this order."
            )
    for worker, value in zip(counted.workers, placed, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or not value >= 0):
            raise ValueError(
                f"guess for {worker} is {value!r}, which is no count of requests. Give a number, 0 or more."
            )
    return placed


def _placed(guess: Mapping[Any, float], counted: Tally) -> list[float | None]:
    names: dict[object, int] = {}
    for keys in (map(worker_number, counted.workers), counted.instance_ids, counted.workers):
        names.update((key, place) for place, key in enumerate(keys))
    placed: list[float | None] = [None] * len(counted.workers)
    for key, value in guess.items():
        place = names.get(key, names.get(str(key)))
        if place is None:
            raise ValueError(
                f"guess names {key!r}, which is no worker; the workers are {listed(counted.workers)}. "
                f"Use these names, their numbers or their instance ids.{did_you_mean(str(key), counted.workers)}"
            )
        placed[place] = value
    return placed


def modes_text(counted: Tally) -> str:
    """Name the mode, or the modes and how many choices each made."""
    modes = {mode: sum(counts) for mode, counts in counted.modes.items()}
    return next(iter(modes)) if len(modes) == 1 else " + ".join(f"{n:,} {mode}" for mode, n in modes.items())


def routing_sentence(counted: Tally, guess: Sequence[float | None] | None = None) -> str:
    """Say how evenly the requests went to the workers, and how far a guess was off."""
    counts, workers = counted.counts, counted.workers
    if not counts:
        return "No requests yet: no worker has been chosen."
    n = len(counted.choices)
    head = f"{_requests(n)} over {len(workers)} worker{'s' * (len(workers) > 1)} by {modes_text(counted)}: "
    low, high = min(counts), max(counts)
    if len(workers) == 1:
        text = f"{workers[0]} got them all."
    elif low == high:
        text = f"every worker got {low:,}."
    elif high == n:
        text = f"{workers[counts.index(n)]} got them all."
    elif high - low == 1:
        text = f"every worker got {low:,} or {high:,}."
    else:
        text = (
            f"from {low:,} ({_named(workers, counts, low)}) to {high:,} ({_named(workers, counts, high)}); "
            f"an even share is {counted.even_share:,.4g}."
        )
    return head + text + _guess_text(counted, guess or ())


def _guess_text(counted: Tally, guess: Sequence[float | None]) -> str:
    pairs = zip(counted.workers, guess, counted.counts, strict=False)
    off = [(abs(g - count), worker, g, count) for worker, g, count in pairs if g is not None]
    if not off:
        return ""
    worst, worker, guessed, count = max(off, key=lambda entry: entry[0])
    if not worst:
        return " Your guess was right for every worker."
    mean = sum(entry[0] for entry in off) / len(off)
    return (
        f" Your guess was off by {mean:,.3g} a worker on average, "
        f"most for {worker}: guessed {guessed:,.4g}, got {count:,}."
    )


def picks_sentence(counted: Tally, last: int) -> str:
    """Say what the order of the newest choices looks like: a staircase, one block, or noise."""
    places = [choice.place for choice in counted.choices[-last:]]
    if not places:
        return "No requests yet: no worker has been chosen."
    workers, n = len(counted.workers), len(places)
    shown = f"The {'last ' if n < len(counted.choices) else ''}{_choices(n)} by {modes_text(counted)}: "
    runs = [(place, len(list(run))) for place, run in groupby(places)]
    if len(runs) == 1:
        return f"{shown}always {counted.workers[places[0]]}."
    if n > workers and len(set(places[:workers])) == workers and places[workers:] == places[:-workers]:
        return f"{shown}all {workers} workers in the same order, over and over."
    place, longest = max(runs, key=lambda run: run[1])
    again = n - len(runs)
    if not again:
        return f"{shown}never the same worker twice in a row, but no fixed order either."
    return (
        f"{shown}no fixed order; {again:,} of them repeat the worker before, "
        f"the longest run is {longest} on {counted.workers[place]}."
    )


def _named(workers: Sequence[str], counts: Sequence[int], value: int) -> str:
    named = [worker for worker, count in zip(workers, counts, strict=True) if count == value]
    return named[0] if len(named) == 1 else f"{len(named)} workers"


def _requests(n: int) -> str:
    return f"{n:,} request{'s' * (n != 1)}"


def _choices(n: int) -> str:
    return f"{n:,} choice{'s' * (n != 1)}" if n != 1 else "only choice"
