"""What notebook 06 says holds with seeds that it does not use."""

from __future__ import annotations

import re

import pytest

from tests.notebooks.running import NOTEBOOKS, printed, read, run_changed

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

(PATH,) = (path for path in NOTEBOOKS if path.stem == "06_old_news")

CLAIMS = """
from statistics import mean

from dynlab.views.staleness import Staleness
from dynlab.views.timeline import ms_above_zero, timeline_of

asks = {mode: {age: mean(times) for age, times in curve.items()} for mode, curve in curves.items()}
all_, two, none = (asks[mode] for mode in ("least-loaded", "power-of-two", "random"))
# "already with T = 1, asking all is worse than asking two, and with T = 8 far worse than asking nobody": by all seeds
pairs = (("power-of-two", 1, 1.0), ("random", 8, 1.4))
for mode, age, factor in pairs:
    assert all(a > factor * b for a, b in zip(curves["least-loaded"][age], curves[mode][age]))
# the two rings: "at 0.5 equal to two choices, between 2 and 4 service times to random", and in no seed elsewhere
rings = Staleness.of(curves).crossings
assert [("least-loaded", "power-of-two"), ("least-loaded", "random")] == [(r.slower, r.faster) for r in rings]
assert 0.5 <= rings[0].low <= rings[0].age <= rings[0].high <= 1
assert 2 <= rings[1].low <= rings[1].age <= rings[1].high <= 8 and 2.5 < rings[1].age < 5
# "more than twice as long as with fresh loads", "more than ten times as long"
assert 2 < two[16] / two[0] < 3 and all_[16] / all_[0] > 10
# "old loads of all workers are worse than old loads of two, and when they are old enough, worse than none"
assert two[16] < none[16] < all_[16] and all_[0] < two[0] < none[0]
# "none dropped"
run = simulate(work[0], router_mode="least-loaded", seed=SEED, report_every=8, keep_decisions=True)
assert 0 == run.dropped
# "some 58 requests come, and all of them go to those who had least, often one or two"
intervals = {}
for n, (at, worker) in enumerate(zip(work[0].arrival_s, run.worker)):
    intervals.setdefault(int(at // 8), []).append((int(worker), run.decisions[n]["tied"]))
assert 55 < mean(map(len, intervals.values())) < 61
assert all(1 == len({tied for _, tied in picks}) for picks in intervals.values())
assert all(len({worker for worker, _ in picks}) <= picks[0][1] for picks in intervals.values())
assert mean(picks[0][1] <= 2 for picks in intervals.values()) > 0.5
# "they queue there while others run dry, and the next herd goes elsewhere"
timeline = timeline_of(herd)
assert ms_above_zero(timeline.wasted) > 0.6 * timeline.whole_ms
early = [{worker for worker, _ in intervals[n]} for n in range(1, 100)]
assert mean(before.isdisjoint(after) for before, after in zip(early, early[1:])) > 0.6
"""


@pytest.mark.parametrize("seed", [100, 200, 300])
def test_what_it_says_is_so(seed: int) -> None:
    """All cells run with other seeds; then each claim is held against what they measured."""
    notebook = read(PATH)
    changes = {
        "seed in range(5)": f"seed in range({seed}, {seed + 5})",
        "seed=n": f"seed={seed} + n",
        "seed=0": f"seed={seed}",
    }
    run_changed(notebook, changes, CLAIMS.replace("SEED", str(seed)))

    # "random for 9 or 10 s, power-of-two for about 3 s", and "it is better to ask everybody"
    found = re.findall(r"([\w-]+): ([\d.]+) s \(([\d.]+) to ([\d.]+) by seed\)", printed(notebook, "06-fresh"))
    means = {mode: float(mean) for mode, mean, _, _ in found}
    assert 7.5 < means["random"] < 12
    assert 2.6 < means["power-of-two"] < 3.6
    assert 1.7 < means["least-loaded"] < 2.6
