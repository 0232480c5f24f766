"""What notebook 04 says holds with seeds that it does not use."""

from __future__ import annotations

import pytest

from tests.notebooks.running import NOTEBOOKS, errors, execute, kernel, read

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

(PATH,) = (path for path in NOTEBOOKS if path.stem == "04_equal_counts_are_not_equal_waits")

LEFT_OUT = ("check(", "import race", "by_lot_race", "p99_ratio", "deployment", "latency_picture")
"""Of cells that take long, or need another: nothing is claimed of them."""
CLAIMS = """
import numpy as np

def means(runs):
    return {mode: np.mean([each.time_s.mean() for each in of_mode]) for mode, of_mode in runs.items()}

same, some_long = means(run(constant(0.1))), means(run(exponential(0.1)))
# "round-robin is best" when all are alike, and "the best one has become the last but one, with giants as with
# exponential service times"
assert ["round-robin", "least-loaded", "power-of-two", "random"] == sorted(same, key=same.get)
for times in (some_long, means(uneven)):
    assert ["least-loaded", "power-of-two", "round-robin", "random"] == sorted(times, key=times.get)
# "none is dropped"
assert all(each.ok.all() for of_mode in uneven.values() for each in of_mode)
# "round-robin gives each worker 20, ... the giants are a third of it", "far less time is wasted"
turns = simulate(load, workers=8, router_mode="round-robin", seed=7)
assert [20] * 8 == turns.requests_per_worker.tolist()
assert max(turns.work_per_worker) > 1.5 * min(turns.work_per_worker)
assert 0.33 < 0.05 * 10 / (0.95 + 0.05 * 10) < 0.36
# "at p50 they are close", "the mean and p99 are about twice as high or more"
turns, least = (np.concatenate([each.time_s for each in uneven[mode]]) for mode in ("round-robin", "least-loaded"))
assert np.quantile(turns, 0.5) < 1.2 * np.quantile(least, 0.5)
assert turns.mean() > 1.8 * least.mean()
assert np.quantile(turns, 0.99) > 1.8 * np.quantile(least, 0.99)
"""


@pytest.mark.parametrize("seed", [100, 200, 300])
def test_what_it_says_is_so(seed: int) -> None:
    """The cells run with other seeds; then each claim is held against what they measured."""
    notebook = read(PATH)
    changes = {"seeds=(7, 8, 9)": f"seeds=({seed}, {seed + 1}, {seed + 2})", "seed=7": f"seed={seed}"}
    with kernel(notebook) as client:
        cells = [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        source = "\n".join(cell.source for _, cell in cells)
        assert [] == [old for old in changes if old not in source]
        for n, cell in cells:
            if not any(part in cell.source for part in LEFT_OUT):
                for old, new in changes.items():
                    cell.source = cell.source.replace(old, new)
                client.execute_cell(cell, n)
        execute(client, "if True:" + "\n    ".join(CLAIMS.splitlines()))
    assert [] == errors(notebook)
