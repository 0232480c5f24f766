"""Who served what when, who waited, and whether an idle worker could have served instead."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

from dynlab.hop import Hop
from dynlab.views.plots import Picks, Source

__all__ = ("Lane", "Steps", "Timeline", "means", "ms_above_zero", "timeline_of")

Steps: TypeAlias = list[tuple[float, float]]
"""How many, from when on: `(ms since the first pick, count)`, in the order of time."""

SELDOM = 0.03
"""A share of the time below which a case is no finding: threads get in each other's way."""
NS_PER_MS = 1e6
_LOST = ("StreamIncompleteError", "WorkerUnavailableError")  # how a request ends whose worker dies
_PICK, _TURN, _END, _DEATH = range(4)


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker's part. `turns_ms` is how long each request waited that waited for its turn."""

    worker: str
    requests: int
    serving: Steps
    waiting: Steps
    failed_ms: tuple[float, ...]
    turns_ms: tuple[float, ...]

    @property
    def busy_ms(self) -> float:
        """How long it served at least one request."""
        return ms_above_zero(self.serving)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lanes of a run, in the order of instance ids. `queued` and `wasted` are 1 while the case is so, else 0."""

    picks: Picks
    whole_ms: float
    lanes: list[Lane]
    queued: Steps
    wasted: Steps

    @property
    def finding(self) -> str:
        """The one sentence that the picture is drawn for."""
        queued, wasted = ms_above_zero(self.queued), ms_above_zero(self.wasted)
        if wasted > self.whole_ms * SELDOM:
            return (
                f"For {self.span(wasted)} of {self.span(self.whole_ms)}, requests waited while another worker was idle"
            )
        if queued > self.whole_ms * SELDOM:
            seldom = "hardly ever" if wasted else "never"
            return f"Requests waited for their turn for {self.span(queued)}, {seldom} while another worker was idle"
        seldom = "Hardly any" if queued else "No"
        most = max((n for lane in self.lanes for _, n in lane.serving), default=0)
        at_once = f": a worker served up to {most:g} at once" if most > 1 else ""
        return f"{seldom} request waited for its turn{at_once}" if self.lanes else "No requests yet"

    @property
    def in_seconds(self) -> bool:
        return self.whole_ms >= 10_000

    def span(self, ms: float) -> str:
        """Say a time in the unit of the axis."""
        if self.in_seconds:
            return f"{ms / 1000:.2f} s"
        return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2g} ms"


def timeline_of(traces: Source, service: str | None = None) -> Timeline:
    """Work out the lanes, from the first pick to the last end.

    A request *waits* from its pick until its handler starts, and *is served* from then until its end. The way to the
    worker's thread alone takes a fraction of a millisecond, or more when the process has much to do. So a request
    *waits for its turn* only while its worker serves others, and only if it starts when they all have ended, or
    never. A worker that computes blocks its thread and serves one at a time: all that come meanwhile wait for their
    turn. One that awaits starts each at once and serves many at the same time: nobody waits for a turn.

    A worker is *idle* while no request of these traces waits for it or is served by it. Time is *wasted* while a
    request waits for its turn although one of its candidates is idle that the newest pick still listed, and that no
    request has found dead since.
    """
    picks = Picks.of(traces, service)
    begin = min((hop.routed_ns for hop in picks.hops), default=0)
    now = max((max(hop.ended_ns, hop.started_ns, hop.routed_ns) for hop in picks.hops), default=0)
    now = max([now, *(t for hop in picks.hops if not hop.ended_ns for t in hop.item_ns[-1:])])
    stays = [_stay(hop, begin, now) for hop in picks.hops]
    by_worker: dict[str, list[_Stay]] = {worker: [] for worker in picks.workers}
    for stay in stays:
        by_worker.setdefault(stay.worker, []).append(stay)
    for own in by_worker.values():
        _mark_turns(own)
    whole = (now - begin) / NS_PER_MS
    lanes = [_lane(worker, own) for worker, own in by_worker.items()]
    turns = [(stay.turn, stay.begun) for stay in stays if stay.turn is not None]
    queued = _flag(_steps(turns))
    return Timeline(picks, whole, lanes, queued, _wasted(picks, stays))


@dataclass(slots=True)
class _Stay:
    """A hop's times at its worker, in ms since the first pick; `turn` is since when it waits for its turn."""

    worker: str
    routed: float
    begun: float
    ended: float
    started: bool
    outcome: str
    turn: float | None = None


def _stay(hop: Hop, begin: int, now: int) -> _Stay:
    ended = hop.ended_ns or now  # one under way lasts until now
    # A killed worker's thread may start a request that the kill has ended before.
    started = 0 < hop.started_ns < ended
    begun = hop.started_ns if started else ended
    return _Stay(
        hop.worker,
        (hop.routed_ns - begin) / NS_PER_MS,
        (begun - begin) / NS_PER_MS,
        (ended - begin) / NS_PER_MS,
        started,
        hop.outcome,
    )


def _mark_turns(stays: list[_Stay]) -> None:
    """Find out which of one worker's requests waited for their turn, and since when."""
    served = sorted((stay for stay in stays if stay.started), key=lambda stay: stay.ended)
    starts, ends = sorted(stay.begun for stay in served), [stay.ended for stay in served]
    for stay in stays:
        place = bisect_right(ends, stay.routed)
        if place == len(served):
            continue
        first = served[place]
        alone = bisect_left(starts, stay.begun) == bisect_right(ends, stay.begun)
        if first is not stay and first.begun < stay.begun and (alone or not stay.started):
            stay.turn = max(stay.routed, first.begun)


def _lane(worker: str, stays: list[_Stay]) -> Lane:
    served = [stay for stay in stays if stay.started]
    return Lane(
        worker,
        len(stays),
        _steps([(stay.begun, stay.ended) for stay in served]),
        _steps([(stay.routed, stay.begun) for stay in stays]),
        tuple(stay.ended for stay in stays if stay.outcome not in ("ok", "stopped", "running")),
        tuple(stay.begun - stay.turn for stay in stays if stay.turn is not None),
    )


def _wasted(picks: Picks, stays: list[_Stay]) -> Steps:
    """Sweep over all picks, turns and ends. Sets of workers are bits of a number, so a test costs the same for any."""
    bits = {worker: 1 << n for n, worker in enumerate(dict.fromkeys([*picks.workers, *(s.worker for s in stays)]))}
    masks = {could: sum(bits[worker] for worker in could) for could in set(picks.eligible)}
    events: list[tuple[float, int, int, int]] = []
    for stay, could in zip(stays, picks.eligible, strict=True):
        mask, own = masks[could], bits[stay.worker]
        events += [(stay.routed, _PICK, mask, own), (stay.ended, _END, mask, own)]
        if stay.outcome in _LOST:
            events.append((stay.ended, _DEATH, mask, own))
        if stay.turn is not None:
            events += [(stay.turn, _TURN, mask, 1), (stay.begun, _TURN, mask, -1)]
    events.sort()
    here: Counter[int] = Counter()
    waiting: Counter[int] = Counter()
    idle, listed = sum(bits.values()), 0
    steps: Steps = []
    for n, (t, kind, mask, what) in enumerate(events, start=1):
        if kind == _TURN:
            waiting[mask] += what
        elif kind == _DEATH:
            listed &= ~what
        else:
            here[what] += 1 if kind == _PICK else -1
            idle = idle & ~what if here[what] else idle | what
            listed = mask if kind == _PICK else listed
        if n == len(events) or events[n][0] > t:
            free = idle & listed
            steps.append((t, 1.0 if free and any(mask & free for mask, count in waiting.items() if count) else 0.0))
    return _merged(steps)


def _steps(spans: list[tuple[float, float]]) -> Steps:
    """Count over time how many of the spans last."""
    changes = sorted([*((begin, 1) for begin, _ in spans), *((end, -1) for _, end in spans)])
    counts = accumulate(change for _, change in changes)
    # Of several changes at the same time, the last one's count stays.
    return _merged(dict(zip((t for t, _ in changes), counts, strict=True)).items())


def _flag(steps: Steps) -> Steps:
    return _merged((t, float(n > 0)) for t, n in steps)


def _merged(steps: Iterable[tuple[float, float]]) -> Steps:
    """Leave out steps that change nothing."""
    merged: Steps = []
    count = 0.0
    for step in steps:
        if step[1] != count:
            count = step[1]
            merged.append(step)
    return merged


def ms_above_zero(steps: Steps) -> float:
    return sum(until - t for (t, n), (until, _) in pairwise(steps) if n > 0)


def means(steps: Steps, whole: float, columns: int) -> Steps:
    """Return the mean count of each of `columns` equal parts of the time."""
    width = whole / columns
    sums = [0.0] * columns
    for (t, n), (until, _) in pairwise(steps):
        if not n:
            continue
        first, last = min(int(t / width), columns - 1), min(int(until / width), columns - 1)
        if first == last:
            sums[first] += n * (until - t)
            continue
        sums[first] += n * ((first + 1) * width - t)
        sums[last] += n * (until - last * width)
        for column in range(first + 1, last):
            sums[column] += n * width
    return _merged([*((n * width, round(total / width, 2)) for n, total in enumerate(sums)), (whole, 0.0)])
