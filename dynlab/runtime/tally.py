"""What a tier counts of its requests while it answers them (Dynamo: its work handler's and its HTTP service's metrics).

A tally is written by the loop of the tier it belongs to, and by nobody else; `/metrics` reads it from another thread
and may miss the request that is just being counted. Nothing here knows of Prometheus, which costs much more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import sub

from dynlab.hop import Hop

__all__ = ("ApiTally", "Histogram", "Tally")

SECOND = 1_000_000_000

# Dynamo's bounds; it rounds its logarithmic ones to two digits. Tests compare them with 1.6.1's own page, but for those
# of the ITL, which it shows only for models that it serves itself: they are the defaults of its source.
COMPONENT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
REQUEST_S = (0, 2, 4, 8, 16, 32, 64, 130, 260, 510)
TTFT_S = (0, 0.0022, 0.0047, 0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 48, 100, 220, 480)
ITL_S = (0, 0.0019, 0.0035, 0.0067, 0.013, 0.024, 0.045, 0.084, 0.16, 0.3, 0.56, 1.1, 2)


class Histogram:
    """How many durations fell into each bucket: `counts[i]` up to `bounds_s[i]`, the last one beyond all of them."""

    __slots__ = ("_bounds_ns", "bounds_s", "counts", "sum_ns")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_ns = 0
        self._bounds_ns = [round(bound * SECOND) for bound in bounds_s]

    @classmethod
    def total(cls, histograms: Sequence[Histogram]) -> Histogram:
        """Add up histograms of the same buckets, at least one."""
        total = cls(histograms[0].bounds_s)
        total.counts = [sum(counts) for counts in zip(*(histogram.counts for histogram in histograms), strict=True)]
        total.sum_ns = sum(histogram.sum_ns for histogram in histograms)
        return total

    def observe(self, ns: int) -> None:
        """Count one duration."""
        self.counts[bisect_left(self._bounds_ns, ns)] += 1
        self.sum_ns += ns

    def observe_gaps(self, first_ns: int, later_ns: Sequence[int]) -> None:
        """Count the gaps between points in time."""
        counts, bounds = self.counts, self._bounds_ns
        span = later_ns[-1] - first_ns
        self.sum_ns += span
        if span <= bounds[1]:  # so is each gap: an answer that never waited is not looked at item by item
            counts[1] += len(later_ns)
            return
        for gap in map(sub, later_ns, chain((first_ns,), later_ns)):
            counts[bisect_left(bounds, gap)] += 1


class Tally:
    """The requests of one endpoint on one instance."""

    __slots__ = ("begun", "cancelled", "durations")

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.durations = Histogram(COMPONENT_S)

    @property
    def inflight(self) -> int:
        """Requests that the handler is at work on."""
        over = sum(self.durations.counts)  # read before `begun`, so that it is never the larger one
        return self.begun - over

    def ended(self, hop: Hop) -> None:
        """Count a request that is over."""
        self.durations.observe(hop.ended_ns - hop.started_ns)
        if hop.outcome == "stopped":
            self.cancelled += 1


class ApiTally:
    """The requests of one `@api` method that are over."""

    __slots__ = ("durations", "items", "itl", "outcomes", "ttft")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.items = 0
        self.durations = Histogram(REQUEST_S)
        self.ttft = Histogram(TTFT_S)
        self.itl = Histogram(ITL_S)

    def ended(self, hop: Hop) -> None:
        """Count a request that is over."""
        began = hop.started_ns
        self.outcomes[hop.outcome] += 1
        self.durations.observe(hop.ended_ns - began)
        if hop.items:
            self.items += hop.items
            self.ttft.observe(hop.first_item_ns - began)
            if hop.later_ns is not None:
                self.itl.observe_gaps(hop.first_item_ns, hop.later_ns)
