"""What a tier counts: buckets, sums, and that counting costs next to nothing."""

from __future__ import annotations

import random
from itertools import pairwise

from dynlab.hop import Hop
from dynlab.runtime.tally import ITL_S, SECOND, ApiTally, Histogram, Tally


def hop(*item_ns: int, started_ns: int = 1_000, ended_ns: int = 0, outcome: str = "ok") -> Hop:
    made = Hop(None, "Worker", "generate")
    made.started_ns, made.item_ns, made.items = started_ns, item_ns, len(item_ns)
    made.ended_ns, made.outcome = ended_ns or max(item_ns, default=started_ns), outcome
    return made


def test_a_duration_is_in_the_bucket_that_ends_at_it() -> None:
    """Bounds belong to their bucket, as Prometheus says; what is beyond all of them has a bucket too."""
    histogram = Histogram((0, 1, 2))
    for seconds in (0, 0.5, 1, 1.000000001, 2, 3):
        histogram.observe(round(seconds * SECOND))

    assert [1, 2, 2, 1] == histogram.counts
    assert 7_500_000_001 == histogram.sum_ns


def test_gaps_are_counted_as_one_by_one() -> None:
    """Answers that never waited take a shorter way to the same counts; 2,000 drawn from all lengths."""
    rng = random.Random(5)
    for _ in range(2_000):
        times = [rng.randrange(10**9)]
        for _ in range(rng.randint(1, 20)):
            times.append(times[-1] + rng.choice([1, 1_000, 1_900_000, 1_900_001, rng.randrange(1, 3 * SECOND)]))
        together, single = Histogram(ITL_S), Histogram(ITL_S)
        together.observe_gaps(times[0], times[1:])
        for sooner, later in pairwise(times):
            single.observe(later - sooner)

        assert (single.counts, single.sum_ns) == (together.counts, together.sum_ns)


def test_histograms_add_up() -> None:
    """Counts and sums of several, bucket by bucket; the parts stay as they are."""
    one, two = Histogram((0, 1)), Histogram((0, 1))
    one.observe(5)
    two.observe(2 * SECOND)

    total = Histogram.total([one, two])

    assert ([0, 1, 1], 2 * SECOND + 5) == (total.counts, total.sum_ns)
    assert [0, 1, 0] == one.counts


def test_a_worker_has_in_flight_what_began_and_did_not_end() -> None:
    """A request that was stopped is over, and is counted as such."""
    tally = Tally()
    tally.begun += 3
    tally.ended(hop(ended_ns=5_000))
    tally.ended(hop(ended_ns=6_000, outcome="stopped"))

    assert (1, 1, 9_000) == (tally.inflight, tally.cancelled, tally.durations.sum_ns)


def test_an_answer_without_items_has_no_first_token() -> None:
    """TTFT and ITL are of answers that have one item, or two."""
    tally = ApiTally()
    for each in (hop(outcome="ValueError"), hop(2_000), hop(2_000, 4_000, 9_000)):
        tally.ended(each)

    assert {"ok": 2, "ValueError": 1} == tally.outcomes
    assert (3, 2, 2) == tuple(sum(h.counts) for h in (tally.durations, tally.ttft, tally.itl))
    assert (4, 2_000, 7_000) == (tally.items, tally.ttft.sum_ns, tally.itl.sum_ns)
